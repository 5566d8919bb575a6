//! Launches of the kernels of the weight gradient.

use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::DType;
use burn_cubecl::ops::permute_nhwc_to_nchw;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::CubeDim;

use super::matrix_units::Matrices;
use super::weight_gradient_kernels::{
    Build, CHUNK_WIDTH, PLAIN_UNITS, SizesLaunch, TILE, add_parts, weight_gradient_by_matrices,
    weight_gradient_plainly,
};
use super::{counted, shared_bytes, vector};
use crate::convolution::Geometry;
use crate::cube::{channels_last, cubes, empty, one_unit_each};

/// Cubes that keep a large GPU busy; more would only make more parts to add up.
const ENOUGH_CUBES: usize = 1056;

/// How the weight gradient is computed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    geometry: Geometry,
    build: Build,
    matrices: Option<Matrices>,
}

impl Way {
    /// On matrix units if that fits. None where nothing fits.
    pub(super) fn of(x: &CubeTensor, geometry: &Geometry) -> Option<Self> {
        if !counted(geometry) {
            return None;
        }
        Matrices::of(x)
            .and_then(|matrices| Self::with(Some(matrices), x, geometry))
            .or_else(|| Self::with(None, x, geometry))
    }

    fn with(matrices: Option<Matrices>, x: &CubeTensor, geometry: &Geometry) -> Option<Self> {
        let [_, height, width] = geometry.kernel;
        let depth = matrices.map_or(0, |matrices| matrices.depth);
        let build = |(rows, groups): (u32, u32)| {
            // Each group takes a step of a matrix unit at least.
            let steps = (rows * CHUNK_WIDTH).checked_div(depth).unwrap_or(groups);
            Build {
                kernel: [height as u32, width as u32],
                stride: [geometry.stride[1] as u32, geometry.stride[2] as u32],
                rows,
                units: matrices.map_or(PLAIN_UNITS, |matrices| matrices.plane),
                groups: groups.min(steps),
                edge: matrices.map_or(0, |matrices| matrices.edge),
                depth,
                pitch: TILE + matrices.map_or(8, |matrices| matrices.weight_gap),
                brought: [geometry.outputs, geometry.inputs].map(|n| TILE.min(n as u32)),
            }
        };
        let fits = |build: &Build| {
            let bytes = matrices.map_or(4, |matrices| matrices.bytes);
            let staged = (build.gradient_room().elements() + build.input_room().elements()) * bytes;
            let finished = build.edge * build.edge * 4 * build.kernel[0] * build.groups;
            (staged + finished) as usize <= shared_bytes(x)
        };
        // Enough units for a kernel of one row; tall chunks bring fewer voxels twice, low ones waste less of a low volume.
        let groups = if height == 1 { 4 } else { 1 };
        let tall = matrices.is_some() && geometry.output()[1] > 4;
        let builds = [(8, groups.max(2)), (4, groups), (2, groups), (1, groups)];
        let builds = builds[usize::from(!tall)..].iter().copied().map(build);
        let build = builds.into_iter().find(fits)?;
        let most = x.client.properties().hardware.max_units_per_cube;
        (build.cube() <= most).then_some(Self {
            geometry: *geometry,
            build,
            matrices,
        })
    }

    /// `[Cout, Cin, kernel]` from x `[N, Cin, D, H, W]` and the gradient `[N, Cout, D', H', W']`.
    pub(super) fn run(self, x: CubeTensor, gradient: CubeTensor) -> CubeTensor {
        let Self {
            geometry,
            build,
            matrices,
        } = self;
        let (x, gradient) = (channels_last(x), channels_last(gradient));
        let client = x.client.clone();
        let tiles =
            geometry.inputs.div_ceil(TILE as usize) * geometry.outputs.div_ceil(TILE as usize);
        let [kernel_depth, kernel_height, kernel_width] = geometry.kernel;
        let [out_depth, out_height, out_width] = geometry.output();
        let chunks = geometry.images
            * out_depth
            * out_height.div_ceil(build.rows as usize)
            * out_width.div_ceil(CHUNK_WIDTH as usize);
        let splits = (ENOUGH_CUBES / (tiles * kernel_depth)).clamp(1, chunks);
        let parts = splits * build.groups as usize;
        let shape = [
            geometry.outputs,
            kernel_depth,
            kernel_height,
            kernel_width,
            geometry.inputs,
        ];
        let partial = empty(&x, [parts, shape.iter().product()], DType::F32);
        let [depth, height, width] = geometry.size;
        let padding = geometry.padding;
        let sizes = SizesLaunch::new(
            geometry.images as u32,
            depth as u32,
            height as u32,
            width as u32,
            geometry.inputs as u32,
            out_depth as u32,
            out_height as u32,
            out_width as u32,
            geometry.outputs as u32,
            kernel_depth as u32,
            geometry.stride[0] as u32,
            padding[0] as u32,
            padding[1] as u32,
            padding[2] as u32,
            splits as u32,
        );
        let count = cubes(splits * kernel_depth * tiles);
        let dim = CubeDim::new_2d(build.units, build.kernel[0] * build.groups);
        let dtype = dtype_to_storage_type(x.dtype);
        let of_inputs = vector(geometry.inputs, matrices);
        let of_outputs = vector(geometry.outputs, matrices);
        // SAFETY: the kernels read and write where their own conditions say that there is something.
        match matrices {
            Some(matrices) => unsafe {
                weight_gradient_by_matrices::launch_unchecked(
                    &client,
                    count,
                    dim,
                    of_inputs,
                    of_outputs,
                    x.clone().into_tensor_arg(),
                    gradient.into_tensor_arg(),
                    partial.clone().into_tensor_arg(),
                    sizes,
                    build,
                    dtype,
                    matrices.element,
                )
            },
            None => unsafe {
                weight_gradient_plainly::launch_unchecked(
                    &client,
                    count,
                    dim,
                    of_inputs,
                    of_outputs,
                    x.clone().into_tensor_arg(),
                    gradient.into_tensor_arg(),
                    partial.clone().into_tensor_arg(),
                    sizes,
                    build,
                    dtype,
                )
            },
        }
        let out = empty(&x, shape, x.dtype);
        let (count, dim) = one_unit_each(&x, out.shape().num_elements());
        add_parts::launch(
            &client,
            count,
            dim,
            partial.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            parts as u32,
            dtype,
        );
        permute_nhwc_to_nchw(out)
    }
}
