//! What the cache does where the machine fails: a full disk, a directory that cannot be used.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use arl_data::cache::{Cache, CacheOptions};
use arl_data::fingerprint::Fingerprint;
use arl_data::phantom::{CohortConfig, write_cohort};
use arl_data::plan::{Plan, PlanOptions, Preset};
use arl_data::{DataError, Dataset};

/// Three small cases, and a plan for them.
fn cohort(folder: &Path) -> (Dataset, Plan) {
    let config = CohortConfig {
        training: 3,
        test: 0,
        shape: [32, 48, 48],
        spacing: [3.75, 2.0, 2.0],
        ..CohortConfig::default()
    };
    write_cohort(folder, &config, &|_, _| {}).unwrap();
    let dataset = Dataset::open(folder).unwrap();
    let fingerprint = Fingerprint::extract(&dataset, &|_, _| {}).unwrap();
    let options = PlanOptions::new(Preset::Cpu);
    let plan = Plan::new(&dataset, &fingerprint, &options).unwrap();
    (dataset, plan)
}

fn build(directory: &Path, (dataset, plan): &(Dataset, Plan)) -> Result<Cache, DataError> {
    let options = CacheOptions {
        // One case after the other.
        memory: 1,
        ..CacheOptions::default()
    };
    Cache::open_or_build(directory, dataset, plan, &options, &|_, _| {})
}

fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// A small disk, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, bytes: u64) -> Option<Self> {
        fs::create_dir(at).unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(at)
            .stderr(Stdio::null())
            .status();
        status
            .is_ok_and(|s| s.success())
            .then(|| Self(at.to_owned()))
    }

    fn grow(&self, bytes: u64) {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,size={bytes}")])
            .arg(&self.0)
            .status();
        assert!(status.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_one_line_and_what_was_finished_stays() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = cohort(&folder.path().join("dataset"));
    let ample = folder.path().join("ample");
    let bytes = build(&ample, &cohort).unwrap().bytes().unwrap();

    // Room for one case and a half.
    let Some(disk) = SmallDisk::mount(&folder.path().join("disk"), bytes / 2) else {
        println!("skipped: a small disk (tmpfs) can only be mounted by root");
        return;
    };
    let message = build(&disk.0, &cohort).unwrap_err().to_string();
    assert!(message.contains(".arlcache: "), "{message}");
    assert!(message.contains("free some space"), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    let finished = files(&disk.0);
    assert_eq!(
        finished.len(),
        1,
        "one case is whole, nothing is half: {finished:?}"
    );
    let path = disk.0.join(&finished[0]);
    let written = fs::metadata(&path).unwrap().modified().unwrap();

    disk.grow(2 * bytes);
    let cache = build(&disk.0, &cohort).unwrap();
    assert_eq!(cache.cases().len(), 3);
    assert_eq!(files(&disk.0).len(), 3);
    let again = fs::metadata(&path).unwrap().modified().unwrap();
    assert_eq!(written, again, "the finished case is kept");
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = cohort(&folder.path().join("dataset"));
    let file = folder.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    let message = build(&file, &cohort).unwrap_err().to_string();
    assert!(message.contains("file"), "{message}");

    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(closed.join("probe"), "").is_ok() {
        println!("skipped: root may write everywhere");
        return;
    }
    let message = build(&closed, &cohort).unwrap_err().to_string();
    assert!(
        message.contains("closed") && message.contains("permissions"),
        "{message}"
    );
}

#[test]
fn a_source_that_changes_is_preprocessed_again() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = cohort(&folder.path().join("dataset"));
    let directory = folder.path().join("cache");
    build(&directory, &cohort).unwrap();
    let stamp = |id: &str| {
        let path = directory.join(format!("{id}.arlcache"));
        fs::metadata(path).unwrap().modified().unwrap()
    };
    let ids: Vec<_> = cohort
        .0
        .training
        .iter()
        .map(|case| case.id.clone())
        .collect();
    let before: Vec<_> = ids.iter().map(|id| stamp(id)).collect();
    let path = cohort.0.training[1].label.as_ref().unwrap();
    let mut labels = arl_data::formats::read_labels(path).unwrap();
    labels.data.fill(1);
    arl_data::formats::write_labels(path, &labels).unwrap();
    let cache = build(&directory, &cohort).unwrap();
    let after: Vec<_> = ids.iter().map(|id| stamp(id)).collect();
    assert!(before[0] == after[0] && before[1] < after[1] && before[2] == after[2]);
    assert_eq!(cache.cases()[1].foreground_classes(), [1]);
}
