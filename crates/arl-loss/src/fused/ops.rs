//! The two passes as operations of Burn's backends.

use crate::Regions;
use burn::backend::autodiff::{
    Autodiff, NodeId,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{AutodiffBackend, Backend, backend_extension};
#[cfg(feature = "cubecl")]
use burn::tensor::{DType, Shape};

/// Positions in the leading dimension of the sums.
pub(super) const TP: usize = 0;
pub(super) const FP: usize = 1;
pub(super) const FN: usize = 2;
pub(super) const CE: usize = 3;
pub(super) const LABELLED: usize = 4;
/// From here on in a general pass only.
pub(super) const VOXELS: usize = 5;
pub(super) const OTHER: usize = 6;
pub(super) const SQUARES: usize = 7;
pub(super) const TARGET_SQUARES: usize = 8;
pub(super) const FOCAL: usize = 9;

/// What a pass computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pass {
    /// Sigmoid instead of softmax.
    pub sigmoid: bool,
    /// The label that does not count.
    pub ignore_index: Option<i64>,
    /// All sums, instead of the first five. Without it: softmax against class indices.
    pub general: bool,
    /// The exponent of the focal sum.
    pub gamma: f32,
}

impl Pass {
    /// How many sums.
    pub(super) fn sums(&self) -> usize {
        if self.general { 10 } else { 5 }
    }

    /// The label of channel 0.
    pub(super) fn first_label(&self, classes: usize) -> i64 {
        i64::from(self.sigmoid && classes == 1)
    }
}

/// What fusion is told of the sums' shape.
#[cfg(feature = "cubecl")]
fn sums_shape(logits: &Shape, regions: &Regions, pass: &Pass) -> Shape {
    Shape::from([pass.sums(), logits[0], logits[1], regions.len()])
}

/// Sums over regions, and their gradient.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Cube: cfg(feature = "cubecl"),
    Fusion: cfg(feature = "cubecl"),
    Autodiff,
)]
pub trait RegionOps: Backend {
    /// Logits `[N, C, D, H, W]` (f32, f16 or bf16) and class indices `[N, D, H, W]` (any integers) to the sums
    /// `[5 or 10, N, C, K]` (f32), in the order of the constants above.
    #[fusion(dtype = DType::F32, shape = sums_shape(logits, regions, pass))]
    fn region_sums(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        regions: Regions,
        pass: Pass,
    ) -> FloatTensor<Self>;

    /// The gradient with respect to the logits, in their type, from that with respect to the sums.
    #[fusion(dtype = logits, shape = logits)]
    fn region_sums_backward(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        gradient: FloatTensor<Self>,
        regions: Regions,
        pass: Pass,
    ) -> FloatTensor<Self>;

    /// As `region_sums`, with shares `[N, C, D, H, W]` (f32) in place of labels.
    #[fusion(dtype = DType::F32, shape = sums_shape(logits, regions, pass))]
    fn share_sums(
        logits: FloatTensor<Self>,
        shares: FloatTensor<Self>,
        regions: Regions,
        pass: Pass,
    ) -> FloatTensor<Self>;

    /// As `region_sums_backward`, with shares in place of labels.
    #[fusion(dtype = logits, shape = logits)]
    fn share_sums_backward(
        logits: FloatTensor<Self>,
        shares: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        regions: Regions,
        pass: Pass,
    ) -> FloatTensor<Self>;

    /// `−ln p` of each voxel's own class, `[N, D, H, W]` (f32); 0 where it does not count. Has no gradient.
    #[fusion(dtype = DType::F32, shape = labels)]
    fn voxel_cross_entropy(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        ignore_index: Option<i64>,
    ) -> FloatTensor<Self>;
}

/// The target, as the backward pass needs it again.
#[derive(Debug, Clone)]
enum Saved<L, S> {
    Labels(L),
    Shares(S),
}

#[derive(Debug)]
struct RegionSums;

impl<B: RegionOps> Backward<B, 1> for RegionSums {
    type State = (NodeId, Saved<IntTensor<B>, FloatTensor<B>>, Regions, Pass);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let [parent] = ops.parents;
        let gradient = grads.consume::<B>(&ops.node);
        let (logits, target, regions, pass) = ops.state;
        let logits: FloatTensor<B> = checkpointer.retrieve_node_output(logits);
        if let Some(node) = parent {
            let gradient = match target {
                Saved::Labels(labels) => {
                    B::region_sums_backward(logits, labels, gradient, regions, pass)
                }
                Saved::Shares(shares) => {
                    B::share_sums_backward(logits, shares, gradient, regions, pass)
                }
            };
            grads.register::<B>(node.id, gradient);
        }
    }
}

impl<B: RegionOps, C: CheckpointStrategy> RegionOps for Autodiff<B, C> {
    fn region_sums(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        regions: Regions,
        pass: Pass,
    ) -> FloatTensor<Self> {
        tracked::<B, C>(logits, Saved::Labels(labels), regions, pass)
    }

    fn share_sums(
        logits: FloatTensor<Self>,
        shares: FloatTensor<Self>,
        regions: Regions,
        pass: Pass,
    ) -> FloatTensor<Self> {
        tracked::<B, C>(
            logits,
            Saved::Shares(shares.into_primitive()),
            regions,
            pass,
        )
    }

    fn voxel_cross_entropy(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        ignore_index: Option<i64>,
    ) -> FloatTensor<Self> {
        let entropy = B::voxel_cross_entropy(logits.into_primitive(), labels, ignore_index);
        Self::from_inner(entropy)
    }

    // Burn's autodiff is of first order: it calls the inner backend's backward passes only.

    fn region_sums_backward(
        _: FloatTensor<Self>,
        _: IntTensor<Self>,
        _: FloatTensor<Self>,
        _: Regions,
        _: Pass,
    ) -> FloatTensor<Self> {
        unreachable!("{SECOND_ORDER}")
    }

    fn share_sums_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Regions,
        _: Pass,
    ) -> FloatTensor<Self> {
        unreachable!("{SECOND_ORDER}")
    }
}

const SECOND_ORDER: &str = "gradients of gradients are not supported by Burn's autodiff";

fn sums<B: RegionOps>(
    logits: FloatTensor<B>,
    target: Saved<IntTensor<B>, FloatTensor<B>>,
    regions: Regions,
    pass: Pass,
) -> FloatTensor<B> {
    match target {
        Saved::Labels(labels) => B::region_sums(logits, labels, regions, pass),
        Saved::Shares(shares) => B::share_sums(logits, shares, regions, pass),
    }
}

fn tracked<B: RegionOps, C: CheckpointStrategy>(
    logits: FloatTensor<Autodiff<B, C>>,
    target: Saved<IntTensor<B>, FloatTensor<B>>,
    regions: Regions,
    pass: Pass,
) -> FloatTensor<Autodiff<B, C>> {
    let node = logits.node();
    match RegionSums.prepare::<C>([node]).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let id = prep.checkpoint(&logits);
            let state = (id, target.clone(), regions.clone(), pass);
            let sums = sums::<B>(logits.into_primitive(), target, regions, pass);
            prep.finish(state, sums)
        }
        OpsKind::UnTracked(prep) => {
            prep.finish(sums::<B>(logits.into_primitive(), target, regions, pass))
        }
    }
}
