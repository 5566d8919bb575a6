//! Against Burn's own normalisation and activation in f64, forward and backward.

use burn::module::Param;
use burn::nn::{InstanceNorm, InstanceNormConfig};
use burn::tensor::activation::leaky_relu;
use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};

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

#[test]
fn normalised_and_activated_as_burn_does() {
    let device = Device::flex().autodiff();
    let random = |shape: [usize; 5], low, high| {
        Tensor::<5>::random(shape, Distribution::Uniform(low, high), &device)
    };
    // The last is longer than a run of the sums; means far from 0 lose no digits.
    for (shape, offset) in [
        ([1, 1, 3, 1, 2], 0.0),
        ([2, 3, 4, 5, 7], 0.0),
        ([1, 2, 3, 30, 31], 20.0),
    ] {
        let channels = shape[1];
        let x = random(shape, -1.0, 1.0) + offset;
        let gamma = Tensor::<1>::random([channels], Distribution::Uniform(-1.0, 2.0), &device);
        let beta = Tensor::<1>::random([channels], Distribution::Uniform(-1.0, 1.0), &device);
        for slope in [LEAKY_SLOPE, NO_ACTIVATION] {
            let ours = |norm: &InstanceNorm, x: Tensor<5>| norm_activation(norm, x, slope);
            let found = run(ours, &x, &gamma, &beta, DType::F32);
            let oracle = |norm: &InstanceNorm, x: Tensor<5>| leaky_relu(norm.forward(x), slope);
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
