//! What the kernels have matrix units do.

use cubecl::cmma::{self, Matrix, MatrixIdent, MatrixLayout};
use cubecl::prelude::*;

/// So many sums of `edge` by `edge`, all zero.
#[cube]
pub fn sums(
    #[comptime] count: u32,
    #[comptime] edge: u32,
    #[comptime] depth: u32,
) -> Sequence<Matrix<f32>> {
    let mut sums = Sequence::<Matrix<f32>>::new();
    #[unroll]
    for _ in 0..count {
        sums.push(Matrix::<f32>::from_value(
            MatrixIdent::Accumulator,
            comptime!(edge as usize),
            comptime!(edge as usize),
            comptime!(depth as usize),
            MatrixLayout::Undefined,
            0.0f32,
        ));
    }
    sums
}

/// A factor of a product, of whose rows (columns, if `layout` says so) each is `pitch` elements after the one before.
#[cube]
pub fn factor<E: Float, S: Size>(
    shared: &Shared<[Vector<E, S>]>,
    at: usize,
    pitch: u32,
    #[comptime] side: MatrixIdent,
    #[comptime] layout: MatrixLayout,
    #[comptime] edge: u32,
    #[comptime] depth: u32,
) -> Matrix<E> {
    let mut matrix = unsafe {
        Matrix::<E>::uninitialized(
            side,
            comptime!(edge as usize),
            comptime!(edge as usize),
            comptime!(depth as usize),
            layout,
        )
    };
    cmma::load(&mut matrix, &shared[at..], pitch);
    matrix
}
