use std::path::PathBuf;

use serde_json::json;

use super::*;

/// What nnU-Net wrote; `tests/references/nnunet_checkpoint.py` made it do so.
fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/references/nnunet/plain")
        .join(name)
}

/// The translation of the reference's plans after a change of its configuration.
fn changed(change: impl Fn(&mut Value)) -> anyhow::Result<Translation> {
    of_changed_plans(|plans| change(&mut plans["configurations"]["3d_fullres"]))
}

fn of_changed_plans(change: impl Fn(&mut Value)) -> anyhow::Result<Translation> {
    let mut plans: Value = read_json(&reference("plans.json")).unwrap();
    change(&mut plans);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plans.json");
    std::fs::write(&file, plans.to_string()).unwrap();
    translate(&file, &reference("dataset.json"), "3d_fullres", vec![0, 2])
}

#[test]
fn nnunets_own_plans_are_translated() {
    let Translation {
        plan,
        layers,
        transpose_forward,
    } = changed(|_| ()).unwrap();
    assert_eq!((transpose_forward, plan.orientation), ([0, 1, 2], None));
    assert_eq!(plan.patch_size, [8, 16, 16]);
    assert_eq!(plan.mirror_axes, [0, 2]);
    let features: Vec<usize> = plan.stages.iter().map(|stage| stage.features).collect();
    assert_eq!(features, [4, 6, 8]);
    assert_eq!(plan.decoder_convolutions, 2);
    assert!(matches!(
        plan.normalization[..],
        [
            ChannelNormalization::Ct { lower: 62.0, .. },
            ChannelNormalization::ZScore
        ]
    ));
    assert_eq!(layers.normalization, Some(Normalization::Instance));
}

#[test]
fn plans_from_before_the_architecture_was_written_down_are_the_same_network() {
    let expected = changed(|_| ()).unwrap().plan;
    let found = changed(|full| {
        let network = full["architecture"]["arch_kwargs"].take();
        let fields = full.as_object_mut().unwrap();
        fields.remove("architecture");
        fields.insert("UNet_class_name".into(), json!("PlainConvUNet"));
        fields.insert("UNet_base_num_features".into(), json!(4));
        fields.insert("unet_max_num_features".into(), json!(6));
        for (old, new) in [
            ("n_conv_per_stage_encoder", "n_conv_per_stage"),
            ("n_conv_per_stage_decoder", "n_conv_per_stage_decoder"),
            ("pool_op_kernel_sizes", "strides"),
            ("conv_kernel_sizes", "kernel_sizes"),
        ] {
            fields.insert(old.into(), network[new].clone());
        }
    })
    .unwrap();
    let plan = found.plan;
    let features: Vec<usize> = plan.stages.iter().map(|stage| stage.features).collect();
    assert_eq!(features, [4, 6, 6]);
    for (found, expected) in plan.stages.iter().zip(&expected.stages) {
        assert_eq!(
            (found.kernel, found.stride, found.blocks),
            (expected.kernel, expected.stride, expected.blocks)
        );
    }
}

#[test]
fn a_plan_has_the_axes_of_the_image() {
    let Translation {
        plan,
        transpose_forward,
        ..
    } = of_changed_plans(|plans| plans["transpose_forward"] = json!([2, 0, 1])).unwrap();
    assert_eq!(transpose_forward, [2, 0, 1]);
    // nnU-Net's first axis is the last of the image.
    assert_eq!(plan.patch_size, [16, 16, 8]);
    assert_eq!(plan.stages[0].kernel, [3, 3, 1]);
    assert_eq!(plan.stages[1].stride, [2, 2, 1]);
    let straight = changed(|_| ()).unwrap().plan;
    let [first, second, third] = straight.target_spacing;
    assert_eq!(plan.target_spacing, [second, third, first]);
    let [first, second, third] = straight.median_shape;
    assert_eq!(plan.median_shape, [second, third, first]);
    assert_eq!(plan.mirror_axes, [1, 2]);
}

#[test]
fn images_are_turned_as_nnunets_reader_turns_them() {
    let read_by = |reader: &str| {
        of_changed_plans(|plans| plans["image_reader_writer"] = reader.into())
            .map(|found| found.plan.orientation)
    };
    assert_eq!(read_by("NibabelIO").unwrap(), None);
    for reader in ["NibabelIOWithReorient", "SimpleITKIOWithReorient"] {
        assert_eq!(read_by(reader).unwrap().as_deref(), Some("RAS"));
    }
    let error = format!("{:#}", read_by("Tiff3DIO").unwrap_err());
    assert!(error.contains("Tiff3DIO"), "{error}");
}

/// What a configuration is made to ask for.
type Change = fn(&mut Value);

#[test]
fn what_would_predict_something_else_is_refused() {
    let cases: [(Change, &str); 8] = [
        (
            |full| full["architecture"]["arch_kwargs"]["nonlin_first"] = json!(true),
            "nonlin_first",
        ),
        (
            |full| full["architecture"]["arch_kwargs"]["norm_op_kwargs"]["eps"] = json!(0.1),
            "eps",
        ),
        (
            |full| full["resampling_fn_data_kwargs"]["order"] = json!(1),
            "images are resampled with order 1",
        ),
        (
            |full| full["resampling_fn_probabilities_kwargs"]["force_separate_z"] = json!(true),
            "logits are resampled with force_separate_z true",
        ),
        (
            |full| full["resampling_fn_probabilities"] = json!("resample_torch_fornnunet"),
            "resample_torch_fornnunet",
        ),
        (
            |full| full["preprocessor_name"] = json!("MyPreprocessor"),
            "MyPreprocessor",
        ),
        (
            |full| full["normalization_schemes"][0] = json!("MyNormalization"),
            "MyNormalization",
        ),
        (
            |full| {
                let network = &mut full["architecture"]["arch_kwargs"];
                network["features_per_stage"] = json!([4]);
                network["kernel_sizes"] = json!([[3, 3, 3]]);
                network["strides"] = json!([[1, 1, 1]]);
                network["n_conv_per_stage"] = json!([2]);
                network["n_conv_per_stage_decoder"] = json!([]);
            },
            "at least 2",
        ),
    ];
    for (change, part) in cases {
        let error = format!("{:#}", changed(change).unwrap_err());
        assert!(error.contains(part), "{part}: {error}");
        assert!(error.contains("plans.json"), "{error}");
    }
}
