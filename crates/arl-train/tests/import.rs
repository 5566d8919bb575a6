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
    for network in ["plain", "residual"] {
        let (reference, folder) = (reference(network), tempfile::tempdir().unwrap());
        let run = folder.path().join("run");
        let checkpoint = reference.join("checkpoint_final.pth");
        succeed(&["import", text(&checkpoint), "--out", text(&run)]);
        let images = folder.path().join("images");
        fs::create_dir(&images).unwrap();
        for channel in ["image_0000.nii.gz", "image_0001.nii.gz"] {
            fs::copy(reference.join(channel), images.join(channel)).unwrap();
        }
        for (name, mirror) in [("labels", &[][..]), ("mirrored", &["--mirror"][..])] {
            let out = folder.path().join(name);
            let words = ["predict", text(&run), text(&images), "--out", text(&out)];
            succeed(&[&words[..], &["--device", "cpu"], mirror].concat());
            let found = read_labels(&out.join("image.nii.gz")).unwrap();
            let expected = read_labels(&reference.join(format!("{name}.nii.gz"))).unwrap();
            found.geometry.matches(&expected.geometry).unwrap();
            let pairs = found.data.iter().zip(&expected.data);
            let different = pairs.filter(|(found, expected)| found != expected).count();
            println!(
                "{network}, {name}: {different} of {} voxels differ",
                found.data.len()
            );
            assert_eq!(different, 0, "{network}, {name}");
        }
    }
}
