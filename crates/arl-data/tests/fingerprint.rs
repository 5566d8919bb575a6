//! The fingerprint of a small dataset beside nnU-Net's, which `references/make_fingerprint.py` has stored.

use std::path::Path;

use arl_data::Dataset;
use arl_data::fingerprint::Fingerprint;
use serde_json::Value;

#[test]
fn the_fingerprint_is_nnunets() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/references/fingerprint");
    let dataset = Dataset::open(&folder.join("Dataset001_Small")).unwrap();
    let found = Fingerprint::extract(&dataset, &|_, _| {}).unwrap();
    // However little memory there is: one case at a time.
    assert_eq!(
        Fingerprint::extract_within(1, &dataset, &|_, _| {}).unwrap(),
        found
    );
    let expected = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();

    for (i, case) in found.cases.iter().enumerate() {
        let shape = serde_json::json!(case.shape_after_crop);
        assert_eq!(shape, expected["shapes_after_crop"][i], "{}", case.id);
        for axis in 0..3 {
            let spacing = expected["spacings"][i][axis].as_f64().unwrap();
            assert!((case.spacing[axis] - spacing).abs() < 1e-6, "{}", case.id);
        }
    }
    let relative = expected["median_relative_size_after_cropping"]
        .as_f64()
        .unwrap();
    assert!((found.median_relative_size_after_cropping() - relative).abs() < 1e-12);

    for (channel, found) in found.intensities.iter().enumerate() {
        let channel = &expected["foreground_intensity_properties_per_channel"][channel.to_string()];
        let expected = |name: &str| channel[name].as_f64().unwrap();
        // nnU-Net's numbers are of random draws, ours of every voxel.
        let close = |name, value: f64, deviations: f64| {
            let error = (value - expected(name)).abs() / expected("std");
            assert!(
                error < deviations,
                "{name}: {value}, not {}",
                expected(name)
            );
        };
        close("mean", found.mean, 0.003);
        close("std", found.std, 0.003);
        close("median", found.median, 0.03);
        close("percentile_00_5", found.percentile_00_5, 0.03);
        close("percentile_99_5", found.percentile_99_5, 0.03);
        close("min", found.min, 1e-9);
        close("max", found.max, 1e-9);
    }
}
