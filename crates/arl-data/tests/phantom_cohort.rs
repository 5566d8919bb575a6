//! The phantom cohort is a sound dataset, and the same for the same seed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use arl_data::Dataset;
use arl_data::check::check;
use arl_data::formats::{read_image, read_labels};
use arl_data::phantom::{CohortConfig, write_cohort};

fn small(seed: u64) -> CohortConfig {
    CohortConfig {
        training: 2,
        test: 1,
        seed,
        ..CohortConfig::default()
    }
}

fn cohort(config: &CohortConfig) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_cohort(dir.path(), config, &|_, _| {}).unwrap();
    dir
}

/// All files below a folder, as paths relative to it, sorted.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["", "imagesTr", "labelsTr", "imagesTs", "labelsTs"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                found.push(path.strip_prefix(root).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let (a, b) = (cohort(&small(7)), cohort(&small(7)));
    let names = files(a.path());
    assert_eq!(names.len(), 7);
    assert_eq!(names, files(b.path()));
    for name in names {
        let (a, b) = (a.path().join(&name), b.path().join(&name));
        assert!(
            fs::read(a).unwrap() == fs::read(b).unwrap(),
            "{} differs",
            name.display()
        );
    }
}

#[test]
fn another_seed_and_another_case_give_another_patient() {
    let (a, b) = (cohort(&small(0)), cohort(&small(1)));
    let labels = |dir: &tempfile::TempDir, case: usize| {
        let path = dir
            .path()
            .join(format!("labelsTr/phantom_{case:03}.nii.gz"));
        read_labels(&path).unwrap().data
    };
    assert_ne!(labels(&a, 0), labels(&a, 1));
    assert_ne!(labels(&a, 0), labels(&b, 0));
    assert_ne!(labels(&a, 1), labels(&b, 0));
}

#[test]
fn a_cohort_passes_the_check_and_every_case_shows_every_class() {
    let dir = tempfile::tempdir().unwrap();
    let written = AtomicUsize::new(0);
    let config = CohortConfig {
        training: 4,
        ..small(3)
    };
    write_cohort(dir.path(), &config, &|_, total| {
        assert_eq!(total, 5);
        written.fetch_add(1, Ordering::Relaxed);
    })
    .unwrap();
    assert_eq!(written.into_inner(), 5);

    let dataset = Dataset::open(dir.path()).unwrap();
    assert_eq!((dataset.training.len(), dataset.test.len()), (4, 1));
    assert_eq!(dataset.channel_names, ["CT"]);
    let report = check(&dataset, &|_, _| {});
    assert!(report.problems.is_empty(), "{:?}", report.problems);

    for case in dataset.training.iter().chain(&dataset.test) {
        let labels = read_labels(case.label.as_deref().unwrap()).unwrap();
        for class in &dataset.classes {
            let voxels = labels.data.iter().filter(|&&v| v == class.value).count();
            assert!(
                voxels >= 10,
                "{} has {voxels} voxels of {}",
                case.id,
                class.name
            );
        }
        let spacing = labels.geometry.spacing();
        assert!((0..3).all(|i| (spacing[i] - config.spacing[i]).abs() < 1e-5));
    }
}

#[test]
fn tissues_have_the_brightness_of_ct() {
    let dir = cohort(&small(5));
    let dataset = Dataset::open(dir.path()).unwrap();
    let case = &dataset.training[0];
    let image = read_image(&case.images[0]).unwrap().data;
    let labels = read_labels(case.label.as_deref().unwrap()).unwrap().data;
    let mean = |name: &str| {
        let class = dataset.classes.iter().find(|c| c.name == name).unwrap();
        let inside = || {
            image
                .iter()
                .zip(&labels)
                .filter(|&(_, &v)| v == class.value)
        };
        inside().map(|(hu, _)| hu).sum::<f32>() / inside().count() as f32
    };
    assert!((80.0..130.0).contains(&mean("liver")));
    assert!((-20.0..40.0).contains(&mean("bladder")));
    assert!(mean("vertebrae") > 180.0);
    assert!(mean("aorta") > mean("liver"));
    assert!(image[[20, 0, 0]] < -900.0, "outside the body is air");
}

#[test]
fn a_cohort_without_voxels_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = CohortConfig {
        shape: [0, 64, 64],
        ..small(0)
    };
    let error = write_cohort(dir.path(), &config, &|_, _| {}).unwrap_err();
    assert!(error.to_string().contains("above 0"), "{error}");
}
