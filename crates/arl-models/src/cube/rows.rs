//! Sums over the voxels of each channel, where the channels of a voxel lie side by side.
//!
//! Channels are read in vectors of `S`. A *lane* is such a vector: `lanes` are `C / S`. Sums have two stages and no atomics, so
//! they repeat bit for bit: a cube sums a slice of the voxels, and a few cubes sum the slices.

use cubecl::prelude::*;

/// How features `[N, voxels, C]` are cut: the voxels of each image into slices, none of which is empty.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub struct Slices {
    pub images: u32,
    pub voxels: u32,
    pub lanes: u32,
    /// Slices of an image.
    pub per_image: u32,
    /// Voxels of each slice but the last.
    pub length: u32,
}

#[cube]
impl Slices {
    /// Voxels of the slice of this number in its image.
    pub fn voxels_of(&self, slice: u32) -> u32 {
        let first = slice * self.length;
        min(first + self.length, self.voxels) - first
    }

    /// The first voxel, among those of all images, of the slice of this number among those of all images.
    pub fn first_of(&self, slice: u32) -> u32 {
        slice / self.per_image * self.voxels + slice % self.per_image * self.length
    }
}

/// The work of one unit among those of a cube: some have the same lane, and share its rows (voxels or slices).
#[derive(CubeType)]
pub(crate) struct Share {
    /// Lanes that the cube works on at a time.
    pub width: u32,
    /// Units with the same lane.
    pub rows: u32,
    pub row: u32,
    pub lane: u32,
}

#[cube]
pub(crate) fn share(lanes: u32, #[comptime] units: u32, #[comptime] most: u32) -> Share {
    let width = min(lanes, most);
    Share {
        width,
        rows: units / width,
        row: UNIT_POS_X / width,
        lane: UNIT_POS_X % width,
    }
}

/// How many of `count` rows a unit takes.
#[cube]
pub(crate) fn rows_of(row: u32, rows: u32, count: u32) -> u32 {
    if row < min(rows, count) {
        (count - row).div_ceil(rows)
    } else {
        0u32.runtime()
    }
}

/// Adds up what the units of a lane have, for the unit of its first row. All units have to come here.
#[cube]
pub(crate) fn add_rows<S: Size>(
    mine: Vector<f32, S>,
    share: &Share,
    shared: &mut Shared<[Vector<f32, S>]>,
) -> Vector<f32, S> {
    // Nobody overwrites what others still read.
    sync_cube();
    shared[UNIT_POS_X as usize] = mine;
    sync_cube();
    let mut total = mine;
    if share.row == 0 {
        for row in 1..share.rows {
            total += shared[(row * share.width + share.lane) as usize];
        }
    }
    total
}

/// Lanes that a cube which merges slices works on: few, so that many units share the slices of each.
pub const MERGED_LANES: u32 = 4;

/// Adds up runs of `run` numbers of the same lane, `[groups, run, C]` from `start` on to `[groups, C]`; a cube for every
/// `MERGED_LANES` lanes of a group.
#[cube(launch)]
pub fn add_runs<S: Size>(
    parts: &Tensor<Vector<f32, S>>,
    out: &mut Tensor<Vector<f32, S>>,
    start: u32,
    groups: u32,
    run: u32,
    lanes: u32,
    #[comptime] units: u32,
) {
    let mut shared = Shared::<[Vector<f32, S>]>::new_slice(comptime!(units as usize));
    let cube = CUBE_POS as u32;
    let share = share(lanes, units, MERGED_LANES);
    let chunks = lanes.div_ceil(share.width);
    if cube < groups * chunks {
        let group = cube / chunks;
        let lane = cube % chunks * share.width + share.lane;
        let mut sum = Vector::<f32, S>::new(0.0f32);
        if lane < lanes {
            for row in 0..rows_of(share.row, share.rows, run) {
                let part = group * run + share.row + row * share.rows;
                sum += parts[(start + part * lanes + lane) as usize];
            }
        }
        let sum = add_rows::<S>(sum, &share, &mut shared);
        if share.row == 0 && lane < lanes {
            out[(group * lanes + lane) as usize] = sum;
        }
    }
}

/// Sums over each slice of voxels, `[N, voxels, C]` to `[N, slices, C]`.
#[cube(launch)]
pub fn slice_sums<F: Float, S: Size>(
    x: &Tensor<Vector<F, S>>,
    out: &mut Tensor<Vector<f32, S>>,
    slices: Slices,
    #[comptime] units: u32,
    #[define(F)] _dtype: ElemType,
) {
    let cube = CUBE_POS as u32;
    let mut shared = Shared::<[Vector<f32, S>]>::new_slice(comptime!(units as usize));
    if cube < slices.images * slices.per_image {
        let lanes = slices.lanes;
        let share = share(lanes, units, units);
        let first = slices.first_of(cube);
        let count = slices.voxels_of(cube % slices.per_image);
        for chunk in 0..lanes.div_ceil(share.width) {
            let lane = chunk * share.width + share.lane;
            let mut sum = Vector::<f32, S>::new(0.0f32);
            if lane < lanes {
                let start = (first + share.row) * lanes + lane;
                let step = share.rows * lanes;
                for row in 0..rows_of(share.row, share.rows, count) {
                    sum += Vector::<f32, S>::cast_from(x[(start + row * step) as usize]);
                }
            }
            let sum = add_rows::<S>(sum, &share, &mut shared);
            if share.row == 0 && lane < lanes {
                out[(cube * lanes + lane) as usize] = sum;
            }
        }
    }
}
