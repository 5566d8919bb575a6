//! Where the labels of two maps lie.

use ndarray::{ArrayView2, ArrayView3, Axis, Zip};
use rayon::prelude::*;

use super::mask::contiguous;

/// A box of voxels: the first one, and the one after the last, along `[D, H, W]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub low: [usize; 3],
    pub high: [usize; 3],
}

impl Extent {
    pub const NOTHING: Self = Self {
        low: [usize::MAX; 3],
        high: [0; 3],
    };

    /// The smallest box around both.
    pub fn union(self, other: Self) -> Self {
        Self {
            low: std::array::from_fn(|axis| self.low[axis].min(other.low[axis])),
            high: std::array::from_fn(|axis| self.high[axis].max(other.high[axis])),
        }
    }
}

/// The boxes of some labels, each around both maps, and the number of voxels that count.
#[derive(Clone)]
pub(super) struct Extents {
    /// One box per label, in the order in which the labels were given.
    pub of_label: Vec<Extent>,
    /// Voxels that are not ignored.
    pub voxels: u64,
}

/// Finds the boxes of `labels` in both maps; voxels where the reference is `ignore` are left out.
pub(super) fn extents(
    prediction: ArrayView3<u16>,
    reference: ArrayView3<u16>,
    labels: &[u16],
    ignore: Option<u16>,
) -> Extents {
    // The last slot is of no label in particular.
    let mut slots = vec![labels.len(); usize::from(u16::MAX) + 1];
    for (slot, &label) in labels.iter().enumerate() {
        slots[usize::from(label)] = slot;
    }
    let nothing = || Extents {
        of_label: vec![Extent::NOTHING; labels.len() + 1],
        voxels: 0,
    };
    let mut found = Zip::indexed(prediction.axis_iter(Axis(0)))
        .and(reference.axis_iter(Axis(0)))
        .into_par_iter()
        .fold(nothing, |mut found, (d, prediction, reference)| {
            found.add_slice(d, prediction, reference, &slots, ignore);
            found
        })
        .reduce(nothing, |mut all, part| {
            all.voxels += part.voxels;
            for (all, part) in all.of_label.iter_mut().zip(part.of_label) {
                *all = all.union(part);
            }
            all
        });
    found.of_label.truncate(labels.len());
    found
}

impl Extents {
    fn add_slice(
        &mut self,
        d: usize,
        prediction: ArrayView2<u16>,
        reference: ArrayView2<u16>,
        slots: &[usize],
        ignore: Option<u16>,
    ) {
        let rows = prediction.rows().into_iter().zip(reference.rows());
        for (h, (prediction, reference)) in rows.enumerate() {
            // Contiguous, as in every label map that was read; else a copy.
            let (prediction, reference) = (contiguous(prediction), contiguous(reference));
            let mut start = 0;
            // Label maps are made of long runs of equal labels.
            while start < reference.len() {
                let labels = [prediction[start], reference[start]];
                let rest = prediction[start..].iter().zip(&reference[start..]);
                let end = start + rest.take_while(|(p, r)| [**p, **r] == labels).count();
                if Some(labels[1]) != ignore {
                    self.voxels += (end - start) as u64;
                    let run = Extent {
                        low: [d, h, start],
                        high: [d + 1, h + 1, end],
                    };
                    for label in labels {
                        let extent = &mut self.of_label[slots[usize::from(label)]];
                        *extent = extent.union(run);
                    }
                }
                start = end;
            }
        }
    }
}
