//! Against Burn's own normalisation and activation in f64, forward and backward.

use burn::module::Param;
use burn::nn::{InstanceNorm, InstanceNormConfig};
#[cfg(feature = "cubecl")]
use burn::tensor::FloatDType;
use burn::tensor::activation::leaky_relu;
use burn::tensor::{DType, Device, Tensor, TensorData};

use super::{NO_ACTIVATION, norm_activation};
use crate::initialization::LEAKY_SLOPE;

/// The result and the gradients with respect to x, gamma and beta.
fn run(
    f: impl Fn(&InstanceNorm, Tensor<5>) -> Tensor<5>,
    x: &Tensor<5>,
    gamma: &Tensor<1>,
    beta: &Tensor<1>,
    dtype: DType,
) -> [TensorData; 4] {
    let mut norm = InstanceNormConfig::new(gamma.dims()[0]).init(&x.device());
    let gamma = gamma.clone().cast(dtype).require_grad();
    let beta = beta.clone().cast(dtype).require_grad();
    norm.gamma = Some(Param::from_tensor(gamma));
    norm.beta = Some(Param::from_tensor(beta));
    let x = x.clone().cast(dtype).require_grad();
    let y = f(&norm, x.clone());
    let gradients = y.clone().powi_scalar(3).sum().backward();
    let of = |param: Option<Param<Tensor<1>>>| param.unwrap().val().grad(&gradients).unwrap();
    [
        y.into_data(),
        x.grad(&gradients).unwrap().into_data(),
        of(norm.gamma.clone()).into_data(),
        of(norm.beta.clone()).into_data(),
    ]
}

/// Holds the operation on `device` to Burn's own in f64 on the CPU.
fn compare(device: &Device, shapes: &[([usize; 5], f64)]) {
    let oracle_device = Device::flex().autodiff();
    for &(shape, offset) in shapes {
        let channels = shape[1];
        let values = |count: usize, low: f32, high: f32, salt: usize| {
            let value = |i: usize| low + (high - low) * ((i * 7919 + salt) % 1009) as f32 / 1008.0;
            (0..count).map(value).collect::<Vec<f32>>()
        };
        let x: Vec<f32> = values(shape.iter().product(), -1.0, 1.0, 0)
            .iter()
            .map(|v| v + offset as f32)
            .collect();
        let (gamma, beta) = (
            values(channels, -1.0, 2.0, 5),
            values(channels, -1.0, 1.0, 300),
        );
        let on = |device: &Device| {
            let of_channels = |values: &[f32]| {
                let data = TensorData::new(values.to_vec(), [channels]);
                Tensor::<1>::from_data(data, device)
            };
            let x = Tensor::<5>::from_data(TensorData::new(x.clone(), shape), device);
            (x, of_channels(&gamma), of_channels(&beta))
        };
        for slope in [LEAKY_SLOPE, NO_ACTIVATION] {
            let ours = |norm: &InstanceNorm, x: Tensor<5>| norm_activation(norm, x, slope);
            let (x, gamma, beta) = on(device);
            let found = run(ours, &x, &gamma, &beta, DType::F32);
            let oracle = |norm: &InstanceNorm, x: Tensor<5>| leaky_relu(norm.forward(x), slope);
            let (x, gamma, beta) = on(&oracle_device);
            let expected = run(oracle, &x, &gamma, &beta, DType::F64);
            for ((found, expected), part) in found
                .iter()
                .zip(&expected)
                .zip(["y", "dx", "dgamma", "dbeta"])
            {
                let largest = expected
                    .iter::<f64>()
                    .fold(1e-3, |a, b| f64::max(a, b.abs()));
                for (found, expected) in found.iter::<f64>().zip(expected.iter::<f64>()) {
                    let error = (found - expected).abs();
                    assert!(
                        error <= 5e-5 * largest,
                        "{part} of {shape:?}: {found} instead of {expected}"
                    );
                }
            }
        }
    }
}

/// Planes longer than a run or a slice of the sums, channels read one, two and four at a time, more of them than a cube has
/// units; means far from 0 lose no digits.
const SHAPES: [([usize; 5], f64); 8] = [
    ([1, 1, 3, 1, 2], 0.0),
    ([2, 3, 4, 5, 7], 0.0),
    ([1, 2, 3, 30, 31], 20.0),
    ([2, 2, 9, 31, 33], 0.0),
    ([2, 8, 9, 31, 33], 20.0),
    ([1, 6, 5, 7, 9], 0.0),
    ([1, 131, 2, 2, 3], 0.0),
    ([1, 520, 1, 2, 3], 0.0),
];

#[test]
fn normalised_and_activated_as_burn_does() {
    compare(&Device::flex().autodiff(), &SHAPES);
}

/// Features of 16 bits give what those of 32 give, but for their rounding.
#[cfg(feature = "cubecl")]
fn in_16_bits(device: &Device) {
    let norm = InstanceNormConfig::new(2).init(device);
    let values = (0..2 * 2 * 3 * 4 * 5).map(|i| ((i * 7919) % 1009) as f32 / 100.0);
    let data = TensorData::new(values.collect::<Vec<f32>>(), [2, 2, 3, 4, 5]);
    let x = Tensor::<5>::from_data(data, device).cast(FloatDType::F16);
    // Through the host: a driver may leave out the rounding of a number that goes to 16 bits and back.
    let rounded = x.to_data();
    let x = Tensor::<5>::from_data(rounded.clone(), device).cast(FloatDType::F16);
    let same = Tensor::<5>::from_data(rounded.convert::<f32>(), device);
    let exact = norm_activation(&norm, same, LEAKY_SLOPE);
    let rough = norm_activation(&norm, x, LEAKY_SLOPE);
    assert_eq!(rough.dtype(), DType::F16);
    let values = |tensor: Tensor<5>| tensor.into_data().iter::<f64>().collect::<Vec<f64>>();
    let (exact, rough) = (values(exact), values(rough.cast(FloatDType::F32)));
    for (exact, rough) in exact.into_iter().zip(rough) {
        // The distance of neighbours among the numbers of 16 bits. Vulkan leaves it to drivers whether they round or truncate.
        let last_bit = 2f64.powf(exact.abs().max(6.2e-5).log2().floor() - 10.0);
        assert!(
            (exact - rough).abs() <= last_bit + 1e-6,
            "{rough} instead of {exact}"
        );
    }
}

#[cfg(feature = "cubecl")]
#[test]
fn normalised_and_activated_on_gpus_as_burn_does() {
    for (name, device) in crate::gpu_for_tests::gpus() {
        println!("{name}");
        let kept = device.clone().autodiff();
        assert!(super::on_gpu(&Tensor::zeros([1; 5], &kept)));
        compare(&kept, &SHAPES);
        // The cube of the result needs the result again.
        compare(&kept.gradient_checkpointing(), &SHAPES[1..2]);
        if device.supports_dtype(FloatDType::F16) {
            in_16_bits(device);
        } else {
            println!("f16 skipped: this device has no arithmetic in it");
        }
    }
}
