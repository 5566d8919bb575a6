//! Features whose channels lie side by side, as GPUs have them.
//!
//! Burn's convolutions there work on `[N, D, H, W, C]` and give a view of it that calls itself `[N, C, D, H, W]`. An operation
//! that copies keeps that order if it works on the view turned back.

use burn::backend::DispatchDevice;
use burn::tensor::Tensor;

/// `[N, C, D, H, W]` as `[N, D, H, W, C]`, a view.
pub(crate) fn to_channels_last(x: Tensor<5>) -> Tensor<5> {
    x.permute([0, 2, 3, 4, 1])
}

/// The channels of both, those of `x` first.
pub(crate) fn join_channels(x: Tensor<5>, y: Tensor<5>) -> Tensor<5> {
    if !on_gpu(&x) {
        return Tensor::cat(vec![x, y], 1);
    }
    let both = Tensor::cat(vec![to_channels_last(x), to_channels_last(y)], 4);
    both.permute([0, 4, 1, 2, 3])
}

/// Whether these features live where channels lie side by side.
pub(crate) fn on_gpu(x: &Tensor<5>) -> bool {
    match x.device().without_autodiff().as_dispatch() {
        #[cfg(feature = "cubecl")]
        DispatchDevice::Cube(_) => true,
        _ => false,
    }
}
