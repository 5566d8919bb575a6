//! What the transforms draw from the generator that is passed in.

use rand::{Rng, RngExt};

/// Whether something of this probability happens.
pub(super) fn happens(probability: f64, rng: &mut impl Rng) -> bool {
    rng.random::<f64>() < probability
}

/// A number between the two, which may be equal.
pub(super) fn uniform((low, high): (f32, f32), rng: &mut impl Rng) -> f32 {
    low + (high - low) * rng.random::<f32>()
}

/// A factor from a range around 1: half of the time below 1 and half above, uniform on either side, so that a range that
/// reaches further up than down does not favour larger factors. A range on one side of 1 is uniform.
///
/// As nnU-Net's `BGContrast`.
pub(super) fn around_one((low, high): (f32, f32), rng: &mut impl Rng) -> f32 {
    let side = if low >= 1.0 || high <= 1.0 {
        (low, high)
    } else if happens(0.5, rng) {
        (low, 1.0)
    } else {
        (1.0, high)
    };
    uniform(side, rng)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn factors_lie_on_either_side_of_one_equally_often() {
        let mut rng = StdRng::seed_from_u64(0);
        let mut below = 0;
        for _ in 0..4000 {
            let factor = around_one((0.7, 1.5), &mut rng);
            assert!((0.7..1.5).contains(&factor));
            below += usize::from(factor < 1.0);
        }
        assert!((1900..2100).contains(&below), "{below}");
        assert_eq!(around_one((1.3, 1.3), &mut rng), 1.3);
        assert!((0.5..0.8).contains(&around_one((0.5, 0.8), &mut rng)));
        assert!(!happens(f64::NAN, &mut rng));
    }
}
