use crate::{LossError, Regions, plain};
use burn::prelude::*;
use burn::tensor::DType;

/// What every loss here is computed from: sums over each region, one number per image, class and region.
///
/// All tensors are `[N, C, K]`, in f32 (f64 for f64 logits). With `p = softmax_C(logits)` and `g` the one-hot
/// labels, over the labelled voxels of the region:
/// TP = Σ p·g, FP = Σ p·(1−g), FN = Σ (1−p)·g.
#[derive(Debug, Clone)]
pub struct RegionStatistics {
    /// True positives, soft.
    pub tp: Tensor<3>,
    /// False positives, soft.
    pub fp: Tensor<3>,
    /// False negatives, soft.
    pub fn_: Tensor<3>,
    /// `−Σ g·ln p`: the cross entropy of the voxels labelled with the class.
    pub cross_entropy: Tensor<3>,
    /// Voxels labelled with the class. Carries no gradient.
    pub labelled: Tensor<3>,
}

impl RegionStatistics {
    /// Labelled voxels per region, `[N, 1, K]`: 0 where all voxels of a region are ignored.
    pub fn voxels(&self) -> Tensor<3> {
        self.labelled.clone().sum_dim(1)
    }

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
        self.map(|sums| {
            let classes = sums.dims()[1];
            sums.narrow(1, 1, classes - 1)
        })
    }

    fn map(&self, f: impl Fn(Tensor<3>) -> Tensor<3>) -> Self {
        Self {
            tp: f(self.tp.clone()),
            fp: f(self.fp.clone()),
            fn_: f(self.fn_.clone()),
            cross_entropy: f(self.cross_entropy.clone()),
            labelled: f(self.labelled.clone()),
        }
    }
}

/// Sums of soft true positives, false positives, false negatives and cross entropy over each region.
///
/// `logits` are `[N, C, D, H, W]` before softmax, `labels` `[N, D, H, W]` class indices. A voxel whose label is
/// `ignore_index`, or is not in `0..C`, counts nowhere. Differentiable in the logits. f16 and bf16 logits are
/// read as f32, because the loss's own gradients overflow half precision.
///
/// # Errors
/// Shapes of logits, labels and regions that do not fit.
pub fn region_statistics(
    logits: Tensor<5>,
    labels: Tensor<4, Int>,
    regions: &Regions,
    ignore_index: Option<i64>,
) -> Result<RegionStatistics, LossError> {
    let logits = prepare(logits, &labels, regions)?;
    // The one place that knows that there is a faster way on some devices.
    #[cfg(any(feature = "flex", feature = "cubecl"))]
    if crate::fused::supports(&logits, regions) {
        return Ok(crate::fused::region_statistics(
            logits,
            labels,
            regions,
            ignore_index,
        ));
    }
    Ok(plain::region_statistics(
        logits,
        labels,
        regions,
        ignore_index,
    ))
}

/// As [`region_statistics`], always in plain tensor operations: what the faster ways are measured against.
///
/// # Errors
/// As [`region_statistics`].
pub fn plain_region_statistics(
    logits: Tensor<5>,
    labels: Tensor<4, Int>,
    regions: &Regions,
    ignore_index: Option<i64>,
) -> Result<RegionStatistics, LossError> {
    let logits = prepare(logits, &labels, regions)?;
    Ok(plain::region_statistics(
        logits,
        labels,
        regions,
        ignore_index,
    ))
}

/// Checks the shapes, and brings half precision to f32.
fn prepare(
    logits: Tensor<5>,
    labels: &Tensor<4, Int>,
    regions: &Regions,
) -> Result<Tensor<5>, LossError> {
    check_shapes(&logits, labels)?;
    let [n, c, d, h, w] = logits.dims();
    let [rd, rh, rw] = regions.shape();
    if [rd, rh, rw] != [d, h, w] {
        return Err(LossError::Regions {
            logits: [n, c, d, h, w],
            regions: [rd, rh, rw],
        });
    }
    Ok(match logits.dtype() {
        DType::F32 | DType::F64 => logits,
        _ => logits.cast(DType::F32),
    })
}

/// That logits and labels describe the same, and some, voxels.
fn check_shapes(logits: &Tensor<5>, labels: &Tensor<4, Int>) -> Result<(), LossError> {
    let (logits, labels) = (logits.dims(), labels.dims());
    let [n, _, d, h, w] = logits;
    if labels != [n, d, h, w] {
        return Err(LossError::Shape { logits, labels });
    }
    if logits.contains(&0) {
        return Err(LossError::Empty { logits });
    }
    Ok(())
}
