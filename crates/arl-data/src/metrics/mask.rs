//! A mask with one bit per voxel, so that 64 voxels are treated at once.

use std::borrow::Cow;

use ndarray::{ArrayView1, ArrayView3, s};
use rayon::prelude::*;

/// A mask `[D, H, W]`. Each row along W begins with a new word; bits beyond the row are 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mask {
    pub shape: [usize; 3],
    words_per_row: usize,
    words: Vec<u64>,
}

impl Mask {
    /// The voxels of `map` for which `inside` says so.
    pub fn of_map<T: Clone + Sync>(map: ArrayView3<T>, inside: impl Fn(&T) -> bool + Sync) -> Self {
        Self::of_words(map.dim().into(), |d, h, words| {
            let row = map.slice(s![d, h, ..]);
            for (word, voxels) in words.iter_mut().zip(contiguous(row).chunks(64)) {
                let bits = voxels.iter().enumerate();
                *word = bits.fold(0, |word, (bit, voxel)| {
                    word | u64::from(inside(voxel)) << bit
                });
            }
        })
    }

    /// A mask whose rows `(d, h)` are filled word by word, lowest bit first.
    fn of_words(shape: [usize; 3], fill: impl Fn(usize, usize, &mut [u64]) + Sync) -> Self {
        let words_per_row = shape[2].div_ceil(64);
        let mut words = vec![0; shape[0] * shape[1] * words_per_row];
        if !words.is_empty() {
            words
                .par_chunks_mut(shape[1] * words_per_row)
                .enumerate()
                .for_each(|(d, slice)| {
                    for (h, row) in slice.chunks_exact_mut(words_per_row).enumerate() {
                        fill(d, h, row);
                    }
                });
        }
        Self {
            shape,
            words_per_row,
            words,
        }
    }

    /// Number of voxels inside.
    pub fn count(&self) -> u64 {
        self.words
            .iter()
            .map(|word| u64::from(word.count_ones()))
            .sum()
    }

    /// The voxels inside of this mask and outside of the other.
    pub fn without(mut self, other: &Self) -> Self {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= !other;
        }
        self
    }

    /// Number of voxels inside of both masks.
    pub fn count_common(&self, other: &Self) -> u64 {
        self.words
            .iter()
            .zip(&other.words)
            .map(|(a, b)| u64::from((a & b).count_ones()))
            .sum()
    }

    /// The words of one row.
    pub fn row(&self, d: usize, h: usize) -> &[u64] {
        let start = (d * self.shape[1] + h) * self.words_per_row;
        &self.words[start..start + self.words_per_row]
    }

    /// The voxels inside of which at least one of the 6 neighbours is outside; beyond the volume all is outside.
    ///
    /// Only neighbours along `axes` count, so that a single slice has the surface of a 2D image.
    pub fn surface(&self, axes: [bool; 3]) -> Self {
        let [depth, height, _] = self.shape;
        Self::of_words(self.shape, |d, h, surface| {
            let row = self.row(d, h);
            let neighbours = [
                (axes[0], d.checked_sub(1).map(|d| (d, h))),
                (axes[0], (d + 1 < depth).then_some((d + 1, h))),
                (axes[1], h.checked_sub(1).map(|h| (d, h))),
                (axes[1], (h + 1 < height).then_some((d, h + 1))),
            ];
            if neighbours
                .iter()
                .any(|(counts, place)| *counts && place.is_none())
            {
                surface.copy_from_slice(row);
                return;
            }
            // The row itself stands for a neighbour that does not count: it is inside wherever the row is.
            let around = neighbours.map(|(counts, place)| match place {
                Some((d, h)) if counts => self.row(d, h),
                _ => row,
            });
            for (i, surface) in surface.iter_mut().enumerate() {
                let mut enclosed = around.iter().fold(u64::MAX, |all, row| all & row[i]);
                if axes[2] {
                    let from_left = if i > 0 { row[i - 1] >> 63 } else { 0 };
                    let from_right = row.get(i + 1).map_or(0, |next| next << 63);
                    enclosed &= (row[i] << 1 | from_left) & (row[i] >> 1 | from_right);
                }
                *surface = row[i] & !enclosed;
            }
        })
    }
}

/// The values of a row, copied only if they do not lie one after the other.
pub(super) fn contiguous<T: Clone>(row: ArrayView1<T>) -> Cow<[T]> {
    match row.to_slice() {
        Some(row) => Cow::Borrowed(row),
        None => Cow::Owned(row.to_vec()),
    }
}

/// The positions of the bits set in a row.
pub(super) fn set_bits(row: &[u64]) -> impl Iterator<Item = usize> {
    row.iter().enumerate().flat_map(|(i, &word)| {
        let mut rest = word;
        std::iter::from_fn(move || {
            let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
            rest &= rest - 1;
            Some(i * 64 + bit)
        })
    })
}

/// How many voxels away from `w` the nearest set bit of the row is, if that is below `limit`.
pub(super) fn nearest_in_row(row: &[u64], w: usize, limit: usize) -> Option<usize> {
    let (word, bit) = (w / 64, w % 64);
    let mut nearest = limit;
    // To the right, `w` itself included.
    let mut shifted = row[word] >> bit;
    let mut skipped = 0;
    let mut next = word + 1;
    while shifted == 0 {
        skipped = next * 64 - w;
        if skipped >= nearest || next == row.len() {
            break;
        }
        shifted = row[next];
        next += 1;
    }
    if shifted != 0 {
        nearest = nearest.min(skipped + shifted.trailing_zeros() as usize);
    }
    // To the left.
    let mut shifted = row[word] << (63 - bit);
    let mut skipped = 0;
    let mut next = word;
    while shifted == 0 {
        skipped = w + 1 - next * 64;
        if skipped >= nearest || next == 0 {
            break;
        }
        next -= 1;
        shifted = row[next];
    }
    if shifted != 0 {
        nearest = nearest.min(skipped + shifted.leading_zeros() as usize);
    }
    (nearest < limit).then_some(nearest)
}
