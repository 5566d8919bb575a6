//! The exact Euclidean distance transform of a mask whose voxels have any spacing.
//!
//! One axis after another, each line by the lower envelope of parabolas (Felzenszwalb and Huttenlocher, *Distance
//! Transforms of Sampled Functions*, Theory of Computing 8:415, 2012): linear in the number of voxels.

use ndarray::parallel::prelude::*;
use ndarray::{Array3, ArrayView3, ArrayViewMut1, Axis};

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
    let (depth, height, width) = mask.dim();
    squared
        .axis_iter_mut(Axis(0))
        .into_par_iter()
        .zip(mask.axis_iter(Axis(0)))
        .for_each(|(mut slice, mask)| {
            for (row, mask) in slice.rows_mut().into_iter().zip(mask.rows()) {
                along_row(row, mask.iter().copied(), spacing[2]);
            }
            if height > 1 {
                let mut envelope = Envelope::new(height, spacing[1]);
                for line in slice.columns_mut() {
                    envelope.transform(line);
                }
            }
        });
    if depth > 1 && width > 0 {
        squared
            .axis_iter_mut(Axis(1))
            .into_par_iter()
            .for_each(|mut plane| {
                let mut envelope = Envelope::new(depth, spacing[0]);
                for line in plane.columns_mut() {
                    envelope.transform(line);
                }
            });
    }
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

/// The lower envelope of the parabolas `values[q] + (spacing · (x - q))²` of one line, with its working memory.
struct Envelope {
    spacing: f64,
    /// The line's values before the transform.
    values: Vec<f64>,
    /// The voxels whose parabolas form the envelope, from left to right.
    vertices: Vec<usize>,
    /// Where each of these parabolas begins to be the lowest, in voxels.
    starts: Vec<f64>,
}

impl Envelope {
    fn new(length: usize, spacing: f64) -> Self {
        Self {
            spacing,
            values: Vec::with_capacity(length),
            vertices: Vec::with_capacity(length),
            starts: Vec::with_capacity(length),
        }
    }

    fn transform(&mut self, mut line: ArrayViewMut1<f64>) {
        self.values.clear();
        self.values.extend(line.iter());
        self.build();
        if self.vertices.is_empty() {
            return;
        }
        let mut current = 0;
        for (x, value) in line.iter_mut().enumerate() {
            while current + 1 < self.starts.len() && self.starts[current + 1] < x as f64 {
                current += 1;
            }
            let vertex = self.vertices[current];
            *value = self.values[vertex] + (x.abs_diff(vertex) as f64 * self.spacing).powi(2);
        }
    }

    fn build(&mut self) {
        self.vertices.clear();
        self.starts.clear();
        // In units of voxels, a parabola's height is its value over spacing².
        let scale = 1.0 / (self.spacing * self.spacing);
        let height = |q: usize, values: &[f64]| values[q] * scale + (q * q) as f64;
        for q in 0..self.values.len() {
            if self.values[q] == f64::INFINITY {
                continue;
            }
            let mut start = f64::NEG_INFINITY;
            while let (Some(&vertex), Some(&vertex_start)) =
                (self.vertices.last(), self.starts.last())
            {
                let difference = height(q, &self.values) - height(vertex, &self.values);
                start = difference / (2.0 * (q - vertex) as f64);
                if start > vertex_start {
                    break;
                }
                // Nowhere the lowest any more.
                self.vertices.pop();
                self.starts.pop();
                start = f64::NEG_INFINITY;
            }
            self.vertices.push(q);
            self.starts.push(start);
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
