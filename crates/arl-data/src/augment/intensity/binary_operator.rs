//! Dilation, erosion, opening and closing of masks.

use ndarray::{Array3, Array4, Axis, Zip};
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::masks::{self, drawn};
use crate::augment::draw::uniform;
use crate::augment::error::{AugmentError, Check};
use crate::distance_transform::squared_distances;

/// Grows or shrinks masks among the channels by a ball: the labels of a coarser network that is refined, one channel per
/// class, so that the finer one does not trust their borders (nnU-Net's cascade, `ApplyRandomBinaryOperatorTransform`).
///
/// The ball's radius is in voxels. Where one class grows, the others give way.
///
/// ```
/// use arl_data::augment::BinaryOperator;
/// use ndarray::Array4;
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let mut masks = Array4::zeros((2, 9, 9, 9));
/// masks[[1, 4, 4, 4]] = 1.0;
/// let operator = BinaryOperator {
///     probability: 1.0,
///     channels: vec![1],
///     probability_per_channel: 1.0,
///     ..BinaryOperator::default()
/// };
/// operator.apply(&mut masks, &mut StdRng::seed_from_u64(1));
/// assert_ne!(masks.sum(), 1.0, "grown or gone");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BinaryOperator {
    /// How often a patch is changed.
    pub probability: f64,
    /// The channels that are masks: 0 and other values.
    pub channels: Vec<usize>,
    /// How often each of them is changed in a patch that is.
    pub probability_per_channel: f64,
    /// Range of the ball's radius in voxels.
    pub radius: (f32, f32),
}

impl Default for BinaryOperator {
    /// nnU-Net's values, for no channel.
    fn default() -> Self {
        BinaryOperator {
            probability: 0.4,
            channels: Vec::new(),
            probability_per_channel: 0.5,
            radius: (1.0, 8.0),
        }
    }
}

impl BinaryOperator {
    /// Changes `image` `[C, D, H, W]` in place.
    ///
    /// # Panics
    /// If the image has fewer channels than are named.
    pub fn apply(&self, image: &mut Array4<f32>, rng: &mut impl Rng) {
        for channel in drawn(&self.channels, self.probabilities(), rng) {
            let operation = Operation::ALL[rng.random_range(0..Operation::ALL.len())];
            let radius = uniform(self.radius, rng);
            let before = image.index_axis(Axis(0), channel).mapv(|v| v != 0.0);
            let after = operation.of(&before, radius);
            for &other in self.channels.iter().filter(|&&other| other != channel) {
                let values = image.index_axis_mut(Axis(0), other);
                Zip::from(values)
                    .and(&before)
                    .and(&after)
                    .for_each(|value, &before, &after| {
                        if after && !before {
                            *value = 0.0;
                        }
                    });
            }
            let values = image.index_axis_mut(Axis(0), channel);
            Zip::from(values)
                .and(&after)
                .for_each(|value, &after| *value = f32::from(u8::from(after)));
        }
    }

    fn probabilities(&self) -> [f64; 2] {
        [self.probability, self.probability_per_channel]
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// The first that is out of its bounds.
    pub fn validate(&self) -> Result<(), AugmentError> {
        let check = Check("binary_operator");
        masks::validate(&check, self.probabilities())?;
        check.range("radius", self.radius, (0.0, 1000.0))
    }
}

/// What is done to a mask.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Operation {
    Dilation,
    Erosion,
    Closing,
    Opening,
}

impl Operation {
    const ALL: [Self; 4] = [Self::Dilation, Self::Erosion, Self::Closing, Self::Opening];

    /// With a ball of this radius in voxels.
    fn of(self, mask: &Array3<bool>, radius: f32) -> Array3<bool> {
        match self {
            Self::Dilation => dilate(mask, radius),
            Self::Erosion => erode(mask, radius),
            Self::Closing => erode(&dilate(mask, radius), radius),
            Self::Opening => dilate(&erode(mask, radius), radius),
        }
    }
}

/// The voxels within the radius of the mask.
fn dilate(mask: &Array3<bool>, radius: f32) -> Array3<bool> {
    let reach = f64::from(radius).powi(2);
    squared_distances(mask.view(), [1.0; 3]).mapv(|squared| squared <= reach)
}

/// The voxels with nothing but the mask within the radius; beyond the patch it goes on.
fn erode(mask: &Array3<bool>, radius: f32) -> Array3<bool> {
    dilate(&mask.mapv(|inside| !inside), radius).mapv(|outside| !outside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Reference {
        operation: String,
        radius: f32,
        voxels: usize,
        weighted: u64,
    }

    /// What `ApplyRandomBinaryOperatorTransform`'s operators make of a mask (`references/binary_operator.py`).
    #[test]
    fn operators_are_batchgenerators() {
        let mask = Array3::from_shape_fn((17, 18, 19), |(d, h, w)| {
            let ball = (d as i32 - 6).pow(2) + (h as i32 - 8).pow(2) + (w as i32 - 9).pow(2) < 30;
            let slab = d > 12 && h > 3 && w < 15;
            (ball || slab) && (d * 7 + h * 3 + w) % 11 > 0
        });
        let text = include_str!("../../../tests/references/binary_operator.json");
        let references: Vec<Reference> = serde_json::from_str(text).unwrap();
        assert_eq!(references.len(), 4 * 4);
        for reference in references {
            let operation = match reference.operation.as_str() {
                "dilation" => Operation::Dilation,
                "erosion" => Operation::Erosion,
                "closing" => Operation::Closing,
                "opening" => Operation::Opening,
                other => panic!("{other}"),
            };
            let found = operation.of(&mask, reference.radius);
            let (mut voxels, mut weighted) = (0, 0);
            for (index, _) in found.iter().enumerate().filter(|(_, inside)| **inside) {
                voxels += 1;
                weighted += index as u64 % 9973;
            }
            let expected = (reference.voxels, reference.weighted);
            assert_eq!(
                (voxels, weighted),
                expected,
                "{operation:?} {}",
                reference.radius
            );
        }
    }

    #[test]
    fn a_class_that_grows_takes_from_the_others() {
        use rand::{SeedableRng, rngs::StdRng};
        let operator = BinaryOperator {
            probability: 1.0,
            channels: vec![0, 2],
            probability_per_channel: 0.5,
            radius: (1.0, 3.0),
        };
        let mut rng = StdRng::seed_from_u64(3);
        let (mut changed, mut overlaps) = (0, 0);
        for _ in 0..40 {
            let mut image = Array4::zeros((3, 8, 8, 8));
            image.slice_mut(ndarray::s![0, ..4, .., ..]).fill(1.0);
            image.slice_mut(ndarray::s![2, 4.., .., ..]).fill(1.0);
            image.index_axis_mut(Axis(0), 1).fill(0.5);
            let before = image.clone();
            operator.apply(&mut image, &mut rng);
            assert_eq!(image.index_axis(Axis(0), 1), before.index_axis(Axis(0), 1));
            changed += usize::from(image != before);
            let both = Zip::from(image.index_axis(Axis(0), 0))
                .and(image.index_axis(Axis(0), 2))
                .fold(0, |sum, &a, &b| sum + usize::from(a > 0.0 && b > 0.0));
            overlaps += both;
        }
        assert!(changed > 10, "{changed} of 40 changed");
        assert_eq!(overlaps, 0);
    }
}
