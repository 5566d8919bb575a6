use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Distribution, Gradients, Tensor};

use crate::{ModelError, SegmentationModel, StageConfig, UNetConfig};

fn config(stages: &[(usize, [usize; 3], [usize; 3])]) -> UNetConfig {
    let stages = stages
        .iter()
        .map(|&(features, kernel, stride)| StageConfig::new(features, kernel, stride))
        .collect();
    UNetConfig::new(2, 3, stages)
}

fn isotropic() -> UNetConfig {
    config(&[
        (4, [3; 3], [1; 3]),
        (6, [3; 3], [2; 3]),
        (8, [3; 3], [2; 3]),
    ])
}

fn anisotropic() -> UNetConfig {
    config(&[
        (4, [1, 3, 3], [1; 3]),
        (6, [3; 3], [1, 2, 2]),
        (8, [3; 3], [2; 3]),
    ])
}

fn output_shapes(config: &UNetConfig, patch: [usize; 3]) -> Vec<[usize; 5]> {
    let device = Device::flex();
    config.check_patch(patch).unwrap();
    let [d, h, w] = patch;
    let model = config.init(&device);
    let images = Tensor::random([2, 2, d, h, w], Distribution::Default, &device);
    let logits = model.forward(images.clone());
    let finest = model.predict(images);
    finest
        .into_data()
        .assert_eq(&logits[0].clone().into_data(), true);
    logits.iter().map(Tensor::dims).collect()
}

#[test]
fn unet_has_logits_at_every_level() {
    assert_eq!(
        output_shapes(&isotropic(), [8, 12, 4]),
        [[2, 3, 8, 12, 4], [2, 3, 4, 6, 2]]
    );
}

#[test]
fn unet_without_deep_supervision_has_one_output() {
    let config = isotropic().with_deep_supervision(false);
    assert_eq!(output_shapes(&config, [8, 8, 8]), [[2, 3, 8, 8, 8]]);
}

#[test]
fn unet_takes_a_stride_and_a_kernel_per_axis() {
    assert_eq!(anisotropic().patch_divisors(), [2, 4, 4]);
    assert_eq!(
        output_shapes(&anisotropic(), [6, 8, 12]),
        [[2, 3, 6, 8, 12], [2, 3, 6, 4, 6]]
    );
}

#[test]
fn unet_with_a_strided_stem_has_full_resolution_logits() {
    let config = isotropic().with_stem_stride([2; 3]);
    assert_eq!(config.patch_divisors(), [8; 3]);
    assert_eq!(
        output_shapes(&config, [16, 8, 16]),
        [[2, 3, 16, 8, 16], [2, 3, 4, 2, 4]]
    );
    let config = anisotropic().with_stem_stride([1, 2, 2]);
    assert_eq!(
        output_shapes(&config, [4, 8, 16]),
        [[2, 3, 4, 8, 16], [2, 3, 4, 2, 4]]
    );
}

#[test]
fn unet_has_the_parameters_counted_by_hand() {
    // Stages of 4 and 6 features, kernel 3, one convolution per stage, 2 channels, 3 classes.
    let config = config(&[(4, [3; 3], [1; 3]), (6, [3; 3], [2; 3])])
        .with_convolutions_per_encoder_stage(1)
        .with_convolutions_per_decoder_stage(1);
    // A block has out·(in·27) weights, a bias and two of the norm; upsampling has 8·out·in weights and a bias.
    let encoder = (4 * 2 * 27 + 3 * 4) + (6 * 4 * 27 + 3 * 6);
    let decoder = (8 * 4 * 6 + 4) + (4 * 8 * 27 + 3 * 4);
    let head = 3 * 4 + 3;
    let model = config.init(&Device::flex());
    assert_eq!(model.num_params(), encoder + decoder + head);
}

#[test]
fn unet_has_as_many_parameters_as_nnunet() {
    // nnU-Net's plain six-stage network, one channel and two classes.
    let stages = [32, 64, 128, 256, 320, 320]
        .into_iter()
        .enumerate()
        .map(|(i, features)| {
            StageConfig::new(features, [3; 3], if i == 0 { [1; 3] } else { [2; 3] })
        });
    let model = UNetConfig::new(1, 2, stages.collect()).init(&Device::flex());
    assert_eq!(model.num_params(), 31_195_594);
}

#[test]
fn unet_gradient_reaches_every_parameter() {
    struct Check<'a>(&'a Gradients, usize);
    impl ModuleVisitor for Check<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = param.val().grad(self.0).expect("a gradient");
            assert_eq!(gradient.dims(), param.dims());
            let largest: f32 = gradient.abs().max().into_scalar();
            // Rank 1 may be a convolution's bias, which the normalisation after it cancels.
            assert!(largest.is_finite() && (D == 1 || largest > 0.0));
            self.1 += param.val().shape().num_elements();
        }
    }
    let device = Device::flex().autodiff();
    let model = anisotropic().with_stem_stride([1, 2, 2]).init(&device);
    let images = Tensor::random([1, 2, 4, 16, 16], Distribution::Default, &device);
    let loss = model
        .forward(images)
        .into_iter()
        .map(|logits| logits.powf_scalar(2.0).mean())
        .reduce(|a, b| a + b)
        .unwrap();
    let gradients = loss.backward();
    let mut check = Check(&gradients, 0);
    model.visit(&mut check);
    assert_eq!(check.1, model.num_params());
}

#[test]
fn unet_config_survives_json() {
    let config = anisotropic().with_stem_stride([1, 2, 2]);
    let json = config.to_string();
    assert_eq!(
        <UNetConfig as burn::config::Config>::load_binary(json.as_bytes()).unwrap(),
        config
    );
}

#[test]
fn unet_refuses_a_patch_with_the_numbers() {
    let error = isotropic().check_patch([8, 10, 8]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "patch [8, 10, 8] does not fit the network: axis 1 has 10 voxels, not a multiple of 4; \
         each size must be a positive multiple of [4, 4, 4]"
    );
    assert!(matches!(
        isotropic().check_patch([4, 4, 4]),
        Err(ModelError::PatchTooSmall { .. })
    ));
    assert!(isotropic().check_patch([0, 4, 4]).is_err());
}

#[test]
fn unet_refuses_descriptions_that_cannot_work() {
    let message = |config: UNetConfig| config.try_init(&Device::flex()).unwrap_err().to_string();
    let mut none = isotropic();
    none.in_channels = 0;
    assert_eq!(message(none), "in_channels is 0: it must be at least 1");
    assert_eq!(
        message(config(&[(4, [3; 3], [1; 3]), (0, [3; 3], [2; 3])])),
        "features of stage 1 is 0: it must be at least 1"
    );
    assert!(message(config(&[(4, [3; 3], [1; 3])])).contains("1 given"));
    assert!(message(config(&[(4, [3; 3], [2; 3]), (4, [3; 3], [2; 3])])).contains("stem_stride"));
    assert!(
        message(config(&[(4, [3, 2, 3], [1; 3]), (4, [3; 3], [2; 3])])).contains("even on axis 1")
    );
    assert!(message(anisotropic().with_stem_stride([2; 3])).contains("on axis 0 it would skip"));
}
