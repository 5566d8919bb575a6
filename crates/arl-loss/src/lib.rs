//! Segmentation losses for [Burn](https://burn.dev), first of all the **adaptive region-specific loss** of
//! Chen et al. (TPAMI 45(11), 2023).
//!
//! That loss cuts the volume into regions and scores each one by a Tversky index whose weights of false
//! positives and false negatives follow from the errors made in the region itself: where a network invents
//! tissue it is pushed to be careful, where it misses tissue it is pushed to look harder.
//!
//! ```
//! # #[cfg(feature = "flex")] {
//! use arl_loss::{AdaptiveRegionLossConfig, DeepSupervision, LossConfig, LossKind, RegionGrid};
//! use burn::tensor::{Device, Distribution, Int, Tensor};
//!
//! let device = Device::flex();
//! // One image, three classes, 8³ voxels; class indices as labels.
//! let logits = Tensor::<5>::random([1, 3, 8, 8, 8], Distribution::Default, &device);
//! let labels = Tensor::<4, Int>::zeros([1, 8, 8, 8], &device);
//!
//! // The loss itself, on regions of 4³ voxels.
//! let loss = AdaptiveRegionLossConfig::new().with_regions(RegionGrid::size([4, 4, 4])).init();
//! let value: f32 = loss.forward(logits.clone(), labels.clone()).into_scalar();
//! assert!((0.0..=1.0).contains(&value));
//!
//! // Where is it high, and which kind of error does it fight there? [N, C, K]
//! let report = loss.region_report(logits.clone(), labels.clone())?;
//! assert_eq!(report.alpha.dims(), [1, 3, 8]);
//!
//! // By name, with cross entropy beside it, on the outputs of a deeply supervised network.
//! let kind: LossKind = "arl+ce".parse()?;
//! let loss = DeepSupervision::new(&LossConfig::of(kind).with_regions(RegionGrid::size([4, 4, 4])));
//! let coarse = Tensor::<5>::zeros([1, 3, 4, 4, 4], &device);
//! let total = loss.forward(vec![logits, coarse], labels);
//! assert_eq!(total.dims(), [1]);
//! # }
//! # Ok::<(), arl_loss::LossError>(())
//! ```
//!
//! All losses are a few lines on top of [`region_statistics`], the one pass over the logits:
//!
//! | loss | options |
//! |---|---|
//! | adaptive region-specific | [`AdaptiveRegionLossConfig`] |
//! | Dice, plain or with squares, whole or over regions | [`DiceLossConfig`] |
//! | Tversky, focal Tversky, Jaccard, whole or over regions | [`TverskyLossConfig`] |
//! | generalised Dice | [`GeneralizedDiceLossConfig`] |
//! | cross entropy, label smoothing, binary cross entropy | [`CrossEntropyLossConfig`] |
//! | cross entropy of the hardest voxels | [`TopKCrossEntropyLossConfig`] |
//! | focal | [`FocalLossConfig`] |
//! | weighted sums, in one pass where the terms allow it | [`LossConfig`] |
//! | any of these on several outputs of a network | [`DeepSupervision`] |
//!
//! Logits are `[N, C, D, H, W]`, or `[N, C, H, W]` of 2D images, always before softmax or sigmoid, in f32, f16, bf16 or f64; the
//! [`Target`] is class indices or shares of classes. Labels that are no class count as ignored, and never read or write out
//! of bounds; [`check_labels`] finds them.
//!
//! On Flex and on CubeCL's devices (feature `flex`; `wgpu`, `vulkan`, `metal`, `cuda`) kernels compute the statistics and
//! their gradient, and make no tensor of the size of the logits but the gradient; besides it they take the sums of each plane of
//! the volume (CPU) or 8 bytes per voxel (GPUs). Elsewhere, and for f64, plain tensor operations do. The same input gives the same bits, run after run and for any number of threads.
#![warn(missing_docs)]

/// Runs the README's training step as a test.
#[cfg(all(doctest, feature = "flex"))]
#[doc = include_str!("../README.md")]
struct Readme;

mod activation;
mod adaptive_region;
mod criterion;
mod cross_entropy;
mod deep_supervision;
mod dice;
mod error;
mod focal;
#[cfg(any(feature = "flex", feature = "cubecl"))]
mod fused;
mod generalized_dice;
mod labels;
mod loss;
mod plain;
mod reduction;
mod region_grid;
mod region_statistics;
mod scoring;
mod target;
mod top_k;
mod tversky;
mod weights;

#[cfg(all(test, feature = "flex"))]
mod tests;

pub use activation::Activation;
pub use adaptive_region::{
    AdaptiveRegionLoss, AdaptiveRegionLossConfig, EmptyRegions, RegionReport,
};
pub use criterion::Criterion;
pub use cross_entropy::{CrossEntropyLoss, CrossEntropyLossConfig};
pub use deep_supervision::DeepSupervision;
pub use dice::{DiceLoss, DiceLossConfig};
pub use error::LossError;
pub use focal::{FocalLoss, FocalLossConfig};
pub use generalized_dice::{ClassBalance, GeneralizedDiceLoss, GeneralizedDiceLossConfig};
pub use labels::check_labels;
pub use loss::{Loss, LossConfig, LossKind, LossTerm};
pub use reduction::RegionReduction;
pub use region_grid::{RegionGrid, Regions};
pub use region_statistics::{
    FurtherStatistics, RegionStatistics, StatisticsOptions, plain_region_statistics,
    region_statistics,
};
pub use target::{Logits, Target};
pub use top_k::{TopKCrossEntropyLoss, TopKCrossEntropyLossConfig};
pub use tversky::{TverskyLoss, TverskyLossConfig};
