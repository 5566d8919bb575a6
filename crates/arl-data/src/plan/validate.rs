//! Whether a plan contradicts itself; for one that a person has edited.

use super::{ChannelNormalization, PLAN_VERSION, Plan, StagePlan};
use crate::augment::OUTSIDE_OF_BODY;

/// No patch, feature map or number of channels is larger along an axis: nothing trains with that, and products of such
/// numbers can't overflow.
pub(super) const MAX_EDGE: usize = 1 << 16;
/// No batch has more voxels, channels counted: graphics cards index with 31 bits.
const MAX_BATCH_VOXELS: u64 = 1 << 31;

type Checked = Result<(), String>;

impl Plan {
    /// Whether the plan is consistent.
    ///
    /// # Errors
    /// A sentence with the numbers that contradict each other.
    pub fn validate(&self) -> Checked {
        version(self.version)?;
        self.validate_classes()?;
        self.validate_normalization()?;
        self.validate_sampling()?;
        let full = Resolution {
            target_spacing: self.target_spacing,
            median_shape: self.median_shape,
            patch_size: self.patch_size,
            batch_size: self.batch_size,
            stem_stride: self.stem_stride,
            stages: &self.stages,
        };
        full.validate(self.channel_names.len())?;
        if self.decoder_convolutions == 0 || self.decoder_convolutions > MAX_EDGE {
            return Err(format!(
                "the decoder has {} convolutions in each stage, it needs at least 1",
                self.decoder_convolutions
            ));
        }
        let Some(low) = &self.low_resolution else {
            return Ok(());
        };
        let resolution = Resolution {
            target_spacing: low.target_spacing,
            median_shape: low.median_shape,
            patch_size: low.patch_size,
            batch_size: low.batch_size,
            stem_stride: low.stem_stride,
            stages: &low.stages,
        };
        resolution
            .validate(self.channel_names.len())
            .map_err(|problem| format!("in the low resolution, {problem}"))
    }

    fn validate_classes(&self) -> Checked {
        if self.classes.len() < 2 {
            return Err(format!(
                "the plan has {} classes, it needs the background and at least one more",
                self.classes.len()
            ));
        }
        for (index, class) in self.classes.iter().enumerate() {
            if usize::from(class.value) != index {
                return Err(format!(
                    "class {:?} has value {} at position {index}, values must be 0, 1, 2, … in order",
                    class.name, class.value
                ));
            }
            if self.classes[..index]
                .iter()
                .any(|other| other.name == class.name)
            {
                return Err(format!("two classes have the name {:?}", class.name));
            }
        }
        let is_class = |value: &u16| (1..self.classes.len()).contains(&usize::from(*value));
        for region in &self.regions {
            let (name, values, paint) = (&region.name, &region.values, region.paint);
            if values.is_empty() || !values.iter().chain([&paint]).all(is_class) {
                return Err(format!(
                    "region {name:?} is made of {values:?} and painted as {paint}, which are not all foreground classes"
                ));
            }
        }
        match self.ignore_label {
            Some(ignored) if usize::from(ignored) < self.classes.len() => Err(format!(
                "the ignore label is {ignored}, which is class {:?}",
                self.classes[usize::from(ignored)].name
            )),
            _ => Ok(()),
        }
    }

    fn validate_normalization(&self) -> Checked {
        let (channels, normalizations) = (self.channel_names.len(), self.normalization.len());
        if channels == 0 || channels > MAX_EDGE || channels != normalizations {
            return Err(format!(
                "the plan has {normalizations} normalisations for {channels} channels"
            ));
        }
        for (name, scheme) in self.channel_names.iter().zip(&self.normalization) {
            let ChannelNormalization::Ct {
                lower,
                upper,
                mean,
                std,
            } = *scheme
            else {
                continue;
            };
            if ![lower, upper, mean, std].iter().all(|n| n.is_finite()) {
                return Err(format!(
                    "channel {name:?} has a CT statistic that is not finite: lower {lower}, upper {upper}, mean {mean}, \
                     std {std}"
                ));
            }
            if lower > upper {
                return Err(format!(
                    "channel {name:?} is clipped from {lower} to {upper}, lower is above upper"
                ));
            }
            if std < 0.0 {
                return Err(format!("channel {name:?} has the standard deviation {std}"));
            }
        }
        if self.use_mask_for_norm
            && self
                .classes
                .iter()
                .any(|class| class.value == OUTSIDE_OF_BODY)
        {
            return Err(format!(
                "a class has the label {OUTSIDE_OF_BODY}, which marks what is outside of the body with use_mask_for_norm: \
                 give it another label (--remap-labels)"
            ));
        }
        if self.use_mask_for_norm && !self.normalization.contains(&ChannelNormalization::ZScore) {
            return Err(format!(
                "use_mask_for_norm is for channels with the scheme z_score, and none of the {channels} has it"
            ));
        }
        Ok(())
    }

    fn validate_sampling(&self) -> Checked {
        if !(0.0..=1.0).contains(&self.foreground_fraction) {
            return Err(format!(
                "the foreground fraction {} is not in 0..=1",
                self.foreground_fraction
            ));
        }
        if let Some(codes) = &self.orientation {
            crate::orientation::parse(codes)?;
        }
        let axes = &self.mirror_axes;
        if axes.iter().any(|&axis| axis > 2) {
            return Err(format!("the mirror axes {axes:?} are not among 0, 1, 2"));
        }
        if (0..axes.len()).any(|i| axes[..i].contains(&axes[i])) {
            return Err(format!("the mirror axes {axes:?} name an axis twice"));
        }
        Ok(())
    }
}

/// Whether this program reads a version.
pub(super) fn version(version: u32) -> Checked {
    if version == PLAN_VERSION {
        return Ok(());
    }
    Err(format!(
        "the plan has version {version}, this program reads {PLAN_VERSION}"
    ))
}

/// Patch and network at one spacing.
struct Resolution<'a> {
    target_spacing: [f64; 3],
    median_shape: [usize; 3],
    patch_size: [usize; 3],
    batch_size: usize,
    stem_stride: [usize; 3],
    stages: &'a [StagePlan],
}

impl Resolution<'_> {
    fn validate(&self, channels: usize) -> Checked {
        if !self
            .target_spacing
            .iter()
            .all(|s| s.is_finite() && *s > 0.0)
        {
            return Err(format!(
                "the target spacing {:?} mm is not positive",
                self.target_spacing
            ));
        }
        if self.median_shape.contains(&0) {
            return Err(format!(
                "the median case has {:?} voxels, none along an axis",
                self.median_shape
            ));
        }
        self.validate_stages()?;
        self.validate_patch(channels)
    }

    fn validate_stages(&self) -> Checked {
        if self.stages.len() < 2 {
            return Err(format!(
                "the network has {} stages, it needs at least 2",
                self.stages.len()
            ));
        }
        for (i, stage) in self.stages.iter().enumerate() {
            let StagePlan {
                features,
                kernel,
                stride,
                blocks,
            } = *stage;
            for (what, number) in [("features", features), ("blocks", blocks)] {
                if number == 0 || number > MAX_EDGE {
                    return Err(format!(
                        "stage {i} has {number} {what}, not 1 to {MAX_EDGE}"
                    ));
                }
            }
            if kernel.iter().any(|k| k % 2 == 0 || *k > MAX_EDGE) {
                return Err(format!(
                    "stage {i} has the kernel {kernel:?}, each size must be odd"
                ));
            }
            if i == 0 && stride != [1; 3] {
                return Err(format!(
                    "stage 0 has the stride {stride:?}, it must be [1, 1, 1]: stem_stride makes it coarser"
                ));
            }
            let (what, stride) = match i {
                0 => ("the stem".to_owned(), self.stem_stride),
                _ => (format!("stage {i}"), stride),
            };
            if stride.contains(&0) {
                return Err(format!(
                    "{what} has the stride {stride:?}, each must be at least 1"
                ));
            }
            if (0..3).any(|axis| stride[axis] > kernel[axis]) {
                return Err(format!(
                    "{what} has the stride {stride:?}, which skips voxels with the kernel {kernel:?}"
                ));
            }
        }
        Ok(())
    }

    fn validate_patch(&self, channels: usize) -> Checked {
        let patch = self.patch_size;
        if patch.contains(&0) || patch.iter().any(|&edge| edge > MAX_EDGE) {
            return Err(format!(
                "the patch {patch:?} is not between 1 and {MAX_EDGE} voxels along each axis"
            ));
        }
        for axis in 0..3 {
            let strides: Vec<usize> = self.stages.iter().map(|s| s.stride[axis]).collect();
            let stem = self.stem_stride[axis];
            let product = strides.iter().try_fold(stem, |product, stride| {
                product
                    .checked_mul(*stride)
                    .filter(|&product| product <= patch[axis])
            });
            if product.is_none_or(|product| !patch[axis].is_multiple_of(product)) {
                return Err(format!(
                    "the patch {patch:?} does not divide along axis {axis} by the strides there: stem {stem}, stages \
                     {strides:?}"
                ));
            }
        }
        let coarsest: [usize; 3] = std::array::from_fn(|axis| {
            let strides = self.stages.iter().map(|stage| stage.stride[axis]);
            patch[axis] / (strides.product::<usize>() * self.stem_stride[axis])
        });
        if coarsest == [1; 3] {
            return Err(format!(
                "the patch {patch:?} is a single voxel in the coarsest stage, which leaves nothing to normalise"
            ));
        }
        let batch = self.batch_size;
        let voxels = (patch.iter().map(|&edge| edge as u64).product::<u64>())
            .checked_mul(batch as u64)
            .and_then(|voxels| voxels.checked_mul(channels as u64));
        match voxels {
            Some(0) => Err("the batch size is 0".into()),
            Some(voxels) if voxels < MAX_BATCH_VOXELS => Ok(()),
            _ => Err(format!(
                "a batch of {batch} patches of {patch:?} voxels with {channels} channels is more than {MAX_BATCH_VOXELS} \
                 numbers"
            )),
        }
    }
}
