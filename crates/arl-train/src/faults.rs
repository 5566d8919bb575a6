//! Faults of the program itself, and of drivers: one line instead of a backtrace.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

static LAST: Mutex<Option<String>> = Mutex::new(None);

/// Replaces Rust's panic message: it is kept for [`catch`], and logged with `ARL_LOG=debug`.
pub fn keep_quiet() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let place = panic
            .location()
            .map(|l| format!("{}:{}", l.file(), l.line()));
        let line = format!("{message} ({})", place.unwrap_or_default());
        tracing::debug!("panic: {line}\n{}", std::backtrace::Backtrace::capture());
        let mut last = LAST.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *last = Some(line);
    }));
}

/// Runs `action` and turns a panic into an error.
pub fn catch<T>(action: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    catch_unwind(AssertUnwindSafe(action)).unwrap_or_else(|_| {
        let last = LAST
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .take();
        // One line, whatever the message was.
        let message = last.unwrap_or_default().replace('\n', " ");
        Err(anyhow::anyhow!(
            "internal fault or device failure: {message}; run with ARL_LOG=debug for details"
        ))
    })
}
