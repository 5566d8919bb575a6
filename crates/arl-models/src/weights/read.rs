//! Files of weights.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use burn::tensor::{DType, TensorData};
use safetensors::{Dtype, SafeTensors};

use super::{WeightsError, dtype};
use crate::pytorch::Checkpoint;

type Tensors = BTreeMap<String, TensorData>;

/// Reads either kind of file.
pub(super) fn read(path: &Path) -> Result<Tensors, WeightsError> {
    let failed = |problem: String| WeightsError::File {
        path: path.to_owned(),
        problem,
    };
    // PyTorch's files are ZIP archives or, older, pickles; those of safetensors begin with the length of a JSON text.
    let mut start = Vec::new();
    File::open(path)
        .and_then(|file| file.take(9).read_to_end(&mut start))
        .map_err(|error| failed(error.to_string()))?;
    if start.get(8) == Some(&b'{') {
        let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        return safetensors(&bytes).map_err(failed);
    }
    if start.starts_with(b"PK") || start.starts_with(&[0x80]) {
        return pytorch(path);
    }
    Err(failed(
        "is neither a checkpoint of PyTorch nor safetensors; give a .pth or .safetensors file"
            .into(),
    ))
}

fn safetensors(bytes: &[u8]) -> Result<Tensors, String> {
    let damaged = |error| format!("is damaged ({error}); copy or export it again");
    let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
    let tensors = file.iter().map(|(name, view)| {
        let dtype = element(name, view.dtype())?;
        let data = TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), dtype);
        Ok((name.to_owned(), data))
    });
    tensors.collect()
}

fn pytorch(path: &Path) -> Result<Tensors, WeightsError> {
    let weights = Checkpoint::open(path)?.weights()?;
    let tensors = weights.into_iter().map(|(name, tensor)| {
        let dtype = element(&name, tensor.dtype).map_err(|problem| WeightsError::File {
            path: path.to_owned(),
            problem,
        })?;
        let data = TensorData::from_bytes_vec(tensor.bytes, tensor.shape, dtype);
        Ok((name, data))
    });
    tensors.collect()
}

/// The type of the elements in Burn's words.
fn element(name: &str, stored: Dtype) -> Result<DType, String> {
    dtype::of_stored(stored).ok_or_else(|| {
        format!(
            "holds {name} as {stored:?}; weights are floating point numbers of 16, 32 or 64 bits"
        )
    })
}
