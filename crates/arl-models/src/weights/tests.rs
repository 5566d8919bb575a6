use std::io::Write;

use burn::tensor::{DType, Device, Tensor};
use safetensors::Dtype;

use super::*;
use crate::parameters_for_tests::parameters;
use crate::{
    Activation, CicekUNetConfig, LayerConfig, Normalization, SegmentationModel, StageConfig,
    UNetConfig, VNetConfig,
};

fn stages() -> Vec<StageConfig> {
    vec![
        StageConfig::new(4, [1, 3, 3], [1; 3]),
        StageConfig::new(6, [3; 3], [1, 2, 2]),
        StageConfig::new(6, [3; 3], [2; 3]),
    ]
}

fn networks() -> Vec<NetworkConfig> {
    let unet = UNetConfig::new(2, 3, stages());
    let learned = LayerConfig {
        normalization: Normalization::Batch,
        activation: Activation::PRelu,
        dropout: 0.0,
    };
    vec![
        NetworkConfig::UNet(unet.clone()),
        NetworkConfig::UNet(
            unet.clone()
                .with_stem_stride([1, 2, 2])
                .with_layers(learned),
        ),
        NetworkConfig::UNet(
            unet.with_residual_blocks(Some(vec![1, 2, 1]))
                .with_layers(learned),
        ),
        NetworkConfig::VNet(VNetConfig::new(1, 2).with_features(2)),
        NetworkConfig::CicekUNet(CicekUNetConfig::new(1, 2).with_features(2)),
    ]
}

#[test]
fn written_and_read_weights_are_the_same_bits() {
    let (device, folder) = (Device::flex(), tempfile::tempdir().unwrap());
    let path = folder.path().join("weights.safetensors");
    for config in networks() {
        let (network, other) = (
            config.try_init(&device).unwrap(),
            config.try_init(&device).unwrap(),
        );
        let note = ("made by".to_owned(), "a test".to_owned());
        Weights::of(&network).write(&path, [note]).unwrap();
        assert_ne!(parameters(&network), parameters(&other));
        let weights = Weights::read(&path).unwrap();
        let loaded = weights.load_into(other).unwrap();
        assert_eq!(parameters(&loaded), parameters(&network), "{config:?}");
        assert_eq!(loaded.config(), config);
    }
}

#[test]
fn weights_of_every_type_are_written_as_they_were_read() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    for (stored, dtype) in [
        (Dtype::F16, DType::F16),
        (Dtype::BF16, DType::BF16),
        (Dtype::F32, DType::F32),
        (Dtype::F64, DType::F64),
        (Dtype::I64, DType::I64),
    ] {
        let bytes: Vec<u8> = (0..6 * dtype.size()).map(|i| i as u8).collect();
        let view = TensorView::new(stored, vec![2, 3], &bytes).unwrap();
        safetensors::serialize_to_file([("tensor", view)], None, &first).unwrap();
        let weights = Weights::read(&first).unwrap();
        weights.write(&second, []).unwrap();
        let again = Weights::read(&second).unwrap();
        assert_eq!(again.tensors["tensor"].dtype(), dtype);
        assert_eq!(again.tensors["tensor"].as_bytes(), bytes);
        assert_eq!(again.shape("tensor"), Some(vec![2, 3]));
    }
}

#[test]
fn names_and_layouts_are_nnunets() {
    let config = NetworkConfig::UNet(
        UNetConfig::new(2, 3, stages()).with_residual_blocks(Some(vec![1, 2, 1])),
    );
    let weights = Weights::of(&config.try_init(&Device::flex()).unwrap());
    for (name, shape) in [
        ("encoder.stem.convs.0.conv.weight", &[4, 2, 1, 3, 3][..]),
        (
            "encoder.stages.1.blocks.0.skip.1.conv.weight",
            &[6, 4, 1, 1, 1],
        ),
        ("encoder.stages.1.blocks.1.conv2.norm.bias", &[6]),
        ("decoder.transpconvs.1.weight", &[6, 4, 1, 2, 2]),
        ("decoder.stages.1.convs.1.conv.weight", &[4, 4, 1, 3, 3]),
        ("decoder.seg_layers.0.weight", &[3, 6, 1, 1, 1]),
        ("decoder.seg_layers.1.weight", &[3, 4, 1, 1, 1]),
    ] {
        assert_eq!(weights.shape(name).as_deref(), Some(shape), "{name}");
    }
    // The last stage is strided and keeps its features, so it has nothing to project.
    assert!(
        weights
            .names()
            .all(|name| !name.contains("stages.2.blocks.0.skip"))
    );
}

#[test]
fn every_name_is_what_nnunets_own_checkpoints_hold() {
    let folder = tempfile::tempdir().unwrap();
    let references = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/references/nnunet");
    let stages = [
        (4, [1, 3, 3], [1; 3]),
        (6, [3; 3], [1, 2, 2]),
        (8, [3; 3], [2; 3]),
    ];
    let stages =
        stages.map(|(features, kernel, stride)| StageConfig::new(features, kernel, stride));
    let plain = UNetConfig::new(2, 3, stages.to_vec());
    let residual = plain
        .clone()
        .with_residual_blocks(Some(vec![1, 2, 2]))
        .with_convolutions_per_decoder_stage(1);
    for (name, config) in [("plain", plain), ("residual", residual)] {
        let config = NetworkConfig::UNet(config);
        let checkpoint =
            Weights::read(&references.join(name).join("checkpoint_final.pth")).unwrap();
        let network = config.try_init(&Device::flex()).unwrap();
        let network = checkpoint.load_into(network).unwrap();
        let file = folder.path().join(name);
        let weights = Weights::of(&network).with_every_name(&config);
        weights.write(&file, []).unwrap();
        let written = Weights::read(&file).unwrap();
        assert_eq!(
            written.names().collect::<Vec<_>>(),
            checkpoint.names().collect::<Vec<_>>()
        );
        for name in written.names() {
            let (written, expected) = (&written.tensors[name], &checkpoint.tensors[name]);
            assert_eq!(written.as_bytes(), expected.as_bytes(), "{name}");
        }
        // What has every name already gets none twice.
        let again = written.clone().with_every_name(&config);
        again.write(&file, []).unwrap();
        assert!(Weights::read(&file).unwrap().names().eq(written.names()));
        // And what is read again is the same network.
        let other = config.try_init(&Device::flex()).unwrap();
        let loaded = written.load_into(other).unwrap();
        assert_eq!(parameters(&loaded), parameters(&network));
    }
}

/// As `dynamic-network-architectures` 0.4.4 lists them with batch normalisation, dropout and PReLU.
#[test]
fn places_in_blocks_follow_the_layers_that_there_are() {
    let layers = LayerConfig {
        normalization: Normalization::Batch,
        activation: Activation::PRelu,
        dropout: 0.1,
    };
    let config = UNetConfig::new(2, 3, stages())
        .with_residual_blocks(Some(vec![1, 2, 1]))
        .with_layers(layers);
    for (name, expected) in [
        (
            "encoder.stem.convs.0.norm.weight",
            "encoder.stem.convs.0.all_modules.2.weight",
        ),
        (
            "encoder.stages.0.blocks.0.conv1.nonlin.weight",
            "encoder.stages.0.blocks.0.conv1.all_modules.3.weight",
        ),
        (
            "encoder.stages.0.blocks.0.conv2.norm.running_var",
            "encoder.stages.0.blocks.0.conv2.all_modules.1.running_var",
        ),
        (
            "encoder.stages.1.blocks.0.skip.1.norm.num_batches_tracked",
            "encoder.stages.1.blocks.0.skip.1.all_modules.1.num_batches_tracked",
        ),
        (
            "decoder.stages.0.convs.0.norm.bias",
            "decoder.stages.0.convs.0.all_modules.2.bias",
        ),
    ] {
        let found: Vec<String> = names::repeated(&config, true, name).collect();
        assert_eq!(found[0], expected);
        let in_encoder = name.starts_with("encoder.");
        assert_eq!(found.len(), if in_encoder { 3 } else { 1 }, "{found:?}");
    }
    let once = ["decoder.transpconvs.0.weight", "decoder.seg_layers.0.bias"];
    assert!(
        once.iter()
            .all(|name| names::repeated(&config, true, name).next().is_none())
    );
    let added = "encoder.stages.0.blocks.0.nonlin2.weight";
    let found: Vec<String> = names::repeated(&config, true, added).collect();
    assert_eq!(found, [format!("decoder.{added}")]);
}

/// `dynamic-network-architectures` 0.4.4 gives dropout its place among the layers whatever its probability is.
#[test]
fn networks_whose_dropout_drops_nothing_are_loaded() {
    let unet = UNetConfig::new(2, 3, stages());
    let learned = LayerConfig {
        normalization: Normalization::Batch,
        activation: Activation::PRelu,
        dropout: 0.0,
    };
    for unet in [
        unet.clone(),
        unet.clone().with_layers(learned),
        unet.with_residual_blocks(Some(vec![1, 2, 1]))
            .with_layers(learned),
    ] {
        let mut dropping = unet.clone();
        dropping.layers.dropout = 0.5;
        let (config, dropping) = (NetworkConfig::UNet(unet), NetworkConfig::UNet(dropping));
        let init = |config: &NetworkConfig| config.try_init(&Device::flex()).unwrap();
        for (from, names, to) in [
            (&config, &dropping, &config),
            (&config, &config, &dropping),
            (&dropping, &dropping, &dropping),
        ] {
            let network = init(from);
            let mut weights = Weights::of(&network).with_every_name(names);
            for (other, name) in std::mem::take(&mut weights.repeated) {
                let data = weights.tensors[&name].clone();
                weights.tensors.insert(other, data);
            }
            let loaded = weights.load_into(init(to)).unwrap();
            assert_eq!(parameters(&loaded), parameters(&network));
        }
    }
}

#[test]
fn every_tensor_that_does_not_fit_is_named() {
    let device = Device::flex();
    let config = NetworkConfig::UNet(UNetConfig::new(2, 3, stages()));
    let mut weights = Weights::of(&config.try_init(&device).unwrap());
    let head = "decoder.seg_layers.1.bias";
    weights
        .tensors
        .remove("decoder.transpconvs.0.bias")
        .unwrap();
    let odd = weights.tensors.remove(head).unwrap();
    weights.tensors.insert("somebody.else".into(), odd);
    let flat = TensorData::new(vec![0f32; 6], [6]);
    weights.tensors.insert(head.into(), flat);
    // These are passed over: the same tensors again.
    let bias = weights.tensors["encoder.stages.0.0.convs.0.conv.bias"].clone();
    for again in [
        "encoder.stages.0.0.convs.0.all_modules.0.bias",
        "decoder.encoder.stages.0.0.convs.0.conv.bias",
    ] {
        weights.tensors.insert(again.into(), bias.clone());
    }
    // These are not: one says that it is the same, and differs; one is the same in a place where the convolution is not; one counts
    // for a normalisation that gathers nothing.
    let other_bias = TensorData::new(vec![7f32; 4], [4]);
    let differing = "decoder.encoder.stages.0.0.convs.1.conv.bias";
    weights.tensors.insert(differing.into(), other_bias);
    let misplaced = "encoder.stages.0.0.convs.0.all_modules.1.weight";
    let weight = weights.tensors["encoder.stages.0.0.convs.0.conv.weight"].clone();
    weights.tensors.insert(misplaced.into(), weight);
    let count = TensorData::new(vec![0i64], [0usize; 0]);
    let counted = "encoder.stages.0.0.convs.0.norm.num_batches_tracked";
    weights.tensors.insert(counted.into(), count);
    let other = config.try_init(&device).unwrap();
    let error = weights.load_into(other).unwrap_err();
    let WeightsError::Other {
        missing,
        unexpected,
        misshaped,
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(*missing, ["decoder.transpconvs.0.bias"]);
    assert_eq!(
        *unexpected,
        [differing, misplaced, counted, "somebody.else"]
    );
    assert_eq!(
        *misshaped,
        ["decoder.seg_layers.1.bias ([6] instead of [3])"]
    );
    let line = error.to_string();
    assert!(
        line.contains("4 unexpected: decoder.encoder.stages.0.0.convs.1.conv.bias, ")
            && line.contains(".norm.num_batches_tracked, somebody.else; ")
            && line.lines().count() == 1,
        "{line}"
    );
}

#[test]
fn names_of_compiled_and_distributed_networks_are_known() {
    let config = NetworkConfig::UNet(UNetConfig::new(2, 3, stages()));
    let network = config.try_init(&Device::flex()).unwrap();
    let mut weights = Weights::of(&network);
    let tensors = std::mem::take(&mut weights.tensors).into_iter();
    weights.tensors = tensors
        .map(|(name, data)| (format!("module._orig_mod.{name}"), data))
        .collect();
    let other = config.try_init(&Device::flex()).unwrap();
    let loaded = weights.load_into(other).unwrap();
    assert_eq!(parameters(&loaded), parameters(&network));
}

#[test]
fn foreign_and_damaged_files_are_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    let config = &networks()[0];
    Weights::of(&config.try_init(&Device::flex()).unwrap())
        .write(&path, [])
        .unwrap();
    let whole = std::fs::read(&path).unwrap();
    let checkpoint =
        include_bytes!("../../../../tests/references/nnunet/plain/checkpoint_final.pth");
    let mut cases: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"hello, world".to_vec(),
        b"PK\x03\x04 no archive".to_vec(),
        vec![0x80; 40],
    ];
    for whole in [&whole[..], checkpoint] {
        cases.extend(
            [9, 10, 100, whole.len() / 2, whole.len() - 1].map(|end| whole[..end].to_vec()),
        );
    }
    // A header that claims more than there is.
    let mut claims = whole.clone();
    claims[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    cases.push(claims);
    for bytes in cases {
        std::fs::File::create(&path)
            .unwrap()
            .write_all(&bytes)
            .unwrap();
        let line = Weights::read(&path).unwrap_err().to_string();
        assert!(
            line.contains("weights") && line.lines().count() == 1,
            "{line}"
        );
    }
    let line = Weights::read(&folder.path().join("nothing"))
        .unwrap_err()
        .to_string();
    assert!(line.contains("nothing"), "{line}");
}

#[test]
fn a_network_with_other_axes_gives_the_same_for_an_image_with_other_axes() {
    let device = Device::flex();
    let order = [2, 0, 1];
    let turn = |tensor: Tensor<5>| tensor.permute([0, 1, 4, 2, 3]);
    for config in networks() {
        let network = config.init_seeded(&device, 3).unwrap();
        let mut turned = config.clone();
        if let NetworkConfig::UNet(unet) = &mut turned {
            unet.stem_stride = order.map(|axis| unet.stem_stride[axis]);
            for stage in &mut unet.stages {
                stage.kernel = order.map(|axis| stage.kernel[axis]);
                stage.stride = order.map(|axis| stage.stride[axis]);
            }
        }
        let weights = Weights::of(&network).with_axes(order);
        let other = weights
            .load_into(turned.try_init(&device).unwrap())
            .unwrap();
        let channels = match config {
            NetworkConfig::UNet(_) => 2,
            _ => 1,
        };
        let voxels = channels * 16 * 32 * 48;
        let image = Tensor::<1, burn::tensor::Int>::arange(0..voxels, &device).float();
        let image = (image * 0.37).sin().reshape([1, channels, 16, 32, 48]);
        let expected = turn(network.predict(image.clone()));
        let found = other.predict(turn(image));
        let largest = expected.clone().abs().max().into_scalar::<f32>();
        let apart = (found - expected).abs().max().into_scalar::<f32>();
        assert!(apart < 1e-5 * largest, "{apart} of {largest}");
    }
}

#[test]
fn axes_turned_there_and_back_are_the_same_bits() {
    for config in networks() {
        let network = config.init_seeded(&Device::flex(), 3).unwrap();
        let weights = Weights::of(&network);
        let same = weights.clone().with_axes([2, 0, 1]).with_axes([1, 2, 0]);
        assert_eq!(same.tensors, weights.tensors);
    }
}
