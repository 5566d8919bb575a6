//! Axes as steps through a world, as NRRD and MetaImage write them, to a geometry.

use super::header::believable;
use crate::volume::Geometry;

/// One to three axes in a world of up to three dimensions.
pub(super) struct World {
    /// Voxels along each axis, in the order of the file: the fastest first.
    pub sizes: Vec<usize>,
    /// From one voxel to the next along each axis.
    pub vectors: Vec<[f64; 3]>,
    /// The centre of the first voxel.
    pub origin: [f64; 3],
    /// What turns each coordinate into RAS: 1 or -1.
    pub signs: [f64; 3],
}

impl World {
    /// The geometry; axes that are missing get one voxel of 1 mm, perpendicular to the others.
    ///
    /// # Errors
    /// A phrase for a message, to be read after "its header".
    pub fn geometry(&self) -> Result<Geometry, String> {
        let length = |axis: usize| self.sizes.get(axis).copied().unwrap_or(1);
        let vectors = completed(&self.vectors);
        let mut affine = [[0.0; 4]; 4];
        for (r, row) in affine.iter_mut().take(3).enumerate() {
            for (c, vector) in vectors.iter().enumerate() {
                row[c] = self.signs[r] * vector[r];
            }
            row[3] = self.signs[r] * self.origin[r];
        }
        affine[3][3] = 1.0;
        match believable(&affine) {
            Ok(()) => Ok(Geometry::new([length(2), length(1), length(0)], affine)),
            Err(problem) => Err(format!("gives a matrix that {problem}")),
        }
    }
}

fn completed(given: &[[f64; 3]]) -> [[f64; 3]; 3] {
    match *given {
        [a, b, c, ..] => [a, b, c],
        [a, b] => [a, b, perpendicular(a, b)],
        [a] => {
            // Any vector that is not parallel to the one given: along the axis where it is shortest.
            let shortest = (0..3).fold(
                2,
                |best, i| if a[i].abs() < a[best].abs() { i } else { best },
            );
            let mut other = [0.0; 3];
            other[shortest] = 1.0;
            let b = perpendicular(other, a);
            [a, b, perpendicular(a, b)]
        }
        [] => [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
    }
}

/// The unit vector at right angles to two.
fn perpendicular(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    let cross = [
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    ];
    let length = cross[0].hypot(cross[1]).hypot(cross[2]);
    cross.map(|v| v / length)
}
