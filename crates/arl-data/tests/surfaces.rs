//! Metrics and distance transforms against MONAI and SciPy (`references/make_surfaces.py`), and what must hold for any
//! two masks.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use arl_data::distance_transform::squared_distances;
use arl_data::metrics::{Metric, Scores, Structure, SurfaceDistances, score};
use ndarray::{Array3, Axis};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;

#[derive(Deserialize)]
struct References {
    cases: Vec<Case>,
    transforms: Vec<Transform>,
}

#[derive(Deserialize)]
struct Case {
    shape: [usize; 3],
    spacing: [f64; 3],
    tolerance: f64,
    ignore: Option<u16>,
    /// Label, count, label, count, ...
    prediction: Vec<usize>,
    reference: Vec<usize>,
    scores: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    labels: Vec<u16>,
    #[serde(flatten)]
    values: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
struct Transform {
    shape: [usize; 3],
    spacing: [f64; 3],
    mask: Vec<usize>,
    distances: Vec<f64>,
}

fn references() -> References {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/references/surfaces.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn from_runs(shape: [usize; 3], runs: &[usize]) -> Array3<u16> {
    let labels = runs
        .chunks(2)
        .flat_map(|run| std::iter::repeat_n(run[0] as u16, run[1]));
    Array3::from_shape_vec(shape, labels.collect()).unwrap()
}

#[test]
fn scores_of_monai() {
    let mut compared = 0;
    for case in references().cases {
        let structures: Vec<Structure> = case
            .scores
            .iter()
            .map(|expected| {
                Structure::region(expected.labels.iter().copied()).with_tolerance(case.tolerance)
            })
            .collect();
        let scores = score(
            &from_runs(case.shape, &case.prediction),
            &from_runs(case.shape, &case.reference),
            case.spacing,
            &structures,
            &Metric::ALL,
            case.ignore,
        )
        .unwrap();
        for (scores, expected) in scores.iter().zip(&case.scores) {
            for (name, expected) in &expected.values {
                let got = scores.value(name.parse().unwrap()).unwrap();
                // MONAI computes in f32.
                let tolerance = 3e-6 * expected.abs().max(1.0);
                assert!(
                    (got - expected).abs() <= tolerance,
                    "{name}: {got} instead of {expected}"
                );
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 4 * 5 * 6 + 5 * 4);
}

#[test]
fn distance_transforms_of_scipy() {
    for transform in references().transforms {
        let mask = from_runs(transform.shape, &transform.mask).mapv(|value| value == 1);
        let squared = squared_distances(mask.view(), transform.spacing);
        for (got, expected) in squared.iter().zip(&transform.distances) {
            assert!((got.sqrt() - expected).abs() <= 1e-12 * expected.max(1.0));
        }
    }
}

/// Two random masks, sometimes far apart or empty, and a spacing.
fn masks(random: &mut SmallRng) -> (Array3<bool>, Array3<bool>, [f64; 3]) {
    let shape: [usize; 3] = std::array::from_fn(|_| {
        if random.random_bool(0.1) {
            1
        } else {
            random.random_range(1..70)
        }
    });
    let spacing = std::array::from_fn(|_| random.random_range(0.2..4.0));
    let mut ball = || {
        let centre: [f64; 3] = shape.map(|n| random.random_range(-2.0..n as f64 + 2.0));
        let radius: f64 = random.random_range(0.5..12.0);
        let noise = random.random_range(0.0..0.3);
        Array3::from_shape_fn(shape, |(d, h, w)| {
            let from = [
                d as f64 - centre[0],
                h as f64 - centre[1],
                w as f64 - centre[2],
            ];
            from.iter().map(|x| x * x).sum::<f64>() < radius * radius && !random.random_bool(noise)
        })
    };
    (ball(), ball(), spacing)
}

fn between(first: &Array3<bool>, second: &Array3<bool>, spacing: [f64; 3]) -> SurfaceDistances {
    SurfaceDistances::between(first, second, spacing).unwrap()
}

/// By the definitions alone.
fn by_definition(first: &Array3<bool>, second: &Array3<bool>, spacing: [f64; 3]) -> Vec<f64> {
    let surface = |mask: &Array3<bool>| -> Vec<[usize; 3]> {
        let at = |index: [usize; 3]| mask.get(index).copied().unwrap_or(false);
        let is_surface = |&[d, h, w]: &[usize; 3]| {
            // Below 0 wraps to an index that no volume has.
            let neighbours = [
                (0, [d.wrapping_sub(1), h, w]),
                (0, [d + 1, h, w]),
                (1, [d, h.wrapping_sub(1), w]),
                (1, [d, h + 1, w]),
                (2, [d, h, w.wrapping_sub(1)]),
                (2, [d, h, w + 1]),
            ];
            let counts = |axis| mask.len_of(Axis(axis)) > 1 || mask.len() == 1;
            let outside = |(axis, place)| counts(axis) && !at(place);
            at([d, h, w]) && neighbours.into_iter().any(outside)
        };
        let voxels = mask.indexed_iter().map(|((d, h, w), _)| [d, h, w]);
        voxels.filter(is_surface).collect()
    };
    let (from, to) = (surface(first), surface(second));
    let distance = |a: &[usize; 3], b: &[usize; 3]| {
        let squares = (0..3).map(|axis| (a[axis].abs_diff(b[axis]) as f64 * spacing[axis]).powi(2));
        squares.sum::<f64>().sqrt()
    };
    from.iter()
        .map(|a| {
            to.iter()
                .map(|b| distance(a, b))
                .fold(f64::INFINITY, f64::min)
        })
        .collect()
}

#[test]
fn distances_equal_the_definition() {
    let mut random = SmallRng::seed_from_u64(2);
    for _ in 0..30 {
        let (first, second, spacing) = masks(&mut random);
        let distances = between(&first, &second, spacing);
        for (got, expected) in [
            (
                &distances.to_reference,
                by_definition(&first, &second, spacing),
            ),
            (
                &distances.to_prediction,
                by_definition(&second, &first, spacing),
            ),
        ] {
            assert_eq!(got.len(), expected.len());
            for (got, expected) in got.iter().zip(expected) {
                assert!(*got == expected || (got - expected).abs() < 1e-12 * expected);
            }
        }
    }
}

/// All values of a pair, rounded so that the order of a sum does not matter.
fn values(distances: &SurfaceDistances) -> Vec<Option<f64>> {
    let values = [
        distances.hausdorff(),
        distances.hausdorff_percentile(95.0),
        distances.average(),
        distances.normalised_dice(1.0),
    ];
    values
        .map(|value| value.map(|value| (value * 1e9).round()))
        .to_vec()
}

#[test]
fn metrics_do_not_depend_on_order_or_orientation() {
    let mut random = SmallRng::seed_from_u64(3);
    for _ in 0..30 {
        let (first, second, spacing) = masks(&mut random);
        let expected = values(&between(&first, &second, spacing));
        assert_eq!(values(&between(&second, &first, spacing)), expected);
        for axis in 0..3 {
            let flip = |mask: &Array3<bool>| {
                let mut mask = mask.clone();
                mask.invert_axis(Axis(axis));
                mask
            };
            let flipped = between(&flip(&first), &flip(&second), spacing);
            assert_eq!(values(&flipped), expected);
        }
        for axes in [[1, 0, 2], [2, 1, 0], [1, 2, 0]] {
            let permute = |mask: &Array3<bool>| mask.clone().permuted_axes(axes);
            let spacing = axes.map(|axis| spacing[axis]);
            let permuted = between(&permute(&first), &permute(&second), spacing);
            assert_eq!(values(&permuted), expected);
        }
    }
}

#[test]
fn identical_masks_are_at_distance_0_and_tolerance_only_helps() {
    let mut random = SmallRng::seed_from_u64(4);
    for _ in 0..30 {
        let (first, second, spacing) = masks(&mut random);
        let same = between(&first, &first, spacing);
        if first.iter().any(|inside| *inside) {
            assert_eq!(same.hausdorff(), Some(0.0));
            assert_eq!(same.hausdorff_percentile(95.0), Some(0.0));
            assert_eq!(same.average(), Some(0.0));
            assert_eq!(same.normalised_dice(0.0), Some(1.0));
        } else {
            assert_eq!(values(&same), [None; 4]);
        }
        let distances = between(&first, &second, spacing);
        let dice = |tolerance: i32| distances.normalised_dice(f64::from(tolerance));
        assert!((0..100).all(|tolerance| dice(tolerance) <= dice(tolerance + 1)));
        let percentile = |percent: i32| distances.hausdorff_percentile(f64::from(percent));
        assert!((0..100).all(|percent| percentile(percent) <= percentile(percent + 1)));
        assert_eq!(percentile(100), distances.hausdorff());
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let mut random = SmallRng::seed_from_u64(5);
    let mut labels = || Array3::from_shape_simple_fn((20, 30, 40), || random.random_range(0..4u16));
    let (prediction, reference) = (labels(), labels());
    let structures = [
        Structure::class(1),
        Structure::class(2),
        Structure::region([1, 3]),
    ];
    let scores = |threads| -> Vec<Scores> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            score(
                &prediction,
                &reference,
                [1.5, 0.7, 0.9],
                &structures,
                &Metric::ALL,
                Some(2),
            )
            .unwrap()
        })
    };
    assert_eq!(scores(1), scores(4));
}
