//! Checkpoints of PyTorch: a ZIP archive of a pickle and of the bytes of the tensors, each stored as it is.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use zip::ZipArchive;

use super::CheckpointError;
use super::pickle::{Id, Node, Pickle};
use super::view::View;

/// Where checkpoints keep the weights of their network: nnU-Net's, then what others are used to.
const KEYS: [&str; 4] = ["network_weights", "state_dict", "model_state_dict", "model"];
/// Names under which nnU-Net lists one tensor: its encoder is the decoder's too, and each block has it twice.
const NAMES_OF_ONE: u64 = 4;

/// Largest pickle that is read, in bytes: nnU-Net's of 4000 epochs and 117 classes has 34 million. What becomes of one takes up
/// to eighty times its size.
const MAX_PICKLE: usize = 64 << 20;

/// A tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTensor {
    /// Type of its elements.
    pub dtype: Dtype,
    /// Its size.
    pub shape: Vec<usize>,
    /// Its elements in row-major order, each little-endian.
    pub bytes: Vec<u8>,
}

/// An opened checkpoint of PyTorch 1.6 or later. Nothing in it is executed.
///
/// Weights are under `network_weights` in nnU-Net's, under `state_dict`, `model_state_dict` or `model` in others, else at the top.
pub struct Checkpoint {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
    /// The archive's only folder, with its slash.
    folder: String,
    file_length: u64,
    pickle: Pickle,
}

impl Checkpoint {
    /// Whether a file begins as checkpoints do.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn is_one(path: &Path) -> Result<bool, CheckpointError> {
        let mut start = Vec::new();
        File::open(path)
            .and_then(|file| file.take(2).read_to_end(&mut start))
            .map_err(|error| CheckpointError::new(path, error.to_string()))?;
        Ok(start == b"PK")
    }

    /// Opens a checkpoint; no tensor is read yet.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        Self::opened(path).map_err(|problem| CheckpointError::new(path, problem))
    }

    fn opened(path: &Path) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        let file_length = file.metadata().map_err(|error| error.to_string())?.len();
        let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| {
            damaged(&format!(
                "{error}; before version 1.6 PyTorch wrote other files"
            ))
        })?;
        let names: Vec<String> = (0..archive.len())
            .filter_map(|index| Some(archive.by_index_raw(index).ok()?.name().ok()?.into_owned()))
            .collect();
        let folders = names
            .iter()
            .filter_map(|name| name.strip_suffix("data.pkl"));
        let folder = folders.min_by_key(|folder| folder.len());
        let folder = folder.ok_or_else(|| {
            "is a ZIP archive without data.pkl, so no checkpoint of PyTorch; give a .pth file"
                .to_owned()
        })?;
        let folder = folder.to_owned();
        if let Ok(order) = entry(&mut archive, file_length, &format!("{folder}byteorder"))
            && order != b"little"
        {
            return Err("was saved on a big-endian machine; save it again on another".into());
        }
        let bytes = entry(&mut archive, file_length, &format!("{folder}data.pkl"))?;
        if bytes.len() > MAX_PICKLE {
            return Err(format!(
                "describes its weights in {} bytes, more than {MAX_PICKLE}; save the network's state_dict() alone",
                bytes.len()
            ));
        }
        let pickle =
            Pickle::read(&bytes).map_err(|problem| damaged(&format!("its pickle {problem}")))?;
        Ok(Self {
            path: path.to_owned(),
            archive,
            folder,
            file_length,
            pickle,
        })
    }

    /// The text under keys within keys, such as `["init_args", "configuration"]`.
    pub fn text(&self, keys: &[&str]) -> Option<&str> {
        self.pickle.text(self.find(keys)?)
    }

    /// The numbers under keys within keys.
    pub fn counts(&self, keys: &[&str]) -> Option<Vec<usize>> {
        self.pickle.counts(self.find(keys)?)
    }

    fn find(&self, keys: &[&str]) -> Option<Id> {
        keys.iter()
            .try_fold(self.pickle.root(), |id, key| self.pickle.entry(id, key))
    }

    /// Reads the weights of the network.
    ///
    /// # Errors
    /// When there are none, or one is not what can be read here; which.
    pub fn weights(&mut self) -> Result<BTreeMap<String, StoredTensor>, CheckpointError> {
        self.gathered()
            .map_err(|problem| CheckpointError::new(&self.path, problem))
    }

    fn gathered(&mut self) -> Result<BTreeMap<String, StoredTensor>, String> {
        let root = self.pickle.root();
        let found = KEYS.iter().find_map(|key| self.pickle.entry(root, key));
        let Node::Dict(entries) = self.pickle.node(found.unwrap_or(root)) else {
            return Err(format!(
                "holds no dictionary of weights; save the network's state_dict(), at the top or as {:?}",
                KEYS[0]
            ));
        };
        let mut tensors = Vec::with_capacity(entries.len());
        let mut total = 0u64;
        for &(key, value) in entries {
            let name = self.pickle.text(key).unwrap_or("a weight without a name");
            let wrong = |problem: String| format!("holds {name}, which {problem}");
            let tensor = View::of(&self.pickle, value).map_err(wrong)?;
            total = total.saturating_add(tensor.bytes() as u64);
            tensors.push((name.to_owned(), tensor));
        }
        // One storage may be listed under any number of names: a small file must not fill the memory.
        if total > NAMES_OF_ONE.saturating_mul(self.file_length) {
            return Err(format!(
                "would become {total} bytes of weights, out of {} in the file; save each weight once",
                self.file_length
            ));
        }
        tensors
            .into_iter()
            .map(|(name, tensor)| {
                let file = format!("{}data/{}", self.folder, tensor.storage);
                let storage = entry(&mut self.archive, self.file_length, &file)?;
                let bytes = tensor.gathered(&storage).ok_or_else(|| {
                    damaged(&format!("{name} is larger than what is stored of it"))
                })?;
                let stored = StoredTensor {
                    dtype: tensor.dtype,
                    shape: tensor.shape,
                    bytes,
                };
                Ok((name, stored))
            })
            .collect()
    }
}

/// A file of the archive. Its size is checked against the whole before anything is allocated.
fn entry(
    archive: &mut ZipArchive<BufReader<File>>,
    file_length: u64,
    name: &str,
) -> Result<Vec<u8>, String> {
    let wrong = |problem: &dyn std::fmt::Display| damaged(&format!("{name}: {problem}"));
    let mut found = archive.by_name(name).map_err(|error| wrong(&error))?;
    let size = found.size();
    if size > file_length {
        return Err(wrong(&format!("{size} bytes in a file of {file_length}")));
    }
    let mut bytes = Vec::new();
    // One byte more, because the checksum is looked at where the file ends.
    found
        .by_ref()
        .take(size + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| wrong(&error))?;
    match bytes.len() as u64 == size {
        true => Ok(bytes),
        false => Err(wrong(&format!("{} of {size} bytes", bytes.len()))),
    }
}

fn damaged(problem: &str) -> String {
    format!("is damaged or no checkpoint of PyTorch ({problem}); copy or export it again")
}
