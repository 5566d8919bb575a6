//! Resampling to another grid over the same field of view.
//!
//! The definitions are those of `skimage.resize` with `mode="edge"` and no anti-aliasing, as nnU-Net uses it, so
//! that plans carry over: centres of voxels map by `x = (i + 0.5) * old / new - 0.5`, the volume continues with its
//! edge voxels, and a cubic result stays within the range of its source.
//!
//! A label needs half of a voxel to win it, as in nnU-Net with batchgenerators up to 0.25.3. Since 0.25.4 the label with the
//! largest share wins, which differs where three or more labels meet and where two share a voxel evenly.

mod axis;
mod labels;
mod slabs;

use ndarray::{Array3, ArrayView3};

pub use labels::LabelResampler;
pub use slabs::{Resampler, Source};
pub(crate) use slabs::{SLAB_BYTES, SLAB_STEP};

/// Degree of the interpolation along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The nearest voxel; the later one of two equally near.
    Nearest,
    /// Between the two neighbours.
    Linear,
    /// Cubic B-spline through the samples.
    Cubic,
}

/// Ratio of the largest to the smallest spacing above which the coarse axis is interpolated on its own.
const ANISOTROPY_THRESHOLD: f64 = 3.0;

/// How the axes of a volume are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// The same order along all axes.
    Isotropic,
    /// Nearest voxel along this axis: its slices lie too far apart for values between them to mean anything.
    SeparateAxis(usize),
}

impl Interpolation {
    /// nnU-Net's rule: the axis of the largest spacing is separate when it exceeds three times the smallest, before
    /// the resampling or else after it, and no other axis is equally coarse. Spacing `[D, H, W]` in mm.
    pub fn choose(from: [f64; 3], to: [f64; 3]) -> Self {
        let largest = |spacing: &[f64; 3]| spacing.iter().copied().fold(0.0, f64::max);
        let smallest = |spacing: &[f64; 3]| spacing.iter().copied().fold(f64::INFINITY, f64::min);
        let coarse =
            |spacing: &[f64; 3]| largest(spacing) / smallest(spacing) > ANISOTROPY_THRESHOLD;
        let Some(spacing) = [from, to].into_iter().find(coarse) else {
            return Interpolation::Isotropic;
        };
        let largest = largest(&spacing);
        let mut axes = (0..3).filter(|axis| spacing[*axis] == largest);
        match (axes.next(), axes.next()) {
            (Some(axis), None) => Interpolation::SeparateAxis(axis),
            _ => Interpolation::Isotropic,
        }
    }
}

/// Shape that covers the field of view of `shape` voxels at spacing `from` with voxels of spacing `to`, `[D, H, W]`:
/// rounded, halves to even, never below one voxel.
pub fn resampled_shape(shape: [usize; 3], from: [f64; 3], to: [f64; 3]) -> [usize; 3] {
    std::array::from_fn(|axis| {
        let exact = from[axis] / to[axis] * shape[axis] as f64;
        (exact.round_ties_even() as usize).max(1)
    })
}

/// Resamples `view` to `new_shape` with one order along all axes.
///
/// # Panics
/// When an axis of either shape is empty.
pub fn resize(view: ArrayView3<'_, f32>, new_shape: [usize; 3], order: Order) -> Array3<f32> {
    resize_as(view, new_shape, order, Interpolation::Isotropic)
}

/// Resamples an image: cubic, or cubic in the plane and nearest along a coarse axis ([`Interpolation::choose`]).
///
/// # Panics
/// When an axis of either shape is empty.
pub fn resize_image(
    view: ArrayView3<'_, f32>,
    new_shape: [usize; 3],
    spacing_from: [f64; 3],
    spacing_to: [f64; 3],
) -> Array3<f32> {
    resize_as(
        view,
        new_shape,
        Order::Cubic,
        Interpolation::choose(spacing_from, spacing_to),
    )
}

/// Resamples a map of logits or probabilities: linear, or linear in the plane and nearest along a coarse axis.
///
/// # Panics
/// When an axis of either shape is empty.
pub fn resize_probabilities(
    view: ArrayView3<'_, f32>,
    new_shape: [usize; 3],
    spacing_from: [f64; 3],
    spacing_to: [f64; 3],
) -> Array3<f32> {
    resize_as(
        view,
        new_shape,
        Order::Linear,
        Interpolation::choose(spacing_from, spacing_to),
    )
}

/// Resamples a label map, each label linearly as its own 0/1 volume; a label with half of a voxel or more wins it,
/// the largest if several do, and where none does the voxel is 0.
///
/// # Panics
/// When an axis of either shape is empty.
pub fn resize_labels(view: ArrayView3<'_, u16>, new_shape: [usize; 3]) -> Array3<u16> {
    LabelResampler::new(view, new_shape, Interpolation::Isotropic).whole()
}

/// [`resize_labels`] with the nearest slice along a coarse axis ([`Interpolation::choose`]).
///
/// # Panics
/// When an axis of either shape is empty.
pub fn resize_label_map(
    view: ArrayView3<'_, u16>,
    new_shape: [usize; 3],
    spacing_from: [f64; 3],
    spacing_to: [f64; 3],
) -> Array3<u16> {
    let interpolation = Interpolation::choose(spacing_from, spacing_to);
    LabelResampler::new(view, new_shape, interpolation).whole()
}

fn resize_as(
    view: ArrayView3<'_, f32>,
    new_shape: [usize; 3],
    order: Order,
    interpolation: Interpolation,
) -> Array3<f32> {
    let resampler = Resampler::new(view, new_shape, order, interpolation);
    let mut resized = Array3::zeros(new_shape);
    resampler.whole_into(resized.as_slice_mut().expect("a new array"));
    resized
}

fn check_shapes(old: [usize; 3], new: [usize; 3]) {
    assert!(
        old.iter().chain(&new).all(|n| *n > 0),
        "cannot resample {old:?} to {new:?}: an axis is empty"
    );
}

#[cfg(test)]
mod tests;
