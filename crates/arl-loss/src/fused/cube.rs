//! The two passes on GPUs: shapes, buffers and launches.

use super::cube_kernels::{add_slices, log_sum_exp, logits_gradient, slice_sums};
use super::ops::{RegionOps, SUMS};
use crate::Regions;
use burn::backend::TensorMetadata;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::{CubeCount, CubeDim};

/// Units of a cube that sums a slice of a region; every device has as many.
const UNITS: u32 = 128;
/// Voxels of a slice: enough for a cube to be worth its start, few enough to fill a GPU with one large region.
const SLICE: usize = 8192;
/// Cubes along one axis of a launch, which the graphics interfaces limit.
const MAX_CUBES: u32 = 65_535;
/// No label.
const NONE: i32 = -1;

impl RegionOps for CubeBackend {
    fn region_sums(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        regions: Regions,
        ignore_index: Option<i32>,
    ) -> FloatTensor<Self> {
        let (logits, labels) = (into_contiguous(logits), into_contiguous(labels));
        let client = logits.client.clone();
        let shape = logits.shape();
        let (images, classes) = (shape[0], shape[1]);
        let [depth, height, width] = regions.shape();
        let voxels = depth * height * width;
        let [regions_d, regions_h, regions_w] = regions.counts();

        let log_sums = empty(&logits, [2, images, voxels]);
        let (count, dim) = one_unit_each(&labels);
        log_sum_exp::launch(
            &client,
            count,
            dim,
            logits.clone().into_tensor_arg(),
            log_sums.clone().into_tensor_arg(),
            classes as u32,
            voxels as u32,
        );

        let slices = slices(&regions);
        let bounds: Vec<u32> = (0..3)
            .flat_map(|axis| {
                let starts = regions.intervals(axis).map(|part| part.start);
                starts.chain([regions.shape()[axis]]).collect::<Vec<_>>()
            })
            .map(|bound| bound as u32)
            .collect();
        let parts = empty(&logits, [SUMS, images, classes, regions.len(), slices]);
        let cubes = (images * classes * regions.len() * slices) as u32;
        let rows = cubes.div_ceil(MAX_CUBES);
        slice_sums::launch(
            &client,
            CubeCount::Static(cubes.div_ceil(rows), rows, 1),
            CubeDim::new_1d(UNITS),
            logits.clone().into_tensor_arg(),
            log_sums.into_tensor_arg(),
            labels.into_tensor_arg(),
            upload(&logits, &bounds).into_tensor_arg(),
            parts.clone().into_tensor_arg(),
            classes as u32,
            height as u32,
            width as u32,
            voxels as u32,
            regions_d as u32,
            regions_h as u32,
            regions_w as u32,
            slices as u32,
            ignore_index.unwrap_or(NONE),
            UNITS,
        );

        let sums = empty(&logits, [SUMS, images, classes, regions.len()]);
        let (count, dim) = one_unit_each(&sums);
        add_slices::launch(
            &client,
            count,
            dim,
            parts.into_tensor_arg(),
            sums.clone().into_tensor_arg(),
            slices as u32,
        );
        sums
    }

    fn region_sums_backward(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        gradient: FloatTensor<Self>,
        regions: Regions,
        ignore_index: Option<i32>,
    ) -> FloatTensor<Self> {
        let (logits, labels) = (into_contiguous(logits), into_contiguous(labels));
        let gradient = into_contiguous(gradient);
        let client = logits.client.clone();
        let shape = logits.shape();
        let [depth, height, width] = regions.shape();
        let [_, regions_h, regions_w] = regions.counts();
        let parts: Vec<u32> = (0..3)
            .flat_map(|axis| {
                let parts = regions.intervals(axis).enumerate();
                parts
                    .flat_map(|(part, interval)| interval.map(move |_| part as u32))
                    .collect::<Vec<_>>()
            })
            .collect();
        let out = empty(&logits, [shape[0], shape[1], depth, height, width]);
        let (count, dim) = one_unit_each(&labels);
        logits_gradient::launch(
            &client,
            count,
            dim,
            logits.clone().into_tensor_arg(),
            labels.into_tensor_arg(),
            gradient.into_tensor_arg(),
            upload(&logits, &parts).into_tensor_arg(),
            out.clone().into_tensor_arg(),
            shape[0] as u32,
            shape[1] as u32,
            depth as u32,
            height as u32,
            width as u32,
            regions_h as u32,
            regions_w as u32,
            regions.len() as u32,
            ignore_index.unwrap_or(NONE),
        );
        out
    }
}

/// Whether the kernels, which count in 32 bits, can count all elements of the logits and of the sums.
pub(super) fn fits(logits: [usize; 5], regions: &Regions) -> bool {
    let [images, classes, ..] = logits;
    let sums = [SUMS, images, classes, regions.len(), slices(regions)];
    let fits = |shape: &[usize]| {
        let elements = shape
            .iter()
            .try_fold(1usize, |all, &size| all.checked_mul(size));
        elements.is_some_and(|elements| u32::try_from(elements).is_ok())
    };
    fits(&logits) && fits(&sums)
}

/// Into how many slices each region is cut.
fn slices(regions: &Regions) -> usize {
    let longest = |axis| {
        regions
            .intervals(axis)
            .map(|part| part.len())
            .max()
            .unwrap_or(0)
    };
    let largest: usize = (0..3).map(longest).product();
    largest.div_ceil(SLICE)
}

/// An f32 tensor beside `like`, not filled yet.
fn empty<const D: usize>(like: &CubeTensor, shape: [usize; D]) -> CubeTensor {
    let shape = Shape::from(shape);
    let buffer = like.client.empty(shape.num_elements() * DType::F32.size());
    let (client, device) = (like.client.clone(), like.device.clone());
    CubeTensor::new_contiguous(client, device, shape, buffer, DType::F32)
}

/// Numbers beside `like`.
fn upload(like: &CubeTensor, numbers: &[u32]) -> CubeTensor {
    let bytes: Vec<u8> = numbers
        .iter()
        .flat_map(|number| number.to_ne_bytes())
        .collect();
    let buffer = like.client.create_from_slice(&bytes);
    let (client, device) = (like.client.clone(), like.device.clone());
    CubeTensor::new_contiguous(
        client,
        device,
        Shape::from([numbers.len()]),
        buffer,
        DType::U32,
    )
}

/// A launch with a unit for each element.
fn one_unit_each(tensor: &CubeTensor) -> (CubeCount, CubeDim) {
    let elements = tensor.shape().num_elements();
    let dim = CubeDim::new(&tensor.client, elements);
    (
        calculate_cube_count_elemwise(&tensor.client, elements, dim),
        dim,
    )
}
