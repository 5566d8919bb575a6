//! Networks of nnU-Net: imported, they predict what nnU-Net predicts; exported, they have its names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use arl_data::formats::read_labels;

fn arl(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_arl"))
        .args(words)
        .output()
        .expect("the binary starts")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}

/// What `tests/references/nnunet_checkpoint.py` wrote.
fn reference(network: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/references/nnunet")
        .join(network)
}

fn succeed(words: &[&str]) -> String {
    let output = arl(words);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{message}");
    message
}

fn refused(words: &[&str]) -> String {
    let output = arl(words);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

#[test]
fn an_imported_network_predicts_what_nnunet_predicts() {
    // Half, as nnU-Net does by default: its sums of 16 bits decide near ties by rounding. The last two are resampled, forth
    // and back.
    let cases = [
        ("labels", "image", &[][..], 0),
        ("mirrored", "image", &["--mirror"], 0),
        ("half", "image", &[], 41),
        ("fine", "fine", &[], 0),
        ("thick", "thick", &[], 0),
    ];
    for (network, cases) in [
        ("plain", &cases[..]),
        ("residual", &cases),
        // The axis of thick slices put first, and images turned to RAS.
        ("transposed", &cases[..3]),
        // Normalised over batches, though the plans say otherwise.
        ("batch", &cases[..2]),
        // Regions of images that are cropped, standardised within the body, and thinner than a patch.
        ("regions", &cases[..2]),
    ] {
        let (reference, folder) = (reference(network), tempfile::tempdir().unwrap());
        let run = folder.path().join("run");
        let checkpoint = reference.join("checkpoint_final.pth");
        succeed(&["import", text(&checkpoint), "--out", text(&run)]);
        for &(name, image, mirror, most) in cases {
            let images = folder.path().join(image);
            fs::create_dir_all(&images).unwrap();
            for channel in 0..2 {
                let file = format!("{image}_{channel:04}.nii.gz");
                fs::copy(reference.join(&file), images.join(&file)).unwrap();
            }
            let out = folder.path().join("out");
            let words = ["predict", text(&run), text(&images), "--out", text(&out)];
            succeed(&[&words[..], &["--device", "cpu", "--force"], mirror].concat());
            let found = read_labels(&out.join(format!("{image}.nii.gz"))).unwrap();
            let expected = read_labels(&reference.join(format!("{name}.nii.gz"))).unwrap();
            found.geometry.matches(&expected.geometry).unwrap();
            let pairs = found.data.iter().zip(&expected.data);
            let different = pairs.filter(|(found, expected)| found != expected).count();
            println!(
                "{network}, {name}: {different} of {} voxels differ",
                found.data.len()
            );
            assert!(different <= most, "{network}, {name}: {different}");
        }
    }
}

#[test]
fn what_cannot_be_imported_is_one_line_and_writes_nothing() {
    let (reference, folder) = (reference("plain"), tempfile::tempdir().unwrap());
    let out = folder.path().join("run");
    let checkpoint = reference.join("checkpoint_final.pth");
    let plans = fs::read_to_string(reference.join("plans.json")).unwrap();
    let dataset = reference.join("dataset.json");
    let import = |plans: &str| {
        let file = folder.path().join("plans.json");
        fs::write(&file, plans).unwrap();
        let words = [
            "import",
            text(&checkpoint),
            "--plans",
            text(&file),
            "--out",
            text(&out),
        ];
        let line = refused(&[&words[..], &["--dataset-json", text(&dataset)]].concat());
        assert!(line.contains("plans.json"), "{line}");
        assert!(!out.exists());
        line
    };
    let edited = |path: &[&str], value: serde_json::Value| {
        let mut edited: serde_json::Value = serde_json::from_str(&plans).unwrap();
        let target = path.iter().fold(&mut edited, |value, key| &mut value[key]);
        *target = value;
        import(&edited.to_string())
    };
    let full = ["configurations", "3d_fullres"];
    let network = [&full[..], &["architecture", "arch_kwargs"]].concat();
    let of_network = |key: &'static str| [&network[..], &[key]].concat();
    // Every tensor of another size is named.
    let line = edited(
        &of_network("features_per_stage"),
        serde_json::json!([4, 6, 10]),
    );
    assert!(
        line.contains("decoder.transpconvs.0.weight ([8, 6, 2, 2, 2] instead of [10, 6, 2, 2, 2])"),
        "{line}"
    );
    let line = edited(
        &of_network("n_conv_per_stage"),
        serde_json::json!([1, 1, 1]),
    );
    assert!(
        line.contains("unexpected: ") && line.contains("encoder.stages.2.0.convs.1.norm.bias"),
        "{line}"
    );
    let line = edited(
        &of_network("n_conv_per_stage"),
        serde_json::json!([3, 3, 3]),
    );
    assert!(
        line.contains("missing: encoder.stages.0.0.convs.2.conv.weight"),
        "{line}"
    );
    for (line, word) in [
        (
            edited(&["transpose_forward"], serde_json::json!([1, 0, 1])),
            "[1, 0, 1]",
        ),
        (
            edited(
                &[&full[..], &["patch_size"]].concat(),
                serde_json::json!([16, 16]),
            ),
            "patches of 2 axes",
        ),
        (
            edited(
                &[&full[..], &["patch_size"]].concat(),
                serde_json::json!([8, 16, 18]),
            ),
            "18",
        ),
        (edited(&of_network("nonlin"), "torch.nn.ELU".into()), "ELU"),
        (edited(&of_network("conv_bias"), false.into()), "conv_bias"),
        (
            edited(&of_network("n_conv_per_stage"), serde_json::json!([2, 2])),
            "2 of blocks",
        ),
        (
            edited(&["configurations"], serde_json::json!({})),
            "3d_fullres",
        ),
        (
            edited(
                &[&full[..], &["patch_size"]].concat(),
                serde_json::json!([8, 16, -16]),
            ),
            "understood",
        ),
        (import("{"), "understood"),
    ] {
        assert!(line.contains(word), "{word:?} is not in {line}");
    }

    let first_version = folder.path().join("plans.pkl");
    fs::write(&first_version, [0x80, 2]).unwrap();
    let words = ["import", text(&checkpoint), "--out", text(&out)];
    let line = refused(&[&words[..], &["--plans", text(&first_version)]].concat());
    assert!(line.contains("nnU-Net v1"), "{line}");
    assert!(!out.exists());

    let truncated = folder.path().join("checkpoint.pth");
    let bytes = fs::read(&checkpoint).unwrap();
    fs::write(&truncated, &bytes[..bytes.len() / 2]).unwrap();
    let plans = reference.join("plans.json");
    let words = [
        "import",
        text(&truncated),
        "--plans",
        text(&plans),
        "--out",
        text(&out),
    ];
    let line = refused(&words);
    assert!(
        line.contains("checkpoint.pth") && line.contains("damaged"),
        "{line}"
    );
    assert!(!out.exists());
}

#[test]
fn an_imported_run_is_exported_and_imported_again_but_not_trained_on() {
    // Its weights are turned when they come, and turned back when they go.
    let (reference, folder) = (reference("transposed"), tempfile::tempdir().unwrap());
    let (run, again) = (folder.path().join("run"), folder.path().join("again"));
    let checkpoint = reference.join("checkpoint_final.pth");
    succeed(&["import", text(&checkpoint), "--out", text(&run)]);
    let file = folder.path().join("weights.safetensors");
    let export = ["export", text(&run), "--out", text(&file)];
    succeed(&export);
    assert!(refused(&export).contains("--force"));
    let plans = reference.join("plans.json");
    let words = [
        "import",
        text(&file),
        "--plans",
        text(&plans),
        "--out",
        text(&again),
    ];
    succeed(&words);
    assert!(refused(&words).contains("not empty"));
    let model = |run: &Path| {
        let epoch = fs::read_dir(run.join("checkpoints"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap();
        fs::read(epoch.path().join("model.bpk")).unwrap().len()
    };
    assert_eq!(model(&run), model(&again));
    let second = folder.path().join("second.safetensors");
    succeed(&["export", text(&again), "--out", text(&second)]);
    // The same but for what the plan says of mirroring, which safetensors do not hold.
    let tensors = |path: &Path| {
        let bytes = fs::read(path).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..].to_vec()
    };
    assert_eq!(tensors(&file), tensors(&second));
    let config = fs::read_to_string(again.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["transpose_forward"], serde_json::json!([2, 0, 1]));
    config["transpose_forward"] = serde_json::json!([0, 0, 5]);
    fs::write(again.join("config.json"), config.to_string()).unwrap();
    let third = folder.path().join("third.safetensors");
    let line = refused(&["export", text(&again), "--out", text(&third)]);
    assert!(
        line.contains("config.json") && line.contains("[0, 0, 5]"),
        "{line}"
    );
    assert!(!third.exists());
    let line = refused(&["train", text(&reference), "--out", text(&run), "--resume"]);
    assert!(
        line.contains("imported") && line.contains("train anew"),
        "{line}"
    );
    // Nothing says which axes may be mirrored.
    let out = folder.path().join("predictions");
    fs::create_dir(folder.path().join("images")).unwrap();
    for channel in ["image_0000.nii.gz", "image_0001.nii.gz"] {
        fs::copy(
            reference.join(channel),
            folder.path().join("images").join(channel),
        )
        .unwrap();
    }
    let images = folder.path().join("images");
    let words = ["predict", text(&again), text(&images), "--out", text(&out)];
    let line = succeed(&[&words[..], &["--device", "cpu", "--mirror"]].concat());
    assert!(line.contains("--mirror changes nothing"), "{line}");
}
