//! What networks ask of the numbers in their descriptions, of patches and of images.

use std::fmt::Display;

use burn::tensor::Tensor;

use crate::ModelError;

/// The most channels, classes, features, layers of a stage, and voxels along an axis. No network has nearly as many, and what is
/// multiplied of such numbers (the weights of a convolution, with kernels of [`LARGEST_KERNEL`]) fits into 64 bits.
const MOST: usize = 1 << 16;

/// The most voxels of a kernel along an axis.
pub(crate) const LARGEST_KERNEL: usize = 127;

/// Refuses 0, and more than any network has.
pub(crate) fn check_count(what: impl Display, value: usize) -> Result<(), ModelError> {
    match value {
        0 => Err(ModelError::Zero {
            what: what.to_string(),
        }),
        _ => check_most(what, value, MOST),
    }
}

/// Refuses more than `most`.
pub(crate) fn check_most(what: impl Display, value: usize, most: usize) -> Result<(), ModelError> {
    match value <= most {
        true => Ok(()),
        false => Err(ModelError::TooLarge {
            what: what.to_string(),
            value,
            most,
        }),
    }
}

/// Refuses a patch `[D, H, W]` that is larger than any image.
pub(crate) fn check_extent(patch: [usize; 3]) -> Result<(), ModelError> {
    let what = format_args!("a size of patch {patch:?}");
    (patch.into_iter()).try_for_each(|size| check_most(what, size, MOST))
}

/// Refuses a patch `[D, H, W]` that is larger than any image, or has a size that isn't a positive multiple of its divisor.
pub(crate) fn check_divisors(patch: [usize; 3], divisors: [usize; 3]) -> Result<(), ModelError> {
    check_extent(patch)?;
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
