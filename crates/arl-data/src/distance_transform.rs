//! The exact Euclidean distance transform of a mask whose voxels have any spacing.
//!
//! One axis after another, each line by the lower envelope of parabolas (Felzenszwalb and Huttenlocher, *Distance
//! Transforms of Sampled Functions*, Theory of Computing 8:415, 2012): linear in the number of voxels.

use ndarray::parallel::prelude::*;
use ndarray::{Array3, ArrayView3, ArrayViewMut1, ArrayViewMut2, Axis};

/// For each voxel the squared distance in mm² to the nearest voxel of `mask`; infinite everywhere for an empty mask.
///
/// `mask` is `[D, H, W]`, `spacing` in mm in the same order. Squared distances are sums of `(steps · spacing)²` in `f64`.
/// The work is done in parallel on the current Rayon pool; the result does not depend on the number of threads.
///
/// ```
/// use arl_data::distance_transform::squared_distances;
/// use ndarray::array;
///
/// let mask = array![[[true, false, false], [false, false, false]]];
/// let squared = squared_distances(mask.view(), [1.0, 2.0, 3.0]);
/// assert_eq!(squared, array![[[0.0, 9.0, 36.0], [4.0, 13.0, 40.0]]]);
/// ```
pub fn squared_distances(mask: ArrayView3<bool>, spacing: [f64; 3]) -> Array3<f64> {
    let mut squared = Array3::zeros(mask.dim());
    squared
        .axis_iter_mut(Axis(0))
        .into_par_iter()
        .zip(mask.axis_iter(Axis(0)))
        .for_each(|(mut slice, mask)| {
            for (row, mask) in slice.rows_mut().into_iter().zip(mask.rows()) {
                along_row(row, mask.iter().copied(), spacing[2]);
            }
            along_columns(slice, spacing[1]);
        });
    squared
        .axis_iter_mut(Axis(1))
        .into_par_iter()
        .for_each(|plane| along_columns(plane, spacing[0]));
    squared
}

/// Squared distances within one row: two sweeps suffice, because the values are those of a mask.
fn along_row(mut row: ArrayViewMut1<f64>, mask: impl Iterator<Item = bool>, spacing: f64) {
    let mut steps = f64::INFINITY;
    for (value, inside) in row.iter_mut().zip(mask) {
        steps = if inside { 0.0 } else { steps + 1.0 };
        *value = steps;
    }
    let mut steps = f64::INFINITY;
    for value in row.iter_mut().rev() {
        steps = value.min(steps + 1.0);
        *value = (steps * spacing).powi(2);
    }
}

/// Columns transformed together: a cache line or two hold one row of them.
const BLOCK: usize = 16;

/// Along the first axis of a plane `[N, W]`.
fn along_columns(mut plane: ArrayViewMut2<f64>, spacing: f64) {
    let length = plane.nrows();
    if length < 2 {
        return;
    }
    let mut columns = vec![0.0; BLOCK * length];
    let mut envelope = Envelope::new(length, spacing);
    for mut block in plane.axis_chunks_iter_mut(Axis(1), BLOCK) {
        // Columns one after the other, because their voxels lie far apart in the plane.
        for (x, row) in block.rows().into_iter().enumerate() {
            for (column, value) in row.iter().enumerate() {
                columns[column * length + x] = *value;
            }
        }
        for column in columns.chunks_exact_mut(length).take(block.ncols()) {
            envelope.transform(column);
        }
        for (x, mut row) in block.rows_mut().into_iter().enumerate() {
            for (column, value) in row.iter_mut().enumerate() {
                *value = columns[column * length + x];
            }
        }
    }
}

/// The lower envelope of the parabolas `line[q] + (spacing · (x - q))²`, made for one line after another.
struct Envelope {
    spacing: f64,
    /// The parabolas that form the envelope, from left to right.
    parabolas: Vec<Parabola>,
}

#[derive(Clone, Copy)]
struct Parabola {
    /// The voxel of its lowest point.
    vertex: usize,
    /// The line's value there.
    value: f64,
    /// Its height at voxel 0, in units of `spacing²`.
    height: f64,
    /// Where it begins to be the lowest, in voxels.
    start: f64,
}

impl Envelope {
    fn new(length: usize, spacing: f64) -> Self {
        Self {
            spacing,
            parabolas: Vec::with_capacity(length),
        }
    }

    fn transform(&mut self, line: &mut [f64]) {
        self.build(line);
        let mut parabolas = self.parabolas.iter().peekable();
        let Some(mut lowest) = parabolas.next() else {
            return;
        };
        for (x, value) in line.iter_mut().enumerate() {
            while let Some(next) = parabolas.next_if(|next| next.start < x as f64) {
                lowest = next;
            }
            let steps = x.abs_diff(lowest.vertex) as f64;
            *value = lowest.value + (steps * self.spacing).powi(2);
        }
    }

    fn build(&mut self, line: &[f64]) {
        let scale = 1.0 / (self.spacing * self.spacing);
        self.parabolas.clear();
        for (vertex, &value) in line.iter().enumerate() {
            if value == f64::INFINITY {
                continue;
            }
            let mut new = Parabola {
                vertex,
                value,
                height: value * scale + (vertex * vertex) as f64,
                start: f64::NEG_INFINITY,
            };
            while let Some(last) = self.parabolas.last() {
                let start = (new.height - last.height) / (2.0 * (new.vertex - last.vertex) as f64);
                if start > last.start {
                    new.start = start;
                    break;
                }
                // The last one is nowhere the lowest any more.
                self.parabolas.pop();
            }
            self.parabolas.push(new);
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, Zip};
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::squared_distances;

    /// The definition: the nearest of all voxels of the mask.
    fn by_definition(mask: &Array3<bool>, spacing: [f64; 3]) -> Array3<f64> {
        let of_mask: Vec<_> = mask
            .indexed_iter()
            .filter_map(|(index, &inside)| inside.then_some(index))
            .collect();
        Array3::from_shape_fn(mask.dim(), |(d, h, w)| {
            let squared = |&(e, i, x): &(usize, usize, usize)| {
                let steps = [d.abs_diff(e), h.abs_diff(i), w.abs_diff(x)];
                (0..3)
                    .map(|axis| (steps[axis] as f64 * spacing[axis]).powi(2))
                    .sum::<f64>()
            };
            of_mask.iter().map(squared).fold(f64::INFINITY, f64::min)
        })
    }

    #[test]
    fn equals_the_definition() {
        let mut random = SmallRng::seed_from_u64(1);
        for _ in 0..200 {
            let shape: [usize; 3] = std::array::from_fn(|_| random.random_range(1..10));
            let spacing: [f64; 3] = std::array::from_fn(|_| random.random_range(0.1..5.0));
            let density = random.random_range(0.0..0.3);
            let mask = Array3::from_shape_simple_fn(shape, || random.random_bool(density));
            let squared = squared_distances(mask.view(), spacing);
            Zip::from(&squared)
                .and(&by_definition(&mask, spacing))
                .for_each(|&got, &want| {
                    assert!(
                        got == want || (got - want).abs() <= 1e-12 * want,
                        "{got} instead of {want}"
                    );
                });
        }
    }

    #[test]
    fn no_voxel_to_be_near_to() {
        let empty = squared_distances(Array3::from_elem((2, 3, 4), false).view(), [1.0; 3]);
        assert!(empty.iter().all(|&squared| squared == f64::INFINITY));
        for shape in [(0, 3, 4), (2, 0, 4), (2, 3, 0)] {
            let nothing = squared_distances(Array3::from_elem(shape, true).view(), [1.0; 3]);
            assert_eq!(nothing.dim(), shape);
        }
    }
}
