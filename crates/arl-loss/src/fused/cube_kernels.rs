//! The arithmetic on GPUs. Sums have two stages and no atomics, so they repeat bit for bit.
//!
//! Logits are `[N, C, voxels]`, labels `[N, voxels]`, the sums and their gradient `[5, N, C, K]` in the order of the
//! constants of `ops`; all contiguous.

use cubecl::prelude::*;

/// The largest logit `m` of each voxel and `ln Σ_c exp(logits − m)`, `[2, N, voxels]`: one unit per voxel. Their sum would
/// lose the digits of the second where the first is large.
#[cube(launch)]
pub fn log_sum_exp(logits: &Tensor<f32>, out: &mut Tensor<f32>, classes: u32, voxels: u32) {
    let count = out.len() / 2;
    if ABSOLUTE_POS < count {
        let position = ABSOLUTE_POS as u32;
        let first = position / voxels * classes * voxels + position % voxels;
        let mut largest = logits[first as usize];
        for class in 1..classes {
            largest = max(largest, logits[(first + class * voxels) as usize]);
        }
        let mut sum = 0.0f32;
        for class in 0..classes {
            sum += (logits[(first + class * voxels) as usize] - largest).exp();
        }
        out[ABSOLUTE_POS] = largest;
        out[count + ABSOLUTE_POS] = sum.ln();
    }
}

/// Sums over a slice of a region, `[5, N, C, K, slices]`: one cube per image, class, region and slice.
///
/// `bounds` are the starts of the regions and the length of the axis, for each of the three axes in turn.
#[cube(launch)]
pub fn slice_sums(
    logits: &Tensor<f32>,
    log_sums: &Tensor<f32>,
    labels: &Tensor<i32>,
    bounds: &Tensor<u32>,
    out: &mut Tensor<f32>,
    classes: u32,
    height: u32,
    width: u32,
    voxels: u32,
    regions_d: u32,
    regions_h: u32,
    regions_w: u32,
    slices: u32,
    ignored: i32,
    #[comptime] units: u32,
) {
    let regions = regions_d * regions_h * regions_w;
    let cube = CUBE_POS as u32;
    let cubes = out.len() as u32 / 5;
    let mut shared = Shared::<[f32]>::new_slice(comptime!((units * 5) as usize));
    // The same for all units of a cube: all of them meet at each barrier.
    if cube < cubes {
        let slice = cube % slices;
        let region = cube / slices % regions;
        let class = cube / slices / regions % classes;
        let image = cube / slices / regions / classes;

        let along_d = region / (regions_h * regions_w);
        let along_h = regions_d + 1 + region / regions_w % regions_h;
        let along_w = regions_d + 1 + regions_h + 1 + region % regions_w;
        let start_d = bounds[along_d as usize];
        let start_h = bounds[along_h as usize];
        let start_w = bounds[along_w as usize];
        let size_d = bounds[(along_d + 1) as usize] - start_d;
        let size_h = bounds[(along_h + 1) as usize] - start_h;
        let size_w = bounds[(along_w + 1) as usize] - start_w;
        let size = size_d * size_h * size_w;
        let per_slice = size.div_ceil(slices);
        let end = min((slice + 1) * per_slice, size);

        let mut tp = 0.0f32;
        let mut fp = 0.0f32;
        let mut fn_ = 0.0f32;
        let mut ce = 0.0f32;
        let mut labelled = 0.0f32;
        let mut at = slice * per_slice + UNIT_POS_X;
        while at < end {
            let d = start_d + at / (size_h * size_w);
            let h = start_h + at / size_w % size_h;
            let w = start_w + at % size_w;
            let voxel = (d * height + h) * width + w;
            let label = labels[(image * voxels + voxel) as usize];
            if label >= 0 && label < classes as i32 && label != ignored {
                let logit = logits[((image * classes + class) * voxels + voxel) as usize];
                let here = (image * voxels + voxel) as usize;
                let log_p = logit - log_sums[here] - log_sums[labels.len() + here];
                let p = log_p.exp();
                if label == class as i32 {
                    tp += p;
                    fn_ += 1.0 - p;
                    ce -= log_p;
                    labelled += 1.0;
                } else {
                    fp += p;
                }
            }
            at += units;
        }

        let unit = UNIT_POS_X;
        shared[unit as usize] = tp;
        shared[(units + unit) as usize] = fp;
        shared[(2 * units + unit) as usize] = fn_;
        shared[(3 * units + unit) as usize] = ce;
        shared[(4 * units + unit) as usize] = labelled;
        let mut half = CUBE_DIM_X / 2;
        while half > 0 {
            sync_cube();
            if unit < half {
                for sum in 0..5u32 {
                    let to = (sum * units + unit) as usize;
                    let other = shared[(sum * units + unit + half) as usize];
                    shared[to] += other;
                }
            }
            half /= 2;
        }
        sync_cube();
        if unit < 5 {
            out[(unit * cubes + cube) as usize] = shared[(unit * units) as usize];
        }
    }
}

/// Adds up the slices: one unit per sum.
#[cube(launch)]
pub fn add_slices(parts: &Tensor<f32>, out: &mut Tensor<f32>, slices: u32) {
    if ABSOLUTE_POS < out.len() {
        let first = ABSOLUTE_POS as u32 * slices;
        let mut sum = 0.0f32;
        for slice in 0..slices {
            sum += parts[(first + slice) as usize];
        }
        out[ABSOLUTE_POS] = sum;
    }
}

/// The gradient with respect to the logits, from that with respect to the sums: one unit per voxel.
///
/// With `q_c` the gradient of the sum that `p_c` counts in (TP − FN for the true class, FP for the others) and `e` that
/// of the cross entropy: `p_c·(q_c − Σ_j p_j·q_j) + e·(p_c − g_c)`.
///
/// `parts` are the numbers of the parts that the coordinates lie in, for each of the three axes in turn.
#[cube(launch)]
pub fn logits_gradient(
    logits: &Tensor<f32>,
    labels: &Tensor<i32>,
    gradient: &Tensor<f32>,
    parts: &Tensor<u32>,
    out: &mut Tensor<f32>,
    images: u32,
    classes: u32,
    depth: u32,
    height: u32,
    width: u32,
    regions_h: u32,
    regions_w: u32,
    regions: u32,
    ignored: i32,
) {
    let voxels = depth * height * width;
    if ABSOLUTE_POS < labels.len() {
        let position = ABSOLUTE_POS as u32;
        let image = position / voxels;
        let voxel = position % voxels;
        let first = image * classes * voxels + voxel;
        let label = labels[ABSOLUTE_POS];
        if label >= 0 && label < classes as i32 && label != ignored {
            let part_d = parts[(voxel / (height * width)) as usize];
            let part_h = parts[(depth + voxel / width % height) as usize];
            let part_w = parts[(depth + height + voxel % width) as usize];
            let region = (part_d * regions_h + part_h) * regions_w + part_w;
            // Of class 0; that of class c lies c·regions further on, that of the next sum `sum` further.
            let at = image * classes * regions + region;
            let sum = images * classes * regions;

            let mut largest = logits[first as usize];
            for class in 1..classes {
                largest = max(largest, logits[(first + class * voxels) as usize]);
            }
            let mut total = 0.0f32;
            for class in 0..classes {
                total += (logits[(first + class * voxels) as usize] - largest).exp();
            }
            let log_total = total.ln();
            let truth = label as u32;
            let of_truth = at + truth * regions;
            let gain = gradient[of_truth as usize] - gradient[(of_truth + 2 * sum) as usize];
            let entropy = gradient[(of_truth + 3 * sum) as usize];
            let mut mean = 0.0f32;
            for class in 0..classes {
                let p = (logits[(first + class * voxels) as usize] - largest - log_total).exp();
                if class == truth {
                    mean += p * gain;
                } else {
                    mean += p * gradient[(at + class * regions + sum) as usize];
                }
            }
            for class in 0..classes {
                let here = (first + class * voxels) as usize;
                let p = (logits[here] - largest - log_total).exp();
                if class == truth {
                    out[here] = p * (gain - mean) + entropy * (p - 1.0);
                } else {
                    let of_fp = gradient[(at + class * regions + sum) as usize];
                    out[here] = p * (of_fp - mean) + entropy * p;
                }
            }
        } else {
            for class in 0..classes {
                out[(first + class * voxels) as usize] = 0.0;
            }
        }
    }
}
