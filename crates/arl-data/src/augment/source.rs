//! Where patches are read from.

use ndarray::{Array3, Array4, ArrayView3, ArrayView4, s};

use crate::Result;

/// A case that hands out boxes of voxels, so that a spatial transform reads what it needs and no more.
pub trait PatchSource {
    /// Image channels.
    fn channels(&self) -> usize;

    /// The box of `size` voxels from `start` on: image `[C, D, H, W]` and labels `[D, H, W]`, in standard layout.
    ///
    /// The box may reach out of the volume on any side; there the image is 0, which is the mean after z-score
    /// normalisation, and the label is one that the source was told (0 in training, as in nnU-Net).
    ///
    /// # Errors
    /// When the case can't be read.
    fn read(&self, start: [i64; 3], size: [usize; 3]) -> Result<(Array4<f32>, Array3<u16>)>;
}

/// A case in memory.
#[derive(Debug, Clone, Copy)]
pub struct InMemory<'a> {
    /// `[C, D, H, W]`.
    pub image: ArrayView4<'a, f32>,
    /// `[D, H, W]`.
    pub labels: ArrayView3<'a, u16>,
    /// The label of voxels outside of the volume.
    pub outside: u16,
}

impl PatchSource for InMemory<'_> {
    fn channels(&self) -> usize {
        self.image.dim().0
    }

    fn read(&self, start: [i64; 3], size: [usize; 3]) -> Result<(Array4<f32>, Array3<u16>)> {
        let [depth, height, width] = size;
        let mut image = Array4::zeros((self.channels(), depth, height, width));
        let mut labels = Array3::from_elem((depth, height, width), self.outside);
        // Within the box, and within the volume.
        let overlap = [0, 1, 2].map(|axis| {
            let length = self.labels.shape()[axis] as i64;
            let first = 0i64.saturating_sub(start[axis]).clamp(0, size[axis] as i64);
            let last = length
                .saturating_sub(start[axis])
                .clamp(first, size[axis] as i64);
            let in_volume = |at: i64| (at.saturating_add(start[axis])).clamp(0, length) as usize;
            (
                first as usize..last as usize,
                in_volume(first)..in_volume(last),
            )
        });
        let [(d, from_d), (h, from_h), (w, from_w)] = overlap;
        image
            .slice_mut(s![.., d.clone(), h.clone(), w.clone()])
            .assign(
                &self
                    .image
                    .slice(s![.., from_d.clone(), from_h.clone(), from_w.clone()]),
            );
        labels
            .slice_mut(s![d, h, w])
            .assign(&self.labels.slice(s![from_d, from_h, from_w]));
        Ok((image, labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_reach_out_of_the_volume() {
        let image = Array4::from_shape_fn((2, 2, 3, 4), |(c, d, h, w)| {
            (c * 1000 + d * 100 + h * 10 + w + 1) as f32
        });
        let labels = Array3::ones((2, 3, 4));
        let source = InMemory {
            image: image.view(),
            labels: labels.view(),
            outside: 9,
        };
        let (box_image, box_labels) = source.read([-1, 1, 2], [3, 3, 3]).unwrap();
        assert_eq!(box_image[[1, 1, 0, 0]], image[[1, 0, 1, 2]]);
        assert_eq!(box_image[[0, 2, 1, 1]], image[[0, 1, 2, 3]]);
        assert_eq!((box_image[[0, 0, 0, 0]], box_labels[[0, 0, 0]]), (0.0, 9));
        assert_eq!((box_image[[0, 1, 2, 0]], box_labels[[1, 0, 2]]), (0.0, 9));
        assert_eq!(box_labels.iter().filter(|&&label| label == 1).count(), 8);
        for far in [i64::MIN, -9, 9, i64::MAX] {
            let (image, labels) = source.read([far, 0, 0], [2, 2, 2]).unwrap();
            assert!(
                image.iter().all(|v| *v == 0.0) && labels.iter().all(|l| *l == 9),
                "{far}"
            );
        }
    }
}
