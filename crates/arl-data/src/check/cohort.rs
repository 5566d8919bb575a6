//! What only shows when all cases are seen together.

use std::collections::BTreeMap;

use super::case::Findings;
use super::{Occurrence, Problem, Severity};
use crate::dataset::{Case, Dataset};
use crate::error::DataError;
use crate::orientation::axis_codes;
use crate::split::faults_of_folds;
use crate::volume::Geometry;

/// Turned by less, an axis counts as one of the patient's.
const OBLIQUE_DEGREES: f64 = 1.0;

pub(super) fn problems(
    dataset: &Dataset,
    cases: &[&Case],
    findings: &[Findings],
    classes: &[Occurrence],
) -> Vec<Problem> {
    let mut problems: Vec<Problem> = faults_of_folds(dataset)
        .into_iter()
        .map(Problem::from)
        .collect();
    let mut warn = |problem: Option<DataError>| problems.extend(problem.map(Problem::warning));
    let places: Vec<(&Case, &Geometry)> = cases
        .iter()
        .zip(findings)
        .filter_map(|(case, findings)| Some((*case, findings.geometry.as_ref()?)))
        .collect();
    warn(mixed_orientations(&places));
    warn(oblique(&places));
    for double in same_content(cases, findings) {
        warn(Some(double));
    }
    let in_training = |id: &str| dataset.training.iter().any(|case| case.id == id);
    for case in dataset.test.iter().filter(|case| in_training(&case.id)) {
        warn(Some(DataError::invalid(
            &case.images[0],
            format!(
                "is test case {}, and a training case has the same name",
                case.id
            ),
            "rename one of them, or remove the case from the test set if it is the same patient",
        )));
    }
    // Where a case could not be read, it may hold what the others lack.
    let all_read = !dataset.training.is_empty()
        && findings
            .iter()
            .flat_map(|f| &f.problems)
            .all(|problem| problem.severity == Severity::Warning);
    for class in classes.iter().filter(|class| all_read && class.cases == 0) {
        warn(Some(DataError::invalid(
            &dataset.root,
            format!(
                "no training case holds label {} ({})",
                class.value, class.name
            ),
            "add a case with it, or remove the class: it cannot be learned",
        )));
    }
    problems
}

/// Cases whose arrays run in other directions, so that left and right or head and foot change places between them.
fn mixed_orientations(places: &[(&Case, &Geometry)]) -> Option<DataError> {
    let mut cases_of: BTreeMap<String, Vec<&Case>> = BTreeMap::new();
    for (case, geometry) in places {
        let code = axis_codes(&geometry.affine);
        cases_of.entry(code).or_default().push(case);
    }
    let (rarest, rare) = cases_of.iter().min_by_key(|(_, cases)| cases.len())?;
    let others = cases_of.iter().filter(|(code, _)| *code != rarest);
    let others: Vec<String> = others
        .map(|(code, cases)| format!("{} in {code}", cases.len()))
        .collect();
    (!others.is_empty()).then(|| {
        DataError::invalid(
            &rare[0].images[0],
            format!(
                "its voxels run towards {rarest}, as those of {} cases do, but {}",
                rare.len(),
                others.join(", ")
            ),
            "store all cases in one orientation: the network sees arrays, not positions",
        )
    })
}

/// Cases whose axes are not the patient's: one warning, at the one that is turned most.
fn oblique(places: &[(&Case, &Geometry)]) -> Option<DataError> {
    let turned = places
        .iter()
        .map(|(case, geometry)| (case, obliquity(geometry)))
        .filter(|(_, degrees)| *degrees > OBLIQUE_DEGREES);
    let count = turned.clone().count();
    let (worst, degrees) = turned.max_by(|a, b| a.1.total_cmp(&b.1))?;
    Some(DataError::invalid(
        &worst.images[0],
        format!(
            "is oblique: its axes are turned by {degrees:.0} degrees against the patient's, as those of {count} of {} cases are",
            places.len()
        ),
        "leave it where scans are made that way (voxels are used along their own axes), else resample",
    ))
}

/// Cases with the same voxels under another name.
fn same_content(cases: &[&Case], findings: &[Findings]) -> Vec<DataError> {
    let mut first_of: BTreeMap<(u32, [usize; 3]), &Case> = BTreeMap::new();
    let mut doubles = Vec::new();
    for (case, findings) in cases.iter().zip(findings) {
        let (Some(content), Some(geometry)) = (findings.content, &findings.geometry) else {
            continue;
        };
        match first_of.get(&(content, geometry.shape)) {
            None => {
                first_of.insert((content, geometry.shape), case);
            }
            Some(first) => doubles.push(DataError::invalid(
                &case.images[0],
                format!(
                    "holds the same voxels as {}",
                    first.images[0].display()
                ),
                "keep one of the two cases: a double weighs twice, and shows in validation what was trained on",
            )),
        }
    }
    doubles
}

/// The world axis that a voxel axis runs along most.
fn main_row(geometry: &Geometry, column: usize) -> usize {
    let along = |row: usize| geometry.affine[row][column].abs();
    (0..3)
        .max_by(|&a, &b| along(a).total_cmp(&along(b)))
        .unwrap_or(0)
}

/// The largest angle in degrees between a voxel axis and the world axis that it runs along.
fn obliquity(geometry: &Geometry) -> f64 {
    let angle = |column: usize| {
        let length: f64 = (0..3)
            .map(|row| geometry.affine[row][column].powi(2))
            .sum::<f64>()
            .sqrt();
        let along = geometry.affine[main_row(geometry, column)][column].abs();
        (along / length).min(1.0).acos().to_degrees()
    };
    (0..3).map(angle).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_are_told_whatever_the_direction() {
        let mut geometry = Geometry::from_spacing([4, 4, 4], [3.0, 1.0, 1.0]);
        assert!(obliquity(&geometry) < 1e-6);
        geometry.affine[0][0] = -1.0;
        geometry.affine[1][1] = -1.0;
        // The last two voxel axes turned by 30 degrees about the left-right axis.
        let (sin, cos) = 30f64.to_radians().sin_cos();
        geometry.affine[1] = [0.0, cos, -3.0 * sin, 0.0];
        geometry.affine[2] = [0.0, sin, 3.0 * cos, 0.0];
        assert!((obliquity(&geometry) - 30.0).abs() < 1e-9);
    }
}
