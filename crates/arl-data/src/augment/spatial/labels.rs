//! The label between eight voxels.

/// Weights that differ by less are equal: batchgeneratorsv2 holds a thousand times the weight in half precision, whose
/// steps around a half are of this size.
const EQUAL: f32 = 1.0 / 4000.0;

/// The label with most weight among the voxels of a cell (in the order of `[D, H, W]`), at these shares of the way from its
/// first voxel to its last. Of labels with equal weights it is the nearest voxel's if that is one of them, else the
/// smallest.
///
/// As batchgeneratorsv2's `SpatialTransform` does, which interpolates every label on its own and keeps the strongest.
#[inline(never)]
pub(super) fn majority(labels: [u16; 8], shares: [f32; 3]) -> u16 {
    let [d, h, w] = shares.map(|share| [1.0 - share, share]);
    let mut weights = [0.0; 8];
    for (corner, weight) in weights.iter_mut().enumerate() {
        *weight = d[corner >> 2] * h[corner >> 1 & 1] * w[corner & 1];
    }
    let mut totals = [0.0; 8];
    for (label, weight) in labels.into_iter().zip(weights) {
        for (total, other) in totals.iter_mut().zip(labels) {
            *total += if other == label { weight } else { 0.0 };
        }
    }
    let enough = totals.iter().copied().fold(0.0, f32::max) - EQUAL;
    let nearest = (0..3)
        .map(|axis| usize::from(shares[axis] >= 0.5) << (2 - axis))
        .sum::<usize>();
    if totals[nearest] >= enough {
        return labels[nearest];
    }
    let strongest = labels
        .into_iter()
        .zip(totals)
        .filter(|(_, total)| *total >= enough);
    strongest
        .map(|(label, _)| label)
        .min()
        .unwrap_or(labels[nearest])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heaviest_label_wins_and_the_nearest_settles_ties() {
        let along_w = [1, 2, 1, 2, 1, 2, 1, 2];
        assert_eq!(majority(along_w, [0.0, 0.0, 0.49]), 1);
        assert_eq!(majority(along_w, [0.0, 0.0, 0.51]), 2);
        assert_eq!(
            majority(along_w, [0.3, 0.9, 0.5]),
            2,
            "a tie: half way belongs to the next"
        );
        assert_eq!(
            majority(along_w, [0.3, 0.9, 0.499_95]),
            1,
            "a tie but for rounding"
        );
        // The nearest voxel's label 7 weighs 0.216; the others share 0.784.
        let one_corner = [7, 3, 3, 3, 3, 3, 3, 3];
        assert_eq!(majority(one_corner, [0.4; 3]), 3);
        // 9 and 4 are tied at 0.4 each, before the 0.2 of 7.
        let faces = [7, 7, 7, 7, 9, 4, 9, 4];
        assert_eq!(
            majority(faces, [0.8, 0.0, 0.5]),
            4,
            "the nearest of the tied"
        );
        // 9 and 4 are tied at 0.35; the nearest voxel has 7, with 0.3.
        let mixed = [9, 4, 7, 7, 9, 4, 9, 4];
        assert_eq!(
            majority(mixed, [0.4, 0.5, 0.5]),
            4,
            "the smallest of the tied"
        );
    }
}
