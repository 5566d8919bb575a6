//! Descriptions of datasets: `dataset.json` of every layout, and `splits_final.json`.

use std::fs;
use std::path::Path;

use arl_data::check::check_dataset;
use arl_data::formats::{write_image, write_labels};
use arl_data::split::{Fold, split};
use arl_data::{Dataset, Geometry, ReadOptions, Volume};
use ndarray::Array3;

use super::fuzz;

const NNUNET: &str = r#"{"name": "tiny", "channel_names": {"0": "CT"}, "numTraining": 2, "file_ending": ".nii",
    "labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}, "regions_class_order": [1, 2]}"#;
const LISTED: &str = r#"{"modality": {"0": "CT"}, "labels": {"background": 0, "a": 1, "b": 2}, "numTraining": 1,
    "file_ending": ".nii", "dataset": {"a": {"images": ["imagesTr/a_0000.nii"], "label": "labelsTr/a.nii"}}}"#;
const DECATHLON: &str = r#"{"modality": {"0": "CT"}, "labels": {"0": "background", "1": "a", "2": "b"}, "numTraining": 1,
    "training": [{"image": "./imagesTr/a_0000.nii", "label": "./labelsTr/a.nii"}], "test": ["imagesTr/b_0000.nii"]}"#;
const MONAI: &str = r#"{"training": [{"image": ["imagesTr/a_0000.nii"], "label": "labelsTr/a.nii", "fold": 0},
    {"image": "imagesTr/b_0000.nii", "label": "labelsTr/b.nii", "fold": 1}], "validation": []}"#;
const SPLITS: &str = r#"[{"train": ["a"], "val": ["b"]}, {"train": ["b"], "val": ["a"]}]"#;

/// Two training cases on four voxels.
fn cases(root: &Path) {
    let geometry = Geometry::from_spacing([1, 2, 2], [1.0; 3]);
    let labels = Array3::from_shape_vec([1, 2, 2], vec![0, 1, 2, 0]).unwrap();
    for folder in ["imagesTr", "labelsTr"] {
        fs::create_dir(root.join(folder)).unwrap();
    }
    for (case, value) in [("a", 1.0), ("b", 2.0)] {
        let image = labels.mapv(|label| f32::from(label) + value);
        let image = Volume::new(image, geometry.clone());
        write_image(&root.join(format!("imagesTr/{case}_0000.nii")), &image).unwrap();
        let labels = Volume::new(labels.clone(), geometry.clone());
        write_labels(&root.join(format!("labelsTr/{case}.nii")), &labels).unwrap();
    }
}

/// Whether the dataset can be used. An error is one line, the check finds it too, and what can be opened can be read.
fn read(root: &Path) -> bool {
    let report = check_dataset(root, &ReadOptions::default(), &|_, _| {});
    for problem in &report.problems {
        let line = problem.to_string();
        assert!(!line.contains('\n'), "{line:?}");
    }
    let Ok(dataset) = Dataset::open(root) else {
        assert!(report.errors() > 0);
        return false;
    };
    let mut good = true;
    for case in &dataset.training {
        good &= dataset.read_case(case).is_ok();
    }
    for fold in [Fold::All, Fold::Index(0), Fold::Index(1), Fold::Index(9)] {
        if let Ok(split) = split(&dataset, fold) {
            assert!(!split.train.is_empty() && !split.validation.is_empty());
        }
    }
    assert!(good || report.errors() > 0);
    good
}

#[test]
fn descriptions() {
    let folder = tempfile::tempdir().unwrap();
    cases(folder.path());
    let seeds = [NNUNET, LISTED, DECATHLON, MONAI];
    fuzz(
        "descriptions",
        1_500,
        |mutator| {
            let mut bytes = mutator.pick(&seeds).as_bytes().to_vec();
            let other = mutator.pick(&seeds).as_bytes().to_vec();
            mutator.mutate(&mut bytes, &other, &[]);
            bytes
        },
        |bytes| {
            fs::write(folder.path().join("dataset.json"), bytes).unwrap();
            read(folder.path())
        },
    );
}

#[test]
fn splits() {
    let folder = tempfile::tempdir().unwrap();
    cases(folder.path());
    fs::write(folder.path().join("dataset.json"), NNUNET).unwrap();
    fuzz(
        "splits",
        700,
        |mutator| {
            let mut bytes = SPLITS.as_bytes().to_vec();
            mutator.mutate(&mut bytes, MONAI.as_bytes(), &[]);
            bytes
        },
        |bytes| {
            fs::write(folder.path().join("splits_final.json"), bytes).unwrap();
            let report = check_dataset(folder.path(), &ReadOptions::default(), &|_, _| {});
            read(folder.path()) && report.errors() == 0
        },
    );
}
