use serde::{Deserialize, Serialize};

/// How logits become probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Each voxel belongs to one class: the probabilities of a voxel add up to 1.
    #[default]
    Softmax,
    /// Each class is a question of its own, and classes may overlap.
    ///
    /// With class indices as target, channel `c` asks whether the voxel's label is `c`; a single channel asks
    /// whether it is 1, with 0 as background.
    Sigmoid,
}
