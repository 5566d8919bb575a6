use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Distribution, Tensor, TensorData};

use crate::parameters_for_tests::{gradients, numbers, parameters};
use crate::{
    Activation, CicekUNetConfig, LayerConfig, ModelError, NetworkConfig, Normalization, Padding,
    Precision, SegmentationModel, StageConfig, UNetConfig, VNetConfig, VNetVariant,
    estimate_memory,
};

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

fn residual() -> UNetConfig {
    isotropic().with_residual_blocks(Some(vec![1, 2, 1]))
}

fn output_shapes(config: &UNetConfig, patch: [usize; 3]) -> Vec<[usize; 5]> {
    let device = Device::flex();
    config.check_patch(patch).unwrap();
    let [d, h, w] = patch;
    let model = config.try_init(&device).unwrap();
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
    let model = config.try_init(&Device::flex()).unwrap();
    assert_eq!(model.num_params(), encoder + decoder + head);
}

/// The plain or residual U-Net of nnU-Net's plans for images of 3D, whose strides these are.
fn nnunets(channels: usize, classes: usize, strides: &[[usize; 3]]) -> UNetConfig {
    let features = [32, 64, 128, 256, 320, 320].into_iter();
    let stages = features.zip(strides);
    let stages = stages.map(|(features, &stride)| StageConfig::new(features, [3; 3], stride));
    UNetConfig::new(channels, classes, stages.collect())
}

#[test]
fn unets_have_as_many_parameters_as_nnunets() {
    let cube = [[1; 3], [2; 3], [2; 3], [2; 3], [2; 3], [2; 3]];
    // The coarsest stage of the Heart plan keeps its slices, so one transposed convolution has half the weights.
    let mut heart = cube;
    heart[5] = [1, 2, 2];
    let residual = nnunets(1, 3, &cube)
        .with_residual_blocks(Some(vec![1, 3, 4, 6, 6, 6]))
        .with_convolutions_per_decoder_stage(1);
    for (what, config, expected) in [
        ("six stages", nnunets(1, 2, &cube), 31_195_594),
        ("four channels", nnunets(4, 4, &cube), 31_199_796),
        ("Hippocampus", nnunets(1, 3, &cube[..4]), 5_603_177),
        ("Heart", nnunets(1, 2, &heart), 30_785_994),
        ("presets of residual encoders", residual, 102_350_575),
    ] {
        let model = config.try_init(&Device::flex()).unwrap();
        assert_eq!(model.num_params(), expected, "{what}");
    }
}

#[test]
fn unet_with_a_residual_encoder_has_logits_at_every_level() {
    let config = residual();
    assert_eq!(
        output_shapes(&config, [8, 12, 4]),
        [[2, 3, 8, 12, 4], [2, 3, 4, 6, 2]]
    );
    let config = config.with_residual_blocks(Some(vec![1, 2]));
    let error = config.try_init(&Device::flex()).unwrap_err().to_string();
    assert!(error.contains("2 numbers for 3 stages"), "{error}");
}

#[test]
fn unet_gradient_reaches_every_parameter() {
    let device = Device::flex().autodiff();
    let model = anisotropic()
        .with_stem_stride([1, 2, 2])
        .try_init(&device)
        .unwrap();
    let images = Tensor::random([1, 2, 4, 16, 16], Distribution::Default, &device);
    let loss = model
        .forward(images)
        .into_iter()
        .map(|logits| logits.powf_scalar(2.0).mean())
        .reduce(|a, b| a + b)
        .unwrap();
    let gradients = gradients(&model, &loss.backward());
    let mut reached = 0;
    for (parameter, gradient) in parameters(&model).into_iter().zip(gradients) {
        let gradient = gradient.expect("a gradient");
        assert_eq!(gradient.shape(), parameter.shape());
        // Rank 1 may be a convolution's bias, which the normalisation after it cancels.
        let may_be_nothing = parameter.shape().len() == 1;
        let values = numbers([gradient]);
        assert!(values.iter().all(|value| value.is_finite()));
        assert!(may_be_nothing || values.iter().any(|&value| value != 0.0));
        reached += values.len();
    }
    assert_eq!(reached, model.num_params());
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
#[should_panic(
    expected = "patch [8, 10, 8] does not fit the network: axis 1 has 10 voxels, \
                           not a multiple of 4; each size must be a positive multiple of [4, 4, 4]"
)]
fn unet_takes_no_images_that_its_strides_do_not_divide() {
    let device = Device::flex();
    let model = isotropic().try_init(&device).unwrap();
    model.forward(Tensor::zeros([1, 2, 8, 10, 8], &device));
}

#[test]
#[should_panic(expected = "the images have 3 channels, and the network takes 2")]
fn unet_takes_no_images_of_other_channels() {
    let device = Device::flex();
    let model = residual().try_init(&device).unwrap();
    model.predict(Tensor::zeros([1, 3, 8, 8, 8], &device));
}

#[test]
#[should_panic(expected = "patch [4, 4, 4] leaves one voxel at the deepest stage")]
fn unet_takes_no_images_that_are_one_voxel_at_its_deepest_stage() {
    let device = Device::flex().autodiff().gradient_checkpointing();
    let model = isotropic().try_init(&device).unwrap();
    model.forward(Tensor::zeros([1, 2, 4, 4, 4], &device));
}

#[test]
#[should_panic(expected = "axis 2 has 24 voxels, not a multiple of 16")]
fn vnet_takes_no_images_of_other_sizes_when_checkpointing() {
    let device = Device::flex().autodiff().gradient_checkpointing();
    let config = NetworkConfig::VNet(VNetConfig::new(1, 2).with_features(2));
    let network = config.try_init(&device).unwrap();
    network.forward(Tensor::<5>::zeros([1, 1, 16, 16, 24], &device).require_grad());
}

#[test]
#[should_panic(expected = "axis 0 has 96 voxels; the nearest sizes that do are 92 and 100")]
fn the_first_unet_takes_no_images_that_valid_convolutions_use_up() {
    let device = Device::flex();
    let config = CicekUNetConfig::new(1, 2).with_padding(Padding::Valid);
    let model = config.with_features(2).try_init(&device).unwrap();
    model.predict(Tensor::zeros([1, 1, 96, 92, 92], &device));
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

#[test]
fn descriptions_whose_products_would_overflow_are_refused_with_their_numbers() {
    let message = |config: UNetConfig| config.validate().unwrap_err().to_string();
    let limit = "it can be at most 65536";
    let unet = |change: fn(&mut UNetConfig)| {
        let mut unet = isotropic();
        change(&mut unet);
        message(unet)
    };
    assert_eq!(
        unet(|unet| unet.in_channels = 65_537),
        format!("in_channels is 65537: {limit}")
    );
    for (message, what) in [
        (unet(|unet| unet.num_classes = usize::MAX), "num_classes"),
        (
            unet(|unet| unet.stages[2].features = 1 << 20),
            "features of stage 2 is 1048576",
        ),
        (
            unet(|unet| unet.stages[1].stride[0] = usize::MAX),
            "stride of stage 1",
        ),
        (unet(|unet| unet.stem_stride[1] = usize::MAX), "stem_stride"),
        (
            unet(|unet| unet.convolutions_per_encoder_stage = usize::MAX),
            "convolutions_per_encoder",
        ),
        (
            unet(|unet| unet.convolutions_per_decoder_stage = usize::MAX),
            "convolutions_per_decoder",
        ),
        (
            unet(|unet| unet.residual_blocks = Some(vec![1, usize::MAX, 1])),
            "residual blocks",
        ),
    ] {
        assert!(
            message.contains(what) && message.contains(limit),
            "{message}"
        );
    }
    assert_eq!(
        unet(|unet| unet.stages[1].kernel[2] = usize::MAX),
        format!("kernel of stage 1 is {}: it can be at most 127", usize::MAX)
    );
    // Each stride does, their product does not.
    for stages in [18, 100] {
        let stage = |i| (2, [3; 3], [1, 1, if i > 0 { 2 } else { 1 }]);
        let many = config(&(0..stages).map(stage).collect::<Vec<_>>());
        many.patch_divisors();
        let message = message(many);
        assert!(message.contains("the product of all strides is ") && message.contains(limit));
    }
    for config in [
        NetworkConfig::VNet(VNetConfig::new(1, 2).with_features(usize::MAX)),
        NetworkConfig::VNet(VNetConfig::new(usize::MAX, 2)),
        NetworkConfig::CicekUNet(CicekUNetConfig::new(1, 2).with_features(1 << 62)),
        NetworkConfig::CicekUNet(CicekUNetConfig::new(1, usize::MAX)),
    ] {
        let error = config.check_patch([16, 16, 32]).unwrap_err().to_string();
        assert!(error.contains(limit), "{error}");
    }
}

#[test]
fn nothing_overflows_at_the_limits_of_descriptions_and_patches() {
    let (most, voxels) = (1 << 16, [1 << 16; 3]);
    let stage = |stride| StageConfig::new(most, [127; 3], stride);
    let unet = UNetConfig::new(
        most,
        most,
        vec![stage([1; 3]), stage([64; 3]), stage([8; 3])],
    );
    let unet = unet.with_stem_stride([64; 3]);
    let cicek = CicekUNetConfig::new(most, most).with_features(most);
    let vnet = VNetConfig::new(most, most).with_features(most);
    let other = vnet.clone().with_variant(VNetVariant::Prototxt);
    for config in [
        NetworkConfig::UNet(unet.clone()),
        NetworkConfig::UNet(unet.with_residual_blocks(Some(vec![3; 3]))),
        NetworkConfig::VNet(vnet),
        NetworkConfig::VNet(other),
        NetworkConfig::CicekUNet(cicek),
    ] {
        for checkpointing in [false, true] {
            let estimate = estimate_memory(&config, voxels, usize::MAX, checkpointing).unwrap();
            assert_eq!(estimate.total(), u64::MAX);
        }
        config.try_init(&Device::flex()).unwrap();
        let error = config.check_patch([1 << 17; 3]).unwrap_err().to_string();
        assert!(
            error.ends_with("is 131072: it can be at most 65536"),
            "{error}"
        );
    }
    let valid = CicekUNetConfig::new(1, 2).with_padding(Padding::Valid);
    assert!(valid.check_patch([usize::MAX; 3]).is_err());
}

#[test]
fn vnets_have_their_published_parameters() {
    for (variant, expected) in [
        (VNetVariant::Paper, 65_175_314),
        (VNetVariant::Prototxt, 61_982_682),
    ] {
        let config = VNetConfig::new(1, 2).with_variant(variant);
        let model = config.try_init(&Device::flex()).unwrap();
        assert_eq!(model.num_params(), expected);
    }
}

#[test]
fn vnet_has_logits_of_the_images_size() {
    let device = Device::flex();
    for variant in [VNetVariant::Paper, VNetVariant::Prototxt] {
        let config = VNetConfig::new(2, 3).with_features(4).with_variant(variant);
        config.check_patch([16, 32, 16]).unwrap();
        let model = config.try_init(&device).unwrap();
        let images = Tensor::random([2, 2, 16, 32, 16], Distribution::Default, &device);
        assert_eq!(model.predict(images).dims(), [2, 3, 16, 32, 16]);
    }
    let message = |config: VNetConfig| config.validate().unwrap_err().to_string();
    assert!(message(VNetConfig::new(3, 2)).contains("3 channels do not divide 16 features"));
    assert!(message(VNetConfig::new(0, 2)).contains("in_channels is 0"));
    let error = VNetConfig::new(1, 2).check_patch([16, 24, 16]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("axis 1 has 24 voxels, not a multiple of 16")
    );
}

#[test]
fn the_first_unet_has_the_papers_parameters() {
    let config = CicekUNetConfig::new(3, 3).with_padding(Padding::Valid);
    let model = config.try_init(&Device::flex()).unwrap();
    // Gamma, beta, running mean and variance of each normalised channel; biases of the transposed convolutions.
    let normalised = (32 + 64) + (64 + 128) + (128 + 256) + (256 + 512) + 2 * (256 + 128 + 64);
    let up = 512 + 256 + 128;
    let counted = model.num_params() - up - 4 * normalised;
    assert_eq!([2 * normalised, counted], [4_672, 19_069_955]);
    assert_eq!(config.output_size([132, 132, 116]).unwrap(), [44, 44, 28]);
}

#[test]
fn the_first_unet_with_and_without_padding() {
    let device = Device::flex();
    let config = CicekUNetConfig::new(2, 3).with_features(2);
    let images = Tensor::random([1, 2, 92, 92, 100], Distribution::Default, &device);
    let valid = config.clone().with_padding(Padding::Valid);
    let logits = valid.try_init(&device).unwrap().predict(images);
    assert_eq!(logits.dims(), [1, 3, 4, 4, 12]);
    let error = valid.check_patch([92, 96, 100]).unwrap_err().to_string();
    assert!(
        error.contains("axis 1 has 96 voxels; the nearest sizes that do are 92 and 100"),
        "{error}"
    );
    assert!(valid.check_patch([92, 84, 92]).is_err());

    let images = Tensor::random([2, 2, 8, 16, 24], Distribution::Default, &device);
    let logits = config.try_init(&device).unwrap().predict(images);
    assert_eq!(logits.dims(), [2, 3, 8, 16, 24]);
    assert!(config.check_patch([8, 12, 8]).is_err());
}

#[test]
fn layers_of_every_kind_give_every_network_finite_logits_and_gradients() {
    let device = Device::flex().autodiff();
    let images = Tensor::random([2, 2, 16, 16, 32], Distribution::Default, &device);
    let (vnet, cicek) = (VNetConfig::new(2, 3), CicekUNetConfig::new(2, 3));
    for normalization in ["none", "instance", "batch", "group:2"] {
        let activations = ["relu", "leaky-relu:0.2", "prelu"];
        for (activation, dropout) in activations.iter().flat_map(|a| [(a, 0.0), (a, 0.2)]) {
            let layers = LayerConfig {
                normalization: normalization.parse().unwrap(),
                activation: activation.parse().unwrap(),
                dropout,
            };
            // More channels with dropout: with all of a layer's dropped, logits may be nothing but their biases, which are 0.
            let features = if dropout > 0.0 { 8 } else { 2 };
            let unet = config(&[
                (2 * features, [3; 3], [1; 3]),
                (4 * features, [3; 3], [2; 3]),
            ]);
            for config in [
                NetworkConfig::UNet(unet.clone().with_layers(layers)),
                NetworkConfig::UNet(
                    unet.clone()
                        .with_residual_blocks(Some(vec![1, 2]))
                        .with_layers(layers),
                ),
                NetworkConfig::VNet(vnet.clone().with_features(features).with_layers(layers)),
                NetworkConfig::CicekUNet(cicek.clone().with_features(features).with_layers(layers)),
            ] {
                config.check_patch([16, 16, 32]).unwrap();
                let network = config.try_init(&device).unwrap();
                let logits = network.predict(images.clone());
                assert_eq!(logits.dims(), [2, 3, 16, 16, 32]);
                let loss = logits.powf_scalar(2.0).mean();
                let value: f32 = loss.clone().into_scalar();
                assert!(value.is_finite() && value > 0.0, "{value} for {config:?}");
                if dropout > 0.0 {
                    // With all of a layer's channels of an image dropped, each normalisation behind it divides by the root of its epsilon,
                    // and the gradients of many such in a row are too large to square.
                    continue;
                }
                let gradients = gradients(&network, &loss.backward());
                let all = numbers(gradients.into_iter().flatten());
                let norm = all.iter().map(|value| value * value).sum::<f32>().sqrt();
                assert!(norm.is_finite() && norm > 0.0, "{norm} for {config:?}");
            }
        }
    }
}

#[test]
fn layers_add_the_parameters_that_they_learn() {
    let count = |normalization, activation| {
        let layers = LayerConfig {
            normalization,
            activation,
            dropout: 0.0,
        };
        let config = isotropic().with_layers(layers);
        config.try_init(&Device::flex()).unwrap().num_params()
    };
    // Two convolutions in each of the three stages down and of the two up.
    let channels = 2 * (4 + 6 + 8) + 2 * (4 + 6);
    let bare = count(Normalization::None, Activation::Relu);
    let group = Normalization::Group { groups: 2 };
    assert_eq!(count(group, Activation::Relu), bare + 2 * channels);
    assert_eq!(count(group, Activation::PRelu), bare + 3 * channels);
    // Batch normalisation also holds two running statistics, which nothing trains.
    let batch = count(Normalization::Batch, Activation::Relu);
    assert_eq!(batch, bare + 4 * channels);
}

#[test]
fn dropout_drops_whole_channels_in_training_alone() {
    let layers = LayerConfig {
        normalization: Normalization::None,
        activation: Activation::Relu,
        dropout: 0.5,
    };
    let forward = |device: &Device| {
        let layers = crate::layers::Layers::new(64, &layers, device);
        let ones = Tensor::<5>::ones([2, 64, 2, 2, 2], device);
        layers
            .forward(ones)
            .into_data()
            .iter::<f32>()
            .collect::<Vec<_>>()
    };
    let found = forward(&Device::flex().autodiff());
    let channels: Vec<&[f32]> = found.chunks(8).collect();
    for channel in &channels {
        assert!(channel == &[0.0; 8] || channel == &[2.0; 8], "{channel:?}");
    }
    let kept = channels.iter().filter(|channel| channel[0] > 0.0).count();
    // 128 fair coins: further off than this once in ten million times.
    assert!((33..=95).contains(&kept), "{kept} of 128 kept");
    assert_eq!(forward(&Device::flex()), vec![1.0; 2 * 64 * 8]);
}

#[test]
fn layers_that_cannot_be_are_refused_with_their_numbers() {
    let message = |change: fn(&mut LayerConfig)| {
        let mut layers = LayerConfig::nnunet();
        change(&mut layers);
        let error = isotropic().with_layers(layers).validate().unwrap_err();
        error.to_string()
    };
    let text = message(|layers| layers.normalization = Normalization::Group { groups: 4 });
    assert!(
        text.contains("4 groups does not divide 6 features"),
        "{text}"
    );
    let text = message(|layers| layers.normalization = Normalization::Group { groups: 0 });
    assert!(text.contains("0 groups"), "{text}");
    let text = message(|layers| layers.dropout = 1.0);
    assert!(text.contains("dropout is 1"), "{text}");
    let text = message(|layers| layers.dropout = f64::NAN);
    assert!(text.contains("dropout is NaN"), "{text}");
    let text = message(|layers| layers.activation = Activation::LeakyRelu { slope: 1.0 });
    assert!(text.contains("slope of the leaky ReLU is 1"), "{text}");
    for word in ["Instance", "group", "group:", "group:-1", ""] {
        let error = word.parse::<Normalization>().unwrap_err().to_string();
        assert!(error.contains("known are none, instance"), "{error}");
    }
    for word in ["elu", "leaky-relu:x"] {
        assert!(word.parse::<Activation>().is_err());
    }
    for text in ["none", "instance", "batch", "group:3"] {
        let parsed: Normalization = text.parse().unwrap();
        assert_eq!(parsed.to_string(), text);
    }
    for text in ["relu", "prelu", "leaky-relu:0.1"] {
        let parsed: Activation = text.parse().unwrap();
        assert_eq!(parsed.to_string(), text);
    }
}

#[test]
fn only_instance_normalisation_needs_two_voxels_at_the_deepest_stage() {
    let batch = LayerConfig {
        normalization: Normalization::Batch,
        ..LayerConfig::nnunet()
    };
    isotropic().with_layers(batch).check_patch([4; 3]).unwrap();
    let instance = VNetConfig::new(1, 2).with_layers(LayerConfig::nnunet());
    assert!(instance.check_patch([16; 3]).is_err());
    VNetConfig::new(1, 2).check_patch([16; 3]).unwrap();
}

#[test]
fn network_configs_survive_json_and_name_their_architecture() {
    for (config, name) in [
        (NetworkConfig::UNet(residual()), "unet"),
        (NetworkConfig::VNet(VNetConfig::new(1, 2)), "vnet"),
        (
            NetworkConfig::CicekUNet(CicekUNetConfig::new(1, 2)),
            "cicek_unet",
        ),
    ] {
        let json = serde_json::to_value(&config).unwrap();
        assert_eq!(json["architecture"], name);
        assert_eq!(
            serde_json::from_value::<NetworkConfig>(json).unwrap(),
            config
        );
    }
    let valid = CicekUNetConfig::new(1, 2).with_padding(Padding::Valid);
    let error = NetworkConfig::CicekUNet(valid)
        .check_patch([92; 3])
        .unwrap_err();
    assert!(
        error.to_string().contains("[4, 4, 4] voxels only"),
        "{error}"
    );
}

/// The largest difference of the logits of bf16, as a share of the largest logit; and the cosine between both gradients of
/// the weights.
fn compare_precisions(config: &NetworkConfig) -> (f32, f32) {
    /// He's uniform weights, the same in every run.
    struct Fill(u32);
    impl ModuleMapper for Fill {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let shape = param.dims();
            if D == 1 {
                return param;
            }
            let inputs: usize = shape[1..].iter().product();
            let most = (6.0 / inputs as f32).sqrt();
            let mut value = || {
                self.0 ^= self.0 << 13;
                self.0 ^= self.0 >> 17;
                self.0 ^= self.0 << 5;
                most * (self.0 as f32 / (u32::MAX / 2) as f32 - 1.0)
            };
            let values: Vec<f32> = (0..shape.iter().product()).map(|_| value()).collect();
            let data = TensorData::new(values, shape);
            param.map(|old| Tensor::from_data(data, &old.device()).require_grad())
        }
    }
    let device = Device::flex().autodiff();
    let network = config.try_init(&device).unwrap().map(&mut Fill(2463534242));
    let shape = [2, config.channels().0, 16, 16, 32];
    let values = (0..shape.iter().product()).map(|i| ((i * 7919) % 1009) as f32 / 504.0 - 1.0);
    let data = TensorData::new(values.collect::<Vec<f32>>(), shape);
    let images = Tensor::<5>::from_data(data, &device);
    let run = |precision: Precision| {
        let logits = precision.forward(&network, images.clone()).remove(0);
        assert_eq!(logits.dtype(), burn::tensor::DType::F32);
        let loss = logits.clone().tanh().powi_scalar(2).mean();
        let gradients = gradients(&network, &loss.backward());
        let gradients: Vec<_> = gradients.into_iter().flatten().collect();
        let f32s = |data: &TensorData| data.dtype() == burn::tensor::DType::F32;
        assert!(gradients.iter().all(f32s));
        (numbers([logits.into_data()]), numbers(gradients))
    };
    let (exact, exact_gradients) = run(Precision::F32);
    let (rough, rough_gradients) = run(Precision::Bf16);
    let largest = exact.iter().fold(0.0f32, |a, b| a.max(b.abs()));
    let pairs = exact.iter().zip(&rough);
    let difference = pairs.fold(0.0f32, |a, (x, y)| a.max((x - y).abs()));
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(x * y)).sum::<f64>();
    let cosine = dot(&exact_gradients, &rough_gradients)
        / (dot(&exact_gradients, &exact_gradients) * dot(&rough_gradients, &rough_gradients))
            .sqrt();
    (difference / largest, cosine as f32)
}

#[test]
fn bf16_is_f32_but_for_rounding_and_its_gradients_reach_the_f32_weights() {
    let plain = config(&[(4, [3; 3], [1; 3]), (8, [3; 3], [2; 3])]);
    for config in [
        NetworkConfig::UNet(plain.clone()),
        NetworkConfig::UNet(plain.with_residual_blocks(Some(vec![1, 2]))),
        NetworkConfig::VNet(VNetConfig::new(2, 3).with_features(2)),
        NetworkConfig::CicekUNet(CicekUNetConfig::new(2, 3).with_features(2)),
    ] {
        let (difference, cosine) = compare_precisions(&config);
        println!("{difference} {cosine} {config:?}");
        // A rounding is up to 0.4 %, and there are some ten to thirty one after the other.
        assert!(
            difference > 0.0 && difference < 0.04,
            "{difference} {config:?}"
        );
        assert!(cosine > 0.995, "{cosine} {config:?}");
    }
}
