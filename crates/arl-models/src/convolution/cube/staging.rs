//! How units bring what their cube needs from global into shared memory: several loads each, then several stores. A load takes
//! hundreds of cycles; with a branch or a store between two of them each would wait for the one before.

use cubecl::prelude::*;

/// Loads of a unit that are under way together, each a register or four.
pub const BATCH: u32 = 8;

/// How many of so many loads a batch has.
pub const fn batched(loads: u32) -> u32 {
    if loads < BATCH { loads } else { BATCH }
}

/// How a piece of features lies in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Room {
    pub rows: u32,
    pub columns: u32,
    /// Channels of a voxel.
    pub channels: u32,
    /// Those that are brought; fewer if the features have fewer, the others are zeros.
    pub brought: u32,
    /// From one voxel to the next, in channels.
    pub pitch: u32,
}

impl Room {
    /// Elements of shared memory.
    pub const fn elements(&self) -> u32 {
        self.rows * self.columns * self.pitch
    }
}

/// One slice of features `[N, D, H, W, C]`, with zeros around it.
#[derive(CubeType)]
pub struct Slice {
    /// Among the slices of all images.
    pub index: u32,
    pub height: u32,
    pub width: u32,
    pub channels: u32,
    /// Zeros above its first row and before its first column.
    pub padding_height: u32,
    pub padding_width: u32,
}

/// Where a piece of a slice begins; rows and columns are those of the zeros around it too.
#[derive(CubeType)]
pub struct Corner {
    pub row: u32,
    pub column: u32,
    pub channel: u32,
}

/// Brings a piece of a slice of `features` into shared memory; zeros beyond its borders. `units` have to come here.
#[cube]
pub fn bring<F: Float, E: Float, S: Size>(
    features: &Tensor<Vector<F, S>>,
    shared: &mut Shared<[Vector<E, S>]>,
    slice: &Slice,
    corner: &Corner,
    #[comptime] room: Room,
    #[comptime] units: u32,
) {
    let size = features.vector_size();
    let vector = comptime!(size as u32);
    let lanes = comptime!(room.brought.div_ceil(vector));
    let pitch = comptime!(room.pitch / vector);
    let count = comptime!(room.rows * room.columns * lanes);
    let steps = comptime!(count.div_ceil(units));
    for batch in 0..comptime!(steps.div_ceil(BATCH)) {
        let first = batch * comptime!(BATCH * units) + UNIT_POS;
        let mut values = Array::<Vector<F, S>>::new(comptime!(batched(steps) as usize));
        #[unroll]
        for step in 0..comptime!(batched(steps)) {
            let index = first + comptime!(step * units);
            let voxel = index / lanes;
            let row = corner.row + voxel / room.columns;
            let column = corner.column + voxel % room.columns;
            let channel = corner.channel + index % lanes * vector;
            let inside = index < count
                && row >= slice.padding_height
                && row < slice.height + slice.padding_height
                && column >= slice.padding_width
                && column < slice.width + slice.padding_width
                && channel < slice.channels;
            let at = slice.index * slice.height + row - slice.padding_height;
            let at = (at * slice.width + column - slice.padding_width) * slice.channels + channel;
            values[step as usize] = or_zero::<F, S>(features, at / vector, inside);
        }
        #[unroll]
        for step in 0..comptime!(batched(steps)) {
            let index = first + comptime!(step * units);
            if index < count {
                let to = index / lanes * pitch + index % lanes;
                shared[to as usize] = Vector::<E, S>::cast_from(values[step as usize]);
            }
        }
    }
}

/// The value at `at`, or zero. A unit that has nothing to bring reads the first value, rather than branching.
#[cube]
pub fn or_zero<F: Float, S: Size>(
    values: &Tensor<Vector<F, S>>,
    at: u32,
    inside: bool,
) -> Vector<F, S> {
    let value = values[select(inside, at, 0u32) as usize];
    select(inside, value, Vector::<F, S>::new(F::from_int(0)))
}

/// Zeros for the channels that nothing is brought for. Nothing overwrites them later. `units` have to come here.
#[cube]
pub fn clear<E: Float, S: Size>(
    shared: &mut Shared<[Vector<E, S>]>,
    #[comptime] room: Room,
    #[comptime] vector: usize,
    #[comptime] units: u32,
) {
    let vector = comptime!(vector as u32);
    let first = comptime!(room.brought.div_ceil(vector));
    let lanes = comptime!(room.channels.div_ceil(vector) - first);
    if comptime!(lanes > 0) {
        let mut index = UNIT_POS;
        while index < comptime!(room.rows * room.columns * lanes) {
            let to = index / lanes * comptime!(room.pitch / vector) + first + index % lanes;
            shared[to as usize] = Vector::<E, S>::new(E::from_int(0));
            index += units;
        }
    }
}
