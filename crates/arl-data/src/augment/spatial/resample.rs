//! Image and labels at the places of a map.

use ndarray::{Array3, Array4, s};

use super::labels::majority;
use super::map::SpatialMap;
use crate::augment::math::vectorised;

/// Adding this rounds to a whole number, which is then in the low bits.
const ROUND: f32 = 12_582_912.0;

/// Voxels taken at once.
const LANES: usize = 16;

/// The patch of `map`, from the box of voxels that begins at `offset` from the patch's own first voxel.
pub(super) fn resample(
    map: &SpatialMap,
    image: &Array4<f32>,
    labels: &Array3<u16>,
    offset: [i64; 3],
) -> (Array4<f32>, Array3<u16>) {
    let (image, labels) = (image.as_standard_layout(), labels.as_standard_layout());
    let (channels, depth, height, width) = image.dim();
    let shape = [depth, height, width];
    assert!(
        u32::try_from(labels.len()).is_ok(),
        "{shape:?} voxels at once"
    );
    let [pd, ph, pw] = map.size;
    let mut out = Array4::zeros((channels, pd, ph, pw));
    let mut out_labels = Array3::zeros((pd, ph, pw));
    let mut row = Row::new(pw);
    for d in 0..pd {
        for h in 0..ph {
            vectorised(
                #[inline(always)]
                || {
                    row.places(map, offset, d, h);
                    row.locate(shape);
                },
            );
            for channel in 0..channels {
                let volume = image.index_axis(ndarray::Axis(0), channel);
                let mut out = out.slice_mut(s![channel, d, h, ..]);
                if let (Some(volume), Some(out)) = (volume.as_slice(), out.as_slice_mut()) {
                    vectorised(
                        #[inline(always)]
                        || row.interpolate(out, volume, shape),
                    );
                }
            }
            let mut out = out_labels.slice_mut(s![d, h, ..]);
            if let (Some(volume), Some(out)) = (labels.as_slice(), out.as_slice_mut()) {
                vectorised(
                    #[inline(always)]
                    || row.vote(out, volume, shape),
                );
            }
        }
    }
    (out, out_labels)
}

/// The places of a row of the patch within the box, and of some more, to a multiple of the lanes.
struct Row {
    /// Along each axis, in voxels from the box's first.
    position: [Vec<f32>; 3],
    displacement: [Vec<f32>; 3],
    /// The voxel before, along all axes.
    index: Vec<u32>,
    /// How far it is from that to the next along each axis.
    share: [Vec<f32>; 3],
}

impl Row {
    fn new(width: usize) -> Self {
        let width = width.next_multiple_of(LANES);
        let zeros = || [0; 3].map(|_| vec![0.0; width]);
        Row {
            position: zeros(),
            displacement: zeros(),
            index: vec![0; width],
            share: zeros(),
        }
    }

    /// Fills `position`.
    #[inline(always)]
    fn places(&mut self, map: &SpatialMap, offset: [i64; 3], d: usize, h: usize) {
        let matrix = map.matrix();
        let centre = map.size.map(|n| (n as f64 - 1.0) / 2.0);
        let sign = map
            .mirrored
            .map(|mirrored| if mirrored { -1.0 } else { 1.0 });
        let first = [d, h, 0];
        for axis in 0..3 {
            let from_centre = (0..3)
                .map(|from| matrix[axis][from] * sign[from] * (first[from] as f64 - centre[from]));
            let start = (centre[axis] - offset[axis] as f64 + from_centre.sum::<f64>()) as f32;
            let step = (matrix[axis][2] * sign[2]) as f32;
            for (w, position) in self.position[axis].iter_mut().enumerate() {
                *position = start + step * w as u32 as f32;
            }
        }
        if let Some(field) = &map.displacement {
            field.row(d, h, &mut self.displacement);
            for (position, row) in self.position.iter_mut().zip(matrix) {
                for (moved, factor) in self.displacement.iter().zip(row) {
                    let factor = factor as f32;
                    for (position, moved) in position.iter_mut().zip(moved) {
                        *position += factor * moved;
                    }
                }
            }
        }
    }

    /// Fills `index` and `share`.
    #[inline(always)]
    fn locate(&mut self, [depth, height, width]: [usize; 3]) {
        let split = |position: f32, n: usize| {
            // A whole number may count as the end of the cell before it, which is as good.
            let rounded = (position - 0.5 + ROUND).to_bits() as i32;
            let index = rounded
                .wrapping_sub(ROUND.to_bits() as i32)
                .clamp(0, n as i32 - 2);
            (index as u32, position - index as f32)
        };
        let [pd, ph, pw] = &self.position;
        let [sd, sh, sw] = &mut self.share;
        let n = self.index.len();
        let (pd, ph, pw) = (&pd[..n], &ph[..n], &pw[..n]);
        let (sd, sh, sw) = (&mut sd[..n], &mut sh[..n], &mut sw[..n]);
        for (w, index) in self.index.iter_mut().enumerate() {
            let (d, share_d) = split(pd[w], depth);
            let (h, share_h) = split(ph[w], height);
            let (v, share_w) = split(pw[w], width);
            let row = d.wrapping_mul(height as u32).wrapping_add(h);
            *index = row.wrapping_mul(width as u32).wrapping_add(v);
            (sd[w], sh[w], sw[w]) = (share_d, share_h, share_w);
        }
    }

    /// The image between its eight voxels.
    #[inline(always)]
    fn interpolate(&self, out: &mut [f32], volume: &[f32], shape: [usize; 3]) {
        let corners = corners(volume, shape);
        let [sd, sh, sw] = [0, 1, 2].map(|axis| self.share[axis].as_chunks::<LANES>().0);
        let blocks = self.index.as_chunks().0.iter().zip(sd).zip(sh).zip(sw);
        for (out, (((index, d), h), w)) in out.chunks_mut(LANES).zip(blocks) {
            let v = gather(&corners, index);
            let mut result = [0.0; LANES];
            for lane in 0..LANES {
                let mix = |a: f32, b: f32, share: f32| a + (b - a) * share;
                let near_top = mix(v[0][lane], v[1][lane], w[lane]);
                let near = mix(near_top, mix(v[2][lane], v[3][lane], w[lane]), h[lane]);
                let far_top = mix(v[4][lane], v[5][lane], w[lane]);
                let far = mix(far_top, mix(v[6][lane], v[7][lane], w[lane]), h[lane]);
                result[lane] = mix(near, far, d[lane]);
            }
            out.copy_from_slice(&result[..out.len()]);
        }
    }

    /// The label of most weight among the eight voxels.
    #[inline(always)]
    fn vote(&self, out: &mut [u16], volume: &[u16], shape: [usize; 3]) {
        let corners = corners(volume, shape);
        let blocks = self.index.as_chunks().0.iter().enumerate();
        for (out, (block, index)) in out.chunks_mut(LANES).zip(blocks) {
            let v = gather(&corners, index);
            let mut differ = [0; LANES];
            for labels in &v[1..] {
                for lane in 0..LANES {
                    differ[lane] |= labels[lane] ^ v[0][lane];
                }
            }
            out.copy_from_slice(&v[0][..out.len()]);
            if differ == [0; LANES] {
                continue;
            }
            for (lane, out) in out.iter_mut().enumerate() {
                if differ[lane] != 0 {
                    let shares = [0, 1, 2].map(|axis| self.share[axis][block * LANES + lane]);
                    *out = majority(v.map(|labels| labels[lane]), shares);
                }
            }
        }
    }
}

/// The values of all corners at these places.
#[inline(always)]
fn gather<T: Copy + Default>(corners: &[&[T]; 8], index: &[u32; LANES]) -> [[T; LANES]; 8] {
    let last = corners[0].len() - 1;
    let mut values = [[T::default(); LANES]; 8];
    for (values, corner) in values.iter_mut().zip(corners) {
        for (value, index) in values.iter_mut().zip(index) {
            *value = corner[(*index as usize).min(last)];
        }
    }
    values
}

/// The volume as seen from each of the eight voxels of a cell: slices of one length, so that an index that fits one of
/// them fits all.
#[inline(always)]
fn corners<T>(volume: &[T], [_, height, width]: [usize; 3]) -> [&[T]; 8] {
    let steps = [height * width, width, 1];
    let length = volume.len() - steps.iter().sum::<usize>();
    [0, 1, 2, 3, 4, 5, 6, 7].map(|corner| {
        let bits = [corner >> 2 & 1, corner >> 1 & 1, corner & 1];
        let start: usize = bits.iter().zip(steps).map(|(bit, step)| bit * step).sum();
        &volume[start..][..length]
    })
}
