//! Work on many cases at the same time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::error::Result;

/// Does `work` for each index below `count`, on as many threads as there are cores. After an error nothing more is begun.
///
/// The threads are our own rather than rayon's: a rayon worker that waits inside of one case may begin another, and then
/// more cases than meant are in memory at once.
///
/// # Errors
/// That of the first index that has one.
pub(crate) fn in_parallel<T: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let thread = || {
        let mut finished = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                break;
            }
            let result = work(index);
            if result.is_err() {
                failed.store(true, Ordering::Relaxed);
            }
            finished.push((index, result));
        }
        finished
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut results: Vec<(usize, Result<T>)> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads.min(count))
            .map(|_| scope.spawn(thread))
            .collect();
        let joined = handles.into_iter().map(|handle| {
            handle
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        joined.flatten().collect()
    });
    results.sort_unstable_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::DataError;

    #[test]
    fn results_come_in_order_and_an_error_ends_the_work() {
        let squares = in_parallel(100, |index| Ok(index * index)).unwrap();
        assert!(squares.into_iter().eq((0..100).map(|index| index * index)));
        assert!(in_parallel(0, Ok).unwrap().is_empty());
        let begun = AtomicUsize::new(0);
        let failing = |index: usize| {
            begun.fetch_add(1, Ordering::Relaxed);
            match index {
                3 => Err(DataError::invalid(Path::new("case 3"), "is bad", "mend it")),
                _ => Ok(index),
            }
        };
        let error = in_parallel(1_000_000, failing).unwrap_err().to_string();
        assert!(error.contains("case 3"), "{error}");
        assert!(begun.load(Ordering::Relaxed) < 1_000_000);
    }
}
