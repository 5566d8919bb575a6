//! The region statistics in one pass over the logits (two on GPUs), and their gradient in another. The plain tensor
//! operations move some thirty times as many bytes.
//!
//! - [`ops`] makes the two passes operations of Burn's backends, differentiable.
//! - `flex` runs them on the CPU. Softmax against class indices, which nearly every training uses, has a kernel of its own
//!   in `flex_labels`; all else is in `flex_general`.
//! - `cube` runs them on GPUs (and whatever else CubeCL compiles for), with the arithmetic in `cube_kernels`.

#[cfg(feature = "cubecl")]
mod cube;
#[cfg(feature = "cubecl")]
mod cube_kernels;
#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "flex")]
mod flex_general;
#[cfg(feature = "flex")]
mod flex_labels;
#[cfg(feature = "flex")]
mod flex_volume;
mod ops;

#[cfg(all(
    feature = "cubecl",
    not(any(
        feature = "wgpu",
        feature = "vulkan",
        feature = "metal",
        feature = "cuda"
    ))
))]
compile_error!(
    "the feature `cubecl` is turned on by `wgpu`, `vulkan`, `metal` and `cuda`; name one of those"
);

use crate::{Activation, FurtherStatistics, RegionStatistics, Regions, StatisticsOptions, Target};
use burn::backend::{Dispatch, DispatchDevice};
use burn::prelude::*;
use burn::tensor::{DType, FloatDType};
use ops::{Pass, RegionOps};

/// Whether these logits live where an implementation runs.
pub(crate) fn supports(logits: &Tensor<5>, regions: &Regions) -> bool {
    // Where only the CPU is built in, any regions do.
    let _ = regions;
    let device = logits.device().without_autodiff();
    let here = match device.as_dispatch() {
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(_) => true,
        #[cfg(feature = "cubecl")]
        DispatchDevice::Cube(_) => cube::fits(logits.dims(), regions),
        _ => false,
    };
    here && matches!(logits.dtype(), DType::F32 | DType::F16 | DType::BF16)
}

/// As [`crate::plain::region_statistics`], for logits that [`supports`] takes.
pub(crate) fn region_statistics(
    logits: Tensor<5>,
    target: Target,
    regions: &Regions,
    options: &StatisticsOptions,
) -> RegionStatistics {
    let [n, c, ..] = logits.dims();
    let labelled_by_index = matches!(target, Target::Labels(_));
    let sigmoid = options.activation == Activation::Sigmoid;
    let pass = Pass {
        sigmoid,
        ignore_index: options.ignore_index,
        general: sigmoid || options.further || !labelled_by_index,
        gamma: options.focal_gamma as f32,
    };
    let sums = match target {
        Target::Labels(labels) => <Dispatch as RegionOps>::region_sums(
            logits.into_dispatch(),
            labels_for_device(labels, c).into_dispatch(),
            regions.clone(),
            pass,
        ),
        Target::Shares(shares) => <Dispatch as RegionOps>::share_sums(
            logits.into_dispatch(),
            shares.detach().cast(FloatDType::F32).into_dispatch(),
            regions.clone(),
            pass,
        ),
    };
    let sums = Tensor::<4>::from_dispatch(sums);
    let sum = |i: usize| sums.clone().narrow(0, i, 1).reshape([n, c, regions.len()]);
    let labelled = sum(ops::LABELLED).detach();
    RegionStatistics {
        tp: sum(ops::TP),
        fp: sum(ops::FP),
        fn_: sum(ops::FN),
        cross_entropy: sum(ops::CE),
        voxels: match pass.general {
            false => labelled.clone().sum_dim(1),
            true if sigmoid => sum(ops::VOXELS).detach(),
            true => sum(ops::VOXELS).detach().narrow(1, 0, 1),
        },
        labelled,
        further: (sigmoid || options.further).then(|| FurtherStatistics {
            other_entropy: sum(ops::OTHER),
            squares: sum(ops::SQUARES),
            target_squares: sum(ops::TARGET_SQUARES).detach(),
            focal: sum(ops::FOCAL),
        }),
    }
}

/// As [`crate::plain::voxel_cross_entropy`], for logits that [`supports`] takes.
pub(crate) fn voxel_cross_entropy(
    logits: Tensor<5>,
    labels: Tensor<4, Int>,
    ignore_index: Option<i64>,
) -> Tensor<4> {
    let classes = logits.dims()[1];
    Tensor::from_dispatch(<Dispatch as RegionOps>::voxel_cross_entropy(
        logits.into_dispatch(),
        labels_for_device(labels, classes).into_dispatch(),
        ignore_index,
    ))
}

/// The CPU reads integers of any width. GPUs read up to 32 bits, because few have more.
fn labels_for_device(labels: Tensor<4, Int>, classes: usize) -> Tensor<4, Int> {
    #[cfg(feature = "cubecl")]
    if let DispatchDevice::Cube(_) = labels.device().without_autodiff().as_dispatch() {
        return crate::region_statistics::narrow_labels(labels, classes);
    }
    let _ = classes;
    labels
}
