//! The matrix units of GPUs (tensor cores, cooperative matrices), and whether to trust them.
//!
//! They are used only where a check on the device itself has shown that they compute what the other kernels do: drivers are known
//! that announce shapes which they compute wrongly, and no test can run on every GPU.

use std::sync::Mutex;

use burn::backend::DispatchDevice;
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use burn_cubecl::tensor::CubeTensor;
use cubecl::features::MmaConfig;
use cubecl::ir::{DeviceProperties, ElemType, FloatKind};

use super::EDGES;
use crate::MatrixUnits;
use crate::convolution::convolution;

/// What matrix units multiply.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrices {
    pub element: ElemType,
    /// Rows and columns of the result.
    pub edge: u32,
    /// Over how much they sum at once.
    pub depth: u32,
    /// Units that a matrix unit belongs to.
    pub plane: u32,
    /// Bytes of an element.
    pub bytes: u32,
    /// What is between the end of a voxel's channels in shared memory and the next voxel, and likewise for rows of weights and
    /// gradients. Rows begin where CUDA's loads want them to, at multiples of 32 bytes for f16 and of 16 for the others; where that
    /// is 16, rows that are read together lie in banks of their own.
    pub gap: u32,
    pub weight_gap: u32,
}

impl Matrices {
    /// For features like these, if the device has such units and they are trusted.
    pub(super) fn of(x: &CubeTensor) -> Option<Self> {
        let trusted = trusted(&x.device, x.dtype);
        trusted
            .then(|| Self::of_device(x.client.properties(), x.dtype))
            .flatten()
    }

    fn of_device(properties: &DeviceProperties, dtype: DType) -> Option<Self> {
        let (kind, bytes, gap, weight_gap) = match dtype {
            DType::F16 => (FloatKind::F16, 2, 16, 16),
            DType::BF16 => (FloatKind::BF16, 2, 8, 8),
            DType::F32 => (FloatKind::TF32, 4, 4, 8),
            _ => return None,
        };
        let element = ElemType::Float(kind);
        let hardware = &properties.hardware;
        if hardware.plane_size_min != hardware.plane_size_max {
            return None;
        }
        let edge_and_depth = |config: &MmaConfig| {
            let wanted = config.a_type == element
                && config.b_type == element
                && config.cd_type == ElemType::Float(FloatKind::F32)
                && config.m == config.n
                && [8, 16].contains(&config.k);
            wanted.then_some((config.m, config.k))
        };
        let configs = properties.features.matmul.cmma.iter();
        let found: Vec<_> = configs.filter_map(edge_and_depth).collect();
        let of_edge = |edge: u32| found.iter().filter(move |(e, _)| *e == edge);
        let plane = hardware.plane_size_min;
        // Each unit of a plane writes as much of a result as the others.
        let edge = EDGES
            .into_iter()
            .find(|&edge| of_edge(edge).next().is_some() && (edge * edge).is_multiple_of(plane))?;
        let depth = of_edge(edge).map(|(_, depth)| *depth).max()?;
        Some(Self {
            element,
            edge,
            depth,
            plane,
            bytes,
            gap,
            weight_gap,
        })
    }
}

/// Where matrix units are used.
static TRUSTED: Mutex<Vec<(cubecl::Device, DType)>> = Mutex::new(Vec::new());

fn trusted(device: &cubecl::Device, dtype: DType) -> bool {
    let trusted = TRUSTED.lock().unwrap_or_else(|error| error.into_inner());
    trusted.iter().any(|(d, t)| d == device && *t == dtype)
}

fn trust(device: &cubecl::Device, dtype: DType, whether: bool) {
    let mut trusted = TRUSTED.lock().unwrap_or_else(|error| error.into_inner());
    trusted.retain(|(d, t)| d != device || *t != dtype);
    if whether {
        trusted.push((device.clone(), dtype));
    }
}

/// See [`crate::use_matrix_units`].
pub(crate) fn use_matrix_units(device: &Device) -> MatrixUnits {
    let plain = device.clone().without_autodiff();
    let mut units = MatrixUnits::default();
    let DispatchDevice::Cube(cube) = plain.as_dispatch() else {
        return units;
    };
    let client = cube.client();
    for (dtype, bound) in [
        (FloatDType::F32, 1e-5),
        (FloatDType::F16, 2e-3),
        (FloatDType::BF16, 1e-2),
    ] {
        let here = Matrices::of_device(client.properties(), dtype.into());
        if here.is_none() || !plain.supports_dtype(dtype) {
            continue;
        }
        let tried = |whether| {
            trust(cube, dtype.into(), whether);
            results(&plain, dtype)
        };
        let (expected, found) = (tried(false), tried(true));
        if agree(&expected, &found, bound) {
            units.used.push(dtype);
        } else {
            trust(cube, dtype.into(), false);
            units.wrong.push(dtype);
        }
    }
    units
}

/// Multiples of 1/64 between −1 and 1, which numbers of 16 bits hold as well, so that products are exact.
pub(super) fn exact<const D: usize>(shape: [usize; D], salt: usize, device: &Device) -> Tensor<D> {
    let value = |i: usize| ((i * 7919 + salt) % 1009 % 129) as f32 / 64.0 - 1.0;
    let values: Vec<f32> = (0..shape.iter().product()).map(value).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Convolutions of more than a tile in every direction, with and without a stride, and one of less than a tile, and the gradients of
/// their inputs and weights, as numbers; none for what the device failed at.
fn results(device: &Device, dtype: FloatDType) -> Vec<Vec<f64>> {
    let device = device.clone().autodiff();
    let tensor = |shape: [usize; 5], salt| exact(shape, salt, &device).cast(dtype);
    let numbers = |tensor: Option<Tensor<5>>| {
        let data = tensor.and_then(|tensor| tensor.try_into_data().ok());
        data.map_or(Vec::new(), |data| data.iter::<f64>().collect())
    };
    let of = |(size, [inputs, outputs], stride): ([usize; 3], [usize; 2], [usize; 3])| {
        let [d, h, w] = size;
        let x = tensor([1, inputs, d, h, w], 0).require_grad();
        let weight = tensor([outputs, inputs, 3, 3, 3], 17).require_grad();
        let b = exact([outputs], 31, &device).cast(dtype);
        let y = convolution(x.clone(), weight.clone(), b, stride, [1; 3]);
        let g = tensor(y.dims(), 47);
        let gradients = (y.clone() * g).sum().backward();
        [Some(y), x.grad(&gradients), weight.grad(&gradients)]
    };
    let all = [
        ([3, 18, 20], [40, 36], [1; 3]),
        ([3, 18, 20], [40, 36], [2; 3]),
        ([3, 6, 7], [1, 5], [1; 3]),
    ];
    let all = all.into_iter().flat_map(of);
    all.map(numbers).collect()
}

/// Whether no number is further from the expected one than this share of the largest.
fn agree(expected: &[Vec<f64>], found: &[Vec<f64>], bound: f64) -> bool {
    let close = |(expected, found): (&Vec<f64>, &Vec<f64>)| {
        let largest = expected.iter().fold(0.0, |a, b| f64::max(a, b.abs()));
        let numbers = expected.iter().zip(found);
        // Not a number is not close either.
        let all = numbers.fold(true, |all, (a, b)| all && (a - b).abs() <= bound * largest);
        expected.len() == found.len() && largest > 0.0 && all
    };
    expected.len() == found.len() && expected.iter().zip(found).all(close)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_agree_only_where_every_number_is_close() {
        let expected = vec![vec![1.0, -100.0], vec![0.5]];
        let with = |value: f64| vec![vec![value, -100.0], vec![0.5]];
        assert!(agree(&expected, &with(1.0009), 1e-5));
        for wrong in [1.01, -1.0, f64::NAN, f64::INFINITY] {
            assert!(!agree(&expected, &with(wrong), 1e-5), "{wrong}");
        }
        assert!(!agree(&expected, &expected[..1], 1e-5));
        assert!(!agree(&expected, &[vec![1.0], vec![0.5]], 1e-5));
        // Nothing computed is nothing shown.
        assert!(!agree(&[vec![0.0]], &[vec![0.0]], 1e-5));
    }
}
