use burn::tensor::Tensor;

use crate::channels_last::to_channels_last;

/// Moves channels into space: `[N, a·b·c·C, D, H, W]` becomes `[N, C, D·a, H·b, W·c]` for `factors = [a, b, c]`.
///
/// Of a voxel's input channels, the first `C` become the output channels of the first voxel of its block, the next `C` those
/// of the second, in the order depth, height, width (the mode DCR of ONNX's `DepthToSpace`, in 3D). Where the channels of
/// a voxel lie side by side, as on GPUs, whole runs of them move.
///
/// After a 1×1×1 convolution this is a transposed convolution whose kernel equals its stride, at the speed
/// of an ordinary convolution: GPU backends have no fast path for transposed ones.
///
/// # Panics
/// If the number of channels is not a multiple of the product of the factors.
pub fn depth_to_space(x: Tensor<5>, factors: [usize; 3]) -> Tensor<5> {
    let [a, b, c] = factors;
    if a * b * c == 1 {
        return x;
    }
    let [n, channels, d, h, w] = x.dims();
    assert!(
        channels.is_multiple_of(a * b * c),
        "{channels} channels cannot be spread over blocks of {factors:?} voxels"
    );
    let out = channels / (a * b * c);
    // Images and their slices share an axis, and so do the innermost factor and the channels, which stay together.
    to_channels_last(x)
        .reshape([n * d, h, w, a, b, c * out])
        .permute([0, 3, 1, 4, 2, 5])
        .reshape([n, d * a, h * b, w * c, out])
        .permute([0, 4, 1, 2, 3])
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::module::{conv_transpose3d, conv3d};
    use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};
    use burn::tensor::{Device, Distribution, Tolerance};

    #[test]
    fn after_a_pointwise_convolution_it_is_a_transposed_convolution() {
        let device = Device::flex();
        for factors in [[2, 2, 2], [1, 2, 2], [2, 3, 1]] {
            let (cin, cout, block) = (3, 2, factors.iter().product::<usize>());
            let [a, b, c] = factors;
            let x = Tensor::<5>::random([2, cin, 3, 4, 2], Distribution::Default, &device);
            let weight = Tensor::<5>::random([cin, cout, a, b, c], Distribution::Default, &device);
            let expected = conv_transpose3d(
                x.clone(),
                weight.clone(),
                None,
                ConvTransposeOptions::new(factors, [0; 3], [0; 3], [1; 3], 1),
            );

            // [in, out, a, b, c] -> [a·b·c·out, in, 1, 1, 1]
            let pointwise = weight.permute([2, 3, 4, 1, 0]);
            let pointwise = pointwise.reshape([cout * block, cin, 1, 1, 1]);
            let y = conv3d(
                x,
                pointwise,
                None,
                ConvOptions::new([1; 3], [0; 3], [1; 3], 1),
            );
            let actual = depth_to_space(y, factors);

            actual
                .into_data()
                .assert_approx_eq::<f32>(&expected.into_data(), Tolerance::default());
        }
    }

    #[test]
    fn channels_fill_a_block_in_the_order_depth_height_width() {
        let device = Device::flex();
        let x = Tensor::<1>::from_floats([0., 1., 2., 3., 4., 5., 6., 7.], &device);
        let y = depth_to_space(x.clone().reshape([1, 8, 1, 1, 1]), [2, 2, 2]);
        assert_eq!(y.dims(), [1, 1, 2, 2, 2]);
        y.reshape([8]).into_data().assert_eq(&x.into_data(), true);
    }

    #[test]
    fn output_channels_of_a_voxel_come_together() {
        let device = Device::flex();
        let x = Tensor::<1>::from_floats([0., 1., 2., 3.], &device);
        let y = depth_to_space(x.reshape([1, 4, 1, 1, 1]), [1, 1, 2]);
        assert_eq!(y.dims(), [1, 2, 1, 1, 2]);
        let expected = Tensor::<1>::from_floats([0., 2., 1., 3.], &device);
        let y = y.reshape([4]).into_data();
        y.assert_eq(&expected.into_data(), true);
    }
}
