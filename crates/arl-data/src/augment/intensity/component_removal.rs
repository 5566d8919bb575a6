//! Removal of parts of masks.

use ndarray::{Array3, Array4, ArrayView3, Axis, Zip};
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::masks::{self, drawn};
use crate::augment::error::{AugmentError, Check};

/// Removes a connected component from masks among the channels, as a coarser network that is refined may have missed it
/// (nnU-Net's cascade, `RemoveRandomConnectedComponentFromOneHotEncodingTransform`).
///
/// ```
/// use arl_data::augment::ComponentRemoval;
/// use ndarray::Array4;
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let mut masks = Array4::zeros((1, 1, 1, 9));
/// masks[[0, 0, 0, 2]] = 1.0;
/// masks[[0, 0, 0, 5]] = 1.0;
/// let removal = ComponentRemoval {
///     probability: 1.0,
///     channels: vec![0],
///     probability_per_channel: 1.0,
///     ..ComponentRemoval::default()
/// };
/// removal.apply(&mut masks, &mut StdRng::seed_from_u64(0));
/// assert_eq!(masks.sum(), 1.0);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ComponentRemoval {
    /// How often a patch is changed.
    pub probability: f64,
    /// The channels that are masks: 0 and other values.
    pub channels: Vec<usize>,
    /// How often each of them is changed in a patch that is.
    pub probability_per_channel: f64,
    /// A component stays if it covers this share of the patch or more.
    pub largest_share: f64,
}

impl Default for ComponentRemoval {
    /// nnU-Net's values, for no channel.
    fn default() -> Self {
        ComponentRemoval {
            probability: 0.2,
            channels: Vec::new(),
            probability_per_channel: 0.5,
            largest_share: 0.15,
        }
    }
}

impl ComponentRemoval {
    /// Changes `image` `[C, D, H, W]` in place.
    ///
    /// # Panics
    /// If the image has fewer channels than are named.
    pub fn apply(&self, image: &mut Array4<f32>, rng: &mut impl Rng) {
        for channel in drawn(&self.channels, self.probabilities(), rng) {
            let mut mask = image.index_axis_mut(Axis(0), channel);
            let (components, sizes) = components(mask.view());
            let most = self.largest_share * mask.len() as f64;
            let small: Vec<u32> = (1u32..)
                .zip(&sizes)
                .filter(|&(_, &voxels)| (voxels as f64) < most)
                .map(|(component, _)| component)
                .collect();
            if small.is_empty() {
                continue;
            }
            let removed = small[rng.random_range(0..small.len())];
            Zip::from(&mut mask)
                .and(&components)
                .for_each(|value, &component| {
                    if component == removed {
                        *value = 0.0;
                    }
                });
        }
    }

    fn probabilities(&self) -> [f64; 2] {
        [self.probability, self.probability_per_channel]
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// The first that is out of its bounds.
    pub fn validate(&self) -> Result<(), AugmentError> {
        let check = Check("component_removal");
        masks::validate(&check, self.probabilities())?;
        check.probability("largest_share", self.largest_share)
    }
}

/// The component of each voxel, from 1, 0 where the mask is 0; and the voxels of each component. The 26 neighbours of a
/// voxel belong to its component.
fn components(mask: ArrayView3<'_, f32>) -> (Array3<u32>, Vec<usize>) {
    let mut found = Array3::zeros(mask.dim());
    let mut sizes = Vec::new();
    let mut open = Vec::new();
    for (start, &value) in mask.indexed_iter() {
        if value == 0.0 || found[start] != 0 {
            continue;
        }
        let component = sizes.len() as u32 + 1;
        let mut size = 0;
        found[start] = component;
        open.push(start);
        while let Some((d, h, w)) = open.pop() {
            size += 1;
            for neighbour in neighbours([d, h, w], mask.dim().into()) {
                if mask[neighbour] != 0.0 && found[neighbour] == 0 {
                    found[neighbour] = component;
                    open.push(neighbour);
                }
            }
        }
        sizes.push(size);
    }
    (found, sizes)
}

/// The voxel and those that touch it by a face, an edge or a corner.
fn neighbours(voxel: [usize; 3], shape: [usize; 3]) -> impl Iterator<Item = (usize, usize, usize)> {
    let [d, h, w] = [0, 1, 2].map(|axis| {
        let last = (voxel[axis] + 1).min(shape[axis] - 1);
        voxel[axis].saturating_sub(1)..=last
    });
    d.flat_map(move |d| {
        let w = w.clone();
        h.clone()
            .flat_map(move |h| w.clone().map(move |w| (d, h, w)))
    })
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn corners_connect_and_gaps_do_not() {
        let mut mask = Array3::zeros((3, 4, 5));
        for voxel in [
            [0, 0, 0],
            [1, 1, 1],
            [2, 2, 2],
            [0, 3, 4],
            [2, 3, 4],
            [2, 2, 4],
        ] {
            mask[voxel] = 2.0;
        }
        let (found, mut sizes) = components(mask.view());
        assert_eq!(found[[0, 0, 0]], found[[2, 2, 2]]);
        assert_ne!(found[[0, 3, 4]], found[[2, 3, 4]]);
        sizes.sort_unstable();
        assert_eq!(sizes, [1, 2, 3]);
        assert_eq!(found.iter().filter(|&&component| component > 0).count(), 6);
    }

    #[test]
    fn large_components_and_other_channels_stay() {
        let mut image = Array4::zeros((3, 4, 4, 10));
        image.slice_mut(ndarray::s![0, .., .., ..2]).fill(1.0);
        image.slice_mut(ndarray::s![2, .., .., ..2]).fill(1.0);
        image[[2, 0, 0, 5]] = 1.0;
        image[[2, 3, 3, 9]] = 1.0;
        let removal = ComponentRemoval {
            probability: 1.0,
            channels: vec![0, 2],
            probability_per_channel: 1.0,
            largest_share: 0.15,
        };
        let before = image.clone();
        removal.apply(&mut image, &mut StdRng::seed_from_u64(5));
        // A fifth of the patch is too large to go; one of the single voxels has gone.
        assert_eq!(image.index_axis(Axis(0), 0), before.index_axis(Axis(0), 0));
        assert_eq!(before.sum() - image.sum(), 1.0);
        removal.apply(&mut image, &mut StdRng::seed_from_u64(6));
        removal.apply(&mut image, &mut StdRng::seed_from_u64(7));
        assert_eq!(before.sum() - image.sum(), 2.0);
    }
}
