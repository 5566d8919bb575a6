//! Where to cut the next patch: anywhere, or around a voxel of the foreground.

use rand::{Rng, RngExt};

use crate::Result;
use crate::cache::CachedCase;

/// Draws patch positions the way nnU-Net does: a fixed share of each batch is forced to contain foreground.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PatchSampler {
    /// Voxels along `[D, H, W]`.
    pub patch_size: [usize; 3],
    /// The share of samples forced to contain foreground, 0 to 1 (nnU-Net: 0.33).
    pub foreground_fraction: f32,
}

impl PatchSampler {
    /// Whether the sample at `index` of a batch must contain foreground.
    ///
    /// The last samples of a batch do: those from `round(batch_size · (1 - foreground_fraction))` on. With one
    /// sample per batch that would be all or none, so there it is drawn with the probability `foreground_fraction`.
    pub fn forces_foreground(&self, index: usize, batch_size: usize, rng: &mut impl Rng) -> bool {
        if batch_size == 1 {
            return rng.random::<f32>() < self.foreground_fraction;
        }
        let free = (batch_size as f64 * (1.0 - f64::from(self.foreground_fraction))).round();
        index as f64 >= free
    }

    /// The first voxel of a patch, for [`CachedCase::read_patch`].
    ///
    /// With `foreground`, the patch is centred on a random stored voxel of a class drawn evenly from those present,
    /// so that a small organ is seen as often as a large one; a case without foreground gives any patch. Along an
    /// axis on which the volume is at least as long as the patch, the patch stays inside; along the others the
    /// volume lies in its middle.
    ///
    /// # Errors
    /// When the stored voxels of the class can't be read.
    pub fn start(
        &self,
        case: &CachedCase,
        foreground: bool,
        rng: &mut impl Rng,
    ) -> Result<[i64; 3]> {
        let classes = case.foreground_classes();
        let centre = if foreground && !classes.is_empty() {
            let voxels = case.locations(classes[rng.random_range(0..classes.len())])?;
            Some(voxels[rng.random_range(0..voxels.len())])
        } else {
            None
        };
        Ok([0, 1, 2].map(|axis| {
            let patch = self.patch_size[axis] as i64;
            let room = case.shape[axis] as i64 - patch;
            if room < 0 {
                return room.div_euclid(2);
            }
            match centre {
                Some(voxel) => (i64::from(voxel[axis]) - patch / 2).clamp(0, room),
                None => rng.random_range(0..=room),
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::cache::testing::{TestCase, cache_of};

    fn sampler(patch_size: [usize; 3], foreground_fraction: f32) -> PatchSampler {
        PatchSampler {
            patch_size,
            foreground_fraction,
        }
    }

    #[test]
    fn the_last_third_of_a_batch_is_foreground() {
        let mut rng = StdRng::seed_from_u64(0);
        let mut forced = |fraction: f32, batch: usize| -> Vec<bool> {
            (0..batch)
                .map(|index| sampler([8; 3], fraction).forces_foreground(index, batch, &mut rng))
                .collect()
        };
        assert_eq!(forced(0.33, 2), [false, true]);
        assert_eq!(forced(0.33, 9).iter().filter(|&&forced| forced).count(), 3);
        assert_eq!(forced(0.0, 3), [false; 3]);
        assert_eq!(forced(1.0, 3), [true; 3]);
    }

    #[test]
    fn single_samples_are_foreground_as_often_as_asked() {
        let mut rng = StdRng::seed_from_u64(0);
        let sampler = sampler([8; 3], 0.33);
        let forced = (0..10_000)
            .filter(|_| sampler.forces_foreground(0, 1, &mut rng))
            .count();
        assert!((3150..=3450).contains(&forced), "{forced} of 10000");
    }

    #[test]
    fn foreground_patches_hold_every_class_about_evenly_and_stay_inside() {
        let directory = tempfile::tempdir().unwrap();
        // Class 1 fills a slab, class 2 is one voxel at the edge, class 3 is absent.
        let case = TestCase::new("a", [20, 24, 6], |[d, h, w]| match [d, h, w] {
            [19, 23, 5] => 2,
            [0..4, _, _] => 1,
            _ => 0,
        });
        let cache = cache_of(directory.path(), &[case], 4);
        let case = &cache.cases()[0];
        assert_eq!(case.foreground_classes(), [1, 2]);
        let sampler = sampler([8, 8, 9], 1.0);
        let mut rng = StdRng::seed_from_u64(3);
        let mut with_the_voxel = 0;
        for _ in 0..1000 {
            let start = sampler.start(case, true, &mut rng).unwrap();
            assert!((0..=12).contains(&start[0]) && (0..=16).contains(&start[1]));
            assert_eq!(start[2], -2, "three voxels too many: two before, one after");
            let (_, labels) = case.read_patch(start, sampler.patch_size, 0).unwrap();
            assert!(labels.iter().any(|&label| label > 0));
            with_the_voxel += usize::from(labels.iter().any(|&label| label == 2));
        }
        assert!(
            (400..=600).contains(&with_the_voxel),
            "{with_the_voxel} of 1000"
        );
    }

    #[test]
    fn free_patches_reach_both_ends() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache_of(directory.path(), &[TestCase::new("a", [6, 4, 4], |_| 0)], 2);
        let case = &cache.cases()[0];
        let sampler = sampler([4, 4, 4], 1.0);
        let mut rng = StdRng::seed_from_u64(3);
        let mut seen = [0; 3];
        for foreground in [true, false].repeat(100) {
            let [d, h, w] = sampler.start(case, foreground, &mut rng).unwrap();
            assert_eq!([h, w], [0, 0]);
            seen[d as usize] += 1;
        }
        assert!(seen.iter().all(|&count| count > 30), "{seen:?}");
    }
}
