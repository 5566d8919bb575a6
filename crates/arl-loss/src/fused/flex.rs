//! The two passes on the CPU.

use super::flex_kernel::{self as kernel, Volume};
use super::ops::{RegionOps, SUMS};
use crate::Regions;
use burn::backend::Flex;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::TensorData;
use burn_flex::FlexTensor;

impl RegionOps for Flex {
    fn region_sums(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        regions: Regions,
        ignore_index: Option<i32>,
    ) -> FloatTensor<Self> {
        let (logits, labels) = (logits.to_contiguous(), labels.to_contiguous());
        let volume = volume(&logits, &labels, &regions, ignore_index);
        let shape = [SUMS, volume.images, volume.classes, regions.len()];
        FlexTensor::from_data(TensorData::new(kernel::forward(&volume), shape))
    }

    fn region_sums_backward(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        gradient: FloatTensor<Self>,
        regions: Regions,
        ignore_index: Option<i32>,
    ) -> FloatTensor<Self> {
        let (logits, labels) = (logits.to_contiguous(), labels.to_contiguous());
        let gradient = gradient.to_contiguous();
        let volume = volume(&logits, &labels, &regions, ignore_index);
        let out = kernel::backward(&volume, gradient.storage::<f32>());
        FlexTensor::from_data(TensorData::new(out, logits.layout().shape().clone()))
    }
}

fn volume<'a>(
    logits: &'a FlexTensor,
    labels: &'a FlexTensor,
    regions: &'a Regions,
    ignore_index: Option<i32>,
) -> Volume<'a> {
    let shape = logits.layout().shape();
    Volume {
        logits: logits.storage::<f32>(),
        labels: labels.storage::<i32>(),
        images: shape[0],
        classes: shape[1],
        regions,
        ignore_index,
    }
}
