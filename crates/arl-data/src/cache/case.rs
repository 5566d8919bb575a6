//! A cached case: patches are copied out of the memory map, so the case itself is never loaded.

use std::ops::Range;

use memmap2::Mmap;
use ndarray::{Array3, Array4, s};

/// A preprocessed case on disk.
#[derive(Debug)]
pub struct CachedCase {
    /// The case's identifier in the dataset.
    pub id: String,
    /// Voxels along `[D, H, W]` after preprocessing.
    pub shape: [usize; 3],
    /// Image channels.
    pub channels: usize,
    locations: Vec<Vec<[u32; 3]>>,
    foreground: Vec<usize>,
    voxels: Voxels,
}

/// The mapped file, and where in it image and labels begin.
#[derive(Debug)]
pub(super) struct Voxels {
    pub image: usize,
    pub labels: usize,
    pub label_bytes: usize,
    pub map: Mmap,
}

impl CachedCase {
    pub(super) fn new(
        id: String,
        shape: [usize; 3],
        channels: usize,
        locations: Vec<Vec<[u32; 3]>>,
        voxels: Voxels,
    ) -> Self {
        let foreground = (1..locations.len())
            .filter(|&class| !locations[class].is_empty())
            .collect();
        Self {
            id,
            shape,
            channels,
            locations,
            foreground,
            voxels,
        }
    }

    /// Random voxels `[d, h, w]` of a class (by its place in the plan, 0 = background); empty if the case has none.
    pub fn locations(&self, class: usize) -> &[[u32; 3]] {
        self.locations.get(class).map_or(&[], Vec::as_slice)
    }

    /// The classes other than the background that the case has voxels of, ascending.
    pub fn foreground_classes(&self) -> &[usize] {
        &self.foreground
    }

    /// Copies the box of `size` voxels from `start` on, which may reach out of the volume on any side.
    ///
    /// Returns the image `[C, D, H, W]` and the labels `[D, H, W]`. Outside of the volume the image is 0, which is
    /// the mean after z-score normalisation, and the label is `label_pad`.
    pub fn read_patch(
        &self,
        start: [i64; 3],
        size: [usize; 3],
        label_pad: u16,
    ) -> (Array4<f32>, Array3<u16>) {
        let [pd, ph, pw] = size;
        let mut image = Array4::zeros((self.channels, pd, ph, pw));
        let mut labels = Array3::from_elem((pd, ph, pw), label_pad);
        let inside = [0, 1, 2].map(|axis| overlap(start[axis], size[axis], self.shape[axis]));
        let [ds, hs, ws] = inside;
        if ds.is_empty() || hs.is_empty() || ws.is_empty() {
            return (image, labels);
        }
        let [depth, height, width] = self.shape;
        let source = |patch: usize, axis: usize| (patch as i64 + start[axis]) as usize;
        let run = ws.len();
        for d in ds {
            for h in hs.clone() {
                let row = (source(d, 0) * height + source(h, 1)) * width + source(ws.start, 2);
                for c in 0..self.channels {
                    let first = self.voxels.image + 4 * (c * depth * height * width + row);
                    let (values, _) = self.voxels.map[first..first + 4 * run].as_chunks();
                    let target = image.slice_mut(s![c, d, h, ws.clone()]);
                    for (target, &value) in target.into_iter().zip(values) {
                        *target = f32::from_le_bytes(value);
                    }
                }
                let bytes = self.voxels.label_bytes;
                let first = self.voxels.labels + bytes * row;
                let values = &self.voxels.map[first..first + bytes * run];
                let target = labels.slice_mut(s![d, h, ws.clone()]).into_iter();
                if bytes == 1 {
                    for (target, &value) in target.zip(values) {
                        *target = u16::from(value);
                    }
                } else {
                    for (target, &value) in target.zip(values.as_chunks().0) {
                        *target = u16::from_le_bytes(value);
                    }
                }
            }
        }
        (image, labels)
    }
}

/// The indices of a patch (`size` voxels from `start` on) that lie in an axis of `length` voxels.
fn overlap(start: i64, size: usize, length: usize) -> Range<usize> {
    let first = 0i64.saturating_sub(start).clamp(0, size as i64);
    let last = (length as i64).saturating_sub(start).clamp(0, size as i64);
    first as usize..last as usize
}

#[cfg(test)]
mod tests {
    use super::overlap;

    #[test]
    fn overlap_of_patch_and_axis() {
        assert_eq!(overlap(0, 4, 10), 0..4);
        assert_eq!(overlap(-2, 4, 10), 2..4);
        assert_eq!(overlap(8, 4, 10), 0..2);
        assert_eq!(overlap(-3, 16, 10), 3..13);
        assert!(overlap(10, 4, 10).is_empty());
        assert!(overlap(-4, 4, 10).is_empty());
        assert!(overlap(i64::MIN, 4, 10).is_empty());
        assert!(overlap(i64::MAX, 4, 10).is_empty());
    }
}
