//! Which cases train and which validate.

use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result};

/// File in the dataset's directory that fixes the folds, as nnU-Net writes it: `[{"train": [..], "val": [..]}, ..]`.
pub const SPLITS_FILE: &str = "splits_final.json";

/// Share of the cases that [`Fold::All`] validates on, though they are trained on as well: one in five.
const ALL_VALIDATION_DIVISOR: usize = 5;

/// One part of a cross validation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Fold {
    /// Train on every case. Validation then only shows that training works: its cases were trained on.
    All,
    /// Validate on this part, counted from 0, and train on the others.
    Index(usize),
}

impl fmt::Display for Fold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fold::All => f.write_str("all"),
            Fold::Index(index) => write!(f, "{index}"),
        }
    }
}

impl FromStr for Fold {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text == "all" {
            return Ok(Fold::All);
        }
        let wrong = |_| format!("unknown fold {text:?}; use all or a number from 0");
        text.parse().map(Fold::Index).map_err(wrong)
    }
}

impl TryFrom<String> for Fold {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

impl From<Fold> for String {
    fn from(fold: Fold) -> String {
        fold.to_string()
    }
}

/// Identifiers of the cases of one fold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Cases to train on; never empty.
    pub train: Vec<String>,
    /// Cases to validate on; disjoint from `train` except with [`Fold::All`].
    #[serde(rename = "val")]
    pub validation: Vec<String>,
}

/// Divides `case_ids` for `fold`.
///
/// With a `splits_final.json` in `dataset_root` the fold is taken from there, so that results compare with others on
/// the same folds. Otherwise the sorted identifiers are shuffled with `seed` and dealt to `folds` parts whose sizes
/// differ by one at most; neither the order of `case_ids` nor the fold asked for changes the parts.
/// [`Fold::All`] trains on every case and validates on the first fifth of them (at least one).
///
/// # Errors
/// When there is no such fold, no case is left to train on, or the file cannot be read, names a case that does not
/// exist, or has a case on both sides.
pub fn split(
    case_ids: &[String],
    fold: Fold,
    folds: usize,
    seed: u64,
    dataset_root: &Path,
) -> Result<Split> {
    let mut sorted = case_ids.to_vec();
    sorted.sort();
    let cure = "add training cases with labels";
    if sorted.is_empty() {
        return Err(DataError::invalid(
            dataset_root,
            "no case to train on",
            cure,
        ));
    }
    let Fold::Index(index) = fold else {
        let count = sorted.len().div_ceil(ALL_VALIDATION_DIVISOR);
        return Ok(Split {
            validation: sorted[..count].to_vec(),
            train: sorted,
        });
    };
    let file = dataset_root.join(SPLITS_FILE);
    if file.exists() {
        return from_file(&file, index, &sorted);
    }
    if index >= folds {
        let problem = format!("there is no fold {index} among {folds}");
        let cure = format!("use all or a fold from 0 to {}", folds.saturating_sub(1));
        return Err(DataError::invalid(dataset_root, problem, cure));
    }
    let split = deal(sorted, index, folds, seed);
    if split.train.is_empty() || split.validation.is_empty() {
        let problem = format!("{} cases are too few for {folds} folds", case_ids.len());
        return Err(DataError::invalid(
            dataset_root,
            problem,
            "use fold all, or fewer folds",
        ));
    }
    Ok(split)
}

/// Shuffles and keeps every `folds`-th case, from the `index`-th on, for validation; both sides sorted.
fn deal(mut cases: Vec<String>, index: usize, folds: usize, seed: u64) -> Split {
    cases.shuffle(&mut Xoshiro256PlusPlus::seed_from_u64(seed));
    let (mut train, mut validation) = (Vec::new(), Vec::new());
    for (i, case) in cases.into_iter().enumerate() {
        if i % folds == index {
            validation.push(case)
        } else {
            train.push(case)
        }
    }
    train.sort();
    validation.sort();
    Split { train, validation }
}

/// Reads one fold of `splits_final.json` and checks it against the cases that exist.
fn from_file(file: &Path, index: usize, sorted: &[String]) -> Result<Split> {
    let text = fs::read_to_string(file).map_err(|e| DataError::io(file, e))?;
    let cure = "correct the file, or remove it to have the cases divided anew";
    let wrong = |problem: String| DataError::invalid(file, problem, cure);
    let splits: Vec<Split> =
        serde_json::from_str(&text).map_err(|e| wrong(format!("not a list of folds ({e})")))?;
    let count = splits.len();
    let split = splits.into_iter().nth(index).ok_or_else(|| {
        wrong(format!(
            "holds {count} folds, counted from 0, so no fold {index}"
        ))
    })?;
    let mut named = split.train.iter().chain(&split.validation);
    if let Some(case) = named.find(|case| sorted.binary_search(case).is_err()) {
        return Err(wrong(format!(
            "fold {index} names {case:?}, which is not a training case"
        )));
    }
    if let Some(case) = split
        .validation
        .iter()
        .find(|case| split.train.contains(case))
    {
        return Err(wrong(format!(
            "fold {index} both trains and validates on {case:?}"
        )));
    }
    if split.train.is_empty() {
        return Err(wrong(format!("fold {index} has no case to train on")));
    }
    Ok(split)
}

#[cfg(test)]
mod tests;
