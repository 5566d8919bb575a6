//! A smooth field of displacements.

/// Control points along an axis at most.
pub(super) const MOST_POINTS: usize = 64;

/// A displacement for each voxel of a patch: cubic B-splines on a regular grid of control points.
#[derive(Debug, Clone, PartialEq)]
pub struct Displacement {
    points: [usize; 3],
    /// Of each component, one per control point `[D, H, W]`, in voxels.
    coefficients: [Vec<f32>; 3],
    /// For each voxel along each axis of the patch the first of its four control points, and their weights.
    weights: [Vec<(usize, [f32; 4])>; 3],
}

impl Displacement {
    /// The field over a patch of this size with so many control points along `[D, H, W]`, at least 4 each; the
    /// coefficients of each component in voxels, `[D, H, W]` in row-major order.
    ///
    /// The first voxel's centre lies on the second control point, the last voxel's on the last but one.
    ///
    /// # Panics
    /// With fewer than 4 or more than 64 control points along an axis, or with another number of coefficients than of points.
    pub fn new(size: [usize; 3], points: [usize; 3], coefficients: [Vec<f32>; 3]) -> Self {
        let right = points.iter().all(|n| (4..=MOST_POINTS).contains(n));
        assert!(
            right,
            "control points must be 4 to {MOST_POINTS} along each axis, not {points:?}"
        );
        let count: usize = points.iter().product();
        assert!(
            coefficients.iter().all(|values| values.len() == count),
            "each component needs {count} coefficients"
        );
        let weights = [0, 1, 2].map(|axis| {
            let cells = points[axis] - 3;
            let last = size[axis].saturating_sub(1).max(1) as f32;
            let weight = |i: usize| {
                let position = i as f32 / last * cells as f32;
                let first = (position as usize).min(cells - 1);
                (first, cubic(position - first as f32))
            };
            (0..size[axis]).map(weight).collect()
        });
        Displacement {
            points,
            coefficients,
            weights,
        }
    }

    /// Voxels of the patch along `[D, H, W]`.
    pub fn size(&self) -> [usize; 3] {
        [0, 1, 2].map(|axis| self.weights[axis].len())
    }

    /// The largest displacement along `[D, H, W]` that the field can reach, in voxels.
    pub fn bound(&self) -> [f32; 3] {
        let largest = |values: &Vec<f32>| values.iter().fold(0f32, |most, v| most.max(v.abs()));
        [0, 1, 2].map(|axis| largest(&self.coefficients[axis]))
    }

    /// The components of a row of the patch, one after the other.
    #[inline(always)]
    pub(super) fn row(&self, d: usize, h: usize, out: &mut [Vec<f32>; 3]) {
        let [_, rows, columns] = self.points;
        let (first_d, weights_d) = self.weights[0][d];
        let (first_h, weights_h) = self.weights[1][h];
        let mut line = [0.0; MOST_POINTS];
        for (coefficients, out) in self.coefficients.iter().zip(out) {
            let line = &mut line[..columns];
            line.fill(0.0);
            for (i, weight_d) in weights_d.iter().enumerate() {
                for (j, weight_h) in weights_h.iter().enumerate() {
                    let start = ((first_d + i) * rows + first_h + j) * columns;
                    let weight = weight_d * weight_h;
                    for (sum, value) in line.iter_mut().zip(&coefficients[start..]) {
                        *sum += weight * value;
                    }
                }
            }
            for (out, (first, weights)) in out.iter_mut().zip(&self.weights[2]) {
                let near = &line[*first..first + 4];
                *out = (weights[0] * near[0] + weights[1] * near[1])
                    + (weights[2] * near[2] + weights[3] * near[3]);
            }
        }
    }
}

/// The four cubic B-splines that reach a point this far into its cell.
fn cubic(t: f32) -> [f32; 4] {
    let u = 1.0 - t;
    [
        u * u * u / 6.0,
        (4.0 - 6.0 * t * t + 3.0 * t * t * t) / 6.0,
        (4.0 - 6.0 * u * u + 3.0 * u * u * u) / 6.0,
        t * t * t / 6.0,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_coefficients_move_all_voxels_alike() {
        let coefficients = [1.5, -2.0, 0.25].map(|value| vec![value; 4 * 5 * 7]);
        let field = Displacement::new([3, 1, 33], [4, 5, 7], coefficients);
        let mut out = [0; 3].map(|_| vec![0.0; 33]);
        for d in 0..3 {
            field.row(d, 0, &mut out);
            for (values, expected) in out.iter().zip([1.5f32, -2.0, 0.25]) {
                assert!(values.iter().all(|v| (v - expected).abs() < 1e-6));
            }
        }
        assert_eq!(field.bound(), [1.5, 2.0, 0.25]);
    }

    #[test]
    fn a_line_of_coefficients_is_reproduced() {
        // Coefficients that rise by one per control point: the field is linear, by one per cell.
        let ramp: Vec<f32> = (0..4 * 4 * 6).map(|i| (i % 6) as f32).collect();
        let zero = vec![0.0; 4 * 4 * 6];
        let field = Displacement::new([2, 2, 31], [4, 4, 6], [zero.clone(), zero, ramp]);
        let mut out = [0; 3].map(|_| vec![0.0; 31]);
        field.row(1, 1, &mut out);
        for (i, value) in out[2].iter().enumerate() {
            assert!(
                (value - (1.0 + i as f32 / 10.0)).abs() < 1e-5,
                "{i}: {value}"
            );
        }
    }
}
