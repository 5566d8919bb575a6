//! Which cases train and which validate.

mod mersenne;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
use crate::error::{DataError, Result};

/// File in the dataset's directory that fixes the folds, as nnU-Net writes it: `[{"train": [..], "val": [..]}, ..]`.
pub const SPLITS_FILE: &str = "splits_final.json";

/// Parts of a cross validation where nothing else is declared, as in nnU-Net.
const FOLDS: usize = 5;
/// The seed of nnU-Net's folds (`utilities/crossval_split.py`).
const SEED: u32 = 12345;
/// Share of the cases that [`Fold::All`] validates on, though they are trained on as well: one in five.
const ALL_VALIDATION_DIVISOR: usize = 5;

/// One part of a cross validation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Fold {
    /// Train on every case but those that the dataset holds out itself ([`Dataset::held_out`]). Where it holds out none,
    /// validation only shows that training works: its cases were trained on.
    All,
    /// Validate on this part, counted from 0, and train on the others; see [`split`].
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

/// Divides the training cases of `dataset` for `fold`.
///
/// The folds are, in this order:
/// 1. those of a `splits_final.json` beside the dataset's description, so that results compare with others on the same
///    folds;
/// 2. those that the dataset declares ([`Dataset::folds`]);
/// 3. nnU-Net's: folds 0 to 4 are its five-fold cross validation of the sorted identifiers, and each fold from 5 on is
///    a random part of four fifths to train on and the rest to validate on.
///
/// None of them depends on the order of the cases or on the seed of a run. [`Fold::All`] trains on every case and
/// validates on the first fifth of them (at least one), or trains on those that the dataset does not hold out.
///
/// # Errors
/// When there is no such fold, no case is left on one side, or the file cannot be read, names a case that does not
/// exist, or has a case on both sides.
pub fn split(dataset: &Dataset, fold: Fold) -> Result<Split> {
    let root = &dataset.root;
    let mut sorted: Vec<String> = dataset.training.iter().map(|c| c.id.clone()).collect();
    sorted.sort();
    if sorted.is_empty() {
        let cure = "add training cases with labels";
        return Err(DataError::invalid(root, "no case to train on", cure));
    }
    let Fold::Index(index) = fold else {
        return Ok(train_on_all(sorted, &dataset.held_out));
    };
    if let Some((place, folds)) = declared_folds(dataset)? {
        let count = folds.len();
        let split = folds.into_iter().nth(index).ok_or_else(|| {
            let problem = format!("holds {count} folds, counted from 0, so no fold {index}");
            DataError::invalid(&place, problem, "use all or one of its folds")
        })?;
        check_fold(&place, index, &split, &sorted)?;
        return Ok(split);
    }
    let split = as_nnunet(&sorted, index).ok_or_else(|| {
        let problem = format!("there is no fold {index}");
        DataError::invalid(root, problem, "use all or a fold from 0 to 4")
    })?;
    if split.train.is_empty() || split.validation.is_empty() {
        let problem = format!("{} cases are too few for fold {index}", sorted.len());
        let cure = "use fold all, or add cases";
        return Err(DataError::invalid(root, problem, cure));
    }
    Ok(split)
}

/// Every fault of the folds that a file or the dataset fixes; none where nothing does.
pub(crate) fn faults_of_folds(dataset: &Dataset) -> Vec<DataError> {
    let mut sorted: Vec<String> = dataset.training.iter().map(|c| c.id.clone()).collect();
    sorted.sort();
    match declared_folds(dataset) {
        Err(error) => vec![error],
        Ok(None) => Vec::new(),
        Ok(Some((place, folds))) => {
            let checked = folds.iter().enumerate();
            checked
                .filter_map(|(index, split)| check_fold(&place, index, split, &sorted).err())
                .collect()
        }
    }
}

/// The folds of `splits_final.json`, else the dataset's own, and where they are from.
fn declared_folds(dataset: &Dataset) -> Result<Option<(PathBuf, Vec<Split>)>> {
    let file = dataset.root.join(SPLITS_FILE);
    if file.symlink_metadata().is_err() {
        let own = (dataset.root.clone(), dataset.folds.clone());
        return Ok(Some(own).filter(|(_, folds)| !folds.is_empty()));
    }
    let text = fs::read_to_string(&file).map_err(|e| DataError::io(&file, e))?;
    let folds = serde_json::from_str(&text).map_err(|e| {
        let cure = "correct the file, or remove it to have the cases divided anew";
        DataError::invalid(&file, format!("not a list of folds ({e})"), cure)
    })?;
    Ok(Some((file, folds)))
}

fn train_on_all(sorted: Vec<String>, held_out: &[String]) -> Split {
    if !held_out.is_empty() {
        let (validation, train) = sorted.into_iter().partition(|id| held_out.contains(id));
        return Split { train, validation };
    }
    let count = sorted.len().div_ceil(ALL_VALIDATION_DIVISOR);
    Split {
        validation: sorted[..count].to_vec(),
        train: sorted,
    }
}

/// The fold that nnU-Net makes (scikit-learn's `KFold(5, shuffle=True, random_state=12345)`, and
/// `nnUNetTrainer.do_split` for the folds from 5 on); `None` past the last seed.
fn as_nnunet(sorted: &[String], index: usize) -> Option<Split> {
    let count = u32::try_from(sorted.len()).ok()?;
    let validates: Vec<usize> = if index < FOLDS {
        // The first parts are one larger where the cases do not divide by the folds.
        let (size, larger) = (sorted.len() / FOLDS, sorted.len() % FOLDS);
        let start = index * size + index.min(larger);
        let end = start + size + usize::from(index < larger);
        mersenne::permutation(SEED, count)[start..end].to_vec()
    } else {
        let seed = SEED.checked_add(u32::try_from(index).ok()?)?;
        let trained_on = sorted.len() * 4 / 5;
        mersenne::permutation(seed, count)[trained_on..].to_vec()
    };
    let mut held_out = vec![false; sorted.len()];
    validates.into_iter().for_each(|i| held_out[i] = true);
    let side = |validation: bool| -> Vec<String> {
        let cases = sorted.iter().zip(&held_out);
        cases
            .filter(|&(_, &held_out)| held_out == validation)
            .map(|(id, _)| id.clone())
            .collect()
    };
    Some(Split {
        train: side(false),
        validation: side(true),
    })
}

/// Checks a declared fold against the cases that exist.
fn check_fold(place: &Path, index: usize, split: &Split, sorted: &[String]) -> Result<()> {
    let wrong = |problem: String| {
        let cure = "correct the folds, or remove them to have the cases divided anew";
        Err(DataError::invalid(place, problem, cure))
    };
    let mut named = split.train.iter().chain(&split.validation);
    if let Some(case) = named.find(|case| sorted.binary_search(case).is_err()) {
        return wrong(format!(
            "fold {index} names {case:?}, which is not a training case"
        ));
    }
    let trained_on = |case: &&String| split.train.contains(case);
    if let Some(case) = split.validation.iter().find(trained_on) {
        return wrong(format!(
            "fold {index} both trains and validates on {case:?}"
        ));
    }
    for (cases, what) in [(&split.train, "train"), (&split.validation, "validate")] {
        if cases.is_empty() {
            return wrong(format!("fold {index} has no case to {what} on"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
