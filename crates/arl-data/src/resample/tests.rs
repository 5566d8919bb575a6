//! Reference values computed with scipy's definitions (`zoom(grid_mode=True, mode="nearest")`, clipped).

use ndarray::{Array3, Axis, array, s};

use super::*;

/// `(0..27)^1.5` as 3³.
fn powers() -> Array3<f32> {
    Array3::from_shape_fn((3, 3, 3), |(d, h, w)| {
        ((9 * d + 3 * h + w) as f32).powf(1.5)
    })
}

fn assert_close(actual: f32, expected: f32) {
    let tolerance = 1e-4 * expected.abs().max(1e-2);
    assert!(
        (actual - expected).abs() <= tolerance,
        "{actual} instead of {expected}"
    );
}

#[test]
fn cubic_is_a_spline_within_the_range() {
    let y = resize(powers().view(), [5; 3], Order::Cubic);
    assert_close(y[[0, 0, 0]], 0.0);
    assert_close(y[[1, 2, 3]], 20.799_538);
    assert_close(y[[2, 2, 2]], 46.872_167);
    assert_close(y[[4, 4, 4]], 132.574_5);
    assert_close(y[[4, 0, 2]], 85.267_75);
    assert_close(y.sum(), 6_674.320_3);
}

#[test]
fn linear() {
    let y = resize(powers().view(), [5; 3], Order::Linear);
    assert_close(y[[1, 2, 3]], 26.016_438);
    assert_close(y[[4, 0, 2]], 82.819_08);
    assert_close(y.sum(), 6_658.748);
}

#[test]
fn every_axis_keeps_its_place() {
    let x = Array3::from_shape_fn((4, 5, 6), |(d, h, w)| (100 * d + 10 * h + w) as f32);
    for order in [Order::Nearest, Order::Linear, Order::Cubic] {
        assert_eq!(resize(x.view(), [4, 5, 6], order), x);
        let y = resize(x.view(), [4, 9, 6], order);
        assert_eq!(y.dim(), (4, 9, 6));
        let swapped = resize(x.view().permuted_axes([2, 0, 1]), [6, 4, 9], order);
        let difference = &swapped.permuted_axes([1, 2, 0]) - &y;
        assert!(difference.iter().all(|v| v.abs() < 1e-3));
    }
}

#[test]
fn nearest_along_a_line() {
    let line = |values: &[f32], new| {
        let x = Array3::from_shape_vec((values.len(), 1, 1), values.to_vec()).unwrap();
        resize(x.view(), [new, 1, 1], Order::Nearest)
            .into_raw_vec_and_offset()
            .0
    };
    assert_eq!(line(&[10., 20., 30.], 5), [10., 10., 20., 30., 30.]);
    assert_eq!(line(&[10., 20., 30., 40., 50.], 3), [10., 30., 50.]);
    assert_eq!(line(&[10., 20., 30., 40.], 2), [20., 40.]);
}

#[test]
fn labels_need_half_a_voxel() {
    let x = array![[[0u16, 0, 1, 1], [0, 2, 2, 1], [0, 2, 2, 1], [0, 0, 1, 1]]];
    let y = resize_labels(x.view(), [1, 6, 6]);
    let expected = array![
        [0, 0, 0, 1, 1, 1],
        [0, 0, 2, 2, 1, 1],
        [0, 2, 2, 2, 2, 1],
        [0, 2, 2, 2, 2, 1],
        [0, 0, 2, 2, 1, 1],
        [0, 0, 0, 1, 1, 1]
    ];
    assert_eq!(y.index_axis(Axis(0), 0), expected);
}

#[test]
fn labels_equal_one_volume_per_label() {
    let x = Array3::from_shape_fn((5, 6, 7), |(d, h, w)| {
        ((d * 7 + h * 5 + w * 3) % 11 / 3) as u16
    });
    let shape = [8, 4, 10];
    let mut expected = Array3::<u16>::zeros(shape);
    for label in 0..4 {
        let share = resize(
            x.mapv(|v| f32::from(v == label)).view(),
            shape,
            Order::Linear,
        );
        expected.zip_mut_with(&share, |e, s| {
            if *s >= 0.5 - 1e-6 {
                *e = label;
            }
        });
    }
    assert_eq!(resize_labels(x.view(), shape), expected);
}

#[test]
fn a_single_coarse_axis_is_separate() {
    use Interpolation::{Isotropic, SeparateAxis};
    assert_eq!(Interpolation::choose([1.0; 3], [1.5, 1.0, 1.0]), Isotropic);
    assert_eq!(
        Interpolation::choose([5.0, 1.0, 1.0], [1.0; 3]),
        SeparateAxis(0)
    );
    assert_eq!(
        Interpolation::choose([1.0; 3], [1.0, 4.0, 1.0]),
        SeparateAxis(1)
    );
    assert_eq!(
        Interpolation::choose([5.0, 5.0, 1.0], [1.0, 1.0, 9.0]),
        Isotropic
    );
}

#[test]
fn separate_slices_are_not_mixed() {
    let mut x = powers();
    x.slice_mut(s![1, .., ..]).fill(7.0);
    let y = resize_image(x.view(), [5, 5, 5], [4.0, 1.0, 1.0], [2.4, 0.6, 0.6]);
    assert_eq!(
        y.slice(s![2, .., ..]),
        Array3::from_elem((1, 5, 5), 7.0).slice(s![0, .., ..])
    );
    let first = resize(x.slice(s![..1, .., ..]), [1, 5, 5], Order::Cubic);
    assert_eq!(y.slice(s![0..1, .., ..]), first);
    assert_eq!(y.slice(s![1..2, .., ..]), first);
    let labels = x.mapv(|v| v as u16);
    let z = resize_label_map(labels.view(), [5, 3, 3], [4.0, 1.0, 1.0], [2.4, 1.0, 1.0]);
    assert_eq!(z, labels.select(Axis(0), &[0, 0, 1, 2, 2]));
}

#[test]
fn shapes_round_half_to_even() {
    let shape = resampled_shape([115, 320, 232], [1.37, 1.25, 1.25], [1.0; 3]);
    assert_eq!(shape, [158, 400, 290]);
    assert_eq!(
        resampled_shape([5, 7, 1], [0.5, 0.5, 0.1], [1.0; 3]),
        [2, 4, 1]
    );
}

#[test]
fn a_result_does_not_depend_on_the_slabs_it_is_made_in() {
    let x = Array3::from_shape_fn((150, 9, 70), |(d, h, w)| {
        ((d * 31 + h * 17 + w * 7) % 101) as f32
    });
    for interpolation in [Interpolation::Isotropic, Interpolation::SeparateAxis(0)] {
        for depth in [60, 150, 230] {
            let shape = [depth, 7, 80];
            let resampler = Resampler::new(x.view(), shape, Order::Cubic, interpolation);
            let mut whole = vec![0.0; depth * 7 * 80];
            resampler.planes(0..depth, &mut whole);
            for planes in [1, 32, 50] {
                let mut found = vec![0.0; whole.len()];
                for (i, out) in found.chunks_mut(planes * 7 * 80).enumerate() {
                    let first = i * planes;
                    resampler.planes(first..(first + planes).min(depth), out);
                }
                let worst = whole
                    .iter()
                    .zip(&found)
                    .map(|(a, b)| (a - b).abs())
                    .fold(0.0, f32::max);
                assert!(
                    worst < 101.0 * 1e-6,
                    "{worst} for {planes} of {depth} planes"
                );
            }
        }
    }
}
