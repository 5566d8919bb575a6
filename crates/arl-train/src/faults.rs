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

/// An error with its causes as one line, the outermost first. A cause that an outer message already tells is left out.
pub fn chain(error: &anyhow::Error) -> String {
    let mut message = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !message.contains(&cause) {
            message = format!("{message}: {cause}");
        }
    }
    message.replace('\n', " ")
}

/// A failure of Burn as one line: its own report has a line per cause, and traces that are empty.
pub fn one_line(failure: impl std::fmt::Display) -> String {
    let report = failure.to_string();
    let noise = [
        "Caused by:",
        "Several failures at once",
        "Asked at:",
        "No backtrace available",
    ];
    let mut causes: Vec<&str> = Vec::new();
    for line in report.lines().map(str::trim) {
        let told = causes.iter().any(|cause| cause.starts_with(line));
        if !line.is_empty() && !noise.contains(&line) && !told {
            causes.push(line);
        }
    }
    causes.join(": ")
}

#[cfg(test)]
mod tests {
    use super::{chain, one_line};

    #[test]
    fn a_cause_is_told_once() {
        let full = std::io::Error::other("disk full");
        let error = anyhow::Error::new(full).context("a.nii.gz: disk full");
        assert_eq!(chain(&error), "a.nii.gz: disk full");
        assert_eq!(
            chain(&error.context("case a")),
            "case a: a.nii.gz: disk full"
        );
    }

    #[test]
    fn a_report_of_burn_becomes_one_line_with_its_causes() {
        let report = "Event processing failed: train/Loss: An error happened during execution\nCaused by:\n  \
            Several failures at once\nCaused by:\n  An IO error happened\nCaused by:\n  \
            can't allocate buffer of size: 411041792\nNo backtrace available\nAsked at:\nNo backtrace available";
        let line = one_line(report);
        assert!(!line.contains('\n'));
        assert!(line.starts_with(
            "Event processing failed: train/Loss: An error happened during execution: An IO error happened: \
             can't allocate buffer of size: 411041792"
        ));
        assert_eq!(one_line("one cause"), "one cause");
    }
}
