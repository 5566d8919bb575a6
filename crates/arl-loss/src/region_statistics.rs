use crate::{Activation, Logits, LossError, Regions, Target, plain};
use burn::prelude::*;
use burn::tensor::DType;

/// How the statistics are taken.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct StatisticsOptions {
    /// How logits become probabilities.
    pub activation: Activation,
    /// A label whose voxels count nowhere. Shares have no such label: there, a negative share counts nowhere.
    pub ignore_index: Option<i64>,
    /// Whether [`RegionStatistics::further`] is taken as well.
    pub further: bool,
    /// The exponent of [`FurtherStatistics::focal`], at least 0.
    pub focal_gamma: f64,
}

impl Default for StatisticsOptions {
    fn default() -> Self {
        Self {
            activation: Activation::Softmax,
            ignore_index: None,
            further: false,
            focal_gamma: 2.0,
        }
    }
}

impl StatisticsOptions {
    /// Softmax, no ignored label, and only what most losses need.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with this activation.
    pub fn with_activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// The same with this label ignored.
    pub fn with_ignore_index(mut self, ignore_index: Option<i64>) -> Self {
        self.ignore_index = ignore_index;
        self
    }

    /// The same with [`RegionStatistics::further`], its focal sum with this exponent.
    pub fn with_further(mut self, focal_gamma: f64) -> Self {
        self.further = true;
        self.focal_gamma = focal_gamma;
        self
    }
}

/// What every loss here is computed from: sums over each region, one number per image, class and region.
///
/// All tensors are `[N, C, K]` unless they say otherwise, in f32 (f64 for f64 logits). With `p` the probabilities and `g`
/// the shares of the classes (0 and 1 for class indices), over the voxels of the region that count:
/// TP = Σ p·g, FP = Σ p·(1−g), FN = Σ (1−p)·g.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RegionStatistics {
    /// True positives, soft.
    pub tp: Tensor<3>,
    /// False positives, soft.
    pub fp: Tensor<3>,
    /// False negatives, soft.
    pub fn_: Tensor<3>,
    /// `−Σ g·ln p`: the cross entropy of the voxels labelled with the class.
    pub cross_entropy: Tensor<3>,
    /// `Σ g`: voxels labelled with the class. Carries no gradient.
    pub labelled: Tensor<3>,
    /// Voxels that count, `[N, 1, K]`; `[N, C, K]` with sigmoid, where each class may have voxels of its own. 0 where all
    /// voxels of a region are ignored. Carries no gradient.
    pub voxels: Tensor<3>,
    /// What few losses need; taken with sigmoid, and where [`StatisticsOptions::further`] asks for it.
    pub further: Option<FurtherStatistics>,
}

/// More sums, as [`RegionStatistics`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FurtherStatistics {
    /// With softmax `−Σ ln p`, whatever the voxel's class is: what label smoothing adds. With sigmoid
    /// `−Σ (1−g)·ln(1−p)`: the other half of the binary cross entropy.
    pub other_entropy: Tensor<3>,
    /// `Σ p²`.
    pub squares: Tensor<3>,
    /// `Σ g²`. Carries no gradient.
    pub target_squares: Tensor<3>,
    /// `−Σ g·(1−p)^γ·ln p`, with sigmoid also `−Σ (1−g)·p^γ·ln(1−p)`.
    pub focal: Tensor<3>,
}

impl RegionStatistics {
    /// The statistics of the whole volume, `[N, C, 1]`: the sum over its regions.
    pub fn whole(&self) -> Self {
        self.map(|sums| sums.sum_dim(2))
    }

    /// The statistics of all images as if they were one, `[1, C, K]`.
    pub fn merge_images(&self) -> Self {
        self.map(|sums| sums.sum_dim(0))
    }

    /// Leaves class 0 out: `[N, C-1, K]`.
    pub(crate) fn without_background(&self) -> Self {
        self.map(|sums| match sums.dims()[1] {
            // Voxels that all classes share.
            1 => sums,
            classes => sums.narrow(1, 1, classes - 1),
        })
    }

    fn map(&self, f: impl Fn(Tensor<3>) -> Tensor<3>) -> Self {
        Self {
            tp: f(self.tp.clone()),
            fp: f(self.fp.clone()),
            fn_: f(self.fn_.clone()),
            cross_entropy: f(self.cross_entropy.clone()),
            labelled: f(self.labelled.clone()),
            voxels: f(self.voxels.clone()),
            further: self.further.as_ref().map(|further| FurtherStatistics {
                other_entropy: f(further.other_entropy.clone()),
                squares: f(further.squares.clone()),
                target_squares: f(further.target_squares.clone()),
                focal: f(further.focal.clone()),
            }),
        }
    }

    /// The further statistics, which the options of the losses here always ask for where they need them.
    pub(crate) fn require_further(&self) -> Result<&FurtherStatistics, LossError> {
        self.further.as_ref().ok_or(LossError::FurtherStatistics)
    }
}

/// Sums of soft true positives, false positives, false negatives and cross entropy over each region.
///
/// `logits` are `[N, C, D, H, W]` before softmax or sigmoid, the target class indices `[N, D, H, W]` or shares
/// `[N, C, D, H, W]`. A voxel whose label is the ignored one, or is no class, counts nowhere. Differentiable in the
/// logits. f16 and bf16 logits are read as they are and summed in f32, because the losses' own gradients overflow half
/// precision.
///
/// # Errors
/// Shapes of logits, target and regions that do not fit, or a negative focal exponent.
pub fn region_statistics(
    logits: impl Into<Logits>,
    target: impl Into<Target>,
    regions: &Regions,
    options: &StatisticsOptions,
) -> Result<RegionStatistics, LossError> {
    let (Logits(logits), target) = (logits.into(), target.into());
    check(&logits, &target, regions, options)?;
    // The one place that knows that there is a faster way on some devices.
    #[cfg(any(feature = "flex", feature = "cubecl"))]
    if crate::fused::supports(&logits, regions) {
        return Ok(crate::fused::region_statistics(
            logits, target, regions, options,
        ));
    }
    Ok(plain::region_statistics(
        at_least_f32(logits),
        target,
        regions,
        options,
    ))
}

/// As [`region_statistics`], always in plain tensor operations: what the faster ways are measured against.
///
/// # Errors
/// As [`region_statistics`].
pub fn plain_region_statistics(
    logits: impl Into<Logits>,
    target: impl Into<Target>,
    regions: &Regions,
    options: &StatisticsOptions,
) -> Result<RegionStatistics, LossError> {
    let (Logits(logits), target) = (logits.into(), target.into());
    check(&logits, &target, regions, options)?;
    Ok(plain::region_statistics(
        at_least_f32(logits),
        target,
        regions,
        options,
    ))
}

fn at_least_f32(logits: Tensor<5>) -> Tensor<5> {
    match logits.dtype() {
        DType::F32 | DType::F64 => logits,
        _ => logits.cast(DType::F32),
    }
}

/// `−ln p` of each voxel's own class, `[N, D, H, W]`, 0 where it does not count, without gradient.
pub(crate) fn voxel_cross_entropy(
    logits: Tensor<5>,
    labels: Tensor<4, Int>,
    ignore_index: Option<i64>,
) -> Tensor<4> {
    let logits = logits.detach();
    #[cfg(any(feature = "flex", feature = "cubecl"))]
    {
        let [_, _, d, h, w] = logits.dims();
        let whole = crate::RegionGrid::WHOLE.regions([d, h, w]);
        if whole.is_ok_and(|whole| crate::fused::supports(&logits, &whole)) {
            return crate::fused::voxel_cross_entropy(logits, labels, ignore_index);
        }
    }
    plain::voxel_cross_entropy(at_least_f32(logits), labels, ignore_index)
}

/// That logits and target describe the same, and some, voxels.
pub(crate) fn check_shapes(logits: &Tensor<5>, target: &Target) -> Result<(), LossError> {
    let shape = logits.dims();
    let [n, _, d, h, w] = shape;
    match target {
        Target::Labels(labels) if labels.dims() != [n, d, h, w] => {
            return Err(LossError::Shape {
                logits: shape,
                labels: labels.dims(),
            });
        }
        Target::Shares(shares) if shares.dims() != shape => {
            return Err(LossError::ShareShape {
                logits: shape,
                shares: shares.dims(),
            });
        }
        _ => {}
    }
    match shape.contains(&0) {
        true => Err(LossError::Empty { logits: shape }),
        false => Ok(()),
    }
}

/// The above, that the regions are of the same volume, and the options.
pub(crate) fn check(
    logits: &Tensor<5>,
    target: &Target,
    regions: &Regions,
    options: &StatisticsOptions,
) -> Result<(), LossError> {
    check_shapes(logits, target)?;
    let shape = logits.dims();
    let [_, _, d, h, w] = shape;
    if regions.shape() != [d, h, w] {
        return Err(LossError::Regions {
            logits: shape,
            regions: regions.shape(),
        });
    }
    if !(options.focal_gamma >= 0.0 && options.focal_gamma.is_finite()) {
        return Err(LossError::Option {
            name: "gamma",
            value: options.focal_gamma,
            range: "finite and 0 or more",
        });
    }
    Ok(())
}

/// The label of channel 0: a single sigmoid channel asks for label 1.
pub(crate) fn first_label(activation: Activation, classes: usize) -> i64 {
    i64::from(activation == Activation::Sigmoid && classes == 1)
}

/// The labels in a type that fits i32, where a label that is no class stays one.
#[cfg(feature = "cubecl")]
pub(crate) fn narrow_labels(labels: Tensor<4, Int>, classes: usize) -> Tensor<4, Int> {
    use burn::tensor::IntDType;
    match labels.dtype() {
        // A label that i32 can't hold must not become a class by wrapping: the number after the last class is none.
        DType::I64 => labels.clamp(-1, classes as i64 + 1).cast(IntDType::I32),
        DType::U64 => labels.clamp_max(classes as i64 + 1).cast(IntDType::I32),
        _ => labels,
    }
}
