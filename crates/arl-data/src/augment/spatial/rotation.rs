//! Rotation.

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::augment::draw::{happens, uniform};
use crate::augment::error::{AugmentError, Check};

/// A random rotation about the centre of the patch, in voxels: where voxels aren't cubes it shears the anatomy too, as
/// nnU-Net does.
///
/// ```
/// use arl_data::augment::Rotation;
/// let quarter = Rotation::matrix([90.0, 0.0, 0.0]);
/// assert!((quarter[1][2] + 1.0).abs() < 1e-12 && (quarter[2][1] - 1.0).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rotation {
    /// How often a patch is rotated.
    pub probability: f64,
    /// Largest angle in degrees about the axes `[D, H, W]`, in either direction.
    pub max_degrees: [f32; 3],
}

impl Default for Rotation {
    /// nnU-Net's values for patches that are about as deep as wide.
    fn default() -> Self {
        Rotation {
            probability: 0.2,
            max_degrees: [30.0; 3],
        }
    }
}

impl Rotation {
    /// nnU-Net's values for patches that are thin along `axis` ("dummy 2D"): any angle about it.
    pub fn about(axis: usize) -> Self {
        let mut max_degrees = [0.0; 3];
        max_degrees[axis] = 180.0;
        Rotation {
            max_degrees,
            ..Rotation::default()
        }
    }

    /// The angles in degrees of the next patch, if it is to be rotated.
    pub fn draw(&self, rng: &mut impl Rng) -> Option<[f64; 3]> {
        if !happens(self.probability, rng) {
            return None;
        }
        Some(
            self.max_degrees
                .map(|most| f64::from(uniform((-most, most), rng))),
        )
    }

    /// The rotation about the axis D by the first angle in degrees, then H, then W. It acts on coordinates `[D, H, W]`.
    pub fn matrix(degrees: [f64; 3]) -> [[f64; 3]; 3] {
        let [(s0, c0), (s1, c1), (s2, c2)] = degrees.map(|angle| angle.to_radians().sin_cos());
        let about_d = [[1.0, 0.0, 0.0], [0.0, c0, -s0], [0.0, s0, c0]];
        let about_h = [[c1, 0.0, s1], [0.0, 1.0, 0.0], [-s1, 0.0, c1]];
        let about_w = [[c2, -s2, 0.0], [s2, c2, 0.0], [0.0, 0.0, 1.0]];
        product(about_w, product(about_h, about_d))
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// The first that is out of its bounds.
    pub fn validate(&self) -> Result<(), AugmentError> {
        let check = Check("rotation");
        check.probability("probability", self.probability)?;
        (self.max_degrees.iter())
            .try_for_each(|most| check.within("max_degrees", *most, (0.0, 180.0)))
    }
}

/// The product of two matrices.
pub(super) fn product(a: [[f64; 3]; 3], b: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    [0, 1, 2].map(|i| [0, 1, 2].map(|j| (0..3).map(|k| a[i][k] * b[k][j]).sum()))
}
