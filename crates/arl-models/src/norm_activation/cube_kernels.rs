//! The arithmetic on GPUs, whose convolutions leave the channels of a voxel side by side. Voxels are cut into slices, a cube each;
//! sums have two stages and no atomics, so they repeat bit for bit.
//!
//! Features are `[N, voxels, C]` of type `F`; moments `[2, N, C]` (mean, 1 / deviation), sums `[2, N, C]`, gamma and beta
//! `[C]` in f32; all contiguous, and all read in vectors of `S` channels, the lanes.

use cubecl::prelude::*;

use crate::cube::rows::{MERGED_LANES, Share, Slices, add_rows, rows_of, share};

/// Voxels of a unit that are taken together: their loads wait for one another no more.
const BLOCK: u32 = 8;

/// The mean of values that come a few at a time, and the sum of their squared deviations from it.
#[derive(CubeType)]
struct Moments<S: Size> {
    count: RuntimeCell<f32>,
    mean: RuntimeCell<Vector<f32, S>>,
    squares: RuntimeCell<Vector<f32, S>>,
}

#[cube]
impl<S: Size> Moments<S> {
    /// Of nothing.
    fn new() -> Moments<S> {
        Moments::<S> {
            count: RuntimeCell::new(0.0f32),
            mean: RuntimeCell::new(Vector::new(0.0f32)),
            squares: RuntimeCell::new(Vector::new(0.0f32)),
        }
    }

    /// Joins those of others, of which there are some (Chan, Golub and LeVeque, 1979).
    fn join(&self, count: f32, mean: Vector<f32, S>, squares: Vector<f32, S>) {
        let all = self.count.read() + count;
        let part = count / all;
        let apart = mean - self.mean.read();
        let between = apart * apart * Vector::new(self.count.read() * part);
        self.count.store(all);
        self.mean
            .store(self.mean.read() + apart * Vector::new(part));
        self.squares.store(self.squares.read() + squares + between);
    }
}

/// What the units of a cube tell each other of their moments.
#[derive(CubeType)]
struct Told<S: Size> {
    counts: Shared<[f32]>,
    means: Shared<[Vector<f32, S>]>,
    squares: Shared<[Vector<f32, S>]>,
}

#[cube]
impl<S: Size> Told<S> {
    fn new(#[comptime] units: u32) -> Told<S> {
        Told::<S> {
            counts: Shared::<[f32]>::new_slice(comptime!(units as usize)),
            means: Shared::<[Vector<f32, S>]>::new_slice(comptime!(units as usize)),
            squares: Shared::<[Vector<f32, S>]>::new_slice(comptime!(units as usize)),
        }
    }

    /// Joins the moments of the units of a lane in the unit of its first row, which has some. All units have to come here.
    fn join_rows(&mut self, mine: &Moments<S>, share: &Share) {
        // Nobody overwrites what others still read.
        sync_cube();
        self.counts[UNIT_POS_X as usize] = mine.count.read();
        self.means[UNIT_POS_X as usize] = mine.mean.read();
        self.squares[UNIT_POS_X as usize] = mine.squares.read();
        sync_cube();
        if share.row == 0 {
            for row in 1..share.rows {
                let at = (row * share.width + share.lane) as usize;
                if self.counts[at] > 0.0 {
                    mine.join(self.counts[at], self.means[at], self.squares[at]);
                }
            }
        }
    }
}

/// Mean and sum of squared deviations of each slice, `[2, N, slices, C]`.
#[cube(launch)]
pub fn slice_moments<F: Float, S: Size>(
    x: &Tensor<Vector<F, S>>,
    out: &mut Tensor<Vector<f32, S>>,
    slices: Slices,
    #[comptime] units: u32,
    #[define(F)] _dtype: ElemType,
) {
    let cube = CUBE_POS as u32;
    let mut told = Told::<S>::new(units);
    if cube < slices.images * slices.per_image {
        let lanes = slices.lanes;
        let share = share(lanes, units, units);
        let first = slices.first_of(cube);
        let count = slices.voxels_of(cube % slices.per_image);
        for chunk in 0..lanes.div_ceil(share.width) {
            let lane = chunk * share.width + share.lane;
            let moments = Moments::<S>::new();
            if lane < lanes {
                let rows = rows_of(share.row, share.rows, count);
                let start = (first + share.row) * lanes + lane;
                let step = share.rows * lanes;
                let blocks = rows / BLOCK;
                for block in 0..blocks {
                    let at = start + block * BLOCK * step;
                    let mut sum = Vector::<f32, S>::new(0.0f32);
                    let mut values = Array::<Vector<f32, S>>::new(comptime!(BLOCK as usize));
                    #[unroll]
                    for i in 0..BLOCK {
                        let value = Vector::<f32, S>::cast_from(x[(at + i * step) as usize]);
                        values[i as usize] = value;
                        sum += value;
                    }
                    let mean = sum * Vector::new(1.0 / comptime!(BLOCK as f32));
                    let mut squares = Vector::<f32, S>::new(0.0f32);
                    #[unroll]
                    for i in 0..BLOCK {
                        let deviation = values[i as usize] - mean;
                        squares += deviation * deviation;
                    }
                    moments.join(comptime!(BLOCK as f32).runtime(), mean, squares);
                }
                for row in blocks * BLOCK..rows {
                    let value = Vector::<f32, S>::cast_from(x[(start + row * step) as usize]);
                    moments.join(1.0f32.runtime(), value, Vector::<f32, S>::new(0.0f32));
                }
            }
            told.join_rows(&moments, &share);
            if share.row == 0 && lane < lanes {
                out[(cube * lanes + lane) as usize] = moments.mean.read();
                let squares = (slices.images * slices.per_image + cube) * lanes + lane;
                out[squares as usize] = moments.squares.read();
            }
        }
    }
}

/// Mean and 1 / deviation of each plane from those of its slices; a cube for every `MERGED_LANES` lanes of an image.
#[cube(launch)]
pub fn merge_moments<S: Size>(
    parts: &Tensor<Vector<f32, S>>,
    out: &mut Tensor<Vector<f32, S>>,
    slices: Slices,
    epsilon: f32,
    #[comptime] units: u32,
) {
    let mut told = Told::<S>::new(units);
    let cube = CUBE_POS as u32;
    let lanes = slices.lanes;
    let share = share(lanes, units, MERGED_LANES);
    let chunks = lanes.div_ceil(share.width);
    if cube < slices.images * chunks {
        let image = cube / chunks;
        let lane = cube % chunks * share.width + share.lane;
        let moments = Moments::<S>::new();
        if lane < lanes {
            for row in 0..rows_of(share.row, share.rows, slices.per_image) {
                let slice = share.row + row * share.rows;
                let part = (image * slices.per_image + slice) * lanes + lane;
                moments.join(
                    f32::cast_from(slices.voxels_of(slice)),
                    parts[part as usize],
                    parts[(slices.images * slices.per_image * lanes + part) as usize],
                );
            }
        }
        told.join_rows(&moments, &share);
        if share.row == 0 && lane < lanes {
            let plane = image * lanes + lane;
            let variance = moments.squares.read() / Vector::new(moments.count.read());
            let one = Vector::<f32, S>::new(1.0f32);
            out[plane as usize] = moments.mean.read();
            let scale = one / (variance + Vector::new(epsilon)).sqrt();
            out[(slices.images * lanes + plane) as usize] = scale;
        }
    }
}

/// `negative` where y is negative, and `positive` elsewhere.
#[cube]
fn kinked<S: Size>(
    y: Vector<f32, S>,
    positive: Vector<f32, S>,
    negative: Vector<f32, S>,
) -> Vector<f32, S> {
    let zero = Vector::<f32, S>::new(0.0f32);
    select_many(y.less_than(&zero), negative, positive)
}

/// `leaky_relu(gamma·(x − mean) / deviation + beta)`.
#[cube(launch)]
pub fn normalize<F: Float, S: Size>(
    x: &Tensor<Vector<F, S>>,
    moments: &Tensor<Vector<f32, S>>,
    gamma: &Tensor<Vector<f32, S>>,
    beta: &Tensor<Vector<f32, S>>,
    out: &mut Tensor<Vector<F, S>>,
    slices: Slices,
    slope: f32,
    #[define(F)] _dtype: ElemType,
) {
    let at = ABSOLUTE_POS as u32;
    let lanes = slices.lanes;
    if at < slices.images * slices.voxels * lanes {
        let lane = at % lanes;
        let plane = at / (slices.voxels * lanes) * lanes + lane;
        let mean = moments[plane as usize];
        let scale = moments[(slices.images * lanes + plane) as usize];
        let deviation = Vector::<f32, S>::cast_from(x[ABSOLUTE_POS]) - mean;
        let y = deviation * scale * gamma[lane as usize] + beta[lane as usize];
        let y = kinked::<S>(y, y, y * Vector::new(slope));
        out[ABSOLUTE_POS] = Vector::<F, S>::cast_from(y);
    }
}

/// Sums over each slice of the gradient behind the activation, and of it times the normalised x, `[2, N, slices, C]`.
#[cube(launch)]
pub fn slice_gradients<F: Float, S: Size>(
    x: &Tensor<Vector<F, S>>,
    moments: &Tensor<Vector<f32, S>>,
    gamma: &Tensor<Vector<f32, S>>,
    beta: &Tensor<Vector<f32, S>>,
    gradient: &Tensor<Vector<F, S>>,
    out: &mut Tensor<Vector<f32, S>>,
    slices: Slices,
    slope: f32,
    #[comptime] units: u32,
    #[define(F)] _dtype: ElemType,
) {
    let cube = CUBE_POS as u32;
    let mut shared = Shared::<[Vector<f32, S>]>::new_slice(comptime!(units as usize));
    if cube < slices.images * slices.per_image {
        let lanes = slices.lanes;
        let share = share(lanes, units, units);
        let image = cube / slices.per_image;
        let first = slices.first_of(cube);
        let count = slices.voxels_of(cube % slices.per_image);
        for chunk in 0..lanes.div_ceil(share.width) {
            let lane = chunk * share.width + share.lane;
            let mut sum = Vector::<f32, S>::new(0.0f32);
            let mut product = Vector::<f32, S>::new(0.0f32);
            if lane < lanes {
                let plane = image * lanes + lane;
                let mean = moments[plane as usize];
                let scale = moments[(slices.images * lanes + plane) as usize];
                let (gamma, beta) = (gamma[lane as usize], beta[lane as usize]);
                let start = (first + share.row) * lanes + lane;
                let step = share.rows * lanes;
                for row in 0..rows_of(share.row, share.rows, count) {
                    let here = (start + row * step) as usize;
                    let normal = (Vector::<f32, S>::cast_from(x[here]) - mean) * scale;
                    let y = normal * gamma + beta;
                    let g = Vector::<f32, S>::cast_from(gradient[here]);
                    let g = kinked::<S>(y, g, g * Vector::new(slope));
                    sum += g;
                    product += g * normal;
                }
            }
            let sum = add_rows::<S>(sum, &share, &mut shared);
            let product = add_rows::<S>(product, &share, &mut shared);
            if share.row == 0 && lane < lanes {
                out[(cube * lanes + lane) as usize] = sum;
                let product_at = (slices.images * slices.per_image + cube) * lanes + lane;
                out[product_at as usize] = product;
            }
        }
    }
}

/// The gradient with respect to x, from the sums over its plane.
#[cube(launch)]
pub fn input_gradient<F: Float, S: Size>(
    x: &Tensor<Vector<F, S>>,
    moments: &Tensor<Vector<f32, S>>,
    gamma: &Tensor<Vector<f32, S>>,
    beta: &Tensor<Vector<f32, S>>,
    gradient: &Tensor<Vector<F, S>>,
    sums: &Tensor<Vector<f32, S>>,
    out: &mut Tensor<Vector<F, S>>,
    slices: Slices,
    slope: f32,
    #[define(F)] _dtype: ElemType,
) {
    let at = ABSOLUTE_POS as u32;
    let lanes = slices.lanes;
    if at < slices.images * slices.voxels * lanes {
        let lane = at % lanes;
        let plane = at / (slices.voxels * lanes) * lanes + lane;
        let planes = slices.images * lanes;
        let gamma = gamma[lane as usize];
        let mean = moments[plane as usize];
        let scale = moments[(planes + plane) as usize];
        let normal = (Vector::<f32, S>::cast_from(x[ABSOLUTE_POS]) - mean) * scale;
        let y = normal * gamma + beta[lane as usize];
        let g = Vector::<f32, S>::cast_from(gradient[ABSOLUTE_POS]);
        let g = kinked::<S>(y, g, g * Vector::new(slope));
        let part = Vector::<f32, S>::new(1.0 / f32::cast_from(slices.voxels));
        let sum = sums[plane as usize] * part;
        let product = sums[(planes + plane) as usize] * part;
        let of_x = gamma * scale * (g - sum - normal * product);
        out[ABSOLUTE_POS] = Vector::<F, S>::cast_from(of_x);
    }
}
