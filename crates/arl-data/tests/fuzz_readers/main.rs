//! Damaged and hostile files for every reader: no panic, no memory beyond what the file honestly holds, one clear line.
//!
//! Small valid files are mutated (bits, numbers of headers, words of texts, lengths, splices) and read. A run of the test
//! suite takes a second or two; for a long one say how many files each target shall read, and from which seed:
//!
//! `FUZZ_EXECUTIONS=10000000 FUZZ_SEED=7 cargo test -p arl-data --test fuzz_readers -- --nocapture [TARGET]`
//!
//! A file that was found to do harm is left in the folder of temporary files and named; those found so far are tests in
//! `damaged_files.rs`.

mod allocations;
mod cache;
mod descriptions;
mod layouts;
mod mutate;
mod volumes;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use mutate::Mutator;

/// The number under a variable of the environment, or another.
fn setting(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|e| panic!("{name}={text}: {e}")),
        Err(_) => otherwise,
    }
}

/// Makes mutated inputs and hands them to `read`, which panics if anything is wrong with what it saw.
///
/// `usual` is the number of executions without `FUZZ_EXECUTIONS`. Returns how many inputs were accepted.
fn fuzz<T: AsRef<[u8]>>(
    target: &str,
    usual: u64,
    mut make: impl FnMut(&mut Mutator) -> T,
    mut read: impl FnMut(&T) -> bool,
) -> u64 {
    let executions = setting("FUZZ_EXECUTIONS", usual);
    let mut mutator = Mutator::new(setting("FUZZ_SEED", 1));
    let (start, mut said) = (Instant::now(), Instant::now());
    let mut accepted = 0u64;
    for execution in 0..executions {
        let input = make(&mut mutator);
        match catch_unwind(AssertUnwindSafe(|| read(&input))) {
            Ok(whole) => accepted += u64::from(whole),
            Err(_) => {
                let path = std::env::temp_dir().join(format!("fuzz_{target}_{execution}"));
                std::fs::write(&path, input.as_ref()).unwrap();
                panic!(
                    "{target}: execution {execution} failed on {}",
                    path.display()
                );
            }
        }
        if said.elapsed() > Duration::from_secs(60) {
            said = Instant::now();
            println!(
                "{target}: {execution} executions, {accepted} accepted, {:.0?}",
                start.elapsed()
            );
        }
    }
    println!(
        "{target}: {executions} executions, {accepted} of them accepted, no fault, in {:.1?}",
        start.elapsed()
    );
    accepted
}
