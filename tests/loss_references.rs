//! The losses against PyTorch and MONAI (`tests/references/loss.py` made the numbers), on every device here.

mod common;

use arl::loss::{
    Activation, AdaptiveRegionLossConfig, ClassBalance, Criterion, CrossEntropyLossConfig,
    DiceLossConfig, FocalLossConfig, GeneralizedDiceLossConfig, LossConfig, RegionGrid,
    RegionReduction, Target, TopKCrossEntropyLossConfig, TverskyLossConfig,
};
use burn::prelude::*;
use burn::tensor::{DType, TensorCreationOptions, TensorData};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct References {
    gradient_step: usize,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    shape: [usize; 5],
    region_size: [usize; 3],
    logits_times_32: Vec<i32>,
    labels: Vec<i32>,
    shares_times_16: Vec<i32>,
    losses: BTreeMap<String, Expected>,
}

#[derive(Deserialize)]
struct Expected {
    value: f64,
    gradient: Vec<f64>,
}

/// The voxels and classes of a case as class indices, or as shares.
struct Targets {
    labels: Target,
    /// Of each class by itself; those of a voxel do not add up to 1.
    shares: Tensor<5>,
}

fn loss(name: &str, case: &Case, logits: Tensor<5>, targets: &Targets) -> Tensor<1> {
    let sigmoid = Activation::Sigmoid;
    let arl =
        AdaptiveRegionLossConfig::published().with_regions(RegionGrid::size(case.region_size));
    let dice = DiceLossConfig::new();
    let all_dice = dice.clone().with_include_background(true);
    let tversky = TverskyLossConfig::new().with_include_background(true);
    let (ce, focal) = (CrossEntropyLossConfig::new(), FocalLossConfig::new());
    let weights: Vec<f32> = (1..=case.shape[1]).map(|weight| weight as f32).collect();
    let shares = || Target::from(targets.shares.clone());
    let labels = || targets.labels.clone();
    let (criterion, target): (Criterion, Target) = match name {
        "arl" => (arl.into(), labels()),
        "arl-batch" => (arl.with_batch(true).into(), labels()),
        "arl-detached" => (arl.with_detach_coefficients(true).into(), labels()),
        "dice" => (dice.into(), labels()),
        "dice-batch" => (dice.with_batch(true).into(), labels()),
        "dice-total" => (
            all_dice.with_reduction(RegionReduction::Total).into(),
            labels(),
        ),
        "dice-squared" => (all_dice.with_squared_denominator(true).into(), labels()),
        "dice-sigmoid-shares" => {
            let masks = targets.shares.clone().greater_elem(0.5);
            (all_dice.with_activation(sigmoid).into(), masks.into())
        }
        // MONAI's smoothing counts half.
        "jaccard" => {
            let jaccard = TverskyLossConfig::jaccard().with_include_background(true);
            (jaccard.with_smooth(0.5e-5).into(), labels())
        }
        "tversky" => (tversky.into(), labels()),
        "tversky-sigmoid" => (tversky.with_activation(sigmoid).into(), labels()),
        "focal-tversky" => {
            let focal = TverskyLossConfig::focal().with_include_background(true);
            (focal.into(), labels())
        }
        "generalized-dice" => (GeneralizedDiceLossConfig::new().into(), labels()),
        "generalized-dice-simple-batch" => {
            let simple = GeneralizedDiceLossConfig::new().with_balance(ClassBalance::Simple);
            (simple.with_batch(true).into(), labels())
        }
        "focal" => (focal.into(), labels()),
        "focal-1.5" => (focal.with_gamma(1.5).into(), labels()),
        "focal-sigmoid" => (focal.with_activation(sigmoid).into(), labels()),
        "bce-shares" => (ce.with_activation(sigmoid).into(), shares()),
        "ce-shares" => {
            let sum = targets.shares.clone().sum_dim(1);
            (ce.into(), (targets.shares.clone() / sum).into())
        }
        "ce-smoothed" => (ce.with_label_smoothing(0.1).into(), labels()),
        "ce-smoothed-weighted" => {
            let smoothed = ce.with_label_smoothing(0.1);
            (smoothed.with_class_weights(Some(weights)).into(), labels())
        }
        "ce-top-k" => (TopKCrossEntropyLossConfig::new().into(), labels()),
        "ce" => (ce.into(), labels()),
        "ce-ignore-0" => (ce.with_ignore_index(Some(0)).into(), labels()),
        "ce-weighted" => (ce.with_class_weights(Some(weights)).into(), labels()),
        other => panic!("the references have a loss that this test does not know: {other}"),
    };
    let loss = LossConfig::new().with_term(1.0, criterion).init();
    loss.forward(logits, target)
}

fn check(device: &Device, dtype: DType) {
    let references: References =
        serde_json::from_str(include_str!("references/loss.json")).unwrap();
    for case in &references.cases {
        let [n, _, d, h, w] = case.shape;
        let values: Vec<f32> = case
            .logits_times_32
            .iter()
            .map(|&z| z as f32 / 32.0)
            .collect();
        let options: TensorCreationOptions = (&device.clone().autodiff(), dtype).into();
        let labels = TensorData::new(case.labels.clone(), [n, d, h, w]);
        let labels = Tensor::<4, Int>::from_data(labels, &device.clone().autodiff());
        let shares = case.shares_times_16.iter();
        let shares: Vec<f32> = shares.map(|&share| share as f32 / 16.0).collect();
        let shares = Tensor::from_data(TensorData::new(shares, case.shape), options.clone());
        let targets = Targets {
            labels: labels.into(),
            shares,
        };
        for (name, expected) in &case.losses {
            let logits = Tensor::<5>::from_data(
                TensorData::new(values.clone(), case.shape),
                options.clone(),
            );
            let logits = logits.require_grad();
            let value = loss(name, case, logits.clone(), &targets);
            let gradient = logits.grad(&value.backward()).unwrap();
            let value: f32 = value.into_scalar();
            // 1e-6 of the value: f32 itself has 6e-8.
            let error = (f64::from(value) - expected.value).abs() / expected.value;
            assert!(
                error < 1e-6,
                "{name} on {device:?}: {value}, PyTorch {}",
                expected.value
            );
            let gradient: Vec<f32> = gradient.cast(DType::F32).into_data().try_to_vec().unwrap();
            let largest = expected
                .gradient
                .iter()
                .fold(0.0f64, |largest, g| largest.max(g.abs()));
            for (found, expected) in gradient
                .iter()
                .step_by(references.gradient_step)
                .zip(&expected.gradient)
            {
                let error = (f64::from(*found) - expected).abs() / largest;
                assert!(
                    error < 1e-5,
                    "gradient of {name} on {device:?}: {found}, PyTorch {expected}"
                );
            }
        }
    }
}

#[test]
fn cpu_equals_pytorch() {
    check(&Device::flex(), DType::F32);
    check(&Device::flex(), DType::F64);
}

#[test]
fn gpus_equal_pytorch() {
    if let Some(device) = common::gpu() {
        check(&device, DType::F32);
    }
}
