//! What is wrong with a dataset, collected.

use crate::error::DataError;

/// Faults that were found while the files of a dataset were looked for.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Those that training would refuse.
    pub errors: Vec<DataError>,
    /// Those that it would accept, though perhaps not as intended.
    pub warnings: Vec<DataError>,
}

impl Faults {
    /// The value of a step, or `None` with its error noted.
    pub fn note<T>(&mut self, result: Result<T, DataError>) -> Option<T> {
        result.map_err(|error| self.errors.push(error)).ok()
    }
}
