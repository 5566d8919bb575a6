//! What losses take: volumes or slices, class indices or shares.

use burn::prelude::*;

/// Scores of a network before softmax or sigmoid: `[N, C, D, H, W]`, or `[N, C, H, W]` of 2D images, which are volumes
/// of depth 1 here. Made by `from` either.
#[derive(Debug, Clone)]
pub struct Logits(pub(crate) Tensor<5>);

impl From<Tensor<5>> for Logits {
    fn from(logits: Tensor<5>) -> Self {
        Self(logits)
    }
}

impl From<Tensor<4>> for Logits {
    fn from(logits: Tensor<4>) -> Self {
        Self(logits.unsqueeze_dim(2))
    }
}

/// What the logits should have been. Made by `from` a tensor; targets carry no gradient.
#[derive(Debug, Clone)]
pub enum Target {
    /// Class indices, `[N, D, H, W]`: from an integer tensor of that shape, or `[N, H, W]` of 2D images.
    Labels(Tensor<4, Int>),
    /// The share of each class in each voxel, 0 to 1, `[N, C, D, H, W]`: from a float or bool tensor of that shape, or
    /// `[N, C, H, W]` of 2D images. With softmax the shares of a voxel should add up to 1; with sigmoid they need not.
    ///
    /// A negative or NaN share counts nowhere: with sigmoid for its class only, so that a dataset may lack labels for
    /// some of its classes, and with softmax for the whole voxel.
    Shares(Tensor<5>),
}

impl From<Tensor<4, Int>> for Target {
    fn from(labels: Tensor<4, Int>) -> Self {
        Self::Labels(labels)
    }
}

impl From<Tensor<3, Int>> for Target {
    fn from(labels: Tensor<3, Int>) -> Self {
        Self::Labels(labels.unsqueeze_dim(1))
    }
}

impl From<Tensor<5>> for Target {
    fn from(shares: Tensor<5>) -> Self {
        Self::Shares(shares)
    }
}

impl From<Tensor<4>> for Target {
    fn from(shares: Tensor<4>) -> Self {
        Self::Shares(shares.unsqueeze_dim(2))
    }
}

impl From<Tensor<5, Bool>> for Target {
    fn from(masks: Tensor<5, Bool>) -> Self {
        Self::Shares(masks.float())
    }
}

impl From<Tensor<4, Bool>> for Target {
    fn from(masks: Tensor<4, Bool>) -> Self {
        masks.float().into()
    }
}

impl Target {
    /// Shape `[D, H, W]`.
    pub(crate) fn volume(&self) -> [usize; 3] {
        match self {
            Self::Labels(labels) => {
                let [_, d, h, w] = labels.dims();
                [d, h, w]
            }
            Self::Shares(shares) => {
                let [_, _, d, h, w] = shares.dims();
                [d, h, w]
            }
        }
    }

    /// The target at another `shape` `[D, H, W]`: each voxel takes what lies at its centre.
    pub(crate) fn nearest(self, shape: [usize; 3]) -> Self {
        match self {
            Self::Labels(labels) => Self::Labels(nearest(labels, 1, shape)),
            Self::Shares(shares) => Self::Shares(nearest(shares, 2, shape)),
        }
    }
}

fn nearest<const D: usize, K: burn::tensor::kind::Basic>(
    mut values: Tensor<D, K>,
    first_axis: usize,
    shape: [usize; 3],
) -> Tensor<D, K> {
    let device = values.device();
    for (axis, &new) in shape.iter().enumerate() {
        let axis = axis + first_axis;
        let old = values.dims()[axis];
        if old != new {
            let centre = |i: usize| ((2 * i + 1) * old / (2 * new)) as i64;
            let index: Vec<i64> = (0..new).map(centre).collect();
            let index = Tensor::from_data(burn::tensor::TensorData::new(index, [new]), &device);
            values = values.select(axis, index);
        }
    }
    values
}
