use ndarray::{Array3, array};

use super::*;

/// A ball of radius `radius` mm around `centre`, in a volume of 99³ voxels: `Σ (index · spacing - centre)² ≤ radius²`.
fn ball(radius: f64, centre: [f64; 3], spacing: [f64; 3]) -> Array3<bool> {
    Array3::from_shape_fn((99, 99, 99), |(d, h, w)| {
        let squared: f64 = (0..3)
            .map(|axis| ([d, h, w][axis] as f64 * spacing[axis] - centre[axis]).powi(2))
            .sum();
        squared <= radius * radius
    })
}

fn between_balls(first: (f64, [f64; 3]), second: (f64, [f64; 3])) -> SurfaceDistances {
    let ball = |(radius, centre)| ball(radius, centre, [1.0; 3]);
    SurfaceDistances::between(&ball(first), &ball(second), [1.0; 3]).unwrap()
}

fn labels(mask: &Array3<bool>, label: u16) -> Array3<u16> {
    mask.mapv(|inside| if inside { label } else { 0 })
}

fn close(actual: Option<f64>, expected: f64, tolerance: f64) {
    let actual = actual.unwrap();
    assert!(
        (actual - expected).abs() < tolerance,
        "{actual} instead of {expected}"
    );
}

fn largest(distances: &[f64]) -> Option<f64> {
    distances.iter().copied().reduce(f64::max)
}

// The balls are those of MONAI's tests/metrics/test_hausdorff_distance.py and test_surface_distance.py.

#[test]
fn hausdorff_distance_of_balls() {
    let shifted = between_balls((20.0, [20.0; 3]), (20.0, [19.0; 3]));
    close(shifted.hausdorff(), 1.732_050_8, 1e-6);
    close(largest(&shifted.to_reference), 1.732_050_8, 1e-6);
    let shifted = between_balls((33.0, [19.0, 33.0, 22.0]), (33.0, [20.0, 33.0, 22.0]));
    assert_eq!(shifted.hausdorff(), Some(1.0));
    // Most voxels are further away than the rows that are searched.
    let within = between_balls((20.0, [20.0, 33.0, 22.0]), (40.0, [20.0, 33.0, 22.0]));
    close(largest(&within.to_reference), 20.099_751_2, 1e-6);
    close(within.hausdorff(), 20.223_748_4, 1e-6);
}

#[test]
fn average_surface_distance_of_balls() {
    let shifted = between_balls((33.0, [19.0, 33.0, 22.0]), (33.0, [20.0, 33.0, 22.0]));
    close(shifted.average(), 0.350_217, 1e-6);
    let directed = &shifted.to_reference;
    let directed = directed.iter().sum::<f64>() / directed.len() as f64;
    close(Some(directed), 0.348_328, 1e-6);
    let spacing = [0.85, 1.2, 0.9];
    let first = ball(33.0, [42.0, 45.0, 52.0], spacing);
    let second = ball(33.0, [43.0, 45.0, 52.0], spacing);
    let anisotropic = SurfaceDistances::between(&first, &second, spacing).unwrap();
    close(anisotropic.average(), 0.4951, 1e-4);
}

#[test]
fn all_metrics_of_concentric_balls() {
    let (inner, outer) = (
        ball(20.0, [49.0; 3], [1.0; 3]),
        ball(22.0, [49.0; 3], [1.0; 3]),
    );
    let structures = [1.0, 2.0].map(|tolerance| Structure::class(3).with_tolerance(tolerance));
    let scores = score(
        &labels(&inner, 3),
        &labels(&outer, 3),
        [1.0; 3],
        &structures,
        &Metric::ALL,
        None,
    )
    .unwrap();
    let result = &scores[0];
    assert_eq!((result.n_pred, result.n_ref), (33401, 44473));
    assert_eq!((result.tp, result.fp, result.fn_), (33401, 0, 11072));
    assert_eq!(result.tn, 99 * 99 * 99 - 44473);
    close(result.value(Metric::Dice), 0.857_821_609_3, 1e-9);
    close(result.value(Metric::Iou), 0.751_039_956_8, 1e-9);
    close(result.value(Metric::Hausdorff), 2.449_489_742_8, 1e-9);
    close(result.value(Metric::Hausdorff95), 2.236_067_977_5, 1e-9);
    close(
        result.value(Metric::AverageSurfaceDistance),
        1.925_844_472_8,
        1e-9,
    );
    close(result.value(Metric::NormalisedSurfaceDice), 0.0, 1e-9);
    close(
        scores[1].value(Metric::NormalisedSurfaceDice),
        0.681_940_700_8,
        1e-9,
    );
    close(result.value(Metric::VolumeError), -11.072, 1e-9);
    close(
        result.value(Metric::RelativeVolumeError),
        -11072.0 / 44473.0,
        1e-9,
    );
}

/// MONAI's tests/metrics/test_surface_dice.py.
#[test]
fn a_single_slice_is_a_2d_image() {
    let from = |column| Array3::from_shape_fn((1, 480, 640), |(_, _, w)| w >= column);
    let (prediction, reference) = (from(50), from(60));
    let foreground = SurfaceDistances::between(&prediction, &reference, [1.0; 3]).unwrap();
    close(foreground.normalised_dice(0.0), 0.770_460_959_5, 1e-9);
    let outside = |mask: &Array3<bool>| mask.mapv(|inside| !inside);
    let background =
        SurfaceDistances::between(&outside(&prediction), &outside(&reference), [1.0; 3]).unwrap();
    close(background.normalised_dice(0.0), 0.542_213_883_7, 1e-9);
}

#[test]
fn dice_of_a_few_voxels() {
    let scores = score(
        &array![[[1, 0], [0, 1]]],
        &array![[[1, 0], [1, 1]]],
        [1.0; 3],
        &[Structure::class(1)],
        &[Metric::Dice, Metric::Iou],
        None,
    )
    .unwrap();
    close(scores[0].value(Metric::Dice), 0.8, 1e-9);
    close(scores[0].value(Metric::Iou), 2.0 / 3.0, 1e-9);
    assert_eq!(scores[0].value(Metric::Hausdorff), None);
}

/// What the table in the module's documentation says.
#[test]
fn structures_that_are_missing() {
    let some = array![[[1u16, 0, 0, 0]]];
    let none = Array3::zeros((1, 1, 4));
    let scores = |prediction, reference| {
        let structures = [Structure::class(1)];
        let scores = score(
            prediction,
            reference,
            [10.0; 3],
            &structures,
            &Metric::ALL,
            None,
        );
        let scores = scores.unwrap().swap_remove(0);
        Metric::ALL.map(|metric| scores.value(metric))
    };
    let (zero, infinite) = (Some(0.0), Some(f64::INFINITY));
    let absent = [None, None, None, None, None, None, zero, None];
    assert_eq!(scores(&none, &none), absent);
    let missed = [
        zero,
        zero,
        infinite,
        infinite,
        infinite,
        zero,
        Some(-1.0),
        Some(-1.0),
    ];
    assert_eq!(scores(&none, &some), missed);
    let spurious = [
        zero,
        zero,
        infinite,
        infinite,
        infinite,
        zero,
        Some(1.0),
        infinite,
    ];
    assert_eq!(scores(&some, &none), spurious);
    let structures = [Structure::class(1)];
    let computed = score(&none, &none, [10.0; 3], &structures, &Metric::ALL, None);
    assert_eq!(computed.unwrap(), [Scores::absent(4, &Metric::ALL)]);
}

#[test]
fn ignored_voxels_belong_to_nothing() {
    let prediction = array![[[0, 1], [1, 2]]];
    let reference = array![[[0, 1], [9, 9]]];
    let structures = [0, 1, 2].map(Structure::class);
    let result = score(
        &prediction,
        &reference,
        [1.0; 3],
        &structures,
        &Metric::ALL,
        Some(9),
    );
    let result = result.unwrap();
    close(result[0].value(Metric::Dice), 1.0, 1e-9);
    close(result[1].value(Metric::Dice), 1.0, 1e-9);
    assert_eq!(result[1].value(Metric::Hausdorff), Some(0.0));
    assert_eq!((result[1].tp, result[1].tn), (1, 1));
    assert_eq!(result[2], Scores::absent(2, &Metric::ALL));
    // Without ignoring, 9 is outside of the classes: what was predicted there is wrong.
    let result = score(
        &prediction,
        &reference,
        [1.0; 3],
        &structures,
        &Metric::ALL,
        None,
    );
    let result = result.unwrap();
    assert_eq!((result[1].tp, result[1].fp, result[1].fn_), (1, 1, 0));
    close(result[1].value(Metric::Dice), 2.0 / 3.0, 1e-9);
    assert_eq!(result[2].value(Metric::Dice), Some(0.0));
}

#[test]
fn a_region_is_the_union_of_its_classes() {
    let prediction = array![[[1, 1, 2, 0, 3]]];
    let reference = array![[[2, 1, 1, 0, 0]]];
    let structures = [Structure::region([1, 2]), Structure::region([3, 1, 2])];
    let scores = score(
        &prediction,
        &reference,
        [1.0; 3],
        &structures,
        &Metric::ALL,
        None,
    )
    .unwrap();
    close(scores[0].value(Metric::Dice), 1.0, 1e-9);
    assert_eq!(scores[0].value(Metric::Hausdorff), Some(0.0));
    close(scores[1].value(Metric::Dice), 6.0 / 7.0, 1e-9);
    assert_eq!(scores[1].value(Metric::Hausdorff), Some(2.0));
}

#[test]
fn a_distance_of_the_tolerance_is_within_it() {
    // As spacings come out of a header: 0.8 as f32 is a little more than 0.8.
    let spacing = [f64::from(0.8f32); 3];
    let mask = |at| Array3::from_shape_fn((1, 1, 8), |(_, _, w)| w == at);
    let apart = SurfaceDistances::between(&mask(1), &mask(4), spacing).unwrap();
    assert_eq!(apart.normalised_dice(2.4), Some(1.0));
    assert_eq!(apart.normalised_dice(2.39), Some(0.0));
}

#[test]
fn maps_that_cannot_be_compared() {
    let (flat, deep) = (Array3::zeros((1, 2, 3)), Array3::zeros((3, 2, 1)));
    let error = score(&flat, &deep, [1.0; 3], &[], &[], None).unwrap_err();
    assert!(error.to_string().contains("[1, 2, 3]"), "{error}");
    for spacing in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = score(&flat, &flat, [1.0, spacing, 1.0], &[], &[], None);
        assert!(matches!(error, Err(ScoreError::Spacing(_))));
    }
    assert!(
        score(&flat, &flat, [1.0; 3], &[], &[], None)
            .unwrap()
            .is_empty()
    );
    let nothing = Array3::zeros((0, 2, 3));
    let scores = score(
        &nothing,
        &nothing,
        [1.0; 3],
        &[Structure::class(0)],
        &Metric::ALL,
        None,
    );
    assert_eq!(scores.unwrap(), [Scores::absent(0, &Metric::ALL)]);
}

fn case(name: &str, metrics: Vec<(Structure, Scores)>) -> CaseScores {
    CaseScores {
        prediction_file: format!("pred/{name}").into(),
        reference_file: format!("ref/{name}").into(),
        metrics,
    }
}

/// MONAI's tests/metrics/test_compute_meandice.py: two samples with three channels each.
#[test]
fn means_over_cases_and_structures() {
    let predictions = [
        [[1, 1, 1, 0], [0, 1, 0, 0], [0, 1, 1, 1]],
        [[1, 0, 1, 1], [0, 1, 1, 1], [0, 1, 1, 0]],
    ];
    let references = [
        [[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]],
        [[0, 0, 0, 1], [1, 1, 0, 0], [0, 0, 1, 0]],
    ];
    let map = |voxels: [u16; 4]| Array3::from_shape_vec((1, 2, 2), voxels.to_vec()).unwrap();
    let cases: Vec<CaseScores> = (0..2)
        .map(|sample| {
            let scores = (0..3).map(|channel| {
                let scores = score(
                    &map(predictions[sample][channel]),
                    &map(references[sample][channel]),
                    [1.0; 3],
                    &[Structure::class(1)],
                    &Metric::ALL,
                    None,
                );
                // A structure that the reference lacks is left out there, and scored 0 here.
                let mut scores = scores.unwrap().swap_remove(0);
                if scores.n_ref == 0 {
                    scores.values.insert(Metric::Dice, None);
                }
                (Structure::class(channel as u16 + 1), scores)
            });
            case("sample", scores.collect())
        })
        .collect();
    let of_cases = cases.iter().map(|case| case.mean(Metric::Dice).unwrap());
    close(Some(of_cases.sum::<f64>() / 2.0), 0.689_683, 1e-6);
    let summary = summarise(cases);
    for (class, expected) in [0.6786, 0.4, 0.6667].into_iter().enumerate() {
        close(summary.mean[class].1.value(Metric::Dice), expected, 1e-4);
    }
    close(
        summary.foreground_mean.value(Metric::Dice),
        (0.6786 + 0.4 + 0.6667) / 3.0,
        1e-4,
    );
    let spurious: Vec<usize> = summary.mean.iter().map(|(_, mean)| mean.spurious).collect();
    assert_eq!(spurious, [0, 1, 1]);
}

#[test]
fn summary_has_the_shape_of_nnunet() {
    let structures = [
        Structure::class(0),
        Structure::class(1),
        Structure::region([1, 2]),
    ];
    let scored = |name, prediction, reference| {
        let scores = score(
            &prediction,
            &reference,
            [1.0; 3],
            &structures,
            &Metric::ALL,
            None,
        );
        case(
            name,
            structures.iter().cloned().zip(scores.unwrap()).collect(),
        )
    };
    let summary = summarise(vec![
        scored("missed", array![[[0, 0, 0, 0]]], array![[[0, 1, 0, 0]]]),
        scored("found", array![[[0, 1, 1, 0]]], array![[[0, 1, 2, 0]]]),
        scored("absent", array![[[0, 0, 0, 0]]], array![[[0, 0, 0, 0]]]),
    ]);
    let json: serde_json::Value = serde_json::to_value(&summary).unwrap();
    let missed = &json["metric_per_case"][0];
    assert_eq!(missed["prediction_file"], "pred/missed");
    assert_eq!(missed["metrics"]["1"]["FN"], 1);
    assert!(missed["metrics"]["1"]["HD95"].is_null());
    assert!(json["metric_per_case"][2]["metrics"]["1"]["Dice"].is_null());
    let mean = &json["mean"]["1"];
    assert_eq!(mean["Dice"], 1.0 / 3.0);
    assert_eq!(mean["HD95"], 0.95);
    assert_eq!(mean["HD"], 1.0);
    assert_eq!(
        [&mean["absent"], &mean["missed"], &mean["spurious"]],
        [1, 1, 0]
    );
    assert_eq!(json["mean"]["(1, 2)"]["Dice"], 0.5);
    let foreground = &json["foreground_mean"];
    assert_eq!(foreground["Dice"], (1.0 / 3.0 + 0.5) / 2.0);
    assert_eq!(foreground["missed"], 2);
    assert_eq!(json["tolerance_mm"]["(1, 2)"], 2.0);
}

#[test]
fn nothing_scored_is_null() {
    let json = serde_json::to_value(summarise(Vec::new())).unwrap();
    assert!(json["foreground_mean"]["IoU"].is_null());
}

#[test]
fn metrics_are_named() {
    for metric in Metric::ALL {
        assert_eq!(metric.name().to_uppercase().parse(), Ok(metric));
    }
    let error = "hd94".parse::<Metric>().unwrap_err();
    assert!(error.contains("hd95"), "{error}");
}

/// MONAI's `DiceMetric(ignore_empty=False)`: zeros against zeros are 1, ones against zeros 0.
#[test]
fn absence_can_count_as_agreement() {
    let shape = (2, 3, 4);
    let (nothing, all) = (Array3::<u16>::zeros(shape), Array3::<u16>::ones(shape));
    let structure = [Structure::class(1)];
    let of = |prediction: &Array3<u16>| {
        let scores = score(
            prediction,
            &nothing,
            [1.0; 3],
            &structure,
            &Metric::ALL,
            None,
        );
        scores.unwrap().remove(0).with_absence_as_agreement()
    };
    assert_eq!(of(&nothing).value(Metric::Dice), Some(1.0));
    assert_eq!(of(&nothing).value(Metric::Iou), Some(1.0));
    assert_eq!(of(&nothing).value(Metric::Hausdorff95), None);
    assert_eq!(of(&all).value(Metric::Dice), Some(0.0));
}
