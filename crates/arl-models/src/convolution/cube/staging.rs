//! How units bring what their cube needs from global into shared memory: several loads each, then several stores. A load takes
//! hundreds of cycles; with a branch or a store between two of them each would wait for the one before.

use cubecl::prelude::*;

/// Loads of a unit that are under way together, each a register or four.
pub const BATCH: u32 = 8;

/// How many of so many loads a batch has.
pub const fn batched(loads: u32) -> u32 {
    if loads < BATCH { loads } else { BATCH }
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

/// Zeros for the channels of a tile that nothing is brought for: of its `channels` only the first `brought` are. Nothing
/// overwrites them later.
#[cube]
pub fn clear<E: Float, S: Size>(
    near: &mut Shared<[Vector<E, S>]>,
    #[comptime] voxels: u32,
    #[comptime] brought: u32,
    #[comptime] channels: u32,
    #[comptime] pitch: u32,
    #[comptime] vector: u32,
    #[comptime] units: u32,
) {
    let first = comptime!(brought.div_ceil(vector));
    let lanes = comptime!(channels.div_ceil(vector) - first);
    if comptime!(lanes > 0) {
        let mut index = UNIT_POS;
        while index < comptime!(voxels * lanes) {
            let to = index / lanes * comptime!(pitch / vector) + first + index % lanes;
            near[to as usize] = Vector::<E, S>::new(E::from_int(0));
            index += units;
        }
    }
}
