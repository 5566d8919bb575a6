//! The transposed convolution as an operation of the CPU's backend. On GPUs it is made of others.

use burn::backend::autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

use super::Geometry;
use super::ops::{ConvolutionOps, SECOND_ORDER, State};

/// See [`super::upsampling_convolution`].
pub(super) fn upsampling_convolution(
    x: Tensor<5>,
    weight: Tensor<5>,
    bias: Tensor<1>,
) -> Tensor<5> {
    let [images, inputs, d, h, w] = x.dims();
    let [channels, outputs, a, b, c] = weight.dims();
    assert_eq!(inputs, channels, "channels of the input and of the weights");
    // The convolution that this one is the transposed of.
    let geometry = Geometry {
        images,
        inputs: outputs,
        outputs: inputs,
        size: [d * a, h * b, w * c],
        kernel: [a, b, c],
        stride: [a, b, c],
        padding: [0; 3],
    };
    Tensor::from_dispatch(
        <Dispatch as TransposedConvolutionOps>::transposed_convolution(
            x.into_dispatch(),
            weight.into_dispatch(),
            bias.into_dispatch(),
            geometry,
        ),
    )
}

/// The transposed convolution, and what its gradients need beside [`ConvolutionOps`].
#[backend_extension(Flex, Autodiff)]
pub trait TransposedConvolutionOps: Backend {
    /// The way back of a convolution: `[N, Cin, D, H, W]` from `[N, Cout, D', H', W']`, its weights, and a bias `[Cin]`.
    fn transposed_convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self>;

    /// The convolution without a bias.
    fn output_gradient(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self>;
}

#[derive(Debug)]
struct TransposedConvolution;

impl<B: ConvolutionOps + TransposedConvolutionOps> Backward<B, 3> for TransposedConvolution {
    type State = State;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let [x_node, weight_node, bias_node] = ops.parents;
        let gradient = grads.consume::<B>(&ops.node);
        let (x, weight, geometry) = ops.state;
        let x: FloatTensor<B> = checkpointer.retrieve_node_output(x);
        let weight: FloatTensor<B> = checkpointer.retrieve_node_output(weight);
        if let Some(node) = bias_node {
            grads.register::<B>(node.id, B::channel_sums(gradient.clone()));
        }
        if let Some(node) = weight_node {
            // Input and output have changed places.
            let weight_gradient = B::weight_gradient(gradient.clone(), x, geometry);
            grads.register::<B>(node.id, weight_gradient);
        }
        if let Some(node) = x_node {
            grads.register::<B>(node.id, B::output_gradient(gradient, weight, geometry));
        }
    }
}

impl<B: ConvolutionOps + TransposedConvolutionOps, C: CheckpointStrategy> TransposedConvolutionOps
    for Autodiff<B, C>
{
    fn transposed_convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node()];
        match TransposedConvolution
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(mut prep) => {
                let state = (prep.checkpoint(&x), prep.checkpoint(&weight), geometry);
                let (x, weight, bias) = (
                    x.into_primitive(),
                    weight.into_primitive(),
                    bias.into_primitive(),
                );
                prep.finish(state, B::transposed_convolution(x, weight, bias, geometry))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::transposed_convolution(
                x.into_primitive(),
                weight.into_primitive(),
                bias.into_primitive(),
                geometry,
            )),
        }
    }

    // Burn's autodiff is of first order: it calls this of the inner backend only.
    fn output_gradient(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Geometry,
    ) -> FloatTensor<Self> {
        unreachable!("{SECOND_ORDER}")
    }
}
