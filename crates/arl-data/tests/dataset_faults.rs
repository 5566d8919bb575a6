//! A table of every fault that a check must name: what is done to a good dataset, and the file and words of the message.
//! Errors are met again, word for word, by whoever opens or reads the dataset without checking it.

mod drawn;

use std::fs;
use std::path::Path;

use arl_data::check::Severity;
use arl_data::formats::{read_image, write_image};
use arl_data::{Geometry, Volume};
use drawn::*;
use ndarray::Array3;

/// What is done to the dataset.
type Fault = fn(&Path);

fn edit_image(path: &Path, edit: impl FnOnce(&mut Volume<f32>)) {
    let mut volume = read_image(path).unwrap();
    edit(&mut volume);
    write_image(path, &volume).unwrap();
}

fn cut(path: &Path, bytes: usize) {
    let content = fs::read(path).unwrap();
    fs::write(path, &content[..content.len() - bytes]).unwrap();
}

/// Faults that training refuses: file, words, and what is done. The rules are those of nnU-Net's
/// `verify_dataset_integrity.py`, and what it does not look at.
const ERRORS: &[(&str, &str, Fault)] = &[
    // Description.
    ("dataset.json", "has no \"channel_names\"", |root| {
        edit(root, r#""channel_names": {"0": "CT"},"#, "")
    }),
    ("dataset.json", "has no \"labels\"", |root| {
        edit(root, r#""labels""#, r#""etiquettes""#)
    }),
    ("dataset.json", "has no \"file_ending\"", |root| {
        edit(root, r#""file_ending": ".nii.gz","#, "")
    }),
    ("dataset.json", "is not a dataset description", |root| {
        edit(root, "{", "[")
    }),
    ("dataset.json", "numTraining 3, but there are 2", |root| {
        edit(root, r#""numTraining": 2"#, r#""numTraining": 3"#)
    }),
    ("dataset.json", "without gap", |root| {
        edit(root, r#""kidney": 2"#, r#""kidney": 4"#)
    }),
    ("dataset.json", "as 70000", |root| {
        edit(root, r#""kidney": 2"#, r#""kidney": 70000"#)
    }),
    ("dataset.json", "\"liver\" twice", |root| {
        edit(root, r#""kidney": 2"#, r#""liver": 2"#)
    }),
    ("dataset.json", "no label 0", |root| {
        edit(root, r#""background": 0, "#, "")
    }),
    ("dataset.json", "must be the highest label, 2", |root| {
        edit(root, r#""kidney": 2"#, r#""ignore": 7"#)
    }),
    // Files.
    ("imagesTr", "there is no such folder", |root| {
        fs::remove_dir_all(root.join("imagesTr")).unwrap()
    }),
    ("labelsTr", "there is no such folder", |root| {
        fs::remove_dir_all(root.join("labelsTr")).unwrap()
    }),
    ("imagesTr/b_0000.nii.gz", "has no label map", |root| {
        fs::remove_file(root.join("labelsTr/b.nii.gz")).unwrap()
    }),
    ("labelsTr/b.nii.gz", "no complete image of case b", |root| {
        fs::remove_file(root.join("imagesTr/b_0000.nii.gz")).unwrap()
    }),
    (
        "imagesTr/b_0001.nii.gz",
        "is channel 1, but the dataset declares 1",
        |root| image(&root.join("imagesTr/b_0001.nii.gz")),
    ),
    (
        "imagesTr/a_0000.nii.gz",
        "belongs to case a as a.nii.gz does",
        |root| image(&root.join("imagesTr/a.nii.gz")),
    ),
    ("imagesTr/a_0000.nii", "does not end in .nii.gz", |root| {
        image(&root.join("imagesTr/a_0000.nii"))
    }),
    ("imagesTr/a_0000.nii.gz", "is empty", |root| {
        fs::write(root.join("imagesTr/a_0000.nii.gz"), "").unwrap()
    }),
    ("labelsTr/a.nii.gz", "is a text file", |root| {
        fs::write(root.join("labelsTr/a.nii.gz"), "text").unwrap()
    }),
    ("imagesTr/a_0000.nii.gz", "truncated", |root| {
        cut(&root.join("imagesTr/a_0000.nii.gz"), 40)
    }),
    // The last eight bytes of a gzip file are a checksum and the length.
    ("labelsTr/b.nii.gz", "labelsTr/b.nii.gz", |root| {
        cut(&root.join("labelsTr/b.nii.gz"), 5)
    }),
    ("labelsTr/b.nii.gz", "labelsTr/b.nii.gz", |root| {
        let path = root.join("labelsTr/b.nii.gz");
        let mut content = fs::read(&path).unwrap();
        let checksum = content.len() - 8;
        content[checksum] ^= 0xff;
        fs::write(&path, content).unwrap();
    }),
    // Voxels.
    (
        "labelsTr/a.nii.gz",
        "undeclared label values 7, 300 (declared: 0, 1, 2)",
        |root| {
            edit_labels(&root.join("labelsTr/a.nii.gz"), |labels| {
                labels.data[[0, 0, 0]] = 300;
                labels.data[[0, 0, 1]] = 7;
            });
        },
    ),
    ("labelsTr/a.nii.gz", "holds the value 0.25", |root| {
        let volume = Volume::new(Array3::from_elem(SHAPE, 0.25), geometry());
        write_image(&root.join("labelsTr/a.nii.gz"), &volume).unwrap();
    }),
    ("labelsTr/a.nii.gz", "holds the value -1", |root| {
        let volume = Volume::new(Array3::from_elem(SHAPE, -1.0), geometry());
        write_image(&root.join("labelsTr/a.nii.gz"), &volume).unwrap();
    }),
    ("labelsTr/a.nii.gz", "holds the value 65536", |root| {
        let volume = Volume::new(Array3::from_elem(SHAPE, 65536.0), geometry());
        write_image(&root.join("labelsTr/a.nii.gz"), &volume).unwrap();
    }),
    ("labelsTr/a.nii.gz", "holds the value NaN", |root| {
        let volume = Volume::new(Array3::from_elem(SHAPE, f32::NAN), geometry());
        write_image(&root.join("labelsTr/a.nii.gz"), &volume).unwrap();
    }),
    (
        "imagesTr/a_0000.nii.gz",
        "1 voxels of 60 that are NaN or infinite",
        |root| {
            edit_image(&root.join("imagesTr/a_0000.nii.gz"), |image| {
                image.data[[1, 1, 1]] = f32::NAN
            });
        },
    ),
    // Geometry.
    (
        "labelsTr/b.nii.gz",
        "shape [3, 4, 6] differs from [3, 4, 5]",
        |root| {
            edit_labels(&root.join("labelsTr/b.nii.gz"), |labels| {
                labels.data = Array3::ones([3, 4, 6]);
                labels.geometry = Geometry::from_spacing([3, 4, 6], [3.0, 1.5, 1.0]);
            });
        },
    ),
    ("labelsTr/b.nii.gz", "spacing", |root| {
        edit_labels(&root.join("labelsTr/b.nii.gz"), |labels| {
            labels.geometry = Geometry::from_spacing(SHAPE, [3.0, 1.5, 1.1]);
        });
    }),
    ("labelsTr/b.nii.gz", "2.0 voxels (3.00 mm) away", |root| {
        edit_labels(&root.join("labelsTr/b.nii.gz"), |labels| {
            labels.geometry.affine[1][3] += 3.0
        });
    }),
    ("labelsTr/b.nii.gz", "its affine is another", |root| {
        // Mirrored: the same box, counted from the other side.
        edit_labels(&root.join("labelsTr/b.nii.gz"), |labels| {
            labels.geometry.affine[0] = [-1.0, 0.0, 0.0, 4.0];
        });
    }),
];

/// Faults that training accepts.
const WARNINGS: &[(&str, &str, Fault)] = &[
    ("dataset.json", "has no \"numTraining\"", |root| {
        edit(root, r#""numTraining": 2,"#, "")
    }),
    ("labelsTr/a.nii.gz", "nothing but background", |root| {
        edit_labels(&root.join("labelsTr/a.nii.gz"), |labels| {
            labels.data.fill(0)
        });
    }),
    ("", "no training case holds label 3 (spleen)", |root| {
        edit(root, r#""kidney": 2"#, r#""kidney": 2, "spleen": 3"#)
    }),
    ("labelsTr/b.nii.gz", "0.30 mm apart", |root| {
        edit_labels(&root.join("labelsTr/b.nii.gz"), |labels| {
            labels.geometry.affine[0][3] += 0.3
        });
    }),
    (
        "imagesTr/b_0000.nii.gz",
        "same value in every voxel",
        |root| {
            edit_image(&root.join("imagesTr/b_0000.nii.gz"), |image| {
                image.data.fill(7.0)
            });
        },
    ),
    ("imagesTr/b_0000.nii.gz", "same voxels as", |root| {
        fs::copy(
            root.join("imagesTr/a_0000.nii.gz"),
            root.join("imagesTr/b_0000.nii.gz"),
        )
        .unwrap();
    }),
    (
        "imagesTs/a_0000.nii.gz",
        "is test case a, and a training case has the same name",
        |root| {
            fs::rename(
                root.join("imagesTs/c_0000.nii.gz"),
                root.join("imagesTs/a_0000.nii.gz"),
            )
            .unwrap();
            fs::rename(
                root.join("labelsTs/c.nii.gz"),
                root.join("labelsTs/a.nii.gz"),
            )
            .unwrap();
        },
    ),
    (
        "imagesTs/c_0000.nii.gz",
        "run towards LPS, as those of 1 cases do, but 2 in RAS",
        |root| {
            let turn = |geometry: &mut Geometry| {
                geometry.affine[0][0] = -1.0;
                geometry.affine[1][1] = -1.5;
            };
            edit_image(&root.join("imagesTs/c_0000.nii.gz"), |image| {
                turn(&mut image.geometry)
            });
            edit_labels(&root.join("labelsTs/c.nii.gz"), |labels| {
                turn(&mut labels.geometry)
            });
        },
    ),
    (
        "imagesTr/a_0000.nii.gz",
        "is oblique: its axes are turned by 20 degrees against the patient's, as those of 1 of 3",
        |root| {
            let turn = |geometry: &mut Geometry| {
                let (sin, cos) = 20f64.to_radians().sin_cos();
                geometry.affine[0] = [cos, -1.5 * sin, 0.0, 0.0];
                geometry.affine[1] = [sin, 1.5 * cos, 0.0, 0.0];
            };
            edit_image(&root.join("imagesTr/a_0000.nii.gz"), |image| {
                turn(&mut image.geometry)
            });
            edit_labels(&root.join("labelsTr/a.nii.gz"), |labels| {
                turn(&mut labels.geometry)
            });
        },
    ),
];

#[test]
fn every_error_is_named_once_with_its_file() {
    for (file, words, fault) in ERRORS {
        let folder = tiny();
        fault(folder.path());
        let report = check(folder.path());
        let errors: Vec<String> = report
            .problems
            .iter()
            .filter(|problem| problem.severity == Severity::Error)
            .map(ToString::to_string)
            .collect();
        assert_eq!(errors.len(), 1, "{file}, {words}: {:#?}", report.problems);
        let problem = &report.problems[0];
        assert!(problem.file.ends_with(file), "{file}, {words}: {problem}");
        assert!(errors[0].contains(words), "{file}, {words}: {problem}");
        assert!(!problem.cure.is_empty() && !errors[0].contains('\n'));
        assert_eq!(first_error(folder.path()).as_ref(), Some(&errors[0]));
    }
}

#[test]
fn every_warning_is_named_once_with_its_file() {
    for (file, words, fault) in WARNINGS {
        let folder = tiny();
        fault(folder.path());
        assert_only_warning(folder.path(), file, words);
    }
}

#[test]
fn all_faults_are_named_in_one_run() {
    // Those that do not hide one another: one of the description, one of the files, and some of each case.
    let folder = tiny();
    let root = folder.path();
    let mut expected = Vec::new();
    for (file, words, fault) in ERRORS.iter().filter(|(_, words, _)| {
        [
            "has no \"file_ending\"",
            "\"liver\" twice",
            "is channel 1",
            "NaN or infinite",
            "2.0 voxels",
        ]
        .iter()
        .any(|some| words.contains(some))
    }) {
        // The last two of the same case, so that it stays readable for the others.
        if *file == "imagesTr/b_0001.nii.gz" {
            image(&root.join("imagesTr/d_0001.nii.gz"));
            expected.push(("imagesTr/d_0001.nii.gz", *words));
        } else {
            fault(root);
            expected.push((*file, *words));
        }
    }
    for (file, words, fault) in &WARNINGS[..2] {
        fault(root);
        expected.push((*file, *words));
    }
    assert_eq!(expected.len(), 7);
    let report = check(root);
    for (file, words) in expected {
        let found =
            |p: &arl_data::check::Problem| p.file.ends_with(file) && p.message.contains(words);
        assert!(
            report.problems.iter().any(found),
            "{file}, {words}: {:#?}",
            report.problems
        );
    }
}
