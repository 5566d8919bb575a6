//! One file per verb.

pub mod check;
pub mod demo;
pub mod devices;
pub mod evaluate;
pub mod export;
pub mod import;
pub mod plan;
pub mod predict;
pub mod preprocess;
pub mod train;

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// Shows how many of something are done; without a terminal, nothing but the first line.
pub struct CaseProgress(ProgressBar);

impl CaseProgress {
    /// Progress of `what`, for example `reading cases`.
    pub fn new(what: &str) -> Self {
        let bar = if std::io::stderr().is_terminal() {
            let template = format!("{{bar:24}} {{pos}}/{{len}} {what}  {{per_sec}}  {{eta}} left");
            let style = ProgressStyle::with_template(&template);
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        } else {
            eprintln!("{what} …");
            ProgressBar::hidden()
        };
        Self(bar)
    }

    /// `done` of `total` are done.
    pub fn show(&self, done: usize, total: usize) {
        self.0.set_length(total as u64);
        self.0.set_position(done as u64);
    }
}

impl Drop for CaseProgress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
