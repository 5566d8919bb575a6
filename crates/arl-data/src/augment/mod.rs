//! Random variation of training patches.
//!
//! [`Augmentation`] is the whole of it: [`Spatial`] transforms, which are drawn together and done in one resampling of just
//! the voxels that they need, and a list of [`IntensityTransform`]s. [`Preset`]s give it a name: `nnunet` has the list of
//! nnU-Net v2 with its order, probabilities and ranges, `light` the cheap ones of them. Elastic deformation, bias field,
//! ghosting, Gibbs ringing and spikes (as in TorchIO and MONAI) are there for who asks for them, and so are nnU-Net's changes to
//! the masks of a coarser network that a finer one gets as channels.
//!
//! Each transform is a type of its own, in its own file, that can be used alone.
//! Everything random comes from the generator that is passed in: the same state of it gives the same patch, however wide the
//! vectors of the processor are. Parameters that come from outside are checked by `validate`; `apply` and `draw` rely on
//! that.

mod augmentation;
mod draw;
mod error;
mod intensity;
mod math;
mod outside;
mod preset;
mod source;
mod spatial;

pub use augmentation::Augmentation;
pub use error::AugmentError;
pub use intensity::{
    BiasField, BinaryOperator, Blur, Brightness, ComponentRemoval, Contrast, Gamma, Ghosting,
    Gibbs, IntensityTransform, LowResolution, Noise, Spike,
};
pub use outside::{OUTSIDE_OF_BODY, clear_outside};
pub use preset::Preset;
pub use source::{InMemory, PatchSource};
pub use spatial::{
    Displacement, DisplacementUnit, Elastic, Mirror, Rotation, Scaling, Spatial, SpatialMap,
};

#[cfg(test)]
mod tests;
