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
