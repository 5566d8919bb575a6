//! The box that holds everything, and within it what counts as the patient.

use ndarray::{Array3, s};
use rayon::prelude::*;

use super::crop;
use crate::volume::Volume;

/// The box `[start, end)` per axis that holds every voxel that is nonzero in some channel; the whole grid when
/// all are zero.
pub(crate) fn nonzero_box(images: &[Volume<f32>]) -> [[usize; 2]; 3] {
    let shape = images[0].geometry.shape;
    // Of one plane: the range of rows and the range of columns that hold something.
    let in_plane = |d: usize| {
        let mut found: Option<[[usize; 2]; 2]> = None;
        for image in images {
            for (h, row) in image.data.slice(s![d, .., ..]).outer_iter().enumerate() {
                let Some(first) = row.iter().position(|v| *v != 0.0) else {
                    continue;
                };
                let last = row.iter().rev().position(|v| *v != 0.0).unwrap_or(0);
                let [rows, columns] = found.get_or_insert([[h, h + 1], [first, first + 1]]);
                *rows = [rows[0].min(h), rows[1].max(h + 1)];
                *columns = [columns[0].min(first), columns[1].max(row.len() - last)];
            }
        }
        found.map(|[rows, columns]| [[d, d + 1], rows, columns])
    };
    let join = |a: [[usize; 2]; 3], b: [[usize; 2]; 3]| {
        std::array::from_fn(|axis| [a[axis][0].min(b[axis][0]), a[axis][1].max(b[axis][1])])
    };
    (0..shape[0])
        .into_par_iter()
        .filter_map(in_plane)
        .reduce_with(join)
        .unwrap_or(shape.map(|length| [0, length]))
}

/// Within the box, the voxels that are nonzero in some channel, and those that such voxels enclose
/// (nnU-Net, `cropping.py`; scipy's `binary_fill_holes`).
pub(super) fn filled_mask(images: &[Volume<f32>], bounds: [[usize; 2]; 3]) -> Array3<bool> {
    let [depth, height, width] = bounds.map(|[start, end]| end - start);
    // Everything is inside but the zeros that can be reached from the border.
    let mut nonzero = Array3::from_elem((depth, height, width), false);
    for image in images {
        nonzero.zip_mut_with(&crop(&image.data, bounds), |mask, v| *mask |= *v != 0.0);
    }
    let mut inside = Array3::from_elem((depth, height, width), true);
    // Starts of runs of zeros along W that are known to be outside.
    let mut starts = Vec::new();
    for d in 0..depth {
        for h in 0..height {
            let edge_row = d == 0 || d + 1 == depth || h == 0 || h + 1 == height;
            if edge_row {
                push_runs(&nonzero, &inside, [d, h], 0..width, &mut starts);
            } else {
                starts.extend([[d, h, 0], [d, h, width - 1]]);
            }
        }
    }
    while let Some([d, h, w]) = starts.pop() {
        let free = |w: usize, inside: &Array3<bool>| !nonzero[[d, h, w]] && inside[[d, h, w]];
        if !free(w, &inside) {
            continue;
        }
        let begin = (0..w)
            .rev()
            .take_while(|&w| free(w, &inside))
            .last()
            .unwrap_or(w);
        let end = (w..width)
            .take_while(|&w| free(w, &inside))
            .last()
            .unwrap_or(w)
            + 1;
        inside.slice_mut(s![d, h, begin..end]).fill(false);
        let neighbours = [
            (d > 0).then(|| [d - 1, h]),
            (d + 1 < depth).then_some([d + 1, h]),
            (h > 0).then(|| [d, h - 1]),
            (h + 1 < height).then_some([d, h + 1]),
        ];
        for row in neighbours.into_iter().flatten() {
            push_runs(&nonzero, &inside, row, begin..end, &mut starts);
        }
    }
    inside
}

/// The start of each run, within `range` of a row, of zeros that are still taken for inside.
fn push_runs(
    nonzero: &Array3<bool>,
    inside: &Array3<bool>,
    [d, h]: [usize; 2],
    range: std::ops::Range<usize>,
    starts: &mut Vec<[usize; 3]>,
) {
    let mut before = false;
    for w in range {
        let free = !nonzero[[d, h, w]] && inside[[d, h, w]];
        if free && !before {
            starts.push([d, h, w]);
        }
        before = free;
    }
}
