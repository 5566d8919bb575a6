//! Damaged volumes are refused with an error; nothing panics and nothing half-read is returned.

use std::fs;
use std::path::Path;

use arl_data::formats::{read_geometry, read_image, read_labels, write_image};
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

fn every_prefix_is_refused(name: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    let whole = image_bytes(&path);
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let error = match read_image(&path) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{length} of {} bytes were read as an image", whole.len()),
        };
        assert!(error.contains(name), "names no file: {error}");
        assert_eq!(error.lines().count(), 1, "more than one line: {error}");
        assert!(read_labels(&path).is_err());
        // The geometry may already be whole; asking for it must not panic.
        let _ = read_geometry(&path);
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(read_image(&path).unwrap().data[[1, 2, 3]], 123.0);
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
            fs::write(&path, &bytes).unwrap();
            let _ = read_geometry(&path);
            let _ = read_image(&path);
            let _ = read_labels(&path);
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
            fs::write(&path, &bytes).unwrap();
            // The bytes of the gzip header that carry a time or a file system may change; voxels may not.
            if let Ok(image) = read_image(&path) {
                assert_eq!(image.data, expected, "bit {bit} of byte {position}");
            }
        }
    }
}
