//! The convolution on GPUs.
//!
//! Burn has many kernels for it, tries them for every shape it meets and takes the fastest. For a U-Net that takes minutes, some of
//! them need several times the memory of the network, and the gradient of the weights keeps little of a GPU busy
//! (benches/RESULTS.md). Here each pass has one kernel, on matrix units and without them: [`gather`] for the convolution and the
//! gradient of its input, [`weight_gradient`] for that of its weights. What they don't fit is Burn's.

mod gather;
mod gather_kernels;
mod matrices;
pub(crate) mod matrix_units;
mod staging;
#[cfg(all(test, feature = "flex"))]
mod tests;
mod weight_gradient;
mod weight_gradient_kernels;

use burn::backend::tensor::FloatTensor;
use burn::tensor::Shape;
use burn::tensor::ops::ConvOptions;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::conv::{
    ConvStrategy, conv_data_backward, conv_forward, conv_weight_backward,
};
use burn_cubecl::tensor::CubeTensor;

use matrix_units::Matrices;

use super::Geometry;
use super::ops::ConvolutionOps;
use crate::cube::vector_up_to;

/// Edges of what a matrix unit gives that the kernels can use, the best first: they divide their tiles.
const EDGES: [u32; 2] = [16, 8];
/// Taps along an axis that the kernels are made for.
const MOST_TAPS: usize = 5;
/// Bytes of shared memory that a kernel takes at most: two cubes of it still share a processor of a large GPU. And what every
/// device has.
const SHARED_BYTES: [usize; 2] = [96 * 1024, 16 * 1024];

impl ConvolutionOps for CubeBackend {
    fn convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        if let Some(way) = gather::Forward::of(&x, &geometry) {
            return way.run(x, weight, bias);
        }
        conv_forward::<3>(x, weight, Some(bias), options(&geometry), strategy()).expect(ALWAYS_ONE)
    }

    fn input_gradient(
        gradient: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        if let Some(way) = gather::Backward::of(&gradient, &geometry) {
            return way.run(gradient, weight);
        }
        let [d, h, w] = geometry.size;
        let shape = Shape::from([geometry.images, geometry.inputs, d, h, w]);
        conv_data_backward::<3>(gradient, weight, shape, options(&geometry), strategy())
            .expect(ALWAYS_ONE)
    }

    fn weight_gradient(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        if let Some(way) = weight_gradient::Way::of(&x, &geometry) {
            return way.run(x, gradient);
        }
        let [d, h, w] = geometry.kernel;
        let shape = Shape::from([geometry.outputs, geometry.inputs, d, h, w]);
        conv_weight_backward::<3>(x, gradient, shape, options(&geometry), strategy())
            .expect(ALWAYS_ONE)
    }

    fn channel_sums(values: FloatTensor<Self>) -> FloatTensor<Self> {
        crate::cube::channel_sums(values)
    }
}

const ALWAYS_ONE: &str = "one of Burn's kernels fits every convolution";

fn options(geometry: &Geometry) -> ConvOptions<3> {
    ConvOptions::new(geometry.stride, geometry.padding, [1; 3], 1)
}

fn strategy() -> ConvStrategy {
    ConvStrategy::default()
}

/// Whether the kernels, which count in 32 bits, can count all voxels, and keep the sums of all taps.
fn counted(geometry: &Geometry) -> bool {
    let elements = |channels: usize, size: [usize; 3]| {
        let sizes = [geometry.images, channels].into_iter().chain(size);
        sizes.into_iter().try_fold(1usize, usize::checked_mul)
    };
    let fits = |elements: Option<usize>| elements.is_some_and(|n| n < u32::MAX as usize);
    let [_, height, width] = geometry.kernel;
    fits(elements(geometry.inputs, geometry.size))
        && fits(elements(geometry.outputs, geometry.output()))
        && height.max(width) <= MOST_TAPS
}

/// Channels that are read at once: up to 16 bytes, and no more than a unit without matrix units sums.
fn vector(channels: usize, matrices: Option<Matrices>) -> usize {
    let most = match matrices {
        Some(Matrices { bytes: 2, .. }) => 8,
        _ => 4,
    };
    vector_up_to(most, channels)
}

/// Bytes of shared memory that a kernel may take.
fn shared_bytes(x: &CubeTensor) -> usize {
    let [most, least] = SHARED_BYTES;
    let hardware = &x.client.properties().hardware;
    hardware.max_shared_memory_size.clamp(least, most)
}
