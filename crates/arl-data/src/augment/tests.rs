use ndarray::{Array3, Array4, Axis};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

fn volume() -> (Array4<f32>, Array3<u16>) {
    let image = Array4::from_shape_fn((2, 16, 18, 20), |(c, d, h, w)| {
        ((c * 31 + d * 17 + h * 5 + w * 3) % 23) as f32 / 7.0 - 1.0
    });
    let labels = Array3::from_shape_fn((16, 18, 20), |(d, h, w)| {
        ((d + 2 * h + 3 * w) / 9 % 4) as u16
    });
    (image, labels)
}

const SIZE: [usize; 3] = [6, 7, 8];

fn patch(augmentation: &Augmentation, rng: &mut StdRng) -> (Array4<f32>, Array3<u16>) {
    let (image, labels) = volume();
    let source = InMemory {
        image: image.view(),
        labels: labels.view(),
        outside: 0,
    };
    augmentation
        .patch(&source, [5; 3], SIZE, [1.0; 3], rng)
        .unwrap()
}

fn seeded(augmentation: &Augmentation, seed: u64) -> (Array4<f32>, Array3<u16>) {
    patch(augmentation, &mut StdRng::seed_from_u64(seed))
}

/// Every transform that there is, often.
fn everything() -> Augmentation {
    let text = r#"{
        "spatial": {"rotation": {"probability": 0.5}, "scaling": {"probability": 0.5},
            "elastic": {"probability": 0.5, "control_points": [4, 5, 6], "max_displacement": [1, 1, 1]}, "mirror": {}},
        "intensity": [{"noise": {"probability": 0.5}}, {"blur": {"probability": 0.5}}, {"brightness": {}}, {"contrast": {}},
            {"low_resolution": {"probability": 0.5}}, {"gamma": {"invert": true}}, {"gamma": {}},
            {"bias_field": {"probability": 0.5}}, {"ghosting": {"probability": 0.5}}, {"gibbs": {"probability": 0.5}},
            {"spike": {"probability": 0.5}}]}"#;
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_generator_decides_everything() {
    for augmentation in [Preset::Nnunet.augmentation(SIZE, &[0, 1, 2]), everything()] {
        let differ =
            (0..20).filter(|seed| seeded(&augmentation, *seed) != seeded(&augmentation, seed + 1));
        assert!(differ.count() > 10);
        for seed in 0..20 {
            let (image, labels) = seeded(&augmentation, seed);
            assert_eq!(
                (&image, &labels),
                (
                    &seeded(&augmentation, seed).0,
                    &seeded(&augmentation, seed).1
                )
            );
            assert_eq!((image.dim(), labels.dim()), ((2, 6, 7, 8), (6, 7, 8)));
            assert!(image.iter().all(|v| v.is_finite()));
            assert!(image.is_standard_layout() && labels.is_standard_layout());
        }
    }
}

#[test]
fn none_changes_nothing() {
    let (image, labels) = volume();
    let none = Preset::None.augmentation(SIZE, &[0, 1, 2]);
    let (patch, patch_labels) = seeded(&none, 3);
    assert_eq!(patch[[1, 2, 3, 4]], image[[1, 7, 8, 9]]);
    assert_eq!(patch_labels[[5, 6, 7]], labels[[10, 11, 12]]);
}

#[test]
fn labels_are_mirrored_with_the_image_and_only_along_the_axes_given() {
    let none = seeded(&Augmentation::default(), 0);
    let mut light = Preset::Light.augmentation(SIZE, &[2]);
    light.intensity.clear();
    let mut seen = [false; 2];
    for seed in 0..20 {
        let (mut image, mut labels) = seeded(&light, seed);
        let mirrored = image != none.0;
        seen[usize::from(mirrored)] = true;
        if mirrored {
            image.invert_axis(Axis(3));
            labels.invert_axis(Axis(2));
        }
        assert_eq!((image, labels), none);
    }
    assert_eq!(seen, [true, true]);
}

/// How often of 2000 times a transform changes the image.
fn frequency(transform: &IntensityTransform) -> f64 {
    let mut rng = StdRng::seed_from_u64(1);
    let before = volume().0;
    let before = before.slice(ndarray::s![.., ..4, ..4, ..5]).to_owned();
    let changed = (0..2000).filter(|_| {
        let mut image = before.clone();
        transform.apply(&mut image, &mut rng);
        image != before
    });
    changed.count() as f64 / 2000.0
}

#[test]
fn each_transform_of_the_nnunet_preset_is_applied_as_often_as_in_nnunet() {
    let augmentation = Preset::Nnunet.augmentation([64; 3], &[0, 1, 2]);
    // Blur and low resolution leave each of the two channels alone half of the time.
    let expected = [0.1, 0.2 * 0.75, 0.15, 0.15, 0.25 * 0.75, 0.1, 0.3];
    assert_eq!(augmentation.intensity.len(), expected.len());
    for (transform, expected) in augmentation.intensity.iter().zip(expected) {
        let actual = frequency(transform);
        assert!((actual - expected).abs() < 0.035, "{transform:?}: {actual}");
    }
}

#[test]
fn spatial_draws_are_those_of_nnunet() {
    let spatial = Preset::Nnunet.augmentation([64; 3], &[0, 1, 2]).spatial;
    let mut rng = StdRng::seed_from_u64(2);
    let (mut plain, mut mirrored, mut volumes) = (0, [0; 3], Vec::new());
    let (rotation, scaling) = (
        spatial.rotation.clone().unwrap(),
        spatial.scaling.clone().unwrap(),
    );
    for _ in 0..4000 {
        let map = spatial.draw([64; 3], [1.0; 3], &mut rng);
        plain += usize::from(map.is_plain());
        for (count, mirrored) in mirrored.iter_mut().zip(map.mirrored()) {
            *count += usize::from(mirrored);
        }
        if let Some(angles) = rotation.draw(&mut rng) {
            assert!(angles.iter().all(|angle| angle.abs() <= 30.0));
        }
        if let Some(factors) = scaling.draw(&mut rng) {
            assert!(factors[0] == factors[1] && factors[1] == factors[2]);
            volumes.push(factors[0]);
        }
    }
    // Neither of two events of probability 0.2.
    assert!((plain as f64 / 4000.0 - 0.64).abs() < 0.03, "{plain}");
    assert!(
        mirrored.iter().all(|count| (1900..2100).contains(count)),
        "{mirrored:?}"
    );
    assert!((volumes.len() as f64 / 4000.0 - 0.2).abs() < 0.025);
    let mean = volumes.iter().sum::<f64>() / volumes.len() as f64;
    assert!(
        (mean - 1.05).abs() < 0.03,
        "uniform from 0.7 to 1.4, but the mean is {mean}"
    );
    assert!(volumes.iter().all(|factor| (0.7..=1.4).contains(factor)));
}

#[test]
fn flat_patches_are_turned_in_the_plane() {
    // nnU-Net's rule: 64 / 20 > 3, but 60 / 20 is not.
    for (depth, flat) in [(20, true), (22, false)] {
        let augmentation = Preset::Nnunet.augmentation([depth, 64, 48], &[0, 1, 2]);
        let rotation = augmentation.spatial.rotation.unwrap();
        assert_eq!(
            rotation.max_degrees,
            if flat { [180.0, 0.0, 0.0] } else { [30.0; 3] }
        );
        let axes = if flat { vec![1, 2] } else { vec![0, 1, 2] };
        assert_eq!(augmentation.spatial.scaling.unwrap().axes, axes);
        let IntensityTransform::LowResolution(low) = &augmentation.intensity[4] else {
            panic!("{:?}", augmentation.intensity[4]);
        };
        assert_eq!(low.axes, axes);
    }
    // Slices along W.
    let across = Preset::Nnunet.augmentation([64, 48, 20], &[]).spatial;
    assert_eq!(across.rotation.unwrap().max_degrees, [0.0, 0.0, 180.0]);
    assert_eq!(across.scaling.unwrap().axes, [0, 1]);
    // A flat patch reads no slice above or below it.
    let flat = Preset::Nnunet.augmentation([4, 32, 32], &[]).spatial;
    let mut rng = StdRng::seed_from_u64(5);
    for _ in 0..100 {
        let (start, size) = flat.draw([4, 32, 32], [1.0; 3], &mut rng).source_box();
        assert_eq!((start[0], size[0]), (0, 4));
    }
}

#[test]
fn light_has_the_members_that_its_measured_runs_had() {
    let light = Preset::Light.augmentation([64; 3], &[0]);
    let names: Vec<String> = (light.intensity.iter())
        .map(|transform| {
            format!("{transform:?}")
                .split('(')
                .next()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(names, ["Noise", "Brightness", "Contrast", "Gamma"]);
    assert!(light.spatial.rotation.is_none() && light.spatial.scaling.is_none());
    assert_eq!(light.spatial.mirror.unwrap().axes, [0]);
}

#[test]
fn contrast_keeps_the_range() {
    let (mut image, _) = volume();
    let always = Contrast {
        probability: 1.0,
        factor: (0.75, 1.25),
    };
    let range = |x: &Array4<f32>| {
        x.iter()
            .fold((9f32, -9f32), |r, v| (r.0.min(*v), r.1.max(*v)))
    };
    let before = range(&image);
    let original = image.clone();
    always.apply(&mut image, &mut StdRng::seed_from_u64(0));
    assert_eq!(range(&image), before);
    assert_ne!(image, original);
}

#[test]
fn presets_are_words() {
    for preset in [Preset::None, Preset::Light, Preset::Nnunet] {
        assert_eq!(preset.to_string().parse(), Ok(preset));
        assert_eq!(
            serde_json::to_string(&preset).unwrap(),
            format!("\"{preset}\"")
        );
    }
    assert!("heavy".parse::<Preset>().unwrap_err().contains("nnunet"));
}

#[test]
fn files_are_read_back_as_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mine.json");
    for augmentation in [
        everything(),
        Preset::Nnunet.augmentation([64; 3], &[0]),
        Augmentation::default(),
    ] {
        std::fs::write(&path, serde_json::to_string(&augmentation).unwrap()).unwrap();
        assert_eq!(Augmentation::load(&path).unwrap(), augmentation);
    }
}

#[test]
fn displacements_beyond_the_patch_are_refused() {
    let text = r#"{"spatial": {"elastic": {"max_displacement": [5, 5, 5], "unit": "mm"}}}"#;
    let augmentation: Augmentation = serde_json::from_str(text).unwrap();
    assert_eq!(augmentation.validate_for([32; 3], [1.0; 3]), Ok(()));
    let coarse = augmentation.spatial.elastic.clone().unwrap();
    let always = Elastic {
        probability: 1.0,
        ..coarse
    };
    let field = always.draw([32; 3], [5.0, 2.5, 1.0], &mut StdRng::seed_from_u64(0));
    let bound = field.unwrap().bound();
    for (most, voxels) in bound.into_iter().zip([1.0, 2.0, 5.0]) {
        assert!((0.9 * voxels..=voxels).contains(&most), "{bound:?}");
    }
    for spacing in [[1.0, 1e-6, 1.0], [0.0, 1.0, 1.0], [f64::NAN, 1.0, 1.0]] {
        let error = augmentation.validate_for([32; 3], spacing).unwrap_err();
        assert!(error.to_string().contains("32 voxels"), "{error}");
    }
}

#[test]
fn faults_in_files_are_named_with_the_file_and_the_bounds() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mine.json");
    let faults = [
        ("{", "EOF"),
        (r#"{"intensity": [{"nose": {}}]}"#, "unknown variant `nose`"),
        (
            r#"{"intensity": [{"noise": {"sigma": 1}}]}"#,
            "unknown field `sigma`",
        ),
        (r#"{"spatial": {"shear": {}}}"#, "unknown field `shear`"),
        (
            r#"{"intensity": [{"noise": {"probability": 1.5}}]}"#,
            "noise: probability is 1.5; it must be from 0 to 1",
        ),
        (
            r#"{"intensity": [{"blur": {"deviation": [1, 0.5]}}]}"#,
            "rising order",
        ),
        (
            r#"{"intensity": [{"gamma": {"power": [0, 1]}}]}"#,
            "from 0.01",
        ),
        (
            r#"{"intensity": [{"low_resolution": {"axes": [3]}}]}"#,
            "0, 1 and 2",
        ),
        (
            r#"{"intensity": [{"ghosting": {"ghosts": [0, 4]}}]}"#,
            "from 1 to 100",
        ),
        (
            r#"{"intensity": [{"bias_field": {"order": 9}}]}"#,
            "from 1 to 5",
        ),
        (
            r#"{"intensity": [{"gibbs": {"kept": [0.5, 2]}}]}"#,
            "from 0 to 1",
        ),
        (
            r#"{"intensity": [{"spike": {"frequency": [0, 1]}}]}"#,
            "to 0.5",
        ),
        (r#"{"spatial": {"mirror": {"axes": [0, 0]}}}"#, "each once"),
        (
            r#"{"spatial": {"rotation": {"max_degrees": [0, 0, 200]}}}"#,
            "from 0 to 180",
        ),
        (
            r#"{"spatial": {"scaling": {"factor": [0, 1]}}}"#,
            "from 0.1 to 2",
        ),
        (
            r#"{"spatial": {"elastic": {"control_points": [3, 7, 7]}}}"#,
            "from 4 to 64",
        ),
        (
            r#"{"spatial": {"elastic": {"max_displacement": [1e9, 7, 7]}}}"#,
            "from 0 to 100",
        ),
    ];
    for (text, expected) in faults {
        std::fs::write(&path, text).unwrap();
        let error = Augmentation::load(&path).unwrap_err().to_string();
        assert!(
            error.contains("mine.json") && error.contains(expected),
            "{text}: {error}"
        );
        assert!(!error.contains('\n'), "{error}");
    }
    let missing = Augmentation::load(&directory.path().join("other.json")).unwrap_err();
    assert!(missing.to_string().contains("other.json"));
}

/// The image at a place, by the definition of linear interpolation, with zeros around the volume.
fn interpolated(image: &Array4<f32>, channel: usize, place: [f64; 3]) -> f64 {
    let shape = [1, 2, 3].map(|axis| image.shape()[axis] as i64);
    (0..8)
        .map(|corner| {
            let mut weight = 1.0;
            let mut at = [0; 3];
            for axis in 0..3 {
                let low = place[axis].floor();
                let upper = corner >> axis & 1;
                at[axis] = low as i64 + upper;
                let share = place[axis] - low;
                weight *= if upper == 1 { share } else { 1.0 - share };
            }
            if (0..3).any(|axis| at[axis] < 0 || at[axis] >= shape[axis]) {
                return 0.0;
            }
            let [d, h, w] = at.map(|i| i as usize);
            weight * f64::from(image[[channel, d, h, w]])
        })
        .sum()
}

#[test]
fn any_map_interpolates_at_the_places_of_its_formula() {
    let (image, labels) = volume();
    let source = InMemory {
        image: image.view(),
        labels: labels.view(),
        outside: 9,
    };
    let mut rng = StdRng::seed_from_u64(11);
    for _ in 0..60 {
        let size: [usize; 3] = [0; 3].map(|_| rng.random_range(1..12));
        let start = [0; 3].map(|_| rng.random_range(-8..18i64));
        let matrix = [0; 3].map(|_| [0; 3].map(|_| rng.random_range(-1.3..1.3f64)));
        let mirrored = [0; 3].map(|_| rng.random::<bool>());
        let shift = [0; 3].map(|_| rng.random_range(-2.0..2.0f32));
        // Equal coefficients move all voxels by as much.
        let field = Displacement::new(size, [4, 5, 6], shift.map(|value| vec![value; 120]));
        let map = SpatialMap::new(size)
            .with_matrix(matrix)
            .with_mirrored(mirrored)
            .with_displacement(field);
        let (patch, patch_labels) = map.read(&source, start).unwrap();
        for ((d, h, w), label) in patch_labels.indexed_iter() {
            let voxel = [d, h, w];
            let moved = [0, 1, 2].map(|axis| {
                let from_centre = voxel[axis] as f64 - (size[axis] as f64 - 1.0) / 2.0;
                f64::from(shift[axis])
                    + if mirrored[axis] {
                        -from_centre
                    } else {
                        from_centre
                    }
            });
            let place = [0, 1, 2].map(|axis| {
                let centre = start[axis] as f64 + (size[axis] as f64 - 1.0) / 2.0;
                centre
                    + (0..3)
                        .map(|from| matrix[axis][from] * moved[from])
                        .sum::<f64>()
            });
            for channel in 0..2 {
                let expected = interpolated(&image, channel, place);
                let actual = f64::from(patch[[channel, d, h, w]]);
                assert!((actual - expected).abs() < 1e-4, "{map:?} at {voxel:?}");
            }
            // Far from the volume there is nothing else, and there is no label that it doesn't have.
            let outside = (0..3)
                .any(|axis| place[axis] < -1.0 || place[axis] > image.shape()[axis + 1] as f64);
            assert!(if outside {
                *label == 9
            } else {
                *label < 4 || *label == 9
            });
        }
    }
}
