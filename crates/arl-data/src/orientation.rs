//! Which way the axes of a volume run in the patient, and turning it without resampling.
//!
//! An orientation is three letters, one for each axis `i, j, k` of the file: the side that the axis runs to, of right or
//! left, anterior or posterior, superior or inferior. `RAS` is NIfTI's world, `LPS` that of DICOM.

use ndarray::Axis;

use crate::affine::{Affine, inverse_3};
use crate::volume::{Geometry, Volume};

/// The letters of the positive and of the negative direction of each world axis.
const LETTERS: [[char; 2]; 3] = [['R', 'L'], ['A', 'P'], ['S', 'I']];

/// A world axis (0: left-right, 1: posterior-anterior, 2: inferior-superior) and whether it is followed to its positive
/// end.
pub(crate) type Direction = (usize, bool);

/// The orientation of an affine, as nibabel's `aff2axcodes` names it.
///
/// Each axis gets the world axis that it runs most nearly along, each world axis is taken once, and a shear is taken out
/// before.
pub fn axis_codes(affine: &Affine) -> String {
    let letter = |(axis, positive): Direction| LETTERS[axis][usize::from(!positive)];
    directions(affine).map(letter).iter().collect()
}

/// Turns a volume, by permuting and reversing its axes, so that they run as `codes` says (`"RAS"`, `"LPS"`, ...).
///
/// Every voxel keeps its value and its place in the world.
///
/// # Errors
/// A phrase for a message, when `codes` is no orientation.
pub fn reorient<T: Clone>(volume: &Volume<T>, codes: &str) -> Result<Volume<T>, String> {
    let wanted = parse(codes)?;
    let Geometry { shape, affine, .. } = &volume.geometry;
    let present = directions(affine);
    // The old axis for each new one, and whether it is reversed. Both are permutations of the world axes.
    let source = wanted.map(|(axis, positive)| {
        let old = present
            .iter()
            .position(|&(other, _)| other == axis)
            .unwrap_or(axis);
        (old, present[old].1 != positive)
    });

    // Arrays have the axes the other way round: `[k, j, i]`.
    let mut view = volume.data.view();
    for (old, reversed) in source {
        if reversed {
            view.invert_axis(Axis(2 - old));
        }
    }
    let [i, j, k] = source.map(|(old, _)| 2 - old);
    let data = view
        .permuted_axes([k, j, i])
        .as_standard_layout()
        .into_owned();

    let mut geometry = volume.geometry.clone();
    geometry.shape = [k, j, i].map(|axis| shape[axis]);
    for (new, (old, reversed)) in source.into_iter().enumerate() {
        let last = shape[2 - old] as f64 - 1.0;
        for (row, new_row) in affine.iter().zip(&mut geometry.affine).take(3) {
            new_row[new] = if reversed { -row[old] } else { row[old] };
            if reversed {
                new_row[3] += row[old] * last;
            }
        }
    }
    Ok(Volume::new(data, geometry))
}

/// Three letters to directions.
pub(crate) fn parse(codes: &str) -> Result<[Direction; 3], String> {
    let wrong = || {
        format!("{codes:?} is no orientation: one letter each of R or L, A or P, S or I, e.g. RAS")
    };
    let mut found = Vec::new();
    for letter in codes.chars() {
        let axis = LETTERS
            .iter()
            .position(|pair| pair.contains(&letter))
            .ok_or_else(wrong)?;
        if found.iter().any(|&(other, _)| other == axis) {
            return Err(wrong());
        }
        found.push((axis, LETTERS[axis][0] == letter));
    }
    found.try_into().map_err(|_| wrong())
}

/// The direction of each axis `i, j, k`.
fn directions(affine: &Affine) -> [Direction; 3] {
    let mut rotation = nearest_rotation(affine);
    // From the axis that is told most clearly to the least.
    let mut order = [0, 1, 2];
    let clearness = |c: usize| (0..3).map(|r| rotation[r][c].powi(2)).fold(0.0, f64::max);
    let clear = [0, 1, 2].map(clearness);
    order.sort_by(|&a, &b| clear[b].total_cmp(&clear[a]));
    let mut directions = [(0, true); 3];
    let mut free = [true; 3];
    for axis in order {
        let along = |r: usize| match free[r] {
            // NaN counts as nothing, so that a world axis is never taken twice.
            true => rotation[r][axis].abs().max(0.0),
            false => -1.0,
        };
        let world = (1..3).fold(0, |best, r| if along(r) > along(best) { r } else { best });
        directions[axis] = (world, rotation[world][axis] >= 0.0);
        free[world] = false;
        rotation[world] = [0.0; 3];
    }
    directions
}

/// The orthogonal matrix nearest to the axes of unit length: the factor of the polar decomposition, by Newton's iteration
/// (Higham, Computing the polar decomposition, SIAM J. Sci. Stat. Comput. 7, 1986).
fn nearest_rotation(affine: &Affine) -> [[f64; 3]; 3] {
    let spacing = [0, 1, 2].map(|c| affine[0][c].hypot(affine[1][c]).hypot(affine[2][c]));
    let mut matrix = [0, 1, 2].map(|r| [0, 1, 2].map(|c| affine[r][c] / spacing[c]));
    // It converges quadratically; strong shear takes some more steps.
    for _ in 0..50 {
        // Without an inverse there is no nearest rotation: the axes themselves have to do.
        let Some(inverse) = inverse_3(matrix) else {
            break;
        };
        let mut change: f64 = 0.0;
        for r in 0..3 {
            for c in 0..3 {
                let next = 0.5 * (matrix[r][c] + inverse[c][r]);
                change = change.max((next - matrix[r][c]).abs());
                matrix[r][c] = next;
            }
        }
        if change < 1e-15 {
            break;
        }
    }
    matrix
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;

    #[test]
    fn what_is_no_orientation_is_refused_in_words() {
        for codes in ["", "RA", "RASS", "RRS", "RLS", "ras", "XYZ"] {
            let geometry = Geometry::from_spacing([1; 3], [1.0; 3]);
            let volume = Volume::new(Array3::<u8>::zeros([1; 3]), geometry);
            let message = reorient(&volume, codes).unwrap_err();
            assert!(message.contains("is no orientation"), "{message}");
        }
    }

    #[test]
    fn even_a_matrix_of_nothing_has_three_different_axes() {
        for affine in [[[0.0; 4]; 4], [[f64::NAN; 4]; 4], [[1.0; 4]; 4]] {
            assert!(parse(&axis_codes(&affine)).is_ok(), "{affine:?}");
        }
    }
}
