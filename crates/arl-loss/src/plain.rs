//! The region statistics in plain tensor operations: they run on every backend, are differentiated by Burn,
//! and are what faster implementations are tested against.

use crate::{RegionStatistics, Regions};
use burn::prelude::*;
use burn::tensor::{DType, TensorData, activation::log_softmax};

pub(crate) fn region_statistics(
    logits: Tensor<5>,
    labels: Tensor<4, Int>,
    regions: &Regions,
    ignore_index: Option<i64>,
) -> RegionStatistics {
    let classes = logits.dims()[1];
    let dtype = logits.dtype();
    let device = logits.device();

    // −1 is no class: an ignored voxel is 0 in every channel of the one-hot labels.
    let labels: Tensor<5, Int> = labels.unsqueeze_dim(1);
    let labels = match ignore_index {
        Some(index) => {
            let ignored = labels.clone().equal_elem(index);
            labels.mask_fill(ignored, -1)
        }
        None => labels,
    };
    let class = Tensor::<1, Int>::arange(0..classes as i64, &device).reshape([1, classes, 1, 1, 1]);
    let class = class.cast(labels.dtype());
    let g = labels.clone().equal(class).float().cast(dtype);
    let outside = labels
        .clone()
        .lower_elem(0)
        .bool_or(labels.greater_equal_elem(classes as i64));
    let valid = outside.bool_not().float().cast(dtype);

    let log_p = log_softmax(logits, 1);
    let p = log_p.clone().exp();
    // Each sum adds up its own terms. FP = Σp − TP would lose its digits where FP is small.
    RegionStatistics {
        tp: region_sum(p.clone() * g.clone(), regions),
        fp: region_sum(p.clone() * (valid - g.clone()), regions),
        fn_: region_sum((-p + 1.0) * g.clone(), regions),
        cross_entropy: region_sum(-log_p * g.clone(), regions),
        labelled: region_sum(g, regions),
    }
}

/// `[N, C, D, H, W]` to `[N, C, K]`, one axis after the other. Rank stays at 4, which every backend takes,
/// and no matrix product is used, because GPUs may round its inputs to TF32.
fn region_sum(x: Tensor<5>, regions: &Regions) -> Tensor<3> {
    let [n, c, d, h, w] = x.dims();
    let [_, kh, kw] = regions.counts();
    let x = sum_intervals(x.reshape([n * c * d * h, w, 1]), regions, 2);
    let x = sum_intervals(x.reshape([n * c * d, h, kw]), regions, 1);
    let x = sum_intervals(x.reshape([n * c, d, kh * kw]), regions, 0);
    x.reshape([n, c, regions.len()])
}

/// Sums the middle dimension over the intervals of one axis.
fn sum_intervals(x: Tensor<3>, regions: &Regions, axis: usize) -> Tensor<3> {
    let [outer, length, inner] = x.dims();
    let count = regions.counts()[axis];
    let (x, part) = match regions.even_length(axis) {
        Some(part) => (x, part),
        None => pad_intervals(x, regions, axis),
    };
    if part == 1 && count == length {
        return x;
    }
    x.reshape([outer, count, part, inner])
        .sum_dim(2)
        .reshape([outer, count, inner])
}

/// Brings uneven intervals to the length of the longest: one gather and a 0/1 weight, whose backward costs one
/// pass, where a slice per interval would cost a full-size zero tensor each.
fn pad_intervals(x: Tensor<3>, regions: &Regions, axis: usize) -> (Tensor<3>, usize) {
    let part = regions
        .intervals(axis)
        .map(|interval| interval.len())
        .max()
        .unwrap_or(0);
    let mut index = Vec::new();
    let mut weight = Vec::new();
    for interval in regions.intervals(axis) {
        for i in 0..part {
            index.push((interval.start + i).min(interval.end - 1) as i64);
            weight.push(if i < interval.len() { 1.0f32 } else { 0.0 });
        }
    }
    let len = index.len();
    let (device, dtype) = (x.device(), x.dtype());
    let index = Tensor::<1, Int>::from_data(TensorData::new(index, [len]), &device);
    let weight =
        Tensor::<3>::from_data(TensorData::new(weight, [1, len, 1]), (&device, DType::F32))
            .cast(dtype);
    (x.select(1, index) * weight, part)
}
