//! Class weights, which all losses take in the same form.

use crate::LossError;
use burn::prelude::*;
use burn::tensor::{DType, TensorData};

/// That there is one weight per class, none below 0, and something to score.
pub(crate) fn check_class_weights(
    weights: Option<&[f32]>,
    classes: usize,
    include_background: bool,
) -> Result<(), LossError> {
    if classes == 1 && !include_background {
        return Err(LossError::OnlyBackground);
    }
    if let Some(&weight) = weights
        .into_iter()
        .flatten()
        .find(|weight| !(weight.is_finite() && **weight >= 0.0))
    {
        return Err(LossError::Option {
            name: "class_weights",
            value: weight.into(),
            range: "finite and 0 or more",
        });
    }
    match weights {
        Some(weights) if weights.len() != classes => Err(LossError::ClassWeights {
            given: weights.len(),
            classes,
        }),
        _ => Ok(()),
    }
}

/// The weights as `[1, C, 1]`, on the device and in the type of `like`.
pub(crate) fn class_weight_tensor(weights: &[f32], like: &Tensor<3>) -> Tensor<3> {
    let data = TensorData::new(weights.to_vec(), [1, weights.len(), 1]);
    Tensor::<3>::from_data(data, (&like.device(), DType::F32)).cast(like.dtype())
}
