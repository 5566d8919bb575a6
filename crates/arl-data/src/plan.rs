//! The plan: every decision about a training that follows from the data, as JSON that a person can edit.
//!
//! The rules are nnU-Net v2's (`default_experiment_planner.py`, `network_topology.py`) but for the budget: nnU-Net
//! shrinks the patch until an estimate of GPU memory fits, here until it has at most
//! [`PlanOptions::max_patch_voxels`] voxels.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::dataset::{Dataset, LabelClass};
use crate::error::{DataError, Result};
use crate::fingerprint::{Fingerprint, Intensities};
use crate::resample::resampled_shape;

/// The version of the plan's format that this crate writes and reads.
pub const PLAN_VERSION: u32 = 1;
/// Ratio of spacings (and of sizes) above which an axis counts as anisotropic.
const ANISOTROPY: f64 = 3.0;
/// Smallest edge of a feature map, in voxels.
const MIN_EDGE: usize = 4;

/// Every decision about a training that follows from the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Version of this format.
    pub version: u32,
    /// Name of the dataset.
    pub dataset: String,
    /// Channel names, in order.
    pub channel_names: Vec<String>,
    /// Classes sorted by value, background first.
    pub classes: Vec<LabelClass>,
    /// Voxels with this label count nowhere.
    pub ignore_label: Option<u16>,
    /// Spacing to which everything is resampled, in mm, `[D, H, W]`.
    pub target_spacing: [f64; 3],
    /// Median size of the cropped cases at that spacing, in voxels.
    pub median_shape: [usize; 3],
    /// How each channel is normalised.
    pub normalization: Vec<ChannelNormalization>,
    /// Whether channels with [`ChannelNormalization::ZScore`] take their statistics from the voxels that are not zero in
    /// some channel (holes filled), and are 0 elsewhere. False when absent.
    #[serde(default)]
    pub use_mask_for_norm: bool,
    /// Size of a training patch in voxels.
    pub patch_size: [usize; 3],
    /// Patches per step.
    pub batch_size: usize,
    /// Stride of the network's first convolution.
    pub stem_stride: [usize; 3],
    /// The network's stages, finest first.
    pub stages: Vec<StagePlan>,
    /// Axes (0 = D, 1 = H, 2 = W) along which patches are mirrored at random.
    pub mirror_axes: Vec<usize>,
    /// Share of the patches that are centred on a foreground voxel.
    pub foreground_fraction: f32,
    /// Why each decision was taken, a sentence each.
    pub reasons: Vec<String>,
}

/// One resolution of the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagePlan {
    /// Channels.
    pub features: usize,
    /// Kernel of its convolutions.
    pub kernel: [usize; 3],
    /// Stride of its first convolution, against the stage before.
    pub stride: [usize; 3],
}

/// How a channel is normalised, by its name (`peers`: nnU-Net's `preprocessing/normalization`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "scheme", rename_all = "snake_case")]
pub enum ChannelNormalization {
    /// Clip to the dataset's foreground percentiles, then standardise with its mean and standard deviation.
    Ct {
        /// 0.5th percentile.
        lower: f64,
        /// 99.5th percentile.
        upper: f64,
        /// Mean of the foreground.
        mean: f64,
        /// Standard deviation of the foreground.
        std: f64,
    },
    /// Each image by its own mean and standard deviation.
    ZScore,
    /// As it is.
    None,
    /// Each image to 0..1.
    RescaleTo01,
    /// Divided by 255.
    RgbTo01,
}

/// What the plan may spend, and what a person decides.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanOptions {
    /// The patch is shrunk until it has at most so many voxels.
    pub max_patch_voxels: usize,
    /// Patches per step.
    pub batch_size: usize,
    /// Channels of the finest stage; each further stage has twice as many.
    pub base_features: usize,
    /// No stage has more channels.
    pub max_features: usize,
    /// Stride of the network's first convolution (1 or 2): 2 makes a step several times cheaper.
    pub stem_stride: usize,
    /// Share of the patches that are centred on foreground, 0 to 1 (nnU-Net: 0.33).
    pub foreground_fraction: f32,
    /// Overrides the rule for the target spacing, mm `[D, H, W]`.
    pub target_spacing: Option<[f64; 3]>,
    /// Overrides the rule for the patch, voxels `[D, H, W]`; rounded up to what the network divides.
    pub patch_size: Option<[usize; 3]>,
}

impl Plan {
    /// Plans a training.
    ///
    /// # Errors
    /// When the dataset has no training case, no foreground class, or label values with gaps.
    pub fn new(
        dataset: &Dataset,
        fingerprint: &Fingerprint,
        options: &PlanOptions,
    ) -> Result<Self> {
        let wrong = |problem: String, cure: &str| DataError::invalid(&dataset.root, problem, cure);
        if fingerprint.cases.is_empty() {
            return Err(wrong(
                "has no training case".into(),
                "add images with labels",
            ));
        }
        if dataset.classes.len() < 2 {
            return Err(wrong(
                "declares no class but background".into(),
                "declare the classes",
            ));
        }
        if let Some((index, class)) = first_gap(&dataset.classes) {
            return Err(wrong(
                format!(
                    "label values have a gap: {index} is missing before {} ({})",
                    class.value, class.name
                ),
                "number the labels 0, 1, 2, … without gaps",
            ));
        }
        let mut reasons = Vec::new();
        let target_spacing = match options.target_spacing {
            Some(spacing) => {
                reasons.push(format!("Target spacing {spacing:?} mm was asked for."));
                spacing
            }
            None => target_spacing(fingerprint, &mut reasons),
        };
        let shapes: Vec<[usize; 3]> = fingerprint
            .cases
            .iter()
            .map(|case| resampled_shape(case.shape_after_crop, case.spacing, target_spacing))
            .collect();
        let median_shape: [usize; 3] = std::array::from_fn(|axis| {
            median(shapes.iter().map(|shape| shape[axis] as f64).collect()).round_ties_even()
                as usize
        });
        let smallest = target_spacing.iter().copied().fold(f64::INFINITY, f64::min);
        let stem_stride = target_spacing.map(|s| {
            if s < 2.0 * smallest {
                options.stem_stride.max(1)
            } else {
                1
            }
        });
        if options.stem_stride > 1 {
            reasons.push(format!(
                "The first convolution has stride {stem_stride:?}: a step costs several times less, and the last \
                 layer brings the logits back to every voxel."
            ));
        }
        let start = options
            .patch_size
            .unwrap_or_else(|| first_patch(target_spacing, median_shape));
        let mut patch_size = fit_patch(start, target_spacing, stem_stride).0;
        while options.patch_size.is_none()
            && patch_size.iter().product::<usize>() > options.max_patch_voxels
        {
            let Some(smaller) = shrink(patch_size, median_shape, target_spacing, stem_stride)
            else {
                break;
            };
            patch_size = smaller;
        }
        let (patch_size, topology) = fit_patch(patch_size, target_spacing, stem_stride);
        reasons.push(format!(
            "Patch {patch_size:?} voxels: the median case has {median_shape:?}, the budget is {} voxels.",
            options.max_patch_voxels
        ));
        let stages = topology
            .into_iter()
            .enumerate()
            .map(|(i, (kernel, stride))| StagePlan {
                features: (options.base_features << i.min(16)).min(options.max_features),
                kernel,
                stride,
            })
            .collect();
        let mirror_axes = mirror_axes(&dataset.classes, fingerprint.left_right_axis, &mut reasons);
        let plan = Self {
            version: PLAN_VERSION,
            dataset: dataset.name.clone(),
            channel_names: dataset.channel_names.clone(),
            classes: dataset.classes.clone(),
            ignore_label: dataset.ignore_label,
            target_spacing,
            median_shape,
            normalization: dataset
                .channel_names
                .iter()
                .zip(&fingerprint.intensities)
                .map(|(name, intensities)| normalization(name, intensities, &mut reasons))
                .collect(),
            use_mask_for_norm: false,
            patch_size,
            batch_size: options.batch_size,
            stem_stride,
            stages,
            mirror_axes,
            foreground_fraction: options.foreground_fraction,
            reasons,
        };
        plan.validate()
            .map_err(|problem| wrong(problem, "report this plan"))?;
        Ok(plan)
    }

    /// Reads a plan and validates it.
    ///
    /// # Errors
    /// When the file is missing, isn't a plan, or contradicts itself.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| DataError::io(path, error))?;
        let plan: Self = serde_json::from_str(&text).map_err(|e| {
            DataError::invalid(path, format!("is not a plan ({e})"), "mend it or delete it")
        })?;
        plan.validate()
            .map_err(|problem| DataError::invalid(path, problem, "mend it or delete it"))?;
        Ok(plan)
    }

    /// Number of classes, background included.
    pub fn num_classes(&self) -> usize {
        self.classes.len()
    }

    /// What the patch must divide by, `[D, H, W]`; `usize::MAX` where the product is larger, which
    /// [`Plan::validate`] refuses.
    pub fn patch_divisors(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.patch_divisor(axis).unwrap_or(usize::MAX))
    }

    /// The product of the strides along an axis; `None` when it overflows.
    fn patch_divisor(&self, axis: usize) -> Option<usize> {
        self.stages
            .iter()
            .try_fold(self.stem_stride[axis], |product, stage| {
                product.checked_mul(stage.stride[axis])
            })
    }

    /// Whether the plan is consistent; for one that a person has edited.
    ///
    /// # Errors
    /// A sentence with the numbers.
    pub fn validate(&self) -> std::result::Result<(), String> {
        if self.version != PLAN_VERSION {
            return Err(format!(
                "the plan has version {}, this program reads {PLAN_VERSION}",
                self.version
            ));
        }
        if self.normalization.len() != self.channel_names.len() || self.channel_names.is_empty() {
            let (n, c) = (self.normalization.len(), self.channel_names.len());
            return Err(format!("the plan has {n} normalisations for {c} channels"));
        }
        if self.classes.len() < 2 || self.stages.is_empty() || self.batch_size == 0 {
            return Err(
                "the plan needs two classes, one stage and a batch size of at least 1".into(),
            );
        }
        if let Some((index, class)) = first_gap(&self.classes) {
            return Err(format!(
                "class {:?} has value {} at position {index}, values must be 0, 1, 2, … in order",
                class.name, class.value
            ));
        }
        for (name, scheme) in self.channel_names.iter().zip(&self.normalization) {
            if let ChannelNormalization::Ct {
                lower,
                upper,
                mean,
                std,
            } = *scheme
            {
                if ![lower, upper, mean, std].iter().all(|n| n.is_finite()) {
                    return Err(format!(
                        "channel {name:?} has a CT statistic that is not finite: lower {lower}, upper {upper}, \
                         mean {mean}, std {std}"
                    ));
                }
                if lower > upper {
                    return Err(format!(
                        "channel {name:?} is clipped from {lower} to {upper}, lower is above upper"
                    ));
                }
            }
        }
        if !(0.0..=1.0).contains(&self.foreground_fraction) {
            return Err(format!(
                "the foreground fraction {} is not in 0..=1",
                self.foreground_fraction
            ));
        }
        if self
            .target_spacing
            .iter()
            .any(|s| !(s.is_finite() && *s > 0.0))
        {
            return Err(format!(
                "the target spacing {:?} mm is not positive",
                self.target_spacing
            ));
        }
        if self.mirror_axes.iter().any(|&axis| axis > 2) {
            return Err(format!(
                "the mirror axes {:?} are not among 0, 1, 2",
                self.mirror_axes
            ));
        }
        let repeats = |i: usize| self.mirror_axes[..i].contains(&self.mirror_axes[i]);
        if (0..self.mirror_axes.len()).any(repeats) {
            return Err(format!(
                "the mirror axes {:?} name an axis twice",
                self.mirror_axes
            ));
        }
        let odd = |stage: &StagePlan| stage.kernel.iter().all(|k| k % 2 == 1);
        if !self
            .stages
            .iter()
            .all(|s| odd(s) && s.features > 0 && s.stride.iter().all(|&x| x > 0))
        {
            return Err("every stage needs features, odd kernels and positive strides".into());
        }
        if let Some(axis) = (0..3).find(|&axis| self.patch_divisor(axis).is_none()) {
            let strides: Vec<usize> = self.stages.iter().map(|s| s.stride[axis]).collect();
            return Err(format!(
                "the strides along axis {axis} are too large: stem {}, stages {strides:?}",
                self.stem_stride[axis]
            ));
        }
        let divisors = self.patch_divisors();
        for axis in 0..3 {
            let (patch, divisor) = (self.patch_size[axis], divisors[axis]);
            if divisor == 0 || patch == 0 || patch % divisor != 0 {
                return Err(format!(
                    "patch {:?} does not divide by {divisors:?}",
                    self.patch_size
                ));
            }
        }
        Ok(())
    }
}

/// The first class whose value isn't its position, with that position.
fn first_gap(classes: &[LabelClass]) -> Option<(usize, &LabelClass)> {
    classes
        .iter()
        .enumerate()
        .find(|(index, class)| usize::from(class.value) != *index)
}

fn median(mut values: Vec<f64>) -> f64 {
    percentile(&mut values, 50.0)
}

fn percentile(values: &mut [f64], percent: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let position = percent / 100.0 * (values.len() - 1) as f64;
    let (low, high) = (
        values[position.floor() as usize],
        values[position.ceil() as usize],
    );
    low + (high - low) * position.fract()
}

fn target_spacing(fingerprint: &Fingerprint, reasons: &mut Vec<String>) -> [f64; 3] {
    let along = |axis: usize| fingerprint.cases.iter().map(move |case| case.spacing[axis]);
    let mut target: [f64; 3] = std::array::from_fn(|axis| median(along(axis).collect()));
    let sizes: [f64; 3] = std::array::from_fn(|axis| {
        median(
            fingerprint
                .cases
                .iter()
                .map(|case| case.shape_after_crop[axis] as f64)
                .collect(),
        )
    });
    let worst = (0..3)
        .max_by(|&a, &b| target[a].total_cmp(&target[b]))
        .unwrap_or(0);
    let others = (0..3).filter(|&axis| axis != worst);
    let coarsest_other = others.clone().map(|axis| target[axis]).fold(0.0, f64::max);
    let smallest_other = others.map(|axis| sizes[axis]).fold(f64::INFINITY, f64::min);
    if target[worst] > ANISOTROPY * coarsest_other && sizes[worst] * ANISOTROPY < smallest_other {
        let tenth = percentile(&mut along(worst).collect::<Vec<_>>(), 10.0);
        target[worst] = if tenth < coarsest_other {
            coarsest_other + 1e-5
        } else {
            tenth
        };
        reasons.push(format!(
            "Axis {worst} is anisotropic, so its target spacing is the 10th percentile, {:.3} mm.",
            target[worst]
        ));
    } else {
        reasons.push(format!(
            "Target spacing {target:.3?} mm is the median of the cases."
        ));
    }
    target
}

/// A cube of 256³ voxels' worth of tissue in proportion to the spacing, no larger than the median case.
fn first_patch(spacing: [f64; 3], median_shape: [usize; 3]) -> [usize; 3] {
    let inverse = spacing.map(|s| 1.0 / s);
    let factor = (256f64.powi(3) / inverse.iter().product::<f64>()).cbrt();
    std::array::from_fn(|axis| {
        ((inverse[axis] * factor).round_ties_even() as usize).clamp(1, median_shape[axis].max(1))
    })
}

type Topology = Vec<([usize; 3], [usize; 3])>;

/// Kernel and stride of every stage for a patch (nnU-Net's `get_pool_and_conv_props`), and the patch rounded up to
/// what they divide.
fn fit_patch(patch: [usize; 3], spacing: [f64; 3], stem: [usize; 3]) -> ([usize; 3], Topology) {
    let mut size: [usize; 3] = std::array::from_fn(|axis| patch[axis].div_ceil(stem[axis]));
    let mut spacing: [f64; 3] = std::array::from_fn(|axis| spacing[axis] * stem[axis] as f64);
    let mut kernel = [1; 3];
    let mut stages = Topology::new();
    let mut stride = [1; 3];
    let mut pooled = [1; 3];
    loop {
        let smallest = spacing.iter().copied().fold(f64::INFINITY, f64::min);
        for axis in 0..3 {
            if spacing[axis] / smallest < 2.0 {
                kernel[axis] = 3;
            }
        }
        let large: Vec<usize> = (0..3).filter(|&axis| size[axis] >= 2 * MIN_EDGE).collect();
        let finest = large
            .iter()
            .map(|&axis| spacing[axis])
            .fold(f64::INFINITY, f64::min);
        let pool: Vec<usize> = large
            .into_iter()
            .filter(|&axis| spacing[axis] / finest < 2.0)
            .collect();
        let stop = match pool[..] {
            [] => true,
            [only] => size[only] < 3 * MIN_EDGE,
            _ => false,
        };
        stages.push((
            if stop && !stages.is_empty() {
                [3; 3]
            } else {
                kernel
            },
            stride,
        ));
        if stop {
            break;
        }
        stride = [1; 3];
        for axis in pool {
            stride[axis] = 2;
            pooled[axis] *= 2;
            spacing[axis] *= 2.0;
            size[axis] = size[axis].div_ceil(2);
        }
    }
    let patch = std::array::from_fn(|axis| patch[axis].next_multiple_of(stem[axis] * pooled[axis]));
    (patch, stages)
}

/// The patch with its relatively largest axis one step smaller; `None` when it can't shrink.
fn shrink(
    patch: [usize; 3],
    median: [usize; 3],
    spacing: [f64; 3],
    stem: [usize; 3],
) -> Option<[usize; 3]> {
    let relative = |axis: usize| patch[axis] as f64 / median[axis].max(1) as f64;
    let axis = (0..3).max_by(|&a, &b| relative(a).total_cmp(&relative(b)))?;
    let divisor = |patch: [usize; 3]| {
        let strides = fit_patch(patch, spacing, stem).1;
        stem[axis]
            * strides
                .iter()
                .map(|(_, stride)| stride[axis])
                .product::<usize>()
    };
    let mut smaller = patch;
    smaller[axis] = patch[axis]
        .checked_sub(divisor(patch))
        .filter(|&n| n >= MIN_EDGE)?;
    // As nnU-Net: the step is the divisor of the patch that results.
    smaller[axis] = patch[axis]
        .checked_sub(divisor(smaller))
        .filter(|&n| n >= MIN_EDGE)?;
    let fitted = fit_patch(smaller, spacing, stem).0;
    (fitted.iter().product::<usize>() < patch.iter().product()).then_some(fitted)
}

fn normalization(
    name: &str,
    foreground: &Intensities,
    reasons: &mut Vec<String>,
) -> ChannelNormalization {
    let scheme = match name.to_lowercase().as_str() {
        "ct" => ChannelNormalization::Ct {
            lower: foreground.percentile_00_5,
            upper: foreground.percentile_99_5,
            mean: foreground.mean,
            std: foreground.std,
        },
        "nonorm" => ChannelNormalization::None,
        "rescale_to_0_1" => ChannelNormalization::RescaleTo01,
        "rgb_to_0_1" => ChannelNormalization::RgbTo01,
        _ => ChannelNormalization::ZScore,
    };
    let what = match scheme {
        ChannelNormalization::Ct { .. } => {
            "clipped and standardised with the statistics of the whole dataset"
        }
        ChannelNormalization::ZScore => "standardised image by image",
        ChannelNormalization::None => "left as it is",
        ChannelNormalization::RescaleTo01 => "rescaled to 0..1 image by image",
        ChannelNormalization::RgbTo01 => "divided by 255",
    };
    reasons.push(format!("Channel {name:?} is {what}, because of its name."));
    scheme
}

/// Only the left-right axis is mirrored, and not even that where a class is told by its side: bodies are symmetric in
/// no other direction. (nnU-Net mirrors every axis.) One sided class is enough, because its organ on the other side
/// may be background.
fn mirror_axes(classes: &[LabelClass], left_right: usize, reasons: &mut Vec<String>) -> Vec<usize> {
    match classes.iter().find(|class| names_a_side(&class.name)) {
        Some(class) => {
            reasons.push(format!(
                "No mirroring: the name of {:?} tells its side.",
                class.name
            ));
            Vec::new()
        }
        None => {
            reasons.push(
                "Patches are mirrored left-right: no class is told apart by its side.".into(),
            );
            vec![left_right]
        }
    }
}

/// Whether a word of the name is a side; whole words, because `lobe` and `L1` are none.
fn names_a_side(name: &str) -> bool {
    name.split(|c: char| !c.is_alphanumeric()).any(|word| {
        ["l", "r", "left", "right"]
            .iter()
            .any(|side| word.eq_ignore_ascii_case(side))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strides(topology: &Topology) -> Vec<[usize; 3]> {
        topology.iter().map(|stage| stage.1).collect()
    }

    #[test]
    fn topology_of_an_anisotropic_patch_is_nnunets() {
        // MSD Prostate as published: pools [1,2,2]x2, [2,2,2]x2, [1,2,2]x2 and kernels [1,3,3]x2, then 3x3x3.
        let (patch, topology) = fit_patch([20, 320, 256], [3.6, 0.625, 0.625], [1; 3]);
        assert_eq!(patch, [20, 320, 256]);
        assert_eq!(
            strides(&topology)[1..],
            [
                [1, 2, 2],
                [1, 2, 2],
                [2, 2, 2],
                [2, 2, 2],
                [1, 2, 2],
                [1, 2, 2]
            ]
        );
        let kernels: Vec<_> = topology.iter().map(|stage| stage.0).collect();
        assert_eq!(kernels[..3], [[1, 3, 3], [1, 3, 3], [3, 3, 3]]);
    }

    #[test]
    fn topology_of_an_isotropic_patch_is_nnunets() {
        let (patch, topology) = fit_patch([40, 56, 40], [1.0; 3], [1; 3]);
        assert_eq!((patch, topology.len()), ([40, 56, 40], 4));
        let (patch, topology) = fit_patch([128; 3], [1.0; 3], [1; 3]);
        assert_eq!((patch, topology.len()), ([128; 3], 6));
    }

    #[test]
    fn a_stem_keeps_the_patch_divisible() {
        let (patch, topology) = fit_patch([101, 90, 97], [3.0; 3], [2; 3]);
        let pooled: usize = strides(&topology).iter().map(|s| s[0]).product();
        assert!(
            patch.iter().all(|n| n % (2 * pooled) == 0),
            "{patch:?} by {pooled}"
        );
    }

    #[test]
    fn shrinking_ends_within_the_budget() {
        let mut patch = [128; 3];
        let mut steps = 0;
        while patch.iter().product::<usize>() > 64usize.pow(3) {
            patch = shrink(patch, [200, 180, 160], [1.0; 3], [1; 3]).expect("can shrink");
            steps += 1;
            assert!(steps < 50);
        }
    }

    fn classes(names: &[&str]) -> Vec<LabelClass> {
        (0..)
            .zip(names)
            .map(|(value, name)| LabelClass {
                name: (*name).into(),
                value,
            })
            .collect()
    }

    #[test]
    fn a_class_with_a_side_turns_mirroring_off() {
        for names in [
            &["lung_lobe_L", "lung_lobe_R"][..],
            &["kidney-L", "kidney-R"],
            &["L kidney", "R kidney"],
            &["kidney_left"],
            &["Right Kidney"],
            &["right_atrium"],
        ] {
            let mut reasons = Vec::new();
            let names = [&["background"], names].concat();
            assert!(
                mirror_axes(&classes(&names), 2, &mut reasons).is_empty(),
                "{names:?}"
            );
            assert!(reasons[0].contains(names[1]), "{reasons:?}");
        }
    }

    #[test]
    fn letters_within_a_word_are_no_side() {
        let names = [
            "background",
            "liver",
            "vertebra_L1",
            "renal_lobe",
            "bright_spot",
        ];
        assert_eq!(mirror_axes(&classes(&names), 2, &mut Vec::new()), [2]);
    }

    fn plan() -> Plan {
        Plan {
            version: PLAN_VERSION,
            dataset: "Dataset001_Test".into(),
            channel_names: vec!["CT".into()],
            classes: classes(&["background", "liver", "tumour"]),
            ignore_label: None,
            target_spacing: [1.0; 3],
            median_shape: [32; 3],
            normalization: vec![ct(-100.0, 300.0, 80.0, 40.0)],
            use_mask_for_norm: false,
            patch_size: [32; 3],
            batch_size: 2,
            stem_stride: [1; 3],
            stages: [1, 2]
                .map(|stride| StagePlan {
                    features: 8,
                    kernel: [3; 3],
                    stride: [stride; 3],
                })
                .into(),
            mirror_axes: vec![2],
            foreground_fraction: 0.33,
            reasons: Vec::new(),
        }
    }

    fn ct(lower: f64, upper: f64, mean: f64, std: f64) -> ChannelNormalization {
        ChannelNormalization::Ct {
            lower,
            upper,
            mean,
            std,
        }
    }

    /// The sentence with which the plan is refused after an edit.
    fn refusal(edit: impl FnOnce(&mut Plan)) -> String {
        let mut plan = plan();
        assert_eq!(plan.validate(), Ok(()));
        edit(&mut plan);
        plan.validate().expect_err("must be refused")
    }

    #[test]
    fn huge_strides_are_refused_without_overflow() {
        let refused = refusal(|plan| {
            plan.stem_stride[1] = 4;
            plan.stages[1].stride[1] = usize::MAX / 2;
        });
        let strides = [1, usize::MAX / 2];
        assert_eq!(
            refused,
            format!("the strides along axis 1 are too large: stem 4, stages {strides:?}")
        );
    }

    #[test]
    fn a_ct_range_must_be_ordered_and_finite() {
        assert_eq!(
            refusal(|plan| plan.normalization[0] = ct(300.0, -100.0, 80.0, 40.0)),
            "channel \"CT\" is clipped from 300 to -100, lower is above upper"
        );
        for scheme in [
            ct(f64::NAN, 300.0, 80.0, 40.0),
            ct(-100.0, f64::INFINITY, 80.0, 40.0),
            ct(-100.0, 300.0, f64::NAN, 40.0),
            ct(-100.0, 300.0, 80.0, f64::NAN),
        ] {
            let refused = refusal(|plan| plan.normalization[0] = scheme);
            assert!(
                refused.contains("NaN") || refused.contains("inf"),
                "{refused}"
            );
        }
    }

    #[test]
    fn class_values_must_be_their_positions() {
        assert_eq!(
            refusal(|plan| plan.classes[2].value = 4),
            "class \"tumour\" has value 4 at position 2, values must be 0, 1, 2, … in order"
        );
    }

    #[test]
    fn the_foreground_fraction_is_a_share() {
        for (fraction, text) in [(-0.1, "-0.1"), (1.5, "1.5"), (f32::NAN, "NaN")] {
            assert_eq!(
                refusal(|plan| plan.foreground_fraction = fraction),
                format!("the foreground fraction {text} is not in 0..=1")
            );
        }
    }

    #[test]
    fn no_mirror_axis_is_named_twice() {
        assert_eq!(
            refusal(|plan| plan.mirror_axes = vec![2, 0, 2]),
            "the mirror axes [2, 0, 2] name an axis twice"
        );
    }
}
