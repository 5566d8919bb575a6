//! Dataset layouts, whole and broken. Each fault is met twice: in the list of the check, and as the one error of whoever
//! opens or reads the dataset without checking it.

mod drawn;

use std::fs;
use std::path::{Path, PathBuf};

use arl_data::check::check_dataset;
use arl_data::dataset::find_images;
use arl_data::formats::{read_image, read_labels, write_image, write_labels};
use arl_data::{Dataset, Geometry, Layout, ReadOptions, Volume};
use drawn::*;
use ndarray::Array3;

#[test]
fn an_nnunet_dataset_is_read_as_declared() {
    let folder = tiny();
    let dataset = Dataset::open(folder.path()).unwrap();
    assert_eq!(dataset.layout, Layout::NnUnetRaw);
    assert_eq!(dataset.name, "tiny");
    assert_eq!(dataset.channel_names, ["CT"]);
    assert_eq!(dataset.num_classes(), 3);
    let classes: Vec<_> = dataset
        .classes
        .iter()
        .map(|c| (c.name.as_str(), c.value))
        .collect();
    assert_eq!(classes, [("background", 0), ("liver", 1), ("kidney", 2)]);
    let ids: Vec<_> = dataset.training.iter().map(|c| c.id.as_str()).collect();
    assert_eq!(ids, ["a", "b"]);
    assert!(dataset.test[0].label.is_some());

    let report = check(folder.path());
    assert_eq!(report.problems, []);
    assert_eq!(report.cases, 3);
    assert_eq!((report.classes[1].cases, report.classes[1].voxels), (2, 2));
    let (images, labels) = dataset.read_case(&dataset.training[0]).unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(labels.data[[1, 2, 2]], 2);
}

#[test]
fn legacy_modality_and_an_ignore_label_are_understood() {
    let folder = tiny();
    edit(folder.path(), "channel_names", "modality");
    edit(folder.path(), r#""kidney": 2"#, r#""ignore": 2"#);
    let dataset = Dataset::open(folder.path()).unwrap();
    assert_eq!(dataset.channel_names, ["CT"]);
    assert_eq!((dataset.num_classes(), dataset.ignore_label), (2, Some(2)));
    assert_eq!(check(folder.path()).problems, []);
}

#[test]
fn files_may_be_listed_one_by_one() {
    let folder = tiny();
    let root = folder.path();
    fs::create_dir(root.join("elsewhere")).unwrap();
    fs::rename(
        root.join("imagesTr/a_0000.nii.gz"),
        root.join("elsewhere/scan.nii.gz"),
    )
    .unwrap();
    edit(
        root,
        r#""name": "tiny","#,
        r#""dataset": {"a": {"images": ["elsewhere/scan.nii.gz"], "label": "labelsTr/a.nii.gz"},
            "b": {"images": ["./imagesTr/b_0000.nii.gz"], "label": "labelsTr/b.nii.gz"}},"#,
    );
    assert_eq!(check(root).problems, []);
    assert_eq!(Dataset::open(root).unwrap().training.len(), 2);
    fs::remove_file(root.join("elsewhere/scan.nii.gz")).unwrap();
    let message = first_error(root).unwrap();
    assert!(
        message.contains("scan.nii.gz: there is no such file"),
        "{message}"
    );
}

#[test]
fn plain_folders_are_paired_by_name_and_scanned_for_classes() {
    for (images, label_maps) in [
        ("images", "labels"),
        ("imagesTr", "labelsTr"),
        ("images_ct", "labels_ct"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join(images)).unwrap();
        fs::create_dir(root.join(label_maps)).unwrap();
        for case in ["scan_0000", "scan_0001", "scan_0002"] {
            image(&root.join(images).join(format!("{case}.nii")));
            labels(&root.join(label_maps).join(format!("{case}.nii")));
        }
        let dataset = Dataset::open(root).unwrap();
        assert_eq!(dataset.layout, Layout::Folders);
        assert_eq!(dataset.file_ending, ".nii");
        assert_eq!(dataset.channel_names.len(), 1);
        let ids: Vec<_> = dataset.training.iter().map(|c| c.id.as_str()).collect();
        assert_eq!(ids, ["scan_0000", "scan_0001", "scan_0002"]);
        let names: Vec<_> = dataset.classes.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["background", "label_1", "label_2"]);
        assert_eq!(check(root).problems, []);
        // The images alone keep these names when they are predicted.
        let cases = find_images(&root.join(images), 1, ".nii").unwrap();
        assert_eq!(cases[0].id, "scan_0000");
    }
}

#[test]
fn plain_folders_with_gaps_in_their_label_values_are_refused() {
    let folder = tiny();
    let root = folder.path();
    fs::remove_file(root.join("dataset.json")).unwrap();
    let path = root.join("labelsTr/b.nii.gz");
    let mut volume = read_labels(&path).unwrap();
    volume
        .data
        .mapv_inplace(|label| if label == 2 { 255 } else { label });
    write_labels(&path, &volume).unwrap();
    assert_eq!(
        Dataset::open(root).unwrap_err().to_string(),
        check(root).problems[0].to_string()
    );
    assert_only_error(root, "labelsTr", "hold the values 0, 1, 2, 255");
}

#[test]
fn plain_folders_may_have_numbered_channels() {
    let folder = tiny();
    let root = folder.path();
    fs::remove_file(root.join("dataset.json")).unwrap();
    for case in ["Tr/a", "Tr/b", "Ts/c"] {
        image(&root.join(format!("images{case}_0001.nii.gz")));
    }
    let dataset = Dataset::open(root).unwrap();
    assert_eq!(dataset.channel_names.len(), 2);
    assert_eq!(dataset.training[1].id, "b");
    assert_eq!(dataset.test.len(), 1);
    assert_eq!(check(root).problems, []);
}

#[test]
fn an_unreadable_label_map_of_plain_folders_is_named_once() {
    let folder = tiny();
    let root = folder.path();
    fs::remove_file(root.join("dataset.json")).unwrap();
    fs::write(root.join("labelsTr/a.nii.gz"), "text").unwrap();
    assert_only_error(root, "labelsTr/a.nii.gz", "is a text file");
}

#[test]
fn a_missing_dataset_is_named() {
    let folder = tiny();
    assert_only_error(
        &folder.path().join("nowhere"),
        "nowhere",
        "no such file or directory",
    );
    let volume = folder.path().join("labelsTr/a.nii.gz");
    assert_only_error(&volume, "a.nii.gz", "is a file, not a dataset directory");
    assert_only_error(&folder.path().join("labelsTr"), "labelsTr", "is no dataset");
    // The description stands for its dataset.
    let description = folder.path().join("dataset.json");
    assert_eq!(check(&description).problems, []);
}

#[test]
fn an_image_without_label_map_is_named() {
    let folder = tiny();
    fs::remove_file(folder.path().join("labelsTr/b.nii.gz")).unwrap();
    assert_only_error(folder.path(), "imagesTr/b_0000.nii.gz", "has no label map");
}

#[test]
fn a_label_map_without_image_is_named() {
    let folder = tiny();
    fs::remove_file(folder.path().join("imagesTr/b_0000.nii.gz")).unwrap();
    assert_only_error(
        folder.path(),
        "labelsTr/b.nii.gz",
        "no complete image of case b",
    );
}

#[test]
fn undeclared_label_values_are_listed() {
    let folder = tiny();
    let path = folder.path().join("labelsTr/b.nii.gz");
    let mut volume = read_labels(&path).unwrap();
    volume.data[[0, 0, 0]] = 7;
    volume.data[[0, 0, 1]] = 300;
    write_labels(&path, &volume).unwrap();
    assert_only_error(
        folder.path(),
        "labelsTr/b.nii.gz",
        "undeclared label values 7, 300 (declared: 0, 1, 2)",
    );
}

#[test]
fn a_label_map_of_another_shape_or_spacing_is_named() {
    let folder = tiny();
    let path = folder.path().join("labelsTr/b.nii.gz");
    let good = read_labels(&path).unwrap();
    let shape = [3, 4, 6];
    let mut data = Array3::zeros(shape);
    data[[0, 0, 0]] = 1;
    write_labels(
        &path,
        &Volume::new(data, Geometry::from_spacing(shape, [3.0, 1.5, 1.0])),
    )
    .unwrap();
    assert_only_error(
        folder.path(),
        "labelsTr/b.nii.gz",
        "shape [3, 4, 6] differs from [3, 4, 5]",
    );

    let geometry = Geometry::from_spacing(SHAPE, [3.0, 1.5, 1.1]);
    write_labels(&path, &Volume::new(good.data, geometry)).unwrap();
    assert_only_error(folder.path(), "labelsTr/b.nii.gz", "spacing");
}

#[test]
fn a_label_map_in_another_place_is_refused_from_half_a_voxel_on() {
    let folder = tiny();
    let root = folder.path();
    let path = root.join("labelsTr/b.nii.gz");
    let shift =
        |millimetres: f64| edit_labels(&path, |labels| labels.geometry.affine[0][3] += millimetres);
    // Voxels are 1 mm wide.
    shift(0.4);
    assert_only_warning(root, "labelsTr/b.nii.gz", "0.40 mm apart");
    shift(1.6);
    let message = "2.0 voxels (2.00 mm) away";
    assert_only_error(root, "labelsTr/b.nii.gz", message);
    // Whoever knows better may go on.
    let options = ReadOptions {
        ignore_geometry: true,
        ..ReadOptions::default()
    };
    let report = check_dataset(root, &options, &|_, _| {});
    assert_eq!((report.errors(), report.warnings()), (0, 1));
    let dataset = Dataset::open_with(root, &options).unwrap();
    assert!(dataset.read_case(&dataset.training[1]).is_ok());
}

#[test]
fn nan_in_an_image_is_named() {
    let folder = tiny();
    let path = folder.path().join("imagesTr/a_0000.nii.gz");
    for bad in [f32::NAN, f32::INFINITY] {
        let mut volume = read_image(&path).unwrap();
        volume.data[[2, 3, 4]] = bad;
        write_image(&path, &volume).unwrap();
        assert_only_error(
            folder.path(),
            "imagesTr/a_0000.nii.gz",
            "1 voxels of 60 that are NaN or infinite",
        );
    }
}

#[test]
fn truncated_and_text_files_are_named() {
    let folder = tiny();
    let path = folder.path().join("imagesTr/a_0000.nii.gz");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert_only_error(folder.path(), "imagesTr/a_0000.nii.gz", "truncated");
    fs::write(&path, "not a volume\n").unwrap();
    assert_only_error(folder.path(), "imagesTr/a_0000.nii.gz", "is a text file");
}

#[test]
fn fractional_labels_are_named() {
    let folder = tiny();
    let path = folder.path().join("labelsTr/a.nii.gz");
    let volume = Volume::new(Array3::from_elem(SHAPE, 0.25), geometry());
    write_image(&path, &volume).unwrap();
    assert_only_error(folder.path(), "labelsTr/a.nii.gz", "holds the value 0.25");
}

#[test]
fn a_wrong_number_of_cases_is_named() {
    let folder = tiny();
    edit(folder.path(), r#""numTraining": 2"#, r#""numTraining": 3"#);
    assert_only_error(
        folder.path(),
        "dataset.json",
        "declares numTraining 3, but there are 2",
    );
}

#[test]
fn missing_surplus_and_doubled_channels_are_named() {
    let folder = tiny();
    let root = folder.path();
    image(&root.join("imagesTr/a_0001.nii.gz"));
    let message = first_error(root).unwrap();
    assert!(
        message.contains("a_0001.nii.gz: is channel 1, but the dataset declares 1"),
        "{message}"
    );

    edit(root, r#"{"0": "CT"}"#, r#"{"0": "CT", "1": "PET"}"#);
    let message = first_error(root).unwrap();
    assert!(message.contains("b_0001.nii.gz: is missing"), "{message}");

    let folder = tiny();
    let root = folder.path();
    image(&root.join("imagesTr/a.nii.gz"));
    assert_only_error(
        root,
        "imagesTr/a_0000.nii.gz",
        "belongs to case a as a.nii.gz does",
    );
}

#[test]
fn channels_of_different_grids_are_named() {
    let folder = tiny();
    let root = folder.path();
    edit(root, r#"{"0": "CT"}"#, r#"{"0": "CT", "1": "PET"}"#);
    for case in ["Tr/a", "Tr/b", "Ts/c"] {
        image(&root.join(format!("images{case}_0001.nii.gz")));
    }
    assert_eq!(check(root).problems, []);
    let path = root.join("imagesTr/b_0001.nii.gz");
    write_image(
        &path,
        &Volume::new(
            Array3::zeros([3, 4, 4]),
            Geometry::from_spacing([3, 4, 4], [3.0, 1.5, 1.0]),
        ),
    )
    .unwrap();
    assert_only_error(root, "imagesTr/b_0001.nii.gz", "shape [3, 4, 4]");
}

#[test]
fn wrong_descriptions_say_what_to_write() {
    let changes = [
        (
            r#""channel_names": {"0": "CT"},"#,
            "",
            "has no \"channel_names\"",
        ),
        (
            r#"{"0": "CT"}"#,
            r#"{"1": "CT"}"#,
            "none with the key \"0\"",
        ),
        (r#"{"0": "CT"}"#, "{}", "declares no channel"),
        (
            r#""kidney": 2"#,
            r#""kidney": [1, 2]"#,
            "no \"regions_class_order\"",
        ),
        (r#""kidney": 2"#, r#""kidney": 3"#, "without gap"),
        (r#""kidney": 2"#, r#""kidney": 1"#, "without gap"),
        (r#""kidney": 2"#, r#""kidney": -1"#, "as -1"),
        (r#""background": 0, "#, "", "no label 0"),
        (
            r#""liver": 1, "kidney": 2"#,
            r#""ignore": 1"#,
            "no class but the background",
        ),
        (
            r#""kidney": 2"#,
            r#""ignore": 7"#,
            "must be the highest label, 2",
        ),
        (r#"".nii.gz""#, r#"".mha""#, "the volumes end in .nii.gz"),
        (
            r#"".nii.gz""#,
            r#"".mgz""#,
            "file_ending \".mgz\", which is not read",
        ),
        (
            r#""numTraining": 2,"#,
            r#""numTraining": 2"#,
            "is not a dataset description",
        ),
        (
            r#""background": 0, "liver": 1, "kidney": 2"#,
            r#""0": "background""#,
            "label \"0\" as \"background\"",
        ),
    ];
    for (from, to, message) in changes {
        let folder = tiny();
        edit(folder.path(), from, to);
        assert_only_error(folder.path(), "dataset.json", message);
    }
}

#[test]
fn all_faults_are_listed_in_one_run() {
    let folder = tiny();
    let root = folder.path();
    fs::remove_file(root.join("labelsTr/b.nii.gz")).unwrap();
    fs::write(root.join("labelsTr/z.nii.gz"), "text").unwrap();
    fs::write(root.join("imagesTs/c_0000.nii.gz"), "text").unwrap();
    let path = root.join("imagesTr/a_0000.nii.gz");
    let mut volume = read_image(&path).unwrap();
    volume.data[[0, 0, 0]] = f32::NAN;
    write_image(&path, &volume).unwrap();
    let path = root.join("labelsTr/a.nii.gz");
    let mut volume = read_labels(&path).unwrap();
    volume.data[[0, 0, 0]] = 9;
    write_labels(&path, &volume).unwrap();

    let report = check(root);
    let files: Vec<PathBuf> = report
        .problems
        .iter()
        .map(|p| p.file.strip_prefix(root).unwrap().to_owned())
        .collect();
    let expected = [
        "imagesTr/b_0000.nii.gz",
        "labelsTr/z.nii.gz",
        "imagesTr/a_0000.nii.gz",
        "labelsTr/a.nii.gz",
        "imagesTs/c_0000.nii.gz",
    ];
    assert_eq!(files, expected.map(PathBuf::from));
    assert_eq!(check(root), report, "the order of threads must not show");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["problems"][0]["severity"], "error");
}

#[test]
fn progress_counts_every_case() {
    let folder = tiny();
    let seen = std::sync::Mutex::new(Vec::new());
    check_dataset(folder.path(), &ReadOptions::default(), &|done, total| {
        seen.lock().unwrap().push((done, total))
    });
    let mut seen = seen.into_inner().unwrap();
    seen.sort();
    assert_eq!(seen, [(1, 3), (2, 3), (3, 3)]);
}

#[test]
fn images_to_predict_are_found_by_file_and_by_folder() {
    let folder = tiny();
    let root = folder.path();
    let file = root.join("imagesTs/c_0000.nii.gz");
    let one = find_images(&file, 1, ".nii.gz").unwrap();
    assert_eq!(
        one,
        find_images(&root.join("imagesTs"), 1, ".nii.gz").unwrap()
    );
    assert_eq!(
        (one[0].id.as_str(), &one[0].images),
        ("c", &vec![file.clone()])
    );

    let message = |input: &Path, channels| {
        find_images(input, channels, ".nii.gz")
            .unwrap_err()
            .to_string()
    };
    assert!(message(&file, 2).contains("c_0001.nii.gz: is missing"));
    assert!(message(&root.join("imagesTs"), 2).contains("c_0001.nii.gz: is missing"));
    image(&root.join("imagesTs/c_0001.nii.gz"));
    assert_eq!(find_images(&file, 2, ".nii.gz").unwrap()[0].images.len(), 2);
    assert!(message(&root.join("none"), 1).contains("no such file"));
    assert!(message(&root.join("dataset.json"), 1).contains("is no volume"));
    fs::create_dir(root.join("empty")).unwrap();
    assert!(message(&root.join("empty"), 1).contains("holds no .nii.gz file"));

    let other = root.join("scan.nii");
    image(&other);
    assert_eq!(find_images(&other, 1, ".nii.gz").unwrap()[0].id, "scan");
}
