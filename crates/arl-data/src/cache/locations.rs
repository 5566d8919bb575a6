//! Random voxels of every class, drawn once per case, so that a patch around a class needs no search.

use ndarray::Array3;
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Voxels kept per class, as in nnU-Net.
pub(super) const VOXELS_PER_CLASS: usize = 10_000;

/// Up to `limit` voxels `[d, h, w]` of each class, drawn without replacement, in memory order.
///
/// `groups[class]` are the labels of the class; regions may share labels. Labels that belong to no class (an ignore label)
/// are passed over.
pub(super) fn draw(
    labels: &Array3<u16>,
    groups: &[Vec<u16>],
    limit: usize,
    seed: u64,
) -> Vec<Vec<[u32; 3]>> {
    let mut classes_of = vec![Vec::new(); usize::from(u16::MAX) + 1];
    for (class, group) in groups.iter().enumerate() {
        for &label in group {
            classes_of[usize::from(label)].push(class);
        }
    }
    let mut counts = vec![0usize; groups.len()];
    for &label in labels {
        for &class in &classes_of[usize::from(label)] {
            counts[class] += 1;
        }
    }
    let mut rng = StdRng::seed_from_u64(seed);
    // For each class, which of its voxels to keep, counted in memory order; the next one to keep is at the end.
    let mut wanted: Vec<Vec<usize>> = counts
        .iter()
        .map(|&count| {
            let mut chosen = rand::seq::index::sample(&mut rng, count, limit.min(count)).into_vec();
            chosen.sort_unstable_by(|a, b| b.cmp(a));
            chosen
        })
        .collect();
    let mut seen = vec![0usize; groups.len()];
    let mut locations = vec![Vec::new(); groups.len()];
    for ((d, h, w), &label) in labels.indexed_iter() {
        for &class in &classes_of[usize::from(label)] {
            if wanted[class].last() == Some(&seen[class]) {
                wanted[class].pop();
                locations[class].push([d as u32, h as u32, w as u32]);
            }
            seen[class] += 1;
        }
    }
    locations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_voxels_are_all_kept_and_many_are_thinned_evenly() {
        let mut labels = Array3::zeros((10, 10, 10));
        labels[[1, 2, 3]] = 7;
        labels[[4, 5, 6]] = 7;
        labels[[0, 0, 0]] = 9;
        let groups = [vec![0], vec![3], vec![7]];
        let locations = draw(&labels, &groups, 100, 1);
        assert_eq!(locations[0].len(), 100);
        assert!(
            locations[0]
                .iter()
                .all(|&[d, h, w]| { labels[[d as usize, h as usize, w as usize]] == 0 })
        );
        let lower_half = locations[0].iter().filter(|voxel| voxel[0] < 5).count();
        assert!((30..=70).contains(&lower_half), "{lower_half} of 100");
        assert!(locations[1].is_empty());
        assert_eq!(locations[2], [[1, 2, 3], [4, 5, 6]]);
        assert_eq!(locations, draw(&labels, &groups, 100, 1));
        assert_ne!(locations, draw(&labels, &groups, 100, 2));
    }
    #[test]
    fn a_voxel_may_be_of_several_regions() {
        let labels = Array3::from_shape_vec((1, 1, 4), vec![0, 1, 2, 9]).unwrap();
        let locations = draw(&labels, &[vec![0], vec![1, 2], vec![2]], 10, 1);
        assert_eq!(locations[1], [[0, 0, 1], [0, 0, 2]]);
        assert_eq!(locations[2], [[0, 0, 2]]);
    }
}
