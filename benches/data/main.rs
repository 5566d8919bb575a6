//! The data side beside its peers, in one run on one machine: the same work, equal results where it is deterministic.
//!
//! `cargo bench --profile dev -p arl-data --bench data` runs every topic; `-- TOPIC` runs one. Each topic is a module here
//! and, for the peers, a Python script of the same name, run by the Python of the environment variable `PYTHON` (else
//! `python3`). A peer that isn't installed there is reported as missing.

mod augmentation;
mod loading;
mod patches;
mod peer;
mod resampling;
mod surface;

/// A topic's name and what runs it.
type Topic = (&'static str, fn());

const TOPICS: &[Topic] = &[
    ("loading", loading::run),
    ("resampling", resampling::run),
    ("patches", patches::run),
    ("augmentation", augmentation::run),
    ("surface", surface::run),
];

fn main() {
    // Cargo adds `--bench`.
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    for word in &wanted {
        assert!(
            TOPICS.iter().any(|(name, _)| name == word),
            "no topic {word}; there are {:?}",
            TOPICS.iter().map(|(name, _)| name).collect::<Vec<_>>()
        );
    }
    for (name, run) in TOPICS {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            println!("\n== {name}");
            run();
        }
    }
}
