//! Each fault of a dataset gives one line that names the file at fault.

use std::fs;
use std::path::Path;

use arl_data::check::{CheckReport, Severity, check_directory};
use arl_data::nifti::{read_image, read_labels, write_image, write_labels};
use arl_data::phantom::{CohortConfig, write_cohort};
use tempfile::TempDir;

const IMAGE: &str = "imagesTr/phantom_001_0000.nii.gz";
const LABEL: &str = "labelsTr/phantom_001.nii.gz";

fn cohort() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = CohortConfig {
        training: 3,
        test: 1,
        ..CohortConfig::default()
    };
    write_cohort(dir.path(), &config, &|_, _| {}).unwrap();
    dir
}

/// Breaks a sound cohort and checks it.
fn report_after(damage: impl FnOnce(&Path)) -> CheckReport {
    let dir = cohort();
    damage(dir.path());
    check_directory(dir.path(), &|_, _| {})
}

/// Expects exactly one problem, on one line, of this severity, file and content.
#[track_caller]
fn expect_one(severity: Severity, file: &str, phrase: &str, damage: impl FnOnce(&Path)) {
    let report = report_after(damage);
    let lines: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    let problem = &report.problems[0];
    assert_eq!(problem.severity, severity, "{lines:?}");
    assert!(problem.file.ends_with(file), "{lines:?}");
    assert!(lines[0].contains(phrase), "{lines:?} lacks {phrase:?}");
    assert_eq!(lines[0].lines().count(), 1, "{lines:?}");
    assert!(!problem.cure.is_empty(), "{lines:?} has no cure");
}

fn edit_image(root: &Path, edit: impl FnOnce(&mut arl_data::Volume<f32>)) {
    let path = root.join(IMAGE);
    let mut volume = read_image(&path).unwrap();
    edit(&mut volume);
    write_image(&path, &volume).unwrap();
}

fn edit_labels(root: &Path, edit: impl FnOnce(&mut arl_data::Volume<u16>)) {
    let path = root.join(LABEL);
    let mut volume = read_labels(&path).unwrap();
    edit(&mut volume);
    write_labels(&path, &volume).unwrap();
}

fn edit_description(root: &Path, from: &str, to: &str) {
    let path = root.join("dataset.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from));
    fs::write(&path, text.replace(from, to)).unwrap();
}

#[test]
fn a_sound_dataset_has_no_problem() {
    let report = report_after(|_| {});
    assert_eq!(report.cases, 4);
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}

#[test]
fn an_image_without_label() {
    expect_one(Severity::Error, IMAGE, "has no label map", |root| {
        fs::remove_file(root.join(LABEL)).unwrap();
    });
}

#[test]
fn a_label_without_image() {
    let phrase = "no complete image";
    expect_one(Severity::Error, LABEL, phrase, |root| {
        fs::remove_file(root.join(IMAGE)).unwrap();
    });
}

#[test]
fn undeclared_label_values_are_listed() {
    expect_one(Severity::Error, LABEL, "17, 300", |root| {
        edit_labels(root, |labels| {
            labels.data[[0, 0, 0]] = 300;
            labels.data[[0, 0, 1]] = 17;
        });
    });
}

#[test]
fn labels_that_are_not_whole_numbers() {
    expect_one(Severity::Error, LABEL, "1.5", |root| {
        let path = root.join(LABEL);
        let mut volume = read_image(&path).unwrap();
        volume.data[[0, 0, 0]] = 1.5;
        write_image(&path, &volume).unwrap();
    });
}

#[test]
fn a_label_map_of_another_shape() {
    expect_one(Severity::Error, LABEL, "shape", |root| {
        edit_labels(root, |labels| {
            labels.data = labels.data.slice(ndarray::s![..39, .., ..]).to_owned();
            labels.geometry.shape = [39, 64, 64];
        });
    });
}

#[test]
fn a_label_map_of_another_spacing() {
    expect_one(Severity::Error, LABEL, "spacing", |root| {
        edit_labels(root, |labels| {
            let shape = labels.geometry.shape;
            labels.geometry = arl_data::Geometry::from_spacing(shape, [3.0, 1.5, 2.0]);
        });
    });
}

#[test]
fn a_label_map_that_lies_a_little_beside_its_image() {
    expect_one(Severity::Warning, LABEL, "mm apart", |root| {
        edit_labels(root, |labels| {
            let geometry = &labels.geometry;
            let mut affine = geometry.affine;
            affine[0][3] += 0.4;
            labels.geometry = arl_data::Geometry::new(geometry.shape, affine);
        });
    });
}

#[test]
fn an_image_with_nan_and_infinity() {
    expect_one(Severity::Error, IMAGE, "2 voxels", |root| {
        edit_image(root, |image| {
            image.data[[0, 0, 0]] = f32::NAN;
            image.data[[1, 2, 3]] = f32::INFINITY;
        });
    });
}

#[test]
fn a_truncated_image() {
    expect_one(Severity::Error, IMAGE, "truncated", |root| {
        let bytes = fs::read(root.join(IMAGE)).unwrap();
        fs::write(root.join(IMAGE), &bytes[..bytes.len() / 2]).unwrap();
    });
}

#[test]
fn a_text_file_named_as_an_image() {
    expect_one(Severity::Error, IMAGE, "text file", |root| {
        fs::write(
            root.join(IMAGE),
            "oid sha256:4d7a214614ab2935c943f9e0ff69d22e\n",
        )
        .unwrap();
    });
}

#[test]
fn a_wrong_number_of_training_cases() {
    expect_one(Severity::Error, "dataset.json", "numTraining 5", |root| {
        edit_description(root, "\"numTraining\": 3", "\"numTraining\": 5");
    });
}

#[test]
fn a_description_without_labels() {
    expect_one(Severity::Error, "dataset.json", "labels", |root| {
        edit_description(root, "\"labels\"", "\"classes\"");
    });
}

#[test]
fn a_description_that_is_not_json() {
    expect_one(Severity::Error, "dataset.json", "line 1", |root| {
        fs::write(root.join("dataset.json"), "labels: liver").unwrap();
    });
}

#[test]
fn labels_that_are_not_consecutive() {
    expect_one(Severity::Error, "dataset.json", "without gap", |root| {
        edit_description(root, "\"bladder\": 9", "\"bladder\": 12");
    });
}

#[test]
fn missing_channels_are_named_file_by_file() {
    let report = report_after(|root| {
        edit_description(root, "\"0\": \"CT\"", "\"0\": \"CT\", \"1\": \"PET\"");
    });
    let named = |file: &str| {
        let at_fault = |p: &&arl_data::check::Problem| p.file.ends_with(file);
        report.problems.iter().filter(at_fault).count()
    };
    for case in 0..3 {
        assert_eq!(named(&format!("imagesTr/phantom_{case:03}_0001.nii.gz")), 1);
    }
    assert_eq!(named("imagesTs/phantom_003_0001.nii.gz"), 1);
}

#[test]
fn channels_on_different_grids() {
    let second = "imagesTr/phantom_000_0001.nii.gz";
    expect_one(Severity::Error, second, "shape", |root| {
        edit_description(root, "\"0\": \"CT\"", "\"0\": \"CT\", \"1\": \"PET\"");
        for file in [
            "Tr/phantom_000",
            "Tr/phantom_001",
            "Tr/phantom_002",
            "Ts/phantom_003",
        ] {
            let channel = |number: usize| root.join(format!("images{file}_{number:04}.nii.gz"));
            fs::copy(channel(0), channel(1)).unwrap();
        }
        let path = root.join(second);
        let mut volume = read_image(&path).unwrap();
        volume.data = volume.data.slice(ndarray::s![.., ..60, ..]).to_owned();
        volume.geometry.shape = [40, 60, 64];
        write_image(&path, &volume).unwrap();
    });
}

#[test]
fn a_case_without_foreground() {
    expect_one(Severity::Warning, LABEL, "background", |root| {
        edit_labels(root, |labels| labels.data.fill(0));
    });
}

#[test]
fn a_class_that_no_case_shows() {
    expect_one(Severity::Warning, "", "gallbladder", |root| {
        edit_description(
            root,
            "\"bladder\": 9",
            "\"bladder\": 9, \"gallbladder\": 10",
        );
    });
}

#[test]
fn a_directory_that_is_no_dataset() {
    let dir = tempfile::tempdir().unwrap();
    let report = check_directory(dir.path(), &|_, _| {});
    assert_eq!(report.problems.len(), 1);
    let missing = check_directory(&dir.path().join("nowhere"), &|_, _| {});
    assert!(missing.problems[0].to_string().contains("nowhere"));
}

#[test]
fn files_that_start_with_a_dot_are_ignored() {
    let report = report_after(|root| {
        fs::write(
            root.join("imagesTr/._phantom_001_0000.nii.gz"),
            "AppleDouble",
        )
        .unwrap();
        fs::write(root.join("labelsTr/.DS_Store"), "").unwrap();
    });
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}

#[test]
fn a_report_is_the_same_each_time() {
    let dir = cohort();
    for name in [
        IMAGE,
        "imagesTr/phantom_000_0000.nii.gz",
        "labelsTr/phantom_002.nii.gz",
    ] {
        fs::write(dir.path().join(name), "").unwrap();
    }
    let lines = || -> Vec<String> {
        let report = check_directory(dir.path(), &|_, _| {});
        report.problems.iter().map(ToString::to_string).collect()
    };
    let first = lines();
    assert_eq!(first.len(), 3, "{first:#?}");
    assert_eq!(first, lines());
}
