//! Loading compressed volumes beside nibabel and SimpleITK: 512 × 512 × 300 voxels, one thread each, files in the cache of
//! the operating system.

use std::time::Instant;

use arl_data::formats::{read_image, read_labels};
use serde_json::{Value, json};

use crate::peer;

/// Readings of which the fastest counts.
const REPEATS: usize = 5;

pub fn run() {
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().to_str().unwrap();
    if peer::run("loading", &["make", name]).is_none() {
        return;
    }
    let path = |file: &str| folder.path().join(file);
    let (ct_seconds, ct) = best(|| read_image(&path("ct.nii.gz")).unwrap());
    let (labels_seconds, labels) = best(|| read_labels(&path("labels.nii.gz")).unwrap());
    let ours = [
        (
            "ct",
            ct_seconds,
            sums(ct.data.iter().map(|&value| value as i64)),
        ),
        (
            "labels",
            labels_seconds,
            sums(labels.data.iter().map(|&label| label.into())),
        ),
    ];
    let Some(theirs) = peer::run("loading", &["time", name]) else {
        return;
    };
    println!(
        "{:8} {:24} {:>8} {:>8} {:>6}",
        "file", "peer", "ours", "peer's", "ratio"
    );
    for (file, seconds, sums) in ours {
        for (peer, measured) in theirs[file].as_object().unwrap() {
            let peer_seconds = measured["seconds"].as_f64().unwrap();
            let equal = if measured["sums"] == sums {
                "equal values"
            } else {
                "DIFFERENT VALUES"
            };
            println!(
                "{file:8} {peer:24} {seconds:7.3}s {peer_seconds:7.3}s {:5.2}x  {equal}",
                peer_seconds / seconds
            );
        }
    }
}

/// The shortest time of several readings, and what the last one returned.
fn best<T>(read: impl Fn() -> T) -> (f64, T) {
    let timed = || {
        let start = Instant::now();
        let result = read();
        (start.elapsed().as_secs_f64(), result)
    };
    let (mut shortest, mut last) = timed();
    for _ in 1..REPEATS {
        // Memory of the last reading is free for the next one, as in a program that reads case after case.
        drop(last);
        let (seconds, result) = timed();
        shortest = shortest.min(seconds);
        last = result;
    }
    (shortest, last)
}

/// The sum of whole numbers, and their sum weighted by where they are.
fn sums(values: impl Iterator<Item = i64>) -> Value {
    let weighted = |(sum, weighted), (index, value): (usize, i64)| {
        (sum + value, weighted + value * (index % 9973) as i64)
    };
    let (sum, weighted) = values.enumerate().fold((0, 0), weighted);
    json!([sum, weighted])
}
