use ndarray::{Array3, array};

use super::*;

/// A ball of voxels around the centre of a 99³ volume.
fn ball(radius: i32, label: u16) -> Array3<u16> {
    Array3::from_shape_fn((99, 99, 99), |(d, h, w)| {
        let squared: i32 = [d, h, w].into_iter().map(|i| (i as i32 - 49).pow(2)).sum();
        if squared <= radius * radius { label } else { 0 }
    })
}

fn close(actual: Option<f64>, expected: f64) {
    let actual = actual.unwrap();
    assert!(
        (actual - expected).abs() < 1e-9,
        "{actual} instead of {expected}"
    );
}

#[test]
fn balls() {
    let result = overlap(&ball(20, 3), &ball(22, 3), &[3], None).unwrap();
    assert_eq!((result[0].n_pred, result[0].n_ref), (33401, 44473));
    assert_eq!(
        (result[0].tp, result[0].fp, result[0].fn_),
        (33401, 0, 11072)
    );
    close(result[0].dice, 0.857_821_609_265);
    close(result[0].iou, 0.751_039_956_828);
}

#[test]
fn absent_classes_and_ignored_voxels() {
    let prediction = array![[[0, 1], [1, 2]]];
    let reference = array![[[0, 1], [9, 9]]];
    let result = overlap(&prediction, &reference, &[0, 1, 2], Some(9)).unwrap();
    close(result[0].dice, 1.0);
    close(result[1].dice, 1.0);
    assert_eq!((result[2].dice, result[2].iou), (None, None));
    // Without ignoring, 9 is outside the classes: what was predicted there is wrong.
    let result = overlap(&prediction, &reference, &[0, 1, 2], None).unwrap();
    assert_eq!((result[1].tp, result[1].fp, result[1].fn_), (1, 1, 0));
    close(result[1].dice, 2.0 / 3.0);
    assert_eq!(result[2].dice, Some(0.0));
    assert!(
        overlap(&prediction, &reference, &[], None)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn shapes_must_agree() {
    let error = overlap(
        &Array3::zeros((1, 2, 3)),
        &Array3::zeros((3, 2, 1)),
        &[1],
        None,
    );
    assert!(error.unwrap_err().to_string().contains("[1, 2, 3]"));
}

#[test]
fn summary_has_the_shape_of_nnunet() {
    let case = |name: &str, metrics| CaseMetrics {
        prediction_file: format!("pred/{name}").into(),
        reference_file: format!("ref/{name}").into(),
        metrics,
    };
    let first = case(
        "a",
        vec![ClassOverlap::new(1, 2, 3, 5), ClassOverlap::new(2, 0, 0, 0)],
    );
    let second = case(
        "b",
        vec![ClassOverlap::new(1, 1, 1, 1), ClassOverlap::new(2, 1, 2, 2)],
    );
    close(first.mean_dice(), 0.5);
    close(second.mean_dice(), 0.75);
    let summary = summarise(vec![first, second]);
    close(summary.mean[&1].dice, 0.75);
    close(summary.mean[&2].dice, 0.5);
    close(summary.foreground_mean.dice, 0.625);
    close(summary.mean[&2].n_ref, 1.0);
    let json = serde_json::to_value(&summary).unwrap();
    let metrics = &json["metric_per_case"][0]["metrics"];
    assert_eq!(json["metric_per_case"][0]["prediction_file"], "pred/a");
    assert_eq!(metrics["1"]["FN"], 3);
    assert!(metrics["2"]["Dice"].is_null());
    assert_eq!(json["mean"]["1"]["Dice"], 0.75);
    assert_eq!(json["foreground_mean"]["Dice"], 0.625);
}

#[test]
fn nothing_defined_is_null() {
    let summary = summarise(Vec::new());
    assert_eq!(summary.foreground_mean.dice, None);
    assert!(serde_json::to_value(&summary).unwrap()["foreground_mean"]["IoU"].is_null());
}
