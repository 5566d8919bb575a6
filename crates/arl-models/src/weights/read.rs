//! Files of weights.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use burn::tensor::{DType, TensorData};
use pytorch_reader::{PytorchError, PytorchReader};
use safetensors::{Dtype, SafeTensors};

use super::WeightsError;

/// Where checkpoints keep the weights of their network: nnU-Net's, then what others are used to.
const KEYS: [&str; 2] = ["network_weights", "state_dict"];

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
        return pytorch(path).map_err(failed);
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
        let dtype = match view.dtype() {
            Dtype::F64 => DType::F64,
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            Dtype::I64 => DType::I64,
            other => return Err(unsupported(name, &format!("{other:?}"))),
        };
        let data = TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), dtype);
        Ok((name.to_owned(), data))
    });
    tensors.collect()
}

fn pytorch(path: &Path) -> Result<Tensors, String> {
    let damaged = |error: &dyn std::fmt::Display| {
        format!("is damaged or no checkpoint of PyTorch ({error}); copy or export it again")
    };
    let mut opened = None;
    for key in KEYS {
        match PytorchReader::with_top_level_key(path, key) {
            Err(PytorchError::KeyNotFound(_)) => {}
            other => {
                opened = Some(other);
                break;
            }
        }
    }
    let reader = opened.unwrap_or_else(|| PytorchReader::new(path));
    let reader = reader.map_err(|error| damaged(&error))?;
    let tensors = reader.into_tensors().into_iter().map(|(name, tensor)| {
        use pytorch_reader::DType as Stored;
        let dtype = match tensor.dtype() {
            Stored::F64 => DType::F64,
            Stored::F32 => DType::F32,
            Stored::F16 => DType::F16,
            Stored::BF16 => DType::BF16,
            Stored::I64 => DType::I64,
            other => return Err(unsupported(&name, &format!("{other:?}"))),
        };
        let bytes = tensor.read().map_err(|error| damaged(&error))?;
        let data = TensorData::from_bytes_vec(bytes, tensor.shape().to_vec(), dtype);
        Ok((name, data))
    });
    tensors.collect()
}

fn unsupported(name: &str, dtype: &str) -> String {
    format!("holds {name} as {dtype}; weights are floating point numbers of 16, 32 or 64 bits")
}
