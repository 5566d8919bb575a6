//! The convolutions on the CPU: tensors for [`kernel`].

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::TensorData;
use burn_flex::FlexTensor;

use super::Geometry;
use super::kernel;
use super::ops::ConvolutionOps;
use super::transposed::TransposedConvolutionOps;

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

fn input_shape(geometry: &Geometry) -> [usize; 5] {
    let [d, h, w] = geometry.size;
    [geometry.images, geometry.inputs, d, h, w]
}

fn output_shape(geometry: &Geometry) -> [usize; 5] {
    let [d, h, w] = geometry.output();
    [geometry.images, geometry.outputs, d, h, w]
}

impl ConvolutionOps for Flex {
    fn convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        let (x, weight, bias) = (
            x.to_contiguous(),
            weight.to_contiguous(),
            bias.to_contiguous(),
        );
        let out = kernel::forward(
            &geometry,
            x.storage(),
            weight.storage(),
            Some(bias.storage()),
        );
        tensor(out, output_shape(&geometry))
    }

    fn input_gradient(
        gradient: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        let (gradient, weight) = (gradient.to_contiguous(), weight.to_contiguous());
        let out = kernel::input_gradient(&geometry, gradient.storage(), weight.storage(), None);
        tensor(out, input_shape(&geometry))
    }

    fn weight_gradient(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        let (x, gradient) = (x.to_contiguous(), gradient.to_contiguous());
        let out = kernel::weight_gradient(&geometry, x.storage(), gradient.storage());
        let [d, h, w] = geometry.kernel;
        tensor(out, [geometry.outputs, geometry.inputs, d, h, w])
    }

    fn channel_sums(values: FloatTensor<Self>) -> FloatTensor<Self> {
        let values = values.to_contiguous();
        let shape = values.layout().shape();
        let (channels, voxels) = (shape[1], shape[2] * shape[3] * shape[4]);
        let sums = kernel::channel_sums(values.storage(), channels, voxels);
        tensor(sums, [channels])
    }
}

impl TransposedConvolutionOps for Flex {
    fn transposed_convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        let (x, weight, bias) = (
            x.to_contiguous(),
            weight.to_contiguous(),
            bias.to_contiguous(),
        );
        let out = kernel::input_gradient(
            &geometry,
            x.storage(),
            weight.storage(),
            Some(bias.storage()),
        );
        tensor(out, input_shape(&geometry))
    }

    fn output_gradient(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
        let out = kernel::forward(&geometry, x.storage(), weight.storage(), None);
        tensor(out, output_shape(&geometry))
    }
}
