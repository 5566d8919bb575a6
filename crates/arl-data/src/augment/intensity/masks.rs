//! Which of the channels that are masks a transform changes.

use rand::Rng;
use rand::seq::SliceRandom;

use crate::augment::draw::happens;
use crate::augment::error::{AugmentError, Check};

/// The channels to change in a patch, in the order to change them in: any, for one class may take from another.
pub(super) fn drawn(
    channels: &[usize],
    [probability, probability_per_channel]: [f64; 2],
    rng: &mut impl Rng,
) -> Vec<usize> {
    if !happens(probability, rng) {
        return Vec::new();
    }
    let mut order = channels.to_vec();
    order.shuffle(rng);
    order.retain(|_| happens(probability_per_channel, rng));
    order
}

/// Checks the probabilities.
pub(super) fn validate(
    check: &Check,
    [probability, probability_per_channel]: [f64; 2],
) -> Result<(), AugmentError> {
    check.probability("probability", probability)?;
    check.probability("probability_per_channel", probability_per_channel)
}
