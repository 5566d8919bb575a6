//! What lies outside of the body, through the augmentation of a patch.

use ndarray::{Array3, Array4, Axis, Zip};

/// The label of background voxels outside of the body, in the cache and while a patch is augmented, where the plan takes
/// statistics from within the body alone; nnU-Net writes -1 there. No class has it.
pub const OUTSIDE_OF_BODY: u16 = u16::MAX;

/// Ends the augmentation of a patch of which these channels are normalised within the body: outside of it they become 0
/// again, whatever noise or brightness has made of them, and the label becomes background (nnU-Net v2,
/// `MaskImageTransform` and `RemoveLabelTansform`).
///
/// `image` is `[C, D, H, W]`, `labels` `[D, H, W]` with [`OUTSIDE_OF_BODY`] where the body is not.
///
/// # Panics
/// If a channel is not in the image, or image and labels differ in size.
///
/// ```
/// use arl_data::augment::{OUTSIDE_OF_BODY, clear_outside};
/// use ndarray::{Array3, Array4, s};
///
/// let mut image = Array4::ones((2, 1, 1, 3));
/// let mut labels = Array3::zeros((1, 1, 3));
/// labels[[0, 0, 1]] = OUTSIDE_OF_BODY;
/// clear_outside(&mut image, &mut labels, &[1]);
/// assert_eq!(image.slice(s![.., 0, 0, 1]).to_vec(), [1.0, 0.0]);
/// assert_eq!((image.sum(), labels.sum()), (5.0, 0));
/// ```
pub fn clear_outside(image: &mut Array4<f32>, labels: &mut Array3<u16>, channels: &[usize]) {
    for &channel in channels {
        let channel = image.index_axis_mut(Axis(0), channel);
        Zip::from(channel).and(&*labels).for_each(|voxel, &label| {
            if label == OUTSIDE_OF_BODY {
                *voxel = 0.0;
            }
        });
    }
    labels.mapv_inplace(|label| if label == OUTSIDE_OF_BODY { 0 } else { label });
}
