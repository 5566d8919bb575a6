//! Small drawn datasets, and what a fault in one must look like.

#![allow(dead_code, reason = "each test file uses a part")]

use std::fs;
use std::path::Path;

use arl_data::check::{CheckReport, Severity, check_dataset};
use arl_data::formats::{read_labels, write_image, write_labels};
use arl_data::{Dataset, Geometry, ReadOptions, Volume};
use ndarray::Array3;

pub const SHAPE: [usize; 3] = [3, 4, 5];

pub fn geometry() -> Geometry {
    Geometry::from_spacing(SHAPE, [3.0, 1.5, 1.0])
}

/// Writes an image that no other path has.
pub fn image(path: &Path) {
    let seed = path
        .to_string_lossy()
        .bytes()
        .map(usize::from)
        .sum::<usize>();
    let data = Array3::from_shape_fn(SHAPE, |(d, h, w)| (seed + 20 * d + 5 * h + w) as f32);
    write_image(path, &Volume::new(data, geometry())).unwrap();
}

/// Writes a label map with one voxel of label 1 and one of label 2.
pub fn labels(path: &Path) {
    let mut data = Array3::zeros(SHAPE);
    data[[1, 1, 1]] = 1;
    data[[1, 2, 2]] = 2;
    write_labels(path, &Volume::new(data, geometry())).unwrap();
}

/// Changes the voxels of a label map.
pub fn edit_labels(path: &Path, edit: impl FnOnce(&mut Volume<u16>)) {
    let mut volume = read_labels(path).unwrap();
    edit(&mut volume);
    write_labels(path, &volume).unwrap();
}

const DESCRIPTION: &str = r#"{
    "name": "tiny", "channel_names": {"0": "CT"},
    "labels": {"background": 0, "liver": 1, "kidney": 2},
    "numTraining": 2, "file_ending": ".nii.gz", "licence": "none"
}"#;

/// An nnU-Net dataset of two training cases and one test case.
pub fn tiny() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for sub in ["imagesTr", "labelsTr", "imagesTs", "labelsTs"] {
        fs::create_dir(root.join(sub)).unwrap();
    }
    for (set, case) in [("Tr", "a"), ("Tr", "b"), ("Ts", "c")] {
        image(&root.join(format!("images{set}/{case}_0000.nii.gz")));
        labels(&root.join(format!("labels{set}/{case}.nii.gz")));
    }
    fs::write(root.join("imagesTr/._a_0000.nii.gz"), "resource fork").unwrap();
    fs::write(root.join("labelsTr/.DS_Store"), "finder").unwrap();
    fs::write(root.join("dataset.json"), DESCRIPTION).unwrap();
    folder
}

pub fn check(root: &Path) -> CheckReport {
    check_dataset(root, &ReadOptions::default(), &|_, _| {})
}

/// Opens the dataset and reads every case, as training would; the first error.
pub fn first_error(root: &Path) -> Option<String> {
    let dataset = match Dataset::open(root) {
        Ok(dataset) => dataset,
        Err(error) => return Some(error.to_string()),
    };
    dataset
        .training
        .iter()
        .find_map(|case| dataset.read_case(case).err())
        .map(|error| error.to_string())
}

/// The dataset has exactly this error, and says so in both ways.
#[track_caller]
pub fn assert_only_error(root: &Path, file: &str, message: &str) {
    let report = check(root);
    let errors: Vec<_> = report
        .problems
        .iter()
        .filter(|p| p.severity == Severity::Error)
        .collect();
    assert_eq!(errors.len(), 1, "{:#?}", report.problems);
    assert!(errors[0].file.ends_with(file), "{}", errors[0]);
    assert!(errors[0].message.contains(message), "{}", errors[0]);
    assert!(!errors[0].cure.is_empty());
    let line = errors[0].to_string();
    assert!(!line.contains('\n'), "{line}");
    assert_eq!(first_error(root), Some(line));
}

/// The dataset can be used, and has exactly this warning.
#[track_caller]
pub fn assert_only_warning(root: &Path, file: &str, message: &str) {
    let report = check(root);
    assert_eq!(report.problems.len(), 1, "{:#?}", report.problems);
    let warning = &report.problems[0];
    assert_eq!(warning.severity, Severity::Warning);
    assert!(warning.file.ends_with(file), "{warning}");
    assert!(warning.message.contains(message), "{warning}");
    assert!(!warning.cure.is_empty() && !warning.to_string().contains('\n'));
    assert_eq!(first_error(root), None);
}

pub fn edit(root: &Path, from: &str, to: &str) {
    let path = root.join("dataset.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from));
    fs::write(&path, text.replace(from, to)).unwrap();
}
