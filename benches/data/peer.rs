//! Running a topic's Python script.

use std::path::Path;
use std::process::{Command, Stdio};

/// Runs `benches/data/TOPIC.py` with these arguments and returns the last line that it prints, as JSON.
///
/// What it writes to standard error is passed on. `None`, with a line that says so, where Python or a package is missing.
pub fn run(topic: &str, arguments: &[&str]) -> Option<serde_json::Value> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../benches/data")
        .join(format!("{topic}.py"));
    let output = Command::new(&python)
        .arg(&script)
        .args(arguments)
        .stderr(Stdio::inherit())
        .output();
    match output {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout);
            let last = text.lines().last().unwrap_or_default();
            Some(
                serde_json::from_str(last)
                    .unwrap_or_else(|error| panic!("{topic}.py printed {last:?}: {error}")),
            )
        }
        Ok(output) => {
            println!(
                "peers missing: {python} {} ended with {}",
                script.display(),
                output.status
            );
            None
        }
        Err(error) => {
            println!("peers missing: {python}: {error}");
            None
        }
    }
}
