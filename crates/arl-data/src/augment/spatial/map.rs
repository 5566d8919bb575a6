//! Where each voxel of a patch comes from.

use ndarray::{Array3, Array4};

use super::displacement::Displacement;
use super::mirror::flip;
use super::resample::resample;
use crate::Result;
use crate::augment::source::PatchSource;

/// Positions closer to a voxel than this are taken to be it, so that rounding reads no further slice.
const ON_A_VOXEL: f64 = 1e-4;

/// Rotation, scaling, elastic deformation and mirroring as one map from the voxels of a patch to places in the volume,
/// so that the patch is interpolated once.
///
/// With `q` the voxel's offset from the centre of the patch, in voxels, `M` the mirroring, `u` the displacement and `A`
/// the matrix, it comes from the place `A·(M·q + u)` off the centre.
///
/// ```
/// use arl_data::augment::{InMemory, Rotation, SpatialMap};
/// use ndarray::{Array3, Array4};
///
/// # fn main() -> arl_data::Result<()> {
/// let image = Array4::from_shape_fn((1, 1, 5, 5), |(_, _, h, w)| (h * 10 + w) as f32);
/// let labels = Array3::zeros((1, 5, 5));
/// let source = InMemory { image: image.view(), labels: labels.view(), outside: 0 };
/// let quarter_turn = SpatialMap::new([1, 3, 3]).with_matrix(Rotation::matrix([90.0, 0.0, 0.0]));
/// let (turned, _) = quarter_turn.read(&source, [0, 1, 1])?;
/// assert!((turned[[0, 0, 0, 0]] - 31.0).abs() < 1e-4, "the corner that was below");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SpatialMap {
    pub(super) size: [usize; 3],
    pub(super) mirrored: [bool; 3],
    pub(super) matrix: Option<[[f64; 3]; 3]>,
    pub(super) displacement: Option<Displacement>,
}

impl SpatialMap {
    /// The map that changes nothing, of a patch of so many voxels `[D, H, W]`.
    pub fn new(size: [usize; 3]) -> Self {
        SpatialMap {
            size,
            mirrored: [false; 3],
            matrix: None,
            displacement: None,
        }
    }

    /// Flips these axes of `[D, H, W]`.
    pub fn with_mirrored(mut self, axes: [bool; 3]) -> Self {
        self.mirrored = axes;
        self
    }

    /// Looks where this matrix, which acts on offsets `[D, H, W]` in voxels, takes the voxels.
    pub fn with_matrix(mut self, matrix: [[f64; 3]; 3]) -> Self {
        self.matrix = Some(matrix);
        self
    }

    /// Moves each voxel first.
    ///
    /// # Panics
    /// If the field is of another size than the patch.
    pub fn with_displacement(mut self, displacement: Displacement) -> Self {
        assert_eq!(
            displacement.size(),
            self.size,
            "a field of another size than the patch"
        );
        self.displacement = Some(displacement);
        self
    }

    /// Which of the axes `[D, H, W]` are flipped.
    pub fn mirrored(&self) -> [bool; 3] {
        self.mirrored
    }

    /// Whether the patch is a box of the volume, mirrored or not, so that nothing is interpolated.
    pub fn is_plain(&self) -> bool {
        self.matrix.is_none() && self.displacement.is_none()
    }

    /// The box of voxels that the patch is made of: its first voxel, counted from the patch's own first, and its size.
    pub fn source_box(&self) -> ([i64; 3], [usize; 3]) {
        if self.is_plain() {
            return ([0; 3], self.size);
        }
        let matrix = self.matrix();
        let moved = self
            .displacement
            .as_ref()
            .map_or([0.0; 3], Displacement::bound);
        let mut start = [0; 3];
        let mut size = [0; 3];
        for axis in 0..3 {
            let reach = (0..3).map(|from| {
                let half = (self.size[from] as f64 - 1.0) / 2.0;
                matrix[axis][from].abs() * (half + f64::from(moved[from]))
            });
            let reach: f64 = reach.sum();
            let centre = (self.size[axis] as f64 - 1.0) / 2.0;
            let first = (centre - reach + ON_A_VOXEL).floor();
            // Two voxels at least, for there is always one before and one behind.
            let last = (centre + reach - ON_A_VOXEL).ceil().max(first + 1.0);
            start[axis] = first as i64;
            size[axis] = (last - first) as usize + 1;
        }
        (start, size)
    }

    /// Reads the patch that would begin at `start` if the map changed nothing: image `[C, D, H, W]` and labels
    /// `[D, H, W]`, in standard layout.
    ///
    /// The image is interpolated linearly. A voxel gets the label that has most weight among the eight around its place;
    /// of labels with equal weights the nearest voxel's, as in batchgeneratorsv2's `SpatialTransform`.
    ///
    /// # Errors
    /// Those of the source.
    ///
    /// # Panics
    /// If the source hands out another box than it was asked for, or the box has more than 2³² voxels.
    pub fn read(
        &self,
        source: &(impl PatchSource + ?Sized),
        start: [i64; 3],
    ) -> Result<(Array4<f32>, Array3<u16>)> {
        let (offset, size) = self.source_box();
        let at = [0, 1, 2].map(|axis| start[axis].saturating_add(offset[axis]));
        let (mut image, mut labels) = source.read(at, size)?;
        let voxels = (size[0], size[1], size[2]);
        assert_eq!(labels.dim(), voxels, "the labels of the source");
        assert_eq!(
            image.dim(),
            (source.channels(), size[0], size[1], size[2]),
            "the image of the source"
        );
        if self.is_plain() {
            flip(&mut image, &mut labels, self.mirrored);
            return Ok((image, labels));
        }
        Ok(resample(self, &image, &labels, offset))
    }

    pub(super) fn matrix(&self) -> [[f64; 3]; 3] {
        self.matrix
            .unwrap_or([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    }
}
