//! Where to cut the next patch: anywhere, or around a voxel of the foreground.
//!
//! Source: nnU-Net v2, `training/dataloading/data_loader.py`. Three things differ on purpose. A batch of one patch is
//! forced to hold foreground by probability, where nnU-Net's rule would force every one. A patch around foreground stays
//! within the volume at both ends, where nnU-Net's may begin anywhere before the last voxel: on torso CTs of 112 × 101 ×
//! 122 voxels and patches of 64³, 18 % of what it then trains on lies outside of the body's image. And nnU-Net reads a
//! larger patch, to have something to turn into view; here the augmentation reads the box that it needs.

use rand::{Rng, RngExt};

use crate::Result;
use crate::cache::CachedCase;

/// Draws patch positions the way nnU-Net does: a fixed share of each batch is forced to contain foreground.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PatchSampler {
    /// Voxels along `[D, H, W]`.
    pub patch_size: [usize; 3],
    /// The share of samples forced to contain foreground, 0 to 1 (nnU-Net: 0.33).
    pub foreground_fraction: f64,
}

impl PatchSampler {
    /// Whether the sample at `index` of a batch must contain foreground.
    ///
    /// The last samples of a batch do: those from `round(batch_size · (1 - foreground_fraction))` on, halves rounded to
    /// even. With one sample per batch that would be all or none, so there it is drawn with the probability
    /// `foreground_fraction`.
    pub fn forces_foreground(&self, index: usize, batch_size: usize, rng: &mut impl Rng) -> bool {
        if batch_size == 1 {
            return rng.random::<f64>() < self.foreground_fraction;
        }
        let free = (batch_size as f64 * (1.0 - self.foreground_fraction)).round_ties_even();
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
            let (lower, upper) = bounds(case.shape[axis], self.patch_size[axis]);
            match centre {
                Some(voxel) => around(voxel[axis], self.patch_size[axis], lower, upper),
                None => rng.random_range(lower..=upper),
            }
        }))
    }
}

/// The first and the last voxel at which a patch may begin along an axis: within the volume, or so that a volume shorter
/// than the patch lies in its middle.
fn bounds(volume: usize, patch: usize) -> (i64, i64) {
    let room = volume as i64 - patch as i64;
    match room {
        0.. => (0, room),
        // Of an odd number of voxels too many, the odd one may be on either side.
        _ => (room.div_euclid(2), room / 2),
    }
}

/// Where a patch with this voxel in its middle begins, within the bounds.
fn around(voxel: u32, patch: usize, lower: i64, upper: i64) -> i64 {
    (i64::from(voxel) - patch as i64 / 2).clamp(lower, upper)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::cache::testing::{TestCase, cache_of};

    fn sampler(patch_size: [usize; 3], foreground_fraction: f64) -> PatchSampler {
        PatchSampler {
            patch_size,
            foreground_fraction,
        }
    }

    #[test]
    fn the_last_third_of_a_batch_is_foreground() {
        let mut rng = StdRng::seed_from_u64(0);
        let mut forced = |fraction: f64, batch: usize| -> Vec<bool> {
            (0..batch)
                .map(|index| sampler([8; 3], fraction).forces_foreground(index, batch, &mut rng))
                .collect()
        };
        assert_eq!(forced(0.33, 2), [false, true]);
        assert_eq!(forced(0.33, 9).iter().filter(|&&forced| forced).count(), 3);
        assert_eq!(forced(0.0, 3), [false; 3]);
        assert_eq!(forced(1.0, 3), [true; 3]);
    }

    /// What nnU-Net's loader does: `tests/references/make_sampler.py`.
    #[derive(serde::Deserialize)]
    struct References {
        starts: Vec<Start>,
        forced: Vec<Forced>,
    }

    #[derive(serde::Deserialize)]
    struct Start {
        shape: [usize; 3],
        patch: [usize; 3],
        lower: [i64; 3],
        upper: [i64; 3],
        voxel: [u32; 3],
        start: [i64; 3],
    }

    #[derive(serde::Deserialize)]
    struct Forced {
        fraction: f64,
        batch_size: usize,
        forced: usize,
    }

    fn references() -> References {
        let text = include_str!("../tests/references/sampler/starts.json");
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn patches_begin_where_nnunets_do_but_stay_inside_at_the_end() {
        let mut held_back = 0;
        for reference in references().starts {
            for axis in 0..3 {
                let patch = reference.patch[axis];
                let (lower, upper) = bounds(reference.shape[axis], patch);
                assert_eq!(
                    (lower, upper),
                    (reference.lower[axis], reference.upper[axis])
                );
                let start = around(reference.voxel[axis], patch, lower, upper);
                assert_eq!(start, reference.start[axis].min(upper));
                held_back += usize::from(start != reference.start[axis]);
                let inside = start..start + patch as i64;
                assert!(inside.contains(&i64::from(reference.voxel[axis])));
            }
        }
        assert!(
            held_back > 10,
            "the difference from nnU-Net is met by {held_back} only"
        );
    }

    #[test]
    fn as_many_samples_are_forced_as_in_nnunet() {
        let mut rng = StdRng::seed_from_u64(0);
        for reference in references().forced {
            let sampler = sampler([8; 3], reference.fraction);
            let batch = reference.batch_size;
            let forced = (0..batch)
                .filter(|&index| sampler.forces_foreground(index, batch, &mut rng))
                .count();
            assert_eq!(
                forced, reference.forced,
                "{batch} at {}",
                reference.fraction
            );
        }
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
            assert!((-2..=-1).contains(&start[2]), "three voxels too many");
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
