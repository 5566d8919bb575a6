//! The two passes as operations of Burn's backends.

use super::kernel::{self, Volume};
use crate::Regions;
use burn::backend::autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Flex, backend_extension};
use burn::tensor::TensorData;
use burn_flex::FlexTensor;

/// Sums over regions, and their gradient.
#[backend_extension(Flex, Autodiff)]
pub trait RegionOps: Backend {
    /// Logits `[N, C, D, H, W]` and labels `[N, D, H, W]` (i32) to the sums `[5, N, C, K]`, in the order of the
    /// constants in [`kernel`].
    fn region_sums(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        regions: Regions,
        ignore_index: Option<i32>,
    ) -> FloatTensor<Self>;

    /// The gradient with respect to the logits, from that with respect to the sums.
    fn region_sums_backward(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        gradient: FloatTensor<Self>,
        regions: Regions,
        ignore_index: Option<i32>,
    ) -> FloatTensor<Self>;
}

impl RegionOps for Flex {
    fn region_sums(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        regions: Regions,
        ignore_index: Option<i32>,
    ) -> FloatTensor<Self> {
        let (logits, labels) = (logits.to_contiguous(), labels.to_contiguous());
        let volume = volume(&logits, &labels, &regions, ignore_index);
        let shape = [5, volume.images, volume.classes, regions.len()];
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

/// What the backward pass needs besides the logits.
#[derive(Debug, Clone)]
struct Saved<L> {
    labels: L,
    regions: Regions,
    ignore_index: Option<i32>,
}

#[derive(Debug)]
struct RegionSums;

impl<B: RegionOps> Backward<B, 1> for RegionSums {
    type State = (burn::backend::autodiff::NodeId, Saved<IntTensor<B>>);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let [parent] = ops.parents;
        let gradient = grads.consume::<B>(&ops.node);
        let (logits, saved) = ops.state;
        let logits: FloatTensor<B> = checkpointer.retrieve_node_output(logits);
        if let Some(node) = parent {
            let gradient = B::region_sums_backward(
                logits,
                saved.labels,
                gradient,
                saved.regions,
                saved.ignore_index,
            );
            grads.register::<B>(node.id, gradient);
        }
    }
}

impl<B: RegionOps, C: CheckpointStrategy> RegionOps for Autodiff<B, C> {
    fn region_sums(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        regions: Regions,
        ignore_index: Option<i32>,
    ) -> FloatTensor<Self> {
        match RegionSums
            .prepare::<C>([logits.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(mut prep) => {
                let saved = Saved {
                    labels: labels.clone(),
                    regions: regions.clone(),
                    ignore_index,
                };
                let id = prep.checkpoint(&logits);
                prep.finish(
                    (id, saved),
                    B::region_sums(logits.into_primitive(), labels, regions, ignore_index),
                )
            }
            OpsKind::UnTracked(prep) => prep.finish(B::region_sums(
                logits.into_primitive(),
                labels,
                regions,
                ignore_index,
            )),
        }
    }

    fn region_sums_backward(
        _: FloatTensor<Self>,
        _: IntTensor<Self>,
        _: FloatTensor<Self>,
        _: Regions,
        _: Option<i32>,
    ) -> FloatTensor<Self> {
        // Burn's autodiff is of first order: it calls the inner backend's backward pass only.
        unreachable!("gradients of gradients are not supported by Burn's autodiff")
    }
}
