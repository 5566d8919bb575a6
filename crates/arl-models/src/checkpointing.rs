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
mod repeat;
#[cfg(all(test, feature = "flex"))]
mod tests;

use burn::module::Module;
use burn::tensor::Tensor;

pub(crate) use repeat::{drawn, is_training};

/// `forward(stage, inputs)`, whose gradients come from computing it again where the device asks for gradient checkpointing
/// (`Device::gradient_checkpointing`).
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
