//! What operations on GPUs share: the layout of features, buffers and launches.
//!
//! Burn's convolutions there take and give features whose channels lie side by side, `[N, D, H, W, C]` behind a view that
//! calls itself `[N, C, D, H, W]`. Our operations keep to that: turning features would be two more passes over memory.

pub(crate) mod rows;
mod sums;

use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::permute_nchw_to_nhwc;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::{CubeCount, CubeDim};
use rows::{MERGED_LANES, SlicesLaunch};
pub(crate) use sums::channel_sums;

/// Cubes along one axis of a launch, which the graphics interfaces limit.
const MAX_CUBES: u32 = 65_535;

/// Units of a cube that sums; every device has as many.
pub(crate) const UNITS: u32 = 128;
/// Vectors of channels that each unit of a slice sums: enough to be worth its start.
const VECTORS_PER_UNIT: usize = 64;
/// Slices of an image at most: a GPU is full with them, and they are soon merged.
const MOST_SLICES: usize = 1024;

/// How features are cut up.
#[derive(Clone, Copy)]
pub(crate) struct Cut {
    pub images: usize,
    pub channels: usize,
    voxels: usize,
    /// Channels that are read at once.
    pub vector: usize,
    /// Slices of an image, none of which is empty.
    pub slices: usize,
    /// Voxels of each slice but the last.
    per_slice: usize,
}

impl Cut {
    /// Of features `[N, D, H, W, C]`.
    pub fn of(x: &CubeTensor) -> Self {
        let shape = x.shape();
        let (channels, voxels) = (shape[4], shape[1] * shape[2] * shape[3]);
        let vector = vector(channels);
        let slices = (voxels * channels / vector)
            .div_ceil(UNITS as usize * VECTORS_PER_UNIT)
            .min(MOST_SLICES)
            .min(voxels);
        let per_slice = voxels.div_ceil(slices);
        Self {
            images: shape[0],
            channels,
            voxels,
            vector,
            slices: voxels.div_ceil(per_slice),
            per_slice,
        }
    }

    pub fn lanes(self) -> usize {
        self.channels / self.vector
    }

    /// Vectors of all channels of all voxels.
    pub fn vectors(self) -> usize {
        self.images * self.voxels * self.lanes()
    }

    /// For a kernel.
    pub fn launch(self) -> SlicesLaunch {
        SlicesLaunch::new(
            self.images as u32,
            self.voxels as u32,
            self.lanes() as u32,
            self.slices as u32,
            self.per_slice as u32,
        )
    }
}

/// The features as they lie, `[N, D, H, W, C]`.
pub(crate) fn channels_last(x: CubeTensor) -> CubeTensor {
    into_contiguous(permute_nchw_to_nhwc(x))
}

/// Channels that are read at once.
pub(crate) fn vector(channels: usize) -> usize {
    vector_up_to(4, channels)
}

/// Channels that are read at once, of which the device reads so many.
pub(crate) fn vector_up_to(most: usize, channels: usize) -> usize {
    [8, 4, 2, 1]
        .into_iter()
        .find(|&size| size <= most && channels.is_multiple_of(size))
        .unwrap_or(1)
}

/// A tensor beside `like`, not filled yet.
pub(crate) fn empty<const D: usize>(
    like: &CubeTensor,
    shape: [usize; D],
    dtype: DType,
) -> CubeTensor {
    let shape = Shape::from(shape);
    let buffer = like.client.empty(shape.num_elements() * dtype.size());
    let (client, device) = (like.client.clone(), like.device.clone());
    CubeTensor::new_contiguous(client, device, shape, buffer, dtype)
}

/// A launch of so many cubes.
pub(crate) fn cubes(count: usize) -> CubeCount {
    let count = count as u32;
    let rows = count.div_ceil(MAX_CUBES);
    CubeCount::Static(count.div_ceil(rows), rows, 1)
}

/// A launch with a unit for each of so many elements, on the device of `like`.
pub(crate) fn one_unit_each(like: &CubeTensor, elements: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new(&like.client, elements);
    (
        calculate_cube_count_elemwise(&like.client, elements, dim),
        dim,
    )
}

/// A launch that merges the rows of so many groups of lanes.
pub(crate) fn merging(groups: usize, lanes: usize) -> CubeCount {
    cubes(groups * lanes.div_ceil(MERGED_LANES as usize))
}

/// Whether the kernels, which count in 32 bits, can count all elements.
pub(crate) fn fits(shape: [usize; 5]) -> bool {
    let elements = shape
        .iter()
        .try_fold(1usize, |all, &size| all.checked_mul(size));
    elements.is_some_and(|elements| elements > 0 && u32::try_from(elements).is_ok())
}
