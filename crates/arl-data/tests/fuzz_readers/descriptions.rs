//! The JSON of people and of other programs: `dataset.json` and `plan.json`.

use std::fs;
use std::path::Path;

use arl_data::Dataset;
use arl_data::fingerprint::Fingerprint;
use arl_data::phantom::{CohortConfig, write_cohort};
use arl_data::plan::{Plan, PlanOptions, Preset};

use super::allocations::most_during;
use super::fuzz;

/// Memory that reading a description may take: so much, and so many times its text.
const BASE: usize = 1 << 20;
const PER_BYTE: usize = 200;

/// A small dataset of phantoms.
pub fn cohort(folder: &Path) -> Dataset {
    let config = CohortConfig {
        training: 2,
        test: 1,
        shape: [16, 24, 24],
        spacing: [7.5, 4.0, 4.0],
        ..CohortConfig::default()
    };
    write_cohort(folder, &config, &|_, _| {}).unwrap();
    Dataset::open(folder).unwrap()
}

/// A plan for it.
pub fn plan(dataset: &Dataset) -> Plan {
    let options = PlanOptions::new(Preset::Cpu);
    let fingerprint = Fingerprint::extract(dataset, &|_, _| {}).unwrap();
    Plan::new(dataset, &fingerprint, &options).unwrap()
}

/// Writes mutations of the text at `path` there and lets `read` accept or refuse them.
fn run(target: &str, usual: u64, path: &Path, read: impl Fn() -> arl_data::Result<()>) {
    let seed = fs::read(path).unwrap();
    let make = |mutator: &mut super::Mutator| {
        let mut text = seed.clone();
        mutator.mutate(&mut text, &seed, &[]);
        text
    };
    let accepted = fuzz(target, usual, make, |text| {
        fs::write(path, text).unwrap();
        let (result, most) = most_during(&read);
        assert!(
            most <= BASE + PER_BYTE * text.len(),
            "{most} bytes of memory for {} of text",
            text.len()
        );
        if let Err(error) = &result {
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
        result.is_ok()
    });
    assert!(accepted > 0, "not one mutated text was still valid");
}

#[test]
fn dataset_json() {
    let folder = tempfile::tempdir().unwrap();
    cohort(folder.path());
    run(
        "dataset_json",
        200,
        &folder.path().join("dataset.json"),
        || {
            let dataset = Dataset::open(folder.path())?;
            assert!(dataset.num_classes() > 0);
            Ok(())
        },
    );
}

#[test]
fn plan_json() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(&cohort(folder.path()));
    let path = folder.path().join("plan.json");
    fs::write(&path, serde_json::to_string_pretty(&plan).unwrap()).unwrap();
    run("plan_json", 400, &path, || {
        let plan = Plan::load(&path)?;
        assert!(plan.num_classes() > 0);
        assert!(plan.patch_divisors().iter().all(|&divisor| divisor > 0));
        Ok(())
    });
}
