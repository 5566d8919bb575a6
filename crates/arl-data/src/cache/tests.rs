use std::fs;
use std::sync::Mutex;
use std::time::SystemTime;

use ndarray::{Array3, s};

use super::testing::{TestCase, cache_of};
use super::*;
use crate::dataset::{LabelClass, Layout, ReadOptions};
use crate::formats::{write_image, write_labels};
use crate::plan::{Architecture, ChannelNormalization, PLAN_VERSION};
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
        foreground_fraction: 0.33,
        low_resolution: None,
        reasons: Vec::new(),
    }
}

fn open(directory: &Path, dataset: &Dataset, plan: &Plan) -> Cache {
    Cache::open_or_build(directory, dataset, plan, &|_, _| {}).unwrap()
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
    let cache = Cache::open_or_build(&directory, &dataset, &plan(), &|done, total| {
        calls.lock().unwrap().push((done, total));
    })
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
        let (image, labels) = case.read_patch([0; 3], SHAPE, 9);
        assert_eq!(image, expected.image);
        assert_eq!(Some(labels), expected.labels);
        assert_eq!(case.locations(1).len(), 8);
        assert_eq!(case.locations(0).len(), 6 * 7 * 8 - 8);
        assert!(case.locations(2).is_empty());
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
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x20;
        bytes
    };
    let damaged = [
        Vec::new(),
        b"something else".to_vec(),
        good[..10].to_vec(),
        good[..40].to_vec(),
        good[..good.len() - 1].to_vec(),
        [&good[..], &[0]].concat(),
        flipped(0),
        flipped(9),
        flipped(14),
        flipped(30),
        flipped(good.len() / 2),
        flipped(good.len() - 1),
    ];
    for (kind, bytes) in damaged.into_iter().enumerate() {
        fs::write(&path, bytes).unwrap();
        let cache = open(&directory, &dataset, &plan());
        assert_eq!(fs::read(&path).unwrap(), good, "damage {kind}");
        assert_eq!(cache.cases()[0].locations(1).len(), 8);
    }
}

#[test]
fn a_case_that_cannot_be_read_is_an_error_with_its_file() {
    let root = tempfile::tempdir().unwrap();
    let mut dataset = dataset(root.path());
    dataset.training[1].images[0] = root.path().join("gone.nii.gz");
    let directory = root.path().join("cache");
    let error = Cache::open_or_build(&directory, &dataset, &plan(), &|_, _| {}).unwrap_err();
    assert!(error.to_string().contains("gone.nii.gz"), "{error}");
    dataset.training.truncate(1);
    dataset.training[0].label = None;
    let error = Cache::open_or_build(&directory, &dataset, &plan(), &|_, _| {}).unwrap_err();
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
            let (image, labels) = case.read_patch(start, size, 77);
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
