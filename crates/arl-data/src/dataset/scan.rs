//! What only the files tell: the label values of a dataset that declares none, and its number of channels.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::faults::Faults;
use super::labels::{Declared, LabelTable};
use super::read::count_values;
use super::{Case, LabelClass, LabelRemap, ReadOptions};
use crate::error::{DataError, Result};
use crate::formats::{read_header, read_labels};

/// The values of all label maps, as they are in the files. Maps that cannot be read are faults.
fn values_in(cases: &[Case], faults: &mut Faults) -> BTreeSet<u16> {
    let found: Vec<Result<Vec<u16>>> = cases
        .par_iter()
        .filter_map(|case| case.label.as_deref())
        .map(|label| {
            Ok(count_values(&read_labels(label)?.data)
                .into_keys()
                .collect())
        })
        .collect();
    let mut all = BTreeSet::new();
    for result in found {
        all.extend(faults.note(result).into_iter().flatten());
    }
    all
}

/// Turns `auto` into pairs.
///
/// Declared values with gaps become consecutive together with those of `cases`. Consecutive ones are what the values of
/// `cases` become, in order, which is told only where there are as many of both; where all of them are declared, they stay.
pub(super) fn resolve_remap(
    place: &Path,
    options: &mut ReadOptions,
    cases: &[Case],
    declared: &Declared,
    faults: &mut Faults,
) {
    if options.remap_labels != Some(LabelRemap::Auto) {
        return;
    }
    let mut values = values_in(cases, faults);
    let wanted = declared.values();
    if !declared.is_consecutive() {
        values.extend(wanted);
    } else if values.is_subset(&wanted) {
        values = wanted;
    } else if values.len() != wanted.len() && faults.errors.is_empty() {
        let listed = |values: &BTreeSet<u16>| {
            let values: Vec<String> = values.iter().map(u16::to_string).collect();
            values.join(", ")
        };
        faults.errors.push(DataError::invalid(
            place,
            format!(
                "declares the values {}, but the label maps hold {}: which is which can't be told",
                listed(&wanted),
                listed(&values)
            ),
            "give the pairs, as --remap-labels 255:1",
        ));
    }
    options.remap_labels = Some(LabelRemap::consecutive(values));
}

/// Classes of a dataset that declares none: one for each value of its label maps, which are at `place`.
pub(super) fn classes_of(
    place: &Path,
    cases: &[Case],
    options: &mut ReadOptions,
    faults: &mut Faults,
) -> LabelTable {
    let found = values_in(cases, faults);
    if options.remap_labels == Some(LabelRemap::Auto) {
        options.remap_labels = Some(LabelRemap::consecutive(found.clone()));
    }
    let remap = options.remap_labels.as_ref();
    let mut values: BTreeSet<u16> = found
        .into_iter()
        .map(|value| remap.map_or(value, |remap| remap.of(value)))
        .collect();
    values.insert(0);
    // Only where all was read: a file that was not may hold what is missing.
    if faults.errors.is_empty() {
        if usize::from(*values.last().unwrap_or(&0)) >= values.len() {
            let values: Vec<String> = values.iter().map(u16::to_string).collect();
            faults.errors.push(DataError::invalid(
                place,
                format!(
                    "its label maps hold the values {}, but values must run from 0 without gap",
                    values.join(", ")
                ),
                "renumber them to 0, 1, 2, ..., or have that done on reading with --remap-labels auto",
            ));
        } else if values.len() < 2 {
            faults.errors.push(DataError::invalid(
                place,
                "its label maps hold nothing but background",
                "mark the structures to be segmented as 1, 2, ...",
            ));
        }
    }
    let classes = values
        .into_iter()
        .map(|value| LabelClass {
            name: match value {
                0 => "background".to_owned(),
                value => format!("label_{value}"),
            },
            value,
        })
        .collect();
    LabelTable {
        classes,
        ..LabelTable::default()
    }
}

/// Names for the channels of a dataset that names none, counted in the first case that can be read, else `guess`.
pub(super) fn unnamed_channels(cases: &[Case], guess: usize) -> Vec<String> {
    let channels = |path: &PathBuf| Some(read_header(path).ok()?.channels);
    let counts = |case: &Case| case.images.iter().map(channels).sum::<Option<usize>>();
    let count = cases.iter().find_map(counts).unwrap_or(guess);
    (0..count)
        .map(|channel| format!("channel_{channel}"))
        .collect()
}
