//! What networks ask of patches and images.

use burn::tensor::Tensor;

use crate::ModelError;

/// Refuses a patch `[D, H, W]` with a size that isn't a positive multiple of its divisor.
pub(crate) fn check_divisors(patch: [usize; 3], divisors: [usize; 3]) -> Result<(), ModelError> {
    let fits = |axis: &usize| patch[*axis] > 0 && patch[*axis].is_multiple_of(divisors[*axis]);
    match (0..3).find(|axis| !fits(axis)) {
        Some(axis) => Err(ModelError::PatchSize {
            patch,
            divisors,
            axis,
        }),
        None => Ok(()),
    }
}

/// Holds images `[N, C, D, H, W]` to the channels and patches that a network takes, before they meet an operation that could say less
/// of what is wrong. It looks at shapes alone.
///
/// # Panics
/// With what is wrong.
pub(crate) fn assert_images_fit(
    images: &Tensor<5>,
    channels: usize,
    check_patch: impl FnOnce([usize; 3]) -> Result<(), ModelError>,
) {
    let [_, given, d, h, w] = images.dims();
    let fits = match given == channels {
        true => check_patch([d, h, w]),
        false => Err(ModelError::Channels { given, channels }),
    };
    fits.unwrap_or_else(|error| panic!("{error}"));
}
