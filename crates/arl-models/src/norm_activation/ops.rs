//! Normalisation and activation as one operation of Burn's backends.

use std::marker::PhantomData;

use burn::backend::autodiff::{
    Autodiff, NodeId,
    checkpoint::{
        base::Checkpointer, retro_forward::RetroForward, state::BackwardStates,
        strategy::CheckpointStrategy,
    },
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_flex::FlexTensor;

use super::kernel::{self, Options};

/// Whether this tensor lives where the kernel runs.
pub(super) fn supports(x: &Tensor<5>) -> bool {
    x.dtype() == DType::F32 && x.device() == Device::flex()
}

/// See [`super::norm_activation`].
pub(super) fn norm_activation(
    x: Tensor<5>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
    slope: f64,
) -> Tensor<5> {
    assert_eq!(
        x.dims()[1..2],
        gamma.dims(),
        "channels of the input and of gamma"
    );
    Tensor::from_dispatch(<Dispatch as NormActivationOps>::norm_activation(
        x.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        Options { epsilon, slope },
    ))
}

/// Instance normalisation and leaky ReLU of `[N, C, D, H, W]`.
#[backend_extension(Flex, Autodiff)]
pub trait NormActivationOps: Backend {
    /// Gamma and beta are `[C]`.
    fn norm_activation(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: Options,
    ) -> FloatTensor<Self>;

    /// The gradients with respect to x, gamma and beta.
    fn norm_activation_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        options: Options,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl NormActivationOps for Flex {
    fn norm_activation(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: Options,
    ) -> FloatTensor<Self> {
        let (x, gamma, beta) = (
            x.to_contiguous(),
            gamma.to_contiguous(),
            beta.to_contiguous(),
        );
        let shape = x.layout().shape().clone();
        let voxels = shape[2] * shape[3] * shape[4];
        let out = kernel::forward(
            x.storage(),
            gamma.storage(),
            beta.storage(),
            voxels,
            options,
        );
        FlexTensor::from_data(TensorData::new(out, shape))
    }

    fn norm_activation_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        options: Options,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (x, gamma, beta) = (
            x.to_contiguous(),
            gamma.to_contiguous(),
            beta.to_contiguous(),
        );
        let gradient = gradient.to_contiguous();
        let shape = x.layout().shape().clone();
        let voxels = shape[2] * shape[3] * shape[4];
        let channels = shape[1];
        let found = kernel::backward(
            x.storage(),
            gamma.storage(),
            beta.storage(),
            gradient.storage(),
            voxels,
            options,
        );
        (
            FlexTensor::from_data(TensorData::new(found.input, shape)),
            FlexTensor::from_data(TensorData::new(found.gamma, [channels])),
            FlexTensor::from_data(TensorData::new(found.beta, [channels])),
        )
    }
}

#[derive(Debug)]
struct NormActivation;

impl<B: NormActivationOps> Backward<B, 3> for NormActivation {
    /// The input, gamma and beta, by their places in the graph.
    type State = ([NodeId; 3], Options);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<B>(&ops.node);
        let (nodes, options) = ops.state;
        let [x, gamma, beta] =
            nodes.map(|node| checkpointer.retrieve_node_output::<FloatTensor<B>>(node));
        let (x, gamma, beta) = B::norm_activation_backward(x, gamma, beta, gradient, options);
        for (node, gradient) in ops.parents.into_iter().zip([x, gamma, beta]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

/// Computes the result once more for the backward pass, from what the convolution before it gave: with gradient
/// checkpointing the result itself is not kept.
#[derive(Debug, Clone)]
struct Again<B: NormActivationOps> {
    nodes: [NodeId; 3],
    options: Options,
    backend: PhantomData<B>,
}

impl<B: NormActivationOps> RetroForward for Again<B> {
    fn forward(&self, states: &mut BackwardStates, out_node: NodeId) {
        let [x, gamma, beta] = self
            .nodes
            .map(|node| states.get_state::<FloatTensor<B>>(&node));
        states.save(out_node, B::norm_activation(x, gamma, beta, self.options));
    }
}

impl<B: NormActivationOps, C: CheckpointStrategy> NormActivationOps for Autodiff<B, C> {
    fn norm_activation(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        options: Options,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), gamma.node(), beta.node()];
        let again = Again::<B> {
            nodes: [x.id(), gamma.id(), beta.id()],
            options,
            backend: PhantomData,
        };
        match NormActivation
            .prepare::<C>(nodes)
            .memory_bound()
            .retro_forward(again)
            .parents([&x, &gamma, &beta])
            .stateful()
        {
            OpsKind::Tracked(mut prep) => {
                let saved = [&x, &gamma, &beta].map(|tensor| prep.checkpoint(tensor));
                let out = B::norm_activation(
                    x.into_primitive(),
                    gamma.into_primitive(),
                    beta.into_primitive(),
                    options,
                );
                prep.finish((saved, options), out)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::norm_activation(
                x.into_primitive(),
                gamma.into_primitive(),
                beta.into_primitive(),
                options,
            )),
        }
    }

    fn norm_activation_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Options,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        // Burn's autodiff is of first order: it calls the inner backend's backward pass only.
        unreachable!("gradients of gradients are not supported by Burn's autodiff")
    }
}
