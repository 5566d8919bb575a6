//! The two passes as operations of Burn's backends.

use crate::Regions;
use burn::backend::autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, backend_extension};
#[cfg(feature = "cubecl")]
use burn::tensor::Shape;

/// Positions in the leading dimension of the sums `[5, N, C, K]`.
pub(super) const TP: usize = 0;
pub(super) const FP: usize = 1;
pub(super) const FN: usize = 2;
pub(super) const CE: usize = 3;
pub(super) const LABELLED: usize = 4;
pub(super) const SUMS: usize = 5;

/// What fusion is told of the sums' shape.
#[cfg(feature = "cubecl")]
fn sums_shape(logits: &Shape, regions: &Regions) -> Shape {
    Shape::from([SUMS, logits[0], logits[1], regions.len()])
}

/// Sums over regions, and their gradient.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Cube: cfg(feature = "cubecl"),
    Fusion: cfg(feature = "cubecl"),
    Autodiff,
)]
pub trait RegionOps: Backend {
    /// Logits `[N, C, D, H, W]` (f32) and labels `[N, D, H, W]` (i32) to the sums `[5, N, C, K]`, in the order of the
    /// constants above.
    #[fusion(dtype = logits, shape = sums_shape(logits, regions))]
    fn region_sums(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        regions: Regions,
        ignore_index: Option<i32>,
    ) -> FloatTensor<Self>;

    /// The gradient with respect to the logits, from that with respect to the sums.
    #[fusion(dtype = logits, shape = logits)]
    fn region_sums_backward(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        gradient: FloatTensor<Self>,
        regions: Regions,
        ignore_index: Option<i32>,
    ) -> FloatTensor<Self>;
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
