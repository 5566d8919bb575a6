//! The arithmetic on GPUs. Planes are cut into slices, a cube each; sums have two stages and no atomics, so they repeat bit
//! for bit.
//!
//! Features are `[N, C, voxels]` of type `F`; moments `[2, N·C]` (mean, 1 / deviation), sums `[2, N·C]`, gamma and beta
//! `[C]` in f32; all contiguous.

use cubecl::prelude::*;

/// Adds up what each unit of a cube has. All units have to come here.
#[cube]
fn add_up(mine: f32, shared: &mut Shared<[f32]>) -> f32 {
    shared[UNIT_POS_X as usize] = mine;
    sync_cube();
    let mut half = CUBE_DIM_X / 2;
    while half > 0 {
        if UNIT_POS_X < half {
            let other = shared[(UNIT_POS_X + half) as usize];
            shared[UNIT_POS_X as usize] += other;
        }
        sync_cube();
        half /= 2;
    }
    let total = shared[0];
    // Nobody overwrites it before all have read it.
    sync_cube();
    total
}

/// Mean and sum of squared deviations of each slice, `[2, N·C, slices]`.
#[cube(launch)]
pub fn slice_moments<F: Float>(
    x: &Tensor<F>,
    out: &mut Tensor<f32>,
    planes: u32,
    voxels: u32,
    slices: u32,
    per_slice: u32,
    #[comptime] units: u32,
    #[define(F)] _dtype: ElemType,
) {
    let cube = CUBE_POS as u32;
    let mut shared = Shared::<[f32]>::new_slice(comptime!(units as usize));
    if cube < planes * slices {
        let plane = cube / slices * voxels;
        let first = cube % slices * per_slice;
        let end = min(first + per_slice, voxels);
        let mut sum = 0.0f32;
        let mut at = first + UNIT_POS_X;
        while at < end {
            sum += f32::cast_from(x[(plane + at) as usize]);
            at += units;
        }
        let mean = add_up(sum, &mut shared) / f32::cast_from(end - first);
        let mut squares = 0.0f32;
        let mut at = first + UNIT_POS_X;
        while at < end {
            let deviation = f32::cast_from(x[(plane + at) as usize]) - mean;
            squares += deviation * deviation;
            at += units;
        }
        let squares = add_up(squares, &mut shared);
        if UNIT_POS_X == 0 {
            out[cube as usize] = mean;
            out[(planes * slices + cube) as usize] = squares;
        }
    }
}

/// Mean and 1 / deviation of each plane from those of its slices (Chan, Golub and LeVeque, 1979).
#[cube(launch)]
pub fn merge_moments(
    parts: &Tensor<f32>,
    out: &mut Tensor<f32>,
    planes: u32,
    voxels: u32,
    slices: u32,
    per_slice: u32,
    epsilon: f32,
) {
    if ABSOLUTE_POS < planes as usize {
        let plane = ABSOLUTE_POS as u32;
        let mut count = 0.0f32;
        let mut mean = 0.0f32;
        let mut squares = 0.0f32;
        for slice in 0..slices {
            let part = plane * slices + slice;
            let first = slice * per_slice;
            let here = f32::cast_from(min(first + per_slice, voxels) - first);
            let apart = parts[part as usize] - mean;
            let total = count + here;
            mean += apart * here / total;
            squares +=
                parts[(planes * slices + part) as usize] + apart * apart * count * here / total;
            count = total;
        }
        out[plane as usize] = mean;
        out[(planes + plane) as usize] = 1.0 / (squares / count + epsilon).sqrt();
    }
}

/// `leaky_relu(gamma·(x − mean) / deviation + beta)`.
#[cube(launch)]
pub fn normalize<F: Float>(
    x: &Tensor<F>,
    moments: &Tensor<f32>,
    gamma: &Tensor<f32>,
    beta: &Tensor<f32>,
    out: &mut Tensor<F>,
    planes: u32,
    channels: u32,
    voxels: u32,
    slope: f32,
    #[define(F)] _dtype: ElemType,
) {
    if ABSOLUTE_POS < out.len() {
        let plane = ABSOLUTE_POS as u32 / voxels;
        let channel = (plane % channels) as usize;
        let mean = moments[plane as usize];
        let scale = moments[(planes + plane) as usize];
        let deviation = f32::cast_from(x[ABSOLUTE_POS]) - mean;
        let y = deviation * scale * gamma[channel] + beta[channel];
        out[ABSOLUTE_POS] = F::cast_from(select(y < 0.0, y * slope, y));
    }
}

/// Sums over each slice of the gradient behind the activation, and of it times the normalised x, `[2, N·C, slices]`.
#[cube(launch)]
pub fn slice_gradients<F: Float>(
    x: &Tensor<F>,
    moments: &Tensor<f32>,
    gamma: &Tensor<f32>,
    beta: &Tensor<f32>,
    gradient: &Tensor<F>,
    out: &mut Tensor<f32>,
    planes: u32,
    channels: u32,
    voxels: u32,
    slices: u32,
    per_slice: u32,
    slope: f32,
    #[comptime] units: u32,
    #[define(F)] _dtype: ElemType,
) {
    let cube = CUBE_POS as u32;
    let mut shared = Shared::<[f32]>::new_slice(comptime!(units as usize));
    if cube < planes * slices {
        let plane = cube / slices;
        let channel = (plane % channels) as usize;
        let mean = moments[plane as usize];
        let scale = moments[(planes + plane) as usize];
        let first = cube % slices * per_slice;
        let end = min(first + per_slice, voxels);
        let mut sum = 0.0f32;
        let mut product = 0.0f32;
        let mut at = first + UNIT_POS_X;
        while at < end {
            let here = (plane * voxels + at) as usize;
            let normal = (f32::cast_from(x[here]) - mean) * scale;
            let y = normal * gamma[channel] + beta[channel];
            let g = f32::cast_from(gradient[here]);
            let g = select(y < 0.0, g * slope, g);
            sum += g;
            product += g * normal;
            at += units;
        }
        let sum = add_up(sum, &mut shared);
        let product = add_up(product, &mut shared);
        if UNIT_POS_X == 0 {
            out[cube as usize] = sum;
            out[(planes * slices + cube) as usize] = product;
        }
    }
}

/// Adds up runs of `run` numbers, which lie `stride` apart; the runs begin at `start`, in groups of `stride`.
#[cube(launch)]
pub fn add_runs(parts: &Tensor<f32>, out: &mut Tensor<f32>, start: u32, run: u32, stride: u32) {
    if ABSOLUTE_POS < out.len() {
        let at = ABSOLUTE_POS as u32;
        let first = start + at / stride * stride * run + at % stride;
        let mut sum = 0.0f32;
        for i in 0..run {
            sum += parts[(first + i * stride) as usize];
        }
        out[ABSOLUTE_POS] = sum;
    }
}

/// The gradient with respect to x, from the sums over its plane.
#[cube(launch)]
pub fn input_gradient<F: Float>(
    x: &Tensor<F>,
    moments: &Tensor<f32>,
    gamma: &Tensor<f32>,
    beta: &Tensor<f32>,
    gradient: &Tensor<F>,
    sums: &Tensor<f32>,
    out: &mut Tensor<F>,
    planes: u32,
    channels: u32,
    voxels: u32,
    slope: f32,
    #[define(F)] _dtype: ElemType,
) {
    if ABSOLUTE_POS < out.len() {
        let plane = ABSOLUTE_POS as u32 / voxels;
        let channel = (plane % channels) as usize;
        let mean = moments[plane as usize];
        let scale = moments[(planes + plane) as usize];
        let normal = (f32::cast_from(x[ABSOLUTE_POS]) - mean) * scale;
        let y = normal * gamma[channel] + beta[channel];
        let g = f32::cast_from(gradient[ABSOLUTE_POS]);
        let g = select(y < 0.0, g * slope, g);
        let count = f32::cast_from(voxels);
        let sum = sums[plane as usize] / count;
        let product = sums[(planes + plane) as usize] / count;
        out[ABSOLUTE_POS] = F::cast_from(gamma[channel] * scale * (g - sum - normal * product));
    }
}
