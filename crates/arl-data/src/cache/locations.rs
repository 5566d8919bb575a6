//! Random voxels of every class, drawn once per case, so that a patch around a class needs no search.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Voxels kept per class, as in nnU-Net.
pub(super) const VOXELS_PER_CLASS: usize = 10_000;

/// Draws up to a limit of voxels `[d, h, w]` of each class evenly and without replacement, from labels that are seen once,
/// row by row.
///
/// Labels that belong to no class (an ignore label) are passed over.
pub(super) struct Draw {
    classes_of: Vec<Vec<usize>>,
    classes: Vec<Reservoir>,
}

impl Draw {
    /// `groups[class]` are the labels of the class; regions may share labels.
    pub fn new(groups: &[impl AsRef<[u16]>], limit: usize, seed: u64) -> Self {
        let mut classes_of = vec![Vec::new(); usize::from(u16::MAX) + 1];
        for (class, group) in groups.iter().enumerate() {
            for &label in group.as_ref() {
                classes_of[usize::from(label)].push(class);
            }
        }
        let classes = (0..groups.len() as u64)
            .map(|class| Reservoir::new(limit, seed.wrapping_add(class << 32)))
            .collect();
        Self {
            classes_of,
            classes,
        }
    }

    /// Takes a row of labels, which begins at `[d, h, 0]`.
    pub fn row(&mut self, d: usize, h: usize, labels: &[u16]) {
        let mut w = 0;
        for run in labels.chunk_by(|a, b| a == b) {
            for &class in &self.classes_of[usize::from(run[0])] {
                self.classes[class].add([d as u32, h as u32, w as u32], run.len());
            }
            w += run.len();
        }
    }

    /// The voxels of each class, in memory order.
    pub fn finish(self) -> Vec<Vec<[u32; 3]>> {
        self.classes
            .into_iter()
            .map(|mut class| {
                class.kept.sort_unstable();
                class.kept
            })
            .collect()
    }
}

/// Li's algorithm L ("Reservoir-sampling algorithms of time complexity O(n(1+log(N/n)))", 1994): the number of items to
/// pass over before the next that is kept is drawn, not one number for each.
struct Reservoir {
    kept: Vec<[u32; 3]>,
    limit: usize,
    seen: u64,
    /// Which item, counted from 0, is kept next once the reservoir is full.
    next: u64,
    weight: f64,
    rng: StdRng,
}

impl Reservoir {
    fn new(limit: usize, seed: u64) -> Self {
        Self {
            kept: Vec::new(),
            limit,
            seen: 0,
            next: 0,
            weight: 1.0,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// Adds `count` voxels from `first` on along W.
    fn add(&mut self, first: [u32; 3], count: usize) {
        let voxel = |offset: u64| [first[0], first[1], first[2] + offset as u32];
        let mut taken = 0;
        while self.kept.len() < self.limit && taken < count as u64 {
            self.kept.push(voxel(taken));
            taken += 1;
            if self.kept.len() == self.limit {
                self.next = self.seen + taken - 1;
                self.jump();
            }
        }
        let end = self.seen + count as u64;
        while self.kept.len() == self.limit && self.next < end {
            let slot = self.rng.random_range(0..self.limit);
            self.kept[slot] = voxel(self.next - self.seen);
            self.jump();
        }
        self.seen = end;
    }

    fn jump(&mut self) {
        self.weight *= (self.uniform().ln() / self.limit as f64).exp();
        let passed = (self.uniform().ln() / (-self.weight).ln_1p()).floor();
        // A float larger than any number of voxels saturates.
        self.next = self.next.saturating_add(passed as u64).saturating_add(1);
    }

    /// In (0, 1].
    fn uniform(&mut self) -> f64 {
        1.0 - self.rng.random::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One row per `[d, h]` of `shape`.
    fn draw(
        shape: [usize; 3],
        groups: &[&[u16]],
        limit: usize,
        seed: u64,
        label: impl Fn([usize; 3]) -> u16,
    ) -> Vec<Vec<[u32; 3]>> {
        let mut draw = Draw::new(groups, limit, seed);
        for d in 0..shape[0] {
            for h in 0..shape[1] {
                let row: Vec<u16> = (0..shape[2]).map(|w| label([d, h, w])).collect();
                draw.row(d, h, &row);
            }
        }
        draw.finish()
    }

    #[test]
    fn few_voxels_are_all_kept_and_many_are_thinned_evenly() {
        let label = |at: [usize; 3]| match at {
            [1, 2, 3] | [4, 5, 6] => 7,
            [0, 0, 0] => 9,
            _ => 0,
        };
        let shape = [10, 10, 10];
        let locations = draw(shape, &[&[0], &[3], &[7]], 100, 1, label);
        assert_eq!(locations[0].len(), 100);
        assert!(
            locations[0]
                .iter()
                .all(|at| label(at.map(|i| i as usize)) == 0)
        );
        let mut distinct = locations[0].clone();
        distinct.dedup();
        assert_eq!(distinct.len(), 100);
        assert!(locations[1].is_empty());
        assert_eq!(locations[2], [[1, 2, 3], [4, 5, 6]]);
        assert_eq!(locations, draw(shape, &[&[0], &[3], &[7]], 100, 1, label));
        assert_ne!(locations, draw(shape, &[&[0], &[3], &[7]], 100, 2, label));
    }

    #[test]
    fn every_voxel_is_kept_as_often_as_another() {
        // 20 of 80 voxels, 2000 times: each is expected 500 times, with a standard deviation of 19.
        let mut counts = vec![0i32; 80];
        for seed in 0..2000 {
            for [d, h, w] in &draw([2, 4, 10], &[&[0]], 20, seed, |_| 0)[0] {
                counts[((d * 4 + h) * 10 + w) as usize] += 1;
            }
        }
        let worst = counts
            .iter()
            .map(|count| (count - 500).abs())
            .max()
            .unwrap();
        assert!(worst < 100, "{counts:?}");
    }

    #[test]
    fn a_voxel_may_be_of_several_regions() {
        let label = |[_, _, w]: [usize; 3]| [0, 1, 2, 9][w];
        let locations = draw([1, 1, 4], &[&[0], &[1, 2], &[2]], 10, 1, label);
        assert_eq!(locations[1], [[0, 0, 1], [0, 0, 2]]);
        assert_eq!(locations[2], [[0, 0, 2]]);
    }
}
