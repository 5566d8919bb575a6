//! The random order that NumPy's `RandomState` gives, so that folds are the ones nnU-Net's users have.
//!
//! Generator: Matsumoto and Nishimura, "Mersenne Twister", ACM TOMACS 8(1), 1998. Seeding and shuffling: NumPy's
//! `random/src/mt19937` and `random/mtrand.pyx`, which NumPy has promised not to change (NEP 19).

const WORDS: usize = 624;
const SHIFT: usize = 397;

/// The 32-bit Mersenne Twister.
struct MersenneTwister {
    state: [u32; WORDS],
    next: usize,
}

impl MersenneTwister {
    fn new(seed: u32) -> Self {
        let mut state = [seed; WORDS];
        for i in 1..WORDS {
            let before = state[i - 1];
            state[i] = (before ^ (before >> 30))
                .wrapping_mul(1_812_433_253)
                .wrapping_add(i as u32);
        }
        Self { state, next: WORDS }
    }

    fn twist(&mut self) {
        for i in 0..WORDS {
            let high = self.state[i] & 0x8000_0000;
            let low = self.state[(i + 1) % WORDS] & 0x7fff_ffff;
            let mixed = high | low;
            let odd = if mixed & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + SHIFT) % WORDS] ^ (mixed >> 1) ^ odd;
        }
        self.next = 0;
    }

    fn next(&mut self) -> u32 {
        if self.next == WORDS {
            self.twist();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// A number from 0 to `largest`, by drawing as many bits as it has until they make one that is small enough.
    fn up_to(&mut self, largest: u32) -> u32 {
        let mask = u32::MAX.checked_shr(largest.leading_zeros()).unwrap_or(0);
        loop {
            let value = self.next() & mask;
            if value <= largest {
                return value;
            }
        }
    }
}

/// `numpy.random.RandomState(seed).permutation(count)`: the numbers below `count` in random order.
pub(super) fn permutation(seed: u32, count: u32) -> Vec<usize> {
    let mut random = MersenneTwister::new(seed);
    let mut order: Vec<usize> = (0..count as usize).collect();
    for last in (1..count).rev() {
        order.swap(last as usize, random.up_to(last) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    // All expected values are NumPy 2.4.6's.

    #[test]
    fn words_are_those_of_the_reference() {
        let mut random = MersenneTwister::new(12345);
        let words: Vec<u32> = (0..3).map(|_| random.next()).collect();
        assert_eq!(words, [3_992_670_690, 3_823_185_381, 1_358_822_685]);
        let mut random = MersenneTwister::new(5489);
        let last = (0..10_000).map(|_| random.next()).last();
        assert_eq!(last, Some(4_123_659_995));
    }

    #[test]
    fn permutations_are_numpys() {
        assert_eq!(permutation(12345, 10), [0, 7, 3, 9, 6, 4, 1, 8, 5, 2]);
        let twenty = [
            13, 8, 16, 3, 15, 12, 0, 10, 7, 11, 6, 17, 19, 18, 14, 9, 4, 1, 5, 2,
        ];
        assert_eq!(permutation(12345, 20), twenty);
        assert_eq!(
            permutation(12345, 300)[..8],
            [183, 33, 168, 151, 10, 239, 130, 299]
        );
        assert_eq!(permutation(12350, 10)[..8], [0, 8, 4, 5, 3, 9, 7, 6]);
        assert!(permutation(1, 0).is_empty());
        assert_eq!(permutation(1, 1), [0]);
    }
}
