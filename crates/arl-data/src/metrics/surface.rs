//! Distances between the surfaces of two masks, and what is computed from them.

use ndarray::Array3;
use rayon::join;

use super::ScoreError;
use super::mask::Mask;
use super::nearest::Neighbourhood;

/// Distances equal to a tolerance count as within it, although a spacing that was stored as `f32` may have rounded up.
const ROUNDING: f64 = 1.0 + 1e-6;

/// Distances in mm between the surfaces of a prediction and a reference.
///
/// The surface of a mask is made of those of its voxels that have at least one of their 6 neighbours outside of it;
/// what lies beyond the volume is outside, except that a single slice has no neighbours. If one mask is empty, the distances from the other are infinite. The values
/// computed here are `None` if both are.
#[derive(Debug, Clone, PartialEq)]
pub struct SurfaceDistances {
    /// From each surface voxel of the prediction to the nearest one of the reference.
    pub to_reference: Vec<f64>,
    /// From each surface voxel of the reference to the nearest one of the prediction.
    pub to_prediction: Vec<f64>,
}

impl SurfaceDistances {
    /// Between two masks `[D, H, W]` with a spacing in mm in the same order.
    ///
    /// # Errors
    /// When the shapes differ, or the spacing is not positive and finite.
    pub fn between(
        prediction: &Array3<bool>,
        reference: &Array3<bool>,
        spacing: [f64; 3],
    ) -> Result<Self, ScoreError> {
        ScoreError::check(prediction.dim(), reference.dim(), spacing)?;
        let mask = |array: &Array3<bool>| Mask::of_map(array.view(), |inside| *inside);
        let neighbourhood = Neighbourhood::new(prediction.dim(), spacing);
        Ok(Self::of_masks(
            &mask(prediction),
            &mask(reference),
            &neighbourhood,
        ))
    }

    /// Of masks that may be cut out of the neighbourhood's volume.
    pub(super) fn of_masks(
        prediction: &Mask,
        reference: &Mask,
        neighbourhood: &Neighbourhood,
    ) -> Self {
        let (prediction, reference) = (
            prediction.surface(neighbourhood.axes),
            reference.surface(neighbourhood.axes),
        );
        let distances = |from: &Mask, to: &Mask| match (from.count(), to.count()) {
            (voxels, 0) => vec![f64::INFINITY; voxels as usize],
            (0, _) => Vec::new(),
            _ => neighbourhood.distances(from, to),
        };
        let (to_reference, to_prediction) = join(
            || distances(&prediction, &reference),
            || distances(&reference, &prediction),
        );
        Self {
            to_reference,
            to_prediction,
        }
    }

    /// The Hausdorff distance in mm: the largest distance in either direction.
    pub fn hausdorff(&self) -> Option<f64> {
        self.all().reduce(f64::max)
    }

    /// The larger of the two directed distances in mm that `percent` of a surface's voxels do not exceed.
    ///
    /// Each percentile is interpolated linearly between the sorted distances, as NumPy and MONAI do.
    pub fn hausdorff_percentile(&self, percent: f64) -> Option<f64> {
        let (there, back) = (&self.to_reference, &self.to_prediction);
        if there.is_empty() != back.is_empty() {
            return Some(f64::INFINITY);
        }
        Some(percentile(there, percent)?.max(percentile(back, percent)?))
    }

    /// The average symmetric surface distance in mm: the mean over the voxels of both surfaces, pooled.
    pub fn average(&self) -> Option<f64> {
        let voxels = self.to_reference.len() + self.to_prediction.len();
        (voxels > 0).then(|| self.all().sum::<f64>() / voxels as f64)
    }

    /// The normalised surface Dice: the share of both surfaces' voxels, pooled, within `tolerance` mm of the other.
    pub fn normalised_dice(&self, tolerance: f64) -> Option<f64> {
        let voxels = self.to_reference.len() + self.to_prediction.len();
        let within = self.all().filter(|&d| d <= tolerance * ROUNDING).count();
        (voxels > 0).then(|| within as f64 / voxels as f64)
    }

    fn all(&self) -> impl Iterator<Item = f64> {
        self.to_reference.iter().chain(&self.to_prediction).copied()
    }
}

fn percentile(distances: &[f64], percent: f64) -> Option<f64> {
    let position = percent / 100.0 * distances.len().checked_sub(1)? as f64;
    let mut distances = distances.to_vec();
    let (_, &mut low, above) =
        distances.select_nth_unstable_by(position as usize, |a, b| a.total_cmp(b));
    // The next larger one, which the last one does not have.
    let high = above.iter().copied().reduce(f64::min).unwrap_or(low);
    Some(low + (high - low) * position.fract())
}
