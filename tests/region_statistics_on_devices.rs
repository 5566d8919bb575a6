//! The fused region statistics on WGPU against the plain ones in f64 on the CPU, forward and backward.

use arl::loss::{RegionGrid, RegionStatistics, plain_region_statistics, region_statistics};
use burn::prelude::*;
use burn::tensor::{DType, TensorData};

/// Values without a pattern that the grid could share, some of them saturated.
fn logits(shape: [usize; 5]) -> Vec<f32> {
    let value = |i: usize| match i % 97 {
        13 => 1e4,
        57 => -1e4,
        _ => ((i * 7919 % 1009) as f32 / 1009.0 - 0.5) * 8.0,
    };
    (0..shape.iter().product()).map(value).collect()
}

/// Classes, an ignored one (0), and values that are no class.
fn labels(shape: [usize; 5]) -> Vec<i32> {
    let [n, c, d, h, w] = shape;
    let value = |i: usize| (i * 104_729 % (c + 3)) as i32 - 1;
    (0..n * d * h * w).map(value).collect()
}

type Sums = [Vec<f64>; 5];

fn run(
    device: &Device,
    dtype: DType,
    shape: [usize; 5],
    grid: RegionGrid,
    plain: bool,
) -> (Sums, Vec<f64>) {
    let device = device.clone().autodiff();
    let [n, _, d, h, w] = shape;
    let z = Tensor::<5>::from_data(TensorData::new(logits(shape), shape), &device);
    let z = z.cast(dtype).require_grad();
    let y = TensorData::new(labels(shape), [n, d, h, w]);
    let y = Tensor::<4, Int>::from_data(y, &device);
    let regions = grid.regions([d, h, w]).unwrap();
    let statistics = match plain {
        true => plain_region_statistics(z.clone(), y, &regions, Some(0)),
        false => region_statistics(z.clone(), y, &regions, Some(0)),
    };
    let RegionStatistics {
        tp,
        fp,
        fn_,
        cross_entropy,
        labelled,
    } = statistics.unwrap();
    // Another weight for every sum, exact in f32.
    let weighted = |sums: Tensor<3>, phase: usize| {
        let weight = |i: usize| ((i * 37 + phase) % 101) as f32 / 64.0 - 0.75;
        let weights = (0..sums.shape().num_elements()).map(weight).collect();
        let weights = TensorData::new::<f32, _>(weights, sums.shape());
        sums.clone() * Tensor::<3>::from_data(weights, &device).cast(sums.dtype())
    };
    let total = weighted(tp.clone(), 0)
        + weighted(fp.clone(), 29)
        + weighted(fn_.clone(), 53)
        + weighted(cross_entropy.clone(), 71);
    let gradient = z.grad(&total.sum().backward()).unwrap();
    let values = |data: TensorData| data.iter::<f64>().collect::<Vec<_>>();
    (
        [tp, fp, fn_, cross_entropy, labelled].map(|sums| values(sums.into_data())),
        values(gradient.into_data()),
    )
}

fn close(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0f64, |a, b| a.max(b.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs();
        assert!(
            error <= 2e-6 * expected.abs() + 1e-6 * largest.min(1.0),
            "{what} at {i}: {found} instead of {expected}"
        );
    }
}

#[test]
fn wgpu_equals_the_plain_operations_and_repeats_its_bits() {
    let device = match Device::wgpu_options().init() {
        Ok(device) => device,
        Err(error) => {
            assert!(
                std::env::var_os("ARL_EXPECT_WGPU").is_none(),
                "no WGPU adapter: {error}"
            );
            println!("skipped: no WGPU adapter ({error})");
            return;
        }
    };
    let cases = [
        ([1, 2, 4, 4, 6], RegionGrid::size([2, 2, 2])),
        ([2, 3, 5, 7, 9], RegionGrid::size([2, 3, 4])),
        ([2, 5, 3, 6, 40], RegionGrid::count([2, 4, 7])),
        ([1, 128, 2, 3, 17], RegionGrid::WHOLE),
        ([1, 1, 2, 2, 2], RegionGrid::size([1, 1, 1])),
        // A region of several slices that the last one does not fill.
        ([1, 3, 29, 31, 33], RegionGrid::WHOLE),
        // More cubes than one axis of a launch takes.
        ([2, 3, 24, 25, 26], RegionGrid::size([1, 1, 1])),
    ];
    for (shape, grid) in cases {
        let what = format!("{shape:?} {grid:?}");
        let (sums, gradient) = run(&device, DType::F32, shape, grid, false);
        let (expected, expected_gradient) = run(&Device::flex(), DType::F64, shape, grid, true);
        let names = ["TP", "FP", "FN", "cross entropy", "labelled"];
        for ((sums, expected), name) in sums.iter().zip(&expected).zip(names) {
            close(sums, expected, &format!("{name} of {what}"));
        }
        close(
            &gradient,
            &expected_gradient,
            &format!("gradient of {what}"),
        );
        let again = run(&device, DType::F32, shape, grid, false);
        assert!(again == (sums, gradient), "{what} does not repeat");
    }
}
