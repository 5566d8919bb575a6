use std::collections::BTreeMap;

use super::*;
use crate::dataset::{Dataset, Layout, ReadOptions};
use crate::fingerprint::{CaseFingerprint, Fingerprint, Intensities};

/// What nnU-Net's planners make of drawn fingerprints: `tests/references/make_plan.py`.
const REFERENCES: &str = include_str!("../../tests/references/plan/planner.json");

fn classes(names: &[&str]) -> Vec<LabelClass> {
    (0..)
        .zip(names)
        .map(|(value, name)| LabelClass {
            name: (*name).into(),
            value,
        })
        .collect()
}

fn dataset(channel_names: Vec<String>, number_of_classes: usize) -> Dataset {
    let names: Vec<String> = (0..number_of_classes)
        .map(|i| format!("class {i}"))
        .collect();
    Dataset {
        root: "dataset".into(),
        name: "dataset".into(),
        layout: Layout::NnUnetRaw,
        channel_names,
        classes: classes(&names.iter().map(String::as_str).collect::<Vec<_>>()),
        regions: Vec::new(),
        ignore_label: None,
        file_ending: ".nii.gz".into(),
        training: Vec::new(),
        test: Vec::new(),
        folds: Vec::new(),
        held_out: Vec::new(),
        options: ReadOptions::default(),
    }
}

fn fingerprint(cases: impl IntoIterator<Item = ([f64; 3], [usize; 3], [usize; 3])>) -> Fingerprint {
    let cases = cases
        .into_iter()
        .map(|(spacing, cropped, shape)| CaseFingerprint {
            id: String::new(),
            shape,
            shape_after_crop: cropped,
            spacing,
            class_voxels: Vec::new(),
        });
    let intensities = Intensities {
        mean: 80.0,
        median: 81.0,
        std: 40.0,
        min: -1000.0,
        max: 1000.0,
        percentile_00_5: -100.0,
        percentile_99_5: 300.0,
    };
    Fingerprint {
        cases: cases.collect(),
        intensities: vec![intensities; 4],
        left_right_axis: 2,
        orientation: Some("RAS".into()),
    }
}

/// The plan for `cases` cases of one spacing and shape.
fn uniform(
    spacing: [f64; 3],
    shape: [usize; 3],
    classes: usize,
    cases: usize,
    options: PlanOptions,
) -> Plan {
    let fingerprint = fingerprint(vec![(spacing, shape, shape); cases]);
    Plan::new(&dataset(vec!["CT".into()], classes), &fingerprint, &options).unwrap()
}

fn plain() -> PlanOptions {
    PlanOptions::new(Preset::Plain)
}

/// How often each axis is halved.
fn pools(plan: &Plan) -> [u32; 3] {
    plan.patch_divisors().map(usize::ilog2)
}

#[test]
fn published_plans_of_nnunet_come_out() {
    // Spacing, median shape, classes, cases; patch, pools, batch. The first three are from issues 1898, 2094 and 2036 of
    // nnU-Net, the others the Medical Segmentation Decathlon's but for the brain.
    type Row = (
        [f64; 3],
        [usize; 3],
        usize,
        usize,
        [usize; 3],
        [u32; 3],
        usize,
    );
    let rows: [Row; 9] = [
        (
            [0.6, 0.34668, 0.34668],
            [512, 512, 706],
            3,
            100,
            [128, 112, 160],
            [5, 4, 5],
            2,
        ),
        (
            [2.38551, 1.504441, 1.504441],
            [132, 267, 267],
            5,
            100,
            [80, 192, 160],
            [4, 5, 5],
            2,
        ),
        (
            [3.68962, 1.879049, 1.879049],
            [103, 296, 296],
            2,
            100,
            [64, 192, 192],
            [4, 5, 5],
            2,
        ),
        (
            [1.0, 1.0, 1.0],
            [138, 169, 138],
            4,
            100,
            [128, 128, 128],
            [5, 5, 5],
            2,
        ),
        (
            [1.0, 1.0, 1.0],
            [36, 50, 35],
            3,
            260,
            [40, 56, 40],
            [3, 3, 3],
            9,
        ),
        (
            [1.37, 1.25, 1.25],
            [115, 320, 232],
            2,
            20,
            [80, 192, 160],
            [4, 5, 5],
            2,
        ),
        (
            [3.6, 0.625, 0.625],
            [20, 320, 319],
            3,
            32,
            [20, 320, 256],
            [2, 6, 6],
            2,
        ),
        (
            [1.0, 0.7676, 0.7676],
            [482, 512, 512],
            3,
            131,
            [128, 128, 128],
            [5, 5, 5],
            2,
        ),
        (
            [1.6, 0.793, 0.793],
            [187, 512, 512],
            2,
            41,
            [64, 192, 160],
            [4, 5, 5],
            2,
        ),
    ];
    for (spacing, shape, classes, cases, patch, halvings, batch) in rows {
        let plan = uniform(spacing, shape, classes, cases, plain());
        let found = (plan.patch_size, pools(&plan), plan.batch_size);
        assert_eq!(
            found,
            (patch, halvings, batch),
            "{shape:?} at {spacing:?} mm"
        );
    }
}

#[test]
fn published_networks_of_nnunet_come_out() {
    let strides = |plan: &Plan| plan.stages.iter().map(|s| s.stride).collect::<Vec<_>>();
    let kernels = |plan: &Plan| plan.stages.iter().map(|s| s.kernel).collect::<Vec<_>>();
    let prostate = uniform([3.6, 0.625, 0.625], [20, 320, 319], 3, 32, plain());
    let (plane, all) = ([1, 2, 2], [2, 2, 2]);
    assert_eq!(
        strides(&prostate),
        [[1; 3], plane, plane, all, all, plane, plane]
    );
    assert_eq!(kernels(&prostate)[..2], [[1, 3, 3]; 2]);
    assert_eq!(kernels(&prostate)[2..], [[3; 3]; 5]);
    let spleen = uniform([1.6, 0.793, 0.793], [187, 512, 512], 2, 41, plain());
    assert_eq!(strides(&spleen)[..3], [[1; 3], plane, all]);
    assert_eq!(kernels(&spleen)[..2], [[1, 3, 3], [3; 3]]);
    let features: Vec<usize> = spleen.stages.iter().map(|s| s.features).collect();
    assert_eq!(features, [32, 64, 128, 256, 320, 320]);
}

#[test]
fn the_estimate_of_memory_is_nnunets() {
    let brain = uniform([1.0; 3], [138, 169, 138], 4, 100, plain());
    assert_eq!(brain.feature_map_elements(), 454_893_568);
    let hippocampus = uniform([1.0; 3], [36, 50, 35], 3, 260, plain());
    assert_eq!(hippocampus.feature_map_elements(), 19_174_400);
}

#[derive(Deserialize)]
struct Reference {
    spacings: Vec<[f64; 3]>,
    shapes_after_crop: Vec<[usize; 3]>,
    shapes: Vec<[usize; 3]>,
    channel_names: Vec<String>,
    classes: usize,
    preset: Preset,
    memory_gb: Option<f64>,
    target_spacing: Option<[f64; 3]>,
    planned: Planned,
}

#[derive(Deserialize)]
struct Planned {
    transpose_forward: [usize; 3],
    normalization: Vec<String>,
    use_mask_for_norm: Vec<bool>,
    full: Expected,
    low: Option<Expected>,
}

/// A configuration of nnU-Net, its axes in nnU-Net's order.
#[derive(Debug, Deserialize, PartialEq)]
struct Expected {
    spacing: Spacing,
    median_shape: [f64; 3],
    patch_size: [usize; 3],
    batch_size: usize,
    features: Vec<usize>,
    kernels: Vec<[usize; 3]>,
    strides: Vec<[usize; 3]>,
    blocks: Vec<usize>,
    decoder_convolutions: Vec<usize>,
}

/// A spacing in mm; reading JSON may change its last digit.
#[derive(Debug, Deserialize)]
struct Spacing([f64; 3]);

impl PartialEq for Spacing {
    fn eq(&self, other: &Self) -> bool {
        (self.0.iter().zip(other.0)).all(|(a, b)| (a - b).abs() <= 1e-14 * b)
    }
}

/// A plan as nnU-Net would have written it.
fn as_nnunet(plan: &Plan, order: [usize; 3]) -> Expected {
    let stages = &plan.stages;
    fn sort<T: Copy>(order: [usize; 3], values: [T; 3]) -> [T; 3] {
        order.map(|axis| values[axis])
    }
    Expected {
        spacing: Spacing(sort(order, plan.target_spacing)),
        median_shape: sort(order, plan.median_shape).map(|edge| edge as f64),
        patch_size: sort(order, plan.patch_size),
        batch_size: plan.batch_size,
        features: stages.iter().map(|s| s.features).collect(),
        kernels: stages.iter().map(|s| sort(order, s.kernel)).collect(),
        strides: stages.iter().map(|s| sort(order, s.stride)).collect(),
        blocks: stages.iter().map(|s| s.blocks).collect(),
        decoder_convolutions: vec![plan.decoder_convolutions; stages.len() - 1],
    }
}

#[test]
fn plans_are_those_of_nnunets_own_planners() {
    let references: BTreeMap<String, Reference> = serde_json::from_str(REFERENCES).unwrap();
    assert!(references.len() >= 20);
    let (mut with_low, mut masked, mut reordered) = (0, 0, 0);
    for (name, mut reference) in references {
        let cases = (reference.spacings.iter().copied())
            .zip(reference.shapes_after_crop.iter().copied())
            .zip(reference.shapes.iter().copied())
            .map(|((spacing, cropped), shape)| (spacing, cropped, shape));
        let options = PlanOptions {
            memory: reference
                .memory_gb
                .map(|gigabytes| (gigabytes * 1e9) as u64),
            target_spacing: reference.target_spacing,
            ..PlanOptions::new(reference.preset)
        };
        let dataset = dataset(reference.channel_names, reference.classes);
        let plan = Plan::new(&dataset, &fingerprint(cases), &options).unwrap();
        let planned = &mut reference.planned;
        // A plan has whole voxels here.
        for expected in [Some(&mut planned.full), planned.low.as_mut()]
            .into_iter()
            .flatten()
        {
            expected.median_shape = expected.median_shape.map(f64::round_ties_even);
        }
        assert_eq!(
            as_nnunet(&plan, planned.transpose_forward),
            planned.full,
            "{name}"
        );
        let low = plan.at_low_resolution();
        let low = low.map(|low| as_nnunet(&low, planned.transpose_forward));
        assert_eq!(low, planned.low, "{name}");
        for (scheme, expected) in plan.normalization.iter().zip(&planned.normalization) {
            let found = match scheme {
                ChannelNormalization::Ct { .. } => "CTNormalization",
                ChannelNormalization::ZScore => "ZScoreNormalization",
                ChannelNormalization::None => "NoNormalization",
                ChannelNormalization::RescaleTo01 => "RescaleTo01Normalization",
                ChannelNormalization::RgbTo01 => "RGBTo01Normalization",
            };
            assert_eq!(found, expected, "{name}");
        }
        let any_masked = planned.use_mask_for_norm.contains(&true);
        assert_eq!(plan.use_mask_for_norm, any_masked, "{name}");
        with_low += usize::from(plan.low_resolution.is_some());
        masked += usize::from(any_masked);
        reordered += usize::from(planned.transpose_forward != [0, 1, 2]);
    }
    // Each rule is met by several of them.
    assert!(
        with_low > 3 && masked > 3 && reordered > 3,
        "{with_low} {masked} {reordered}"
    );
}

#[test]
fn the_cpu_plan_is_small_and_stays_what_was_measured() {
    // The torso CTs of benches/RESULTS.md.
    let plan = uniform(
        [3.0; 3],
        [112, 101, 122],
        23,
        20,
        PlanOptions::new(Preset::Cpu),
    );
    assert_eq!((plan.patch_size, plan.batch_size), ([64; 3], 1));
    assert_eq!(
        (plan.stem_stride, plan.architecture),
        ([2; 3], Architecture::Plain)
    );
    let features: Vec<usize> = plan.stages.iter().map(|s| s.features).collect();
    assert_eq!(features, [24, 48, 96, 192]);
    assert_eq!(plan.foreground_fraction, 0.67);
    assert!(
        plan.stages
            .iter()
            .all(|s| s.kernel == [3; 3] && s.blocks == 2)
    );
    // Along a coarse axis the stem leaves the resolution as it is.
    let plan = uniform(
        [5.0, 1.0, 1.0],
        [40, 300, 300],
        3,
        20,
        PlanOptions::new(Preset::Cpu),
    );
    assert_eq!(plan.stem_stride, [1, 2, 2]);
    assert!(plan.patch_size.iter().product::<usize>() <= 64 * 64 * 64);
}

#[test]
fn what_is_asked_for_is_planned() {
    let options = PlanOptions {
        patch_size: Some([50, 100, 97]),
        target_spacing: Some([2.0, 1.0, 1.0]),
        ..plain()
    };
    let plan = uniform([1.0; 3], [200; 3], 3, 20, options);
    assert_eq!(plan.target_spacing, [2.0, 1.0, 1.0]);
    assert_eq!(plan.median_shape, [100, 200, 200]);
    assert_eq!(plan.patch_size, [56, 112, 112]);
    assert!(
        plan.reasons
            .iter()
            .any(|reason| reason.contains("was asked for"))
    );

    let with = |batch_size| {
        let options = PlanOptions {
            batch_size: Some(batch_size),
            ..plain()
        };
        uniform([1.0; 3], [300; 3], 3, 20, options)
    };
    let voxels = |plan: &Plan| plan.patch_size.iter().product::<usize>();
    assert_eq!(
        with(2).patch_size,
        uniform([1.0; 3], [300; 3], 3, 20, plain()).patch_size
    );
    assert_eq!((with(1).batch_size, with(8).batch_size), (1, 8));
    assert!(voxels(&with(8)) < voxels(&with(2)) && voxels(&with(2)) < voxels(&with(1)));

    let tiny = PlanOptions {
        memory: Some(1000),
        ..plain()
    };
    let fingerprint = fingerprint(vec![([1.0; 3], [200; 3], [200; 3]); 3]);
    let refused = Plan::new(&dataset(vec!["CT".into()], 3), &fingerprint, &tiny).unwrap_err();
    assert!(
        refused.to_string().contains("not even a patch"),
        "{refused}"
    );
}

#[test]
fn a_patch_shrinks_until_it_fits_unless_it_was_asked_for() {
    let fingerprint = fingerprint(vec![([1.0; 3], [300; 3], [300; 3]); 20]);
    let dataset = dataset(vec!["CT".into()], 3);
    let voxels = |plan: &Plan| plan.patch_size.iter().product::<usize>();
    let fitting = |options: &PlanOptions, most: usize| {
        Plan::fitting(&dataset, &fingerprint, options, |plan| voxels(plan) <= most).unwrap()
    };
    let most = 64 * 80 * 96;
    for options in [plain(), PlanOptions::new(Preset::Cpu)] {
        let free = Plan::new(&dataset, &fingerprint, &options).unwrap();
        assert_eq!(fitting(&options, usize::MAX), free);
        let half = fitting(&options, voxels(&free) / 2);
        half.validate().unwrap();
        assert_eq!(half.batch_size, free.batch_size);
        let found = voxels(&half);
        assert!(
            found <= voxels(&free) / 2 && found > voxels(&free) / 4,
            "{found}"
        );
        let said = |reason: &String| reason.contains("as the memory of this machine allows");
        assert!(half.reasons.iter().any(said) && !free.reasons.iter().any(said));
        // Where none fits, the smallest.
        assert!(voxels(&fitting(&options, 0)) <= 32 * 32 * 32);
    }
    // First fewer patches, then smaller ones; never more of them.
    let options = PlanOptions {
        memory: Some(60_000_000_000),
        ..PlanOptions::new(Preset::ResEncL)
    };
    let fingerprint_of_small = self::fingerprint(vec![([1.0; 3], [96; 3], [96; 3]); 20]);
    let of_step = |plan: &Plan| plan.batch_size * voxels(plan);
    let with = |most: usize| {
        let fits = |plan: &Plan| of_step(plan) <= most;
        Plan::fitting(&dataset, &fingerprint_of_small, &options, fits).unwrap()
    };
    let free = with(usize::MAX);
    assert!(free.batch_size > 4, "{}", free.batch_size);
    let fewer = with(3 * voxels(&free));
    assert_eq!((fewer.patch_size, fewer.batch_size), (free.patch_size, 3));
    let smaller = with(voxels(&free));
    assert_eq!(smaller.batch_size, 2);
    assert!(of_step(&smaller) <= voxels(&free) && voxels(&smaller) < voxels(&free));
    let asked = PlanOptions {
        patch_size: Some([128; 3]),
        ..plain()
    };
    assert_eq!(fitting(&asked, most).patch_size, [128; 3]);
}

#[test]
fn drawn_shapes_and_spacings_always_give_a_valid_plan_or_a_sentence() {
    use rand::{RngExt, SeedableRng};
    let mut rng = rand::rngs::StdRng::seed_from_u64(5);
    for _ in 0..300 {
        let spacing = [0; 3].map(|_| 10f64.powf(rng.random_range(-0.7..0.7)));
        let shape = [0; 3].map(|_| 10f64.powf(rng.random_range(0.0..3.3)) as usize);
        let options = PlanOptions {
            memory: Some(10f64.powf(rng.random_range(8.0..11.5)) as u64),
            ..plain()
        };
        for options in [
            options,
            PlanOptions::new(Preset::Cpu),
            PlanOptions::new(Preset::ResEncXl),
        ] {
            let fingerprint = fingerprint(vec![(spacing, shape, shape); 3]);
            match Plan::new(&dataset(vec!["CT".into()], 3), &fingerprint, &options) {
                Ok(plan) => assert_eq!(plan.validate(), Ok(())),
                Err(refused) => {
                    let refused = refused.to_string();
                    let small = refused.contains("no axis of a patch");
                    assert!(small || refused.contains("not even a patch"), "{refused}");
                    // The finest axis comes first, and when it is the only one it needs twelve voxels.
                    let finest = (0..3)
                        .min_by(|&a, &b| spacing[a].total_cmp(&spacing[b]))
                        .unwrap();
                    assert!(
                        !small || shape[finest] < 12,
                        "{shape:?} at {spacing:?}: {refused}"
                    );
                }
            }
        }
    }
}

fn small_plan() -> Plan {
    Plan {
        version: PLAN_VERSION,
        dataset: "Dataset001_Test".into(),
        channel_names: vec!["CT".into()],
        classes: classes(&["background", "liver", "tumour"]),
        regions: Vec::new(),
        ignore_label: None,
        target_spacing: [1.0; 3],
        median_shape: [32; 3],
        normalization: vec![ct(-100.0, 300.0, 80.0, 40.0)],
        use_mask_for_norm: false,
        patch_size: [32; 3],
        batch_size: 2,
        architecture: Architecture::Plain,
        stem_stride: [1; 3],
        stages: [1, 2]
            .map(|stride| StagePlan {
                features: 8,
                kernel: [3; 3],
                stride: [stride; 3],
                blocks: 2,
            })
            .into(),
        decoder_convolutions: 2,
        mirror_axes: vec![2],
        orientation: Some("RAS".into()),
        foreground_fraction: 0.33,
        low_resolution: None,
        reasons: Vec::new(),
    }
}

fn ct(lower: f64, upper: f64, mean: f64, std: f64) -> ChannelNormalization {
    ChannelNormalization::Ct {
        lower,
        upper,
        mean,
        std,
    }
}

/// The sentence with which the plan is refused after an edit.
fn refusal(edit: impl FnOnce(&mut Plan)) -> String {
    let mut plan = small_plan();
    assert_eq!(plan.validate(), Ok(()));
    edit(&mut plan);
    plan.validate().expect_err("must be refused")
}

#[test]
fn contradictions_are_named_with_their_numbers() {
    type Edit = fn(&mut Plan);
    let edits: [(Edit, &str); 34] = [
        (
            |p| p.version = 1,
            "the plan has version 1, this program reads 2",
        ),
        (|p| p.classes.truncate(1), "the plan has 1 classes"),
        (
            |p| p.classes[2].value = 4,
            "class \"tumour\" has value 4 at position 2, values must be 0, 1, 2, … in order",
        ),
        (
            |p| p.classes[2].name = "liver".into(),
            "two classes have the name \"liver\"",
        ),
        (
            |p| p.ignore_label = Some(2),
            "the ignore label is 2, which is class \"tumour\"",
        ),
        (
            |p| p.channel_names.clear(),
            "the plan has 1 normalisations for 0 channels",
        ),
        (
            |p| p.normalization.clear(),
            "the plan has 0 normalisations for 1 channels",
        ),
        (
            |p| p.normalization[0] = ct(300.0, -100.0, 80.0, 40.0),
            "channel \"CT\" is clipped from 300 to -100, lower is above upper",
        ),
        (
            |p| p.normalization[0] = ct(f64::NAN, 300.0, 80.0, 40.0),
            "lower NaN",
        ),
        (
            |p| p.normalization[0] = ct(-100.0, f64::INFINITY, 80.0, 40.0),
            "upper inf",
        ),
        (
            |p| p.normalization[0] = ct(-100.0, 300.0, f64::NAN, 40.0),
            "mean NaN",
        ),
        (
            |p| p.normalization[0] = ct(-100.0, 300.0, 80.0, f64::NAN),
            "std NaN",
        ),
        (
            |p| p.normalization[0] = ct(-100.0, 300.0, 80.0, -1.0),
            "the standard deviation -1",
        ),
        (|p| p.use_mask_for_norm = true, "none of the 1 has it"),
        (
            |p| p.foreground_fraction = -0.1,
            "the foreground fraction -0.1 is not in 0..=1",
        ),
        (
            |p| p.foreground_fraction = f64::NAN,
            "the foreground fraction NaN is not in 0..=1",
        ),
        (
            |p| p.orientation = Some("RAR".into()),
            "\"RAR\" is no orientation",
        ),
        (
            |p| p.mirror_axes = vec![3],
            "the mirror axes [3] are not among 0, 1, 2",
        ),
        (
            |p| p.mirror_axes = vec![2, 0, 2],
            "the mirror axes [2, 0, 2] name an axis twice",
        ),
        (
            |p| p.target_spacing[1] = 0.0,
            "[1.0, 0.0, 1.0] mm is not positive",
        ),
        (
            |p| p.median_shape[0] = 0,
            "the median case has [0, 32, 32] voxels",
        ),
        (
            |p| p.stages.truncate(1),
            "the network has 1 stages, it needs at least 2",
        ),
        (|p| p.stages[1].features = 0, "stage 1 has 0 features"),
        (
            |p| p.stages[1].blocks = usize::MAX,
            "stage 1 has 18446744073709551615 blocks",
        ),
        (
            |p| p.stages[1].kernel[2] = 2,
            "stage 1 has the kernel [3, 3, 2], each size must be odd",
        ),
        (
            |p| p.stages[0].stride = [2; 3],
            "stage 0 has the stride [2, 2, 2], it must be [1, 1, 1]",
        ),
        (
            |p| p.stem_stride[0] = 0,
            "the stem has the stride [0, 1, 1]",
        ),
        (
            |p| p.stages[1].stride[1] = usize::MAX / 2,
            "stage 1 has the stride [2, 9223372036854775807, 2], which skips voxels",
        ),
        (
            |p| p.patch_size[1] = 33,
            "the patch [32, 33, 32] does not divide along axis 1 by the strides there: stem 1, stages [1, 2]",
        ),
        (
            |p| p.patch_size = [2; 3],
            "the patch [2, 2, 2] is a single voxel in the coarsest stage",
        ),
        (
            |p| p.patch_size[0] = usize::MAX,
            "is not between 1 and 65536 voxels",
        ),
        (|p| p.batch_size = 0, "the batch size is 0"),
        (
            |p| p.batch_size = usize::MAX,
            "a batch of 18446744073709551615 patches of [32, 32, 32] voxels",
        ),
        (
            |p| p.decoder_convolutions = 0,
            "the decoder has 0 convolutions",
        ),
    ];
    for (edit, expected) in edits {
        let refused = refusal(edit);
        assert!(refused.contains(expected), "{refused:?} lacks {expected:?}");
    }
}

#[test]
fn the_low_resolution_is_checked_too() {
    let refused = refusal(|plan| {
        plan.low_resolution = Some(LowResolution {
            target_spacing: [2.0; 3],
            median_shape: [16; 3],
            patch_size: [16, 15, 16],
            batch_size: 2,
            stem_stride: [1; 3],
            stages: plan.stages.clone(),
        });
    });
    assert!(
        refused.starts_with("in the low resolution, the patch [16, 15, 16]"),
        "{refused}"
    );
}

#[test]
fn a_file_is_read_back_or_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plan.json");
    let text = serde_json::to_string_pretty(&small_plan()).unwrap();
    let load = |text: &str| {
        std::fs::write(&file, text).unwrap();
        Plan::load(&file).map_err(|error| error.to_string())
    };
    assert_eq!(load(&text), Ok(small_plan()));
    // Without the flag, as written before there was one.
    let without = text.replace("\"use_mask_for_norm\": false,", "");
    assert_ne!(without, text);
    assert_eq!(load(&without), Ok(small_plan()));
    for (from, to, expected) in [
        (
            "\"patch_size\"",
            "\"pach_size\"",
            "unknown field `pach_size`",
        ),
        ("\"features\"", "\"feature\"", "unknown field `feature`"),
        ("\"value\"", "\"values\"", "unknown field `values`"),
        ("\"upper\"", "\"uper\"", "uper"),
        (
            "\"version\": 2",
            "\"version\": 1, \"old\": 0",
            "the plan has version 1, this program reads 2",
        ),
        ("\"batch_size\": 2", "\"batch_size\": -2", "batch_size"),
        ("{", "[", "is not a plan"),
    ] {
        let edited = text.replace(from, to);
        assert_ne!(edited, text);
        let refused = load(&edited).unwrap_err();
        assert!(refused.contains("plan.json"), "{refused}");
        if from != "\"batch_size\": 2" {
            assert!(refused.contains(expected), "{refused:?} lacks {expected:?}");
        }
    }
}
