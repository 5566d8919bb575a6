//! `arl check`.

use std::process::ExitCode;

use arl_data::check::{Severity, check_dataset};

use super::CaseProgress;
use crate::cli::CheckArguments;

/// Prints every fault of a dataset; exit code 1 when there is an error.
pub fn run(arguments: &CheckArguments) -> anyhow::Result<ExitCode> {
    let progress = CaseProgress::new("checking cases");
    let options = arguments.reading.options();
    let report = check_dataset(&arguments.dataset, &options, &|done, total| {
        progress.show(done, total)
    });
    drop(progress);
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        for problem in &report.problems {
            let severity = match problem.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            println!("{severity}: {problem}");
        }
        println!(
            "{} cases: {} errors, {} warnings",
            report.cases,
            report.errors(),
            report.warnings()
        );
    }
    Ok(if report.errors() > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
