//! A CT of 512 × 512 × 300 voxels to another spacing, beside nnU-Net v2's `resample_data_or_seg_to_shape`.

use std::time::Instant;

use arl_data::resample::{resize_image, resize_label_map};
use ndarray::Array3;

use crate::peer;

const SHAPE: [usize; 3] = [300, 512, 512];
const SPACING: [f64; 3] = [1.25, 0.78, 0.78];
const NEW_SPACING: [f64; 3] = [1.5, 0.9, 0.9];
const LABEL_SHAPE: [usize; 3] = [100, 192, 192];
const LABELS: usize = 23;

/// Soft tissue in air with noise, as whole Hounsfield units.
fn body(shape: [usize; 3]) -> Array3<f32> {
    let mut state = 1u32;
    Array3::from_shape_fn(shape, |(d, h, w)| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = (state >> 26) as f32 - 32.0;
        let at = |i: usize, axis: usize| i as f32 / shape[axis] as f32 - 0.5;
        let (y, x) = (at(h, 1), at(w, 2));
        let tissue = (20.0 * at(d, 0)).sin() + (25.0 * x).cos() * (17.0 * y).sin();
        if x * x + y * y < 0.18 {
            (40.0 + 120.0 * tissue + noise).round()
        } else {
            -1024.0
        }
    })
}

/// Boxes of labels.
fn organs(shape: [usize; 3]) -> Array3<u16> {
    Array3::from_shape_fn(shape, |(d, h, w)| {
        let cell = (d / 20) * 7 + (h / 24) * 5 + w / 24;
        if (d + h + w) % 97 < 60 {
            (cell % LABELS) as u16
        } else {
            0
        }
    })
}

pub fn run() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let new_shape = |shape| arl_data::resample::resampled_shape(shape, SPACING, NEW_SPACING);

    let image = body(SHAPE);
    let labels = organs(LABEL_SHAPE);
    let bytes = |values: &[f32]| {
        values
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect::<Vec<_>>()
    };
    std::fs::write(path("image"), bytes(image.as_slice().unwrap())).unwrap();
    let as_bytes: Vec<u8> = labels.iter().map(|&v| v as u8).collect();
    std::fs::write(path("labels"), as_bytes).unwrap();
    let words = serde_json::json!({
        "folder": folder.path(), "spacing": SPACING, "new_spacing": NEW_SPACING,
        "shape": SHAPE, "new_shape": new_shape(SHAPE),
        "label_shape": LABEL_SHAPE, "new_label_shape": new_shape(LABEL_SHAPE),
    });
    let peer = peer::run("resampling", &[&words.to_string()]);

    let one = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    let all = rayon::ThreadPoolBuilder::new().build().unwrap();
    let threads = all.current_num_threads();
    let mut resized = Array3::zeros([1; 3]);
    let mut seconds = [f64::INFINITY; 3];
    for (pool, seconds) in [&one, &all].into_iter().zip(&mut seconds) {
        for _ in 0..3 {
            let begun = Instant::now();
            resized =
                pool.install(|| resize_image(image.view(), new_shape(SHAPE), SPACING, NEW_SPACING));
            *seconds = seconds.min(begun.elapsed().as_secs_f64());
        }
    }
    let mut resized_labels = Array3::zeros([1; 3]);
    for _ in 0..3 {
        let begun = Instant::now();
        resized_labels = one.install(|| {
            resize_label_map(labels.view(), new_shape(LABEL_SHAPE), SPACING, NEW_SPACING)
        });
        seconds[2] = seconds[2].min(begun.elapsed().as_secs_f64());
    }
    println!("{SHAPE:?} -> {:?}, order 3 (s)", new_shape(SHAPE));
    let Some(peer) = peer else {
        println!(
            "ours: {:.3} with 1 thread, {:.3} with {threads}; labels {:.3}",
            seconds[0], seconds[1], seconds[2]
        );
        return;
    };
    let figure = |name: &str| peer[name].as_f64().expect("the peer's figure");
    let row = |what: &str, ours: f64, theirs: f64| {
        println!(
            "{what:<34} {ours:>8.3} {theirs:>9.3} {:>7.1}x",
            theirs / ours
        );
    };
    println!("{:<34} {:>8} {:>9} {:>8}", "", "ours", "nnU-Net", "ratio");
    row("image, 1 thread each", seconds[0], figure("image_seconds"));
    row(
        &format!("image, {threads} threads (theirs 1)"),
        seconds[1],
        figure("image_seconds"),
    );
    row(
        "23 labels, small, 1 thread each",
        seconds[2],
        figure("label_seconds"),
    );

    let theirs = std::fs::read(path("image_out")).expect("the peer's result");
    let theirs = theirs.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
    let (low, high) = image
        .iter()
        .fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
    let worst = resized
        .iter()
        .zip(theirs)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    println!(
        "largest difference: {:.1e} of the range",
        worst / (high - low)
    );
    let theirs = std::fs::read(path("labels_out")).expect("the peer's result");
    let wrong = resized_labels
        .iter()
        .zip(&theirs)
        .filter(|(a, b)| **a != u16::from(**b))
        .count();
    println!(
        "labels: {wrong} of {} voxels differ (batchgenerators {}; ours is the rule of 0.25.3)",
        theirs.len(),
        peer["batchgenerators"]
    );
}
