//! The spacing to which everything is resampled, and the size that the cases have there.
//!
//! Source: nnU-Net v2, `default_experiment_planner.py` (`determine_fullres_target_spacing`, `determine_transpose`).

use crate::fingerprint::Fingerprint;
use crate::resample::resampled_shape;
use crate::statistics::{median, percentile};

/// Ratio of spacings (and of sizes) above which an axis counts as anisotropic.
pub(super) const ANISOTROPY: f64 = 3.0;

/// The target spacing in mm, `[D, H, W]`, and a sentence that says why: the median of the cases; but the 10th percentile
/// along an axis that is more than three times coarser than the others and has less than a third of their voxels, because
/// the median would make it coarser for every case with thin slices.
pub(super) fn target_spacing(fingerprint: &Fingerprint) -> ([f64; 3], String) {
    let cases = &fingerprint.cases;
    let along = |axis: usize| {
        cases
            .iter()
            .map(|case| case.spacing[axis])
            .collect::<Vec<_>>()
    };
    let mut target: [f64; 3] = std::array::from_fn(|axis| median(along(axis)));
    let sizes: [f64; 3] = std::array::from_fn(|axis| {
        let sizes = cases.iter().map(|case| case.shape_after_crop[axis] as f64);
        median(sizes.collect())
    });
    let worst = coarsest_axis(target);
    let others = (0..3).filter(|&axis| axis != worst);
    let coarsest_other = others.clone().map(|axis| target[axis]).fold(0.0, f64::max);
    let smallest_other = others.map(|axis| sizes[axis]).fold(f64::INFINITY, f64::min);
    let coarse = target[worst] > ANISOTROPY * coarsest_other;
    if !coarse || sizes[worst] * ANISOTROPY >= smallest_other {
        let reason = format!("Target spacing {target:.3?} mm is the median of the cases.");
        return (target, reason);
    }
    let tenth = percentile(along(worst), 10.0);
    target[worst] = if tenth < coarsest_other {
        coarsest_other + 1e-5
    } else {
        tenth
    };
    let reason = format!(
        "Axis {worst} is anisotropic, so its target spacing is the 10th percentile of the cases, {:.3} mm; along the \
         others it is the median.",
        target[worst]
    );
    (target, reason)
}

/// The median size in voxels that the cropped cases have at a spacing, `[D, H, W]`; with halves, if they are even in
/// number.
pub(super) fn median_shape(fingerprint: &Fingerprint, target: [f64; 3]) -> [f64; 3] {
    let shapes: Vec<[usize; 3]> = fingerprint
        .cases
        .iter()
        .map(|case| resampled_shape(case.shape_after_crop, case.spacing, target))
        .collect();
    std::array::from_fn(|axis| median(shapes.iter().map(|shape| shape[axis] as f64).collect()))
}

/// The axis with the largest spacing, the first of several.
pub(super) fn coarsest_axis(spacing: [f64; 3]) -> usize {
    let largest = spacing.into_iter().fold(f64::NEG_INFINITY, f64::max);
    spacing.iter().position(|&s| s == largest).unwrap_or(0)
}

/// The order in which nnU-Net sees the axes: the coarsest first. Where two axes would do, the rules take the later one,
/// so the order decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct AxisOrder([usize; 3]);

impl AxisOrder {
    /// The order for a target spacing.
    pub fn coarsest_first(spacing: [f64; 3]) -> Self {
        Self(match coarsest_axis(spacing) {
            0 => [0, 1, 2],
            1 => [1, 0, 2],
            _ => [2, 0, 1],
        })
    }

    /// `[D, H, W]` in this order.
    pub fn sort<T: Copy>(self, values: [T; 3]) -> [T; 3] {
        self.0.map(|axis| values[axis])
    }

    /// Back to `[D, H, W]`.
    pub fn restore<T: Copy>(self, values: [T; 3]) -> [T; 3] {
        let mut restored = values;
        for (value, axis) in values.into_iter().zip(self.0) {
            restored[axis] = value;
        }
        restored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_axes_can_be_undone() {
        for spacing in [[3.0, 1.0, 1.0], [1.0, 3.0, 1.0], [1.0, 1.0, 3.0], [1.0; 3]] {
            let order = AxisOrder::coarsest_first(spacing);
            assert_eq!(
                order.sort(spacing)[0],
                spacing.into_iter().fold(0.0, f64::max)
            );
            assert_eq!(order.restore(order.sort(["d", "h", "w"])), ["d", "h", "w"]);
        }
    }
}
