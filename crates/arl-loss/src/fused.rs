//! The region statistics in one pass over the logits (two on GPUs), and their gradient in another. The plain tensor
//! operations move some thirty times as many bytes.
//!
//! - [`ops`] makes the two passes operations of Burn's backends, differentiable.
//! - `flex` runs them on the CPU, with the arithmetic in `flex_kernel`.
//! - `cube` runs them on GPUs (and whatever else CubeCL compiles for), with the arithmetic in `cube_kernels`.

#[cfg(feature = "cubecl")]
mod cube;
#[cfg(feature = "cubecl")]
mod cube_kernels;
#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "flex")]
mod flex_kernel;
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

use crate::{RegionStatistics, Regions};
use burn::backend::{Dispatch, DispatchDevice};
use burn::prelude::*;
use burn::tensor::{DType, IntDType};
use ops::RegionOps;

/// Whether these logits live where an implementation runs.
pub(crate) fn supports(logits: &Tensor<5>, regions: &Regions) -> bool {
    let device = logits.device().without_autodiff();
    let here = match device.as_dispatch() {
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(_) => true,
        #[cfg(feature = "cubecl")]
        DispatchDevice::Cube(_) => cube::fits(logits.dims(), regions),
        _ => false,
    };
    here && logits.dtype() == DType::F32
}

/// As [`crate::plain::region_statistics`], for logits that [`supports`] takes.
pub(crate) fn region_statistics(
    logits: Tensor<5>,
    labels: Tensor<4, Int>,
    regions: &Regions,
    ignore_index: Option<i64>,
) -> RegionStatistics {
    let [n, c, ..] = logits.dims();
    // A label that i32 can't hold must not become a class by wrapping: `c` is none.
    let labels = match labels.dtype() {
        DType::I32 => labels,
        DType::I64 => labels.clamp(-1, c as i64).cast(IntDType::I32),
        DType::U64 | DType::U32 => labels.clamp_max(c as i64).cast(IntDType::I32),
        _ => labels.cast(IntDType::I32),
    };
    let ignore_index = ignore_index.and_then(|index| i32::try_from(index).ok());
    let sums = <Dispatch as RegionOps>::region_sums(
        logits.into_dispatch(),
        labels.into_dispatch(),
        regions.clone(),
        ignore_index,
    );
    let sums = Tensor::<4>::from_dispatch(sums);
    let sum = |i: usize| sums.clone().narrow(0, i, 1).reshape([n, c, regions.len()]);
    RegionStatistics {
        tp: sum(ops::TP),
        fp: sum(ops::FP),
        fn_: sum(ops::FN),
        cross_entropy: sum(ops::CE),
        labelled: sum(ops::LABELLED).detach(),
    }
}
