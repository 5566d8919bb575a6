//! The convolution as an operation of Burn's backends.

use burn::backend::autodiff::{
    Autodiff, NodeId,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
#[cfg(feature = "cubecl")]
use burn::tensor::Shape;
use burn::tensor::Tensor;

use super::Geometry;

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

/// What fusion is told of shapes.
#[cfg(feature = "cubecl")]
mod shapes {
    use super::{Geometry, Shape};

    pub(super) fn input(geometry: &Geometry) -> Shape {
        let [d, h, w] = geometry.size;
        Shape::from([geometry.images, geometry.inputs, d, h, w])
    }

    pub(super) fn output(geometry: &Geometry) -> Shape {
        let [d, h, w] = geometry.output();
        Shape::from([geometry.images, geometry.outputs, d, h, w])
    }

    pub(super) fn weight(geometry: &Geometry) -> Shape {
        let [d, h, w] = geometry.kernel;
        Shape::from([geometry.outputs, geometry.inputs, d, h, w])
    }

    pub(super) fn channels(values: &Shape) -> Shape {
        Shape::from([values[1]])
    }
}

/// Convolution, and its gradients.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Cube: cfg(feature = "cubecl"),
    Fusion: cfg(feature = "cubecl"),
    Autodiff,
)]
pub trait ConvolutionOps: Backend {
    /// `[N, Cout, D', H', W']` from `[N, Cin, D, H, W]`, `[Cout, Cin, kernel]` and `[Cout]`.
    #[fusion(dtype = x, shape = shapes::output(geometry))]
    fn convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self>;

    /// The gradient of a convolution with respect to its input.
    #[fusion(dtype = gradient, shape = shapes::input(geometry))]
    fn input_gradient(
        gradient: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self>;

    /// The gradient of a convolution with respect to its weights.
    #[fusion(dtype = x, shape = shapes::weight(geometry))]
    fn weight_gradient(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self>;

    /// The sum of each channel of `[N, C, D, H, W]`, `[C]`: the gradient with respect to a bias.
    #[fusion(dtype = values, shape = shapes::channels(values))]
    fn channel_sums(values: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// The inputs and the weights, by their places in the graph.
pub(super) type State = (NodeId, NodeId, Geometry);

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

pub(super) const SECOND_ORDER: &str = "gradients of gradients are not supported by Burn's autodiff";

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

    // Burn's autodiff is of first order: it calls these of the inner backend only.

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
