use crate::LossError;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// How a volume `[D, H, W]` is cut into regions: boxes that are disjoint and cover every voxel.
///
/// ```
/// use arl_loss::RegionGrid;
///
/// // 40 = 16 + 16 + 8: the last part is short.
/// let regions = RegionGrid::size([16, 16, 16]).regions([40, 56, 40])?;
/// assert_eq!(regions.counts(), [3, 4, 3]);
/// assert_eq!(regions.intervals(0).collect::<Vec<_>>(), [0..16, 16..32, 32..40]);
/// # Ok::<(), arl_loss::LossError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegionGrid {
    /// Regions per axis `[D, H, W]`; part `i` of `n` of an axis of length `L` is
    /// `[floor(i·L/n), floor((i+1)·L/n))`.
    Count([usize; 3]),
    /// Voxels per region and axis `[D, H, W]`; there are `ceil(L/size)` parts, and the last may be short.
    Size([usize; 3]),
}

impl RegionGrid {
    /// The whole volume as one region.
    pub const WHOLE: RegionGrid = RegionGrid::Count([1, 1, 1]);

    /// Cut each axis `[D, H, W]` into so many parts.
    pub const fn count(count: [usize; 3]) -> Self {
        Self::Count(count)
    }

    /// Cut each axis `[D, H, W]` into parts of so many voxels.
    pub const fn size(size: [usize; 3]) -> Self {
        Self::Size(size)
    }

    /// The regions of a volume of `shape` `[D, H, W]`.
    ///
    /// # Errors
    /// A zero in the grid, or more parts than an axis has voxels.
    pub fn regions(&self, shape: [usize; 3]) -> Result<Regions, LossError> {
        let mut bounds: [Vec<usize>; 3] = Default::default();
        for (axis, &length) in shape.iter().enumerate() {
            bounds[axis] = match *self {
                Self::Count(count) => cut_by_count(axis, length, count[axis])?,
                Self::Size(size) => cut_by_size(axis, length, size[axis])?,
            };
        }
        Ok(Regions { bounds })
    }
}

impl Default for RegionGrid {
    /// 16³ voxels, as in the public implementations of the loss.
    fn default() -> Self {
        Self::Size([16, 16, 16])
    }
}

fn cut_by_count(axis: usize, length: usize, count: usize) -> Result<Vec<usize>, LossError> {
    if count == 0 {
        return Err(LossError::ZeroRegion { axis });
    }
    if count > length {
        return Err(LossError::TooManyRegions {
            axis,
            length,
            count,
        });
    }
    Ok((0..=count).map(|i| i * length / count).collect())
}

fn cut_by_size(axis: usize, length: usize, size: usize) -> Result<Vec<usize>, LossError> {
    if size == 0 {
        return Err(LossError::ZeroRegion { axis });
    }
    Ok((0..=length.div_ceil(size))
        .map(|i| (i * size).min(length))
        .collect())
}

/// The regions of one volume: per axis, the voxel at which each interval starts, and the axis length last.
///
/// Region `k` of the grid `[d, h, w]` is numbered with the last axis fastest: `k = (d·n_h + h)·n_w + w`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Regions {
    bounds: [Vec<usize>; 3],
}

impl Regions {
    /// Regions per axis `[D, H, W]`.
    pub fn counts(&self) -> [usize; 3] {
        self.bounds.each_ref().map(|bounds| bounds.len() - 1)
    }

    /// Number of regions.
    pub fn len(&self) -> usize {
        self.counts().iter().product()
    }

    /// True for a volume without voxels only.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shape `[D, H, W]` of the volume that the regions cover.
    pub fn shape(&self) -> [usize; 3] {
        self.bounds
            .each_ref()
            .map(|bounds| *bounds.last().unwrap_or(&0))
    }

    /// The intervals of one axis (0 = D, 1 = H, 2 = W), in order.
    pub fn intervals(&self, axis: usize) -> impl ExactSizeIterator<Item = Range<usize>> + '_ {
        self.bounds[axis].windows(2).map(|pair| pair[0]..pair[1])
    }

    /// The same regions of the same anatomy on a coarser (or finer) grid of voxels, for deep supervision:
    /// every boundary moves in proportion, and a region that has become thinner than a voxel merges with its
    /// neighbour.
    pub fn rescaled(&self, shape: [usize; 3]) -> Regions {
        let mut axis = 0;
        let bounds = self.bounds.each_ref().map(|bounds| {
            let (new, old) = (shape[axis], *bounds.last().unwrap_or(&0));
            axis += 1;
            let mut scaled: Vec<usize> = bounds
                .iter()
                .map(|&b| {
                    if old == 0 {
                        0
                    } else {
                        (2 * b * new + old) / (2 * old)
                    }
                })
                .collect();
            scaled.dedup();
            scaled
        });
        Regions { bounds }
    }

    /// The common length of an axis's intervals, if they all have one.
    pub(crate) fn even_length(&self, axis: usize) -> Option<usize> {
        let mut lengths = self.intervals(axis).map(|interval| interval.len());
        let first = lengths.next()?;
        lengths.all(|length| length == first).then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_disjoint_cover(regions: &Regions, shape: [usize; 3]) {
        for (axis, &length) in shape.iter().enumerate() {
            let mut next = 0;
            for interval in regions.intervals(axis) {
                assert_eq!(
                    interval.start, next,
                    "gap or overlap on axis {axis} of {shape:?}"
                );
                assert!(
                    interval.end > interval.start,
                    "empty part on axis {axis} of {shape:?}"
                );
                next = interval.end;
            }
            assert_eq!(next, length);
        }
        assert_eq!(regions.shape(), shape);
    }

    #[test]
    fn any_size_is_covered_without_overlap() {
        for length in 1..=40 {
            let shape = [length, 41 - length, 7];
            for part in 1..=45 {
                let regions = RegionGrid::size([part, part, 3]).regions(shape).unwrap();
                assert_disjoint_cover(&regions, shape);
                assert_eq!(regions.counts()[0], length.div_ceil(part));

                let count = [part.min(length), part.min(41 - length), part.min(7)];
                let regions = RegionGrid::count(count).regions(shape).unwrap();
                assert_disjoint_cover(&regions, shape);
                assert_eq!(regions.counts(), count);
                for coarse in 1..=length {
                    assert_disjoint_cover(&regions.rescaled([coarse, 3, 1]), [coarse, 3, 1]);
                }
            }
        }
    }

    #[test]
    fn short_part_comes_last_and_counts_spread() {
        let by_size = RegionGrid::size([16; 3]).regions([40, 16, 5]).unwrap();
        assert_eq!(
            by_size.intervals(0).collect::<Vec<_>>(),
            [0..16, 16..32, 32..40]
        );
        assert_eq!(by_size.counts(), [3, 1, 1]);
        let by_count = RegionGrid::count([3, 1, 2]).regions([10, 4, 5]).unwrap();
        assert_eq!(
            by_count.intervals(0).collect::<Vec<_>>(),
            [0..3, 3..6, 6..10]
        );
        assert_eq!(by_count.intervals(2).collect::<Vec<_>>(), [0..2, 2..5]);
    }

    #[test]
    fn coarse_scale_keeps_the_anatomy() {
        let fine = RegionGrid::size([16; 3]).regions([40, 32, 16]).unwrap();
        let coarse = fine.rescaled([20, 16, 8]);
        assert_eq!(
            coarse.intervals(0).collect::<Vec<_>>(),
            [0..8, 8..16, 16..20]
        );
        // Sixteen regions on four voxels: clamped to one region per voxel.
        let fine = RegionGrid::count([16, 1, 1]).regions([64, 4, 4]).unwrap();
        assert_eq!(fine.rescaled([4, 1, 1]).counts(), [4, 1, 1]);
    }

    #[test]
    fn impossible_grids_say_so() {
        assert_eq!(
            RegionGrid::count([1, 9, 1]).regions([8, 8, 8]),
            Err(LossError::TooManyRegions {
                axis: 1,
                length: 8,
                count: 9
            })
        );
        assert_eq!(
            RegionGrid::size([4, 4, 0]).regions([8, 8, 8]),
            Err(LossError::ZeroRegion { axis: 2 })
        );
        assert_eq!(
            RegionGrid::count([0, 1, 1]).regions([8, 8, 8]),
            Err(LossError::ZeroRegion { axis: 0 })
        );
    }

    #[test]
    fn serialises_as_a_person_would_write_it() {
        let json = serde_json::to_string(&RegionGrid::size([16, 8, 4])).unwrap();
        assert_eq!(json, r#"{"size":[16,8,4]}"#);
        assert_eq!(
            serde_json::from_str::<RegionGrid>(&json).unwrap(),
            RegionGrid::size([16, 8, 4])
        );
    }
}
