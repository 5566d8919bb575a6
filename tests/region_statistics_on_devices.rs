//! The fused region statistics on GPUs against the plain ones in f64 on the CPU, forward and backward.

mod common;

use arl::loss::{
    Activation, EmptyRegions, LossConfig, LossKind, RegionGrid, RegionReduction, StatisticsOptions,
    Target, TopKCrossEntropyLossConfig, plain_region_statistics, region_statistics,
};
use burn::prelude::*;
use burn::tensor::{DType, FloatDType, IntDType, TensorData};

/// Values without a pattern that the grid could share, some of them saturated; exact in every float type.
fn logits(shape: [usize; 5]) -> Vec<f32> {
    let value = |i: usize| match i % 97 {
        13 => 9984.0,
        57 => -9984.0,
        _ => ((i * 7919 % 257) as f32 - 128.0) / 32.0,
    };
    (0..shape.iter().product()).map(value).collect()
}

/// Classes, an ignored one (0), and values that are no class.
fn class_indices(shape: [usize; 5], dtype: DType, device: &Device) -> Target {
    let [n, c, d, h, w] = shape;
    let value = |i: usize| (i * 104_729 % (c + 3)) as i32 - 1;
    let y = TensorData::new((0..n * d * h * w).map(value).collect(), [n, d, h, w]);
    let y = Tensor::<4, Int>::from_data(y, device);
    y.cast(IntDType::from(dtype)).into()
}

/// Shares, some of which count nowhere.
fn shares(shape: [usize; 5], device: &Device) -> Target {
    let value = |i: usize| match i % 61 {
        7 => -1.0,
        31 => f32::NAN,
        _ => (i * 104_729 % 17) as f32 / 16.0,
    };
    let y = TensorData::new((0..shape.iter().product()).map(value).collect(), shape);
    Tensor::<5>::from_data(y, device).into()
}

struct Found {
    sums: Vec<Vec<f64>>,
    gradient: Vec<f64>,
}

fn run(
    device: &Device,
    dtype: DType,
    shape: [usize; 5],
    target: Target,
    grid: RegionGrid,
    options: &StatisticsOptions,
) -> Found {
    let device = device.clone().autodiff();
    let [_, _, d, h, w] = shape;
    let z = Tensor::<5>::from_data(TensorData::new(logits(shape), shape), &device);
    let z = z.cast(FloatDType::from(dtype)).require_grad();
    let regions = grid.regions([d, h, w]).unwrap();
    let statistics = match dtype {
        DType::F64 => plain_region_statistics(z.clone(), target, &regions, options),
        _ => region_statistics(z.clone(), target, &regions, options),
    };
    let s = statistics.unwrap();
    let mut sums = vec![s.tp, s.fp, s.fn_, s.cross_entropy];
    let mut constants = vec![s.labelled, s.voxels];
    if let Some(further) = s.further {
        sums.extend([further.other_entropy, further.squares, further.focal]);
        constants.push(further.target_squares);
    }
    let mut total = Tensor::<1>::zeros([1], (&device, sums[0].dtype()));
    for (phase, sums) in sums.iter().enumerate() {
        // Another weight for every sum, exact in f32.
        let weight = |i: usize| ((i * 37 + phase * 29) % 101) as f32 / 64.0 - 0.75;
        let weights = (0..sums.shape().num_elements()).map(weight).collect();
        let weights = TensorData::new::<f32, _>(weights, sums.shape());
        let weights = Tensor::<3>::from_data(weights, &device).cast(sums.dtype());
        total = total + (sums.clone() * weights).sum();
    }
    let gradient = z.grad(&total.backward()).unwrap();
    let values = |data: TensorData| data.iter::<f64>().collect::<Vec<_>>();
    sums.extend(constants);
    Found {
        sums: sums
            .into_iter()
            .map(|sums| values(sums.into_data()))
            .collect(),
        gradient: values(gradient.into_data()),
    }
}

fn close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0f64, |a, b| a.max(b.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs();
        assert!(
            error <= tolerance * (expected.abs() + 0.5 * largest.min(1.0)),
            "{what} at {i}: {found} instead of {expected}"
        );
    }
}

fn modes() -> Vec<StatisticsOptions> {
    let base = StatisticsOptions::new().with_ignore_index(Some(0));
    let sigmoid = base.with_activation(Activation::Sigmoid);
    vec![
        base,
        base.with_further(2.0),
        sigmoid.with_further(2.0),
        sigmoid.with_further(1.5),
    ]
}

#[test]
fn gpus_equal_the_plain_operations_and_repeat_their_bits() {
    let Some(device) = common::gpu() else {
        return;
    };
    let cases = [
        ([1, 2, 4, 4, 6], RegionGrid::size([2, 2, 2]), 4),
        ([2, 3, 5, 7, 9], RegionGrid::size([2, 3, 4]), 4),
        ([2, 5, 3, 6, 40], RegionGrid::count([2, 4, 7]), 4),
        ([1, 128, 2, 3, 17], RegionGrid::WHOLE, 4),
        ([1, 1, 2, 2, 2], RegionGrid::size([1, 1, 1]), 4),
        // A region of several slices that the last one does not fill.
        ([1, 3, 29, 31, 33], RegionGrid::WHOLE, 2),
        // More cubes than one axis of a launch takes.
        ([2, 3, 24, 25, 26], RegionGrid::size([1, 1, 1]), 1),
    ];
    let cpu = Device::flex();
    for (shape, grid, modes_to_try) in cases {
        for options in modes().into_iter().take(modes_to_try) {
            for with_shares in [false, true] {
                let target = |device: &Device| match with_shares {
                    true => shares(shape, device),
                    false => class_indices(shape, DType::I32, device),
                };
                let what = format!("{shape:?} {grid:?} {options:?}, shares: {with_shares}");
                let expected = run(&cpu, DType::F64, shape, target(&cpu), grid, &options);
                let once = || run(&device, DType::F32, shape, target(&device), grid, &options);
                let found = once();
                for (i, (sums, expected)) in found.sums.iter().zip(&expected.sums).enumerate() {
                    close(sums, expected, 3e-6, &format!("sum {i} of {what}"));
                }
                close(
                    &found.gradient,
                    &expected.gradient,
                    3e-6,
                    &format!("gradient of {what}"),
                );
                let again = once();
                assert!(
                    again.sums == found.sums && again.gradient == found.gradient,
                    "{what} does not repeat"
                );
            }
        }
    }
}

#[test]
fn gpus_read_half_precision_and_small_labels() {
    let Some(device) = common::gpu() else {
        return;
    };
    let (shape, grid) = ([2, 3, 5, 7, 9], RegionGrid::size([2, 3, 4]));
    let cpu = Device::flex();
    let types = [(DType::F16, 1e-3), (DType::BF16, 8e-3)];
    let types: Vec<_> = types
        .into_iter()
        .filter(|(dtype, _)| device.supports_dtype(*dtype))
        .collect();
    println!("half precision on this device: {types:?}");
    for options in modes() {
        let target = |device: &Device| class_indices(shape, DType::I32, device);
        let expected = run(&cpu, DType::F64, shape, target(&cpu), grid, &options);
        for (dtype, tolerance) in &types {
            let found = run(&device, *dtype, shape, target(&device), grid, &options);
            for (i, (sums, expected)) in found.sums.iter().zip(&expected.sums).enumerate() {
                close(
                    sums,
                    expected,
                    3e-6,
                    &format!("sum {i} of {dtype:?} {options:?}"),
                );
            }
            let what = format!("gradient of {dtype:?} {options:?}");
            close(&found.gradient, &expected.gradient, *tolerance, &what);
        }
        for dtype in [DType::U32, DType::I8, DType::I64] {
            if !device.supports_dtype(dtype) {
                continue;
            }
            let target = class_indices(shape, dtype, &device);
            let found = run(&device, DType::F32, shape, target, grid, &options);
            for (i, (sums, expected)) in found.sums.iter().zip(&expected.sums).enumerate() {
                close(
                    sums,
                    expected,
                    3e-6,
                    &format!("sum {i} of {dtype:?} labels"),
                );
            }
        }
    }
}

#[test]
fn gpus_find_the_hardest_voxels() {
    let Some(device) = common::gpu() else {
        return;
    };
    let loss = TopKCrossEntropyLossConfig::new()
        .with_share(0.2)
        .with_ignore_index(Some(0))
        .init();
    let shape = [2, 3, 5, 7, 9];
    let value = |device: &Device| {
        // No two voxels alike.
        let (z, target) = patch(shape, device);
        loss.forward(z, target).into_scalar::<f32>()
    };
    let (found, expected) = (value(&device), value(&Device::flex()));
    assert!((found / expected - 1.0).abs() < 2e-6, "{found} {expected}");
}

/// Logits `[N, C, D, H, W]` without a pattern, and class indices.
fn patch(shape: [usize; 5], device: &Device) -> (Tensor<5>, Target) {
    let z = (0..shape.iter().product::<usize>()).map(|i| (i as f32 * 1.7).sin() * 3.0);
    let z = Tensor::<5>::from_data(TensorData::new(z.collect(), shape), device);
    (z, class_indices(shape, DType::I32, device))
}

#[test]
fn gpus_have_the_losses_of_the_cpu() {
    let Some(device) = common::gpu() else {
        return;
    };
    let shape = [2, 3, 5, 7, 9];
    let mut losses: Vec<(String, LossConfig)> = LossKind::ALL
        .into_iter()
        .map(|kind| (kind.to_string(), LossConfig::of(kind)))
        .collect();
    for name in RegionReduction::NAMES {
        for policy in EmptyRegions::NAMES {
            let config = LossConfig::of(LossKind::Arl)
                .with_region_reduction(name.parse().unwrap())
                .with_empty_regions(policy.parse().unwrap());
            losses.push((format!("arl, {name}, {policy}"), config));
        }
    }
    for (name, config) in losses {
        let loss = config.with_regions(RegionGrid::size([2, 3, 4])).init();
        let value = |device: &Device| {
            let (z, target) = patch(shape, &device.clone().autodiff());
            let z = z.require_grad();
            let value = loss.forward(z.clone(), target);
            let gradient = z.grad(&value.backward()).unwrap();
            let gradient: Vec<f64> = gradient.into_data().iter::<f64>().collect();
            (f64::from(value.into_scalar::<f32>()), gradient)
        };
        let (found, gradient) = value(&device);
        let (expected, expected_gradient) = value(&Device::flex());
        assert!(
            (found / expected - 1.0).abs() < 3e-6,
            "{name}: {found} instead of {expected}"
        );
        let largest = expected_gradient.iter().fold(0.0f64, |a, b| a.max(b.abs()));
        for (found, expected) in gradient.iter().zip(&expected_gradient) {
            assert!(
                (found - expected).abs() < 1e-5 * largest,
                "gradient of {name}: {found} instead of {expected}"
            );
        }
    }
}
