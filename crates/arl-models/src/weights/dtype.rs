//! The types of elements that weights can have, in Burn's words and in those of safetensors.

use burn::tensor::DType;
use safetensors::Dtype;

const TYPES: [(Dtype, DType); 5] = [
    (Dtype::F64, DType::F64),
    (Dtype::F32, DType::F32),
    (Dtype::F16, DType::F16),
    (Dtype::BF16, DType::BF16),
    // PyTorch counts batches with it.
    (Dtype::I64, DType::I64),
];

/// `None` for a type that weights do not have.
pub(super) fn of_stored(stored: Dtype) -> Option<DType> {
    let of = |&(other, dtype): &(Dtype, DType)| (other == stored).then_some(dtype);
    TYPES.iter().find_map(of)
}

/// `None` for a type that weights do not have.
pub(super) fn to_store(dtype: DType) -> Option<Dtype> {
    let of = |&(stored, other): &(Dtype, DType)| (other == dtype).then_some(stored);
    TYPES.iter().find_map(of)
}
