//! A short training in bf16 ends where one in f32 ends.

mod common;
#[path = "common/short_training.rs"]
mod short_training;

use arl::models::Precision;
use burn::tensor::{Device, FloatDType};

fn compare(device: &Device) {
    let train = |precision| short_training::train(device, precision);
    let (exact, rough) = (train(Precision::F32), train(Precision::Bf16));
    println!("Dice {exact:.3} in f32, {rough:.3} in bf16");
    assert!(exact > 0.7, "{exact}");
    assert!(
        (exact - rough).abs() < 0.05,
        "{exact} in f32, {rough} in bf16"
    );
}

#[test]
fn a_training_in_bf16_ends_with_the_dice_of_one_in_f32() {
    compare(&Device::flex());
}

#[test]
fn on_a_gpu_too() {
    if let Some(device) = common::gpu() {
        if device.supports_dtype(FloatDType::BF16) {
            compare(&device);
        } else {
            println!("skipped: this device has no arithmetic in bf16");
        }
    }
}
