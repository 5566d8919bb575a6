//! Transforms with given parameters beside what the peers make of the same volume: `references/make_augmentation.py`.

use arl_data::augment::{
    BiasField, Blur, Contrast, Displacement, Gamma, Ghosting, Gibbs, InMemory, LowResolution,
    Rotation, SpatialMap,
};
use ndarray::{Array3, Array4};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Value;

const SOURCE: [usize; 3] = [10, 11, 13];
const PATCH: [usize; 3] = [6, 7, 9];
/// The references hold -1 there.
const OUTSIDE: u16 = u16::MAX;

fn references(topic: &str) -> Vec<Value> {
    let text = include_str!("references/augmentation/references.json");
    let all: Value = serde_json::from_str(text).unwrap();
    let cases = all[topic].as_array().unwrap().clone();
    assert!(!cases.is_empty());
    cases
}

fn image(channels: usize) -> Array4<f32> {
    Array4::from_shape_fn((channels, 10, 11, 13), |(c, d, h, w)| {
        (((c * 31 + d * 17 + h * 5 + w * 3 + d * h * w) % 23) as f64 / 7.0 - 1.0) as f32
    })
}

fn labels() -> Array3<u16> {
    Array3::from_shape_fn(SOURCE, |(d, h, w)| ((d / 4 + (h * 2 + w) / 7) % 5) as u16)
}

fn numbers(value: &Value) -> Vec<f32> {
    let values = value.as_array().unwrap().iter();
    values.map(|v| v.as_f64().unwrap() as f32).collect()
}

fn number(value: &Value) -> f32 {
    value.as_f64().unwrap() as f32
}

fn triple(value: &Value) -> [f64; 3] {
    [0, 1, 2].map(|i| value[i].as_f64().unwrap())
}

fn axes(value: &Value) -> Vec<usize> {
    let values = value.as_array().unwrap().iter();
    values.map(|v| v.as_u64().unwrap() as usize).collect()
}

/// The largest difference of the image from the reference's.
fn difference(image: &Array4<f32>, reference: &Value) -> f32 {
    let expected = numbers(&reference["image"]);
    assert_eq!(image.len(), expected.len());
    image
        .iter()
        .zip(expected)
        .fold(0.0, |most, (a, b)| most.max((a - b).abs()))
}

fn assert_image(image: &Array4<f32>, reference: &Value) {
    let difference = difference(image, reference);
    assert!(difference < 3e-5, "{difference}");
}

/// What a transform of the image alone makes of one channel.
fn changed(apply: impl FnOnce(&mut Array4<f32>, &mut StdRng)) -> Array4<f32> {
    let mut image = image(1);
    apply(&mut image, &mut StdRng::seed_from_u64(0));
    image
}

fn matrix(reference: &Value) -> [[f64; 3]; 3] {
    let factors = triple(&reference["factors"]);
    let turn = Rotation::matrix(triple(&reference["degrees"]));
    turn.map(|row| [0, 1, 2].map(|axis| row[axis] * factors[axis]))
}

/// Reads the patch in the middle of the source. Returns how many labels differ.
fn compare_patch(map: &SpatialMap, reference: &Value) -> usize {
    let (image, labels) = (image(2), labels());
    let source = InMemory {
        image: image.view(),
        labels: labels.view(),
        outside: OUTSIDE,
    };
    let start = [0, 1, 2].map(|axis| (SOURCE[axis] - PATCH[axis]) as i64 / 2);
    let (patch, patch_labels) = map.read(&source, start).unwrap();
    // In a volume that is as rough as this, 1e-6 of the position is 1e-5 of the value.
    let difference = difference(&patch, reference);
    assert!(difference < 6e-5, "{difference}");
    let expected = reference["labels"].as_array().unwrap().iter();
    let expected = expected.map(|v| v.as_i64().unwrap() as u16);
    assert_eq!(patch_labels.len(), expected.len());
    patch_labels
        .iter()
        .zip(expected)
        .filter(|(a, b)| **a != *b)
        .count()
}

#[test]
fn rotation_scaling_and_mirroring_are_those_of_batchgenerators() {
    for (case, reference) in references("affine").iter().enumerate() {
        let mirrored = [0, 1, 2].map(|axis| reference["mirrored"][axis].as_bool().unwrap());
        let map = SpatialMap::new(PATCH)
            .with_matrix(matrix(reference))
            .with_mirrored(mirrored);
        assert_eq!(compare_patch(&map, reference), 0, "case {case}");
    }
}

/// Places exactly half way between two labels belong to the next voxel here; PyTorch rounds to the even one.
#[test]
fn ties_between_labels_are_all_that_differs_half_way_between_voxels() {
    for reference in references("half_way") {
        let map = SpatialMap::new(PATCH).with_matrix(matrix(&reference));
        assert!(compare_patch(&map, &reference) <= 30, "of {}", 6 * 7 * 9);
    }
}

#[test]
fn elastic_deformation_is_that_of_scipys_splines_and_batchgenerators() {
    for reference in references("elastic") {
        let points = triple(&reference["points"]).map(|n| n as usize);
        let coefficients = [0, 1, 2].map(|axis| numbers(&reference["coefficients"][axis]));
        let map = SpatialMap::new(PATCH)
            .with_matrix(matrix(&reference))
            .with_displacement(Displacement::new(PATCH, points, coefficients));
        assert_eq!(compare_patch(&map, &reference), 0);
    }
}

#[test]
fn blur_is_that_of_batchgenerators() {
    for reference in references("blur") {
        let deviation = number(&reference["deviation"]);
        let blur = Blur {
            probability: 1.0,
            channel_probability: 1.0,
            deviation: (deviation, deviation),
        };
        assert_image(&changed(|image, rng| blur.apply(image, rng)), &reference);
    }
}

#[test]
fn contrast_is_that_of_batchgenerators() {
    for reference in references("contrast") {
        let factor = number(&reference["factor"]);
        let contrast = Contrast {
            probability: 1.0,
            factor: (factor, factor),
        };
        assert_image(
            &changed(|image, rng| contrast.apply(image, rng)),
            &reference,
        );
    }
}

#[test]
fn gamma_is_that_of_batchgenerators() {
    for reference in references("gamma") {
        let power = number(&reference["power"]);
        let invert = reference["invert"].as_bool().unwrap();
        let gamma = Gamma {
            probability: 1.0,
            power: (power, power),
            invert,
        };
        assert_image(&changed(|image, rng| gamma.apply(image, rng)), &reference);
    }
}

#[test]
fn low_resolution_is_that_of_batchgenerators() {
    for reference in references("low_resolution") {
        let scale = number(&reference["scale"]);
        let low = LowResolution {
            probability: 1.0,
            channel_probability: 1.0,
            scale: (scale, scale),
            axes: axes(&reference["axes"]),
        };
        assert_image(&changed(|image, rng| low.apply(image, rng)), &reference);
    }
}

#[test]
fn ghosting_and_gibbs_ringing_are_filters_of_the_fourier_transform() {
    for reference in references("ghosting") {
        let ghosts = reference["ghosts"].as_u64().unwrap() as usize;
        let intensity = number(&reference["intensity"]);
        let ghosting = Ghosting {
            probability: 1.0,
            ghosts: (ghosts, ghosts),
            intensity: (intensity, intensity),
            axes: vec![reference["axis"].as_u64().unwrap() as usize],
            restored: number(&reference["restored"]),
        };
        assert_image(
            &changed(|image, rng| ghosting.apply(image, rng)),
            &reference,
        );
    }
    for reference in references("gibbs") {
        let kept = number(&reference["kept"]);
        let gibbs = Gibbs {
            probability: 1.0,
            kept: (kept, kept),
            axes: vec![reference["axis"].as_u64().unwrap() as usize],
        };
        assert_image(&changed(|image, rng| gibbs.apply(image, rng)), &reference);
    }
}

#[test]
fn the_bias_field_is_the_exponential_of_a_polynomial() {
    for reference in references("bias_field") {
        let coefficient = number(&reference["coefficient"]);
        let field = BiasField {
            probability: 1.0,
            order: reference["order"].as_u64().unwrap() as usize,
            coefficient: (coefficient, coefficient),
        };
        let actual = changed(|image, rng| field.apply(image, rng));
        // The field reaches e^5 in the corners.
        let scale = actual.iter().fold(1f32, |most, v| most.max(v.abs()));
        assert!(difference(&actual, &reference) < 2e-6 * scale + 1e-5);
    }
}
