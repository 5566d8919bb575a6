//! Every fault of a dataset in one run: each with its file and its cure.
//!
//! What is an error here is refused by [`Dataset::open`], [`Dataset::read_case`] or [`split`](crate::split::split) too, so
//! that training without a check meets the same sentence, only one at a time.

mod case;
mod cohort;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use serde::{Serialize, Serializer};

use crate::dataset::{Case, Dataset, ReadOptions};
use crate::error::DataError;
use case::{Findings, check_case};

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The dataset can be trained on, but perhaps not as intended.
    Warning,
    /// Training or prediction would refuse the dataset.
    Error,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The file or directory at fault.
    #[serde(serialize_with = "as_shown")]
    pub file: PathBuf,
    /// What is wrong with it.
    pub message: String,
    /// What to do about it.
    pub cure: String,
}

/// A path as messages show it: one that is no UTF-8 could not be written into JSON otherwise.
fn as_shown<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// How often a class occurs in the training cases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Occurrence {
    /// Name of the class.
    pub name: String,
    /// Its value in the label maps.
    pub value: u16,
    /// Training cases in which it occurs.
    pub cases: usize,
    /// Its voxels in all of them.
    pub voxels: u64,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Cases read, for training and test.
    pub cases: usize,
    /// The classes and how often they occur.
    pub classes: Vec<Occurrence>,
    /// Faults, those of the layout first, then by case.
    pub problems: Vec<Problem>,
}

impl CheckReport {
    /// Number of problems that training would refuse.
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    /// Number of problems that training would accept.
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    fn count(&self, severity: Severity) -> usize {
        self.problems
            .iter()
            .filter(|p| p.severity == severity)
            .count()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}; {}",
            self.file.display(),
            self.message,
            self.cure
        )
    }
}

impl Problem {
    fn warning(problem: DataError) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::from(problem)
        }
    }
}

impl From<DataError> for Problem {
    fn from(error: DataError) -> Self {
        let severity = Severity::Error;
        match error {
            DataError::Invalid {
                path: file,
                message,
                cure,
            } => Self {
                severity,
                file,
                message,
                cure,
            },
            DataError::Io { path: file, source } => Self {
                severity,
                file,
                message: source.to_string(),
                cure: "make it readable for this user, or restore it".to_owned(),
            },
            DataError::Worker { case, message } => Self {
                severity,
                file: case.into(),
                message,
                cure: "report this as a bug".to_owned(),
            },
        }
    }
}

/// Checks a dataset, a directory or the JSON file that lists its cases, from its layout to the last voxel. Never fails:
/// what cannot be read is a problem.
///
/// `on_case` is called from several threads with the number of cases checked so far and in total.
pub fn check_dataset(
    path: &Path,
    options: &ReadOptions,
    on_case: &(dyn Fn(usize, usize) + Sync),
) -> CheckReport {
    match Dataset::survey(path, options) {
        Ok((dataset, faults)) => {
            let mut report = check(&dataset, on_case);
            let found = std::mem::take(&mut report.problems);
            let errors = faults.errors.into_iter().map(Problem::from);
            let warnings = faults.warnings.into_iter().map(Problem::warning);
            report.problems = errors.chain(warnings).collect();
            // Label maps are scanned on opening where nothing declares their values: what that found unreadable is found
            // again by the check.
            report.problems.retain(|fault| !found.contains(fault));
            report.problems.extend(found);
            report
        }
        Err(fault) => CheckReport {
            cases: 0,
            classes: Vec::new(),
            problems: vec![fault.into()],
        },
    }
}

/// Checks every voxel of a dataset's cases, in parallel.
///
/// Memory: one volume per thread, or all channels of a 4D file. `on_case` is called from several threads with the number of
/// cases checked so far and in total.
pub fn check(dataset: &Dataset, on_case: &(dyn Fn(usize, usize) + Sync)) -> CheckReport {
    let training = dataset.training.iter().map(|case| (case, true));
    let cases: Vec<(&Case, bool)> = training
        .chain(dataset.test.iter().map(|case| (case, false)))
        .collect();
    let done = AtomicUsize::new(0);
    let findings: Vec<Findings> = cases
        .par_iter()
        .map(|&(case, trained_on)| {
            let mut findings = check_case(dataset, case);
            if !trained_on {
                findings.voxels.clear();
            }
            on_case(done.fetch_add(1, Ordering::Relaxed) + 1, cases.len());
            findings
        })
        .collect();

    let classes: Vec<Occurrence> = dataset
        .classes
        .iter()
        .map(|class| {
            let counts = || findings.iter().filter_map(|f| f.voxels.get(&class.value));
            Occurrence {
                name: class.name.clone(),
                value: class.value,
                cases: counts().count(),
                voxels: counts().sum(),
            }
        })
        .collect();
    let cases: Vec<&Case> = cases.into_iter().map(|(case, _)| case).collect();
    let across = cohort::problems(dataset, &cases, &findings, &classes);
    let of_cases = findings.into_iter().flat_map(|f| f.problems);
    CheckReport {
        cases: cases.len(),
        classes,
        problems: of_cases.chain(across).collect(),
    }
}
