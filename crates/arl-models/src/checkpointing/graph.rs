//! A stage as one operation of Burn's graph, whatever the number of its inputs and parameters.
//!
//! An operation of Burn has a fixed number of parents. So the parents are tied together one by one, by operations that compute
//! nothing ([`tied`]), and the stage has the last of those as its one parent ([`computed_again`]). Its backward pass leaves each
//! parent's gradient in a [`Slot`], from which that parent's tie hands it on.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Backend, Dispatch, DispatchKindConversion, DispatchTensor, TensorMetadata, backend_extension,
};
use burn::tensor::{Shape, Tensor};

/// Holds a gradient on its way to the tensor that it belongs to.
#[derive(Clone, Default)]
pub(crate) struct Slot(Arc<Mutex<Option<DispatchTensor>>>);

impl Slot {
    pub(super) fn fill<const D: usize>(&self, gradient: Tensor<D>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *held = Some(gradient.into_dispatch());
    }

    fn take(&self) -> Option<DispatchTensor> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.take()
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}

/// Fills all slots, given the gradient of the result.
type Again = Box<dyn FnOnce(Tensor<5>) + Send>;

/// What fills the slots; once.
#[derive(Clone)]
pub(crate) struct Stage(Arc<Mutex<Option<Again>>>);

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stage")
    }
}

/// `tie`, from now on with one more parent: `source`, whose gradient will be in `slot`.
pub(super) fn tied<const D: usize>(tie: Tensor<1>, source: Tensor<D>, slot: Slot) -> Tensor<1> {
    Tensor::from_dispatch(<Dispatch as StageOps>::tied(
        tie.into_dispatch(),
        source.into_dispatch(),
        slot,
    ))
}

/// `output`, which has no graph, as the result of what is tied together; `again` fills the slots, given its gradient.
pub(super) fn computed_again(
    output: Tensor<5>,
    tie: Tensor<1>,
    again: impl FnOnce(Tensor<5>) + Send + 'static,
) -> Tensor<5> {
    let again: Again = Box::new(again);
    Tensor::from_dispatch(<Dispatch as StageOps>::computed_again(
        tie.into_dispatch(),
        output.into_dispatch(),
        Stage(Arc::new(Mutex::new(Some(again)))),
    ))
}

/// A number whose gradient with respect to `output` is `gradient`.
pub(super) fn seeded(output: Tensor<5>, gradient: Tensor<5>) -> Tensor<1> {
    Tensor::from_dispatch(<Dispatch as StageOps>::seeded(
        output.into_dispatch(),
        gradient.into_dispatch(),
    ))
}

/// Operations that only the graph knows: backends that take no gradients have nothing to do.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Cube: cfg(feature = "cubecl"),
    Fusion: cfg(feature = "cubecl"),
    Autodiff,
)]
pub trait StageOps: Backend {
    /// See [`tied`].
    #[fusion(default)]
    fn tied(tie: FloatTensor<Self>, _source: FloatTensor<Self>, _slot: Slot) -> FloatTensor<Self> {
        tie
    }

    /// See [`computed_again`].
    #[fusion(default)]
    fn computed_again(
        _tie: FloatTensor<Self>,
        output: FloatTensor<Self>,
        _stage: Stage,
    ) -> FloatTensor<Self> {
        output
    }

    /// See [`seeded`].
    #[fusion(default)]
    fn seeded(output: FloatTensor<Self>, _gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        one_number::<Self>(&output)
    }
}

#[cfg(feature = "flex")]
impl StageOps for burn::backend::Flex {}

#[cfg(feature = "cubecl")]
impl StageOps for burn_cubecl::Cube {}

/// A tensor of one element, which is 0, where `like` is.
fn one_number<B: Backend>(like: &FloatTensor<B>) -> FloatTensor<B> {
    B::float_zeros(Shape::from([1]), &like.device(), like.dtype().into())
}

#[derive(Debug)]
struct Tied;

impl<B: StageOps> Backward<B, 2> for Tied
where
    DispatchTensor: DispatchKindConversion<B>,
{
    type State = Slot;

    fn backward(self, ops: Ops<Slot, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let nothing = grads.consume::<B>(&ops.node);
        let [tie, source] = ops.parents;
        if let Some(node) = tie {
            grads.register::<B>(node.id, nothing);
        }
        if let (Some(node), Some(gradient)) = (source, ops.state.take()) {
            // The rank of a tensor is its type's alone.
            let gradient = Tensor::<1>::from_dispatch(gradient).try_into_primitive::<B>();
            let gradient = gradient.expect("the gradient of a tensor is where the tensor is");
            grads.register::<B>(node.id, gradient);
        }
    }
}

#[derive(Debug)]
struct ComputedAgain;

impl<B: StageOps> Backward<B, 1> for ComputedAgain
where
    DispatchTensor: DispatchKindConversion<B>,
{
    type State = Stage;

    fn backward(self, ops: Ops<Stage, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let [tie] = ops.parents;
        if let Some(node) = tie {
            grads.register::<B>(node.id, one_number::<B>(&gradient));
        }
        let again = {
            let mut held = ops.state.0.lock().unwrap_or_else(PoisonError::into_inner);
            held.take()
        };
        let again = again.expect("Burn goes back through an operation once");
        again(Tensor::from_primitive::<B>(gradient));
    }
}

#[derive(Debug)]
struct Seeded;

impl<B: Backend> Backward<B, 1> for Seeded {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<FloatTensor<B>, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [output] = ops.parents;
        if let Some(node) = output {
            grads.register::<B>(node.id, ops.state);
        }
    }
}

impl<B: StageOps, C: CheckpointStrategy> StageOps for Autodiff<B, C>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    fn tied(tie: FloatTensor<Self>, source: FloatTensor<Self>, slot: Slot) -> FloatTensor<Self> {
        let prepared = Backward::<B, 2>::prepare::<C>(Tied, [tie.node(), source.node()]);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(slot, tie.into_primitive()),
            OpsKind::UnTracked(prep) => prep.finish(tie.into_primitive()),
        }
    }

    fn computed_again(
        tie: FloatTensor<Self>,
        output: FloatTensor<Self>,
        stage: Stage,
    ) -> FloatTensor<Self> {
        let prepared = Backward::<B, 1>::prepare::<C>(ComputedAgain, [tie.node()]);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(stage, output.into_primitive()),
            OpsKind::UnTracked(prep) => prep.finish(output.into_primitive()),
        }
    }

    fn seeded(output: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        let number = one_number::<B>(output.primitive());
        let prepared = Backward::<B, 1>::prepare::<C>(Seeded, [output.node()]);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(gradient.into_primitive(), number),
            OpsKind::UnTracked(prep) => prep.finish(number),
        }
    }
}
