//! The losses against PyTorch and MONAI (`tests/references/loss.py` made the numbers), on every device here.

use arl::loss::{AdaptiveRegionLossConfig, CrossEntropyLossConfig, DiceLossConfig, RegionGrid};
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
    losses: BTreeMap<String, Expected>,
}

#[derive(Deserialize)]
struct Expected {
    value: f64,
    gradient: Vec<f64>,
}

fn loss(name: &str, case: &Case, logits: Tensor<5>, labels: Tensor<4, Int>) -> Tensor<1> {
    let arl = AdaptiveRegionLossConfig::new().with_regions(RegionGrid::size(case.region_size));
    let (dice, ce) = (DiceLossConfig::new(), CrossEntropyLossConfig::new());
    let weights = (1..=case.shape[1]).map(|weight| weight as f32).collect();
    match name {
        "arl" => arl.init().forward(logits, labels),
        "arl-batch" => arl.with_batch(true).init().forward(logits, labels),
        "arl-detached" => arl
            .with_detach_coefficients(true)
            .init()
            .forward(logits, labels),
        "dice" => dice.init().forward(logits, labels),
        "dice-batch" => dice.with_batch(true).init().forward(logits, labels),
        "ce" => ce.init().forward(logits, labels),
        "ce-ignore-0" => ce.with_ignore_index(Some(0)).init().forward(logits, labels),
        "ce-weighted" => ce
            .with_class_weights(Some(weights))
            .init()
            .forward(logits, labels),
        other => panic!("the references have a loss that this test does not know: {other}"),
    }
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
        for (name, expected) in &case.losses {
            let logits = Tensor::<5>::from_data(
                TensorData::new(values.clone(), case.shape),
                options.clone(),
            );
            let logits = logits.require_grad();
            let value = loss(name, case, logits.clone(), labels.clone());
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
fn wgpu_equals_pytorch() {
    match Device::wgpu_options().init() {
        Ok(device) => check(&device, DType::F32),
        Err(error) => {
            assert!(
                std::env::var_os("ARL_EXPECT_WGPU").is_none(),
                "no WGPU adapter: {error}"
            );
            println!("skipped: no WGPU adapter ({error})");
        }
    }
}
