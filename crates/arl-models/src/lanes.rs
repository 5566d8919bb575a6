//! Sums over long rows in several lanes, which vectorise, in an order that depends on the row alone.

/// A multiple of the lanes of any vector.
const LANES: usize = 32;
/// Products summed in f32 before they join a sum in f64.
pub(crate) const RUN: usize = 64 * LANES;

/// `Σ f(index)` for the indices of a row of `length`, with `f` called in order within each lane.
#[inline(always)]
pub(crate) fn sum(length: usize, f: impl Fn(usize) -> f32) -> f64 {
    let mut total = 0.0;
    let mut start = 0;
    while start < length {
        let end = (start + RUN).min(length);
        let mut lanes = [0f32; LANES];
        let whole = start + (end - start) / LANES * LANES;
        for at in (start..whole).step_by(LANES) {
            for (lane, sum) in lanes.iter_mut().enumerate() {
                *sum += f(at + lane);
            }
        }
        for (lane, at) in (whole..end).enumerate() {
            lanes[lane] += f(at);
        }
        total += lanes.iter().map(|&sum| f64::from(sum)).sum::<f64>();
        start = end;
    }
    total
}
