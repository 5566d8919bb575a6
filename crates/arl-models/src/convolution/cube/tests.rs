//! On GPUs, against Burn's own convolutions in f64 on the CPU.
//!
//! All values are multiples of 1/64 between −1 and 1, which 16 bits hold as well, so that products are exact and what is left of
//! errors is that of sums and of the results' own rounding.

use burn::tensor::module::conv3d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};

use crate::convolution::cube::matrix_units::exact;
use crate::convolution::{convolution, upsampling_convolution};
use crate::gpu_for_tests::gpus;
use crate::use_matrix_units;

/// Sizes of a convolution: voxels, kernel, stride, and images, inputs and outputs.
type Case = ([usize; 3], [usize; 3], [usize; 3], [usize; 3]);

/// Chunks that fill and don't fill their rows, kernels of one row and of several, strides; channels that fill no tile, one, and
/// more, and that are read one, two and four at a time; voxels that no tap reads; more cubes than an axis of a launch has.
const CASES: [Case; 13] = [
    ([5, 6, 7], [3, 3, 3], [1, 1, 1], [2, 3, 5]),
    ([3, 9, 33], [3, 3, 3], [1, 1, 1], [1, 8, 36]),
    ([9, 8, 11], [3, 3, 3], [2, 2, 2], [1, 34, 6]),
    ([4, 7, 10], [1, 3, 3], [1, 2, 2], [2, 4, 8]),
    ([3, 5, 18], [1, 1, 1], [1, 1, 1], [1, 32, 23]),
    ([7, 5, 6], [3, 1, 1], [2, 1, 1], [1, 4, 4]),
    ([5, 9, 6], [1, 5, 3], [1, 1, 1], [1, 1, 2]),
    ([4, 5, 6], [1, 1, 1], [2, 2, 2], [1, 3, 4]),
    ([4, 6, 8], [2, 2, 2], [2, 2, 2], [1, 4, 8]),
    ([2, 18, 20], [3, 3, 3], [1, 1, 1], [1, 40, 24]),
    ([3, 19, 9], [3, 3, 3], [1, 1, 1], [1, 1, 16]),
    ([1, 7, 7], [1, 7, 7], [1, 1, 1], [1, 1, 1]),
    ([66_001, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1]),
];

/// Larger than our kernels are made for: Burn's, which sum in the numbers of x.
fn is_burns(kernel: [usize; 3]) -> bool {
    kernel.iter().any(|&taps| taps > 5)
}

/// The result and the gradients, if those of the result are given.
fn run(
    f: impl Fn(Tensor<5>, Tensor<5>, Tensor<1>) -> Tensor<5>,
    [x, w]: [[usize; 5]; 2],
    channels: usize,
    dtype: FloatDType,
    device: &Device,
) -> [TensorData; 4] {
    let device = device.clone().autodiff();
    let x = exact(x, 0, &device).cast(dtype).require_grad();
    let w = exact(w, 17, &device).cast(dtype).require_grad();
    let b = exact([channels], 31, &device).cast(dtype).require_grad();
    let y = f(x.clone(), w.clone(), b.clone());
    let g = exact(y.dims(), 47, &device).cast(dtype);
    let gradients = (y.clone() * g).sum().backward();
    [
        y.into_data(),
        x.grad(&gradients).unwrap().into_data(),
        w.grad(&gradients).unwrap().into_data(),
        b.grad(&gradients).unwrap().into_data(),
    ]
}

fn assert_close(found: &[TensorData; 4], expected: &[TensorData; 4], bound: f64, what: &str) {
    for ((found, expected), part) in found.iter().zip(expected).zip(["y", "dx", "dw", "db"]) {
        assert_eq!(found.shape(), expected.shape(), "{part} of {what}");
        let largest = expected
            .iter::<f64>()
            .fold(0.0, |a, b| f64::max(a, b.abs()));
        for (at, (found, expected)) in found.iter::<f64>().zip(expected.iter::<f64>()).enumerate() {
            let error = (found - expected).abs();
            assert!(
                error <= bound * largest,
                "{part} of {what} at {at}: {found} instead of {expected}, the largest is {largest}"
            );
        }
    }
}

/// Calls `check` with every GPU and every type that it has arithmetic in, and the bound of errors; then again on its matrix
/// units, where it has some.
fn on_gpus(check: impl Fn(&str, &Device, FloatDType, f64)) {
    for (name, device) in gpus() {
        let all = [
            (FloatDType::F32, 1e-5),
            (FloatDType::F16, 2e-3),
            (FloatDType::BF16, 1e-2),
        ];
        for (dtype, bound) in all {
            if device.supports_dtype(dtype) {
                let name = format!("{name} {:?}", DType::from(dtype));
                check(&name, device, dtype, bound);
            }
        }
        let units = use_matrix_units(device);
        println!("{name}: {units:?}");
        assert!(units.wrong.is_empty(), "{name}: {units:?}");
        for (dtype, bound) in all {
            if units.used.contains(&dtype) {
                let name = format!("{name} {:?} on matrix units", DType::from(dtype));
                check(&name, device, dtype, bound);
            }
        }
    }
}

#[test]
fn convolutions_and_their_gradients_on_gpus() {
    // One test: matrix units are used from a moment on, by the whole process.
    on_gpus(|name, device, dtype, bound| {
        convolutions_are_burns(name, device, dtype, bound);
        upsampling_convolutions_are_those_of_the_cpu(name, device, dtype, bound);
    });
}

fn convolutions_are_burns(name: &str, device: &Device, dtype: FloatDType, bound: f64) {
    for (size, kernel, stride, [images, inputs, outputs]) in CASES {
        if is_burns(kernel) && dtype != FloatDType::F32 {
            continue;
        }
        let ([d, h, w], [a, b, c]) = (size, kernel);
        let padding = kernel.map(|k| k / 2);
        let shapes = [[images, inputs, d, h, w], [outputs, inputs, a, b, c]];
        let ours = |x, w, b| convolution(x, w, b, stride, padding);
        let options = ConvOptions::new(stride, padding, [1; 3], 1);
        let burns = |x, w, b| conv3d(x, w, Some(b), options.clone());
        let found = run(ours, shapes, outputs, dtype, device);
        let expected = run(burns, shapes, outputs, FloatDType::F64, &Device::flex());
        let what = format!("{size:?} {kernel:?} {stride:?} {images} {inputs} {outputs}, {name}");
        assert_close(&found, &expected, bound, &what);
    }
}

fn upsampling_convolutions_are_those_of_the_cpu(
    name: &str,
    device: &Device,
    dtype: FloatDType,
    bound: f64,
) {
    for (factors, [inputs, outputs]) in [([2, 2, 2], [8, 4]), ([1, 2, 2], [3, 5])] {
        let [a, b, c] = factors;
        let shapes = [[2, inputs, 3, 5, 9], [inputs, outputs, a, b, c]];
        let found = run(upsampling_convolution, shapes, outputs, dtype, device);
        let cpu = Device::flex();
        let expected = run(
            upsampling_convolution,
            shapes,
            outputs,
            FloatDType::F32,
            &cpu,
        );
        let what = format!("{factors:?} {inputs} {outputs}, {name}");
        assert_close(&found, &expected, bound, &what);
    }
}
