//! Files of every format, written by other programs, read as those programs read them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use arl_data::formats::{
    read_channels, read_geometry, read_header, read_image, read_labels, write_image, write_labels,
};
use arl_data::orientation::{axis_codes, reorient};
use arl_data::resample_to::{Interpolation, resample_labels_to, resample_to};
use arl_data::volume::TransformCodes;
use arl_data::{Geometry, Volume};
use ndarray::Array3;
use serde::Deserialize;
use serde::de::DeserializeOwned;

type Affine = [[f64; 4]; 4];

#[derive(Deserialize)]
struct Expected {
    shape_dhw: [usize; 3],
    affine: Affine,
    codes: [i16; 2],
    channels: Vec<Vec<f64>>,
}

fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/references/volumes")
        .join(name)
}

fn json<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_str(&fs::read_to_string(reference(name)).unwrap()).unwrap()
}

fn assert_affine(name: &str, got: &Affine, want: &Affine, tolerance: f64) {
    for (got, want) in got.iter().flatten().zip(want.iter().flatten()) {
        assert!(
            (got - want).abs() <= tolerance,
            "{name}: {got} against {want}"
        );
    }
}

fn assert_values(name: &str, got: &Array3<f32>, want: &[f64]) {
    let want: Vec<f32> = want.iter().map(|&value| value as f32).collect();
    assert_eq!(got.as_slice(), Some(&want[..]), "{name}");
}

#[test]
fn every_format_reads_as_in_nibabel_and_simpleitk() {
    let references: BTreeMap<String, Expected> = json("expected.json");
    assert!(references.len() > 70);
    for (name, expected) in references {
        let path = reference(&name);
        let channels = read_channels(&path).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(channels.len(), expected.channels.len(), "{name}");
        let header = read_header(&path).unwrap();
        assert_eq!(header.channels, channels.len(), "{name}");
        for (channel, values) in channels.iter().zip(&expected.channels) {
            assert_eq!(channel.geometry.shape, expected.shape_dhw, "{name}");
            // ITK keeps a direction and a spacing, and some files hold them in text.
            assert_affine(&name, &channel.geometry.affine, &expected.affine, 1e-6);
            let TransformCodes { qform, sform } = channel.geometry.codes;
            assert_eq!([qform, sform], expected.codes, "{name}");
            assert_eq!(channel.geometry, header.geometry, "{name}");
            assert_values(&name, &channel.data, values);
        }
        if channels.len() == 1 {
            assert_eq!(read_image(&path).unwrap(), channels[0], "{name}");
            assert_eq!(read_geometry(&path).unwrap(), header.geometry, "{name}");
        } else {
            let message = read_image(&path).unwrap_err().to_string();
            assert!(message.contains("channels where one volume"), "{message}");
            read_labels(&path).unwrap_err();
            read_geometry(&path).unwrap_err();
        }
    }
}

#[test]
fn the_voxels_of_a_pair_lead_to_its_header() {
    for (header, voxels) in [
        ("pair_big.hdr", "pair_big.img"),
        ("pair_compressed.hdr.gz", "pair_compressed.img.gz"),
        ("nifti2_pair.hdr", "nifti2_pair.img"),
    ] {
        assert_eq!(
            read_image(&reference(voxels)).unwrap(),
            read_image(&reference(header)).unwrap()
        );
    }
}

#[test]
fn metres_and_micrometres_become_millimetres() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("units.nii");
    let mut bytes = fs::read(reference("written_f4.nii")).unwrap();
    let affine = read_image(&reference("written_f4.nii"))
        .unwrap()
        .geometry
        .affine;
    for (unit, factor) in [(0, 1.0), (1, 1e3), (2, 1.0), (3, 1e-3)] {
        bytes[123] = unit;
        fs::write(&path, &bytes).unwrap();
        let mut scaled = affine;
        scaled[..3]
            .as_flattened_mut()
            .iter_mut()
            .for_each(|v| *v *= factor);
        let got = read_geometry(&path).unwrap();
        assert_affine("units", &got.affine, &scaled, 1e-9 * factor);
    }
}

/// Our writer's bytes are nibabel's: header, transforms, voxels. Only the last digits of transforms may differ.
#[test]
fn written_files_are_those_of_nibabel() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "written_f4.nii",
        "written_i2_left_handed.nii",
        "written_u2_half_turn.nii",
        "written_u1_straight.nii",
    ] {
        let path = folder.path().join(name);
        if name == "written_f4.nii" {
            write_image(&path, &read_image(&reference(name)).unwrap()).unwrap();
        } else {
            write_labels(&path, &read_labels(&reference(name)).unwrap()).unwrap();
        }
        let (ours, theirs) = (fs::read(&path).unwrap(), fs::read(reference(name)).unwrap());
        assert_eq!(ours.len(), theirs.len(), "{name}");
        let transforms = 76..92;
        let rows = 256..328;
        for at in 0..ours.len() {
            if !transforms.contains(&at) && !rows.contains(&at) {
                assert_eq!(ours[at], theirs[at], "{name}: byte {at}");
            }
        }
        for at in transforms.chain(rows).step_by(4) {
            let number = |bytes: &[u8]| f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            let (ours, theirs) = (number(&ours), number(&theirs));
            assert!(
                (ours - theirs).abs() <= 1e-6 * theirs.abs().max(1.0),
                "{name}: {ours} against {theirs} at byte {at}"
            );
        }
    }
}

#[derive(Deserialize)]
struct Turned {
    shape_dhw: [usize; 3],
    affine: Affine,
    values: Vec<f64>,
}

#[derive(Deserialize)]
struct Orientation {
    affine: Affine,
    #[serde(flatten)]
    turned: BTreeMap<String, Turned>,
}

#[test]
fn all_48_orientations_are_named_and_turned_as_in_nibabel() {
    let orientations: BTreeMap<String, Orientation> = json("orientations.json");
    assert_eq!(orientations.len(), 48);
    let data = read_image(&reference("i2.mha")).unwrap().data;
    for (codes, orientation) in orientations {
        assert_eq!(axis_codes(&orientation.affine), codes);
        let volume = Volume::new(data.clone(), Geometry::new([2, 3, 4], orientation.affine));
        assert_eq!(orientation.turned.len(), 3);
        for (target, expected) in &orientation.turned {
            let turned = reorient(&volume, target).unwrap();
            assert_eq!(axis_codes(&turned.geometry.affine), *target);
            assert_eq!(turned.geometry.shape, expected.shape_dhw);
            assert_affine(&codes, &turned.geometry.affine, &expected.affine, 1e-12);
            assert_values(&codes, &turned.data, &expected.values);
            let back = reorient(&turned, &codes).unwrap();
            assert_eq!(back.data, volume.data);
            assert_affine(
                &codes,
                &back.geometry.affine,
                &volume.geometry.affine,
                1e-12,
            );
        }
    }
}

/// Every orientation survives a file of ours.
#[test]
fn all_48_orientations_survive_a_round_trip() {
    let orientations: BTreeMap<String, Orientation> = json("orientations.json");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("volume.nii.gz");
    let data = read_image(&reference("i2.mha")).unwrap().data;
    for (name, orientation) in orientations {
        for codes in [(1, 0), (0, 1), (1, 1), (2, 4)] {
            let mut geometry = Geometry::new([2, 3, 4], orientation.affine);
            (geometry.codes.qform, geometry.codes.sform) = codes;
            let volume = Volume::new(data.clone(), geometry);
            write_image(&path, &volume).unwrap();
            let read = read_image(&path).unwrap();
            assert_eq!(read.data, volume.data, "{name}");
            assert_eq!(read.geometry.codes, volume.geometry.codes, "{name}");
            assert_affine(&name, &read.geometry.affine, &orientation.affine, 1e-5);
        }
    }
}

#[derive(Deserialize)]
struct Named {
    affine: Affine,
    codes: String,
}

#[test]
fn sheared_axes_are_named_as_in_nibabel() {
    for Named { affine, codes } in json::<Vec<Named>>("odd_orientations.json") {
        assert_eq!(axis_codes(&affine), codes, "{affine:?}");
    }
}

#[derive(Deserialize)]
struct Resampled {
    source_dhw: [usize; 3],
    source_affine: Affine,
    source: Vec<f32>,
    target_dhw: [usize; 3],
    target_affine: Affine,
    fill: f32,
    linear: Vec<f64>,
    nearest: Vec<f64>,
    labels: Vec<u16>,
}

#[test]
fn another_grid_is_filled_as_by_nibabel() {
    let expected: Resampled = json("resampled.json");
    let data = Array3::from_shape_vec(expected.source_dhw, expected.source).unwrap();
    let volume = Volume::new(
        data,
        Geometry::new(expected.source_dhw, expected.source_affine),
    );
    let target = Geometry::new(expected.target_dhw, expected.target_affine);
    let nearest = resample_to(&volume, &target, Interpolation::Nearest, expected.fill).unwrap();
    assert_values("nearest", &nearest.data, &expected.nearest);
    assert_eq!(nearest.geometry, target);
    let linear = resample_to(&volume, &target, Interpolation::Linear, expected.fill).unwrap();
    for (&got, want) in linear.data.iter().zip(expected.linear) {
        assert!((f64::from(got) - want).abs() < 1e-6, "{got} against {want}");
    }
    let labels = Volume::new(
        volume.data.mapv(|v| (v.abs() * 3.0) as u16),
        volume.geometry,
    );
    let labels = resample_labels_to(&labels, &target, 9).unwrap();
    assert_eq!(labels.data.as_slice(), Some(&expected.labels[..]));
}

#[test]
fn a_grid_onto_itself_or_reversed_loses_no_edge() {
    let orientations: BTreeMap<String, Orientation> = json("orientations.json");
    let data = read_image(&reference("i2.mha")).unwrap().data;
    for orientation in orientations.values() {
        let volume = Volume::new(data.clone(), Geometry::new([2, 3, 4], orientation.affine));
        let turned = reorient(&volume, "LPS").unwrap();
        for interpolation in [Interpolation::Nearest, Interpolation::Linear] {
            let got = resample_to(&volume, &turned.geometry, interpolation, f32::NAN).unwrap();
            for (&got, &want) in got.data.iter().zip(&turned.data) {
                assert!(
                    (got - want).abs() <= 1e-6 * want.abs().max(1.0),
                    "{got} against {want}"
                );
            }
        }
    }
    let mut flat = Geometry::from_spacing([2, 3, 4], [1.0; 3]);
    flat.affine[0] = [0.0; 4];
    let volume = Volume::new(data, flat.clone());
    let message = resample_to(&volume, &flat, Interpolation::Linear, 0.0).unwrap_err();
    assert!(message.contains("cannot be inverted"));
}
