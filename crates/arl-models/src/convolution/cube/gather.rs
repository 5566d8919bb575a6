//! Launches of the kernels that gather: the convolution, and the gradient of its input.

use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::zeros_client;
use burn_cubecl::ops::permute_nhwc_to_nchw;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::CubeDim;

use super::gather_kernels::{
    Build, SizesLaunch, TILE, TILE_WIDTH, TapsLaunch, gather_by_matrices, gather_plainly,
    pack_weights,
};
use super::matrix_units::Matrices;
use super::{counted, shared_bytes, vector};
use crate::convolution::Geometry;
use crate::cube::{channels_last, cubes, empty, one_unit_each};

/// Input channels that are brought at once, in bytes on matrix units, and in numbers elsewhere.
const MATRIX_CHANNEL_BYTES: u32 = 64;
const PLAIN_CHANNELS: u32 = 8;

/// What the kernel is compiled for, and with which matrix units.
#[derive(Clone, Copy, Debug)]
struct Compiled {
    build: Build,
    matrices: Option<Matrices>,
}

impl Compiled {
    /// For results of this height, on matrix units if that fits. None where nothing fits.
    fn of(
        x: &CubeTensor,
        kernel: [usize; 2],
        stride: [usize; 2],
        inputs: usize,
        height: usize,
    ) -> Option<Self> {
        let with = |matrices| Self::with(matrices, x, kernel, stride, inputs, height);
        Matrices::of(x)
            .and_then(|matrices| with(Some(matrices)))
            .or_else(|| with(None))
    }

    fn with(
        matrices: Option<Matrices>,
        x: &CubeTensor,
        kernel: [usize; 2],
        stride: [usize; 2],
        inputs: usize,
        height: usize,
    ) -> Option<Self> {
        let inputs = inputs as u32;
        let build = |(rows, planes, share): (u32, u32, u32)| {
            let channels = match matrices {
                Some(Matrices { depth, bytes, .. }) => {
                    let channels = MATRIX_CHANNEL_BYTES / bytes / share;
                    channels.max(depth).min(inputs.next_multiple_of(depth))
                }
                None => (PLAIN_CHANNELS / share).min(inputs.next_multiple_of(4)),
            };
            let gap = matrices.map_or(4, |matrices| matrices.gap);
            Build {
                kernel: kernel.map(|size| size as u32),
                stride: stride.map(|size| size as u32),
                rows,
                planes,
                channels,
                brought: channels.min(inputs),
                pitch: channels + gap,
                weight_pitch: TILE + matrices.map_or(0, |matrices| matrices.weight_gap),
                edge: matrices.map_or(0, |matrices| matrices.edge),
                depth: matrices.map_or(0, |matrices| matrices.depth),
                plane: matrices.map_or(0, |matrices| matrices.plane),
            }
        };
        let most = x.client.properties().hardware.max_units_per_cube;
        let fits = |build: &Build| {
            let bytes = matrices.map_or(4, |matrices| matrices.bytes);
            let staged = build.shared().iter().sum::<u32>() * bytes;
            let finished = build.edge * build.edge * 4 * build.planes;
            (staged + finished) as usize <= shared_bytes(x) && build.units() <= most
        };
        // Tall tiles read their weights less often; low ones waste less where the volume is low.
        let tall = matrices.is_some() && height > 8;
        let builds = [
            (16, 8, 1),
            (8, 4, 1),
            (4, 4, 1),
            (8, 4, 2),
            (4, 4, 2),
            (2, 2, 2),
        ];
        let builds = builds[usize::from(!tall)..].iter().copied().map(build);
        let build = builds.into_iter().find(fits)?;
        Some(Self { build, matrices })
    }
}

/// How the convolution is computed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forward {
    geometry: Geometry,
    compiled: Compiled,
}

impl Forward {
    /// None where the kernels don't fit.
    pub(super) fn of(x: &CubeTensor, geometry: &Geometry) -> Option<Self> {
        let [_, height, width] = geometry.kernel;
        let [_, down, across] = geometry.stride;
        let compiled = Compiled::of(
            x,
            [height, width],
            [down, across],
            geometry.inputs,
            geometry.output()[1],
        )?;
        counted(geometry).then_some(Self {
            geometry: *geometry,
            compiled,
        })
    }

    /// `[N, Cout, D', H', W']` from `[N, Cin, D, H, W]`, `[Cout, Cin, kernel]` and `[Cout]`.
    pub(super) fn run(self, x: CubeTensor, weight: CubeTensor, bias: CubeTensor) -> CubeTensor {
        let Self { geometry, compiled } = self;
        let x = channels_last(x);
        let out_size = geometry.output();
        let [d, h, w] = out_size;
        let out = empty(&x, [geometry.images, d, h, w, geometry.outputs], x.dtype);
        let axis = |i: usize| Axis {
            taps: geometry.kernel[i],
            first_tap: 0,
            tap_step: 1,
            stride: geometry.stride[i],
            padding: geometry.padding[i],
            size: out_size[i],
            first: 0,
            apart: 1,
        };
        let axes = [0, 1, 2].map(axis);
        gather(&x, &weight, Some(bias), &out, axes, compiled);
        permute_nhwc_to_nchw(out)
    }
}

/// How the gradient of the input is computed: one gathering for every residue of its voxels by the stride.
#[derive(Clone, Debug)]
pub(super) struct Backward {
    geometry: Geometry,
    phases: Vec<([Axis; 3], Compiled)>,
}

impl Backward {
    /// None where the kernels don't fit.
    pub(super) fn of(gradient: &CubeTensor, geometry: &Geometry) -> Option<Self> {
        if !counted(geometry) {
            return None;
        }
        let mut phases = Vec::new();
        let [depths, heights, widths] = geometry.stride;
        for z in 0..depths {
            for y in 0..heights {
                for x in 0..widths {
                    let residues = [z, y, x];
                    let axes: [Axis; 3] =
                        std::array::from_fn(|i| Axis::backwards(geometry, i, residues[i]));
                    if axes.iter().any(|axis| axis.taps == 0 || axis.size == 0) {
                        // Voxels that no tap reads have a gradient of zero.
                        continue;
                    }
                    if (0..3).any(|i| residues[i] + geometry.padding[i] > axes[i].first_tap) {
                        return None;
                    }
                    let kernel = [axes[1].taps, axes[2].taps];
                    let compiled =
                        Compiled::of(gradient, kernel, [1; 2], geometry.outputs, axes[1].size)?;
                    phases.push((axes, compiled));
                }
            }
        }
        Some(Self {
            geometry: *geometry,
            phases,
        })
    }

    /// `[N, Cin, D, H, W]` from `[N, Cout, D', H', W']` and `[Cout, Cin, kernel]`.
    pub(super) fn run(self, gradient: CubeTensor, weight: CubeTensor) -> CubeTensor {
        let geometry = self.geometry;
        let gradient = channels_last(gradient);
        let [d, h, w] = geometry.size;
        let shape = [geometry.images, d, h, w, geometry.inputs];
        let phases: usize = geometry.stride.iter().product();
        let out = if self.phases.len() == phases {
            empty(&gradient, shape, gradient.dtype)
        } else {
            // On CUDA what Burn fills has rows that end with unused memory, unless it is told otherwise.
            into_contiguous(zeros_client(
                gradient.client.clone(),
                gradient.device.clone(),
                shape.into(),
                gradient.dtype,
            ))
        };
        for (axes, compiled) in self.phases {
            gather(&gradient, &weight, None, &out, axes, compiled);
        }
        permute_nhwc_to_nchw(out)
    }
}

/// What is gathered along an axis.
#[derive(Clone, Copy, Debug)]
struct Axis {
    taps: usize,
    /// Of the weights; forward the first of those that are taken, backwards the last.
    first_tap: usize,
    /// From one of them to the next.
    tap_step: usize,
    /// From a computed voxel to the next, in voxels of x.
    stride: usize,
    /// Zeros before x.
    padding: usize,
    /// Voxels that are computed.
    size: usize,
    /// The first of them in the result, and how far apart they lie.
    first: usize,
    apart: usize,
}

impl Axis {
    /// For the input's voxels of this residue: `i = residue + stride·q` was read by the taps `t` for which the stride divides
    /// `i + padding − t`, as the output voxel `q + (residue + padding − t) / stride`.
    fn backwards(geometry: &Geometry, axis: usize, residue: usize) -> Self {
        let (stride, kernel) = (geometry.stride[axis], geometry.kernel[axis]);
        let padded = residue + geometry.padding[axis];
        let lowest = padded % stride;
        let taps = kernel.saturating_sub(lowest).div_ceil(stride);
        let first_tap = lowest + taps.saturating_sub(1) * stride;
        Self {
            taps,
            first_tap,
            tap_step: stride,
            stride: 1,
            padding: first_tap.saturating_sub(padded) / stride,
            size: geometry.size[axis].saturating_sub(residue).div_ceil(stride),
            first: residue,
            apart: stride,
        }
    }
}

/// Gathers into `out` from x, both channels last. With a bias the weights are those of the convolution, without one those of the
/// way back.
fn gather(
    x: &CubeTensor,
    weight: &CubeTensor,
    bias: Option<CubeTensor>,
    out: &CubeTensor,
    axes: [Axis; 3],
    compiled: Compiled,
) {
    let backwards = bias.is_none();
    let weight = pack(weight, &axes, backwards);
    let (shape, full) = (x.shape(), out.shape());
    let (inputs, outputs) = (shape[4], full[4]);
    let Compiled { build, matrices } = compiled;
    let [z, y, x_axis] = axes;
    let sizes = SizesLaunch::new(
        shape[0] as u32,
        shape[1] as u32,
        shape[2] as u32,
        shape[3] as u32,
        inputs as u32,
        outputs as u32,
        z.size as u32,
        y.size as u32,
        x_axis.size as u32,
        z.taps as u32,
        z.stride as u32,
        z.padding as u32,
        y.padding as u32,
        x_axis.padding as u32,
        full[1] as u32,
        full[2] as u32,
        full[3] as u32,
        z.first as u32,
        y.first as u32,
        x_axis.first as u32,
        z.apart as u32,
        y.apart as u32,
        x_axis.apart as u32,
    );
    let tiles = outputs.div_ceil(TILE as usize)
        * x_axis.size.div_ceil(TILE_WIDTH as usize)
        * y.size.div_ceil(build.rows as usize)
        * z.size
        * shape[0];
    let has_bias = bias.is_some();
    // The kernel reads no bias then, but takes a tensor.
    let bias = bias.unwrap_or_else(|| empty(x, [1], x.dtype));
    let dtype = dtype_to_storage_type(x.dtype);
    let client = x.client.clone();
    // SAFETY: the kernels read and write where their own conditions say that there is something.
    match compiled.matrices {
        Some(Matrices { element, .. }) => unsafe {
            gather_by_matrices::launch_unchecked(
                &client,
                cubes(tiles),
                CubeDim::new_2d(build.plane, build.planes),
                vector(inputs, matrices),
                vector(outputs, matrices),
                x.clone().into_tensor_arg(),
                weight.into_tensor_arg(),
                bias.into_tensor_arg(),
                out.clone().into_tensor_arg(),
                sizes,
                has_bias,
                build,
                dtype,
                element,
            )
        },
        None => unsafe {
            gather_plainly::launch_unchecked(
                &client,
                cubes(tiles),
                CubeDim::new_1d(build.units()),
                vector(inputs, matrices),
                vector(outputs, matrices),
                x.clone().into_tensor_arg(),
                weight.into_tensor_arg(),
                bias.into_tensor_arg(),
                out.clone().into_tensor_arg(),
                sizes,
                has_bias,
                build,
                dtype,
            )
        },
    }
}

/// The weights `[Cout, Cin, kernel]` as the kernels read them.
fn pack(weight: &CubeTensor, axes: &[Axis; 3], backwards: bool) -> CubeTensor {
    let shape = weight.shape();
    let taps: usize = axes.iter().map(|axis| axis.taps).product();
    let out = empty(weight, [taps, shape[0] * shape[1]], weight.dtype);
    let [z, y, x] = axes;
    let (count, dim) = one_unit_each(weight, out.shape().num_elements());
    pack_weights::launch(
        &weight.client.clone(),
        count,
        dim,
        weight.clone().into_tensor_arg(),
        out.clone().into_tensor_arg(),
        TapsLaunch::new(
            y.taps as u32,
            x.taps as u32,
            z.first_tap as u32,
            y.first_tap as u32,
            x.first_tap as u32,
            z.tap_step as u32,
            y.tap_step as u32,
            x.tap_step as u32,
        ),
        backwards,
        dtype_to_storage_type(weight.dtype),
    );
    out
}
