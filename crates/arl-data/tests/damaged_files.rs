//! Damaged volumes are refused with an error; nothing panics and nothing half-read is returned.

use std::fs;
use std::path::Path;

use arl_data::formats::{
    Memory, read_channels, read_channels_from, read_geometry, read_header, read_header_from,
    read_image, read_labels, read_labels_from, write_image,
};
use arl_data::{Geometry, Volume};
use ndarray::Array3;

const SHAPE: [usize; 3] = [2, 3, 4];

/// A small image as the bytes of a file.
fn image_bytes(path: &Path) -> Vec<u8> {
    let volume = Volume {
        data: Array3::from_shape_fn(SHAPE, |(d, h, w)| (d * 100 + h * 10 + w) as f32),
        geometry: Geometry::from_spacing(SHAPE, [3.0, 1.5, 1.0]),
    };
    write_image(path, &volume).unwrap();
    fs::read(path).unwrap()
}

/// A file in memory, so that thousands of versions of it can be read in a moment.
fn in_memory(path: &Path, bytes: &[u8]) -> Memory {
    Memory::from([(path.to_owned(), bytes.to_vec())])
}

/// Every way of reading a file in memory refuses it in one line that names it; a header may already be whole.
fn refused_in_memory(path: &Path, bytes: &[u8]) {
    let files = in_memory(path, bytes);
    let _ = read_header_from(&files, path);
    for error in [
        read_channels_from(&files, path).err(),
        read_labels_from(&files, path).err(),
    ] {
        let Some(error) = error.map(|error| error.to_string()) else {
            panic!("{} bytes of {} were read", bytes.len(), path.display());
        };
        assert!(error.starts_with(&path.display().to_string()), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains("; "), "no cure: {error}");
    }
}

fn every_prefix_is_refused(name: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    let whole = image_bytes(&path);
    for length in 0..whole.len() {
        refused_in_memory(&path, &whole[..length]);
    }
    let image = read_channels_from(&in_memory(&path, &whole), &path).unwrap();
    assert_eq!(image[0].data[[1, 2, 3]], 123.0);
}

#[test]
fn every_prefix_of_a_compressed_volume_is_refused() {
    every_prefix_is_refused("image.nii.gz");
}

#[test]
fn every_prefix_of_an_uncompressed_volume_is_refused() {
    every_prefix_is_refused("image.nii");
}

#[test]
fn no_byte_of_a_header_can_make_reading_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image.nii");
    let whole = image_bytes(&path);
    for position in 0..352 {
        for mask in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[position] ^= mask;
            let files = in_memory(&path, &bytes);
            let _ = read_header_from(&files, &path);
            let _ = read_channels_from(&files, &path);
            let _ = read_labels_from(&files, &path);
        }
    }
}

#[test]
fn no_flipped_bit_of_a_compressed_volume_goes_unnoticed_or_panics() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image.nii.gz");
    let whole = image_bytes(&path);
    let expected = read_image(&path).unwrap().data;
    for position in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[position] ^= 1 << bit;
            // The bytes of the gzip header that carry a time or a file system may change; voxels may not.
            if let Ok(channels) = read_channels_from(&in_memory(&path, &bytes), &path) {
                assert_eq!(channels[0].data, expected, "bit {bit} of byte {position}");
            }
        }
    }
}

fn reference(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/references")
        .join(name)
}

/// Every way of reading refuses the file in one line, which names it and the cure. Returns what is wrong.
fn refused(path: &Path) -> String {
    let errors = [
        read_header(path).err(),
        read_geometry(path).err(),
        read_channels(path).err(),
        read_image(path).err(),
        read_labels(path).err(),
    ];
    let message = errors[2].as_ref().expect("was read").to_string();
    for error in errors.into_iter().flatten() {
        let message = error.to_string();
        let name = path.display().to_string();
        assert!(message.starts_with(&name), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
        assert!(message.contains("; "), "no cure: {message}");
    }
    message
}

#[test]
fn what_is_no_file_at_all_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for ending in arl_data::formats::ENDINGS {
        let path = |stem: &str| folder.path().join(format!("{stem}{ending}"));
        fs::write(path("empty"), "").unwrap();
        assert!(refused(&path("empty")).contains("the file is empty"));
        fs::create_dir(path("folder")).unwrap();
        assert!(refused(&path("folder")).contains("is a folder, not a file"));
        assert!(refused(&path("absent")).contains("there is no such file"));
        fs::write(path("notes"), "Patient 12, scanned twice.\n".repeat(40)).unwrap();
        let message = refused(&path("notes"));
        assert!(
            message.contains("text file") || message.contains("is no line"),
            "{message}"
        );
        fs::write(path("noise"), [7; 2000]).unwrap();
        refused(&path("noise"));
    }
}

#[cfg(unix)]
#[test]
fn a_link_that_leads_nowhere_and_a_pipe_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("moved.nii.gz");
    std::os::unix::fs::symlink(folder.path().join("gone.nii.gz"), &path).unwrap();
    assert!(refused(&path).contains("is a link to a file that does not exist"));
    // Nothing writes into this pipe: opening it would wait for ever.
    let path = folder.path().join("pipe.nii");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    assert!(refused(&path).contains("is a device or pipe"));
}

#[test]
fn every_prefix_of_a_text_header_or_its_voxels_is_refused() {
    for name in [
        "i2_little.nrrd",
        "gzip.nrrd",
        "ascii.nrrd",
        "vector_slow.nrrd",
        "i2.mha",
        "compressed.mha",
        "text.mha",
        "nifti2.nii.gz",
        "nifti2_f4_big.nii",
    ] {
        let whole = fs::read(reference("volumes").join(name)).unwrap();
        // The last digit of a text may go unnoticed.
        let text = usize::from(name == "ascii.nrrd" || name == "text.mha") * 4;
        for length in 0..whole.len() - text {
            refused_in_memory(Path::new(name), &whole[..length]);
        }
    }
}

#[test]
fn a_part_of_a_pair_that_is_missing_or_short_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let copy = |name: &str| fs::copy(reference("volumes").join(name), path(name)).unwrap();
    for (header, voxels) in [
        ("pair_big.hdr", "pair_big.img"),
        ("detached_raw.nhdr", "detached_raw.raw"),
        ("apart.mhd", "apart.raw"),
    ] {
        copy(header);
        let message = refused(&path(header));
        assert!(
            message.contains("voxels are missing") && message.contains(voxels),
            "{message}"
        );
        copy(voxels);
        read_image(&path(header)).unwrap();
        let whole = fs::read(path(voxels)).unwrap();
        for bytes in [&whole[..whole.len() - 1], &[&whole[..], &[1]].concat()] {
            fs::write(path(voxels), bytes).unwrap();
            let message = read_image(&path(header)).unwrap_err().to_string();
            assert!(
                message.starts_with(&path(voxels).display().to_string()),
                "{message}"
            );
            assert!(message.contains("truncated or damaged"), "{message}");
        }
    }
    fs::remove_file(path("pair_big.hdr")).unwrap();
    let message = refused(&path("pair_big.img"));
    assert!(message.contains("its header is missing"), "{message}");
}

#[test]
fn bytes_after_the_voxels_are_refused_unless_they_are_padding() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["image.nii", "image.nii.gz"] {
        let path = folder.path().join(name);
        let whole = image_bytes(&path);
        let expected = read_image(&path).unwrap();
        fs::write(&path, [&whole[..], &[0; 100]].concat()).unwrap();
        assert_eq!(read_image(&path).unwrap(), expected, "{name}");
        fs::write(&path, [&whole[..], b"garbage"].concat()).unwrap();
        let message = refused(&path);
        assert!(message.contains("after the last voxel"), "{message}");
        // A second gzip member is more of the same file.
        if name.ends_with(".gz") {
            fs::write(&path, [&whole[..], &whole[..]].concat()).unwrap();
            assert!(refused(&path).contains("after the last voxel"));
        }
    }
}

/// Changes the bytes at some offsets of a NIfTI-2 file, and returns what is wrong with it.
fn with_nifti_2(changes: &[(usize, &[u8])]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed.nii");
    let mut bytes = fs::read(reference("volumes/nifti2_i2_little.nii")).unwrap();
    for &(at, change) in changes {
        bytes[at..at + change.len()].copy_from_slice(change);
    }
    fs::write(&path, bytes).unwrap();
    refused(&path)
}

#[test]
fn headers_of_nifti_2_that_lie_are_refused() {
    let (most, minus) = (i64::MAX.to_le_bytes(), (-4i64).to_le_bytes());
    assert!(with_nifti_2(&[(24, &most), (32, &most), (40, &most)]).contains("its header declares"));
    assert!(with_nifti_2(&[(24, &minus)]).contains("an axis of -4 voxels"));
    assert!(with_nifti_2(&[(16, &minus)]).contains("declares -4 dimensions"));
    assert!(with_nifti_2(&[(168, &12i64.to_le_bytes())]).contains("at byte 12"));
    assert!(with_nifti_2(&[(168, &most)]).contains("truncated"));
    assert!(with_nifti_2(&[(12, &1792i16.to_le_bytes())]).contains("complex numbers"));
    assert!(with_nifti_2(&[(400, &f64::NAN.to_le_bytes())]).contains("not finite"));
}

/// Found by fuzzing: the square of a step of 1e300 mm is no number any more, and spacing became infinite.
#[test]
fn voxels_of_impossible_size_are_refused() {
    for size in [1e300f64, 1e-300] {
        let size = size.to_le_bytes();
        assert!(
            with_nifti_2(&[(400, &size), (432, &size), (464, &size)])
                .contains("sizes that no volume has")
        );
    }
}

#[test]
fn an_axis_of_several_voxels_without_a_size_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flat.nii");
    let mut bytes = fs::read(reference("nifti/i2_little.nii")).unwrap();
    bytes[88..92].copy_from_slice(&0f32.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    assert!(refused(&path).contains("its voxel size is singular"));
}

#[test]
fn fractional_labels_are_refused_with_their_value() {
    let message = read_labels(&reference("volumes/written_f4.nii"))
        .unwrap_err()
        .to_string();
    assert!(message.contains("holds the value -7.25"), "{message}");
    assert!(
        message.contains("save the label map as integers"),
        "{message}"
    );
}
