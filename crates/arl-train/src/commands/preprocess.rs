//! `arl preprocess`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use arl_data::Dataset;
use arl_data::cache::{Cache, CacheDtype, CacheOptions};
use arl_data::plan::Plan;

use super::train::check_fit;
use super::{CaseProgress, plan};
use crate::cli::PreprocessArguments;
use crate::config::{read_json, write_json};
use crate::device;
use crate::memory;
use crate::planning::Planning;

/// Fills a cache, or goes on with it.
pub fn run(arguments: &PreprocessArguments) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let made = description(&arguments.out)?;
    let made = made.map(|made| made.cache_dtype);
    anyhow::ensure!(
        made.is_none() || arguments.cache_dtype.is_none() || made == arguments.cache_dtype,
        "{}: holds a cache of another --cache-dtype; choose another --out, or delete it to preprocess anew",
        arguments.out.display()
    );
    let options = CacheOptions {
        dtype: arguments.cache_dtype.or(made).unwrap_or_default(),
        memory: arguments.ram,
    };
    let dataset = Dataset::open_with(&arguments.dataset, &arguments.reading.options())?;
    let own = plan_file(&arguments.out);
    let plan = match &arguments.plan {
        Some(path) => Plan::load(path)?,
        None if own.exists() => {
            anyhow::ensure!(
                arguments.planning == Planning::default(),
                "{}: is the plan of this cache; delete it to plan anew with other options",
                own.display()
            );
            eprintln!("using {}; delete it to plan anew", own.display());
            Plan::load(&own)?
        }
        None => {
            let found = device::list_for(arguments.device);
            let cpu = device::choose(arguments.device, &found)?.kind == "cpu";
            let fingerprint = plan::fingerprint(&dataset, arguments.ram)?;
            let planning = &arguments.planning;
            memory::plan(&dataset, &fingerprint, planning, cpu, memory::of_planned)?
        }
    };
    check_fit(&plan, &dataset)?;
    std::fs::create_dir_all(&arguments.out).with_context(|| arguments.out.display().to_string())?;
    if own.exists() {
        anyhow::ensure!(
            Plan::load(&own)? == plan,
            "{}: is another plan than --plan; choose another --out, or delete it to preprocess anew",
            own.display()
        );
    } else {
        write_json(&own, &plan)?;
    }
    write_json(&dtype_file(&arguments.out), &options.dtype)?;
    // As every later command reads it: JSON may change a number's last digit, and the cache would not fit then.
    let plan = Plan::load(&own)?;
    let cache = fill(&arguments.out, &dataset, &plan, &options)?;
    let bytes = cache.bytes()?;
    let seconds = started.elapsed().as_secs_f64();
    if arguments.json {
        let cases: Vec<_> = cache
            .cases()
            .iter()
            .map(|case| {
                serde_json::json!({
                    "case": case.id, "file": case.path(), "shape": case.shape, "channels": case.channels,
                })
            })
            .collect();
        let summary = serde_json::json!({
            "directory": arguments.out, "plan": own, "cache_dtype": options.dtype, "bytes": bytes,
            "seconds": seconds, "cases": cases,
        });
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        println!(
            "{}: {} cases, {:.1} MB, {seconds:.1} s",
            arguments.out.display(),
            cache.cases().len(),
            bytes as f64 / 1e6
        );
        println!(
            "train with: arl train {} --cache {} --out RUN{}",
            arguments.dataset.display(),
            arguments.out.display(),
            arguments.reading.words()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// What `arl preprocess` made a cache with.
pub struct Description {
    /// The file of its plan.
    pub plan: PathBuf,
    /// Number format of its intensities.
    pub cache_dtype: CacheDtype,
}

/// What the cache in a directory was made with; `None` where `arl preprocess` has made none.
pub fn description(directory: &Path) -> anyhow::Result<Option<Description>> {
    let plan = plan_file(directory);
    if !plan.exists() {
        return Ok(None);
    }
    let cache_dtype = read_json(&dtype_file(directory))?;
    Ok(Some(Description { plan, cache_dtype }))
}

fn plan_file(directory: &Path) -> PathBuf {
    directory.join("plan.json")
}

fn dtype_file(directory: &Path) -> PathBuf {
    directory.join("cache_dtype.json")
}

/// Opens a cache and makes what it lacks, with progress.
pub fn fill(
    directory: &Path,
    dataset: &Dataset,
    plan: &Plan,
    options: &CacheOptions,
) -> anyhow::Result<Cache> {
    let progress = CaseProgress::new("preprocessing cases");
    Ok(Cache::open_or_build(
        directory,
        dataset,
        plan,
        options,
        &|done, total| progress.show(done, total),
    )?)
}
