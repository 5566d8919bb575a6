use burn::tensor::Tensor;

/// What training and prediction ask of a segmentation network, whatever its architecture.
///
/// Images are `[N, C, D, H, W]`. Logits are `[N, classes, D, H, W]`, before softmax.
///
/// On a device with gradient checkpointing (`Device::autodiff().gradient_checkpointing()`) the networks of this crate keep the results of
/// their stages and compute the rest again in the backward pass.
pub trait SegmentationModel {
    /// Logits of every head, finest first: the first has the resolution of `images`, later ones are coarser
    /// and serve deep supervision. A network without deep supervision returns what it predicts.
    ///
    /// # Panics
    /// If the images have other channels than the network takes, or sizes that the `check_patch` of its description refuses; with the
    /// sentence of the [`ModelError`](crate::ModelError).
    fn forward(&self, images: Tensor<5>) -> Vec<Tensor<5>> {
        vec![self.predict(images)]
    }

    /// Logits at the resolution of `images` alone; the other heads are not computed.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    fn predict(&self, images: Tensor<5>) -> Tensor<5>;

    /// Number of classes, background included.
    fn num_classes(&self) -> usize;

    /// `[D, H, W]`: each spatial size of the images must be a multiple of these numbers.
    fn patch_divisors(&self) -> [usize; 3];
}
