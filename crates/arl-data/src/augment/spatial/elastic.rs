//! Elastic deformation.

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::displacement::{Displacement, MOST_POINTS};
use crate::augment::draw::{happens, uniform};
use crate::augment::error::{AugmentError, Check};

/// What a displacement is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisplacementUnit {
    /// Voxels of the patch.
    #[default]
    Voxels,
    /// Millimetres.
    Mm,
}

/// Moves the voxels by a smooth random field: a cubic B-spline through a coarse grid of control points, each of which is
/// displaced by as much as `max_displacement`, uniformly.
///
/// The control points and their default number and displacement are TorchIO's (`ElasticDeformation`): `n` points span
/// `n - 3` equal cells along the patch. Neighbouring cells fold over each other if the displacement exceeds about half a
/// cell. nnU-Net (which leaves elastic deformation off) smooths white noise with a Gaussian instead; a B-spline of cells
/// √3 times as long as that Gaussian's standard deviation is as smooth.
///
/// ```
/// use arl_data::augment::Elastic;
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let soft = Elastic { probability: 1.0, ..Default::default() };
/// let field = soft.draw([64; 3], [1.0; 3], &mut StdRng::seed_from_u64(0)).unwrap();
/// assert!(field.bound().iter().all(|most| *most <= 7.5));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Elastic {
    /// How often a patch is deformed.
    pub probability: f64,
    /// Control points along `[D, H, W]`, at least 4 each.
    pub control_points: [usize; 3],
    /// Largest displacement of a control point along `[D, H, W]`, in `unit`.
    pub max_displacement: [f32; 3],
    /// What `max_displacement` is measured in.
    pub unit: DisplacementUnit,
    /// Layers of control points at the border that stay in place; 2 hold the border of the patch itself (TorchIO's
    /// default, for whole images).
    pub locked_borders: usize,
}

impl Default for Elastic {
    /// TorchIO's grid and displacement, in one patch of five; the border is free, as a patch has voxels around it.
    fn default() -> Self {
        Elastic {
            probability: 0.2,
            control_points: [7; 3],
            max_displacement: [7.5; 3],
            unit: DisplacementUnit::Voxels,
            locked_borders: 0,
        }
    }
}

impl Elastic {
    /// The displacements of the next patch, if it is to be deformed. `size` in voxels and `spacing` in mm, `[D, H, W]`.
    pub fn draw(
        &self,
        size: [usize; 3],
        spacing: [f64; 3],
        rng: &mut impl Rng,
    ) -> Option<Displacement> {
        if !happens(self.probability, rng) {
            return None;
        }
        let [nd, nh, nw] = self.control_points;
        let locked = |i: usize, n: usize| i < self.locked_borders || i + self.locked_borders >= n;
        let coefficients = self.voxels(spacing).map(|most| {
            let mut values = Vec::with_capacity(nd * nh * nw);
            for d in 0..nd {
                for h in 0..nh {
                    for w in 0..nw {
                        let value = uniform((-most, most), rng);
                        let fixed = locked(d, nd) || locked(h, nh) || locked(w, nw);
                        values.push(if fixed { 0.0 } else { value });
                    }
                }
            }
            values
        });
        Some(Displacement::new(size, self.control_points, coefficients))
    }

    /// The largest displacement along `[D, H, W]` in voxels.
    fn voxels(&self, spacing: [f64; 3]) -> [f32; 3] {
        [0, 1, 2].map(|axis| match self.unit {
            DisplacementUnit::Voxels => self.max_displacement[axis],
            DisplacementUnit::Mm => self.max_displacement[axis] / spacing[axis] as f32,
        })
    }

    /// Checks that a patch of this size is not displaced by more than its own length: it would read a multiple of itself.
    ///
    /// # Errors
    /// If it is.
    pub fn validate_for(&self, size: [usize; 3], spacing: [f64; 3]) -> Result<(), AugmentError> {
        let longest = size.into_iter().max().unwrap_or(0) as f32;
        let voxels = self.voxels(spacing);
        let right = voxels.iter().all(|most| *most <= longest);
        let bounds = format!("at most {longest} voxels, the length of the patch");
        Check("elastic").that(right, "max_displacement in voxels", voxels, bounds)
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// The first that is out of its bounds.
    pub fn validate(&self) -> Result<(), AugmentError> {
        let check = Check("elastic");
        check.probability("probability", self.probability)?;
        let points = self.control_points;
        let right = points.iter().all(|n| (4..=MOST_POINTS).contains(n));
        check.that(
            right,
            "control_points",
            points,
            "three numbers from 4 to 64",
        )?;
        for most in self.max_displacement {
            check.within("max_displacement", most, (0.0, 100.0))?;
        }
        let layers = self.locked_borders;
        check.that(layers <= 2, "locked_borders", layers, "0, 1 or 2")
    }
}
