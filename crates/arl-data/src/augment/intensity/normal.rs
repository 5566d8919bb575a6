//! Normally distributed numbers, many at a time.

use rand::Rng;

use crate::augment::math::{log2, small_sine_and_cosine, vectorised};

/// Generators side by side, as many as fill the widest vector.
const LANES: usize = 16;

/// Sixteen xoshiro128++ generators (Blackman and Vigna 2021) in step, whose pairs of numbers become pairs of normal
/// ones by the transform of Box and Muller (1958).
pub(super) struct Normals {
    state: [[u32; LANES]; 4],
}

impl Normals {
    /// Seeds every lane on its own.
    pub fn new(rng: &mut impl Rng) -> Self {
        let mut state = [[0; LANES]; 4];
        for word in state.as_flattened_mut() {
            *word = rng.next_u32();
        }
        // The one state from which a generator doesn't move.
        for lane in 0..LANES {
            state[0][lane] |= u32::from(state.iter().all(|words| words[lane] == 0));
        }
        Normals { state }
    }

    /// Adds `deviation` times a standard normal number to each value.
    pub fn add_to(&mut self, values: &mut [f32], deviation: f32) {
        vectorised(
            #[inline(always)]
            || {
                let (blocks, rest) = values.as_chunks_mut::<{ 2 * LANES }>();
                for block in blocks {
                    let [first, second] = self.pairs();
                    for lane in 0..LANES {
                        block[lane] += deviation * first[lane];
                        block[LANES + lane] += deviation * second[lane];
                    }
                }
                let last = self.pairs();
                for (value, normal) in rest.iter_mut().zip(last.as_flattened()) {
                    *value += deviation * normal;
                }
            },
        );
    }

    #[inline(always)]
    fn pairs(&mut self) -> [[f32; LANES]; 2] {
        let (sizes, angles) = (self.next(), self.next());
        let mut pairs = [[0.0; LANES]; 2];
        for lane in 0..LANES {
            // From 2^-24 to 1 in steps of 2^-24: at most 5.77 standard deviations.
            let unit = ((sizes[lane] >> 8) as i32 as f32 + 1.0) * (1.0 / 16_777_216.0);
            let square = -2.0 * std::f32::consts::LN_2 * log2(unit);
            let size = if square > 0.0 { square } else { 0.0 }.sqrt();
            // An angle within an eighth of a turn from the bits above the lowest two, which choose the quarter.
            let turn = (angles[lane] >> 8) as i32 as f32 * (1.0 / 16_777_216.0) - 0.5;
            let (sine, cosine) = small_sine_and_cosine(turn * std::f32::consts::FRAC_PI_2);
            let swap = angles[lane] & 1 == 0;
            let sign = (angles[lane] & 2) << 30;
            let (x, y) = if swap { (sine, cosine) } else { (cosine, sine) };
            pairs[0][lane] = size * f32::from_bits(x.to_bits() ^ sign);
            pairs[1][lane] = size * f32::from_bits(y.to_bits() ^ sign);
        }
        pairs
    }

    #[inline(always)]
    fn next(&mut self) -> [u32; LANES] {
        let [a, b, c, d] = &mut self.state;
        let mut result = [0; LANES];
        for lane in 0..LANES {
            result[lane] = (a[lane].wrapping_add(d[lane]).rotate_left(7)).wrapping_add(a[lane]);
            let shifted = b[lane] << 9;
            c[lane] ^= a[lane];
            d[lane] ^= b[lane];
            b[lane] ^= c[lane];
            a[lane] ^= d[lane];
            c[lane] ^= shifted;
            d[lane] = d[lane].rotate_left(11);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn normals(count: usize, seed: u64) -> Vec<f32> {
        let mut values = vec![0.0; count];
        Normals::new(&mut StdRng::seed_from_u64(seed)).add_to(&mut values, 1.0);
        values
    }

    /// The reference implementation's first numbers from the state 1, 2, 3, 4 (as `rand_xoshiro` tests it).
    #[test]
    fn the_generator_is_the_published_one() {
        let state = [1u32, 2, 3, 4].map(|word| [word; LANES]);
        let mut generator = Normals { state };
        let first: Vec<u32> = (0..6).map(|_| generator.next()[5]).collect();
        assert_eq!(
            first,
            [
                641,
                1_573_767,
                3_222_811_527,
                3_517_856_514,
                836_907_274,
                4_247_214_768
            ]
        );
    }

    #[test]
    fn moments_and_tails_are_those_of_a_normal_distribution() {
        let values = normals(1_000_003, 1);
        let moment = |power: i32| {
            values
                .iter()
                .map(|&v| f64::from(v).powi(power))
                .sum::<f64>()
                / values.len() as f64
        };
        // Within five standard errors.
        assert!(moment(1).abs() < 5e-3, "{}", moment(1));
        assert!((moment(2) - 1.0).abs() < 7.1e-3, "{}", moment(2));
        assert!(moment(3).abs() < 2e-2, "{}", moment(3));
        assert!((moment(4) - 3.0).abs() < 5e-2, "{}", moment(4));
        // Shares beyond these deviations, from the error function.
        for (beyond, share) in [
            (0.5, 0.617_075),
            (1.0, 0.317_311),
            (2.0, 0.045_500),
            (3.0, 0.002_700),
        ] {
            let count = values.iter().filter(|v| v.abs() > beyond).count();
            let actual = count as f64 / values.len() as f64;
            let error = 5.0 * (share * (1.0 - share) / values.len() as f64).sqrt();
            assert!((actual - share).abs() < error, "{beyond}: {actual}");
        }
    }

    #[test]
    fn neighbours_and_lanes_are_independent() {
        let values = normals(400_000, 2);
        for lag in [1, 2, 15, 16, 17, 32, 128] {
            let products = values
                .iter()
                .zip(&values[lag..])
                .map(|(a, b)| f64::from(a * b));
            let correlation = products.sum::<f64>() / values.len() as f64;
            assert!(correlation.abs() < 8e-3, "{lag}: {correlation}");
            let squares = values
                .iter()
                .zip(&values[lag..])
                .map(|(a, b)| f64::from(a * a * b * b));
            let correlation = squares.sum::<f64>() / values.len() as f64 - 1.0;
            assert!(correlation.abs() < 4e-2, "{lag}: {correlation}");
        }
    }

    #[test]
    fn seeds_decide() {
        assert_eq!(normals(77, 3), normals(77, 3));
        assert_ne!(normals(77, 3), normals(77, 4));
    }
}
