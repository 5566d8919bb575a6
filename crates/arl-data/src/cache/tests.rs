use std::fs;
use std::sync::Mutex;
use std::time::SystemTime;

use ndarray::{Array3, s};

use super::testing::{TestCase, cache_of};
use super::*;
use crate::dataset::{Case, LabelClass, Layout, ReadOptions};
use crate::formats::{write_image, write_labels};
use crate::plan::{Architecture, ChannelNormalization, PLAN_VERSION};
use crate::preprocess::preprocess_case;
use crate::volume::{Geometry, Volume};

const SHAPE: [usize; 3] = [6, 7, 8];

/// Two cases on a grid of 1 mm, with a cube of class 1 in each.
fn dataset(root: &Path) -> Dataset {
    let geometry = Geometry::new(
        SHAPE,
        [
            [1., 0., 0., 0.],
            [0., 1., 0., 0.],
            [0., 0., 1., 0.],
            [0., 0., 0., 1.],
        ],
    );
    let training = ["a", "b"].map(|id| {
        let case = Case {
            id: id.into(),
            images: vec![root.join(format!("{id}_0000.nii.gz"))],
            label: Some(root.join(format!("{id}.nii.gz"))),
        };
        let image = Array3::from_shape_fn(SHAPE, |(d, h, w)| (100 * d + 10 * h + w + 1) as f32);
        let mut labels = Array3::zeros(SHAPE);
        labels.slice_mut(s![2..4, 2..4, 2..4]).fill(1);
        let geometry = geometry.clone();
        let image = Volume {
            data: image,
            geometry: geometry.clone(),
        };
        write_image(&case.images[0], &image).unwrap();
        let labels = Volume {
            data: labels,
            geometry,
        };
        write_labels(case.label.as_ref().unwrap(), &labels).unwrap();
        case
    });
    Dataset {
        root: root.into(),
        name: "test".into(),
        layout: Layout::NnUnetRaw,
        channel_names: vec!["none".into()],
        classes: classes(),
        regions: Vec::new(),
        ignore_label: None,
        file_ending: ".nii.gz".into(),
        training: training.into(),
        test: Vec::new(),
        folds: Vec::new(),
        held_out: Vec::new(),
        options: ReadOptions::default(),
    }
}

fn classes() -> Vec<LabelClass> {
    ["background", "cube"]
        .into_iter()
        .zip(0..)
        .map(|(name, value)| LabelClass {
            name: name.into(),
            value,
        })
        .collect()
}

fn plan() -> Plan {
    Plan {
        version: PLAN_VERSION,
        dataset: "test".into(),
        channel_names: vec!["none".into()],
        classes: classes(),
        regions: Vec::new(),
        ignore_label: None,
        target_spacing: [1.0; 3],
        median_shape: SHAPE,
        normalization: vec![ChannelNormalization::None],
        use_mask_for_norm: false,
        patch_size: [4; 3],
        batch_size: 1,
        architecture: Architecture::Plain,
        stem_stride: [1; 3],
        stages: Vec::new(),
        decoder_convolutions: 2,
        mirror_axes: Vec::new(),
        orientation: None,
        foreground_fraction: 0.33,
        low_resolution: None,
        reasons: Vec::new(),
    }
}

fn open(directory: &Path, dataset: &Dataset, plan: &Plan) -> Cache {
    Cache::open_or_build(
        directory,
        dataset,
        plan,
        &CacheOptions::default(),
        &|_, _| {},
    )
    .unwrap()
}

/// When each file of the cache was written.
fn written(directory: &Path) -> Vec<SystemTime> {
    ["a.arlcache", "b.arlcache"]
        .map(|name| {
            fs::metadata(directory.join(name))
                .unwrap()
                .modified()
                .unwrap()
        })
        .into()
}

#[test]
fn what_was_preprocessed_is_read_back() {
    let root = tempfile::tempdir().unwrap();
    let dataset = dataset(root.path());
    let calls = Mutex::new(Vec::new());
    let directory = root.path().join("deep/cache");
    let cache = Cache::open_or_build(
        &directory,
        &dataset,
        &plan(),
        &CacheOptions::default(),
        &|done, total| {
            calls.lock().unwrap().push((done, total));
        },
    )
    .unwrap();
    let mut calls = calls.into_inner().unwrap();
    calls.sort_unstable();
    assert_eq!(calls, [(1, 2), (2, 2)]);
    assert_eq!(cache.directory(), directory);
    assert_eq!(cache.cases().len(), 2);
    for (case, source) in cache.cases().iter().zip(&dataset.training) {
        let expected = preprocess_case(source, &dataset, &plan()).unwrap();
        assert_eq!(
            (&case.id, case.shape, case.channels),
            (&source.id, SHAPE, 1)
        );
        let (image, labels) = case.read_patch([0; 3], SHAPE, 9).unwrap();
        assert_eq!(image, expected.image);
        assert_eq!(Some(labels), expected.labels);
        assert_eq!(case.locations(1).unwrap().len(), 8);
        assert_eq!(case.locations(0).unwrap().len(), 6 * 7 * 8 - 8);
        assert!(case.locations(2).unwrap().is_empty());
    }
    let files = fs::read_dir(&directory).unwrap().count();
    assert_eq!(files, 2, "no temporary file is left");
}

#[test]
fn a_file_is_reused_until_source_or_plan_change() {
    let root = tempfile::tempdir().unwrap();
    let dataset = dataset(root.path());
    let directory = root.path().join("cache");
    open(&directory, &dataset, &plan());
    let first = written(&directory);

    let mut other = plan();
    other.patch_size = [6; 3];
    open(&directory, &dataset, &other);
    assert_eq!(
        written(&directory),
        first,
        "preprocessing does not read the patch size"
    );

    let label = dataset.training[1].label.as_ref().unwrap();
    let file = fs::File::options().write(true).open(label).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    open(&directory, &dataset, &plan());
    let second = written(&directory);
    assert_eq!(second[0], first[0]);
    assert!(second[1] > first[1]);

    let mut other = plan();
    other.target_spacing = [2.0, 1.0, 1.0];
    let cache = open(&directory, &dataset, &other);
    assert_eq!(cache.cases()[0].shape, [3, 7, 8]);
    let third = written(&directory);
    assert!(third[0] > second[0] && third[1] > second[1]);
}

#[test]
fn damaged_files_are_made_anew() {
    let root = tempfile::tempdir().unwrap();
    let dataset = dataset(root.path());
    let directory = root.path().join("cache");
    open(&directory, &dataset, &plan());
    let path = directory.join("a.arlcache");
    let good = fs::read(&path).unwrap();
    let flipped = |from_end: usize| {
        let mut bytes = good.clone();
        bytes[good.len() - from_end] ^= 0x20;
        bytes
    };
    let damaged = [
        Vec::new(),
        b"something else".to_vec(),
        good[..10].to_vec(),
        good[..40].to_vec(),
        good[..good.len() - 1].to_vec(),
        [&good[..], &[0]].concat(),
        good[1..].to_vec(),
        flipped(1),
        flipped(10),
        flipped(14),
        flipped(24),
        flipped(30),
        flipped(100),
    ];
    for (kind, bytes) in damaged.into_iter().enumerate() {
        fs::write(&path, bytes).unwrap();
        let cache = open(&directory, &dataset, &plan());
        assert_eq!(fs::read(&path).unwrap(), good, "damage {kind}");
        assert_eq!(cache.cases()[0].locations(1).unwrap().len(), 8);
    }
}

#[test]
fn damage_to_a_part_is_found_when_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let case = TestCase::new("a", [40, 33, 7], |[d, _, w]| {
        u16::from(d > 30) + u16::from(w == 2)
    });
    let cache = cache_of(directory.path(), &[case], 3);
    let case = &cache.cases()[0];
    let whole = || {
        case.read_patch([0; 3], case.shape, 0)?;
        (0..3).try_for_each(|class| case.locations(class).map(drop))
    };
    whole().unwrap();
    let path = directory.path().join("a.arlcache");
    let good = fs::read(&path).unwrap();
    let end = good.len() - 24;
    let footer = u64::from_le_bytes(good[end..end + 8].try_into().unwrap()) as usize;
    for at in (12..footer).step_by(footer / 50) {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        let message = whole().unwrap_err().to_string();
        assert!(
            message.contains("a.arlcache") && message.contains("delete"),
            "{message}"
        );
    }
    // A patch that does not touch the damage is read.
    let mut bytes = good.clone();
    bytes[12] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(case.read_patch([0; 3], [32; 3], 0).is_err());
    case.read_patch([32, 0, 0], [8, 32, 7], 0).unwrap();
    fs::write(&path, &good[..footer / 2]).unwrap();
    assert!(whole().unwrap_err().to_string().contains("cut short"));
    fs::remove_file(&path).unwrap();
    assert!(whole().unwrap_err().to_string().contains("a.arlcache"));
}

#[test]
fn half_precision_is_rounded_and_its_range_is_guarded() {
    let directory = tempfile::tempdir().unwrap();
    let case = TestCase::new("a", [9, 40, 35], |_| 0).with_channels(2);
    let cache = testing::cache_of_dtype(directory.path(), &[case], 1, CacheDtype::F16);
    let (image, _) = cache.cases()[0].read_patch([0; 3], [9, 40, 35], 0).unwrap();
    for ((c, d, h, w), value) in image.indexed_iter() {
        let exact = (((d * 40 + h) * 35 + w) + 1000 * c) as f32;
        assert!(
            (value - exact).abs() <= exact * 2f32.powi(-11),
            "{value} for {exact}"
        );
    }

    let root = tempfile::tempdir().unwrap();
    let dataset = dataset(root.path());
    let path = &dataset.training[1].images[0];
    let mut image = crate::formats::read_image(path).unwrap();
    image.data[[0, 0, 0]] = 70_000.0;
    write_image(path, &image).unwrap();
    let options = CacheOptions {
        dtype: CacheDtype::F16,
        ..CacheOptions::default()
    };
    let directory = root.path().join("cache");
    let error = Cache::open_or_build(&directory, &dataset, &plan(), &options, &|_, _| {});
    let message = error.unwrap_err().to_string();
    assert!(
        message.contains("b.arlcache") && message.contains("f32"),
        "{message}"
    );
    let left = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| name == "a.arlcache"));
}

#[test]
fn another_number_format_is_made_anew() {
    let root = tempfile::tempdir().unwrap();
    let dataset = dataset(root.path());
    let directory = root.path().join("cache");
    open(&directory, &dataset, &plan());
    let first = written(&directory);
    let options = CacheOptions {
        dtype: CacheDtype::F16,
        memory: 1,
    };
    Cache::open_or_build(&directory, &dataset, &plan(), &options, &|_, _| {}).unwrap();
    let second = written(&directory);
    assert!(second[0] > first[0] && second[1] > first[1]);
}

#[test]
fn a_killed_run_is_gone_on_with_and_its_leftovers_removed() {
    let root = tempfile::tempdir().unwrap();
    let dataset = dataset(root.path());
    let directory = root.path().join("cache");
    open(&directory, &dataset, &plan());
    let first = written(&directory);
    // As `kill -9` leaves it: one case finished, one half-written under its temporary name.
    fs::rename(
        directory.join("b.arlcache"),
        directory.join(".abc123.arlcache"),
    )
    .unwrap();
    open(&directory, &dataset, &plan());
    let second = written(&directory);
    assert_eq!(first[0], second[0]);
    assert!(second[1] > first[1]);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 2);
}

#[test]
fn two_processes_at_once_make_each_case_once() {
    let root = tempfile::tempdir().unwrap();
    let dataset = dataset(root.path());
    let directory = root.path().join("cache");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| open(&directory, &dataset, &plan()));
        }
    });
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 2);
}

#[test]
fn a_case_that_cannot_be_read_is_an_error_with_its_file() {
    let root = tempfile::tempdir().unwrap();
    let mut dataset = dataset(root.path());
    dataset.training[1].images[0] = root.path().join("gone.nii.gz");
    let directory = root.path().join("cache");
    let error = Cache::open_or_build(
        &directory,
        &dataset,
        &plan(),
        &CacheOptions::default(),
        &|_, _| {},
    )
    .unwrap_err();
    assert!(error.to_string().contains("gone.nii.gz"), "{error}");
    dataset.training.truncate(1);
    dataset.training[0].label = None;
    let error = Cache::open_or_build(
        &directory,
        &dataset,
        &plan(),
        &CacheOptions::default(),
        &|_, _| {},
    )
    .unwrap_err();
    assert!(error.to_string().contains("label"), "{error}");
}

#[test]
fn patches_reach_out_of_the_volume() {
    let directory = tempfile::tempdir().unwrap();
    let shape = [5, 6, 7];
    // The second case needs two bytes per label.
    let cases = [1u16, 300].map(|unit| {
        TestCase::new(&unit.to_string(), shape, move |[d, h, _]| {
            unit * (d + h) as u16
        })
        .with_channels(2)
    });
    let cache = cache_of(directory.path(), &cases, 3);
    for (case, unit) in cache.cases().iter().zip([1, 300]) {
        for start in [[0, 0, 0], [-2, 3, 5], [1, -4, -1], [40, 0, 0], [0, 0, -9]] {
            let size = [4, 5, 3];
            let (image, labels) = case.read_patch(start, size, 77).unwrap();
            assert_eq!(image.shape(), [2, 4, 5, 3]);
            for ((d, h, w), &label) in labels.indexed_iter() {
                let at = [0, 1, 2].map(|axis| start[axis] + [d, h, w][axis] as i64);
                let inside = (0..3).all(|axis| (0..shape[axis] as i64).contains(&at[axis]));
                let value = ((at[0] * 6 + at[1]) * 7 + at[2]) as f32;
                for c in 0..2 {
                    let expected = if inside {
                        value + 1000.0 * c as f32
                    } else {
                        0.0
                    };
                    assert_eq!(image[[c, d, h, w]], expected);
                }
                let expected = if inside { unit * (at[0] + at[1]) } else { 77 };
                assert_eq!(i64::from(label), expected);
            }
        }
    }
}

#[test]
fn a_plan_with_a_mask_marks_the_background_outside_of_the_body() {
    let root = tempfile::tempdir().unwrap();
    let mut dataset = dataset(root.path());
    dataset.training.truncate(1);
    let case = &dataset.training[0];
    let mut image = crate::formats::read_image(&case.images[0]).unwrap();
    // Nothing but the corners of a box, so that cropping leaves empty voxels in it; a label lies on some of them.
    image.data.slice_mut(s![1.., 1.., ..]).fill(0.0);
    image.data[[5, 6, 7]] = 1.0;
    write_image(&case.images[0], &image).unwrap();
    let mut plan = plan();
    plan.normalization = vec![ChannelNormalization::ZScore];
    plan.use_mask_for_norm = true;
    assert_eq!(plan.masked_channels(), [0]);
    let cache = open(&root.path().join("cache"), &dataset, &plan);
    let (voxels, labels) = cache.cases()[0].read_patch([0; 3], SHAPE, 9).unwrap();
    let mut marked = 0;
    for ((at, &label), &source) in labels.indexed_iter().zip(&image.data) {
        let cube = (2..4).contains(&at.0) && (2..4).contains(&at.1) && (2..4).contains(&at.2);
        let expected = match (cube, source == 0.0) {
            (true, _) => 1,
            (false, true) => crate::augment::OUTSIDE_OF_BODY,
            (false, false) => 0,
        };
        assert_eq!(label, expected, "{at:?}");
        if label == crate::augment::OUTSIDE_OF_BODY {
            marked += 1;
            assert_eq!(voxels[[0, at.0, at.1, at.2]], 0.0);
        }
    }
    assert_eq!(marked, 5 * 6 * 8 - 1 - 8);
    assert_eq!(cache.cases()[0].locations(1).unwrap().len(), 8);

    plan.classes[1].value = crate::augment::OUTSIDE_OF_BODY;
    let error = plan.validate().unwrap_err();
    assert!(error.contains("65535"), "{error}");
}
