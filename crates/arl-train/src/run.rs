//! The directory of a run: what made it and what it made.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use arl_data::plan::Plan;

use crate::config::{TrainConfig, read_json};

/// `config.json`, `plan.json`, `augmentation.json`, `fingerprint.json`, `log.jsonl`, `cache/` and `checkpoints/` of a run.
pub struct Run {
    directory: PathBuf,
}

impl Run {
    /// The run in an existing directory.
    ///
    /// # Errors
    /// When it isn't one.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        let run = Self {
            directory: directory.to_owned(),
        };
        anyhow::ensure!(
            run.config().is_file(),
            "{}: is not a run (no config.json); give the directory that `arl train --out` made",
            directory.display()
        );
        Ok(run)
    }

    /// A new run in a directory that is empty or does not exist, or is emptied with `force`. `other` names another way out.
    pub fn create(directory: &Path, force: bool, other: &str) -> anyhow::Result<Self> {
        claim(directory, force, other)?;
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    /// `config.json`.
    pub fn config(&self) -> PathBuf {
        self.directory.join("config.json")
    }

    /// `plan.json`.
    pub fn plan(&self) -> PathBuf {
        self.directory.join("plan.json")
    }

    /// `augmentation.json`: the transforms that the configuration's choice means for this plan.
    pub fn augmentation(&self) -> PathBuf {
        self.directory.join("augmentation.json")
    }

    /// `fingerprint.json`.
    pub fn fingerprint(&self) -> PathBuf {
        self.directory.join("fingerprint.json")
    }

    /// `log.jsonl`.
    pub fn log(&self) -> PathBuf {
        self.directory.join("log.jsonl")
    }

    /// `cache/`.
    pub fn cache(&self) -> PathBuf {
        self.directory.join("cache")
    }

    /// `checkpoints/`.
    pub fn checkpoints(&self) -> PathBuf {
        self.directory.join("checkpoints")
    }

    /// Reads the configuration and the plan.
    ///
    /// # Errors
    /// When they can't be understood, or another version of the program made the run: its network and its options
    /// may mean something else.
    pub fn load(&self) -> anyhow::Result<(TrainConfig, Plan)> {
        let config: serde_json::Value = read_json(&self.config())?;
        let made_by = config["version"].as_str().unwrap_or("an unknown version");
        let this = env!("CARGO_PKG_VERSION");
        anyhow::ensure!(
            made_by == this,
            "{}: the run was made by arl {made_by}, this is arl {this}; use that version, or train anew",
            self.directory.display()
        );
        Ok((read_json(&self.config())?, Plan::load(&self.plan())?))
    }
}

/// Makes sure that `directory` exists and is empty; with `force`, by emptying it. `other` names another way out.
pub fn claim(directory: &Path, force: bool, other: &str) -> anyhow::Result<()> {
    let full = match fs::read_dir(directory) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(error).with_context(|| directory.display().to_string()),
    };
    anyhow::ensure!(
        !full || force,
        "{}: exists and is not empty; choose another --out, {other}or --force to delete what it holds",
        directory.display()
    );
    if full {
        fs::remove_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())
}
