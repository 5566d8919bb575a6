//! NIfTI files as other programs write them, and as nothing should write them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use arl_data::formats::{read_geometry, read_image, read_labels, write_image, write_labels};
use arl_data::{Geometry, Volume};
use ndarray::Array3;
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    shape_dhw: [usize; 3],
    affine: [[f64; 4]; 4],
    codes: [i16; 2],
    values: Vec<f64>,
}

fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/references/nifti")
        .join(name)
}

fn references() -> BTreeMap<String, Expected> {
    let text = fs::read_to_string(reference("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn counted(shape: [usize; 3]) -> Volume<f32> {
    let mut value = 0.0;
    let data = Array3::from_shape_simple_fn(shape, || {
        value += 1.0;
        value
    });
    Volume::new(data, Geometry::from_spacing(shape, [3.0, 1.5, 1.0]))
}

fn assert_affine(name: &str, got: &[[f64; 4]; 4], want: &[[f64; 4]; 4], tolerance: f64) {
    for (got, want) in got.iter().flatten().zip(want.iter().flatten()) {
        assert!(
            (got - want).abs() <= tolerance,
            "{name}: {got} against {want}"
        );
    }
}

/// The error of reading `path`, which must be one line that begins with the path.
fn fault(path: &Path) -> String {
    let message = read_image(path).unwrap_err().to_string();
    assert!(
        message.starts_with(&path.display().to_string()),
        "{message}"
    );
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn every_type_order_and_transform_reads_as_in_nibabel() {
    let references = references();
    assert!(references.len() > 35);
    for (name, expected) in references {
        let volume = read_image(&reference(&name)).unwrap();
        assert_eq!(volume.geometry.shape, expected.shape_dhw, "{name}");
        assert_affine(&name, &volume.geometry.affine, &expected.affine, 1e-9);
        let codes = volume.geometry.codes;
        assert_eq!([codes.qform, codes.sform], expected.codes, "{name}");
        let values: Vec<f32> = volume.data.iter().copied().collect();
        let want: Vec<f32> = expected.values.iter().map(|&v| v as f32).collect();
        assert_eq!(values, want, "{name}");
        assert_eq!(
            read_geometry(&reference(&name)).unwrap(),
            volume.geometry,
            "{name}"
        );
    }
}

#[test]
fn written_volumes_keep_values_place_and_codes() {
    let folder = folder();
    for name in references().keys() {
        let volume = read_image(&reference(name)).unwrap();
        for ending in [".nii", ".nii.gz"] {
            let path = folder.path().join(format!("copy{ending}"));
            write_image(&path, &volume).unwrap();
            let copy = read_image(&path).unwrap();
            assert_eq!(copy.data, volume.data, "{name}");
            assert_affine(name, &copy.geometry.affine, &volume.geometry.affine, 1e-5);
            assert_eq!(copy.geometry.codes, volume.geometry.codes, "{name}");
        }
    }
}

#[test]
fn labels_are_stored_in_one_byte_where_they_fit() {
    let folder = folder();
    for (highest, bytes_per_voxel) in [(255, 1), (256, 2), (65535, 2)] {
        let mut labels = Volume::new(
            Array3::<u16>::zeros([2, 3, 4]),
            Geometry::from_spacing([2, 3, 4], [1.0; 3]),
        );
        labels.data[[1, 2, 3]] = highest;
        let path = folder.path().join("labels.nii");
        write_labels(&path, &labels).unwrap();
        assert_eq!(read_labels(&path).unwrap(), labels);
        assert_eq!(
            fs::metadata(&path).unwrap().len(),
            352 + 24 * bytes_per_voxel
        );
        let path = folder.path().join("labels.nii.gz");
        write_labels(&path, &labels).unwrap();
        assert_eq!(read_labels(&path).unwrap(), labels);
    }
}

#[test]
fn volumes_of_one_slice_or_one_row_keep_their_order() {
    let folder = folder();
    for shape in [
        [1, 3, 4],
        [3, 1, 4],
        [3, 4, 1],
        [1, 1, 4],
        [1, 4, 1],
        [4, 1, 1],
        [1, 1, 1],
    ] {
        let volume = counted(shape);
        let path = folder.path().join("thin.nii.gz");
        write_image(&path, &volume).unwrap();
        assert_eq!(read_image(&path).unwrap().data, volume.data, "{shape:?}");
    }
}

#[test]
fn labels_of_any_type_are_accepted_if_they_are_whole() {
    for name in ["u1_little.nii", "u2_big.nii", "u8_big.nii"] {
        let labels = read_labels(&reference(name)).unwrap();
        let image = read_image(&reference(name)).unwrap();
        assert_eq!(labels.data.mapv(f32::from), image.data, "{name}");
    }
    let folder = folder();
    let path = folder.path().join("whole.nii.gz");
    write_image(&path, &counted([2, 3, 4])).unwrap();
    assert_eq!(read_labels(&path).unwrap().data[[1, 2, 3]], 24);
}

#[test]
fn labels_that_are_not_whole_numbers_from_0_to_65535_are_refused() {
    let folder = folder();
    for bad in [0.5, -1.0, 65536.0, f32::NAN, f32::INFINITY] {
        let mut volume = counted([2, 3, 4]);
        volume.data[[0, 1, 2]] = bad;
        let path = folder.path().join("labels.nii.gz");
        write_image(&path, &volume).unwrap();
        let message = read_labels(&path).unwrap_err().to_string();
        assert!(message.contains("labels are whole numbers"), "{message}");
    }
}

#[test]
fn nan_is_read_as_it_is() {
    let volume = read_image(&reference("with_nan.nii")).unwrap();
    assert_eq!(volume.data.iter().filter(|v| v.is_nan()).count(), 1);
    assert!(volume.data[[1, 1, 1]].is_nan());
}

#[test]
fn a_truncated_archive_says_so() {
    let folder = folder();
    let path = folder.path().join("cut.nii.gz");
    let whole = fs::read(reference("compressed.nii.gz")).unwrap();
    fs::write(&path, &whole[..whole.len() - 20]).unwrap();
    let message = fault(&path);
    assert!(message.contains("truncated or damaged"), "{message}");
    assert!(
        message.contains("copy or download the file again"),
        "{message}"
    );
}

#[test]
fn damage_inside_an_archive_is_found_by_its_checksum() {
    let folder = folder();
    let path = folder.path().join("damaged.nii.gz");
    let mut whole = fs::read(reference("compressed.nii.gz")).unwrap();
    let crc = whole.len() - 8;
    whole[crc] ^= 1;
    fs::write(&path, &whole).unwrap();
    assert!(fault(&path).contains("damaged"));
}

#[test]
fn a_text_file_named_as_a_volume_is_told_apart() {
    let folder = folder();
    let path = folder.path().join("notes.nii.gz");
    fs::write(&path, "Patient 12, scanned twice.\n".repeat(40)).unwrap();
    assert!(fault(&path).contains("is named .gz but is a text file"));
    let path = folder.path().join("notes.nii");
    fs::write(&path, "Patient 12, scanned twice.\n".repeat(40)).unwrap();
    assert!(fault(&path).contains("not a NIfTI file"));
    let path = folder.path().join("plain.nii.gz");
    fs::copy(reference("i2_little.nii"), &path).unwrap();
    assert!(fault(&path).contains("not gzip-compressed"));
    assert!(fault(&folder.path().join("none.nii")).contains("no such file"));
    fault(folder.path());
}

/// Changes the header of a small file and returns the message.
fn with_header(change: impl Fn(&mut Vec<u8>)) -> String {
    let folder = folder();
    let path = folder.path().join("changed.nii");
    let mut bytes = fs::read(reference("i2_little.nii")).unwrap();
    change(&mut bytes);
    fs::write(&path, &bytes).unwrap();
    fault(&path)
}

#[test]
fn headers_that_cannot_be_believed_are_refused_in_words() {
    let put = |at: usize, value: i16| {
        move |b: &mut Vec<u8>| b[at..at + 2].copy_from_slice(&value.to_le_bytes())
    };
    let real = |at: usize, value: f32| {
        move |b: &mut Vec<u8>| b[at..at + 4].copy_from_slice(&value.to_le_bytes())
    };
    let cases: [(String, &str); 9] = [
        (
            with_header(|b| (42..48).step_by(2).for_each(|at| put(at, 32767)(b))),
            "header declares 32767 × 32767 × 32767",
        ),
        (with_header(put(42, -4)), "an axis of -4 voxels"),
        (with_header(put(44, 0)), "an axis of 0 voxels"),
        (
            with_header(|b| {
                put(40, 4)(b);
                put(48, 5)(b)
            }),
            "declares 5 channels of",
        ),
        (with_header(put(70, 32)), "voxel type code 32"),
        (with_header(put(70, 1536)), "voxel type code 1536"),
        (with_header(real(108, 12.0)), "places the voxels at byte 12"),
        (
            with_header(|b| b[..4].copy_from_slice(&540i32.to_le_bytes())),
            "the file ends inside the header",
        ),
        (
            with_header(|b| b[344..348].copy_from_slice(b"ni1\0")),
            "is not named .hdr",
        ),
    ];
    for (message, expected) in cases {
        assert!(message.contains(expected), "{message}");
    }
    // Slope without a usable intercept: nibabel refuses it too.
    let message = with_header(|b| {
        real(112, 2.0)(b);
        real(116, f32::NAN)(b)
    });
    assert!(message.contains("scales by 2"), "{message}");
}

#[test]
fn a_write_that_fails_leaves_nothing_behind() {
    let folder = folder();
    let volume = counted([2, 3, 4]);
    let message = write_image(&folder.path().join("a.mha"), &volume)
        .unwrap_err()
        .to_string();
    assert!(message.contains(".nii or .nii.gz"), "{message}");
    write_image(&folder.path().join("missing/a.nii.gz"), &volume).unwrap_err();
    // The target is a directory: the complete temporary file cannot take its place.
    fs::create_dir(folder.path().join("taken.nii.gz")).unwrap();
    write_image(&folder.path().join("taken.nii.gz"), &volume).unwrap_err();
    let left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["taken.nii.gz"]);
}

#[cfg(unix)]
#[test]
fn written_files_are_readable_by_others() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let plain = folder.path().join("plain.txt");
    fs::write(&plain, "x").unwrap();
    let path = folder.path().join("a.nii.gz");
    write_image(&path, &counted([2, 2, 2])).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&plain));
}
