//! The weight gradient of a convolution on GPUs.
//!
//! It sums over all voxels into few numbers: `dW[co, tap, ci] = Σ_v g[v, co]·x[v·stride + tap − padding, ci]`. As one matrix product
//! it would keep few of a GPU's processors busy, or need the input once per tap in memory. Here the voxels are shared out among
//! cubes. A cube goes through its chunks of voxels for one slice of the kernel and a tile of channels; it brings a chunk of the
//! gradient and the voxels of the input around it into shared memory once, for all the taps of the slice. Its sums go to a part of
//! their own, and the parts are added up in a second kernel, so that results repeat bit for bit.
//!
//! Tensors are channels last: x `[N, D, H, W, Cin]`, g `[N, D', H', W', Cout]`, parts `[parts, Cout, kd, kh, kw, Cin]`.

use cubecl::cmma;
use cubecl::prelude::*;

use super::matrices::{factor, sums};
use super::staging::{Corner, Room, Slice, bring, clear};

/// Channels of a tile, of inputs and outputs each.
pub const TILE: u32 = 32;
/// Voxels of a chunk along W. A matrix unit takes so many at a time, or half of them.
pub const CHUNK_WIDTH: u32 = 16;
/// Units that work on one row of the kernel, where there are no matrix units.
pub const PLAIN_UNITS: u32 = 64;
/// Channels of outputs and of inputs that one of those sums.
const BLOCK: u32 = 4;

/// What the kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Build {
    /// Height and width of the kernel; each row of taps has units of its own.
    pub kernel: [u32; 2],
    /// Its steps along H and W.
    pub stride: [u32; 2],
    /// Rows of a chunk.
    pub rows: u32,
    /// Units that work on one row of the kernel together.
    pub units: u32,
    /// Groups of units that share out the voxels of each chunk.
    pub groups: u32,
    /// Rows and columns of what a matrix unit gives, and over how many voxels it sums at once; 0 where there are none.
    pub edge: u32,
    pub depth: u32,
    /// From one voxel to the next in shared memory, in channels.
    pub pitch: u32,
    /// Channels of outputs and of inputs that are brought of a tile; fewer if there are fewer, the others are zeros.
    pub brought: [u32; 2],
}

impl Build {
    /// Units of a cube.
    pub const fn cube(&self) -> u32 {
        self.units * self.kernel[0] * self.groups
    }

    /// Voxels of a chunk of the gradient.
    pub const fn voxels(&self) -> u32 {
        self.rows * CHUNK_WIDTH
    }

    /// Matrices along the outputs and the inputs of a tile that hold something.
    pub const fn matrices(&self) -> [u32; 2] {
        [
            self.brought[0].div_ceil(self.edge),
            self.brought[1].div_ceil(self.edge),
        ]
    }

    /// Of a chunk of the gradient.
    pub const fn gradient_room(&self) -> Room {
        Room {
            rows: self.rows,
            columns: CHUNK_WIDTH,
            channels: TILE,
            brought: self.brought[0],
            pitch: self.pitch,
        }
    }

    /// Of the voxels of the input around a chunk.
    pub const fn input_room(&self) -> Room {
        Room {
            rows: (self.rows - 1) * self.stride[0] + self.kernel[0],
            columns: (CHUNK_WIDTH - 1) * self.stride[1] + self.kernel[1],
            channels: TILE,
            brought: self.brought[1],
            pitch: self.pitch,
        }
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
    pub out_depth: u32,
    pub out_height: u32,
    pub out_width: u32,
    pub outputs: u32,
    pub kernel_depth: u32,
    pub stride_depth: u32,
    pub padding_depth: u32,
    pub padding_height: u32,
    pub padding_width: u32,
    /// Into how many parts the chunks are shared out.
    pub splits: u32,
}

/// What a cube works on. A launch may have more cubes than there is work; their parts are past the last one.
#[derive(CubeType)]
struct Task {
    split: u32,
    tap: u32,
    first_output: u32,
    first_input: u32,
}

#[cube]
fn task(sizes: &Sizes) -> Task {
    let inputs = sizes.inputs.div_ceil(TILE);
    let outputs = sizes.outputs.div_ceil(TILE);
    // Cubes that read the same voxels follow one another.
    let cube = CUBE_POS as u32;
    Task {
        first_input: cube % inputs * TILE,
        first_output: cube / inputs % outputs * TILE,
        tap: cube / (inputs * outputs) % sizes.kernel_depth,
        split: cube / (inputs * outputs * sizes.kernel_depth),
    }
}

/// A block of the gradient's voxels.
#[derive(CubeType)]
struct Chunk {
    image: u32,
    slice: u32,
    row: u32,
    column: u32,
    /// Of the input; past its end where there is none.
    input_slice: u32,
}

#[cube]
fn chunk(index: u32, tap: u32, sizes: &Sizes, #[comptime] build: Build) -> Chunk {
    let across = sizes.out_width.div_ceil(CHUNK_WIDTH);
    let down = sizes.out_height.div_ceil(build.rows);
    let slice = index / (across * down) % sizes.out_depth;
    let padded = slice * sizes.stride_depth + tap;
    let inside = padded >= sizes.padding_depth;
    Chunk {
        image: index / (across * down * sizes.out_depth),
        slice,
        row: index / across % down * build.rows,
        column: index % across * CHUNK_WIDTH,
        input_slice: select(inside, padded - sizes.padding_depth, sizes.depth),
    }
}

/// How many chunks there are.
#[cube]
fn chunks(sizes: &Sizes, #[comptime] build: Build) -> u32 {
    let across = sizes.out_width.div_ceil(CHUNK_WIDTH);
    let down = sizes.out_height.div_ceil(build.rows);
    sizes.images * sizes.out_depth * down * across
}

/// Brings a chunk of the gradient, and what it meets of the input, into shared memory; zeros beyond their borders.
#[cube]
fn bring_both<F: Float, E: Float, S: Size, T: Size>(
    x: &Tensor<Vector<F, S>>,
    g: &Tensor<Vector<F, T>>,
    near: &mut Shared<[Vector<E, S>]>,
    gradient: &mut Shared<[Vector<E, T>]>,
    chunk: &Chunk,
    task: &Task,
    sizes: &Sizes,
    #[comptime] build: Build,
) {
    let slice = Slice {
        index: chunk.image * sizes.out_depth + chunk.slice,
        height: sizes.out_height,
        width: sizes.out_width,
        channels: sizes.outputs,
        padding_height: 0u32.runtime(),
        padding_width: 0u32.runtime(),
    };
    let corner = Corner {
        row: chunk.row,
        column: chunk.column,
        channel: task.first_output,
    };
    let (room, units) = comptime!((build.gradient_room(), build.cube()));
    bring::<F, E, T>(g, gradient, &slice, &corner, room, units);

    let slice = Slice {
        index: chunk.image * sizes.depth + chunk.input_slice,
        height: sizes.height,
        width: sizes.width,
        channels: sizes.inputs,
        padding_height: sizes.padding_height,
        padding_width: sizes.padding_width,
    };
    let corner = Corner {
        row: chunk.row * build.stride[0],
        column: chunk.column * build.stride[1],
        channel: task.first_input,
    };
    let room = comptime!(build.input_room());
    bring::<F, E, S>(x, near, &slice, &corner, room, units);
}

/// Where the sum of one pair of channels goes, of those behind one tap.
#[cube]
fn place(
    part: u32,
    task: &Task,
    output: u32,
    input: u32,
    row: u32,
    column: u32,
    sizes: &Sizes,
    #[comptime] build: Build,
) -> usize {
    let at = (part * sizes.outputs + output) * sizes.kernel_depth + task.tap;
    let at = (at * build.kernel[0] + row) * build.kernel[1] + column;
    (at * sizes.inputs + input) as usize
}

/// The parts, on matrix units: `E` is what they multiply (f16, bf16, or tf32 for f32). A row of the kernel has a plane of
/// units (or one in each group), which keeps the sums of its taps for the whole tile.
#[cube(launch_unchecked)]
pub fn weight_gradient_by_matrices<F: Float, E: Float, S: Size, T: Size>(
    x: &Tensor<Vector<F, S>>,
    g: &Tensor<Vector<F, T>>,
    out: &mut Tensor<f32>,
    sizes: &Sizes,
    #[comptime] build: Build,
    #[define(F)] _dtype: ElemType,
    #[define(E)] _matrix_dtype: ElemType,
) {
    let (vector, output_vector) = (x.vector_size(), g.vector_size());
    let (room, gradient_room) = comptime!((build.input_room(), build.gradient_room()));
    let mut near = Shared::<[Vector<E, S>]>::new_aligned_slice(
        comptime!(room.elements() as usize / vector),
        32usize,
    );
    let mut gradient = Shared::<[Vector<E, T>]>::new_aligned_slice(
        comptime!(gradient_room.elements() as usize / output_vector),
        32usize,
    );
    let square = comptime!((build.edge * build.edge) as usize);
    let planes = comptime!((build.kernel[0] * build.groups) as usize);
    let mut finished = Shared::<[f32]>::new_aligned_slice(comptime!(square * planes), 32usize);

    let task = task(sizes);
    let plane = UNIT_POS_Y;
    let kernel_row = plane % build.kernel[0];
    let group = plane / build.kernel[0];
    let output_tiles = comptime!(build.matrices()[0]);
    let input_tiles = comptime!(build.matrices()[1]);

    let count = comptime!(build.kernel[1] * output_tiles * input_tiles);
    let sums = sums(count, build.edge, build.depth);

    let units = comptime!(build.cube());
    clear::<E, S>(&mut near, room, vector, units);
    clear::<E, T>(&mut gradient, gradient_room, output_vector, units);
    let total = chunks(sizes, build);
    let per_split = total.div_ceil(sizes.splits);
    let end = min((task.split + 1) * per_split, total);
    for index in task.split * per_split..end {
        let chunk = chunk(index, task.tap, sizes, build);
        if chunk.input_slice < sizes.depth {
            sync_cube();
            bring_both::<F, E, S, T>(x, g, &mut near, &mut gradient, &chunk, &task, sizes, build);
            sync_cube();
            let steps = comptime!(build.voxels() / build.depth / build.groups);
            for step in 0..steps {
                let voxel = (step * build.groups + group) * build.depth;
                let row = voxel / CHUNK_WIDTH;
                let column = voxel % CHUNK_WIDTH;
                let mut of_outputs = Sequence::<cmma::Matrix<E>>::new();
                #[unroll]
                for i in 0..output_tiles {
                    let at = (voxel * build.pitch + i * build.edge) as usize / output_vector;
                    of_outputs.push(factor::<E, T>(
                        &gradient,
                        at,
                        build.pitch,
                        cmma::MatrixIdent::A,
                        cmma::MatrixLayout::ColMajor,
                        build.edge,
                        build.depth,
                    ));
                }
                #[unroll]
                for tap in 0..build.kernel[1] {
                    let first = (row * build.stride[0] + kernel_row) * room.columns
                        + column * build.stride[1]
                        + tap;
                    #[unroll]
                    for j in 0..input_tiles {
                        let at = (first * build.pitch + j * build.edge) as usize / vector;
                        let matrix = factor::<E, S>(
                            &near,
                            at,
                            comptime!(build.stride[1] * build.pitch).runtime(),
                            cmma::MatrixIdent::B,
                            cmma::MatrixLayout::RowMajor,
                            build.edge,
                            build.depth,
                        );
                        #[unroll]
                        for i in 0..output_tiles {
                            let sum = sums.index(comptime!(
                                ((tap * input_tiles + j) * output_tiles + i) as usize
                            ));
                            cmma::execute(
                                of_outputs.index(comptime!(i as usize)),
                                &matrix,
                                sum,
                                sum,
                            );
                        }
                    }
                }
            }
        }
    }

    let part = task.split * build.groups + group;
    #[unroll]
    for tap in 0..build.kernel[1] {
        #[unroll]
        for j in 0..input_tiles {
            #[unroll]
            for i in 0..output_tiles {
                let start = plane as usize * square;
                sync_cube();
                cmma::store(
                    &mut finished[start..start + square],
                    sums.index(comptime!(
                        ((tap * input_tiles + j) * output_tiles + i) as usize
                    )),
                    build.edge,
                    cmma::MatrixLayout::RowMajor,
                );
                sync_cube();
                for step in 0..comptime!(build.edge * build.edge / build.units) {
                    let at = step * build.units + UNIT_POS_X;
                    let output = task.first_output + i * build.edge + at / build.edge;
                    let input = task.first_input + j * build.edge + at % build.edge;
                    if output < sizes.outputs && input < sizes.inputs && task.split < sizes.splits {
                        let to = place(part, &task, output, input, kernel_row, tap, sizes, build);
                        out[to] = finished[start + at as usize];
                    }
                }
            }
        }
    }
}

/// The parts, where there are no matrix units: each unit sums `BLOCK` outputs by `BLOCK` inputs for the taps of one row of the
/// kernel, in f32.
#[cube(launch_unchecked)]
pub fn weight_gradient_plainly<F: Float, S: Size, T: Size>(
    x: &Tensor<Vector<F, S>>,
    g: &Tensor<Vector<F, T>>,
    out: &mut Tensor<f32>,
    sizes: &Sizes,
    #[comptime] build: Build,
    #[define(F)] _dtype: ElemType,
) {
    let (vector, output_vector) = (x.vector_size(), g.vector_size());
    let (room, gradient_room) = comptime!((build.input_room(), build.gradient_room()));
    let mut near =
        Shared::<[Vector<f32, S>]>::new_slice(comptime!(room.elements() as usize / vector));
    let mut gradient = Shared::<[Vector<f32, T>]>::new_slice(comptime!(
        gradient_room.elements() as usize / output_vector
    ));

    let task = task(sizes);
    let kernel_row = UNIT_POS_Y % build.kernel[0];
    let group = UNIT_POS_Y / build.kernel[0];
    let first_output = UNIT_POS_X / (TILE / BLOCK) * BLOCK;
    let first_input = UNIT_POS_X % (TILE / BLOCK) * BLOCK;
    let lanes = comptime!(BLOCK as usize / vector);
    let output_lanes = comptime!(BLOCK as usize / output_vector);
    let many = comptime!((build.kernel[1] * BLOCK) as usize * lanes);

    let mut sums = Array::<Vector<f32, S>>::new(many);
    #[unroll]
    for i in 0..many {
        sums[i] = Vector::<f32, S>::new(0.0f32);
    }

    let units = comptime!(build.cube());
    clear::<f32, S>(&mut near, room, vector, units);
    clear::<f32, T>(&mut gradient, gradient_room, output_vector, units);
    let total = chunks(sizes, build);
    let per_split = total.div_ceil(sizes.splits);
    let end = min((task.split + 1) * per_split, total);
    for index in task.split * per_split..end {
        let chunk = chunk(index, task.tap, sizes, build);
        if chunk.input_slice < sizes.depth {
            sync_cube();
            bring_both::<F, f32, S, T>(x, g, &mut near, &mut gradient, &chunk, &task, sizes, build);
            sync_cube();
            for step in 0..comptime!(build.voxels() / build.groups) {
                let voxel = step * build.groups + group;
                let row = voxel / CHUNK_WIDTH;
                let column = voxel % CHUNK_WIDTH;
                let mut of_outputs = Array::<f32>::new(comptime!(BLOCK as usize));
                #[unroll]
                for lane in 0..output_lanes {
                    let at = voxel * build.pitch + first_output;
                    let values = gradient[at as usize / output_vector + lane];
                    #[unroll]
                    for i in 0..output_vector {
                        of_outputs[lane * output_vector + i] = values.extract(i);
                    }
                }
                #[unroll]
                for tap in 0..build.kernel[1] {
                    let first = (row * build.stride[0] + kernel_row) * room.columns
                        + column * build.stride[1]
                        + tap;
                    #[unroll]
                    for lane in 0..lanes {
                        let at = first * build.pitch + first_input;
                        let values = near[at as usize / vector + lane];
                        #[unroll]
                        for i in 0..BLOCK {
                            let sum = comptime!((tap * BLOCK + i) as usize * lanes + lane);
                            sums[sum] += values * Vector::new(of_outputs[i as usize]);
                        }
                    }
                }
            }
        }
    }

    let part = task.split * build.groups + group;
    #[unroll]
    for tap in 0..build.kernel[1] {
        #[unroll]
        for i in 0..BLOCK {
            #[unroll]
            for lane in 0..lanes {
                let values = sums[comptime!((tap * BLOCK + i) as usize * lanes + lane)];
                #[unroll]
                for j in 0..vector {
                    let output = task.first_output + first_output + i;
                    let input =
                        task.first_input + first_input + comptime!((lane * vector + j) as u32);
                    if output < sizes.outputs && input < sizes.inputs && task.split < sizes.splits {
                        let to = place(part, &task, output, input, kernel_row, tap, sizes, build);
                        out[to] = values.extract(j);
                    }
                }
            }
        }
    }
}

/// Adds up the parts, each of the length of the result.
#[cube(launch)]
pub fn add_parts<F: Float>(
    parts: &Tensor<f32>,
    out: &mut Tensor<F>,
    count: u32,
    #[define(F)] _dtype: ElemType,
) {
    if ABSOLUTE_POS < out.len() {
        let mut sum = 0.0f32;
        let mut at = ABSOLUTE_POS;
        for _ in 0..count {
            sum += parts[at];
            at += out.len();
        }
        out[ABSOLUTE_POS] = F::cast_from(sum);
    }
}
