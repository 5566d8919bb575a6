//! Each layout opened as it comes: the Decathlon with 4D images, MONAI's lists with folds, regions, remapped labels.

mod drawn;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use arl_data::check::check_dataset;
use arl_data::dataset::find_images;
use arl_data::formats::read_labels;
use arl_data::split::{Fold, split};
use arl_data::{Dataset, LabelRemap, Layout, ReadOptions};
use drawn::*;

/// Writes a 4D image, channels last, whose channel `c` has the value `100 c + w` in column `w`.
fn image_4d(path: &Path, channels: usize) {
    let [d, h, w] = SHAPE;
    // A header of NIfTI-1 with only what a reader needs, little-endian.
    let mut bytes = vec![0u8; 352];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &348i32.to_le_bytes());
    for (axis, size) in [4, w, h, d, channels].into_iter().enumerate() {
        put(40 + 2 * axis, &(size as i16).to_le_bytes());
    }
    put(70, &16i16.to_le_bytes()); // float32
    put(72, &32i16.to_le_bytes());
    for (axis, size) in [1.0f32, 1.0, 1.5, 3.0, 1.0].into_iter().enumerate() {
        put(76 + 4 * axis, &size.to_le_bytes());
    }
    put(108, &352f32.to_le_bytes());
    put(254, &1i16.to_le_bytes()); // sform
    for (row, size) in [1.0f32, 1.5, 3.0].into_iter().enumerate() {
        put(280 + 20 * row, &size.to_le_bytes());
    }
    put(344, b"n+1\0");
    for c in 0..channels {
        for k in 0..d {
            for _ in 0..h {
                for i in 0..w {
                    bytes.extend(((100 * c + i + 10 * k) as f32).to_le_bytes());
                }
            }
        }
    }
    let mut file =
        flate2::write::GzEncoder::new(fs::File::create(path).unwrap(), flate2::Compression::fast());
    file.write_all(&bytes).unwrap();
    file.finish().unwrap();
}

const DECATHLON: &str = r#"{
    "name": "BRATS", "description": "", "reference": "", "licence": "CC-BY-SA 4.0", "release": "2.0 04/05/2018",
    "tensorImageSize": "4D", "modality": {"0": "FLAIR", "1": "T1w"},
    "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor"},
    "numTraining": 2, "numTest": 1,
    "training": [{"image": "./imagesTr/BRATS_002.nii.gz", "label": "./labelsTr/BRATS_002.nii.gz"},
                 {"image": "./imagesTr/BRATS_001.nii.gz", "label": "./labelsTr/BRATS_001.nii.gz"}],
    "test": ["./imagesTs/BRATS_485.nii.gz"]
}"#;

fn decathlon() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for sub in ["imagesTr", "labelsTr", "imagesTs"] {
        fs::create_dir(root.join(sub)).unwrap();
    }
    for case in ["Tr/BRATS_001", "Tr/BRATS_002", "Ts/BRATS_485"] {
        let path = root.join(format!("images{case}.nii.gz"));
        image_4d(&path, 2);
    }
    for case in ["BRATS_001", "BRATS_002"] {
        labels(&root.join(format!("labelsTr/{case}.nii.gz")));
        fs::write(root.join(format!("imagesTr/._{case}.nii.gz")), "fork").unwrap();
    }
    fs::write(root.join("dataset.json"), DECATHLON).unwrap();
    folder
}

fn ids(dataset: &Dataset) -> Vec<&str> {
    dataset.training.iter().map(|c| c.id.as_str()).collect()
}

#[test]
fn the_decathlon_is_read_with_the_channels_of_its_4d_images() {
    let folder = decathlon();
    let dataset = Dataset::open(folder.path()).unwrap();
    assert_eq!(dataset.layout, Layout::Decathlon);
    assert_eq!(
        (&dataset.name[..], &dataset.file_ending[..]),
        ("BRATS", ".nii.gz")
    );
    assert_eq!(dataset.channel_names, ["FLAIR", "T1w"]);
    assert_eq!(ids(&dataset), ["BRATS_001", "BRATS_002"]);
    assert_eq!(dataset.test[0].id, "BRATS_485");
    let names: Vec<&str> = dataset.classes.iter().map(|c| &c.name[..]).collect();
    assert_eq!(names, ["background", "edema", "non-enhancing tumor"]);

    let (images, labels) = dataset.read_case(&dataset.training[0]).unwrap();
    assert_eq!(images.len(), 2);
    assert_eq!(images[1].data[[2, 3, 4]], 124.0);
    assert_eq!(images[1].geometry.spacing(), [3.0, 1.5, 1.0]);
    assert_eq!(labels.data[[1, 2, 2]], 2);

    // All images hold the same: nothing else is to be said.
    let report = check(folder.path());
    assert_eq!((report.errors(), report.cases), (0, 3));
    assert!(
        report
            .problems
            .iter()
            .all(|p| p.message.contains("same voxels"))
    );

    // And the same files are found when they are predicted.
    let images = folder.path().join("imagesTs");
    let cases = find_images(&images, 2, ".nii.gz").unwrap();
    assert_eq!(
        cases,
        find_images(&images.join("BRATS_485.nii.gz"), 2, ".nii.gz").unwrap()
    );
    assert_eq!((&cases[0].id[..], cases[0].images.len()), ("BRATS_485", 1));
    let wrong = find_images(&images, 3, ".nii.gz").unwrap_err().to_string();
    assert!(wrong.contains("has no channel number"), "{wrong}");
}

#[test]
fn faults_of_a_decathlon_are_named() {
    let changes = [
        (
            "\"1\": \"T1w\"",
            "\"1\": \"T1w\", \"2\": \"T2w\"",
            "imagesTr/BRATS_001.nii.gz",
            "2 channels where 3",
        ),
        (
            "\"numTraining\": 2",
            "\"numTraining\": 484",
            "dataset.json",
            "numTraining 484, but there are 2",
        ),
        (
            "\"2\": \"non-",
            "\"3\": \"non-",
            "dataset.json",
            "without gap",
        ),
        (
            "\"2\": \"non-",
            "\"two\": \"non-",
            "dataset.json",
            "\"two\"",
        ),
        (
            "./labelsTr/BRATS_001",
            "./labelsTr/BRATS_003",
            "labelsTr/BRATS_003.nii.gz",
            "no such file, but dataset.json lists it",
        ),
        (
            "./imagesTs/BRATS_485",
            "./imagesTs/BRATS_486",
            "imagesTs/BRATS_486.nii.gz",
            "no such file",
        ),
        (
            "./imagesTr/BRATS_002",
            "./imagesTr/BRATS_001",
            "dataset.json",
            "lists case BRATS_001 twice",
        ),
        (
            "./imagesTs/BRATS_485",
            "./imagesTr/BRATS_001",
            "dataset.json",
            "lists case BRATS_001 twice",
        ),
        (
            "\"label\": \"./labelsTr/BRATS_001.nii.gz\"",
            "\"mask\": 1",
            "dataset.json",
            "lists a training case as",
        ),
    ];
    for (from, to, file, message) in changes {
        let folder = decathlon();
        edit(folder.path(), from, to);
        let report = check(folder.path());
        let errors: Vec<_> = report
            .problems
            .iter()
            .filter(|p| p.message.contains(message))
            .collect();
        assert!(!errors.is_empty(), "{message}: {:#?}", report.problems);
        assert!(errors[0].file.ends_with(file), "{}", errors[0]);
        let first = first_error(folder.path()).unwrap();
        assert!(first.contains(message), "{first}");
    }
}

#[test]
fn nnunets_first_version_lists_cases_and_numbers_channels() {
    let folder = decathlon();
    let root = folder.path();
    for case in ["Tr/BRATS_001", "Tr/BRATS_002", "Ts/BRATS_485"] {
        fs::remove_file(root.join(format!("images{case}.nii.gz"))).unwrap();
        for channel in ["0000", "0001"] {
            image(&root.join(format!("images{case}_{channel}.nii.gz")));
        }
    }
    assert_eq!(check(root).problems, []);
    let dataset = Dataset::open(root).unwrap();
    assert_eq!(ids(&dataset), ["BRATS_001", "BRATS_002"]);
    assert_eq!(dataset.training[0].images.len(), 2);
}

/// Six cases in folders of their own, two of each fold.
fn monai(items: impl Fn(usize) -> String) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let mut list = Vec::new();
    for case in 0..6 {
        let sub = root.join(format!("patient{case}"));
        fs::create_dir(&sub).unwrap();
        image(&sub.join("t1.nii.gz"));
        image(&sub.join("t2.nii.gz"));
        labels(&sub.join("seg.nii.gz"));
        list.push(items(case));
    }
    let json = format!("{{\"training\": [{}]}}", list.join(","));
    fs::write(root.join("folds.json"), json).unwrap();
    folder
}

fn item(case: usize, rest: &str) -> String {
    format!(
        "{{\"image\": [\"patient{case}/t1.nii.gz\", \"patient{case}/t2.nii.gz\"], \
         \"label\": \"patient{case}/seg.nii.gz\"{rest}}}"
    )
}

#[test]
fn a_monai_datalist_brings_its_folds_and_its_labels_are_looked_for() {
    let folder = monai(|case| item(case, &format!(", \"fold\": {}", case / 2)));
    let list = folder.path().join("folds.json");
    // The list, or the directory where it is the only one.
    let dataset = Dataset::open(&list).unwrap();
    assert_eq!(dataset, Dataset::open(folder.path()).unwrap());
    assert_eq!(dataset.layout, Layout::MonaiDatalist);
    assert_eq!(dataset.channel_names, ["channel_0", "channel_1"]);
    assert_eq!(dataset.num_classes(), 3);
    // Files of one name are told apart by their folders.
    assert_eq!(ids(&dataset)[..2], ["patient0_t1", "patient1_t1"]);
    assert_eq!(check(&list).problems, []);

    assert_eq!(dataset.folds.len(), 3);
    let part = split(&dataset, Fold::Index(1)).unwrap();
    assert_eq!(part.validation, ["patient2_t1", "patient3_t1"]);
    assert_eq!(part.train.len(), 4);
    assert!(split(&dataset, Fold::Index(3)).is_err());

    fs::copy(&list, folder.path().join("other.json")).unwrap();
    let error = Dataset::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("folds.json and other.json"), "{error}");
}

#[test]
fn a_monai_list_may_hold_cases_out() {
    let folder = monai(|case| item(case, ""));
    let path = folder.path().join("folds.json");
    let text = fs::read_to_string(&path).unwrap();
    let last = item(5, "");
    let text = text.replace(
        &format!(",{last}]"),
        &format!("], \"validation\": [{last}]"),
    );
    fs::write(&path, text).unwrap();
    let dataset = Dataset::open(&path).unwrap();
    assert_eq!((dataset.training.len(), dataset.held_out.len()), (6, 1));
    for fold in [Fold::All, Fold::Index(0)] {
        let part = split(&dataset, fold).unwrap();
        assert_eq!(
            (part.train.len(), &part.validation[..]),
            (5, &["patient5_t1".to_owned()][..])
        );
    }
    assert_eq!(check(&path).problems, []);
}

#[test]
fn wrong_items_of_a_list_are_all_named() {
    let rests = [
        "",
        ", \"fold\": -1",
        ", \"fold\": 600",
        ", \"label\": []",
        ", \"label\": [1]",
        ", \"image\": 3",
    ];
    let folder = monai(|case| item(case, rests[case]));
    let report = check(&folder.path().join("folds.json"));
    assert_eq!(
        (report.errors(), report.cases),
        (5, 1),
        "{:#?}",
        report.problems
    );
    let report = check(&monai(|_| "17".into()).path().join("folds.json"));
    assert_eq!(report.errors(), 6);
    let empty = monai(|_| String::new());
    fs::write(empty.path().join("folds.json"), "{\"training\": []}").unwrap();
    assert!(
        first_error(empty.path())
            .unwrap()
            .contains("lists no training case")
    );
}

#[test]
fn regions_are_read_in_their_order() {
    let folder = tiny();
    let root = folder.path();
    edit(
        root,
        r#""liver": 1, "kidney": 2"#,
        r#""whole": [1, 2], "core": 2"#,
    );
    edit(
        root,
        r#""numTraining""#,
        r#""regions_class_order": [1, 2], "numTraining""#,
    );
    let dataset = Dataset::open(root).unwrap();
    let regions: Vec<_> = dataset
        .regions
        .iter()
        .map(|r| (&r.name[..], &r.values[..], r.paint))
        .collect();
    assert_eq!(regions, [("whole", &[1, 2][..], 1), ("core", &[2][..], 2)]);
    assert_eq!(dataset.num_classes(), 3);
    assert_eq!(check(root).problems, []);
    edit(
        root,
        r#""whole": [1, 2], "core": 2"#,
        r#""core": 2, "whole": [1, 2]"#,
    );
    edit(root, "[1, 2], \"numT", "[2, 1], \"numT");
    assert_only_warning(root, "dataset.json", "\"core\" is painted before \"whole\"");
}

fn remapped(root: &Path, remap: &str) -> Result<Dataset, String> {
    let options = ReadOptions {
        remap_labels: Some(remap.parse().unwrap()),
        ..ReadOptions::default()
    };
    let report = check_dataset(root, &options, &|_, _| {});
    let dataset = Dataset::open_with(root, &options).map_err(|e| e.to_string());
    let read = dataset.and_then(|dataset| {
        let mut cases = dataset.training.iter();
        let error = cases.find_map(|case| dataset.read_case(case).err());
        error.map_or(Ok(dataset), |error| Err(error.to_string()))
    });
    assert_eq!(report.errors() > 0, read.is_err(), "{:#?}", report.problems);
    read
}

#[test]
fn labels_are_remapped_when_they_are_read() {
    let folder = tiny();
    let root = folder.path();
    for case in ["Tr/a", "Tr/b", "Ts/c"] {
        edit_labels(&root.join(format!("labels{case}.nii.gz")), |labels| {
            labels
                .data
                .mapv_inplace(|label| [0, 10, 255][usize::from(label)]);
        });
    }
    assert!(
        remapped(root, "10:1")
            .unwrap_err()
            .contains("undeclared label values 255")
    );
    for remap in ["10:1,255:2", "auto"] {
        let dataset = remapped(root, remap).unwrap();
        let (_, labels) = dataset.read_case(&dataset.training[1]).unwrap();
        assert_eq!((labels.data[[1, 1, 1]], labels.data[[1, 2, 2]]), (1, 2));
        // What was found is kept, so that the same is read when the dataset grows.
        assert_ne!(dataset.options.remap_labels, Some(LabelRemap::Auto));
    }
    // Where which value is which can't be told, nothing is guessed.
    edit(root, r#""kidney": 2"#, r#""kidney": 2, "spleen": 3"#);
    let unclear = remapped(root, "auto").unwrap_err();
    assert!(
        unclear.contains("0, 10, 255") && unclear.contains("can't be told"),
        "{unclear}"
    );
    edit(root, r#""kidney": 2, "spleen": 3"#, r#""kidney": 2"#);
    // A description with the same gaps is meant to be remapped with the label maps.
    edit(
        root,
        r#""liver": 1, "kidney": 2"#,
        r#""liver": 10, "kidney": 255"#,
    );
    for remap in ["10:1,255:2", "auto"] {
        let dataset = remapped(root, remap).unwrap();
        let classes: Vec<_> = dataset
            .classes
            .iter()
            .map(|c| (&c.name[..], c.value))
            .collect();
        assert_eq!(classes, [("background", 0), ("liver", 1), ("kidney", 2)]);
    }
    // Without a description the values are those that are left.
    fs::remove_file(root.join("dataset.json")).unwrap();
    assert_eq!(remapped(root, "auto").unwrap().num_classes(), 3);
    assert_eq!(remapped(root, "10:1,255:1").unwrap().num_classes(), 2);
    assert!(
        remapped(root, "255:2")
            .unwrap_err()
            .contains("--remap-labels auto")
    );
}

#[test]
fn remapping_leaves_declared_values_in_place() {
    let folder = tiny();
    let root = folder.path();
    // A class that no label map has does not move those after it.
    edit(root, r#""kidney": 2"#, r#""absent": 2, "kidney": 3"#);
    for case in ["a", "b"] {
        edit_labels(&root.join(format!("labelsTr/{case}.nii.gz")), |volume| {
            volume
                .data
                .mapv_inplace(|label| if label == 2 { 3 } else { label });
        });
    }
    let dataset = remapped(root, "auto").unwrap();
    let (_, labels) = dataset.read_case(&dataset.training[0]).unwrap();
    assert!(labels.data.iter().any(|&label| label == 3));
    assert!(labels.data.iter().all(|&label| label != 2));
}

#[test]
fn whole_numbers_may_be_stored_as_floats() {
    let folder = tiny();
    let root = folder.path();
    for case in ["a", "b"] {
        let path = root.join(format!("labelsTr/{case}.nii.gz"));
        let labels = read_labels(&path).unwrap();
        let floats = arl_data::Volume::new(labels.data.mapv(f32::from), labels.geometry);
        arl_data::formats::write_image(&path, &floats).unwrap();
    }
    assert_eq!(check(root).problems, []);
}

#[test]
fn no_environment_variable_is_read() {
    let folder = tiny();
    let listed = r#""dataset": {"a": {"images": ["${HOME}/a_0000.nii.gz"], "label": "labelsTr/a.nii.gz"}}, "name""#;
    edit(folder.path(), r#""name""#, listed);
    assert_only_error(folder.path(), "dataset.json", "environment variable");
}

#[test]
fn splits_of_a_file_are_checked_with_the_dataset() {
    let folder = tiny();
    let splits = r#"[{"train": ["a"], "val": ["b"]}, {"train": ["b"], "val": ["nobody"]}]"#;
    fs::write(folder.path().join("splits_final.json"), splits).unwrap();
    let report = check(folder.path());
    assert_eq!(report.problems.len(), 1);
    assert!(report.problems[0].file.ends_with("splits_final.json"));
    assert!(
        report.problems[0]
            .message
            .contains("fold 1 names \"nobody\"")
    );
    let dataset = Dataset::open(folder.path()).unwrap();
    assert_eq!(split(&dataset, Fold::Index(0)).unwrap().validation, ["b"]);
}

#[test]
#[cfg(unix)]
fn entries_that_are_no_files_are_named() {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    type Make = fn(&Path);
    let cases: [(Make, &str); 6] = [
        (
            |path| fs::create_dir(path).unwrap(),
            "is a directory, not a file",
        ),
        (
            |path| symlink("nowhere", path).unwrap(),
            "link to nowhere, which does not exist",
        ),
        (
            |path| symlink(path.file_name().unwrap(), path).unwrap(),
            "is a symbolic link to",
        ),
        (
            |path| symlink(path.parent().unwrap(), path).unwrap(),
            "is a directory, not a file",
        ),
        (
            |path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success()),
            "is a pipe or a device",
        ),
        (|path| fs::write(path, "").unwrap(), "the file is empty"),
    ];
    for (make, message) in cases {
        for file in ["imagesTr/b_0000.nii.gz", "labelsTr/b.nii.gz"] {
            let folder = tiny();
            let path = folder.path().join(file);
            fs::remove_file(&path).unwrap();
            make(&path);
            assert_only_error(folder.path(), file, message);
        }
    }

    let folder = tiny();
    let name = std::ffi::OsStr::from_bytes(b"b\xff_0000.nii.gz");
    fs::write(folder.path().join("imagesTr").join(name), "any content").unwrap();
    let report = check(folder.path());
    assert_eq!(report.errors(), 1);
    assert!(report.problems[0].message.contains("not valid UTF-8"));
    assert!(
        serde_json::to_string(&report)
            .unwrap()
            .contains("not valid UTF-8")
    );

    // A description that is a broken link does not turn the dataset into plain folders.
    let folder = tiny();
    let description = folder.path().join("dataset.json");
    fs::remove_file(&description).unwrap();
    symlink("gone.json", &description).unwrap();
    assert_only_error(folder.path(), "dataset.json", "link to gone.json");
}

#[test]
fn other_formats_are_datasets_too() {
    // Detached and compressed forms are the readers' own matter; a dataset only goes by the ending.
    let folder = tiny();
    let root = folder.path();
    for file in [
        "imagesTr/a_0000",
        "imagesTr/b_0000",
        "labelsTr/a",
        "labelsTr/b",
        "imagesTs/c_0000",
        "labelsTs/c",
    ] {
        let old = root.join(format!("{file}.nii.gz"));
        let voxels = arl_data::formats::read_image(&old).unwrap().data;
        let numbers: Vec<String> = voxels.iter().map(|value| format!("{value}")).collect();
        let text = format!(
            "NRRD0004\ntype: float\ndimension: 3\nsizes: 5 4 3\nspacings: 1 1.5 3\nencoding: ascii\n\n{}\n",
            numbers.join(" ")
        );
        fs::write(root.join(format!("{file}.nrrd")), text).unwrap();
        fs::remove_file(old).unwrap();
    }
    edit(root, r#"".nii.gz""#, r#"".nrrd""#);
    assert_eq!(check(root).problems, []);
    assert_eq!(Dataset::open(root).unwrap().file_ending, ".nrrd");
    let found = find_images(&root.join("imagesTs"), 1, ".nii.gz").unwrap();
    assert_eq!(found[0].id, "c");
}
