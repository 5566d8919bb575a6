//! The two passes on GPUs: shapes, buffers and launches.

use super::cube_kernels::{
    Kind, add_slices, general_gradient, labels_gradient, log_sum_exp, slice_sums, voxel_entropy,
};
use super::ops::{Pass, RegionOps};
use crate::Regions;
use burn::backend::TensorMetadata;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::{CubeCount, CubeDim, ElemType};

/// Units of a cube that sums a slice of a region; every device has as many.
const UNITS: u32 = 128;
/// Voxels of a slice: enough for a cube to be worth its start, few enough to fill a GPU with one large region.
const SLICE: usize = 8192;
/// Cubes along one axis of a launch, which the graphics interfaces limit.
const MAX_CUBES: u32 = 65_535;
/// No label.
const NONE: i32 = -1;
/// The most sums of a pass.
const MOST_SUMS: usize = 10;

impl RegionOps for CubeBackend {
    fn region_sums(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        regions: Regions,
        pass: Pass,
    ) -> FloatTensor<Self> {
        sums(logits, labels, &regions, pass, false)
    }

    fn region_sums_backward(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        gradient: FloatTensor<Self>,
        regions: Regions,
        pass: Pass,
    ) -> FloatTensor<Self> {
        logits_gradient(logits, labels, gradient, &regions, pass, false)
    }

    fn share_sums(
        logits: FloatTensor<Self>,
        shares: FloatTensor<Self>,
        regions: Regions,
        pass: Pass,
    ) -> FloatTensor<Self> {
        sums(logits, shares, &regions, pass, true)
    }

    fn share_sums_backward(
        logits: FloatTensor<Self>,
        shares: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        regions: Regions,
        pass: Pass,
    ) -> FloatTensor<Self> {
        logits_gradient(logits, shares, gradient, &regions, pass, true)
    }

    fn voxel_cross_entropy(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        ignore_index: Option<i64>,
    ) -> FloatTensor<Self> {
        let (logits, labels) = (into_contiguous(logits), into_contiguous(labels));
        let shape = labels.shape();
        let classes = logits.shape()[1];
        let voxels = shape[1] * shape[2] * shape[3];
        let log_sums = log_sums(&logits, voxels);
        let out = empty(
            &logits,
            [shape[0], shape[1], shape[2], shape[3]],
            DType::F32,
        );
        let (count, dim) = one_unit_each(&out, out.shape().num_elements());
        voxel_entropy::launch(
            &logits.client.clone(),
            count,
            dim,
            logits.clone().into_tensor_arg(),
            log_sums.into_tensor_arg(),
            labels.clone().into_tensor_arg(),
            out.clone().into_tensor_arg(),
            classes as u32,
            voxels as u32,
            ignored(ignore_index),
            [element(&logits), element(&labels)],
        );
        out
    }
}

fn sums(
    logits: CubeTensor,
    target: CubeTensor,
    regions: &Regions,
    pass: Pass,
    shares: bool,
) -> CubeTensor {
    let (logits, target) = (into_contiguous(logits), into_contiguous(target));
    let client = logits.client.clone();
    let shape = logits.shape();
    let (images, classes) = (shape[0], shape[1]);
    let [depth, height, width] = regions.shape();
    let voxels = depth * height * width;
    let [regions_d, regions_h, regions_w] = regions.counts();
    // Nothing reads them with sigmoid, but a kernel's buffers may not be empty.
    let log_sums = match pass.sigmoid {
        true => empty(&logits, [1], DType::F32),
        false => log_sums(&logits, voxels),
    };

    let slices = slices(regions);
    let bounds: Vec<u32> = (0..3)
        .flat_map(|axis| {
            let starts = regions.intervals(axis).map(|part| part.start);
            starts.chain([regions.shape()[axis]]).collect::<Vec<_>>()
        })
        .map(|bound| bound as u32)
        .collect();
    let parts = empty(
        &logits,
        [pass.sums(), images, classes, regions.len(), slices],
        DType::F32,
    );
    let cubes = (images * classes * regions.len() * slices) as u32;
    let rows = cubes.div_ceil(MAX_CUBES);
    slice_sums::launch(
        &client,
        CubeCount::Static(cubes.div_ceil(rows), rows, 1),
        CubeDim::new_1d(UNITS),
        logits.clone().into_tensor_arg(),
        log_sums.into_tensor_arg(),
        target.clone().into_tensor_arg(),
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
        ignored(pass.ignore_index),
        pass.gamma,
        kind(pass, classes, shares),
        UNITS,
        [element(&logits), element(&target)],
    );

    let sums = empty(
        &logits,
        [pass.sums(), images, classes, regions.len()],
        DType::F32,
    );
    let (count, dim) = one_unit_each(&sums, sums.shape().num_elements());
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

fn logits_gradient(
    logits: CubeTensor,
    target: CubeTensor,
    gradient: CubeTensor,
    regions: &Regions,
    pass: Pass,
    shares: bool,
) -> CubeTensor {
    let (logits, target) = (into_contiguous(logits), into_contiguous(target));
    let gradient = into_contiguous(gradient);
    let client = logits.client.clone();
    let shape = logits.shape();
    let (images, classes) = (shape[0], shape[1]);
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
    let parts = upload(&logits, &parts);
    let out = empty(
        &logits,
        [images, classes, depth, height, width],
        logits.dtype,
    );
    let (count, dim) = one_unit_each(&logits, images * depth * height * width);
    let dtypes = [element(&logits), element(&target)];
    if pass.general {
        general_gradient::launch(
            &client,
            count,
            dim,
            logits.into_tensor_arg(),
            target.into_tensor_arg(),
            gradient.into_tensor_arg(),
            parts.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            images as u32,
            classes as u32,
            depth as u32,
            height as u32,
            width as u32,
            regions_h as u32,
            regions_w as u32,
            regions.len() as u32,
            ignored(pass.ignore_index),
            pass.gamma,
            kind(pass, classes, shares),
            dtypes,
        );
    } else {
        labels_gradient::launch(
            &client,
            count,
            dim,
            logits.into_tensor_arg(),
            target.into_tensor_arg(),
            gradient.into_tensor_arg(),
            parts.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            images as u32,
            classes as u32,
            depth as u32,
            height as u32,
            width as u32,
            regions_h as u32,
            regions_w as u32,
            regions.len() as u32,
            ignored(pass.ignore_index),
            dtypes,
        );
    }
    out
}

/// `[2, N, voxels]`, see the kernel.
fn log_sums(logits: &CubeTensor, voxels: usize) -> CubeTensor {
    let shape = logits.shape();
    let (images, classes) = (shape[0], shape[1]);
    let out = empty(logits, [2, images, voxels], DType::F32);
    let (count, dim) = one_unit_each(logits, images * voxels);
    log_sum_exp::launch(
        &logits.client,
        count,
        dim,
        logits.clone().into_tensor_arg(),
        out.clone().into_tensor_arg(),
        classes as u32,
        voxels as u32,
        element(logits),
    );
    out
}

fn kind(pass: Pass, classes: usize, shares: bool) -> Kind {
    Kind {
        sigmoid: pass.sigmoid,
        shares,
        general: pass.general,
        first_label: pass.first_label(classes) as i32,
    }
}

/// The ignored label; one that i32 can't hold is no class anyway.
fn ignored(ignore_index: Option<i64>) -> i32 {
    ignore_index
        .and_then(|index| i32::try_from(index).ok())
        .unwrap_or(NONE)
}

fn element(tensor: &CubeTensor) -> ElemType {
    burn::backend::cubecl::dtype_to_storage_type(tensor.dtype)
}

/// Whether the kernels, which count in 32 bits, can count all elements of the logits and of the sums.
pub(super) fn fits(logits: [usize; 5], regions: &Regions) -> bool {
    let [images, classes, ..] = logits;
    let sums = [MOST_SUMS, images, classes, regions.len(), slices(regions)];
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

/// A tensor beside `like`, not filled yet.
fn empty<const D: usize>(like: &CubeTensor, shape: [usize; D], dtype: DType) -> CubeTensor {
    let shape = Shape::from(shape);
    let buffer = like.client.empty(shape.num_elements() * dtype.size());
    let (client, device) = (like.client.clone(), like.device.clone());
    CubeTensor::new_contiguous(client, device, shape, buffer, dtype)
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

/// A launch with a unit for each of so many elements, on the device of `like`.
fn one_unit_each(like: &CubeTensor, elements: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new(&like.client, elements);
    (
        calculate_cube_count_elemwise(&like.client, elements, dim),
        dim,
    )
}
