//! The region statistics on the CPU (Burn's Flex backend, f32) in one pass over the logits, and their gradient in
//! another. The plain tensor operations move some thirty times as many bytes.
//!
//! - [`ops`](self::ops) makes the two passes operations of the backend, differentiable.
//! - [`kernel`](self::kernel) is the arithmetic on slices.

mod kernel;
mod ops;

use crate::{RegionStatistics, Regions};
use burn::backend::Dispatch;
use burn::prelude::*;
use burn::tensor::{DType, IntDType};
use ops::RegionOps;

/// Whether these logits live where this implementation runs.
pub(crate) fn supports(logits: &Tensor<5>) -> bool {
    logits.dtype() == DType::F32 && logits.device() == Device::flex()
}

/// As [`crate::plain::region_statistics`], for logits that [`supports`] takes.
pub(crate) fn region_statistics(
    logits: Tensor<5>,
    labels: Tensor<4, Int>,
    regions: &Regions,
    ignore_index: Option<i64>,
) -> RegionStatistics {
    let [n, c, ..] = logits.dims();
    // Labels that i32 cannot hold are in no class either way.
    let labels = if labels.dtype() == DType::I32 {
        labels
    } else {
        labels.cast(IntDType::I32)
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
        tp: sum(kernel::TP),
        fp: sum(kernel::FP),
        fn_: sum(kernel::FN),
        cross_entropy: sum(kernel::CE),
        labelled: sum(kernel::LABELLED).detach(),
    }
}
