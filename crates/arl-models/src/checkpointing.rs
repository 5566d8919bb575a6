//! Gradient checkpointing by stages (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016): of a stage only the
//! result is kept, and what lies between is computed again in the backward pass.
//!
//! Burn's own checkpointing computes single operations again and keeps what its convolutions give, which is most of the
//! memory. Within a stage that is computed again it goes on as before.
//!
//! [`graph`] puts a stage into Burn's graph as one operation; [`repeat`] makes the second time like the first.

#[cfg(any(feature = "flex", feature = "cubecl"))]
mod graph;
#[cfg(any(feature = "flex", feature = "cubecl"))]
mod kept;
#[cfg(any(feature = "flex", feature = "cubecl"))]
mod repeat;
#[cfg(all(test, feature = "flex"))]
mod tests;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

/// `forward(stage, inputs)`, whose gradients come from computing it again where the device asks for gradient checkpointing
/// (`Device::gradient_checkpointing`) and this build has kernels for it.
pub(crate) fn checkpointed<M: Module + 'static, const N: usize>(
    stage: &M,
    inputs: [Tensor<5>; N],
    forward: fn(&M, [Tensor<5>; N]) -> Tensor<5>,
) -> Tensor<5> {
    #[cfg(any(feature = "flex", feature = "cubecl"))]
    if kept::asked_for(&inputs) {
        return kept::forward(stage, inputs, forward);
    }
    forward(stage, inputs)
}

/// [`checkpointed`], for the stage that the logits come from. Its features are needed again as soon as the loss has its
/// gradient: with no more numbers in the logits than in them, keeping them takes no more than computing them again would then.
/// `classes` are the logits for each voxel of the stage.
pub(crate) fn last_checkpointed<M: Module + 'static, const N: usize>(
    stage: &M,
    inputs: [Tensor<5>; N],
    [channels, classes]: [usize; 2],
    forward: fn(&M, [Tensor<5>; N]) -> Tensor<5>,
) -> Tensor<5> {
    match last_is_computed_again(channels, classes) {
        true => checkpointed(stage, inputs, forward),
        false => forward(stage, inputs),
    }
}

/// Whether [`last_checkpointed`] computes a stage again whose result has so many channels.
pub(crate) fn last_is_computed_again(channels: usize, classes: usize) -> bool {
    classes > channels
}

/// What `draw` gives; in a stage that is computed again, what it gave the first time.
pub(crate) fn drawn(draw: impl FnOnce() -> Tensor<5>) -> Tensor<5> {
    #[cfg(any(feature = "flex", feature = "cubecl"))]
    return repeat::drawn(draw);
    #[cfg(not(any(feature = "flex", feature = "cubecl")))]
    draw()
}

/// Whether layers that differ between training and prediction train: where gradients are taken, or will be.
pub(crate) fn is_training(device: &Device) -> bool {
    #[cfg(any(feature = "flex", feature = "cubecl"))]
    if repeat::is_first() {
        return true;
    }
    device.is_autodiff()
}
