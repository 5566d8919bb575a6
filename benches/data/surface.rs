//! HD95 and NSD of 23 classes in 256³ voxels beside MONAI and `surface-distance`; the distance transform of such a volume
//! beside SciPy's and the package `edt`'s.

use std::f64::consts::TAU;
use std::fs;
use std::path::Path;
use std::time::Instant;

use arl_data::distance_transform::squared_distances;
use arl_data::metrics::{Metric, Scores, Structure, score};
use ndarray::{Array3, s};

use crate::peer;

const SIDE: usize = 256;
const CLASSES: u16 = 23;
const SPACING: [f64; 3] = [1.5, 0.8, 0.8];
const TOLERANCE: f64 = 2.0;
const METRICS: [Metric; 2] = [Metric::Hausdorff95, Metric::NormalisedSurfaceDice];

pub fn run() {
    let reference = blobs(0.0);
    let prediction = blobs(1.0);
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("reference.u8"), &reference);
    write(&folder.path().join("prediction.u8"), &prediction);
    let folder = folder.path().to_str().unwrap();

    let structures: Vec<Structure> = (1..=CLASSES)
        .map(|label| Structure::class(label).with_tolerance(TOLERANCE))
        .collect();
    let mask = reference.mapv(|label| label == 1);
    let mut scores = Vec::new();
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let ours = pool.install(|| {
            best(|| {
                scores = score(
                    &prediction,
                    &reference,
                    SPACING,
                    &structures,
                    &METRICS,
                    None,
                )
                .unwrap();
            })
        });
        let transform = pool.install(|| best(|| drop(squared_distances(mask.view(), SPACING))));
        println!("threads: {threads}; ours is the best of five, a peer runs once");
        let Some(peers) = peer::run("surface", &[folder, &threads.to_string()]) else {
            println!("  HD95 + NSD    {ours:8.3} s");
            println!("  transform     {transform:8.3} s");
            continue;
        };
        println!(
            "                      ours       peer   ratio  largest difference (HD95 mm, NSD)"
        );
        let (hd95, nsd) = differences(&scores, &peers["monai"]);
        line(
            "MONAI",
            ours,
            &peers["monai"]["seconds"],
            &format!("{hd95:.1e}, {nsd:.1e}"),
        );
        // Another definition of the surface: the same order of size is all that can be expected.
        let (hd95, nsd) = differences(&scores, &peers["surface_distance"]);
        let note = format!("{hd95:.2}, {nsd:.2} (another definition)");
        line(
            "surface-distance",
            ours,
            &peers["surface_distance"]["seconds"],
            &note,
        );
        line("transform: scipy", transform, &peers["scipy_transform"], "");
        line("transform: edt", transform, &peers["edt_transform"], "");
    }
}

/// The best of five.
fn best(mut work: impl FnMut()) -> f64 {
    (0..5)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}

fn line(name: &str, ours: f64, peer: &serde_json::Value, note: &str) {
    match peer.as_f64() {
        Some(peer) => println!(
            "{name:18} {ours:7.3} s {peer:8.2} s {:6.1}×  {note}",
            peer / ours
        ),
        None => println!("{name:18} {ours:7.3} s  missing"),
    }
}

/// The largest differences over the classes.
fn differences(scores: &[Scores], peer: &serde_json::Value) -> (f64, f64) {
    let largest = |metric: Metric, name: &str| {
        let pairs = scores.iter().zip(peer[name].as_array().unwrap());
        pairs
            .map(|(ours, theirs)| (ours.value(metric).unwrap() - theirs.as_f64().unwrap()).abs())
            .fold(0.0, f64::max)
    };
    (
        largest(Metric::Hausdorff95, "hd95"),
        largest(Metric::NormalisedSurfaceDice, "nsd"),
    )
}

fn write(path: &Path, labels: &Array3<u16>) {
    let bytes: Vec<u8> = labels.iter().map(|&label| label as u8).collect();
    fs::write(path, bytes).unwrap();
}

/// Balls with waves on their surface, most of them touching their neighbours; `change` moves and reshapes them a little.
fn blobs(change: f64) -> Array3<u16> {
    let mut labels = Array3::zeros((SIDE, SIDE, SIDE));
    let cell = SIDE as f64 / 3.0;
    for label in 1..=CLASSES {
        let seed = f64::from(label);
        // Numbers in -1 to 1 that differ from class to class.
        let number = |which: f64| ((seed * 12.9898 + which * 78.233).sin() * 43758.5453).fract();
        let place = [label / 9, label / 3 % 3, label % 3];
        let centre: [f64; 3] = std::array::from_fn(|axis| {
            let jitter = 6.0 * number(axis as f64) + 2.0 * change * number(axis as f64 + 10.0);
            (f64::from(place[axis]) + 0.5) * cell + jitter
        });
        let radius = 38.0 + 8.0 * number(3.0) + change * number(13.0);
        let reach = 1.25 * radius;
        let low = centre.map(|c| (c - reach).max(0.0) as usize);
        let high = centre.map(|c| ((c + reach) as usize + 1).min(SIDE));
        let mut part = labels.slice_mut(s![low[0]..high[0], low[1]..high[1], low[2]..high[2]]);
        for ((d, h, w), voxel) in part.indexed_iter_mut() {
            let from: [f64; 3] =
                std::array::from_fn(|axis| ([d, h, w][axis] + low[axis]) as f64 - centre[axis]);
            let distance = from.iter().map(|x| x * x).sum::<f64>().sqrt();
            let wave: f64 = (0..3)
                .map(|axis| {
                    let phase = TAU * number(axis as f64 + 20.0) + 0.3 * change;
                    (from[axis] / radius * 5.0 + phase).sin()
                })
                .sum();
            if distance < radius * (1.0 + 0.07 * wave) {
                *voxel = label;
            }
        }
    }
    labels
}
