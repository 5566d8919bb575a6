//! Parameters that make no sense.

use std::fmt::Debug;

/// A parameter out of its bounds; the text names the transform, the parameter and what it may be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{transform}: {parameter} is {value}; it must be {bounds}")]
pub struct AugmentError {
    transform: &'static str,
    parameter: &'static str,
    value: String,
    bounds: String,
}

/// Checks the parameters of one transform.
pub(super) struct Check(pub &'static str);

impl Check {
    /// An error with this text unless `right`.
    pub fn that(
        &self,
        right: bool,
        parameter: &'static str,
        value: impl Debug,
        bounds: impl Into<String>,
    ) -> Result<(), AugmentError> {
        if right {
            return Ok(());
        }
        Err(AugmentError {
            transform: self.0,
            parameter,
            value: format!("{value:?}"),
            bounds: bounds.into(),
        })
    }

    /// A number from 0 to 1.
    pub fn probability(&self, parameter: &'static str, value: f64) -> Result<(), AugmentError> {
        let right = (0.0..=1.0).contains(&value);
        self.that(right, parameter, value, "from 0 to 1")
    }

    /// Two numbers in order, both within these bounds.
    pub fn range(
        &self,
        parameter: &'static str,
        (low, high): (f32, f32),
        (least, most): (f32, f32),
    ) -> Result<(), AugmentError> {
        let right = least <= low && low <= high && high <= most;
        let bounds = format!("two numbers in rising order from {least} to {most}");
        self.that(right, parameter, (low, high), bounds)
    }

    /// A number within these bounds.
    pub fn within(
        &self,
        parameter: &'static str,
        value: f32,
        (least, most): (f32, f32),
    ) -> Result<(), AugmentError> {
        let right = least <= value && value <= most;
        self.that(right, parameter, value, format!("from {least} to {most}"))
    }

    /// Axes of a volume, each at most once.
    pub fn axes(&self, parameter: &'static str, axes: &[usize]) -> Result<(), AugmentError> {
        let right =
            (axes.iter().enumerate()).all(|(i, axis)| *axis < 3 && !axes[..i].contains(axis));
        self.that(right, parameter, axes, "some of 0, 1 and 2, each once")
    }
}
