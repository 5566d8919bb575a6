//! Values and gradients, on the Flex backend: f64 goes the plain way, f32 the fused one.

mod behaviour;
mod empty_regions;
mod fused;
mod gradients;
mod published;

use crate::*;
use burn::prelude::*;
use burn::tensor::{DType, TensorData};

const F32: DType = DType::F32;
const F64: DType = DType::F64;

fn tensor(values: Vec<f64>, shape: [usize; 5], dtype: DType) -> Tensor<5> {
    Tensor::from_data(
        TensorData::new(values, shape),
        (&Device::flex().autodiff(), dtype),
    )
}

fn labels(values: Vec<i64>, shape: [usize; 4]) -> Tensor<4, Int> {
    Tensor::from_data(
        TensorData::new(values, shape),
        (&Device::flex(), DType::I64),
    )
}

fn scalar(loss: Tensor<1>) -> f64 {
    loss.cast(F64).into_scalar()
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.cast(F64).into_data().try_to_vec().unwrap()
}

/// `z[b,c,i,j,k] = 2·sin(0.7b + 1.3c + 0.9i + 0.5j + 0.3k)`.
fn wave([n, c, d, h, w]: [usize; 5]) -> Vec<f64> {
    let mut z = Vec::new();
    for (b, c) in (0..n).flat_map(|b| (0..c).map(move |c| (b as f64, c as f64))) {
        for (i, j) in (0..d).flat_map(|i| (0..h).map(move |j| (i as f64, j as f64))) {
            z.extend(
                (0..w)
                    .map(|k| 2.0 * (0.7 * b + 1.3 * c + 0.9 * i + 0.5 * j + 0.3 * k as f64).sin()),
            );
        }
    }
    z
}

/// `y[b,i,j,k] = (b + 2i + j + floor(k/2)) mod 3`.
fn stripes([n, d, h, w]: [usize; 4]) -> Vec<i64> {
    let mut y = Vec::new();
    for (b, i) in (0..n).flat_map(|b| (0..d).map(move |i| (b, i))) {
        for (j, k) in (0..h).flat_map(|j| (0..w).map(move |k| (j, k))) {
            y.push(((b + 2 * i + j + k / 2) % 3) as i64);
        }
    }
    y
}

fn reference(dtype: DType) -> (Tensor<5>, Tensor<4, Int>) {
    let z = tensor(wave([2, 3, 4, 4, 6]), [2, 3, 4, 4, 6], dtype);
    (z, labels(stripes([2, 4, 4, 6]), [2, 4, 4, 6]))
}

fn arl(regions: RegionGrid) -> AdaptiveRegionLossConfig {
    AdaptiveRegionLossConfig::published().with_regions(regions)
}

#[track_caller]
fn assert_close(value: f64, expected: f64, tolerance: f64) {
    assert!(
        (value - expected).abs() <= tolerance,
        "{value} is not {expected} to {tolerance:e}"
    );
}
