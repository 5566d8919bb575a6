//! Elementary functions without branches or calls, so that loops over them vectorise, and without fused operations, so
//! that they give the same bits on every processor.

use std::f32::consts::{LN_2, LOG2_E, SQRT_2};

use pulp::Arch;

/// Adding this rounds to a whole number, which is then in the low bits.
const ROUND: f32 = 12_582_912.0;

/// Runs a loop with the widest vectors that this processor has.
#[inline(always)]
pub(super) fn vectorised<R>(run: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(run)
}

/// `2^x`, to 2 units in the last place; below 2^-126 it stays there.
#[inline(always)]
pub(super) fn exp2(x: f32) -> f32 {
    let x = x.clamp(-126.0, 127.0);
    let rounded = x + ROUND;
    let power = (rounded.to_bits().wrapping_sub(ROUND.to_bits())).wrapping_add(127) << 23;
    // The exponential series on [-½ ln 2, ½ ln 2].
    let y = (x - (rounded - ROUND)) * LN_2;
    let series = 1.0 + y * (1.0 + y * (1.0 / 2.0 + y * (1.0 / 6.0 + y * tail(y))));
    series * f32::from_bits(power)
}

/// The terms of the exponential series from the fourth power on, divided by it.
#[inline(always)]
fn tail(y: f32) -> f32 {
    1.0 / 24.0 + y * (1.0 / 120.0 + y * (1.0 / 720.0 + y * (1.0 / 5040.0)))
}

/// The logarithm to base 2 of a positive, normal number.
#[inline(always)]
pub(super) fn log2(x: f32) -> f32 {
    // x = 2^exponent · m with m from √½ to √2.
    let offset = x.to_bits().wrapping_sub((SQRT_2 / 2.0).to_bits());
    let exponent = (offset as i32) >> 23;
    let m = f32::from_bits(x.to_bits().wrapping_sub((exponent << 23) as u32));
    // ln m = 2 artanh s.
    let s = (m - 1.0) / (m + 1.0);
    let q = s * s;
    let series = s + s * q * (1.0 / 3.0 + q * (1.0 / 5.0 + q * (1.0 / 7.0 + q * (1.0 / 9.0))));
    exponent as f32 + series * (2.0 * LOG2_E)
}

/// `x^power` for x from 0 to 1 and a positive power.
#[inline(always)]
pub(super) fn unit_power(x: f32, power: f32) -> f32 {
    let raised = exp2(log2(x.max(f32::MIN_POSITIVE)) * power);
    if x < f32::MIN_POSITIVE { 0.0 } else { raised }
}

/// `e^x`.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    exp2(x * LOG2_E)
}

/// Sine and cosine of an angle from -π/4 to π/4.
#[inline(always)]
pub(super) fn small_sine_and_cosine(x: f32) -> (f32, f32) {
    let q = x * x;
    let sine = x - x * q * (1.0 / 6.0 - q * (1.0 / 120.0 - q * (1.0 / 5040.0)));
    let cosine = 1.0 - q * (1.0 / 2.0 - q * (1.0 / 24.0 - q * (1.0 / 720.0 - q * (1.0 / 40320.0))));
    (sine, cosine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_those_of_double_precision() {
        for power in [0.5f32, 0.7, 0.99, 1.0, 1.3, 1.5, 3.0] {
            for step in 1..=100_000 {
                let x = step as f32 / 100_000.0;
                let exact = f64::from(x).powf(f64::from(power));
                let error = (f64::from(unit_power(x, power)) - exact).abs() / exact;
                assert!(error < 4e-6, "{x}^{power}: {error:e}");
                // Where values are large, and that is where they count, to about an eighth of 1e-6.
                let error = (f64::from(unit_power(x, power)) - exact).abs();
                assert!(error < 2.5e-7, "{x}^{power}: {error:e}");
            }
        }
        assert_eq!(unit_power(0.0, 0.7), 0.0);
        assert_eq!(unit_power(1.0, 0.7), 1.0);
        assert_eq!(unit_power(-1e-9, 0.7), 0.0);
    }

    #[test]
    fn exponentials_and_logarithms() {
        for step in -1000..=1000 {
            let x = step as f32 / 17.0;
            let error = f64::from(exp2(x)) / f64::from(x).exp2() - 1.0;
            assert!(error.abs() < 2.4e-7, "2^{x}: {error:e}");
            let error = log2(exp2(x)) - x;
            assert!(error.abs() < 1e-6 * x.abs().max(1.0), "{x}: {error:e}");
        }
        assert!((exp(1.0) - std::f32::consts::E).abs() < 1e-6);
        assert_eq!(exp2(-1e9), f32::MIN_POSITIVE);
    }

    #[test]
    fn wide_vectors_give_the_same_bits() {
        let values: Vec<f32> = (0..10_007u16).map(|i| f32::from(i) / 10_007.0).collect();
        let (mut narrow, mut wide) = (values.clone(), values);
        for value in std::hint::black_box(&mut narrow).iter_mut() {
            *value = unit_power(*value, 1.37) + exp(*value);
        }
        vectorised(
            #[inline(always)]
            || {
                for value in &mut wide {
                    *value = unit_power(*value, 1.37) + exp(*value);
                }
            },
        );
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&narrow), bits(&wide));
    }

    #[test]
    fn sine_and_cosine_of_an_eighth_of_a_turn() {
        for step in -100..=100 {
            let x = step as f32 / 100.0 * std::f32::consts::FRAC_PI_4;
            let (sine, cosine) = small_sine_and_cosine(x);
            assert!(
                (sine - x.sin()).abs() < 4e-7 && (cosine - x.cos()).abs() < 2e-7,
                "{x}"
            );
        }
    }
}
