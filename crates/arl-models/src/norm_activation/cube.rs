//! Launches on GPUs.

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::permute_nhwc_to_nchw;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::{CubeDim, ElemType};

use super::cube_kernels::{
    input_gradient, merge_moments, normalize, slice_gradients, slice_moments,
};
use super::planes::PlaneOps;
use crate::cube::rows::add_runs;
use crate::cube::{Cut, UNITS, channels_last, cubes, empty, merging, one_unit_each, vector};

impl PlaneOps for CubeBackend {
    fn plane_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
        slope: f32,
    ) -> FloatTensor<Self> {
        let x = permute_nhwc_to_nchw(channels_last(x));
        let moments = Self::plane_moments(x.clone(), epsilon);
        Self::plane_normalized(x, moments, gamma, beta, slope)
    }

    fn plane_moments(x: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self> {
        let x = channels_last(x);
        let (cut, client) = (Cut::of(&x), x.client.clone());
        let parts = empty(&x, [2, cut.images, cut.slices, cut.channels], DType::F32);
        slice_moments::launch(
            &client,
            cubes(cut.images * cut.slices),
            CubeDim::new_1d(UNITS),
            cut.vector,
            x.clone().into_tensor_arg(),
            parts.clone().into_tensor_arg(),
            cut.launch(),
            UNITS,
            element(&x),
        );
        let moments = empty(&x, [2, cut.images, cut.channels], DType::F32);
        merge_moments::launch(
            &client,
            merging(cut.images, cut.lanes()),
            CubeDim::new_1d(UNITS),
            cut.vector,
            parts.into_tensor_arg(),
            moments.clone().into_tensor_arg(),
            cut.launch(),
            epsilon,
            UNITS,
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
        let x = channels_last(x);
        let (gamma, beta) = (into_contiguous(gamma), into_contiguous(beta));
        let (cut, client) = (Cut::of(&x), x.client.clone());
        let out = like(&x);
        let (count, dim) = one_unit_each(&x, cut.vectors());
        let dtype = element(&x);
        normalize::launch(
            &client,
            count,
            dim,
            cut.vector,
            x.into_tensor_arg(),
            moments.into_tensor_arg(),
            gamma.into_tensor_arg(),
            beta.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            cut.launch(),
            slope,
            dtype,
        );
        permute_nhwc_to_nchw(out)
    }

    fn plane_sums(
        x: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        slope: f32,
    ) -> FloatTensor<Self> {
        let (x, gradient) = (channels_last(x), channels_last(gradient));
        let (gamma, beta) = (into_contiguous(gamma), into_contiguous(beta));
        let (cut, client) = (Cut::of(&x), x.client.clone());
        let parts = empty(&x, [2, cut.images, cut.slices, cut.channels], DType::F32);
        slice_gradients::launch(
            &client,
            cubes(cut.images * cut.slices),
            CubeDim::new_1d(UNITS),
            cut.vector,
            x.clone().into_tensor_arg(),
            moments.into_tensor_arg(),
            gamma.into_tensor_arg(),
            beta.into_tensor_arg(),
            gradient.into_tensor_arg(),
            parts.clone().into_tensor_arg(),
            cut.launch(),
            slope,
            UNITS,
            element(&x),
        );
        let sums = empty(&x, [2, cut.images, cut.channels], DType::F32);
        add_runs::launch(
            &client,
            merging(2 * cut.images, cut.lanes()),
            CubeDim::new_1d(UNITS),
            cut.vector,
            parts.into_tensor_arg(),
            sums.clone().into_tensor_arg(),
            0,
            2 * cut.images as u32,
            cut.slices as u32,
            cut.lanes() as u32,
            UNITS,
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
        let (x, gradient) = (channels_last(x), channels_last(gradient));
        let (gamma, beta) = (into_contiguous(gamma), into_contiguous(beta));
        let (cut, client) = (Cut::of(&x), x.client.clone());
        let out = like(&x);
        let (count, dim) = one_unit_each(&x, cut.vectors());
        let dtype = element(&x);
        input_gradient::launch(
            &client,
            count,
            dim,
            cut.vector,
            x.into_tensor_arg(),
            moments.into_tensor_arg(),
            gamma.into_tensor_arg(),
            beta.into_tensor_arg(),
            gradient.into_tensor_arg(),
            sums.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            cut.launch(),
            slope,
            dtype,
        );
        permute_nhwc_to_nchw(out)
    }

    fn channel_sums(
        sums: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        which: usize,
    ) -> FloatTensor<Self> {
        let shape = sums.shape();
        let (images, channels) = (shape[1], shape[2]);
        let lanes = channels / vector(channels);
        let out = empty(&gamma, [channels], DType::F32);
        add_runs::launch(
            &gamma.client.clone(),
            merging(1, lanes),
            CubeDim::new_1d(UNITS),
            vector(channels),
            sums.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            (which * images * lanes) as u32,
            1,
            images as u32,
            lanes as u32,
            UNITS,
        );
        out
    }
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
