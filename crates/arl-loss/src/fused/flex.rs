//! The two passes on the CPU.

use super::flex_volume::{Labels, Score, Target, Volume};
use super::ops::{Pass, RegionOps};
use super::{flex_general, flex_labels};
use crate::{RegionGrid, Regions};
use burn::backend::Flex;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, Element, TensorData, bf16, f16};
use burn_flex::FlexTensor;

impl RegionOps for Flex {
    fn region_sums(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        regions: Regions,
        pass: Pass,
    ) -> FloatTensor<Self> {
        let labels = labels.to_contiguous();
        sums(logits, Target::Labels(read(&labels)), &regions, pass)
    }

    fn region_sums_backward(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        gradient: FloatTensor<Self>,
        regions: Regions,
        pass: Pass,
    ) -> FloatTensor<Self> {
        let labels = labels.to_contiguous();
        let target = Target::Labels(read(&labels));
        sums_backward(logits, target, gradient, &regions, pass)
    }

    fn share_sums(
        logits: FloatTensor<Self>,
        shares: FloatTensor<Self>,
        regions: Regions,
        pass: Pass,
    ) -> FloatTensor<Self> {
        let shares = shares.to_contiguous();
        sums(logits, Target::Shares(shares.storage()), &regions, pass)
    }

    fn share_sums_backward(
        logits: FloatTensor<Self>,
        shares: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        regions: Regions,
        pass: Pass,
    ) -> FloatTensor<Self> {
        let shares = shares.to_contiguous();
        let target = Target::Shares(shares.storage());
        sums_backward(logits, target, gradient, &regions, pass)
    }

    fn voxel_cross_entropy(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        ignore_index: Option<i64>,
    ) -> FloatTensor<Self> {
        let labels = labels.to_contiguous();
        let shape = labels.layout().shape().clone();
        let whole = RegionGrid::WHOLE
            .regions([shape[1], shape[2], shape[3]])
            .expect("a volume with voxels is one region");
        let pass = Pass {
            sigmoid: false,
            ignore_index,
            general: false,
            gamma: 0.0,
        };
        let entropy = with_volume(
            logits,
            Target::Labels(read(&labels)),
            &whole,
            pass,
            VoxelCrossEntropy,
        );
        FlexTensor::from_data(TensorData::new(entropy, shape))
    }
}

fn sums(logits: FlexTensor, target: Target, regions: &Regions, pass: Pass) -> FlexTensor {
    let dims = logits.layout().shape();
    let shape = [pass.sums(), dims[0], dims[1], regions.len()];
    let sums = with_volume(logits, target, regions, pass, Forward);
    FlexTensor::from_data(TensorData::new(sums, shape))
}

fn sums_backward(
    logits: FlexTensor,
    target: Target,
    gradient: FlexTensor,
    regions: &Regions,
    pass: Pass,
) -> FlexTensor {
    let gradient = gradient.to_contiguous();
    let kernel = Backward {
        gradient: gradient.storage(),
    };
    with_volume(logits, target, regions, pass, kernel)
}

fn read(labels: &FlexTensor) -> Labels<'_> {
    match labels.dtype() {
        DType::I64 => Labels::I64(labels.storage()),
        DType::I32 => Labels::I32(labels.storage()),
        DType::I16 => Labels::I16(labels.storage()),
        DType::I8 => Labels::I8(labels.storage()),
        DType::U64 => Labels::U64(labels.storage()),
        DType::U32 => Labels::U32(labels.storage()),
        DType::U16 => Labels::U16(labels.storage()),
        DType::U8 => Labels::U8(labels.storage()),
        other => unreachable!("an integer tensor of {other:?}"),
    }
}

/// A kernel for logits of any type.
trait Kernel {
    type Output;

    fn run<E: Score + Element>(self, volume: &Volume<E>) -> Self::Output;
}

struct Forward;

impl Kernel for Forward {
    type Output = Vec<f32>;

    fn run<E: Score + Element>(self, volume: &Volume<E>) -> Vec<f32> {
        match volume.pass.general {
            true => flex_general::forward(volume),
            false => flex_labels::forward(volume),
        }
    }
}

struct Backward<'a> {
    gradient: &'a [f32],
}

impl Kernel for Backward<'_> {
    type Output = FlexTensor;

    fn run<E: Score + Element>(self, volume: &Volume<E>) -> FlexTensor {
        let [d, h, w] = volume.regions.shape();
        let out = match volume.pass.general {
            true => flex_general::backward(volume, self.gradient),
            false => flex_labels::backward(volume, self.gradient),
        };
        let shape = [volume.images, volume.classes, d, h, w];
        FlexTensor::from_data(TensorData::new(out, shape))
    }
}

struct VoxelCrossEntropy;

impl Kernel for VoxelCrossEntropy {
    type Output = Vec<f32>;

    fn run<E: Score + Element>(self, volume: &Volume<E>) -> Vec<f32> {
        flex_labels::voxel_cross_entropy(volume)
    }
}

fn with_volume<K: Kernel>(
    logits: FlexTensor,
    target: Target,
    regions: &Regions,
    pass: Pass,
    kernel: K,
) -> K::Output {
    let logits = logits.to_contiguous();
    let dims = logits.layout().shape();
    let (images, classes) = (dims[0], dims[1]);
    macro_rules! run {
        ($score:ty) => {
            kernel.run(&Volume::<$score> {
                logits: logits.storage(),
                target,
                images,
                classes,
                regions,
                pass,
            })
        };
    }
    match logits.dtype() {
        DType::F32 => run!(f32),
        DType::F16 => run!(f16),
        DType::BF16 => run!(bf16),
        other => unreachable!("fused statistics of {other:?} logits"),
    }
}
