//! Buffers and launches on GPUs.

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::{CubeCount, CubeDim, ElemType};

use super::cube_kernels::{
    add_runs, input_gradient, merge_moments, normalize, slice_gradients, slice_moments,
};
use super::planes::PlaneOps;

/// Units of a cube that sums a slice of a plane; every device has as many.
const UNITS: u32 = 128;
/// Voxels of a slice: enough for a cube to be worth its start, few enough to fill a GPU with a few large planes.
const SLICE: usize = 8192;
/// Cubes along one axis of a launch, which the graphics interfaces limit.
const MAX_CUBES: u32 = 65_535;

/// How features are cut up.
#[derive(Clone, Copy)]
struct Cut {
    images: usize,
    channels: usize,
    voxels: usize,
}

impl Cut {
    fn of(x: &CubeTensor) -> Self {
        let shape = x.shape();
        Self {
            images: shape[0],
            channels: shape[1],
            voxels: shape[2] * shape[3] * shape[4],
        }
    }

    fn planes(self) -> usize {
        self.images * self.channels
    }

    fn slices(self) -> usize {
        self.voxels.div_ceil(SLICE)
    }

    /// Voxels of each slice but the last, none of which is empty.
    fn per_slice(self) -> usize {
        self.voxels.div_ceil(self.slices())
    }

    fn cubes(self) -> CubeCount {
        let cubes = (self.planes() * self.slices()) as u32;
        let rows = cubes.div_ceil(MAX_CUBES);
        CubeCount::Static(cubes.div_ceil(rows), rows, 1)
    }
}

impl PlaneOps for CubeBackend {
    fn plane_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
        slope: f32,
    ) -> FloatTensor<Self> {
        let x = into_contiguous(x);
        let moments = Self::plane_moments(x.clone(), epsilon);
        Self::plane_normalized(x, moments, gamma, beta, slope)
    }

    fn plane_moments(x: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self> {
        let x = into_contiguous(x);
        let (cut, client) = (Cut::of(&x), x.client.clone());
        let parts = empty(&x, [2, cut.planes(), cut.slices()], DType::F32);
        slice_moments::launch(
            &client,
            cut.cubes(),
            CubeDim::new_1d(UNITS),
            x.clone().into_tensor_arg(),
            parts.clone().into_tensor_arg(),
            cut.planes() as u32,
            cut.voxels as u32,
            cut.slices() as u32,
            cut.per_slice() as u32,
            UNITS,
            element(&x),
        );
        let moments = empty(&x, [2, cut.images, cut.channels], DType::F32);
        let (count, dim) = one_unit_each(&x, cut.planes());
        merge_moments::launch(
            &client,
            count,
            dim,
            parts.into_tensor_arg(),
            moments.clone().into_tensor_arg(),
            cut.planes() as u32,
            cut.voxels as u32,
            cut.slices() as u32,
            cut.per_slice() as u32,
            epsilon,
        );
        moments
    }

    fn plane_normalized(
        x: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        slope: f32,
    ) -> FloatTensor<Self> {
        let x = into_contiguous(x);
        let (gamma, beta) = (into_contiguous(gamma), into_contiguous(beta));
        let (cut, client) = (Cut::of(&x), x.client.clone());
        let out = like(&x);
        let (count, dim) = one_unit_each(&x, x.shape().num_elements());
        let dtype = element(&x);
        normalize::launch(
            &client,
            count,
            dim,
            x.into_tensor_arg(),
            moments.into_tensor_arg(),
            gamma.into_tensor_arg(),
            beta.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            cut.planes() as u32,
            cut.channels as u32,
            cut.voxels as u32,
            slope,
            dtype,
        );
        out
    }

    fn plane_sums(
        x: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        slope: f32,
    ) -> FloatTensor<Self> {
        let (x, gradient) = (into_contiguous(x), into_contiguous(gradient));
        let (gamma, beta) = (into_contiguous(gamma), into_contiguous(beta));
        let (cut, client) = (Cut::of(&x), x.client.clone());
        let parts = empty(&x, [2, cut.planes(), cut.slices()], DType::F32);
        slice_gradients::launch(
            &client,
            cut.cubes(),
            CubeDim::new_1d(UNITS),
            x.clone().into_tensor_arg(),
            moments.into_tensor_arg(),
            gamma.into_tensor_arg(),
            beta.into_tensor_arg(),
            gradient.into_tensor_arg(),
            parts.clone().into_tensor_arg(),
            cut.planes() as u32,
            cut.channels as u32,
            cut.voxels as u32,
            cut.slices() as u32,
            cut.per_slice() as u32,
            slope,
            UNITS,
            element(&x),
        );
        let sums = empty(&x, [2, cut.images, cut.channels], DType::F32);
        let (count, dim) = one_unit_each(&x, 2 * cut.planes());
        // The slices of a plane lie side by side.
        add_runs::launch(
            &client,
            count,
            dim,
            parts.into_tensor_arg(),
            sums.clone().into_tensor_arg(),
            0,
            cut.slices() as u32,
            1,
        );
        sums
    }

    fn plane_gradient(
        x: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        sums: FloatTensor<Self>,
        slope: f32,
    ) -> FloatTensor<Self> {
        let (x, gradient) = (into_contiguous(x), into_contiguous(gradient));
        let (gamma, beta) = (into_contiguous(gamma), into_contiguous(beta));
        let (cut, client) = (Cut::of(&x), x.client.clone());
        let out = like(&x);
        let (count, dim) = one_unit_each(&x, x.shape().num_elements());
        let dtype = element(&x);
        input_gradient::launch(
            &client,
            count,
            dim,
            x.into_tensor_arg(),
            moments.into_tensor_arg(),
            gamma.into_tensor_arg(),
            beta.into_tensor_arg(),
            gradient.into_tensor_arg(),
            sums.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            cut.planes() as u32,
            cut.channels as u32,
            cut.voxels as u32,
            slope,
            dtype,
        );
        out
    }

    fn channel_sums(
        sums: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        which: usize,
    ) -> FloatTensor<Self> {
        let shape = sums.shape();
        let (images, channels) = (shape[1], shape[2]);
        let out = empty(&gamma, [channels], DType::F32);
        let (count, dim) = one_unit_each(&gamma, channels);
        // The images of a channel lie a row of channels apart.
        add_runs::launch(
            &gamma.client.clone(),
            count,
            dim,
            sums.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            (which * images * channels) as u32,
            images as u32,
            channels as u32,
        );
        out
    }
}

/// Whether the kernels, which count in 32 bits, can count all elements.
pub(super) fn fits(shape: [usize; 5]) -> bool {
    let elements = shape
        .iter()
        .try_fold(1usize, |all, &size| all.checked_mul(size));
    elements.is_some_and(|elements| elements > 0 && u32::try_from(elements).is_ok())
}

fn element(tensor: &CubeTensor) -> ElemType {
    burn::backend::cubecl::dtype_to_storage_type(tensor.dtype)
}

fn like(x: &CubeTensor) -> CubeTensor {
    let shape = x.shape();
    empty(
        x,
        [shape[0], shape[1], shape[2], shape[3], shape[4]],
        x.dtype,
    )
}

/// A tensor beside `like`, not filled yet.
fn empty<const D: usize>(like: &CubeTensor, shape: [usize; D], dtype: DType) -> CubeTensor {
    let shape = Shape::from(shape);
    let buffer = like.client.empty(shape.num_elements() * dtype.size());
    let (client, device) = (like.client.clone(), like.device.clone());
    CubeTensor::new_contiguous(client, device, shape, buffer, dtype)
}

/// A launch with a unit for each of so many elements, on the device of `like`.
fn one_unit_each(like: &CubeTensor, elements: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new(&like.client, elements);
    (
        calculate_cube_count_elemwise(&like.client, elements, dim),
        dim,
    )
}
