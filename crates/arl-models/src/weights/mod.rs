//! Weights of networks as PyTorch names and stores them.

mod dtype;
mod error;
mod names;
mod read;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use safetensors::tensor::TensorView;

use crate::{Network, NetworkConfig};
pub use error::WeightsError;
use names::{Name, Names};

/// Tensors by the names that they have in PyTorch.
///
/// [`UNet`](crate::UNet)s have the names of nnU-Net's `PlainConvUNet` and `ResidualEncoderUNet`, each tensor once: what those list
/// a second time (`all_modules`, `decoder.encoder`) is the same tensor, passed over when it is read, and written only after
/// [`with_every_name`](Weights::with_every_name). V-Nets and the first 3D U-Net are named by their fields, as
/// `down.0.blocks.1.conv.weight`, and so are the PyTorch classes in `examples/pytorch/networks.py`, which load them; a transposed
/// convolution has the layout of `ConvTranspose3d`.
///
/// With [`Activation::PRelu`](crate::Activation::PRelu) a layer has a slope per channel. nnU-Net's package has one per layer, so that
/// such a U-Net does not load there.
///
/// ```
/// use arl_models::{NetworkConfig, StageConfig, UNetConfig, Weights};
/// use burn::tensor::Device;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let stages = vec![StageConfig::new(4, [3; 3], [1; 3]), StageConfig::new(8, [3; 3], [2; 3])];
/// let config = NetworkConfig::UNet(UNetConfig::new(1, 2, stages));
/// let network = config.init_seeded(&Device::flex(), 1)?;
/// let weights = Weights::of(&network);
/// assert_eq!(weights.shape("decoder.transpconvs.0.weight"), Some([8, 4, 2, 2, 2].to_vec()));
///
/// let file = std::env::temp_dir().join("arl-example.safetensors");
/// weights.write(&file, [])?;
/// let other = config.init_seeded(&Device::flex(), 2)?;
/// let same = Weights::read(&file)?.load_into(other)?;
/// # std::fs::remove_file(&file)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Weights {
    tensors: BTreeMap<String, TensorData>,
    /// Other names of some of them.
    repeated: BTreeMap<String, String>,
}

impl Weights {
    /// The weights of a network.
    pub fn of(network: &Network) -> Self {
        struct Collect {
            names: Names,
            tensors: BTreeMap<String, TensorData>,
        }
        impl ModuleVisitor for Collect {
            fn enter_module(&mut self, name: &str, container: &str) {
                self.names.enter(name, container);
            }
            fn exit_module(&mut self, _name: &str, _container: &str) {
                self.names.exit();
            }
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let Name { text, pointwise } = self.names.here();
                let value = param.val();
                let value = if pointwise { swapped(value) } else { value };
                // Made by PyTorch's batch normalisation, and asked for when its weights are loaded.
                if let Some(norm) = text.strip_suffix(".running_mean") {
                    let count = TensorData::new(vec![0i64], [0usize; 0]);
                    self.tensors.insert(format!("{norm}.{BATCHES}"), count);
                }
                self.tensors
                    .insert(text, value.into_data().convert::<f32>());
            }
        }
        let mut collect = Collect {
            names: Names::of(network),
            tensors: BTreeMap::new(),
        };
        network.visit(&mut collect);
        Self {
            tensors: collect.tensors,
            repeated: BTreeMap::new(),
        }
    }

    /// The weights of the network that `config` describes, to be written under all the names by which nnU-Net's network of
    /// that kind lists them: `load_state_dict` of PyTorch asks for each, unless told not to be strict. Other networks list
    /// each tensor once.
    pub fn with_every_name(mut self, config: &NetworkConfig) -> Self {
        if let NetworkConfig::UNet(unet) = config {
            let dropout = unet.layers.dropout > 0.0;
            let others = |name| names::repeated(unet, dropout, name);
            let names = self.tensors.keys();
            self.repeated = names
                .flat_map(|name| others(name).map(|other| (other, name.clone())))
                .filter(|(other, _)| !self.tensors.contains_key(other))
                .collect();
        }
        self
    }

    /// The weights for images whose axes `[D, H, W]` are in another order: axis `i` of a kernel is its axis `order[i]` now. A
    /// network with these weights gives for such an image what the other one gives for the image as it was.
    ///
    /// # Panics
    /// When `order` does not have 0, 1 and 2, once each.
    pub fn with_axes(mut self, order: [usize; 3]) -> Self {
        if order != [0, 1, 2] {
            for data in self.tensors.values_mut() {
                if data.shape().len() == 5 {
                    *data = turned(data, order);
                }
            }
        }
        self
    }

    /// Reads a file of PyTorch (`.pth`, `.pt`) or safetensors, which its content tells apart. In a checkpoint of nnU-Net the
    /// weights are under `network_weights`, in others under `state_dict` or at the top.
    ///
    /// Nothing in a file is executed.
    ///
    /// # Errors
    /// When the file can't be read, is of another kind, is damaged, or holds no tensors.
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        let tensors = read::read(path)?;
        if tensors.is_empty() {
            return Err(WeightsError::File {
                path: path.to_owned(),
                problem: "holds no weights".into(),
            });
        }
        Ok(Self {
            tensors,
            repeated: BTreeMap::new(),
        })
    }

    /// Writes safetensors, with notes beside the tensors: those of a network in f32, those that were read in the numbers that they
    /// had. What is at `path` is overwritten.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write(
        &self,
        path: &Path,
        notes: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), WeightsError> {
        let failed = |problem: String| WeightsError::File {
            path: path.to_owned(),
            problem,
        };
        let mut views = Vec::with_capacity(self.tensors.len() + self.repeated.len());
        let again = self.repeated.iter();
        let again = again.map(|(other, name)| (other, &self.tensors[name]));
        for (name, tensor) in self.tensors.iter().chain(again) {
            let dtype = dtype::to_store(tensor.dtype()).expect("of a network, or as it was read");
            let view = TensorView::new(dtype, tensor.shape().to_vec(), tensor.as_bytes());
            views.push((name, view.map_err(|error| failed(error.to_string()))?));
        }
        let notes: HashMap<String, String> = notes.into_iter().collect();
        safetensors::serialize_to_file(views, Some(notes), path)
            .map_err(|error| failed(error.to_string()))
    }

    /// The size of a tensor.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.tensors.get(name)?.shape().to_vec())
    }

    /// The names of all tensors, without those that [`with_every_name`](Self::with_every_name) adds.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The network with these weights instead of its own. What PyTorch counts of batches is passed over, and so is each tensor that
    /// is there again under another name that nnU-Net has for it.
    ///
    /// # Errors
    /// Names every tensor that the network has and these weights have not, every one that the network has not, and every one
    /// of another size.
    pub fn load_into(&self, network: Network) -> Result<Network, WeightsError> {
        struct Load<'a> {
            names: Names,
            tensors: BTreeMap<&'a str, &'a TensorData>,
            used: BTreeSet<String>,
            missing: Vec<String>,
            misshaped: Vec<String>,
        }
        impl ModuleMapper for Load<'_> {
            fn enter_module(&mut self, name: &str, container: &str) {
                self.names.enter(name, container);
            }
            fn exit_module(&mut self, _name: &str, _container: &str) {
                self.names.exit();
            }
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let Name { text, pointwise } = self.names.here();
                let mut expected: Vec<usize> = param.dims().to_vec();
                if pointwise {
                    expected.swap(0, 1);
                }
                let Some(&data) = self.tensors.get(text.as_str()) else {
                    self.missing.push(text);
                    return param;
                };
                let found = data.shape().to_vec();
                if found != expected {
                    self.misshaped
                        .push(format!("{text} ({found:?} instead of {expected:?})"));
                    self.used.insert(text);
                    return param;
                }
                self.used.insert(text);
                let data = data.clone().convert::<f32>();
                param.map(|old| {
                    let value = Tensor::from_data(data, &old.device());
                    let value = if pointwise { swapped(value) } else { value };
                    match old.is_require_grad() {
                        true => value.require_grad(),
                        false => value,
                    }
                })
            }
        }
        let (mut tensors, mut twice) = (BTreeMap::new(), Vec::new());
        for (name, data) in &self.tensors {
            if tensors.insert(without_wrappers(name), data).is_some() {
                twice.push(format!("{name} (twice)"));
            }
        }
        let mut load = Load {
            names: Names::of(&network),
            tensors,
            used: BTreeSet::new(),
            missing: Vec::new(),
            misshaped: Vec::new(),
        };
        let network = network.map(&mut load);
        let Load {
            names,
            tensors,
            used,
            missing,
            misshaped,
        } = load;
        let expected = with_repeated(with_batches(used), &names, &tensors);
        let unexpected: Vec<String> = (tensors.keys())
            .filter(|&&name| !expected.contains(name))
            .map(|&name| name.to_owned())
            .chain(twice)
            .collect();
        match missing.is_empty() && unexpected.is_empty() && misshaped.is_empty() {
            true => Ok(network),
            false => Err(WeightsError::Other {
                missing,
                unexpected,
                misshaped,
            }),
        }
    }
}

/// What PyTorch's batch normalisation counts, which nothing here uses.
const BATCHES: &str = "num_batches_tracked";

/// The name without what compiling and training on several devices put before it, in either order.
fn without_wrappers(mut name: &str) -> &str {
    while let Some(rest) = ["module.", "_orig_mod."]
        .iter()
        .find_map(|w| name.strip_prefix(w))
    {
        name = rest;
    }
    name
}

/// The names, and those of what PyTorch counts for each normalisation among them that gathers statistics.
fn with_batches(mut names: BTreeSet<String>) -> BTreeSet<String> {
    let norms = names
        .iter()
        .filter_map(|name| name.strip_suffix(".running_mean"));
    let counts: Vec<String> = norms.map(|norm| format!("{norm}.{BATCHES}")).collect();
    names.extend(counts);
    names
}

/// The names, and the other ones under which the same tensors are listed again.
fn with_repeated(
    mut names: BTreeSet<String>,
    network: &Names,
    tensors: &BTreeMap<&str, &TensorData>,
) -> BTreeSet<String> {
    let same = |name: &str, other: &str| match (tensors.get(name), tensors.get(other)) {
        (Some(one), Some(other)) => {
            one.shape() == other.shape() && one.as_bytes() == other.as_bytes()
        }
        _ => false,
    };
    let again: Vec<String> = (names.iter())
        .flat_map(|name| {
            let others = network.others(name).into_iter();
            others.filter(|other| same(name, other))
        })
        .collect();
    names.extend(again);
    names
}

/// A tensor `[outer, inner, d, h, w]` with its last three axes in another order.
fn turned(data: &TensorData, order: [usize; 3]) -> TensorData {
    let shape = data.shape();
    let (outer, inner) = (shape[0], shape[1]);
    let size = [shape[2], shape[3], shape[4]];
    let strides = [size[1] * size[2], size[2], 1];
    let ([d, h, w], [of_d, of_h, of_w]) = (
        order.map(|axis| size[axis]),
        order.map(|axis| strides[axis]),
    );
    let (bytes, element) = (data.as_bytes(), data.dtype().size());
    let mut out = Vec::with_capacity(bytes.len());
    for kernel in 0..outer * inner {
        let first = kernel * d * h * w;
        for i in 0..d {
            for j in 0..h {
                for k in 0..w {
                    let at = (first + i * of_d + j * of_h + k * of_w) * element;
                    out.extend_from_slice(&bytes[at..at + element]);
                }
            }
        }
    }
    TensorData::from_bytes_vec(out, [outer, inner, d, h, w], data.dtype())
}

/// The first two axes swapped, for weights of 1×1×1 convolutions.
fn swapped<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    tensor.swap_dims(0, 1)
}
