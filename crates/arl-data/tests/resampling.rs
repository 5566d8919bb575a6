//! Resampling against what nnU-Net v2's own function returned (`references/resampling.py`).

use std::path::Path;

use arl_data::resample::{resize_image, resize_label_map, resize_probabilities};
use ndarray::Array3;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Case {
    kind: String,
    shape: [usize; 3],
    spacing: [f64; 3],
    new_shape: [usize; 3],
    new_spacing: [f64; 3],
    labels: u16,
}

/// The range of the noise.
const RANGE: f32 = 4095.0;

fn noise(shape: [usize; 3]) -> Array3<f32> {
    let value = |index: u64| {
        let mut mixed = (index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^= mixed >> 29;
        (mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 52) as f32
    };
    let voxels = (0..shape.iter().product::<usize>() as u64)
        .map(value)
        .collect();
    Array3::from_shape_vec(shape, voxels).unwrap()
}

fn blocks(shape: [usize; 3], labels: u16) -> Array3<u16> {
    let small = noise(shape.map(|n| n.div_ceil(2)));
    Array3::from_shape_fn(shape, |(d, h, w)| {
        small[[d / 2, h / 2, w / 2]] as u16 % labels
    })
}

#[test]
fn every_case_is_nnunets() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/references/resampling");
    let cases = std::fs::read_to_string(directory.join("cases.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&cases).unwrap();
    let values = std::fs::read(directory.join("values.bin")).unwrap();
    let mut values = values.as_slice();
    for case in &cases {
        let voxels: usize = case.new_shape.iter().product();
        let (from, to) = (case.spacing, case.new_spacing);
        if case.kind == "labels" {
            let (expected, rest) = values.split_at(voxels);
            values = rest;
            let source = blocks(case.shape, case.labels);
            let found = resize_label_map(source.view(), case.new_shape, from, to);
            let wrong = found
                .iter()
                .zip(expected)
                .filter(|(a, b)| **a != u16::from(**b));
            assert_eq!(wrong.count(), 0, "{case:?}");
        } else {
            let (expected, rest) = values.split_at(4 * voxels);
            values = rest;
            let source = noise(case.shape);
            let found = match case.kind.as_str() {
                "image" => resize_image(source.view(), case.new_shape, from, to),
                _ => resize_probabilities(source.view(), case.new_shape, from, to),
            };
            let expected = expected
                .as_chunks()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b));
            let worst = found
                .iter()
                .zip(expected)
                .map(|(a, b)| (a - b).abs() / RANGE)
                .fold(0.0, f32::max);
            assert!(worst < 2e-6, "{worst} of the range in {case:?}");
        }
    }
    assert!(values.is_empty() && cases.len() > 20);
}
