//! 3D segmentation networks for [Burn](https://burn.dev).
//!
//! A network is described by a configuration that can be stored as JSON, and used through one trait,
//! [`SegmentationModel`]: images `[N, C, D, H, W]` in, logits `[N, classes, D, H, W]` out, finest first.
//!
//! | network | as in |
//! |---|---|
//! | [`UNet`] | nnU-Net: plain, or with a residual encoder; kernels and strides per stage and axis, deep supervision |
//! | [`VNet`] | Milletari et al. 2016, the paper's or the published prototxt |
//! | [`CicekUNet`] | Çiçek et al. 2016, with padded or valid convolutions |
//!
//! What follows their convolutions (normalisation, activation, dropout) is each one's own unless a [`LayerConfig`] says
//! otherwise. [`Weights`] go from and to PyTorch. Parameter counts are the published ones, and logits and gradients are held to those of
//! the same networks in PyTorch, nnU-Net's and MONAI's among them (`tests/model_references.rs`).
//!
//! ```
//! use arl_models::{SegmentationModel, StageConfig, UNetConfig};
//! use burn::tensor::{Device, Tensor};
//!
//! // One channel, three classes, three resolutions. The images are thick-sliced: the first
//! // step down leaves the slices alone.
//! let config = UNetConfig::new(1, 3, vec![
//!     StageConfig::new(8, [1, 3, 3], [1, 1, 1]),
//!     StageConfig::new(16, [3, 3, 3], [1, 2, 2]),
//!     StageConfig::new(32, [3, 3, 3], [2, 2, 2]),
//! ]);
//! config.check_patch([8, 16, 16])?;
//!
//! let device = Device::flex();
//! let model = config.init_seeded(&device, 1)?;
//! let images = Tensor::<5>::zeros([1, 1, 8, 16, 16], &device);
//!
//! // For training: one set of logits per level.
//! let logits = model.forward(images.clone());
//! assert_eq!(logits[0].dims(), [1, 3, 8, 16, 16]);
//! assert_eq!(logits[1].dims(), [1, 3, 8, 8, 8]);
//! // For prediction: the finest alone.
//! assert_eq!(model.predict(images).dims(), [1, 3, 8, 16, 16]);
//! # Ok::<(), arl_models::ModelError>(())
//! ```
#![warn(missing_docs)]

mod channels_last;
mod checkpointing;
mod checks;
mod cicek_unet;
mod cicek_unet_config;
mod conv_block;
mod convolution;
#[cfg(feature = "cubecl")]
mod cube;
mod depth_to_space;
mod error;
#[cfg(all(test, feature = "flex", feature = "cubecl"))]
mod gpu_for_tests;
mod initialization;
#[cfg(feature = "flex")]
mod lanes;
mod layer_config;
mod layers;
mod matrix_units;
mod max_pool;
mod memory;
mod model;
mod network;
mod norm_activation;
#[cfg(test)]
mod parameters_for_tests;
mod plain_convolution;
mod precision;
mod pytorch;
mod residual_block;
mod seeded;
mod unet;
mod unet_config;
#[cfg(feature = "flex")]
mod unfilled;
mod upsample;
mod vnet;
mod vnet_config;
mod weights;

#[cfg(test)]
mod tests;

pub use cicek_unet::CicekUNet;
pub use cicek_unet_config::{CicekUNetConfig, Padding};
pub use depth_to_space::depth_to_space;
pub use error::ModelError;
pub use layer_config::{Activation, LayerConfig, Normalization};
pub use matrix_units::{MatrixUnits, use_matrix_units};
pub use max_pool::max_pool;
pub use memory::{MemoryEstimate, estimate_memory};
pub use model::SegmentationModel;
pub use network::{Network, NetworkConfig};
pub use precision::Precision;
pub use pytorch::{Checkpoint, CheckpointError, StoredTensor};
pub use unet::UNet;
pub use unet_config::{StageConfig, UNetConfig};
pub use vnet::VNet;
pub use vnet_config::{VNetConfig, VNetVariant};
pub use weights::{Weights, WeightsError};
