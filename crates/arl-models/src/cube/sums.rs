use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::DType;
use burn_cubecl::kernel::cast;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::CubeDim;

use super::rows::{add_runs, slice_sums};
use super::{Cut, UNITS, channels_last, cubes, empty, merging};

/// The sum of each channel of `[N, C, D, H, W]`, `[C]`, in f32 and then in the numbers of `x`.
pub(crate) fn channel_sums(x: CubeTensor) -> CubeTensor {
    let x = channels_last(x);
    let (cut, client) = (Cut::of(&x), x.client.clone());
    let parts = empty(&x, [cut.images, cut.slices, cut.channels], DType::F32);
    slice_sums::launch(
        &client,
        cubes(cut.images * cut.slices),
        CubeDim::new_1d(UNITS),
        cut.vector,
        x.clone().into_tensor_arg(),
        parts.clone().into_tensor_arg(),
        cut.launch(),
        UNITS,
        dtype_to_storage_type(x.dtype()),
    );
    let sums = empty(&x, [cut.channels], DType::F32);
    add_runs::launch(
        &client,
        merging(1, cut.lanes()),
        CubeDim::new_1d(UNITS),
        cut.vector,
        parts.into_tensor_arg(),
        sums.clone().into_tensor_arg(),
        0,
        1,
        (cut.images * cut.slices) as u32,
        cut.lanes() as u32,
        UNITS,
    );
    match x.dtype() {
        DType::F32 => sums,
        dtype => cast(sums, dtype),
    }
}
