//! The region statistics in plain tensor operations: they run on every backend, are differentiated by Burn,
//! and are what faster implementations are tested against.

use crate::region_statistics::first_label;
use crate::{Activation, FurtherStatistics, RegionStatistics, Regions, StatisticsOptions, Target};
use burn::prelude::*;
use burn::tensor::activation::{log_sigmoid, log_softmax};
use burn::tensor::{DType, IntDType, TensorData};

pub(crate) fn region_statistics(
    logits: Tensor<5>,
    target: Target,
    regions: &Regions,
    options: &StatisticsOptions,
) -> RegionStatistics {
    let (dtype, sigmoid) = (logits.dtype(), options.activation == Activation::Sigmoid);
    let (g, counts) = shares(&logits, target, options);
    // What does not count must not be a number's problem either: 0 times NaN is NaN.
    let logits = logits.mask_fill(counts.clone().bool_not(), 0.0);
    let valid = counts.float().cast(dtype);
    let (log_p, log_q) = if sigmoid {
        let log_q = finite(log_sigmoid(-logits.clone()));
        (finite(log_sigmoid(logits)), Some(log_q))
    } else {
        (finite(log_softmax(logits, 1)), None)
    };
    let p = log_p.clone().exp();
    let q = match &log_q {
        Some(log_q) => log_q.clone().exp(),
        None => -p.clone() + 1.0,
    };
    let not_g = valid.clone() - g.clone();
    let sum = |x: Tensor<5>| region_sum(x, regions);
    let voxels = match sigmoid {
        true => sum(valid.clone()),
        false => sum(valid.clone().narrow(1, 0, 1)),
    };
    let further = (sigmoid || options.further).then(|| {
        // Burn's derivative of a power below 1 is infinite at 0.
        let power = |x: &Tensor<5>| x.clone().clamp_min(1e-30).powf_scalar(options.focal_gamma);
        let focal = power(&q) * log_p.clone() * g.clone();
        let (other_entropy, focal) = match log_q {
            Some(log_q) => {
                let negative = log_q * not_g.clone();
                let focal = focal + power(&p) * negative.clone();
                (-negative, focal)
            }
            None => (-log_p.clone() * valid.clone(), focal),
        };
        FurtherStatistics {
            other_entropy: sum(other_entropy),
            squares: sum(p.clone() * p.clone() * valid),
            target_squares: sum(g.clone() * g.clone()),
            focal: sum(-focal),
        }
    });
    // Each sum adds up its own terms. FP = Σp − TP would lose its digits where FP is small.
    RegionStatistics {
        tp: sum(p.clone() * g.clone()),
        fp: sum(p * not_g),
        fn_: sum(q * g.clone()),
        cross_entropy: sum(-log_p * g.clone()),
        labelled: sum(g),
        voxels,
        further,
    }
}

/// −∞, of a class whose logit is −∞, as a number, so that a share of 0 makes 0 of it. NaN stays.
fn finite(logarithm: Tensor<5>) -> Tensor<5> {
    let infinite = logarithm.clone().lower_elem(-1e30);
    logarithm.mask_fill(infinite, -1e30)
}

/// The share of each class in each voxel, 0 where it does not count, and what counts; `[N, C, D, H, W]` both.
fn shares(
    logits: &Tensor<5>,
    target: Target,
    options: &StatisticsOptions,
) -> (Tensor<5>, Tensor<5, Bool>) {
    let [n, classes, d, h, w] = logits.dims();
    let (device, dtype) = (logits.device(), logits.dtype());
    match target {
        Target::Labels(labels) => {
            let labels: Tensor<5, Int> = wide(labels).unsqueeze_dim(1);
            let first = first_label(options.activation, classes);
            let counts = label_counts(labels.clone(), first + classes as i64, options.ignore_index);
            let class = Tensor::<1, Int>::arange(first..first + classes as i64, &device);
            let class = class.reshape([1, classes, 1, 1, 1]).cast(labels.dtype());
            let g = labels.equal(class).bool_and(counts.clone());
            (g.float().cast(dtype), counts.expand([n, classes, d, h, w]))
        }
        Target::Shares(shares) => {
            let shares = shares.detach().cast(dtype);
            let counts = shares.clone().greater_equal_elem(0.0);
            let counts = match options.activation {
                Activation::Sigmoid => counts,
                Activation::Softmax => counts.all_dim(1).expand([n, classes, d, h, w]),
            };
            (shares.mask_fill(counts.clone().bool_not(), 0.0), counts)
        }
    }
}

/// Small integers as i32, so that a number of classes or an ignored label beyond their range does not wrap.
pub(crate) fn wide<const D: usize>(labels: Tensor<D, Int>) -> Tensor<D, Int> {
    match labels.dtype() {
        DType::I8 | DType::I16 | DType::U8 | DType::U16 => labels.cast(IntDType::I32),
        _ => labels,
    }
}

/// Where a label is a class and not ignored.
pub(crate) fn label_counts<const D: usize>(
    labels: Tensor<D, Int>,
    end: i64,
    ignore_index: Option<i64>,
) -> Tensor<D, Bool> {
    let outside = labels
        .clone()
        .lower_elem(0)
        .bool_or(labels.clone().greater_equal_elem(end));
    // A label below 0 counts nowhere as it is, and unsigned ones can't be compared with it.
    let outside = match ignore_index.filter(|&index| index >= 0) {
        Some(index) => outside.bool_or(labels.equal_elem(index)),
        None => outside,
    };
    outside.bool_not()
}

/// The cross entropy of each voxel and class, `[N, C, D, H, W]`, 0 where it does not count.
pub(crate) fn cross_entropy(
    logits: Tensor<5>,
    target: Target,
    options: &StatisticsOptions,
) -> Tensor<5> {
    let (g, counts) = shares(&logits, target, options);
    let valid = counts.clone().float().cast(logits.dtype());
    let logits = logits.mask_fill(counts.bool_not(), 0.0);
    match options.activation {
        Activation::Softmax => -log_softmax(logits, 1) * g,
        Activation::Sigmoid => {
            let negative = log_sigmoid(-logits.clone()) * (valid - g.clone());
            -log_sigmoid(logits) * g - negative
        }
    }
}

/// `−ln p` of each voxel's own class, `[N, D, H, W]`, 0 where it does not count.
pub(crate) fn voxel_cross_entropy(
    logits: Tensor<5>,
    labels: Tensor<4, Int>,
    ignore_index: Option<i64>,
) -> Tensor<4> {
    let labels = wide(labels);
    let counts = label_counts(labels.clone(), logits.dims()[1] as i64, ignore_index);
    let ignored = counts.bool_not();
    let own = labels.mask_fill(ignored.clone(), 0).unsqueeze_dim::<5>(1);
    let entropy = -log_softmax(logits, 1).gather(1, own).squeeze_dim::<4>(1);
    entropy.mask_fill(ignored, 0.0)
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
