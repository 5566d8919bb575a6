//! Every fault of a dataset in one run: each with its file and its cure.
//!
//! What is an error here is refused by [`Dataset::open`] or [`Dataset::read_case`] too, so that training without a check
//! meets the same sentence, only one at a time.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use serde::Serialize;

use crate::dataset::read::{check_finite, check_same_size};
use crate::dataset::{Case, Dataset};
use crate::error::DataError;
use crate::formats::{read_image, read_labels};
use crate::volume::Geometry;

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
    pub file: PathBuf,
    /// What is wrong with it.
    pub message: String,
    /// What to do about it.
    pub cure: String,
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
    fn warning(file: &Path, message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            file: file.to_owned(),
            message: message.into(),
            cure: cure.into(),
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

/// Checks a dataset directory from its layout to the last voxel. Never fails: what cannot be read is a problem.
///
/// `on_case` is called from several threads with the number of cases checked so far and in total.
pub fn check_directory(root: &Path, on_case: &(dyn Fn(usize, usize) + Sync)) -> CheckReport {
    match Dataset::survey(root) {
        Ok((dataset, faults)) => {
            let mut report = check(&dataset, on_case);
            // Plain folders are scanned for labels on opening: what that found unreadable is found again by the check.
            let found = std::mem::take(&mut report.problems);
            report.problems = faults.into_iter().map(Problem::from).collect();
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
/// Memory: one volume per thread. `on_case` is called from several threads with the number of cases checked so far and
/// in total.
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
    let mut problems: Vec<Problem> = findings.into_iter().flat_map(|f| f.problems).collect();
    if problems
        .iter()
        .all(|problem| problem.severity == Severity::Warning)
    {
        problems.extend(
            classes
                .iter()
                .filter(|class| class.cases == 0)
                .map(|class| {
                    Problem::warning(
                        &dataset.root,
                        format!(
                            "no training case holds label {} ({})",
                            class.value, class.name
                        ),
                        "add a case with it, or remove the class: it cannot be learned",
                    )
                }),
        );
    }
    CheckReport {
        cases: cases.len(),
        classes,
        problems,
    }
}

#[derive(Default)]
struct Findings {
    problems: Vec<Problem>,
    /// Voxels of each label value that occurs.
    voxels: BTreeMap<u16, u64>,
}

fn check_case(dataset: &Dataset, case: &Case) -> Findings {
    let mut findings = Findings::default();
    let mut first: Option<(&Path, Geometry)> = None;
    for path in &case.images {
        match read_image(path) {
            Err(error) => findings.problems.push(error.into()),
            Ok(volume) => {
                if let Err(error) = check_finite(path, &volume.data) {
                    findings.problems.push(error.into());
                }
                match &first {
                    Some(first) => compare(path, &volume.geometry, first, &mut findings.problems),
                    None => first = Some((path, volume.geometry)),
                }
            }
        }
    }
    let Some(path) = &case.label else {
        return findings;
    };
    let labels = match read_labels(path) {
        Ok(labels) => labels,
        Err(error) => {
            findings.problems.push(error.into());
            return findings;
        }
    };
    if let Some(first) = &first {
        compare(path, &labels.geometry, first, &mut findings.problems);
    }
    if let Err(error) = dataset.check_declared(path, &labels.data) {
        findings.problems.push(error.into());
    }
    for &label in &labels.data {
        *findings.voxels.entry(label).or_default() += 1;
    }
    let is_foreground = |value: u16| value != 0 && dataset.ignore_label != Some(value);
    if !findings.voxels.keys().any(|&value| is_foreground(value)) {
        findings.problems.push(Problem::warning(
            path,
            "holds nothing but background",
            "leave it if the case is meant to be empty, else correct the label map",
        ));
    }
    findings
}

/// Two files of a case: another size is an error, another place a warning, because voxels are paired by their index.
fn compare(
    path: &Path,
    geometry: &Geometry,
    first: &(&Path, Geometry),
    problems: &mut Vec<Problem>,
) {
    let (first_path, first) = first;
    if let Err(error) = check_same_size(path, geometry, first_path, first) {
        problems.push(error.into());
    } else if let Err(difference) = geometry.matches(first) {
        problems.push(Problem::warning(
            path,
            format!("{difference}: this file and {}", first_path.display()),
            "make sure that both are of one orientation: voxels are paired by index, not by position",
        ));
    }
}
