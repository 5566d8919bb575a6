//! Whether two files of a case lie in the same place: voxels are paired by their index, so a map that lies elsewhere
//! labels the wrong tissue.

use std::path::Path;

use crate::error::{DataError, Result};
use crate::volume::Geometry;

/// From this shift on, in voxels, a voxel lies nearer to another one's place than to its own.
const LARGEST_SHIFT: f64 = 0.5;

/// Refuses a file whose grid is another than that of the case's first file: other shape, other spacing, or half a voxel
/// or more away (which `ignore_geometry` accepts). A smaller difference of place is returned as a warning.
///
/// # Errors
/// A sentence with both files and the cure.
pub fn check_placement(
    path: &Path,
    geometry: &Geometry,
    first_path: &Path,
    first: &Geometry,
    ignore_geometry: bool,
) -> Result<Option<DataError>> {
    let first_name = first_path.display();
    geometry.same_size(first).map_err(|difference| {
        let problem = format!("{difference} of {first_name}");
        DataError::invalid(path, problem, "resample it onto the image's grid")
    })?;
    let shift = largest_shift(geometry, first);
    if shift >= LARGEST_SHIFT && !ignore_geometry {
        let millimetres = geometry.largest_corner_distance(first);
        return Err(DataError::invalid(
            path,
            format!(
                "lies up to {shift:.1} voxels ({millimetres:.2} mm) away from {first_name}: its affine is another"
            ),
            "resample it onto the image's grid, or accept that voxels are paired by index with --ignore-geometry",
        ));
    }
    Ok(geometry.matches(first).err().map(|difference| {
        DataError::invalid(
            path,
            format!("{difference}: this file and {first_name}"),
            "make sure that both are of one orientation: voxels are paired by index, not by position",
        )
    }))
}

/// How far apart the same corner of two grids of one shape lies at most, in voxels along the axes of the second.
fn largest_shift(a: &Geometry, b: &Geometry) -> f64 {
    let [d, h, w] = b.shape.map(|n| n.saturating_sub(1) as f64);
    let mut largest: f64 = 0.0;
    for corner in 0..8 {
        let pick = |bit: usize, n: f64| if corner >> bit & 1 == 1 { n } else { 0.0 };
        let index = [pick(0, w), pick(1, h), pick(2, d), 1.0];
        let apart: [f64; 3] = std::array::from_fn(|row| {
            (0..4)
                .map(|column| (a.affine[row][column] - b.affine[row][column]) * index[column])
                .sum()
        });
        for column in 0..3 {
            let axis = [0, 1, 2].map(|row| b.affine[row][column]);
            let length_squared: f64 = axis.iter().map(|x| x * x).sum();
            let along: f64 = axis.iter().zip(apart).map(|(x, y)| x * y).sum();
            largest = largest.max((along / length_squared).abs());
        }
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(change: impl Fn(&mut Geometry)) -> Result<Option<DataError>> {
        let first = Geometry::from_spacing([4, 20, 20], [5.0, 0.5, 0.5]);
        let mut other = first.clone();
        change(&mut other);
        check_placement(Path::new("a"), &other, Path::new("b"), &first, false)
    }

    #[test]
    fn shifts_count_in_voxels_of_their_own_axis() {
        assert!(verdict(|_| ()).unwrap().is_none());
        // 2 mm are four voxels in the slice, and less than half a voxel across slices.
        let refused = verdict(|g| g.affine[0][3] += 2.0).unwrap_err().to_string();
        assert!(refused.contains("4.0 voxels (2.00 mm)"), "{refused}");
        let accepted = verdict(|g| g.affine[2][3] += 2.0).unwrap().unwrap();
        assert!(accepted.to_string().contains("2.00 mm apart"));
        assert!(verdict(|g| g.affine[0][3] += 0.2).unwrap().is_some());
    }

    #[test]
    fn a_mirrored_grid_is_another_place() {
        // The same box of the world, its voxels stored from right to left: index by index it labels the other side.
        let mirrored = |g: &mut Geometry| {
            g.affine[0][3] = 19.0 * g.affine[0][0];
            g.affine[0][0] = -g.affine[0][0];
        };
        assert!(verdict(mirrored).is_err());
    }
}
