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

/// [`checkpointed`], for a stage of the way up. `sizes` are as in [`is_computed_again`].
pub(crate) fn checkpointed_up<M: Module + 'static, const N: usize>(
    level: usize,
    sizes: [usize; 2],
    stage: &M,
    inputs: [Tensor<5>; N],
    forward: fn(&M, [Tensor<5>; N]) -> Tensor<5>,
) -> Tensor<5> {
    match is_computed_again(level, sizes) {
        true => checkpointed(stage, inputs, forward),
        false => forward(stage, inputs),
    }
}

/// Whether checkpointing computes a stage of the way up again, whose result has so many channels. The finest, level 0, is needed as
/// soon as the loss has its gradient: with no more logits for each of its voxels than channels, keeping it takes no more than
/// computing it again would then.
pub(crate) fn is_computed_again(level: usize, [channels, logits]: [usize; 2]) -> bool {
    level > 0 || logits > channels
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
