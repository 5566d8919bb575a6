//! How much of a volume a patch may come from.

use super::{Rotation, Spatial};

/// The smallest factor that nnU-Net counts with, which is not the largest that it scales by.
const SCALE: f64 = 0.85;

impl Spatial {
    /// Voxels `[D, H, W]` to cut around a patch of `size` voxels for one who keeps crops rather than volumes, so that
    /// rotated and scaled patches rarely show a border: nnU-Net's initial patch (`compute_initial_patch_size.py`).
    ///
    /// It is a compromise: the corners of a patch can come from further away. What reads from a volume needs no such crop;
    /// each [`SpatialMap`](super::SpatialMap) knows the exact box that it needs.
    ///
    /// ```
    /// use arl_data::augment::Preset;
    /// let augmentation = Preset::Nnunet.augmentation([128; 3], &[0, 1, 2]);
    /// assert_eq!(augmentation.spatial.initial_patch([128; 3]), [205; 3]);
    /// ```
    pub fn initial_patch(&self, size: [usize; 3]) -> [usize; 3] {
        let corner = size.map(|n| n as f64);
        let mut reached = corner;
        if let Some(rotation) = &self.rotation {
            for axis in 0..3 {
                let mut degrees = [0.0; 3];
                degrees[axis] = f64::from(rotation.max_degrees[axis]).min(90.0);
                // nnU-Net multiplies from the other side, which turns the other way.
                let turn = Rotation::matrix(degrees.map(|angle: f64| -angle));
                for (reached, row) in reached.iter_mut().zip(turn) {
                    let moved: f64 = row.iter().zip(corner).map(|(a, b)| a * b).sum();
                    *reached = reached.max(moved.abs());
                }
            }
        }
        let scaled = |axis: &usize| {
            self.scaling
                .as_ref()
                .is_some_and(|scaling| scaling.axes.contains(axis))
        };
        [0, 1, 2].map(|axis| match scaled(&axis) {
            true => (reached[axis] / SCALE) as usize,
            false => reached[axis] as usize,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::augment::Preset;

    #[test]
    fn initial_patches_are_nnunets() {
        for (size, expected) in [
            ([128, 128, 128], [205, 205, 205]),
            ([80, 192, 160], [194, 289, 210]),
            ([40, 56, 40], [73, 80, 64]),
            ([64, 192, 160], [178, 289, 200]),
            ([96, 96, 96], [154, 154, 154]),
            ([20, 320, 256], [20, 376, 376]),
        ] {
            let spatial = Preset::Nnunet.augmentation(size, &[0, 1, 2]).spatial;
            assert_eq!(spatial.initial_patch(size), expected, "{size:?}");
            let spatial = Preset::Light.augmentation(size, &[0, 1, 2]).spatial;
            assert_eq!(spatial.initial_patch(size), size);
        }
    }
}
