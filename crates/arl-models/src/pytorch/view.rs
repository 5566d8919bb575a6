//! How PyTorch describes a tensor in a pickle.

use safetensors::Dtype;

use super::pickle::{Id, Node, Pickle};

/// Where a tensor lies in its storage, in elements.
pub(super) struct View {
    /// Name of the file in the archive.
    pub storage: String,
    pub dtype: Dtype,
    offset: usize,
    pub shape: Vec<usize>,
    strides: Vec<usize>,
}

impl View {
    /// The view that calling PyTorch's functions would give.
    pub fn of(pickle: &Pickle, value: Id) -> Result<Self, String> {
        let none = || "is no tensor; save the network's state_dict() alone".to_owned();
        let Node::Call {
            mut function,
            mut arguments,
        } = *pickle.node(value)
        else {
            return Err(none());
        };
        // A tensor may be wrapped as a parameter, as a class of its own, or as both, but not any number of times.
        for _ in 0..4 {
            let Node::Global(name) = pickle.node(function) else {
                return Err(none());
            };
            let parts = pickle.members(arguments).ok_or_else(none)?;
            match (name.as_str(), parts) {
                ("torch._utils._rebuild_tensor_v2", [storage, offset, shape, strides, ..]) => {
                    return Self::from_parts(pickle, *storage, [*offset, *shape, *strides]);
                }
                ("torch._utils._rebuild_parameter", [tensor, ..]) => match *pickle.node(*tensor) {
                    Node::Call {
                        function: inner,
                        arguments: of_inner,
                    } => (function, arguments) = (inner, of_inner),
                    _ => return Err(none()),
                },
                ("torch._tensor._rebuild_from_type_v2", [inner, _, of_inner, ..]) => {
                    (function, arguments) = (*inner, *of_inner);
                }
                (other, _) => {
                    return Err(format!(
                        "is made by {other}; save the network's state_dict() as plain tensors"
                    ));
                }
            }
        }
        Err("is wrapped too often; save the network's state_dict() as plain tensors".into())
    }

    fn from_parts(pickle: &Pickle, storage: Id, parts: [Id; 3]) -> Result<Self, String> {
        let [offset, shape, strides] = parts;
        let broken =
            || "is described in an unknown way; save it with PyTorch 1.6 or later".to_owned();
        let Node::Persistent(storage) = *pickle.node(storage) else {
            return Err(broken());
        };
        let Some(&[_, class, key, _, elements]) = pickle.members(storage) else {
            return Err(broken());
        };
        let Node::Global(class) = pickle.node(class) else {
            return Err(broken());
        };
        let dtype = match class.as_str() {
            "torch.DoubleStorage" => Dtype::F64,
            "torch.FloatStorage" => Dtype::F32,
            "torch.HalfStorage" => Dtype::F16,
            "torch.BFloat16Storage" => Dtype::BF16,
            "torch.LongStorage" => Dtype::I64,
            other => {
                return Err(format!(
                    "is a {other}; weights are floating point numbers of 16, 32 or 64 bits"
                ));
            }
        };
        let view = Self {
            storage: pickle.text(key).ok_or_else(broken)?.to_owned(),
            dtype,
            offset: pickle.count(offset).ok_or_else(broken)?,
            shape: pickle.counts(shape).ok_or_else(broken)?,
            strides: pickle.counts(strides).ok_or_else(broken)?,
        };
        let stored = pickle.count(elements).ok_or_else(broken)?;
        let size = view
            .shape
            .iter()
            .try_fold(view.size(), |a, &b| a.checked_mul(b));
        match size {
            // An expanded tensor repeats what is stored, any number of times.
            Some(size) if view.elements() <= stored && size < isize::MAX as usize => {}
            _ => {
                return Err(format!(
                    "has the size {:?} but {stored} stored numbers; save its .contiguous()",
                    view.shape
                ));
            }
        }
        match view.shape.len() == view.strides.len() {
            true => Ok(view),
            false => Err(broken()),
        }
    }

    /// Bytes of an element.
    fn size(&self) -> usize {
        match self.dtype {
            Dtype::F64 | Dtype::I64 => 8,
            Dtype::F32 => 4,
            _ => 2,
        }
    }

    fn elements(&self) -> usize {
        self.shape.iter().fold(1, |a, &b| a.saturating_mul(b))
    }

    /// Bytes of all elements.
    pub fn bytes(&self) -> usize {
        self.elements().saturating_mul(self.size())
    }

    /// Whether the elements lie in row-major order without gaps.
    fn is_contiguous(&self) -> bool {
        let mut expected = 1usize;
        let mut axes = self.shape.iter().zip(&self.strides).rev();
        axes.all(|(&length, &stride)| {
            let fits = length == 1 || stride == expected;
            expected = expected.saturating_mul(length);
            fits
        })
    }

    /// The elements in row-major order; `None` if they reach out of the storage.
    pub fn gathered(&self, storage: &[u8]) -> Option<Vec<u8>> {
        let (size, elements) = (self.size(), self.elements());
        if self.bytes() > storage.len() {
            return None;
        }
        if self.is_contiguous() {
            let start = self.offset.checked_mul(size)?;
            return Some(
                storage
                    .get(start..start.checked_add(self.bytes())?)?
                    .to_vec(),
            );
        }
        let mut bytes = Vec::with_capacity(self.bytes());
        let mut index = vec![0usize; self.shape.len()];
        for _ in 0..elements {
            let mut steps = index.iter().zip(&self.strides);
            let place = steps.try_fold(self.offset, |place, (&i, &stride)| {
                place.checked_add(i.checked_mul(stride)?)
            })?;
            let start = place.checked_mul(size)?;
            bytes.extend_from_slice(storage.get(start..start.checked_add(size)?)?);
            for (i, &length) in index.iter_mut().zip(&self.shape).rev() {
                *i += 1;
                if *i < length {
                    break;
                }
                *i = 0;
            }
        }
        Some(bytes)
    }
}
