//! `arl evaluate` on label maps of a few voxels.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use arl_data::formats::write_labels;
use arl_data::{Geometry, Volume};
use ndarray::Array3;

/// A folder with `dataset.json`, `labelsTs` and `predictions`.
struct Folders {
    root: tempfile::TempDir,
}

impl Folders {
    fn new(labels: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let json = format!("{{\"labels\": {labels}}}");
        fs::write(root.path().join("dataset.json"), json).unwrap();
        for folder in ["labelsTs", "predictions"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        Self { root }
    }

    fn path(&self, folder: &str) -> PathBuf {
        self.root.path().join(folder)
    }

    /// One row of labels, 2 mm apart.
    fn write(&self, folder: &str, case: &str, labels: &[u16]) {
        let shape = [1, 1, labels.len()];
        let data = Array3::from_shape_vec(shape, labels.to_vec()).unwrap();
        let volume = Volume::new(data, Geometry::from_spacing(shape, [1.0, 1.0, 2.0]));
        write_labels(&self.path(folder).join(format!("{case}.nii.gz")), &volume).unwrap();
    }

    fn evaluate(&self, words: &[&str]) -> Output {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        Command::new(env!("CARGO_BIN_EXE_arl"))
            .args([
                "evaluate",
                &text(self.path("predictions")),
                &text(self.path("labelsTs")),
            ])
            .args(words)
            .output()
            .unwrap()
    }
}

const REGIONS: &str = r#"{"background": 0, "whole": [1, 2], "core": 2, "ignore": 9}"#;

fn read(path: &Path) -> serde_json::Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn regions_missed_classes_and_later_labels() {
    let folders = Folders::new(REGIONS);
    folders.write("labelsTs", "a", &[1, 1, 2, 0, 9, 0]);
    folders.write("predictions", "a", &[0, 1, 1, 0, 2, 0]);
    // Label 5 is not declared, and the first case does not have it.
    folders.write("labelsTs", "b", &[1, 2, 0, 0, 5, 0]);
    folders.write("predictions", "b", &[1, 2, 0, 0, 0, 5]);
    let output = folders.evaluate(&["--tolerance", "1,core=4"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for word in [
        "mean Dice",
        "IoU",
        "HD95 mm",
        "(1, 2)",
        "whole",
        "1 missed and 0 spurious",
    ] {
        assert!(text.contains(word), "{word} is not in {text}");
    }

    let summary = read(&folders.path("predictions").join("summary.json"));
    let case = &summary["metric_per_case"][0]["metrics"];
    assert_eq!(case["(1, 2)"]["Dice"], 0.8);
    assert_eq!(case["(1, 2)"]["HD"], 2.0);
    assert_eq!(case["2"]["Dice"], 0.0);
    assert!(case["2"]["HD95"].is_null());
    assert!(case["5"]["Dice"].is_null());
    assert_eq!(case["5"]["TN"], 5);
    let mean = &summary["mean"];
    assert_eq!(mean["2"]["missed"], 1);
    assert_eq!(mean["2"]["HD95"], 0.0);
    assert_eq!(mean["5"]["absent"], 1);
    assert_eq!(mean["5"]["HD"], 2.0);
    assert_eq!(mean["5"]["NSD"], 0.0);
    assert_eq!(summary["tolerance_mm"]["2"], 4.0);
    assert!(
        mean.get("1").is_none(),
        "a class of a region is not scored by itself"
    );
}

#[test]
fn declared_values_with_gaps_are_remapped_as_the_reference_is() {
    let folders = Folders::new(r#"{"background": 0, "liver": 10, "kidney": 20, "ignore": 255}"#);
    folders.write("labelsTs", "a", &[10, 10, 20, 255, 0]);
    folders.write("predictions", "a", &[1, 1, 2, 2, 0]);
    let output = folders.evaluate(&[
        "--remap-labels",
        "10:1,20:2,255:3",
        "--tolerance",
        "kidney=3",
    ]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let summary = read(&folders.path("predictions").join("summary.json"));
    let mean = summary["mean"].as_object().unwrap();
    assert_eq!(mean.keys().collect::<Vec<_>>(), ["1", "2"]);
    // The voxel of the ignore label does not count.
    assert_eq!(
        (&mean["1"]["Dice"], &mean["2"]["Dice"]),
        (&1.0.into(), &1.0.into())
    );
    assert_eq!(summary["tolerance_mm"]["2"], 3.0);
}

#[test]
fn classes_that_neither_map_has_count_only_when_asked_for() {
    let folders = Folders::new(r#"{"background": 0, "liver": 1, "kidney": 2}"#);
    for (case, reference, prediction) in [
        ("a", [1, 1, 2, 0], [1, 0, 0, 0]),
        ("b", [1, 1, 0, 0], [1, 1, 0, 0]),
    ] {
        folders.write("labelsTs", case, &reference);
        folders.write("predictions", case, &prediction);
    }
    for (words, dice, mean) in [
        (&[][..], serde_json::Value::Null, 0.0),
        (&["--count-absent"], 1.0.into(), 0.5),
    ] {
        let output = folders.evaluate(words);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let summary = read(&folders.path("predictions").join("summary.json"));
        // Case b has no kidney and none was found.
        assert_eq!(summary["metric_per_case"][1]["metrics"]["2"]["Dice"], dice);
        assert_eq!(summary["mean"]["2"]["Dice"], mean);
    }
}

#[test]
fn scores_of_another_program_are_not_replaced() {
    let folders = Folders::new(REGIONS);
    folders.write("labelsTs", "a", &[1, 2]);
    folders.write("predictions", "a", &[1, 2]);
    let file = folders.path("predictions").join("summary.json");
    let theirs = r#"{"foreground_mean": {"Dice": 0.5}}"#;
    fs::write(&file, theirs).unwrap();
    let refused = folders.evaluate(&[]);
    let message = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        message.contains("summary.json") && message.contains("--force"),
        "{message}"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), theirs);
    // With --force they are, and after that scores are replaced as they come.
    assert!(folders.evaluate(&["--force"]).status.success());
    assert!(folders.evaluate(&[]).status.success());
    assert_eq!(read(&file)["foreground_mean"]["Dice"], 1.0);
}

#[test]
fn chosen_metrics_only() {
    let folders = Folders::new(REGIONS);
    folders.write("labelsTs", "a", &[1, 2]);
    folders.write("predictions", "a", &[1, 2]);
    let output = folders.evaluate(&["--metrics", "dice,NSD", "--json"]);
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mean = summary["foreground_mean"].as_object().unwrap();
    assert_eq!(mean["NSD"], 1.0);
    assert!(!mean.contains_key("HD95") && !mean.contains_key("IoU"));
    let output = folders.evaluate(&["--metrics", "hd94"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("hd95"));
}

#[test]
fn faults_are_named() {
    let folders = Folders::new(REGIONS);
    folders.write("labelsTs", "a", &[1, 2]);
    folders.write("predictions", "b", &[1, 2]);
    let fails = |words: &[&str], expected: &[&str]| {
        let output = folders.evaluate(words);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        for word in expected {
            assert!(message.contains(word), "{word} is not in {message}");
        }
    };
    fails(&[], &["no prediction of case a"]);
    folders.write("predictions", "a", &[1, 2, 2]);
    fails(&[], &["a.nii.gz", "[1, 1, 3]", "[1, 1, 2]"]);
    fails(&["--tolerance", "liver=3"], &["liver", "core"]);
    fs::write(folders.path("dataset.json"), "{").unwrap();
    fails(&[], &["dataset.json"]);
}
