//! Transforms of the place: what a patch shows, image and labels alike.

mod displacement;
mod elastic;
mod initial_patch;
mod labels;
mod map;
mod mirror;
mod resample;
mod rotation;
mod scaling;

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::error::AugmentError;
pub use displacement::Displacement;
pub use elastic::{DisplacementUnit, Elastic};
pub use map::SpatialMap;
pub use mirror::Mirror;
pub use rotation::Rotation;
pub use scaling::Scaling;

/// The spatial transforms of a patch, each of them optional. They are drawn independently and done as one.
///
/// ```
/// use arl_data::augment::{Rotation, Spatial};
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let turn = Rotation { probability: 1.0, max_degrees: [30.0; 3] };
/// let spatial = Spatial { rotation: Some(turn), ..Default::default() };
/// let map = spatial.draw([64; 3], [1.0; 3], &mut StdRng::seed_from_u64(0));
/// let (start, size) = map.source_box();
/// assert!(start.iter().all(|first| *first <= 0) && size.iter().all(|n| (64..=111).contains(n)));
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Spatial {
    /// Rotation about the centre of the patch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
    /// Scaling about the centre of the patch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
    /// Elastic deformation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elastic: Option<Elastic>,
    /// Mirroring. At the end or at the beginning it is the same: no intensity transform knows the sides apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Mirror>,
}

impl Spatial {
    /// The map of the next patch: `size` in voxels, `spacing` in mm, `[D, H, W]`.
    pub fn draw(&self, size: [usize; 3], spacing: [f64; 3], rng: &mut impl Rng) -> SpatialMap {
        let mut map = SpatialMap::new(size);
        let degrees = self
            .rotation
            .as_ref()
            .and_then(|rotation| rotation.draw(rng));
        let factors = self.scaling.as_ref().and_then(|scaling| scaling.draw(rng));
        if degrees.is_some() || factors.is_some() {
            let [d, h, w] = factors.unwrap_or([1.0; 3]);
            let scale = [[d, 0.0, 0.0], [0.0, h, 0.0], [0.0, 0.0, w]];
            let turn = Rotation::matrix(degrees.unwrap_or([0.0; 3]));
            map = map.with_matrix(rotation::product(turn, scale));
        }
        if let Some(elastic) = &self.elastic
            && let Some(field) = elastic.draw(size, spacing, rng)
        {
            map = map.with_displacement(field);
        }
        if let Some(mirror) = &self.mirror {
            map = map.with_mirrored(mirror.draw(rng));
        }
        map
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// The first that is out of its bounds.
    pub fn validate(&self) -> Result<(), AugmentError> {
        self.rotation.as_ref().map_or(Ok(()), Rotation::validate)?;
        self.scaling.as_ref().map_or(Ok(()), Scaling::validate)?;
        self.elastic.as_ref().map_or(Ok(()), Elastic::validate)?;
        self.mirror.as_ref().map_or(Ok(()), Mirror::validate)
    }
}
