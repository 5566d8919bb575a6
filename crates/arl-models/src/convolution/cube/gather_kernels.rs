//! A convolution on GPUs: every output voxel gathers what the taps of the kernel meet.
//!
//! `y[v, co] = bias[co] + Σ w[tap, ci, co]·x[v·stride + tap − padding, ci]`. Forward that is the convolution itself; with other
//! weights it is the gradient with respect to the input, of which a strided convolution has several interleaved parts, so the
//! results may lie some voxels apart.
//!
//! A cube computes a tile of voxels and of output channels. For one slice of the kernel and some input channels at a time it brings
//! the voxels around the tile and the weights into shared memory, once for all the taps of the slice.
//!
//! Tensors are channels last: x `[N, D, H, W, Cin]`, weights `[kd, kh, kw, Cin, Cout]` ([`pack_weights`]), y `[N, D', H', W', Cout]`.

use cubecl::cmma;
use cubecl::prelude::*;

use super::matrices::{factor, sums};
use super::staging::{BATCH, Corner, Room, Slice, batched, bring, clear, or_zero};

/// Output channels of a tile.
pub const TILE: u32 = 32;
/// Voxels of a tile along W.
pub const TILE_WIDTH: u32 = 16;
/// Voxels and output channels of a unit, where there are no matrix units.
const UNIT_VOXELS: u32 = 8;
const UNIT_CHANNELS: u32 = 4;

/// What the kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Build {
    /// Height and width of the kernel.
    pub kernel: [u32; 2],
    /// Its steps along H and W.
    pub stride: [u32; 2],
    /// Rows of a tile.
    pub rows: u32,
    /// Planes that share them out, where there are matrix units.
    pub planes: u32,
    /// Input channels that are summed over at once.
    pub channels: u32,
    /// Those that are brought; fewer if x has fewer, the others are zeros.
    pub brought: u32,
    /// From one voxel to the next in shared memory, in channels.
    pub pitch: u32,
    /// From the weights of one input channel to those of the next in shared memory.
    pub weight_pitch: u32,
    /// Rows and columns of what a matrix unit gives, over how many channels it sums at once, and the units that it belongs to; 0
    /// where there are none.
    pub edge: u32,
    pub depth: u32,
    pub plane: u32,
}

impl Build {
    /// Units of a cube.
    pub const fn units(&self) -> u32 {
        if self.depth > 0 {
            self.plane * self.planes
        } else {
            self.rows * TILE_WIDTH / UNIT_VOXELS * (TILE / UNIT_CHANNELS)
        }
    }

    /// Of the voxels of the input around a tile.
    pub const fn room(&self) -> Room {
        Room {
            rows: (self.rows - 1) * self.stride[0] + self.kernel[0],
            columns: (TILE_WIDTH - 1) * self.stride[1] + self.kernel[1],
            channels: self.channels,
            brought: self.brought,
            pitch: self.pitch,
        }
    }

    /// Elements of shared memory for the voxels, and for the weights.
    pub const fn shared(&self) -> [u32; 2] {
        let taps = self.kernel[0] * self.kernel[1];
        [
            self.room().elements(),
            taps * self.channels * self.weight_pitch,
        ]
    }
}

/// Sizes that are known when the kernel runs.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub struct Sizes {
    pub images: u32,
    pub depth: u32,
    pub height: u32,
    pub width: u32,
    pub inputs: u32,
    pub outputs: u32,
    /// Voxels that are computed.
    pub out_depth: u32,
    pub out_height: u32,
    pub out_width: u32,
    pub kernel_depth: u32,
    pub stride_depth: u32,
    pub padding_depth: u32,
    pub padding_height: u32,
    pub padding_width: u32,
    /// Voxels of the whole result.
    pub full_depth: u32,
    pub full_height: u32,
    pub full_width: u32,
    /// Where in it the first computed voxel lies, and how far apart they lie.
    pub first_depth: u32,
    pub first_height: u32,
    pub first_width: u32,
    pub apart_depth: u32,
    pub apart_height: u32,
    pub apart_width: u32,
}

/// The tile of a cube. A launch may have more cubes than there are tiles; their images are past the last one.
#[derive(CubeType)]
struct Task {
    image: u32,
    slice: u32,
    row: u32,
    column: u32,
    first_output: u32,
}

#[cube]
fn task(sizes: &Sizes, #[comptime] build: Build) -> Task {
    let cube = CUBE_POS as u32;
    let tiles = sizes.outputs.div_ceil(TILE);
    let across = sizes.out_width.div_ceil(TILE_WIDTH);
    let down = sizes.out_height.div_ceil(build.rows);
    // Cubes that read the same voxels follow one another.
    let tile = cube / tiles;
    Task {
        first_output: cube % tiles * TILE,
        column: tile % across * TILE_WIDTH,
        row: tile / across % down * build.rows,
        slice: tile / (across * down) % sizes.out_depth,
        image: tile / (across * down * sizes.out_depth),
    }
}

/// Brings the voxels around the tile, and zeros beyond the borders, into shared memory.
#[cube]
fn bring_voxels<F: Float, E: Float, S: Size>(
    x: &Tensor<Vector<F, S>>,
    near: &mut Shared<[Vector<E, S>]>,
    task: &Task,
    slice: u32,
    first_input: u32,
    sizes: &Sizes,
    #[comptime] build: Build,
) {
    let slice = Slice {
        index: task.image * sizes.depth + slice,
        height: sizes.height,
        width: sizes.width,
        channels: sizes.inputs,
        padding_height: sizes.padding_height,
        padding_width: sizes.padding_width,
    };
    let corner = Corner {
        row: task.row * build.stride[0],
        column: task.column * build.stride[1],
        channel: first_input,
    };
    let (room, units) = comptime!((build.room(), build.units()));
    bring::<F, E, S>(x, near, &slice, &corner, room, units);
}

/// Brings the weights of a slice of the kernel, zeros for channels that there are not.
#[cube]
fn bring_weights<F: Float, E: Float, T: Size>(
    weight: &Tensor<Vector<F, T>>,
    weights: &mut Shared<[Vector<E, T>]>,
    task: &Task,
    slice: u32,
    first_input: u32,
    sizes: &Sizes,
    #[comptime] build: Build,
) {
    let size = weight.vector_size();
    let vector = comptime!(size as u32);
    let lanes = comptime!(TILE / vector);
    let pitch = comptime!(build.weight_pitch / vector);
    let taps = comptime!(build.kernel[0] * build.kernel[1]);
    let count = comptime!(taps * build.channels * lanes);
    let steps = comptime!(count.div_ceil(build.units()));
    for batch in 0..comptime!(steps.div_ceil(BATCH)) {
        let first = batch * comptime!(BATCH * build.units()) + UNIT_POS;
        let mut values = Array::<Vector<F, T>>::new(comptime!(batched(steps) as usize));
        #[unroll]
        for step in 0..comptime!(batched(steps)) {
            let index = first + comptime!(step * build.units());
            let row = index / lanes;
            let input = first_input + row % build.channels;
            let output = task.first_output + index % lanes * vector;
            let inside = index < count && input < sizes.inputs && output < sizes.outputs;
            let tap = slice * taps + row / build.channels;
            let at = (tap * sizes.inputs + input) * sizes.outputs + output;
            values[step as usize] = or_zero::<F, T>(weight, at / vector, inside);
        }
        #[unroll]
        for step in 0..comptime!(batched(steps)) {
            let index = first + comptime!(step * build.units());
            if index < count {
                let to = index / lanes * pitch + index % lanes;
                weights[to as usize] = Vector::<E, T>::cast_from(values[step as usize]);
            }
        }
    }
}

/// Where a computed voxel of the tile goes; past the end if it is none.
#[cube]
fn place(row: u32, column: u32, channel: u32, task: &Task, sizes: &Sizes) -> u32 {
    let (row, column) = (task.row + row, task.column + column);
    if row < sizes.out_height
        && column < sizes.out_width
        && channel < sizes.outputs
        && task.image < sizes.images
    {
        let z = task.slice * sizes.apart_depth + sizes.first_depth;
        let y = row * sizes.apart_height + sizes.first_height;
        let x = column * sizes.apart_width + sizes.first_width;
        let at = (task.image * sizes.full_depth + z) * sizes.full_height + y;
        (at * sizes.full_width + x) * sizes.outputs + channel
    } else {
        u32::MAX.runtime()
    }
}

/// On matrix units: `E` is what they multiply (f16, bf16, or tf32 for f32). Every plane has some of the tile's rows.
#[cube(launch_unchecked)]
pub fn gather_by_matrices<F: Float, E: Float, S: Size, T: Size>(
    x: &Tensor<Vector<F, S>>,
    weight: &Tensor<Vector<F, T>>,
    bias: &Tensor<F>,
    out: &mut Tensor<F>,
    sizes: &Sizes,
    #[comptime] has_bias: bool,
    #[comptime] build: Build,
    #[define(F)] _dtype: ElemType,
    #[define(E)] _matrix_dtype: ElemType,
) {
    let room = comptime!(build.room());
    let shared = comptime!(build.shared());
    let (vector, weight_vector) = (x.vector_size(), weight.vector_size());
    let mut near = Shared::<[Vector<E, S>]>::new_aligned_slice(
        comptime!(shared[0] as usize / vector),
        32usize,
    );
    let mut weights = Shared::<[Vector<E, T>]>::new_aligned_slice(
        comptime!(shared[1] as usize / weight_vector),
        32usize,
    );
    let square = comptime!((build.edge * build.edge) as usize);
    let mut finished =
        Shared::<[f32]>::new_aligned_slice(comptime!(square * build.planes as usize), 32usize);

    let task = task(sizes, build);
    let plane = UNIT_POS_Y;
    let rows = comptime!(build.rows / build.planes);
    let tiles = comptime!(TILE / build.edge);

    // What a plane computes: so many runs of voxels for each of its rows.
    let runs = comptime!(TILE_WIDTH / build.edge);

    let sums = sums(comptime!(rows * runs * tiles), build.edge, build.depth);

    clear::<E, S>(&mut near, room, vector, comptime!(build.units()));
    for tap_slice in 0..sizes.kernel_depth {
        let padded = task.slice * sizes.stride_depth + tap_slice;
        if padded >= sizes.padding_depth
            && padded < sizes.depth + sizes.padding_depth
            && task.image < sizes.images
        {
            let slice = padded - sizes.padding_depth;
            for chunk in 0..sizes.inputs.div_ceil(build.channels) {
                let first_input = chunk * build.channels;
                sync_cube();
                bring_voxels::<F, E, S>(x, &mut near, &task, slice, first_input, sizes, build);
                bring_weights::<F, E, T>(
                    weight,
                    &mut weights,
                    &task,
                    tap_slice,
                    first_input,
                    sizes,
                    build,
                );
                sync_cube();
                for tap in 0..comptime!(build.kernel[0] * build.kernel[1]) {
                    let (tap_row, tap_column) = (tap / build.kernel[1], tap % build.kernel[1]);
                    #[unroll]
                    for step in 0..comptime!(build.channels / build.depth) {
                        let channel = comptime!(step * build.depth);
                        let mut of_weights = Sequence::<cmma::Matrix<E>>::new();
                        #[unroll]
                        for j in 0..tiles {
                            let at = (tap * build.channels + channel) * build.weight_pitch
                                + j * build.edge;
                            let at = at as usize / weight_vector;
                            of_weights.push(factor::<E, T>(
                                &weights,
                                at,
                                build.weight_pitch,
                                cmma::MatrixIdent::B,
                                cmma::MatrixLayout::RowMajor,
                                build.edge,
                                build.depth,
                            ));
                        }
                        #[unroll]
                        for i in 0..comptime!(rows * runs) {
                            let row =
                                (plane * rows + comptime!(i / runs)) * build.stride[0] + tap_row;
                            let column =
                                comptime!(i % runs * build.edge * build.stride[1]) + tap_column;
                            let at = (row * room.columns + column) * build.pitch + channel;
                            let at = at as usize / vector;
                            let matrix = factor::<E, S>(
                                &near,
                                at,
                                comptime!(build.stride[1] * build.pitch).runtime(),
                                cmma::MatrixIdent::A,
                                cmma::MatrixLayout::RowMajor,
                                build.edge,
                                build.depth,
                            );
                            #[unroll]
                            for j in 0..tiles {
                                let sum = sums.index(comptime!((i * tiles + j) as usize));
                                let of_weights = of_weights.index(comptime!(j as usize));
                                cmma::execute(&matrix, of_weights, sum, sum);
                            }
                        }
                    }
                }
            }
        }
    }

    let start = plane as usize * square;
    #[unroll]
    for i in 0..comptime!(rows * runs) {
        #[unroll]
        for j in 0..tiles {
            sync_cube();
            cmma::store(
                &mut finished[start..start + square],
                sums.index(comptime!((i * tiles + j) as usize)),
                build.edge,
                cmma::MatrixLayout::RowMajor,
            );
            sync_cube();
            for step in 0..comptime!(build.edge * build.edge / build.plane) {
                let at = step * build.plane + UNIT_POS_X;
                let channel = task.first_output + j * build.edge + at % build.edge;
                let row = plane * rows + comptime!(i / runs);
                let column = comptime!(i % runs * build.edge) + at / build.edge;
                let to = place(row, column, channel, &task, sizes);
                if to != u32::MAX {
                    let mut value = finished[start + at as usize];
                    if comptime!(has_bias) {
                        value += f32::cast_from(bias[channel as usize]);
                    }
                    out[to as usize] = F::cast_from(value);
                }
            }
        }
    }
}

/// Where there are no matrix units, in f32: a unit has `UNIT_VOXELS` voxels of a row, every second one, and `UNIT_CHANNELS` channels.
#[cube(launch_unchecked)]
pub fn gather_plainly<F: Float, S: Size, T: Size>(
    x: &Tensor<Vector<F, S>>,
    weight: &Tensor<Vector<F, T>>,
    bias: &Tensor<F>,
    out: &mut Tensor<F>,
    sizes: &Sizes,
    #[comptime] has_bias: bool,
    #[comptime] build: Build,
    #[define(F)] _dtype: ElemType,
) {
    let room = comptime!(build.room());
    let shared = comptime!(build.shared());
    let (vector, weight_vector) = (x.vector_size(), weight.vector_size());
    let mut near = Shared::<[Vector<f32, S>]>::new_slice(comptime!(shared[0] as usize / vector));
    let mut weights =
        Shared::<[Vector<f32, T>]>::new_slice(comptime!(shared[1] as usize / weight_vector));

    let task = task(sizes, build);
    let groups = comptime!(TILE / UNIT_CHANNELS);
    let first_channel = UNIT_POS % groups * UNIT_CHANNELS;
    let spread = comptime!(TILE_WIDTH / UNIT_VOXELS);
    let row = UNIT_POS / groups / spread;
    let first_column = UNIT_POS / groups % spread;
    let lanes = comptime!(UNIT_CHANNELS as usize / weight_vector);
    let voxels = comptime!(UNIT_VOXELS as usize);

    let mut sums = Array::<Vector<f32, T>>::new(comptime!(voxels * lanes));
    #[unroll]
    for i in 0..comptime!(voxels * lanes) {
        sums[i] = Vector::<f32, T>::new(0.0f32);
    }

    clear::<f32, S>(&mut near, room, vector, comptime!(build.units()));
    for tap_slice in 0..sizes.kernel_depth {
        let padded = task.slice * sizes.stride_depth + tap_slice;
        if padded >= sizes.padding_depth
            && padded < sizes.depth + sizes.padding_depth
            && task.image < sizes.images
        {
            let slice = padded - sizes.padding_depth;
            for chunk in 0..sizes.inputs.div_ceil(build.channels) {
                let first_input = chunk * build.channels;
                sync_cube();
                bring_voxels::<F, f32, S>(x, &mut near, &task, slice, first_input, sizes, build);
                bring_weights::<F, f32, T>(
                    weight,
                    &mut weights,
                    &task,
                    tap_slice,
                    first_input,
                    sizes,
                    build,
                );
                sync_cube();
                for tap in 0..comptime!(build.kernel[0] * build.kernel[1]) {
                    let (tap_row, tap_column) = (tap / build.kernel[1], tap % build.kernel[1]);
                    let first = (row * build.stride[0] + tap_row) * room.columns
                        + first_column * build.stride[1]
                        + tap_column;
                    for lane in 0..comptime!(build.channels as usize / vector) {
                        let mut values = Array::<Vector<f32, S>>::new(voxels);
                        #[unroll]
                        for i in 0..voxels {
                            let voxel = first + comptime!(i as u32 * spread * build.stride[1]);
                            values[i] = near[(voxel * build.pitch) as usize / vector + lane];
                        }
                        #[unroll]
                        for c in 0..vector {
                            let at = (tap * build.channels) as usize + lane * vector + c;
                            let at = at * comptime!(build.weight_pitch as usize)
                                + first_channel as usize;
                            #[unroll]
                            for l in 0..lanes {
                                let w = weights[at / weight_vector + l];
                                #[unroll]
                                for i in 0..voxels {
                                    let value = values[i].extract(c);
                                    sums[comptime!(i * lanes + l)] += w * Vector::new(value);
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    #[unroll]
    for i in 0..voxels {
        let column = first_column + comptime!(i as u32 * spread);
        #[unroll]
        for l in 0..lanes {
            let values = sums[comptime!(i * lanes + l)];
            #[unroll]
            for c in 0..weight_vector {
                let channel =
                    task.first_output + first_channel + comptime!((l * weight_vector + c) as u32);
                let to = place(row, column, channel, &task, sizes);
                if to != u32::MAX {
                    let mut value = values.extract(c);
                    if comptime!(has_bias) {
                        value += f32::cast_from(bias[channel as usize]);
                    }
                    out[to as usize] = F::cast_from(value);
                }
            }
        }
    }
}

/// Which taps of a kernel are taken along an axis: `first`, `first + step`, … or, backwards, `first − step`, …
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub struct Taps {
    pub count_height: u32,
    pub count_width: u32,
    pub first_depth: u32,
    pub first_height: u32,
    pub first_width: u32,
    pub step_depth: u32,
    pub step_height: u32,
    pub step_width: u32,
}

/// Weights `[Cout, Cin, kd, kh, kw]` in the order in which [`gather_by_matrices`] reads them: `[taps, Cin, Cout]`, or with `backwards`
/// `[taps, Cout, Cin]` with the taps turned around.
#[cube(launch)]
pub fn pack_weights<F: Float>(
    weight: &Tensor<F>,
    out: &mut Tensor<F>,
    taps: &Taps,
    #[comptime] backwards: bool,
    #[define(F)] _dtype: ElemType,
) {
    if ABSOLUTE_POS < out.len() {
        let (outputs, inputs) = (weight.shape(0), weight.shape(1));
        let inner = if comptime!(backwards) {
            inputs
        } else {
            outputs
        };
        let row = ABSOLUTE_POS / inner;
        let column = ABSOLUTE_POS % inner;
        let middle = if comptime!(backwards) {
            outputs
        } else {
            inputs
        };
        let tap = row / middle;
        let row = row % middle;
        let (output, input) = if comptime!(backwards) {
            (row, column)
        } else {
            (column, row)
        };
        let across = taps.count_width as usize;
        let down = taps.count_height as usize;
        let x = tap % across;
        let y = tap / across % down;
        let z = tap / (across * down);
        let (z, y, x) = if comptime!(backwards) {
            (
                taps.first_depth as usize - z * taps.step_depth as usize,
                taps.first_height as usize - y * taps.step_height as usize,
                taps.first_width as usize - x * taps.step_width as usize,
            )
        } else {
            (
                taps.first_depth as usize + z * taps.step_depth as usize,
                taps.first_height as usize + y * taps.step_height as usize,
                taps.first_width as usize + x * taps.step_width as usize,
            )
        };
        let at = output * weight.stride(0)
            + input * weight.stride(1)
            + z * weight.stride(2)
            + y * weight.stride(3)
            + x * weight.stride(4);
        out[ABSOLUTE_POS] = weight[at];
    }
}
