use std::fmt;
use std::str::FromStr;

use burn::tensor::{DType, FloatDType, Tensor};
use serde::{Deserialize, Serialize};

use crate::{ModelError, SegmentationModel};

/// The numbers that a network computes with. Weights are f32 in either case, and so are normalisations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// Feature maps and convolutions in bfloat16, of 16 bits: the range of f32 with 8 bits of precision, half the memory, and on
    /// many GPUs several times the speed. Each convolution takes a bf16 copy of its f32 weights, and gradients go back to
    /// those; normalisations take their statistics in f32, and logits come out in f32.
    Bf16,
}

impl Precision {
    /// [`SegmentationModel::forward`] of f32 images, with f32 logits.
    pub fn forward(self, network: &impl SegmentationModel, images: Tensor<5>) -> Vec<Tensor<5>> {
        let logits = network.forward(self.of(images));
        logits.into_iter().map(single).collect()
    }

    /// [`SegmentationModel::predict`] of f32 images, with f32 logits.
    pub fn predict(self, network: &impl SegmentationModel, images: Tensor<5>) -> Tensor<5> {
        single(network.predict(self.of(images)))
    }

    fn of(self, images: Tensor<5>) -> Tensor<5> {
        match self {
            Self::F32 => images,
            Self::Bf16 => images.cast(FloatDType::BF16),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

impl FromStr for Precision {
    type Err = ModelError;

    /// Reads `f32` or `bf16`.
    fn from_str(text: &str) -> Result<Self, ModelError> {
        match text {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(ModelError::Unknown {
                what: "precision",
                text: text.into(),
                known: "f32 and bf16",
            }),
        }
    }
}

/// A parameter in the numbers of the features that it meets.
pub(crate) fn like<const D: usize>(parameter: Tensor<D>, features: &Tensor<5>) -> Tensor<D> {
    convert(parameter, features.dtype())
}

/// In f32, whatever it was, but for f64.
pub(crate) fn single<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    match tensor.dtype() {
        DType::F64 => tensor,
        _ => convert(tensor, DType::F32),
    }
}

/// In these numbers; the tensor itself if it has them.
pub(crate) fn convert<const D: usize>(tensor: Tensor<D>, dtype: DType) -> Tensor<D> {
    match tensor.dtype() == dtype {
        true => tensor,
        false => tensor.cast(FloatDType::from(dtype)),
    }
}
