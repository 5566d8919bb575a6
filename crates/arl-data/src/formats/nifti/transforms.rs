//! Header fields to affine and back, with the arithmetic of nibabel.

use super::super::header::believable;
use crate::volume::Geometry;

type Affine = [[f64; 4]; 4];

/// Transform code "scanner".
const SCANNER: i16 = 1;
/// Position in mm that rounding to the header's f32 may cost, and an oblique qform a little more.
const ROUNDING: f64 = 1e-3;

/// The fields of a header that place its voxels in the world, as stored.
#[derive(Clone)]
pub(super) struct HeaderTransforms {
    pub qform_code: i16,
    pub sform_code: i16,
    /// `qfac` (±1) and the voxel sizes `(i, j, k)`.
    pub pixdim: [f64; 4],
    /// `quatern_b`, `quatern_c`, `quatern_d`.
    pub quaternion: [f64; 3],
    /// `qoffset_x`, `qoffset_y`, `qoffset_z`.
    pub offset: [f64; 3],
    /// `srow_x`, `srow_y`, `srow_z`.
    pub srow: [[f64; 4]; 3],
}

impl HeaderTransforms {
    /// NIfTI voxel to RAS+ mm: the sform if its code is set, else the qform, else voxel sizes about the centre.
    pub(super) fn affine(&self, shape: [usize; 3]) -> Result<Affine, String> {
        let (name, affine) = if self.sform_code != 0 {
            ("sform", self.sform())
        } else if self.qform_code != 0 {
            ("qform", self.qform()?)
        } else {
            ("voxel size", self.voxel_sizes_only(shape))
        };
        believable(&affine).map_err(|problem| format!("its {name} {problem}"))?;
        Ok(affine)
    }

    fn sform(&self) -> Affine {
        let [x, y, z] = self.srow;
        [x, y, z, [0.0, 0.0, 0.0, 1.0]]
    }

    fn qform(&self) -> Result<Affine, String> {
        let [b, c, d] = self.quaternion;
        let squared = 1.0 - (b * b + c * c + d * d);
        // Rounding to f32 may carry a half turn's quaternion slightly beyond length one.
        let tolerance = 3.0 * f64::from(f32::EPSILON);
        let a = if squared.abs() < tolerance {
            0.0
        } else if squared > 0.0 {
            squared.sqrt()
        } else {
            return Err("its qform quaternion is longer than one".to_owned());
        };
        let rotation = quaternion_to_rotation([a, b, c, d]);
        let mut size = self.sizes();
        size[2] *= self.qfac();
        let mut affine = [[0.0; 4]; 4];
        for (r, row) in affine.iter_mut().take(3).enumerate() {
            for c in 0..3 {
                row[c] = rotation[r][c] * size[c];
            }
            row[3] = self.offset[r];
        }
        affine[3][3] = 1.0;
        Ok(affine)
    }

    /// The ANALYZE convention: the first axis runs to the left, and the middle of the volume is the origin.
    fn voxel_sizes_only(&self, shape: [usize; 3]) -> Affine {
        let [x, y, z] = self.sizes();
        let [d, h, w] = shape.map(|n| (n as f64 - 1.0) / 2.0);
        [
            [-x, 0.0, 0.0, w * x],
            [0.0, y, 0.0, -h * y],
            [0.0, 0.0, z, -d * z],
            [0.0, 0.0, 0.0, 1.0],
        ]
    }

    /// Voxel sizes `(i, j, k)`; signs dropped as nibabel does.
    fn sizes(&self) -> [f64; 3] {
        [1, 2, 3].map(|axis| self.pixdim[axis].abs())
    }

    /// Handedness of the qform: anything but -1 means +1.
    fn qfac(&self) -> f64 {
        if self.pixdim[0] == -1.0 { -1.0 } else { 1.0 }
    }
}

impl HeaderTransforms {
    /// The fields for a geometry: its affine as sform, as qform (nearest where it is sheared) and as voxel sizes, with
    /// the codes that it was read with.
    ///
    /// Where a reader who follows these codes would arrive at another affine, the sform is switched on.
    pub(super) fn describe(geometry: &Geometry) -> Self {
        let affine = &geometry.affine;
        let column = |c: usize| [affine[0][c], affine[1][c], affine[2][c]];
        let size = [0, 1, 2].map(|c| dot(column(c), column(c)).sqrt());
        let qfac = if determinant(affine) < 0.0 { -1.0 } else { 1.0 };
        let mut axes = orthonormal([0, 1, 2].map(column));
        axes[2] = axes[2].map(|v| v * qfac);
        let quaternion = axes_to_quaternion(&axes);
        let mut fields = HeaderTransforms {
            qform_code: geometry.codes.qform,
            sform_code: geometry.codes.sform,
            pixdim: [qfac, size[0], size[1], size[2]].map(rounded),
            quaternion: [1, 2, 3].map(|i| rounded(quaternion[i])),
            offset: [0, 1, 2].map(|r| rounded(affine[r][3])),
            srow: [0, 1, 2].map(|r| affine[r].map(rounded)),
        };
        let read_back = fields
            .affine(geometry.shape)
            .map(|affine| Geometry::new(geometry.shape, affine).largest_corner_distance(geometry));
        if !read_back.is_ok_and(|distance| distance <= ROUNDING) {
            fields.sform_code = fields.sform_code.max(SCANNER);
        }
        fields
    }
}

/// As a header of NIfTI-1 keeps it.
fn rounded(value: f64) -> f64 {
    f64::from(value as f32)
}

/// Three perpendicular unit vectors near the given ones (Gram-Schmidt; exact where there is no shear).
fn orthonormal(columns: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let mut axes = columns;
    for i in 0..3 {
        for j in 0..i {
            let along = dot(axes[i], axes[j]);
            axes[i] = [0, 1, 2].map(|r| axes[i][r] - along * axes[j][r]);
        }
        let length = dot(axes[i], axes[i]).sqrt();
        axes[i] = axes[i].map(|v| v / length);
    }
    axes
}

fn quaternion_to_rotation(q: [f64; 4]) -> [[f64; 3]; 3] {
    let norm = q.iter().map(|v| v * v).sum::<f64>();
    let s = 2.0 / norm;
    let [w, x, y, z] = q;
    [
        [
            1.0 - s * (y * y + z * z),
            s * (x * y - w * z),
            s * (x * z + w * y),
        ],
        [
            s * (x * y + w * z),
            1.0 - s * (x * x + z * z),
            s * (y * z - w * x),
        ],
        [
            s * (x * z - w * y),
            s * (y * z + w * x),
            1.0 - s * (x * x + y * y),
        ],
    ]
}

/// `(w, x, y, z)` with `w ≥ 0` of the rotation whose columns are `axes`; the largest component is found first, so
/// that no small number is divided by.
fn axes_to_quaternion(axes: &[[f64; 3]; 3]) -> [f64; 4] {
    let r = |row: usize, column: usize| axes[column][row];
    let (xx, yy, zz) = (r(0, 0), r(1, 1), r(2, 2));
    let [xy, xz, yz] = [r(0, 1) + r(1, 0), r(0, 2) + r(2, 0), r(1, 2) + r(2, 1)];
    let [wx, wy, wz] = [r(2, 1) - r(1, 2), r(0, 2) - r(2, 0), r(1, 0) - r(0, 1)];
    let candidates = [
        [1.0 + xx + yy + zz, wx, wy, wz],
        [wx, 1.0 + xx - yy - zz, xy, xz],
        [wy, xy, 1.0 - xx + yy - zz, yz],
        [wz, xz, yz, 1.0 - xx - yy + zz],
    ];
    let largest = (0..4).fold(0, |best, i| {
        if candidates[i][i] > candidates[best][best] {
            i
        } else {
            best
        }
    });
    let q = candidates[largest];
    let norm = q.iter().map(|v| v * v).sum::<f64>().sqrt();
    let sign = if q[0] < 0.0 { -1.0 } else { 1.0 };
    q.map(|v| sign * v / norm)
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn determinant(m: &Affine) -> f64 {
    m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1])
        - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
        + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::TransformCodes;

    fn geometry(affine: Affine, qform: i16, sform: i16) -> Geometry {
        let mut geometry = Geometry::new([5, 4, 3], affine);
        geometry.codes = TransformCodes { qform, sform };
        geometry
    }

    /// An affine without shear survives in either transform, and codes are kept.
    #[test]
    fn described_affines_come_back_from_either_transform() {
        for qfac in [1.0, -1.0] {
            for q in [
                [1.0, 0.0, 0.0, 0.0],
                [0.0, 1.0, 0.0, 0.0],
                [0.0, 0.0, -1.0, 0.0],
                [0.3, -0.5, 0.7, 0.2],
                [0.01, 0.5, 0.5, 0.7],
            ] {
                let rotation = quaternion_to_rotation(q);
                let size = [0.8, 1.5, 3.0 * qfac];
                let mut affine = [[0.0; 4]; 4];
                for r in 0..3 {
                    for c in 0..3 {
                        affine[r][c] = rotation[r][c] * size[c];
                    }
                    affine[r][3] = 10.0 * r as f64 - 7.0;
                }
                affine[3][3] = 1.0;
                for (qform, sform) in [(1, 0), (2, 0), (0, 2), (3, 4)] {
                    let fields = HeaderTransforms::describe(&geometry(affine, qform, sform));
                    assert_eq!(
                        (fields.qform_code, fields.sform_code),
                        (qform, sform),
                        "q {q:?}"
                    );
                    for got in [fields.qform().unwrap(), fields.sform()] {
                        for (got, want) in got.iter().flatten().zip(affine.iter().flatten()) {
                            assert!((got - want).abs() < 2e-5, "{got} against {want}, q {q:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn an_affine_that_the_codes_cannot_carry_is_stored_as_sform() {
        let sheared = [
            [1.0, 0.2, 0.0, 0.0],
            [0.0, 1.0, 0.0, 0.0],
            [0.0, 0.0, 2.0, 0.0],
            [0.0, 0.0, 0.0, 1.0],
        ];
        for qform in [0, 1] {
            let fields = HeaderTransforms::describe(&geometry(sheared, qform, 0));
            assert_eq!((fields.qform_code, fields.sform_code), (qform, SCANNER));
        }
    }

    #[test]
    fn a_volume_placed_by_its_voxel_sizes_alone_stays_so() {
        let fields =
            HeaderTransforms::describe(&Geometry::from_spacing([5, 4, 3], [3.0, 2.0, 1.0]));
        let affine = fields.voxel_sizes_only([5, 4, 3]);
        let fields = HeaderTransforms::describe(&geometry(affine, 0, 0));
        assert_eq!((fields.qform_code, fields.sform_code), (0, 0));
    }

    #[test]
    fn transforms_without_extent_or_with_nan_are_refused() {
        let mut fields = HeaderTransforms::describe(&Geometry::from_spacing([1; 3], [1.0; 3]));
        fields.srow[2] = [0.0; 4];
        assert!(fields.affine([1; 3]).unwrap_err().contains("singular"));
        fields.srow[2] = [f64::NAN; 4];
        assert!(fields.affine([1; 3]).unwrap_err().contains("not finite"));
        fields.sform_code = 0;
        fields.quaternion = [1.0, 1.0, 0.0];
        assert!(fields.affine([1; 3]).unwrap_err().contains("quaternion"));
    }
}
