//! Makes a plan of a dataset's fingerprint.

use super::configuration::Task;
use super::low_resolution::low_resolution;
use super::memory::counted_outputs;
use super::mirror::mirror_axes;
use super::normalization::{normalization, use_mask_for_norm};
use super::options::PlanOptions;
use super::spacing::{AxisOrder, median_shape, target_spacing};
use super::{LowResolution, PLAN_VERSION, Plan, StagePlan};
use crate::dataset::{Dataset, LabelClass};
use crate::error::{DataError, Result};
use crate::fingerprint::Fingerprint;

/// Patches per step that a plan has at least, unless a person or the preset asks for fewer: nnU-Net's.
const SMALLEST_BATCH: usize = 2;

impl Plan {
    /// Plans a training.
    ///
    /// # Errors
    /// When the dataset has no training case, no foreground class, or label values with gaps; when the options
    /// contradict each other, or no patch fits into the memory.
    pub fn new(
        dataset: &Dataset,
        fingerprint: &Fingerprint,
        options: &PlanOptions,
    ) -> Result<Self> {
        Self::with_reason(dataset, fingerprint, options, " was asked for")
    }

    /// Plans a training that fits: the first for which `fits` holds of the one that the rules give, the same with fewer patches per
    /// step, and the same with smaller ones. A patch and a batch that `options` ask for stay as they are; where none fits, the
    /// smallest is the plan.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn fitting(
        dataset: &Dataset,
        fingerprint: &Fingerprint,
        options: &PlanOptions,
        fits: impl Fn(&Self) -> bool,
    ) -> Result<Self> {
        let mut plan = Self::new(dataset, fingerprint, options)?;
        while options.patch_size.is_none() && !fits(&plan) {
            let fewer = options.batch_size.is_none() && plan.batch_size > SMALLEST_BATCH;
            let (patch, batch_size) = match fewer {
                true => (Some(plan.patch_size), plan.batch_size - 1),
                // The rules would fill what smaller patches leave with more of them.
                false => (plan.smaller_patch(), plan.batch_size),
            };
            let Some(patch_size) = patch else {
                break;
            };
            let options = PlanOptions {
                patch_size: Some(patch_size),
                batch_size: Some(batch_size),
                ..*options
            };
            let reason = ", as large and as many as the memory of this machine allows";
            let Ok(next) = Self::with_reason(dataset, fingerprint, &options, reason) else {
                break;
            };
            let voxels = |plan: &Self| plan.batch_size * plan.patch_size.iter().product::<usize>();
            if voxels(&next) >= voxels(&plan) {
                break;
            }
            plan = next;
        }
        Ok(plan)
    }

    /// The patch with the least that the network allows less along its longest axis; `None` if nothing were left of it.
    fn smaller_patch(&self) -> Option<[usize; 3]> {
        let mut patch = self.patch_size;
        let axis = (0..3).max_by_key(|&axis| patch[axis])?;
        let strides = self.stages.iter().map(|stage| stage.stride[axis]);
        let least: usize = self.stem_stride[axis] * strides.product::<usize>();
        patch[axis] = patch[axis].checked_sub(least).filter(|&edge| edge > 0)?;
        Some(patch)
    }

    /// As [`new`](Self::new), with what is said of a patch that the options ask for.
    fn with_reason(
        dataset: &Dataset,
        fingerprint: &Fingerprint,
        options: &PlanOptions,
        reason: &str,
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
        let cannot = |problem: String| wrong(problem, "choose other options for the plan");
        options.validate().map_err(cannot)?;
        let plan = Self::follow_rules(dataset, fingerprint, options, reason).map_err(cannot)?;
        plan.validate().map_err(cannot)?;
        Ok(plan)
    }

    fn follow_rules(
        dataset: &Dataset,
        fingerprint: &Fingerprint,
        options: &PlanOptions,
        reason_of_patch: &str,
    ) -> std::result::Result<Self, String> {
        let rules = options.preset.rules();
        let mut reasons = Vec::new();
        let (spacing, reason) = match options.target_spacing {
            Some(spacing) => (
                spacing,
                format!("Target spacing {spacing:?} mm was asked for."),
            ),
            None => target_spacing(fingerprint),
        };
        reasons.push(reason);
        let median = median_shape(fingerprint, spacing);
        let order = AxisOrder::coarsest_first(spacing);
        let cases = fingerprint.cases.len();
        let task = Task {
            options,
            order,
            patch_size: options.patch_size.map(|patch| order.sort(patch)),
            outputs: counted_outputs(
                dataset.classes.len(),
                dataset.regions.len(),
                dataset.ignore_label,
            ),
            spacing: order.sort(spacing),
            median_shape: order.sort(median),
            dataset_voxels: order.sort(median).iter().product::<f64>() * cases as f64,
        };
        let found = task.configuration()?;
        let low = low_resolution(&task, found.patch_size, cases);

        let patch_size = order.restore(found.patch_size);
        let stem_stride = order.restore(found.stem_stride);
        reasons.push(format!(
            "Patch {patch_size:?} voxels{}: the median case has {median:?}, and {}.",
            if options.patch_size.is_some() {
                reason_of_patch
            } else {
                ""
            },
            found.costs
        ));
        if rules.stem_stride > 1 {
            reasons.push(format!(
                "The first convolution has stride {stem_stride:?}: a step costs several times less, and the last layer \
                 brings the logits back to every voxel."
            ));
        }
        let low_resolution = low.map(|(task, found)| LowResolution {
            target_spacing: order.restore(task.spacing),
            median_shape: order.restore(task.median_shape).map(|edge| edge as usize),
            patch_size: order.restore(found.patch_size),
            batch_size: found.batch_size,
            stem_stride: order.restore(found.stem_stride),
            stages: restore_stages(order, found.stages),
        });
        if let Some(low) = &low_resolution {
            reasons.push(format!(
                "A patch has less than a quarter of the median case's voxels, so a training at {:.3?} mm is worth having \
                 beside this one.",
                low.target_spacing
            ));
        }
        let mut normalizations = Vec::new();
        for (name, intensities) in dataset.channel_names.iter().zip(&fingerprint.intensities) {
            let (scheme, reason) = normalization(name, intensities);
            normalizations.push(scheme);
            reasons.push(reason);
        }
        let (use_mask_for_norm, reason) = use_mask_for_norm(fingerprint, &normalizations);
        reasons.extend(reason);
        let regions = dataset.regions.iter().map(|region| region.name.as_str());
        let names = dataset.classes.iter().map(|class| class.name.as_str());
        let (mirror_axes, reason) = mirror_axes(names.chain(regions), fingerprint.left_right_axis);
        reasons.push(reason);
        Ok(Self {
            version: PLAN_VERSION,
            dataset: dataset.name.clone(),
            channel_names: dataset.channel_names.clone(),
            classes: dataset.classes.clone(),
            regions: dataset.regions.clone(),
            ignore_label: dataset.ignore_label,
            target_spacing: spacing,
            median_shape: median.map(|edge| edge.round_ties_even() as usize),
            normalization: normalizations,
            use_mask_for_norm,
            patch_size,
            batch_size: found.batch_size,
            architecture: rules.architecture,
            stem_stride,
            stages: restore_stages(order, found.stages),
            decoder_convolutions: rules.decoder_convolutions,
            mirror_axes,
            orientation: fingerprint.orientation.clone(),
            foreground_fraction: rules.foreground_fraction,
            low_resolution,
            reasons,
        })
    }
}

/// The first class whose value isn't its position, with that position.
fn first_gap(classes: &[LabelClass]) -> Option<(usize, &LabelClass)> {
    classes
        .iter()
        .enumerate()
        .find(|(index, class)| usize::from(class.value) != *index)
}

fn restore_stages(order: AxisOrder, stages: Vec<StagePlan>) -> Vec<StagePlan> {
    let restored = stages.into_iter().map(|stage| StagePlan {
        kernel: order.restore(stage.kernel),
        stride: order.restore(stage.stride),
        ..stage
    });
    restored.collect()
}
