//! Patches of one training step, as plain numbers.

use ndarray::{Array3, Array4};

use crate::{DataError, Result};

/// The patches of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Images `[N, C, D, H, W]`, row-major.
    pub images: Vec<f32>,
    /// Labels `[N, D, H, W]`, row-major.
    pub labels: Vec<i32>,
    /// `[N, C, D, H, W]`.
    pub shape: [usize; 5],
    /// The case of each patch.
    pub case_ids: Vec<String>,
}

impl Batch {
    /// An empty batch, with room for `patches`.
    pub(super) fn with_capacity(patches: usize, channels: usize, patch_size: [usize; 3]) -> Self {
        let [d, h, w] = patch_size;
        let voxels = patches * d * h * w;
        Self {
            images: Vec::with_capacity(voxels * channels),
            labels: Vec::with_capacity(voxels),
            shape: [0, channels, d, h, w],
            case_ids: Vec::with_capacity(patches),
        }
    }

    /// Appends a patch; one of another shape is an error.
    pub(super) fn push(
        &mut self,
        case_id: &str,
        image: &Array4<f32>,
        labels: &Array3<u16>,
    ) -> Result<()> {
        if image.shape() != &self.shape[1..] || labels.shape() != &self.shape[2..] {
            return Err(DataError::Worker {
                case: case_id.to_owned(),
                message: format!(
                    "its patch has the shapes {:?} and {:?}, not {:?}",
                    image.shape(),
                    labels.shape(),
                    &self.shape[1..]
                ),
            });
        }
        self.images.extend(image.iter());
        self.labels
            .extend(labels.iter().map(|&label| i32::from(label)));
        self.shape[0] += 1;
        self.case_ids.push(case_id.to_owned());
        Ok(())
    }
}
