use crate::{LossError, Target, plain};
use burn::tensor::DType;

/// That all labels are classes, `0..classes`, or the ignored one: for a data pipeline, which can do something about it. The
/// losses count all others as ignored.
///
/// A single sigmoid channel has the classes 0 and 1.
///
/// Reads one number back from the device, more only where something is wrong. Shares are not checked.
///
/// # Errors
/// Labels that are neither, with their number and the first of them.
pub fn check_labels(
    target: impl Into<Target>,
    classes: usize,
    ignore_index: Option<i64>,
) -> Result<(), LossError> {
    let Target::Labels(labels) = target.into() else {
        return Ok(());
    };
    let labels = plain::wide(labels);
    let wrong = plain::label_counts(labels.clone(), classes as i64, None).bool_not();
    // Unsigned labels can't be below 0, nor be compared with what is.
    let unsigned = matches!(labels.dtype(), DType::U32 | DType::U64);
    let wrong = match ignore_index.filter(|&index| index >= 0 || !unsigned) {
        Some(index) => wrong.bool_and(labels.clone().not_equal_elem(index)),
        None => wrong,
    };
    let count = wrong.clone().int().sum().into_scalar::<i64>() as usize;
    if count == 0 {
        return Ok(());
    }
    let positions = wrong.argwhere();
    let first: Vec<i64> = positions
        .narrow(0, 0, 1)
        .into_data()
        .iter::<i64>()
        .collect();
    let position: [usize; 4] = std::array::from_fn(|axis| first[axis] as usize);
    let value = labels.slice(position.map(|at| at..at + 1));
    Err(LossError::Labels {
        count,
        last: classes.saturating_sub(1),
        value: value.into_scalar::<i64>(),
        position,
    })
}
