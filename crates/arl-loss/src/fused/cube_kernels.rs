//! The arithmetic on GPUs. Sums have two stages and no atomics, so they repeat bit for bit.
//!
//! Logits are `[N, C, voxels]` of type `F`; the target class indices `[N, voxels]` (integers `T`) or shares `[N, C, voxels]`
//! (floats `T`); the sums and their gradient `[5 or 10, N, C, K]` in f32, in the order of the constants of `ops`; all
//! contiguous.

use cubecl::prelude::*;

/// What a kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kind {
    /// Sigmoid instead of softmax.
    pub sigmoid: bool,
    /// Shares instead of class indices.
    pub shares: bool,
    /// Ten sums instead of five.
    pub general: bool,
    /// The label of channel 0.
    pub first_label: i32,
}

/// What is known of one class of one voxel: its probability, the rest to 1, the logarithms of both (that of the rest with
/// sigmoid only), its share, and 1 where it counts, else 0.
#[derive(CubeType, Clone, Copy)]
struct Class {
    p: f32,
    q: f32,
    log_p: f32,
    log_q: f32,
    g: f32,
    counts: f32,
}

/// `ln(1 + x)` for `0 <= x <= 1`: 2·artanh(x/(2 + x)), because not all GPUs have a logarithm that is exact near 1.
#[cube]
fn log_1p(x: f32) -> f32 {
    let s = x / (2.0 + x);
    let square = s * s;
    let series = 0.333_333_34
        + square
            * (0.2
                + square
                    * (0.142_857_15
                        + square
                            * (0.111_111_11 + square * (0.090_909_09 + square * (0.076_923_08)))));
    2.0 * (s + s * square * series)
}

/// From a logit, less the logarithm of the sum of all exponentials with softmax.
#[cube]
fn class_of(z: f32, g: f32, counts: f32, #[comptime] sigmoid: bool) -> Class {
    // Finite, so that no share of 0 makes a NaN of it.
    let z = select(z < -1e30f32, -1e30f32, z);
    if comptime!(sigmoid) {
        let z = select(z > 1e30f32, 1e30f32, z);
        let e = (-z.abs()).exp();
        let large = 1.0 / (1.0 + e);
        let small = e / (1.0 + e);
        let log = -log_1p(e);
        let positive = z >= 0.0;
        Class {
            p: select(positive, large, small),
            q: select(positive, small, large),
            log_p: select(positive, log, log + z),
            log_q: select(positive, log - z, log),
            g,
            counts,
        }
    } else {
        let p = z.exp();
        Class {
            p,
            // Not 0 where ln p is not 0 yet.
            q: select(
                z > -1e-3f32,
                -z * (1.0 + z * (0.5 + z * 0.166_666_67)),
                1.0 - p,
            ),
            log_p: z,
            log_q: 0.0f32.runtime(),
            g,
            counts,
        }
    }
}

/// `x^gamma` for `x` in 0 to 1. Where a GPU takes it for a logarithm and an exponential, 0 is no base.
#[cube]
fn power(x: f32, gamma: f32) -> f32 {
    select(gamma == 2.0, x * x, max(x, 1e-30f32).powf(gamma))
}

/// `γ·x^(γ−1)`, finite at 0 also for γ < 1, where it is multiplied by what vanishes faster.
#[cube]
fn power_slope(x: f32, gamma: f32) -> f32 {
    select(
        gamma == 2.0,
        2.0 * x,
        gamma * max(x, 1e-30f32).powf(gamma - 1.0),
    )
}

/// The channel of a label, or a negative number where it does not count; −1 is background of one sigmoid channel.
#[cube]
fn channel_of(label: i32, classes: u32, ignored: i32, #[comptime] first_label: i32) -> i32 {
    let last = classes as i32 - 1 + comptime!(first_label);
    let counts = label >= 0 && label <= last && label != ignored;
    select(counts, label - comptime!(first_label), -2i32)
}

/// The largest logit `m` of each voxel and `ln Σ_c exp(logits − m)`, `[2, N, voxels]`: one unit per voxel. Their sum would
/// lose the digits of the second where the first is large.
#[cube(launch)]
pub fn log_sum_exp<F: Float>(
    logits: &Tensor<F>,
    out: &mut Tensor<f32>,
    classes: u32,
    voxels: u32,
    #[define(F)] _dtype: ElemType,
) {
    let count = out.len() / 2;
    if ABSOLUTE_POS < count {
        let position = ABSOLUTE_POS as u32;
        let first = position / voxels * classes * voxels + position % voxels;
        let mut largest = f32::cast_from(logits[first as usize]);
        for class in 1..classes {
            largest = max(
                largest,
                f32::cast_from(logits[(first + class * voxels) as usize]),
            );
        }
        let mut sum = 0.0f32;
        for class in 0..classes {
            sum += (f32::cast_from(logits[(first + class * voxels) as usize]) - largest).exp();
        }
        out[ABSOLUTE_POS] = largest;
        out[count + ABSOLUTE_POS] = sum.ln();
    }
}

/// `−ln p` of each voxel's own class, `[N, voxels]`; 0 where it does not count.
#[cube(launch)]
pub fn voxel_entropy<F: Float, T: Int>(
    logits: &Tensor<F>,
    log_sums: &Tensor<f32>,
    labels: &Tensor<T>,
    out: &mut Tensor<f32>,
    classes: u32,
    voxels: u32,
    ignored: i32,
    #[define(F, T)] _dtypes: [ElemType; 2],
) {
    if ABSOLUTE_POS < out.len() {
        let position = ABSOLUTE_POS as u32;
        let channel = channel_of(i32::cast_from(labels[ABSOLUTE_POS]), classes, ignored, 0i32);
        let mut entropy = 0.0f32;
        if channel >= 0 {
            let first = position / voxels * classes * voxels + position % voxels;
            let logit = f32::cast_from(logits[(first + channel as u32 * voxels) as usize]);
            entropy = log_sums[ABSOLUTE_POS] - logit + log_sums[out.len() + ABSOLUTE_POS];
        }
        out[ABSOLUTE_POS] = entropy;
    }
}

/// Sums over a slice of a region, `[5 or 10, N, C, K, slices]`: one cube per image, class, region and slice.
///
/// `bounds` are the starts of the regions and the length of the axis, for each of the three axes in turn. `log_sums` are
/// not read with sigmoid.
#[cube(launch)]
pub fn slice_sums<F: Float, T: Numeric>(
    logits: &Tensor<F>,
    log_sums: &Tensor<f32>,
    target: &Tensor<T>,
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
    gamma: f32,
    #[comptime] kind: Kind,
    #[comptime] units: u32,
    #[define(F, T)] _dtypes: [ElemType; 2],
) {
    let sums = comptime!(if kind.general { 10u32 } else { 5u32 });
    let regions = regions_d * regions_h * regions_w;
    let cube = CUBE_POS as u32;
    let cubes = out.len() as u32 / sums;
    let mut shared = Shared::<[f32]>::new_slice(comptime!((units * sums) as usize));
    // The same for all units of a cube: all of them meet at each barrier.
    if cube < cubes {
        let slice = cube % slices;
        let region = cube / slices % regions;
        let class = cube / slices / regions % classes;
        let image = cube / slices / regions / classes;
        let images = cubes / slices / regions / classes;

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
        let mut counted = 0.0f32;
        let mut other = 0.0f32;
        let mut squares = 0.0f32;
        let mut target_squares = 0.0f32;
        let mut focal = 0.0f32;
        let mut at = slice * per_slice + UNIT_POS_X;
        while at < end {
            let d = start_d + at / (size_h * size_w);
            let h = start_h + at / size_w % size_h;
            let w = start_w + at % size_w;
            let voxel = (d * height + h) * width + w;
            let here = (image * voxels + voxel) as usize;
            let this = ((image * classes + class) * voxels + voxel) as usize;
            let mut g = 0.0f32;
            let mut counts = 0.0f32;
            if comptime!(kind.shares) {
                let share = f32::cast_from(target[this]);
                if share >= 0.0 {
                    g = share;
                    counts = 1.0;
                }
                if comptime!(!kind.sigmoid) {
                    // One negative share takes the whole voxel out.
                    let mut counting = 0u32;
                    for other_class in 0..classes {
                        let at_class = (image * classes + other_class) * voxels + voxel;
                        if f32::cast_from(target[at_class as usize]) >= 0.0 {
                            counting += 1;
                        }
                    }
                    if counting < classes {
                        g = 0.0;
                        counts = 0.0;
                    }
                }
            } else {
                let label = i32::cast_from(target[here]);
                let channel = channel_of(label, classes, ignored, kind.first_label);
                if channel >= -1 {
                    counts = 1.0;
                }
                if channel == class as i32 {
                    g = 1.0;
                }
            }
            if counts > 0.0 {
                let mut z = f32::cast_from(logits[this]);
                if comptime!(!kind.sigmoid) {
                    z = z - log_sums[here] - log_sums[(images * voxels) as usize + here];
                }
                let it = class_of(z, g, counts, kind.sigmoid);
                let not_g = counts - g;
                if comptime!(kind.general) {
                    let entropy = -it.log_p * g;
                    tp += it.p * g;
                    fp += it.p * not_g;
                    fn_ += it.q * g;
                    ce += entropy;
                    labelled += g;
                    counted += counts;
                    squares += it.p * it.p;
                    target_squares += g * g;
                    focal += power(it.q, gamma) * entropy;
                    if comptime!(kind.sigmoid) {
                        let negative = -it.log_q * not_g;
                        other += negative;
                        focal += power(it.p, gamma) * negative;
                    } else {
                        other -= it.log_p;
                    }
                } else if g > 0.0 {
                    tp += it.p;
                    fn_ += it.q;
                    ce -= it.log_p;
                    labelled += 1.0;
                } else {
                    fp += it.p;
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
        if comptime!(kind.general) {
            shared[(5 * units + unit) as usize] = counted;
            shared[(6 * units + unit) as usize] = other;
            shared[(7 * units + unit) as usize] = squares;
            shared[(8 * units + unit) as usize] = target_squares;
            shared[(9 * units + unit) as usize] = focal;
        }
        let mut half = CUBE_DIM_X / 2;
        while half > 0 {
            sync_cube();
            if unit < half {
                for sum in 0..sums {
                    let to = (sum * units + unit) as usize;
                    let other = shared[(sum * units + unit + half) as usize];
                    shared[to] += other;
                }
            }
            half /= 2;
        }
        sync_cube();
        if unit < sums {
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

/// The gradient with respect to the logits from that with respect to five sums, softmax against class indices: one unit
/// per voxel.
///
/// With `q_c` the gradient of the sum that `p_c` counts in (TP − FN for the true class, FP for the others) and `e` that
/// of the cross entropy: `p_c·(q_c − Σ_j p_j·q_j) + e·(p_c − g_c)`.
///
/// `parts` are the numbers of the parts that the coordinates lie in, for each of the three axes in turn.
#[cube(launch)]
pub fn labels_gradient<F: Float, T: Int>(
    logits: &Tensor<F>,
    labels: &Tensor<T>,
    gradient: &Tensor<f32>,
    parts: &Tensor<u32>,
    out: &mut Tensor<F>,
    images: u32,
    classes: u32,
    depth: u32,
    height: u32,
    width: u32,
    regions_h: u32,
    regions_w: u32,
    regions: u32,
    ignored: i32,
    #[define(F, T)] _dtypes: [ElemType; 2],
) {
    let voxels = depth * height * width;
    if ABSOLUTE_POS < labels.len() {
        let position = ABSOLUTE_POS as u32;
        let image = position / voxels;
        let voxel = position % voxels;
        let first = image * classes * voxels + voxel;
        let channel = channel_of(i32::cast_from(labels[ABSOLUTE_POS]), classes, ignored, 0i32);
        if channel >= 0 {
            let part_d = parts[(voxel / (height * width)) as usize];
            let part_h = parts[(depth + voxel / width % height) as usize];
            let part_w = parts[(depth + height + voxel % width) as usize];
            let region = (part_d * regions_h + part_h) * regions_w + part_w;
            // Of class 0; that of class c lies c·regions further on, that of the next sum `sum` further.
            let at = image * classes * regions + region;
            let sum = images * classes * regions;

            let mut largest = f32::cast_from(logits[first as usize]);
            for class in 1..classes {
                largest = max(
                    largest,
                    f32::cast_from(logits[(first + class * voxels) as usize]),
                );
            }
            let mut total = 0.0f32;
            for class in 0..classes {
                total +=
                    (f32::cast_from(logits[(first + class * voxels) as usize]) - largest).exp();
            }
            let log_total = total.ln();
            let truth = channel as u32;
            let of_truth = at + truth * regions;
            let gain = gradient[of_truth as usize] - gradient[(of_truth + 2 * sum) as usize];
            let entropy = gradient[(of_truth + 3 * sum) as usize];
            let mut mean = 0.0f32;
            for class in 0..classes {
                let z = f32::cast_from(logits[(first + class * voxels) as usize]);
                let p = (z - largest - log_total).exp();
                if class == truth {
                    mean += p * gain;
                } else {
                    mean += p * gradient[(at + class * regions + sum) as usize];
                }
            }
            for class in 0..classes {
                let here = (first + class * voxels) as usize;
                let p = (f32::cast_from(logits[here]) - largest - log_total).exp();
                if class == truth {
                    out[here] = F::cast_from(p * (gain - mean) + entropy * (p - 1.0));
                } else {
                    let of_fp = gradient[(at + class * regions + sum) as usize];
                    out[here] = F::cast_from(p * (of_fp - mean) + entropy * p);
                }
            }
        } else {
            for class in 0..classes {
                out[(first + class * voxels) as usize] = F::cast_from(0.0f32);
            }
        }
    }
}

/// The gradient of all ten sums for one class of one voxel: with softmax with respect to `ln p`, with sigmoid to the logit.
/// `at` is where TP's lies, and that of the next sum lies `sum` further.
#[cube]
fn class_slope(
    it: Class,
    gradient: &Tensor<f32>,
    at: u32,
    sum: u32,
    gamma: f32,
    #[comptime] sigmoid: bool,
) -> f32 {
    let of_tp = gradient[at as usize];
    let of_fp = gradient[(at + sum) as usize];
    let of_fn = gradient[(at + 2 * sum) as usize];
    let of_ce = gradient[(at + 3 * sum) as usize];
    let of_other = gradient[(at + 6 * sum) as usize];
    let of_squares = gradient[(at + 7 * sum) as usize];
    let of_focal = gradient[(at + 9 * sum) as usize];
    let not_g = it.counts - it.g;
    let overlap =
        it.p * ((of_tp - of_fn) * it.g + of_fp * not_g + 2.0 * of_squares * it.p * it.counts);
    let focal_own = it.g * (power_slope(it.q, gamma) * it.p * it.log_p - power(it.q, gamma));
    if comptime!(sigmoid) {
        let focal_other = power(it.p, gamma) - power_slope(it.p, gamma) * it.q * it.log_q;
        overlap * it.q - of_ce * it.g * it.q
            + of_other * not_g * it.p
            + of_focal * (it.q * focal_own + it.p * not_g * focal_other)
    } else {
        overlap - of_ce * it.g - of_other * it.counts + of_focal * focal_own
    }
}

/// As `labels_gradient`, from all ten sums, for every activation and target.
#[cube(launch)]
pub fn general_gradient<F: Float, T: Numeric>(
    logits: &Tensor<F>,
    target: &Tensor<T>,
    gradient: &Tensor<f32>,
    parts: &Tensor<u32>,
    out: &mut Tensor<F>,
    images: u32,
    classes: u32,
    depth: u32,
    height: u32,
    width: u32,
    regions_h: u32,
    regions_w: u32,
    regions: u32,
    ignored: i32,
    gamma: f32,
    #[comptime] kind: Kind,
    #[define(F, T)] _dtypes: [ElemType; 2],
) {
    let voxels = depth * height * width;
    if ABSOLUTE_POS < (images * voxels) as usize {
        let position = ABSOLUTE_POS as u32;
        let image = position / voxels;
        let voxel = position % voxels;
        let first = image * classes * voxels + voxel;
        let part_d = parts[(voxel / (height * width)) as usize];
        let part_h = parts[(depth + voxel / width % height) as usize];
        let part_w = parts[(depth + height + voxel % width) as usize];
        let region = (part_d * regions_h + part_h) * regions_w + part_w;
        let at = image * classes * regions + region;
        let sum = images * classes * regions;

        // No class's.
        let mut channel = classes as i32;
        let mut voxel_counts = 1.0f32;
        if comptime!(kind.shares) {
            if comptime!(!kind.sigmoid) {
                let mut counting = 0u32;
                for class in 0..classes {
                    if f32::cast_from(target[(first + class * voxels) as usize]) >= 0.0 {
                        counting += 1;
                    }
                }
                if counting < classes {
                    voxel_counts = 0.0;
                }
            }
        } else {
            let label = i32::cast_from(target[ABSOLUTE_POS]);
            channel = channel_of(label, classes, ignored, kind.first_label);
            if channel < -1 {
                voxel_counts = 0.0;
            }
        }

        let mut largest = 0.0f32;
        let mut log_total = 0.0f32;
        let mut mean = 0.0f32;
        // The outer condition is decided when the kernel is compiled.
        #[allow(clippy::collapsible_if)]
        if comptime!(!kind.sigmoid) {
            if voxel_counts > 0.0 {
                largest = f32::cast_from(logits[first as usize]);
                for class in 1..classes {
                    largest = max(
                        largest,
                        f32::cast_from(logits[(first + class * voxels) as usize]),
                    );
                }
                let mut total = 0.0f32;
                for class in 0..classes {
                    let z = f32::cast_from(logits[(first + class * voxels) as usize]);
                    total += (z - largest).exp();
                }
                log_total = total.ln();
                for class in 0..classes {
                    let here = (first + class * voxels) as usize;
                    let mut g = 0.0f32;
                    if comptime!(kind.shares) {
                        g = f32::cast_from(target[here]);
                    } else if channel == class as i32 {
                        g = 1.0;
                    }
                    let z = f32::cast_from(logits[here]) - largest - log_total;
                    let it = class_of(z, g, voxel_counts, kind.sigmoid);
                    mean +=
                        class_slope(it, gradient, at + class * regions, sum, gamma, kind.sigmoid);
                }
            }
        }
        for class in 0..classes {
            let here = (first + class * voxels) as usize;
            let mut g = 0.0f32;
            let mut counts = voxel_counts;
            if comptime!(kind.shares) {
                let share = f32::cast_from(target[here]);
                if share >= 0.0 {
                    g = share;
                } else {
                    counts = 0.0;
                }
            } else if channel == class as i32 {
                g = 1.0;
            }
            let mut slope = 0.0f32;
            if counts > 0.0 {
                let z = f32::cast_from(logits[here]) - largest - log_total;
                let it = class_of(z, g, counts, kind.sigmoid);
                slope = class_slope(it, gradient, at + class * regions, sum, gamma, kind.sigmoid);
                if comptime!(!kind.sigmoid) {
                    slope -= z.exp() * mean;
                }
            }
            out[here] = F::cast_from(slope);
        }
    }
}
