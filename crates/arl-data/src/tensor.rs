//! Patches as tensors; the only module that needs Burn.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::loader::Batch;

impl Batch {
    /// Uploads the batch: images `[N, C, D, H, W]` and labels `[N, D, H, W]`, in the device's own number types.
    pub fn into_tensors(self, device: &Device) -> (Tensor<5>, Tensor<4, Int>) {
        let [n, _, d, h, w] = self.shape;
        (
            Tensor::from_data(TensorData::new(self.images, self.shape), device),
            Tensor::from_data(TensorData::new(self.labels, [n, d, h, w]), device),
        )
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_places() {
        let batch = Batch {
            images: (0..24).map(|value| value as f32).collect(),
            labels: (0..12).collect(),
            shape: [1, 2, 2, 2, 3],
            case_ids: vec!["a".into()],
        };
        let (images, labels) = batch.into_tensors(&Device::flex());
        assert_eq!(images.dims(), [1, 2, 2, 2, 3]);
        assert_eq!(labels.dims(), [1, 2, 2, 3]);
        let last = images.slice([0..1, 1..2, 1..2, 1..2, 2..3]).into_data();
        assert_eq!(last.iter::<f32>().collect::<Vec<_>>(), [23.0]);
        let last = labels.slice([0..1, 1..2, 1..2, 2..3]).into_data();
        assert_eq!(last.iter::<i32>().collect::<Vec<_>>(), [11]);
    }
}
