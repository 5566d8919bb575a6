//! Normalisation and activation as one operation of GPUs.

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
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Shape, Tensor};

/// See [`super::norm_activation`].
pub(super) fn norm_activation(
    x: Tensor<5>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
    slope: f64,
) -> Tensor<5> {
    Tensor::from_dispatch(<Dispatch as PlaneOps>::plane_norm(
        x.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        epsilon as f32,
        slope as f32,
    ))
}

/// What fusion is told of the shape of two numbers per plane.
fn per_plane(x: &Shape) -> Shape {
    Shape::from([2, x[0], x[1]])
}

/// Instance normalisation and leaky ReLU of features `[N, C, D, H, W]` (f32, f16 or bf16), a plane being a channel of an image.
/// Gamma and beta are `[C]`, moments (mean, 1 / deviation) and sums `[2, N, C]`, all f32.
#[backend_extension(
    Cube: cfg(feature = "cubecl"),
    Fusion: cfg(feature = "cubecl"),
    Autodiff,
)]
pub trait PlaneOps: Backend {
    /// All of it.
    #[fusion(dtype = x, shape = x)]
    fn plane_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
        slope: f32,
    ) -> FloatTensor<Self>;

    /// The moments of each plane.
    #[fusion(dtype = DType::F32, shape = per_plane(x))]
    fn plane_moments(x: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self>;

    /// What follows from the moments.
    #[fusion(dtype = x, shape = x)]
    fn plane_normalized(
        x: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        slope: f32,
    ) -> FloatTensor<Self>;

    /// Sums of the gradient behind the activation over each plane, and of it times the normalised x.
    #[fusion(dtype = DType::F32, shape = per_plane(x))]
    fn plane_sums(
        x: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        slope: f32,
    ) -> FloatTensor<Self>;

    /// The gradient with respect to x.
    #[fusion(dtype = x, shape = x)]
    #[allow(clippy::too_many_arguments)]
    fn plane_gradient(
        x: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        sums: FloatTensor<Self>,
        slope: f32,
    ) -> FloatTensor<Self>;

    /// The sums over all images: with `which` 0 the gradient with respect to beta, with 1 that with respect to gamma. `gamma` only
    /// tells the shape.
    #[fusion(dtype = DType::F32, shape = gamma)]
    fn channel_sums(
        sums: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        which: usize,
    ) -> FloatTensor<Self>;
}

#[derive(Debug)]
struct PlaneNorm;

impl<B: PlaneOps> Backward<B, 3> for PlaneNorm {
    /// The input, gamma and beta by their places in the graph, the moments, and the slope.
    type State = ([NodeId; 3], FloatTensor<B>, f32);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<B>(&ops.node);
        let (nodes, moments, slope) = ops.state;
        let [x, gamma, beta] =
            nodes.map(|node| checkpointer.retrieve_node_output::<FloatTensor<B>>(node));
        let sums = B::plane_sums(
            x.clone(),
            moments.clone(),
            gamma.clone(),
            beta.clone(),
            gradient.clone(),
            slope,
        );
        let [of_x, of_gamma, of_beta] = ops.parents;
        if let Some(node) = of_gamma {
            grads.register::<B>(node.id, B::channel_sums(sums.clone(), gamma.clone(), 1));
        }
        if let Some(node) = of_beta {
            grads.register::<B>(node.id, B::channel_sums(sums.clone(), gamma.clone(), 0));
        }
        if let Some(node) = of_x {
            let gradient = B::plane_gradient(x, moments, gamma, beta, gradient, sums, slope);
            grads.register::<B>(node.id, gradient);
        }
    }
}

/// Computes the result once more for the backward pass; with gradient checkpointing it is not kept.
#[derive(Debug, Clone)]
struct Again<B: PlaneOps> {
    nodes: [NodeId; 3],
    epsilon: f32,
    slope: f32,
    backend: PhantomData<B>,
}

impl<B: PlaneOps> RetroForward for Again<B> {
    fn forward(&self, states: &mut BackwardStates, out_node: NodeId) {
        let [x, gamma, beta] = (self.nodes).map(|node| states.get_state::<FloatTensor<B>>(&node));
        let out = B::plane_norm(x, gamma, beta, self.epsilon, self.slope);
        states.save(out_node, out);
    }
}

impl<B: PlaneOps, C: CheckpointStrategy> PlaneOps for Autodiff<B, C> {
    fn plane_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
        slope: f32,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), gamma.node(), beta.node()];
        let forward = |x: FloatTensor<B>, gamma: FloatTensor<B>, beta: FloatTensor<B>| {
            let moments = B::plane_moments(x.clone(), epsilon);
            let out = B::plane_normalized(x, moments.clone(), gamma, beta, slope);
            (moments, out)
        };
        let again = Again::<B> {
            nodes: [x.id(), gamma.id(), beta.id()],
            epsilon,
            slope,
            backend: PhantomData,
        };
        match PlaneNorm
            .prepare::<C>(nodes)
            .memory_bound()
            .retro_forward(again)
            .parents([&x, &gamma, &beta])
            .stateful()
        {
            OpsKind::Tracked(mut prep) => {
                let saved = [&x, &gamma, &beta].map(|tensor| prep.checkpoint(tensor));
                let (moments, out) = forward(
                    x.into_primitive(),
                    gamma.into_primitive(),
                    beta.into_primitive(),
                );
                prep.finish((saved, moments, slope), out)
            }
            OpsKind::UnTracked(prep) => {
                let (_, out) = forward(
                    x.into_primitive(),
                    gamma.into_primitive(),
                    beta.into_primitive(),
                );
                prep.finish(out)
            }
        }
    }

    // Burn's autodiff is of first order: it calls the inner backend's parts only.

    fn plane_moments(_: FloatTensor<Self>, _: f32) -> FloatTensor<Self> {
        unreachable!("{FIRST_ORDER}")
    }

    fn plane_normalized(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: f32,
    ) -> FloatTensor<Self> {
        unreachable!("{FIRST_ORDER}")
    }

    fn plane_sums(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: f32,
    ) -> FloatTensor<Self> {
        unreachable!("{FIRST_ORDER}")
    }

    fn plane_gradient(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: f32,
    ) -> FloatTensor<Self> {
        unreachable!("{FIRST_ORDER}")
    }

    fn channel_sums(_: FloatTensor<Self>, _: FloatTensor<Self>, _: usize) -> FloatTensor<Self> {
        unreachable!("{FIRST_ORDER}")
    }
}

const FIRST_ORDER: &str = "gradients of gradients are not supported by Burn's autodiff";
