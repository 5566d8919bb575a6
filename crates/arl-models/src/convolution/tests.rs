//! Against Burn's own convolutions in f64, forward and backward.

use burn::tensor::module::{conv_transpose3d, conv3d};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};
use burn::tensor::{DType, Device, Distribution, Tensor};

use super::{convolution, upsampling_convolution};

/// Sizes that do and don't divide by strides, kernels with and without extent, and channels that do and don't fill
/// a block of the kernels; the last is larger than a tile and than a chunk.
const CASES: [([usize; 3], [usize; 3], [usize; 3]); 7] = [
    ([5, 6, 7], [3, 3, 3], [1, 1, 1]),
    ([9, 8, 11], [3, 3, 3], [2, 2, 2]),
    ([8, 7, 10], [1, 3, 3], [1, 2, 2]),
    ([4, 5, 6], [1, 1, 1], [1, 1, 1]),
    ([7, 9, 12], [5, 3, 1], [3, 2, 1]),
    ([1, 1, 2], [3, 3, 3], [1, 1, 1]),
    ([11, 13, 19], [3, 3, 3], [1, 1, 1]),
];
const CHANNELS: [[usize; 3]; 3] = [[1, 1, 8], [2, 3, 5], [1, 9, 17]];

/// The result and the gradients of `f` for f32 arguments, and those of `oracle` for the same in f64.
fn compare(
    arguments: (Tensor<5>, Tensor<5>, Tensor<1>),
    f: impl Fn(Tensor<5>, Tensor<5>, Tensor<1>) -> Tensor<5>,
    oracle: impl Fn(Tensor<5>, Tensor<5>, Tensor<1>) -> Tensor<5>,
    what: &str,
) {
    let run = |f: &dyn Fn(Tensor<5>, Tensor<5>, Tensor<1>) -> Tensor<5>, dtype: DType| {
        let (x, w, b) = arguments.clone();
        let x = x.cast(dtype).require_grad();
        let w = w.cast(dtype).require_grad();
        let b = b.cast(dtype).require_grad();
        let y = f(x.clone(), w.clone(), b.clone());
        // A gradient that differs from voxel to voxel, and depends on the result.
        let gradients = y.clone().powi_scalar(2).sum().backward();
        [
            y.into_data(),
            x.grad(&gradients).unwrap().into_data(),
            w.grad(&gradients).unwrap().into_data(),
            b.grad(&gradients).unwrap().into_data(),
        ]
    };
    let found = run(&f, DType::F32);
    let expected = run(&oracle, DType::F64);
    for ((found, expected), part) in found.iter().zip(&expected).zip(["y", "dx", "dw", "db"]) {
        assert_eq!(found.shape(), expected.shape(), "{part} of {what}");
        let largest = expected
            .iter::<f64>()
            .fold(0.0, |a, b| f64::max(a, b.abs()));
        for (found, expected) in found.iter::<f64>().zip(expected.iter::<f64>()) {
            let error = (found - expected).abs();
            assert!(
                error <= 2e-6 * largest,
                "{part} of {what}: {found} instead of {expected}, the largest is {largest}"
            );
        }
    }
}

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    let device = Device::flex().autodiff();
    Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), &device)
}

#[test]
fn convolutions_and_their_gradients_are_burns() {
    for (size, kernel, stride) in CASES {
        for [images, inputs, outputs] in CHANNELS {
            let ([d, h, w], [a, b, c]) = (size, kernel);
            let arguments = (
                random([images, inputs, d, h, w]),
                random([outputs, inputs, a, b, c]),
                random([outputs]),
            );
            for padding in [kernel.map(|k| k / 2), [0; 3]] {
                if (0..3).any(|axis| size[axis] + 2 * padding[axis] < kernel[axis]) {
                    continue;
                }
                let options = ConvOptions::new(stride, padding, [1; 3], 1);
                compare(
                    arguments.clone(),
                    |x, w, b| convolution(x, w, b, stride, padding),
                    |x, w, b| conv3d(x, w, Some(b), options.clone()),
                    &format!(
                        "{size:?} {kernel:?} {stride:?} {padding:?} {images} {inputs} {outputs}"
                    ),
                );
            }
        }
    }
}

#[test]
fn upsampling_convolutions_and_their_gradients_are_burns() {
    for factors in [[1, 1, 1], [2, 2, 2], [1, 2, 2], [2, 3, 1]] {
        for [images, inputs, outputs] in CHANNELS {
            let [a, b, c] = factors;
            let arguments = (
                random([images, inputs, 3, 5, 9]),
                random([inputs, outputs, a, b, c]),
                random([outputs]),
            );
            let options = ConvTransposeOptions::new(factors, [0; 3], [0; 3], [1; 3], 1);
            compare(
                arguments,
                upsampling_convolution,
                |x, w, b| conv_transpose3d(x, w, Some(b), options.clone()),
                &format!("{factors:?} {images} {inputs} {outputs}"),
            );
        }
    }
}

#[test]
fn each_gradient_is_the_same_when_only_it_is_asked_for() {
    // Drawn once: the device's random numbers are shared with the other tests, which run meanwhile.
    let (x, b) = (random([2, 3, 4, 5, 6]), random([4]));
    let (w, up) = (random([4, 3, 3, 3, 3]), random([3, 4, 2, 2, 2]));
    let gradients = |tracked: [bool; 3], upsample: bool| {
        let w = if upsample { &up } else { &w };
        let (x, w, b): (Tensor<5>, Tensor<5>, Tensor<1>) = (x.clone(), w.clone(), b.clone());
        let x = if tracked[0] { x.require_grad() } else { x };
        let w = if tracked[1] { w.require_grad() } else { w };
        let b = if tracked[2] { b.require_grad() } else { b };
        let y = match upsample {
            true => upsampling_convolution(x.clone(), w.clone(), b.clone()),
            false => convolution(x.clone(), w.clone(), b.clone(), [1, 2, 1], [1; 3]),
        };
        let gradients = y.powi_scalar(2).sum().backward();
        [
            x.grad(&gradients).map(Tensor::into_data),
            w.grad(&gradients).map(Tensor::into_data),
            b.grad(&gradients).map(Tensor::into_data),
        ]
    };
    for upsample in [false, true] {
        let all = gradients([true; 3], upsample);
        for alone in 0..3 {
            let found = gradients(std::array::from_fn(|i| i == alone), upsample);
            for (i, found) in found.into_iter().enumerate() {
                let expected = if i == alone { all[i].clone() } else { None };
                assert!(found == expected, "gradient {i} with {alone} alone");
            }
        }
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let (x, w, b) = (
        random([2, 9, 11, 13, 19]),
        random([17, 9, 3, 3, 3]),
        random([17]),
    );
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let (x, w) = (x.clone().require_grad(), w.clone().require_grad());
            let y = convolution(x.clone(), w.clone(), b.clone(), [2, 1, 1], [1; 3]);
            let gradients = y.clone().powi_scalar(2).mul_scalar(0.5).sum().backward();
            [
                y.into_data(),
                x.grad(&gradients).unwrap().into_data(),
                w.grad(&gradients).unwrap().into_data(),
            ]
        })
    };
    let one = run(1);
    for threads in [2, 5] {
        assert!(run(threads) == one, "{threads} threads");
    }
}
