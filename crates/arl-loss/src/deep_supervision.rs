use crate::region_statistics::check_shapes;
use crate::{Logits, Loss, LossConfig, LossError, RegionStatistics, Target};
use burn::prelude::*;

/// One loss on several outputs of a network, finest first.
///
/// Output `i` weighs `1/2^i`, except that the coarsest of several weighs 0, and the weights are normalised, as
/// in nnU-Net. The labels are brought to each scale by nearest neighbour, and a region covers the same anatomy
/// at each scale.
#[derive(Debug, Clone, PartialEq)]
pub struct DeepSupervision {
    loss: Loss,
    weights: Option<Vec<f64>>,
}

impl DeepSupervision {
    /// The loss with these options, on every output.
    pub fn new(loss: &LossConfig) -> Self {
        Self {
            loss: loss.init(),
            weights: None,
        }
    }

    /// The same with these weights, finest output first, used as they are given. An output of weight 0 is
    /// not computed.
    pub fn with_weights(mut self, weights: Vec<f64>) -> Self {
        self.weights = Some(weights);
        self
    }

    /// The loss on one output.
    pub fn loss(&self) -> &Loss {
        &self.loss
    }

    /// Weighted loss of `outputs` (each `[N, C, d, h, w]`, or `[N, C, h, w]`, finest first) against class indices
    /// `[N, D, H, W]` or shares `[N, C, D, H, W]`; see [`Target`].
    ///
    /// # Panics
    /// Where [`try_forward`](Self::try_forward) returns an error.
    pub fn forward<L: Into<Logits>>(
        &self,
        outputs: Vec<L>,
        target: impl Into<Target>,
    ) -> Tensor<1> {
        self.try_forward(outputs, target)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`forward`](Self::forward), with wrong input as an error.
    ///
    /// # Errors
    /// No output, a first output of another size than the target, a wrong number of weights, or what the loss itself
    /// refuses.
    pub fn try_forward<L: Into<Logits>>(
        &self,
        outputs: Vec<L>,
        target: impl Into<Target>,
    ) -> Result<Tensor<1>, LossError> {
        Ok(self.weighted(outputs, target.into())?.0)
    }

    /// As [`try_forward`](Self::try_forward), with the statistics of the finest output that has a weight, over the
    /// regions of the loss's first pass (the finest that its terms need): what a training can show without another pass.
    /// They carry a gradient.
    ///
    /// # Errors
    /// As [`try_forward`](Self::try_forward), and where no term is computed from statistics.
    pub fn try_forward_with_statistics<L: Into<Logits>>(
        &self,
        outputs: Vec<L>,
        target: impl Into<Target>,
    ) -> Result<(Tensor<1>, RegionStatistics), LossError> {
        let (loss, statistics) = self.weighted(outputs, target.into())?;
        Ok((
            loss,
            statistics.ok_or(LossError::Unsupported {
                loss: "a forward pass with statistics",
                needs: "a term that is computed from region statistics",
            })?,
        ))
    }

    fn weighted<L: Into<Logits>>(
        &self,
        outputs: Vec<L>,
        target: Target,
    ) -> Result<(Tensor<1>, Option<RegionStatistics>), LossError> {
        if outputs.is_empty() {
            return Err(LossError::NoOutputs);
        }
        let weights = match &self.weights {
            Some(weights) => weights.clone(),
            None => scale_weights(outputs.len()),
        };
        let wrong_weights = LossError::ScaleWeights {
            given: weights.len(),
            outputs: outputs.len(),
        };
        if weights.len() != outputs.len() {
            return Err(wrong_weights);
        }
        let full = target.volume();
        let outputs: Vec<Logits> = outputs.into_iter().map(Into::into).collect();
        // Coarser outputs take the labels at their own scale; the first must be of the labels' own.
        check_shapes(&outputs[0].0, &target)?;
        let mut found: Option<(Tensor<1>, Option<RegionStatistics>)> = None;
        for (output, weight) in outputs.into_iter().zip(weights) {
            if weight == 0.0 {
                continue;
            }
            let [_, _, d, h, w] = output.0.dims();
            let scaled = target.clone().nearest([d, h, w]);
            let (term, statistics) = self.loss.forward_scaled(output, scaled, full)?;
            let term = term * weight;
            found = Some(match found {
                Some((total, finest)) => (total + term, finest),
                None => (term, statistics),
            });
        }
        found.ok_or(wrong_weights)
    }
}

/// `1/2^i`, the last of several 0, with sum 1.
fn scale_weights(outputs: usize) -> Vec<f64> {
    let mut weights: Vec<f64> = (0..outputs).map(|i| 0.5f64.powi(i as i32)).collect();
    if outputs > 1 {
        weights[outputs - 1] = 0.0;
    }
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_halve_and_the_coarsest_counts_for_nothing() {
        assert_eq!(scale_weights(1), [1.0]);
        let expected = [8.0 / 15.0, 4.0 / 15.0, 2.0 / 15.0, 1.0 / 15.0, 0.0];
        for (weight, expected) in scale_weights(5).into_iter().zip(expected) {
            assert!((weight - expected).abs() < 1e-12);
        }
        assert_eq!(scale_weights(2), [1.0, 0.0]);
    }
}
