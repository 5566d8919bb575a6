//! The convolutions as operations of Burn's backends.

use burn::backend::autodiff::{
    Autodiff, NodeId,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_flex::FlexTensor;

use super::kernel::{self, Geometry};

/// Whether this tensor lives where the kernels run.
pub(super) fn supports(x: &Tensor<5>) -> bool {
    x.dtype() == DType::F32 && x.device() == Device::flex()
}

/// See [`super::convolution`].
pub(super) fn convolution(
    x: Tensor<5>,
    weight: Tensor<5>,
    bias: Tensor<1>,
    stride: [usize; 3],
    padding: [usize; 3],
) -> Tensor<5> {
    let [images, inputs, d, h, w] = x.dims();
    let [outputs, channels, kd, kh, kw] = weight.dims();
    assert_eq!(inputs, channels, "channels of the input and of the weights");
    let fits = |axis: usize| [d, h, w][axis] + 2 * padding[axis] >= [kd, kh, kw][axis];
    assert!(
        (0..3).all(fits) && ![images, inputs, outputs, d, h, w].contains(&0),
        "a kernel of {:?} on {:?}",
        [kd, kh, kw],
        x.dims()
    );
    let geometry = Geometry {
        images,
        inputs,
        outputs,
        size: [d, h, w],
        kernel: [kd, kh, kw],
        stride,
        padding,
    };
    Tensor::from_dispatch(<Dispatch as ConvolutionOps>::convolution(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        geometry,
    ))
}

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
    Tensor::from_dispatch(<Dispatch as ConvolutionOps>::transposed_convolution(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        geometry,
    ))
}

/// Convolutions, and what their gradients are made of.
#[backend_extension(Flex, Autodiff)]
pub trait ConvolutionOps: Backend {
    /// `[N, Cout, D', H', W']` from `[N, Cin, D, H, W]`, `[Cout, Cin, kernel]` and `[Cout]`.
    fn convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self>;

    /// The way back: `[N, Cin, D, H, W]` from `[N, Cout, D', H', W']`, the same weights, and a bias `[Cin]`.
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

    /// The gradient of a convolution with respect to its input.
    fn input_gradient(
        gradient: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self>;

    /// The gradient of a convolution with respect to its weights.
    fn weight_gradient(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self>;

    /// The sum of each channel of `[N, C, D, H, W]`, `[C]`: the gradient with respect to a bias.
    fn channel_sums(values: FloatTensor<Self>) -> FloatTensor<Self>;
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

fn input_shape(geometry: &Geometry) -> [usize; 5] {
    let [d, h, w] = geometry.size;
    [geometry.images, geometry.inputs, d, h, w]
}

fn output_shape(geometry: &Geometry) -> [usize; 5] {
    let [d, h, w] = geometry.output();
    [geometry.images, geometry.outputs, d, h, w]
}

impl ConvolutionOps for Flex {
    fn convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        let (x, weight, bias) = (
            x.to_contiguous(),
            weight.to_contiguous(),
            bias.to_contiguous(),
        );
        let out = kernel::forward(
            &geometry,
            x.storage(),
            weight.storage(),
            Some(bias.storage()),
        );
        tensor(out, output_shape(&geometry))
    }

    fn transposed_convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        let (x, weight, bias) = (
            x.to_contiguous(),
            weight.to_contiguous(),
            bias.to_contiguous(),
        );
        let out = kernel::input_gradient(
            &geometry,
            x.storage(),
            weight.storage(),
            Some(bias.storage()),
        );
        tensor(out, input_shape(&geometry))
    }

    fn output_gradient(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
        let out = kernel::forward(&geometry, x.storage(), weight.storage(), None);
        tensor(out, output_shape(&geometry))
    }

    fn input_gradient(
        gradient: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        let (gradient, weight) = (gradient.to_contiguous(), weight.to_contiguous());
        let out = kernel::input_gradient(&geometry, gradient.storage(), weight.storage(), None);
        tensor(out, input_shape(&geometry))
    }

    fn weight_gradient(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        let (x, gradient) = (x.to_contiguous(), gradient.to_contiguous());
        let out = kernel::weight_gradient(&geometry, x.storage(), gradient.storage());
        let [d, h, w] = geometry.kernel;
        tensor(out, [geometry.outputs, geometry.inputs, d, h, w])
    }

    fn channel_sums(values: FloatTensor<Self>) -> FloatTensor<Self> {
        let values = values.to_contiguous();
        let shape = values.layout().shape();
        let (channels, voxels) = (shape[1], shape[2] * shape[3] * shape[4]);
        let sums = kernel::channel_sums(values.storage(), channels, voxels);
        tensor(sums, [channels])
    }
}

/// The inputs and the weights, by their places in the graph.
type State = (NodeId, NodeId, Geometry);

#[derive(Debug)]
struct Convolution;

impl<B: ConvolutionOps> Backward<B, 3> for Convolution {
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
            let weight_gradient = B::weight_gradient(x, gradient.clone(), geometry);
            grads.register::<B>(node.id, weight_gradient);
        }
        // The images themselves need no gradient.
        if let Some(node) = x_node {
            grads.register::<B>(node.id, B::input_gradient(gradient, weight, geometry));
        }
    }
}

#[derive(Debug)]
struct TransposedConvolution;

impl<B: ConvolutionOps> Backward<B, 3> for TransposedConvolution {
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

const SECOND_ORDER: &str = "gradients of gradients are not supported by Burn's autodiff";

impl<B: ConvolutionOps, C: CheckpointStrategy> ConvolutionOps for Autodiff<B, C> {
    fn convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node()];
        match Convolution.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = (prep.checkpoint(&x), prep.checkpoint(&weight), geometry);
                let (x, weight, bias) = (
                    x.into_primitive(),
                    weight.into_primitive(),
                    bias.into_primitive(),
                );
                prep.finish(state, B::convolution(x, weight, bias, geometry))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::convolution(
                x.into_primitive(),
                weight.into_primitive(),
                bias.into_primitive(),
                geometry,
            )),
        }
    }

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

    // Burn's autodiff is of first order: it calls these of the inner backend only.

    fn output_gradient(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Geometry,
    ) -> FloatTensor<Self> {
        unreachable!("{SECOND_ORDER}")
    }

    fn input_gradient(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Geometry,
    ) -> FloatTensor<Self> {
        unreachable!("{SECOND_ORDER}")
    }

    fn weight_gradient(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Geometry,
    ) -> FloatTensor<Self> {
        unreachable!("{SECOND_ORDER}")
    }

    fn channel_sums(_: FloatTensor<Self>) -> FloatTensor<Self> {
        unreachable!("{SECOND_ORDER}")
    }
}
