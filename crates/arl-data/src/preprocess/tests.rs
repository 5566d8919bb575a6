use super::*;
use crate::dataset::Region;
use crate::plan::ChannelNormalization;
use crate::resample::resize_probabilities;
use crate::volume::Geometry;

/// 2 mm along D, 1 mm along H and W.
fn thick_slices(shape: [usize; 3]) -> Geometry {
    let affine = [
        [1., 0., 0., 0.],
        [0., 1., 0., 0.],
        [0., 0., 2., 0.],
        [0., 0., 0., 1.],
    ];
    Geometry::new(shape, affine)
}

fn volume(shape: [usize; 3], f: impl Fn([usize; 3]) -> f32) -> Volume<f32> {
    let data = Array3::from_shape_fn(shape, |(d, h, w)| f([d, h, w]));
    Volume {
        data,
        geometry: thick_slices(shape),
    }
}

#[test]
fn the_box_holds_every_nonzero_voxel() {
    let image = volume([4, 5, 6], |i| {
        f32::from(u8::from(i == [1, 2, 3] || i == [2, 2, 5]))
    });
    assert_eq!(nonzero_box(&[image]), [[1, 3], [2, 3], [3, 6]]);
    assert_eq!(nonzero_box(&[volume([2, 2, 2], |_| 0.0)]), [[0, 2]; 3]);
}

#[test]
fn labels_come_back_to_the_place_they_had() {
    let shape = [6, 10, 8];
    let geometry = thick_slices(shape);
    let grid = GridMap {
        source: geometry.clone(),
        geometry,
        crop: [[1, 6], [2, 10], [0, 8]],
        shape: [10, 8, 8],
        spacing: [1.0, 1.0, 1.0],
    };
    // Class 1 fills the second half of the plan's grid along D.
    let scores = Array4::from_shape_fn([2, 10, 8, 8], |(class, d, _, _)| {
        if (d >= 6) == (class == 1) { 1.0 } else { 0.0 }
    });
    let labels = grid.restore(&scores);
    assert_eq!(labels.data.shape(), shape);
    assert_eq!(labels.data[[3, 5, 5]], 0);
    assert_eq!(labels.data[[4, 5, 5]], 1);
    assert_eq!(labels.data[[5, 1, 5]], 0, "outside the box is background");
}

#[test]
fn restoring_slab_by_slab_equals_the_whole_at_once() {
    // More planes than a slab has, whole and with a separate axis.
    for (spacing, shape) in [([1.0, 1.3, 0.8], [70, 9, 7]), ([4.0, 1.3, 0.8], [18, 9, 7])] {
        let geometry = Geometry::from_spacing([150, 13, 8], [0.5, 1.0, 1.0]);
        let grid = GridMap {
            source: geometry.clone(),
            geometry,
            crop: [[2, 144], [0, 12], [1, 7]],
            shape,
            spacing,
        };
        let [d, h, w] = shape;
        let scores = Array4::from_shape_fn([5, d, h, w], |(k, d, h, w)| {
            ((k * 31 + d * 17 + h * 7 + w * 3) % 23) as f32
        });
        let found = grid.restore(&scores);
        let maps: Vec<_> = scores
            .outer_iter()
            .map(|class| resize_probabilities(class, [142, 12, 6], spacing, [0.5, 1.0, 1.0]))
            .collect();
        let expected = Array3::from_shape_fn([150, 13, 8], |(d, h, w)| {
            if !(2..144).contains(&d) || h >= 12 || !(1..7).contains(&w) {
                return 0;
            }
            let at = [d - 2, h, w - 1];
            let best = maps.iter().map(|map| map[at]).fold(f32::MIN, f32::max);
            maps.iter().position(|map| map[at] == best).unwrap() as u16
        });
        assert!(found.data == expected);
    }
}

/// What nnU-Net makes of the volume (`references/masked_z_score.py`).
#[test]
fn a_masked_z_score_is_nnunets() {
    let shape = [14, 15, 17];
    let noise = |index: u64| {
        let mut mixed = (index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^= mixed >> 29;
        (mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 52) as f32
    };
    let image = volume(shape, |[d, h, w]| {
        let noise = noise(((d * 15 + h) * 17 + w) as u64);
        let squared = |a: usize, b: usize| (a as f64 - b as f64).powi(2);
        let ball = squared(d, 6) + squared(h, 7) + squared(w, 9) < 40.0;
        if ball && noise % 3.0 > 0.0 {
            noise
        } else {
            0.0
        }
    });
    let bytes = include_bytes!("../../tests/references/masked_z_score.bin");
    let expected: Vec<f32> = bytes
        .as_chunks()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect();
    let bounds = nonzero_box(std::slice::from_ref(&image));
    let mask = filled_mask(std::slice::from_ref(&image), bounds);
    let cropped = crop(&image.data, bounds);
    let normalizer = ChannelNormalization::ZScore.fit(cropped, Some(mask.view()));
    let source = Normalized {
        voxels: cropped,
        normalizer,
        mask: Some(mask.view()),
    };
    let [depth, height, width] = source.shape();
    assert_eq!(depth * height * width, expected.len());
    let mut row = vec![0.0; width];
    for (i, expected) in expected.chunks_exact(width).enumerate() {
        source.read(i / height, i % height, 0, &mut row);
        for (a, b) in row.iter().zip(expected) {
            assert!((a - b).abs() < 1e-5, "{a} instead of {b} in row {i}");
        }
    }
}

#[test]
fn ct_is_clipped_and_standardised() {
    let scheme = ChannelNormalization::Ct {
        lower: -100.0,
        upper: 300.0,
        mean: 50.0,
        std: 50.0,
    };
    let mut voxels = [-2000.0, 50.0, 3000.0];
    let view = ArrayView3::from_shape([1, 1, 3], &voxels).unwrap();
    scheme.fit(view, None).apply(&mut voxels);
    assert_eq!(voxels, [-3.0, 0.0, 5.0]);
}

#[test]
fn later_regions_are_painted_over_earlier_ones() {
    let shape = [2, 3, 4];
    let grid = GridMap {
        source: thick_slices(shape),
        geometry: thick_slices(shape),
        crop: [[0, 2], [0, 3], [0, 4]],
        shape,
        spacing: [2.0, 1.0, 1.0],
    };
    let region = |paint: u16| Region {
        name: paint.to_string(),
        values: vec![paint],
        paint,
    };
    // The first region fills the box but one row, the second its end.
    let scores = Array4::from_shape_fn([2, 2, 3, 4], |(region, _, h, w)| match region {
        0 if h > 0 => 0.1,
        1 if w == 3 => 5.0,
        _ => -0.1,
    });
    let labels = grid.restore_regions(&scores, &[region(1), region(3)]);
    assert_eq!(labels.data[[1, 0, 0]], 0);
    assert_eq!(labels.data[[1, 1, 0]], 1);
    assert_eq!(labels.data[[1, 1, 3]], 3);
    assert_eq!(labels.data[[1, 0, 3]], 3);
    // A probability of exactly one half is not above it.
    let zero = grid.restore_regions(&Array4::zeros([1, 2, 3, 4]), &[region(1)]);
    assert!(zero.data.iter().all(|&label| label == 0));
}
