//! Resampling a volume slab by slab: any planes of the result can be had without the others, from a source that is
//! read row by row, so neither has to exist as a whole in single precision.
//!
//! A slab is made in two steps. Along D, blocks of neighbouring lines are resampled into an intermediate slab that keeps
//! the source's H and W. Then each plane is resampled along H and along W, small enough to stay in the processor's cache.

use std::ops::Range;

use ndarray::{ArrayView3, Axis};
use rayon::prelude::*;

use super::axis::{AxisPlan, LANES, Row};
use super::{Interpolation, Order};

/// Rows of a plane resampled together along W.
const ROWS: usize = 16;

/// Bytes that a slab may take, before or after the resampling.
pub(crate) const SLAB_BYTES: usize = 128 << 20;

/// Slabs have a multiple of so many planes, and at least so many.
pub(crate) const SLAB_STEP: usize = 32;

/// No slab has more planes.
const LARGEST_SLAB: usize = 128;

/// Where a volume to be resampled comes from.
pub trait Source: Sync {
    /// Voxels along `[D, H, W]`.
    fn shape(&self) -> [usize; 3];

    /// Fills `out` with the voxels `[d, h, w]`, `[d, h, w + 1]`, ….
    fn read(&self, d: usize, h: usize, w: usize, out: &mut [f32]);
}

impl Source for ArrayView3<'_, f32> {
    fn shape(&self) -> [usize; 3] {
        self.dim().into()
    }

    fn read(&self, d: usize, h: usize, w: usize, out: &mut [f32]) {
        let row = self
            .index_axis(Axis(0), d)
            .index_axis_move(Axis(0), h)
            .slice_axis_move(Axis(0), (w..w + out.len()).into());
        match row.as_slice() {
            Some(values) => out.copy_from_slice(values),
            None => out.iter_mut().zip(row).for_each(|(v, s)| *v = *s),
        }
    }
}

/// A volume on its way to another shape.
#[derive(Debug)]
pub struct Resampler<S> {
    source: S,
    axes: [AxisPlan; 3],
    limits: Limits,
}

/// What the result of a cubic interpolation, which overshoots at edges, is clamped to.
#[derive(Debug)]
enum Limits {
    None,
    /// The range of the source.
    Whole((f32, f32)),
    /// The range of the source slice along the separate axis, one for each slice.
    PerSlice(usize, Vec<(f32, f32)>),
}

impl<S: Source> Resampler<S> {
    /// Prepares the resampling of `source` to `new_shape`; a cubic one reads the source once for its range.
    ///
    /// # Panics
    /// When an axis of either shape is empty.
    pub fn new(
        source: S,
        new_shape: [usize; 3],
        order: Order,
        interpolation: Interpolation,
    ) -> Self {
        let old_shape = source.shape();
        super::check_shapes(old_shape, new_shape);
        let axes = std::array::from_fn(|axis| {
            let order = match interpolation {
                Interpolation::SeparateAxis(separate) if separate == axis => Order::Nearest,
                _ => order,
            };
            AxisPlan::new(old_shape[axis], new_shape[axis], order)
        });
        let limits = if axes.iter().all(|axis| axis.order != Order::Cubic) {
            Limits::None
        } else if let Interpolation::SeparateAxis(axis) = interpolation {
            Limits::PerSlice(axis, slice_ranges(&source, axis))
        } else {
            let ranges = slice_ranges(&source, 0);
            Limits::Whole(ranges.into_iter().fold(NOTHING, join))
        };
        Self {
            source,
            axes,
            limits,
        }
    }

    /// Voxels of the result along `[D, H, W]`.
    pub fn shape(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.axes[axis].new_len())
    }

    /// Planes of the result that are best made together: few enough for the memory, enough to share the work along D.
    /// They depend on the shapes alone, so that a result does not depend on the machine.
    pub fn slab_planes(&self) -> usize {
        let [_, along_h, along_w] = &self.axes;
        let before = along_h.old * along_w.old.next_multiple_of(LANES);
        let after = along_h.new_len() * along_w.new_len();
        let planes = SLAB_BYTES / (4 * before.max(after));
        (planes / SLAB_STEP * SLAB_STEP).clamp(SLAB_STEP, LARGEST_SLAB)
    }

    /// Computes the whole result, `[D, H, W]`, slab by slab.
    ///
    /// # Panics
    /// When `out` has another length.
    pub fn whole_into(&self, out: &mut [f32]) {
        let [depth, height, width] = self.shape();
        let planes = self.slab_planes();
        for (slab, out) in out.chunks_mut(planes * height * width).enumerate() {
            let first = slab * planes;
            self.planes(first..(first + planes).min(depth), out);
        }
    }

    /// Computes the planes `planes` of the result into `out`, `[planes, H, W]`.
    ///
    /// # Panics
    /// When `out` has another length, or a plane lies beyond the last.
    pub fn planes(&self, planes: Range<usize>, out: &mut [f32]) {
        let [depth, height, width] = self.shape();
        let plane = height * width;
        assert!(
            planes.end <= depth && out.len() == planes.len() * plane,
            "{planes:?} of {depth} planes"
        );
        if planes.is_empty() {
            return;
        }
        // Where D is nearest, several planes of the result may be one of the source: each of those is made once.
        let along_d = &self.axes[0];
        let mut distinct: Vec<(usize, usize)> = Vec::new();
        for index in planes.clone() {
            match distinct.last_mut() {
                Some((first, count))
                    if along_d.order == Order::Nearest
                        && along_d.nearest(*first) == along_d.nearest(index) =>
                {
                    *count += 1;
                }
                _ => distinct.push((index, 1)),
            }
        }
        let slab = self.slab(&distinct);
        let mut targets = Vec::with_capacity(distinct.len());
        let mut rest = out;
        for (position, &(index, count)) in distinct.iter().enumerate() {
            let (target, other) = rest.split_at_mut(count * plane);
            targets.push((position, index, target));
            rest = other;
        }
        targets
            .into_par_iter()
            .for_each_init(Work::default, |work, (position, index, target)| {
                let (first, copies) = target.split_at_mut(plane);
                self.plane(&slab, distinct.len(), position, work, first);
                self.clamp(index, first);
                copies
                    .chunks_exact_mut(plane)
                    .for_each(|copy| copy.copy_from_slice(first));
            });
    }

    /// Resamples along D: the planes named by the first numbers of `distinct`, as `[H, blocks of W, planes, LANES]`.
    fn slab(&self, distinct: &[(usize, usize)]) -> Vec<f32> {
        let [_, height, width] = self.source.shape();
        let along_d = &self.axes[0];
        let blocks = width.div_ceil(LANES);
        let mut slab = vec![0.0f32; height * blocks * distinct.len() * LANES];
        let first = distinct[0].0;
        slab.par_chunks_mut(distinct.len() * LANES)
            .enumerate()
            .for_each_init(Vec::new, |rows: &mut Vec<Row<LANES>>, (chunk, out)| {
                let (h, w) = (chunk / blocks, chunk % blocks * LANES);
                let lanes = LANES.min(width - w);
                let load = |d: usize, row: &mut Row<LANES>| {
                    self.source.read(d, h, w, &mut row[..lanes]);
                };
                let (out, _) = out.as_chunks_mut::<LANES>();
                if along_d.order == Order::Nearest {
                    for (row, &(index, _)) in out.iter_mut().zip(distinct) {
                        load(along_d.nearest(index), row);
                    }
                } else {
                    along_d.apply(first..first + distinct.len(), rows, load, |index, row| {
                        out[index - first] = *row;
                    });
                }
            });
        slab
    }

    /// Resamples one plane of a slab along H and then along W.
    fn plane(
        &self,
        slab: &[f32],
        planes: usize,
        position: usize,
        work: &mut Work,
        out: &mut [f32],
    ) {
        let [_, along_h, along_w] = &self.axes;
        let blocks = along_w.old.div_ceil(LANES);
        let (slab, _) = slab.as_chunks::<LANES>();
        work.plane.resize(along_h.new_len() * blocks * LANES, 0.0);
        let (rows, _) = work.plane.as_chunks_mut::<LANES>();
        for block in 0..blocks {
            along_h.apply(
                0..along_h.new_len(),
                &mut work.lines,
                |h, row| *row = slab[(h * blocks + block) * planes + position],
                |h, row| rows[h * blocks + block] = *row,
            );
        }
        let width = along_w.new_len();
        for (source, target) in work
            .plane
            .chunks(ROWS * blocks * LANES)
            .zip(out.chunks_mut(ROWS * width))
        {
            let source: Vec<&[f32]> = source.chunks_exact(blocks * LANES).collect();
            if along_w.old == width {
                for (source, target) in source.iter().zip(target.chunks_exact_mut(width)) {
                    target.copy_from_slice(&source[..width]);
                }
                continue;
            }
            let count = source.len();
            along_w.apply(
                0..width,
                &mut work.columns,
                |w, column: &mut Row<ROWS>| {
                    for (voxel, row) in column[..count].iter_mut().zip(&source) {
                        *voxel = row[w];
                    }
                },
                |w, column| {
                    for (voxel, row) in column[..count].iter().zip(target.chunks_exact_mut(width)) {
                        row[w] = *voxel;
                    }
                },
            );
        }
    }

    /// Brings plane `index` of the result back into the range of its source.
    fn clamp(&self, index: usize, plane: &mut [f32]) {
        let limit = |values: &mut [f32], (low, high): (f32, f32)| {
            values.iter_mut().for_each(|v| *v = v.clamp(low, high));
        };
        let width = self.axes[2].new_len();
        match &self.limits {
            Limits::None => {}
            Limits::Whole(range) => limit(plane, usable(*range)),
            Limits::PerSlice(axis, ranges) => {
                let range = |index: usize| usable(ranges[self.axes[*axis].nearest(index)]);
                match axis {
                    0 => limit(plane, range(index)),
                    1 => {
                        for (h, row) in plane.chunks_exact_mut(width).enumerate() {
                            limit(row, range(h));
                        }
                    }
                    _ => {
                        let ranges: Vec<_> = (0..width).map(range).collect();
                        for row in plane.chunks_exact_mut(width) {
                            for (v, (low, high)) in row.iter_mut().zip(&ranges) {
                                *v = v.clamp(*low, *high);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Working memory of one thread.
#[derive(Default)]
struct Work {
    lines: Vec<Row<LANES>>,
    columns: Vec<Row<ROWS>>,
    plane: Vec<f32>,
}

/// The range of no value at all.
const NOTHING: (f32, f32) = (f32::INFINITY, f32::NEG_INFINITY);

fn join(a: (f32, f32), b: (f32, f32)) -> (f32, f32) {
    (a.0.min(b.0), a.1.max(b.1))
}

/// A range without numbers (of voxels that are all NaN) limits nothing.
fn usable(range: (f32, f32)) -> (f32, f32) {
    if range.0 <= range.1 {
        range
    } else {
        (f32::NEG_INFINITY, f32::INFINITY)
    }
}

/// Smallest and largest value of each slice along `axis`; NaN is passed over.
fn slice_ranges(source: &impl Source, axis: usize) -> Vec<(f32, f32)> {
    let shape = source.shape();
    let per_plane = |d: usize| {
        let mut ranges = vec![NOTHING; if axis == 0 { 1 } else { shape[axis] }];
        let mut row = vec![0.0; shape[2]];
        for h in 0..shape[1] {
            source.read(d, h, 0, &mut row);
            if axis == 2 {
                for (range, v) in ranges.iter_mut().zip(&row) {
                    *range = join(*range, (*v, *v));
                }
            } else {
                let slot = if axis == 0 { 0 } else { h };
                ranges[slot] = join(ranges[slot], range(&row));
            }
        }
        ranges
    };
    let planes: Vec<Vec<(f32, f32)>> = (0..shape[0]).into_par_iter().map(per_plane).collect();
    if axis == 0 {
        return planes.into_iter().flatten().collect();
    }
    let mut ranges = vec![NOTHING; shape[axis]];
    for plane in planes {
        for (range, other) in ranges.iter_mut().zip(plane) {
            *range = join(*range, other);
        }
    }
    ranges
}

/// Smallest and largest of `values`, in lanes so that the comparisons do not wait for each other.
fn range(values: &[f32]) -> (f32, f32) {
    let (chunks, rest) = values.as_chunks::<16>();
    let mut low = [f32::INFINITY; 16];
    let mut high = [f32::NEG_INFINITY; 16];
    for chunk in chunks {
        for l in 0..16 {
            low[l] = if chunk[l] < low[l] { chunk[l] } else { low[l] };
            high[l] = if chunk[l] > high[l] {
                chunk[l]
            } else {
                high[l]
            };
        }
    }
    let ends = low
        .into_iter()
        .zip(high)
        .chain(rest.iter().map(|v| (*v, *v)));
    ends.fold(NOTHING, join)
}
