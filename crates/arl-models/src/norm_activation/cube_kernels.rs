//! The arithmetic on GPUs, whose convolutions leave the channels of a voxel side by side. Voxels are cut into slices, a cube each;
//! sums have two stages and no atomics, so they repeat bit for bit.
//!
//! Features are `[N, voxels, C]` of type `F`; moments `[2, N, C]` (mean, 1 / deviation), sums `[2, N, C]`, gamma and beta
//! `[C]` in f32; all contiguous, and all read in vectors of `S` channels, the lanes.

use cubecl::prelude::*;

use crate::cube::rows::{MERGED_LANES, Share, add_rows, rows_of, share};

/// Voxels of a unit that are taken together: their loads wait for one another no more.
const BLOCK: u32 = 8;

/// A mean and a sum of squared deviations.
#[derive(CubeType, Clone, Copy)]
struct Moments<S: Size> {
    count: f32,
    mean: Vector<f32, S>,
    squares: Vector<f32, S>,
}

/// Those of both together (Chan, Golub and LeVeque, 1979); `there` holds something.
#[cube]
fn together<S: Size>(here: Moments<S>, there: Moments<S>) -> Moments<S> {
    let count = here.count + there.count;
    let part = there.count / count;
    let apart = there.mean - here.mean;
    Moments::<S> {
        count,
        mean: here.mean + apart * Vector::new(part),
        squares: here.squares + there.squares + apart * apart * Vector::new(here.count * part),
    }
}

/// Joins the moments of the units of a lane, for the unit of its first row, which has some. All units have to come here.
#[cube]
fn join_rows<S: Size>(
    mine: Moments<S>,
    share: &Share,
    means: &mut Shared<[Vector<f32, S>]>,
    squares: &mut Shared<[Vector<f32, S>]>,
    counts: &mut Shared<[f32]>,
) -> Moments<S> {
    sync_cube();
    means[UNIT_POS_X as usize] = mine.mean;
    squares[UNIT_POS_X as usize] = mine.squares;
    counts[UNIT_POS_X as usize] = mine.count;
    sync_cube();
    let mut count = mine.count;
    let mut mean = mine.mean;
    let mut square = mine.squares;
    if share.row == 0 {
        for row in 1..share.rows {
            let at = (row * share.width + share.lane) as usize;
            if counts[at] > 0.0 {
                let all = together::<S>(
                    Moments::<S> {
                        count,
                        mean,
                        squares: square,
                    },
                    Moments::<S> {
                        count: counts[at],
                        mean: means[at],
                        squares: squares[at],
                    },
                );
                count = all.count;
                mean = all.mean;
                square = all.squares;
            }
        }
    }
    Moments::<S> {
        count,
        mean,
        squares: square,
    }
}

/// Mean and sum of squared deviations of each slice, `[2, N, slices, C]`.
#[cube(launch)]
pub fn slice_moments<F: Float, S: Size>(
    x: &Tensor<Vector<F, S>>,
    out: &mut Tensor<Vector<f32, S>>,
    images: u32,
    voxels: u32,
    lanes: u32,
    slices: u32,
    per_slice: u32,
    #[comptime] units: u32,
    #[define(F)] _dtype: ElemType,
) {
    let cube = CUBE_POS as u32;
    let mut means = Shared::<[Vector<f32, S>]>::new_slice(comptime!(units as usize));
    let mut squares = Shared::<[Vector<f32, S>]>::new_slice(comptime!(units as usize));
    let mut counts = Shared::<[f32]>::new_slice(comptime!(units as usize));
    if cube < images * slices {
        let share = share(lanes, units, units);
        let first = cube % slices * per_slice;
        let count = min(first + per_slice, voxels) - first;
        let first = cube / slices * voxels + first;
        for chunk in 0..lanes.div_ceil(share.width) {
            let lane = chunk * share.width + share.lane;
            let mut seen = 0.0f32;
            let mut mean = Vector::<f32, S>::new(0.0f32);
            let mut square = Vector::<f32, S>::new(0.0f32);
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
                    let middle = sum * Vector::new(1.0 / comptime!(BLOCK as f32));
                    let mut apart = Vector::<f32, S>::new(0.0f32);
                    #[unroll]
                    for i in 0..BLOCK {
                        let deviation = values[i as usize] - middle;
                        apart += deviation * deviation;
                    }
                    let all = together::<S>(
                        Moments::<S> {
                            count: seen,
                            mean,
                            squares: square,
                        },
                        Moments::<S> {
                            count: comptime!(BLOCK as f32).runtime(),
                            mean: middle,
                            squares: apart,
                        },
                    );
                    seen = all.count;
                    mean = all.mean;
                    square = all.squares;
                }
                for row in blocks * BLOCK..rows {
                    let all = together::<S>(
                        Moments::<S> {
                            count: seen,
                            mean,
                            squares: square,
                        },
                        Moments::<S> {
                            count: 1.0f32.runtime(),
                            mean: Vector::<f32, S>::cast_from(x[(start + row * step) as usize]),
                            squares: Vector::<f32, S>::new(0.0f32),
                        },
                    );
                    seen = all.count;
                    mean = all.mean;
                    square = all.squares;
                }
            }
            let all = join_rows::<S>(
                Moments::<S> {
                    count: seen,
                    mean,
                    squares: square,
                },
                &share,
                &mut means,
                &mut squares,
                &mut counts,
            );
            if share.row == 0 && lane < lanes {
                out[(cube * lanes + lane) as usize] = all.mean;
                out[((images * slices + cube) * lanes + lane) as usize] = all.squares;
            }
        }
    }
}

/// Mean and 1 / deviation of each plane from those of its slices; a cube for every `MERGED_LANES` lanes of an image.
#[cube(launch)]
pub fn merge_moments<S: Size>(
    parts: &Tensor<Vector<f32, S>>,
    out: &mut Tensor<Vector<f32, S>>,
    images: u32,
    voxels: u32,
    lanes: u32,
    slices: u32,
    per_slice: u32,
    epsilon: f32,
    #[comptime] units: u32,
) {
    let mut means = Shared::<[Vector<f32, S>]>::new_slice(comptime!(units as usize));
    let mut squares = Shared::<[Vector<f32, S>]>::new_slice(comptime!(units as usize));
    let mut counts = Shared::<[f32]>::new_slice(comptime!(units as usize));
    let cube = CUBE_POS as u32;
    let share = share(lanes, units, MERGED_LANES);
    let chunks = lanes.div_ceil(share.width);
    if cube < images * chunks {
        let image = cube / chunks;
        let lane = cube % chunks * share.width + share.lane;
        let mut count = 0.0f32;
        let mut mean = Vector::<f32, S>::new(0.0f32);
        let mut square = Vector::<f32, S>::new(0.0f32);
        if lane < lanes {
            for row in 0..rows_of(share.row, share.rows, slices) {
                let slice = share.row + row * share.rows;
                let first = slice * per_slice;
                let part = (image * slices + slice) * lanes + lane;
                let all = together::<S>(
                    Moments::<S> {
                        count,
                        mean,
                        squares: square,
                    },
                    Moments::<S> {
                        count: f32::cast_from(min(first + per_slice, voxels) - first),
                        mean: parts[part as usize],
                        squares: parts[(images * slices * lanes + part) as usize],
                    },
                );
                count = all.count;
                mean = all.mean;
                square = all.squares;
            }
        }
        let all = join_rows::<S>(
            Moments::<S> {
                count,
                mean,
                squares: square,
            },
            &share,
            &mut means,
            &mut squares,
            &mut counts,
        );
        if share.row == 0 && lane < lanes {
            let plane = image * lanes + lane;
            let variance = all.squares / Vector::new(all.count);
            let one = Vector::<f32, S>::new(1.0f32);
            out[plane as usize] = all.mean;
            out[(images * lanes + plane) as usize] = one / (variance + Vector::new(epsilon)).sqrt();
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
    images: u32,
    voxels: u32,
    lanes: u32,
    slope: f32,
    #[define(F)] _dtype: ElemType,
) {
    let at = ABSOLUTE_POS as u32;
    if at < images * voxels * lanes {
        let lane = at % lanes;
        let plane = at / (voxels * lanes) * lanes + lane;
        let mean = moments[plane as usize];
        let scale = moments[(images * lanes + plane) as usize];
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
    images: u32,
    voxels: u32,
    lanes: u32,
    slices: u32,
    per_slice: u32,
    slope: f32,
    #[comptime] units: u32,
    #[define(F)] _dtype: ElemType,
) {
    let cube = CUBE_POS as u32;
    let mut shared = Shared::<[Vector<f32, S>]>::new_slice(comptime!(units as usize));
    if cube < images * slices {
        let share = share(lanes, units, units);
        let image = cube / slices;
        let first = cube % slices * per_slice;
        let count = min(first + per_slice, voxels) - first;
        let first = image * voxels + first;
        for chunk in 0..lanes.div_ceil(share.width) {
            let lane = chunk * share.width + share.lane;
            let mut sum = Vector::<f32, S>::new(0.0f32);
            let mut product = Vector::<f32, S>::new(0.0f32);
            if lane < lanes {
                let plane = image * lanes + lane;
                let mean = moments[plane as usize];
                let scale = moments[(images * lanes + plane) as usize];
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
                out[((images * slices + cube) * lanes + lane) as usize] = product;
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
    images: u32,
    voxels: u32,
    lanes: u32,
    slope: f32,
    #[define(F)] _dtype: ElemType,
) {
    let at = ABSOLUTE_POS as u32;
    if at < images * voxels * lanes {
        let lane = at % lanes;
        let plane = at / (voxels * lanes) * lanes + lane;
        let planes = images * lanes;
        let gamma = gamma[lane as usize];
        let mean = moments[plane as usize];
        let scale = moments[(planes + plane) as usize];
        let normal = (Vector::<f32, S>::cast_from(x[ABSOLUTE_POS]) - mean) * scale;
        let y = normal * gamma + beta[lane as usize];
        let g = Vector::<f32, S>::cast_from(gradient[ABSOLUTE_POS]);
        let g = kinked::<S>(y, g, g * Vector::new(slope));
        let part = Vector::<f32, S>::new(1.0 / f32::cast_from(voxels));
        let sum = sums[plane as usize] * part;
        let product = sums[(planes + plane) as usize] * part;
        let of_x = gamma * scale * (g - sum - normal * product);
        out[ABSOLUTE_POS] = Vector::<F, S>::cast_from(of_x);
    }
}
