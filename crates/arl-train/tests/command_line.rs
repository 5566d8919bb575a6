//! The command line as a user meets it: the whole way on a drawn cohort and on a real CT, and what faulty input gets.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use arl_data::phantom::{CohortConfig, write_cohort};

fn arl(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_arl"))
        .args(words)
        .output()
        .expect("the binary starts")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}

/// Two training cases and one test case.
fn cohort(directory: &Path) -> PathBuf {
    let dataset = directory.join("dataset");
    let config = CohortConfig {
        training: 2,
        test: 1,
        ..CohortConfig::default()
    };
    write_cohort(&dataset, &config, &|_, _| ()).expect("the cohort is written");
    dataset
}

/// Exit code 1, one line that begins with `error:` and holds every word, and no panic.
fn assert_one_line(output: &Output, words: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    let errors: Vec<&str> = message
        .lines()
        .filter(|line| line.contains("error:"))
        .collect();
    assert_eq!(errors.len(), 1, "{message}");
    for word in words {
        assert!(errors[0].contains(word), "{word:?} is not in {message}");
    }
    assert!(!message.contains("panicked"), "{message}");
}

fn assert_success(output: &Output) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
}

#[test]
fn a_run_trains_predicts_on_the_input_grid_and_is_scored() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = cohort(directory.path());
    let (run, out) = (directory.path().join("run"), directory.path().join("out"));
    let words = ["--epochs", "1", "--steps-per-epoch", "2", "--device", "cpu"];
    let loader = ["--workers", "2", "--loader-memory", "50MB", "--batch", "2"];
    let trained = arl(&[
        &["train", text(&dataset), "--out", text(&run)],
        &words[..],
        &loader[..],
    ]
    .concat());
    assert_success(&trained);
    let message = String::from_utf8_lossy(&trained.stderr);
    assert!(message.contains("data wait"), "{message}");
    let log = fs::read_to_string(run.join("log.jsonl")).unwrap();
    let entry: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!(entry["epoch"], 1);
    assert!(entry["loss"].as_f64().unwrap() > 0.0);
    let wait = entry["data_wait_percent"].as_f64().unwrap();
    assert!((0.0..=100.0).contains(&wait), "{wait}");
    let images = dataset.join("imagesTs");
    assert_success(&arl(&[
        "predict",
        text(&run),
        text(&images),
        "--out",
        text(&out),
        "--device",
        "cpu",
    ]));
    let image = arl_data::formats::read_geometry(&images.join("phantom_test_000_0000.nii.gz"));
    let image = image.or_else(|_| {
        let first = fs::read_dir(&images)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        arl_data::formats::read_geometry(&first)
    });
    let predicted = fs::read_dir(&out).unwrap().next().unwrap().unwrap().path();
    let predicted = arl_data::formats::read_labels(&predicted).unwrap();
    predicted.geometry.matches(&image.unwrap()).unwrap();
    let scored = arl(&[
        "evaluate",
        text(&out),
        text(&dataset.join("labelsTs")),
        "--json",
    ]);
    assert_success(&scored);
    let summary: serde_json::Value = serde_json::from_slice(&scored.stdout).unwrap();
    assert_eq!(summary["metric_per_case"].as_array().unwrap().len(), 1);
    assert!(out.join("summary.json").is_file());
    let config = fs::read_to_string(run.join("config.json")).unwrap();
    assert!(
        config.contains("\"region_reduction\": \"present\""),
        "{config}"
    );
    let saved: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(saved["workers"], 2);
    assert_eq!(saved["loader_memory"], 50_000_000);
    assert_eq!(saved["planning"]["batch"], 2);
    let plan = fs::read_to_string(run.join("plan.json")).unwrap();
    assert!(plan.contains("\"batch_size\": 2"), "{plan}");
    // The same image with its axes another way gets the same labels, on its own grid.
    let path = fs::read_dir(&images)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let image = arl_data::formats::read_image(&path).unwrap();
    let turned = arl_data::orientation::reorient(&image, "PSL").unwrap();
    assert_ne!(turned.data.dim(), image.data.dim());
    let other = directory.path().join("turned");
    fs::create_dir(&other).unwrap();
    let file = other.join("turned.nii.gz");
    arl_data::formats::write_image(&file, &turned).unwrap();
    let labels = other.join("labels");
    let words = ["predict", text(&run), text(&file), "--out", text(&labels)];
    assert_success(&arl(&[&words[..], &["--device", "cpu"]].concat()));
    let found = arl_data::formats::read_labels(&labels.join("turned.nii.gz")).unwrap();
    found.geometry.matches(&turned.geometry).unwrap();
    let codes = arl_data::orientation::axis_codes(&image.geometry.affine);
    let back = arl_data::orientation::reorient(&found, &codes).unwrap();
    assert!(
        predicted.data.iter().any(|&label| label > 0),
        "all is background"
    );
    assert_eq!(back.data, predicted.data);
    // What exists is not overwritten.
    let again = arl(&[
        "predict",
        text(&run),
        text(&images),
        "--out",
        text(&out),
        "--device",
        "cpu",
    ]);
    assert_one_line(&again, &["exists", "--force"]);
    let again = arl(&[
        "train",
        text(&dataset),
        "--out",
        text(&run),
        "--device",
        "cpu",
    ]);
    assert_one_line(&again, &["not empty", "--force"]);

    // A run keeps its options, and a run of another version is not guessed at.
    let words = ["train", text(&dataset), "--out", text(&run), "--resume"];
    let other = arl(&[&words[..], &["--region-reduction", "mean"]].concat());
    assert_one_line(&other, &["--resume", "own configuration"]);
    let version = format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION"));
    let old = config.replace(&version, "\"version\": \"0.0.1\"");
    assert_ne!(old, config);
    fs::write(
        run.join("config.json"),
        old.replace("\"region_reduction\"", "\"gone\""),
    )
    .unwrap();
    assert_one_line(&arl(&words), &["0.0.1", "train anew"]);
}

#[test]
fn a_plan_follows_its_options_and_a_wrong_one_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = cohort(directory.path());
    let plan = |words: &[&str]| {
        let output = arl(&[&["plan", text(&dataset), "--device", "cpu"], words].concat());
        let plan = serde_json::from_slice::<serde_json::Value>(&output.stdout);
        (output, plan.unwrap_or_default())
    };
    let (_, small) = plan(&["--json"]);
    assert_eq!(small["architecture"], "plain");
    assert_eq!(small["stem_stride"], serde_json::json!([1, 2, 2]));
    let (_, residual) = plan(&["--preset", "resenc-l", "--memory", "12GB", "--json"]);
    assert_eq!(residual["architecture"], "residual_encoder");
    assert_eq!(residual["stages"][1]["blocks"], 3);
    let (_, asked) = plan(&[
        "--patch",
        "30,40,41",
        "--spacing",
        "4,4,4",
        "--batch",
        "3",
        "--json",
    ]);
    assert_eq!(asked["target_spacing"], serde_json::json!([4.0, 4.0, 4.0]));
    assert_eq!(asked["batch_size"], 3);
    let words = plan(&["--preset", "plain"]).0.stdout;
    let words = String::from_utf8_lossy(&words);
    assert!(
        words.contains("plain U-Net") && words.contains("GB"),
        "{words}"
    );
    assert_one_line(&plan(&["--memory", "8GB"]).0, &["cpu", "no memory budget"]);
    assert_one_line(&plan(&["--preset", "plain", "--memory", "1kB"]).0, &["GB"]);

    // A plan with a misspelt field is refused before anything is written; one for a residual encoder trains.
    let run = directory.path().join("run");
    let train = [
        "train",
        text(&dataset),
        "--out",
        text(&run),
        "--device",
        "cpu",
    ];
    let file = directory.path().join("plan.json");
    let misspelt = small.to_string().replace("batch_size", "bach_size");
    fs::write(&file, misspelt).unwrap();
    let misspelt = arl(&[&train[..], &["--plan", text(&file)]].concat());
    assert_one_line(&misspelt, &["plan.json", "bach_size"]);
    assert!(!run.exists());
    let mut residual = small;
    residual["architecture"] = "residual_encoder".into();
    fs::write(&file, residual.to_string()).unwrap();
    let words = [
        "--plan",
        text(&file),
        "--epochs",
        "1",
        "--steps-per-epoch",
        "1",
    ];
    assert_success(&arl(&[&train[..], &words].concat()));
}

#[test]
fn every_network_trains_with_chosen_layers_and_predicts() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = cohort(directory.path());
    let (cache, images) = (directory.path().join("cache"), dataset.join("imagesTs"));
    let cpu = ["--device", "cpu"];
    let coarse = ["--spacing", "8,8,8", "--patch", "16,16,32"];
    let words = ["preprocess", text(&dataset), "--out", text(&cache)];
    assert_success(&arl(&[&words[..], &coarse, &cpu].concat()));
    let short = ["--epochs", "1", "--steps-per-epoch", "1"];
    for (model, normalization, activation) in [
        ("unet", "group:2", "relu"),
        ("vnet", "none", "leaky-relu:0.2"),
        ("vnet-prototxt", "instance", "prelu"),
        ("cicek-unet", "batch", "prelu"),
    ] {
        let (run, out) = (
            directory.path().join(model),
            directory.path().join(format!("{model}-predictions")),
        );
        let words = ["train", text(&dataset), "--out", text(&run)];
        let chosen = [
            "--model",
            model,
            "--normalization",
            normalization,
            "--activation",
            activation,
            "--dropout",
            "0.1",
            "--gradient-checkpointing",
        ];
        let from = ["--cache", text(&cache)];
        assert_success(&arl(&[&words[..], &chosen, &from, &short, &cpu].concat()));
        let words = ["predict", text(&run), text(&images), "--out", text(&out)];
        assert_success(&arl(&[&words[..], &cpu].concat()));
        assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
        let config = fs::read_to_string(run.join("config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["layers"]["dropout"], 0.1);
        assert_eq!(config["gradient_checkpointing"], true);
    }

    // A configuration is a file to start from, but the cache in it belongs to its own dataset.
    let (other, run) = (directory.path().join("other"), directory.path().join("run"));
    fs::create_dir(&other).unwrap();
    let other = cohort(&other);
    let config = directory.path().join("cicek-unet").join("config.json");
    let words = ["train", text(&other), "--out", text(&run)];
    let from = ["--config", text(&config), "--model", "unet"];
    assert_success(&arl(&[&words[..], &from, &cpu].concat()));
    let saved = fs::read_to_string(run.join("config.json")).unwrap();
    let saved: serde_json::Value = serde_json::from_str(&saved).unwrap();
    assert_eq!(saved["cache"], serde_json::Value::Null);
    assert_eq!(saved["layers"]["normalization"], "batch");

    let wrong = arl(&[&words[..], &["--normalization", "layer"]].concat());
    assert_eq!(wrong.status.code(), Some(2));
    let message = String::from_utf8_lossy(&wrong.stderr);
    assert!(message.contains("group:8"), "{message}");
    let run = directory.path().join("refused");
    let words = ["train", text(&dataset), "--out", text(&run)];
    let bf16 = arl(&[&words[..], &["--precision", "bf16"], &cpu].concat());
    assert_one_line(&bf16, &["bf16", "GPU"]);
    let huge = arl(&[&words[..], &["--patch", "1024,1024,1024"], &cpu].concat());
    assert_one_line(&huge, &["GB", "--gradient-checkpointing"]);
    let wrong = arl(&[&words[..], &["--normalization", "group:7"], &cpu].concat());
    assert_one_line(&wrong, &["7 groups", "features"]);
    assert!(!run.exists());
}

#[test]
fn a_killed_training_goes_on_from_its_last_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = cohort(directory.path());
    let run = directory.path().join("run");
    let mut training = Command::new(env!("CARGO_BIN_EXE_arl"))
        .args([
            "train",
            text(&dataset),
            "--out",
            text(&run),
            "--device",
            "cpu",
        ])
        .args(["--epochs", "100", "--steps-per-epoch", "1"])
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let complete = || {
        let entries = fs::read_dir(run.join("checkpoints"))
            .into_iter()
            .flatten()
            .flatten();
        entries
            .filter(|entry| entry.path().join("complete.json").is_file())
            .count()
    };
    while complete() < 2 {
        assert!(
            started.elapsed() < Duration::from_secs(240),
            "no checkpoint in time"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    training.kill().unwrap();
    training.wait().unwrap();
    let log = fs::read_to_string(run.join("log.jsonl")).unwrap();
    let before = log.lines().count();
    let epochs = (before + 2).to_string();
    let resumed = arl(&[
        "train",
        text(&dataset),
        "--out",
        text(&run),
        "--resume",
        "--epochs",
        &epochs,
    ]);
    assert_success(&resumed);
    let message = String::from_utf8_lossy(&resumed.stderr).into_owned();
    assert!(message.contains("going on after epoch"), "{message}");
    let log = fs::read_to_string(run.join("log.jsonl")).unwrap();
    let last: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(last["epoch"].to_string(), epochs);
    assert_eq!(
        last["steps"].to_string(),
        epochs,
        "no step was lost or repeated"
    );
}

/// The plan of a dataset with another target spacing, in a file.
fn plan_at(directory: &Path, dataset: &Path, spacing: f64) -> PathBuf {
    let plan = arl(&["plan", text(dataset), "--device", "cpu", "--json"]);
    assert_success(&plan);
    let mut plan: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
    plan["target_spacing"] = serde_json::json!([spacing, spacing, spacing]);
    let file = directory.join("plan.json");
    fs::write(&file, plan.to_string()).unwrap();
    file
}

/// The names of the files in a cache and when each was written.
fn cached(directory: &Path) -> Vec<(String, std::time::SystemTime)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata()))
        .filter(|(name, _)| name.ends_with(".arlcache"))
        .map(|(name, metadata)| (name, metadata.unwrap().modified().unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_cache_is_filled_once_and_trained_from() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = cohort(directory.path());
    let (cache, run) = (directory.path().join("cache"), directory.path().join("run"));
    let words = [
        "preprocess",
        text(&dataset),
        "--out",
        text(&cache),
        "--device",
        "cpu",
        "--json",
    ];
    let filled = arl(&[&words[..], &["--cache-dtype", "f16"]].concat());
    assert_success(&filled);
    let summary: serde_json::Value = serde_json::from_slice(&filled.stdout).unwrap();
    assert_eq!(summary["cases"].as_array().unwrap().len(), 2);
    assert_eq!(summary["cache_dtype"], "f16");
    let first = cached(&cache);
    let bytes: u64 = (first.iter())
        .map(|(name, _)| fs::metadata(cache.join(name)).unwrap().len())
        .sum();
    assert_eq!(summary["bytes"], bytes);

    let train =
        |more: &[&str]| arl(&[&["train", text(&dataset), "--out", text(&run)], more].concat());
    let words = ["--epochs", "1", "--steps-per-epoch", "1", "--device", "cpu"];
    let shared = ["--cache", text(&cache)];
    assert_success(&train(&[&words[..], &shared].concat()));
    assert_eq!(cached(&cache), first, "the training used what was there");
    let config = fs::read_to_string(run.join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["cache_dtype"], "f16");
    assert_eq!(config["cache"], text(&cache));
    let plan = |directory: &Path| fs::read_to_string(directory.join("plan.json")).unwrap();
    assert_eq!(plan(&run), plan(&cache));

    // What the cache was not made with is refused, not put in its place.
    let refused = |more: &[&str]| {
        let out = directory.path().join("refused");
        let words = [
            &["train", text(&dataset), "--out", text(&out)],
            &words[..],
            &shared,
            more,
        ];
        let output = arl(&words.concat());
        assert!(!out.exists());
        output
    };
    assert_one_line(&refused(&["--cache-dtype", "f32"]), &["plan.json", "f16"]);
    assert_one_line(
        &refused(&["--patch", "32,32,32"]),
        &["plan.json", "--patch"],
    );
    let description = dataset.join("dataset.json");
    let named = fs::read_to_string(&description).unwrap();
    let mut renamed: serde_json::Value = serde_json::from_str(&named).unwrap();
    renamed["name"] = "Other".into();
    fs::write(&description, renamed.to_string()).unwrap();
    assert_one_line(&refused(&[]), &["plan.json", "Other"]);
    assert_one_line(&train(&["--resume"]), &["plan.json", "Other"]);
    fs::write(&description, named).unwrap();
    assert_eq!(cached(&cache), first);

    // Another plan needs another cache.
    let other = plan_at(directory.path(), &dataset, 4.0);
    let words = [
        "preprocess",
        text(&dataset),
        "--out",
        text(&cache),
        "--plan",
        text(&other),
    ];
    assert_one_line(&arl(&words), &["plan.json", "another --out"]);

    // Damage in the middle of the voxels is found when a patch needs them; the line says how to go on.
    for (name, _) in &first {
        let mut bytes = fs::read(cache.join(name)).unwrap();
        let part = bytes.len() / 4..bytes.len() / 2;
        bytes[part].iter_mut().for_each(|byte| *byte ^= 0x55);
        fs::write(cache.join(name), bytes).unwrap();
    }
    let damaged = train(&["--resume", "--epochs", "40"]);
    assert_one_line(&damaged, &[".arlcache", "damaged", "delete the file"]);
    for (name, _) in &first {
        fs::remove_file(cache.join(name)).unwrap();
    }
    assert_success(&train(&["--resume", "--epochs", "2"]));
}

#[test]
fn a_killed_preprocessing_keeps_its_finished_cases() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = cohort(directory.path());
    let plan = plan_at(directory.path(), &dataset, 0.5);
    let cache = directory.path().join("cache");
    // A budget that no case fits in: one after the other.
    let words = [
        "preprocess",
        text(&dataset),
        "--out",
        text(&cache),
        "--plan",
        text(&plan),
        "--ram",
        "1MB",
    ];
    let mut preprocessing = Command::new(env!("CARGO_BIN_EXE_arl"))
        .args(words)
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let finished = || {
        let files = cached(&cache).into_iter();
        files
            .filter(|(name, _)| !name.starts_with('.'))
            .collect::<Vec<_>>()
    };
    while finished().is_empty() {
        assert!(
            started.elapsed() < Duration::from_secs(240),
            "no case in time"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    preprocessing.kill().unwrap();
    preprocessing.wait().unwrap();
    let before = finished();
    let again = arl(&words);
    assert_success(&again);
    let after = cached(&cache);
    assert_eq!(after.len(), 2, "two cases and no leftovers: {after:?}");
    assert!(
        before.iter().all(|file| after.contains(file)),
        "{before:?} {after:?}"
    );
    let message = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(before.len() == 2 || message.contains("alone"), "{message}");
}

#[cfg(unix)]
#[test]
fn a_training_killed_while_it_preprocesses_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = cohort(directory.path());
    let plan = plan_at(directory.path(), &dataset, 1.0);
    let run = directory.path().join("run");
    let mut training = Command::new(env!("CARGO_BIN_EXE_arl"))
        .args(["train", text(&dataset), "--out", text(&run)])
        .args(["--plan", text(&plan), "--device", "cpu"])
        .args(["--epochs", "1", "--steps-per-epoch", "1"])
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while !run.join("config.json").exists() {
        assert!(
            started.elapsed() < Duration::from_secs(240),
            "no run in time"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    training.kill().unwrap();
    training.wait().unwrap();
    assert!(
        cached(&run.join("cache")).len() < 2,
        "it was killed too late"
    );
    let words = ["train", text(&dataset), "--out", text(&run), "--resume"];
    assert_success(&arl(&words));
    assert_eq!(cached(&run.join("cache")).len(), 2);
}

#[test]
fn a_full_disk_is_one_line_and_leaves_nothing_half_written() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = cohort(directory.path());
    let disk = directory.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=192k", "tmpfs", text(&disk)])
        .stderr(std::process::Stdio::null())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("skipped: a small disk (tmpfs) can only be mounted by root");
        return;
    }
    let words = [
        "preprocess",
        text(&dataset),
        "--out",
        text(&disk),
        "--device",
        "cpu",
    ];
    let full = arl(&words);
    let left: Vec<_> = fs::read_dir(&disk)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    let unmounted = Command::new("umount").arg(&disk).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
    assert_one_line(&full, &[".arlcache", "No space left", "free some space"]);
    let whole = |name: &std::ffi::OsString| name == "plan.json" || name == "cache_dtype.json";
    assert!(left.iter().all(whole), "{left:?}");
}

#[test]
fn a_preview_shows_the_patches_and_ends_before_training() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = cohort(directory.path());
    let at = |name: &str| directory.path().join(name);
    let (run, picture, mine) = (at("run"), at("preview.png"), at("mine.json"));
    let train = |words: &[&str]| {
        let first = [
            "train",
            text(&dataset),
            "--out",
            text(&run),
            "--device",
            "cpu",
        ];
        arl(&[&first[..], words].concat())
    };
    assert_one_line(&train(&["--augment", "heavy"]), &["heavy", "nnunet"]);
    fs::write(&mine, r#"{"spatial": {"rotation": {"probability": 2}}}"#).unwrap();
    assert_one_line(
        &train(&["--augment", text(&mine)]),
        &["mine.json", "rotation", "0 to 1"],
    );
    assert!(!run.exists());

    fs::write(&mine, r#"{"spatial": {"rotation": {"probability": 1}}}"#).unwrap();
    assert_success(&train(&[
        "--augment",
        text(&mine),
        "--preview",
        text(&picture),
    ]));
    let first = fs::read(&picture).unwrap();
    assert!(first.starts_with(b"\x89PNG") && first.len() > 10_000);
    let config = fs::read_to_string(run.join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["augment"]["spatial"]["rotation"]["probability"], 1.0);
    assert!(!run.join("log.jsonl").exists(), "nothing was trained");

    // Another augmentation can be looked at, and no picture is overwritten.
    let other = at("other.png");
    let words = ["--resume", "--augment", "nnunet", "--preview"];
    assert_success(&train(&[&words[..], &[text(&other)]].concat()));
    assert_ne!(fs::read(&other).unwrap(), first);
    assert_one_line(
        &train(&[&words[..], &[text(&picture)]].concat()),
        &["preview.png", "exists"],
    );
    assert_one_line(&train(&words[..3]), &["--resume", "own configuration"]);
}

#[test]
fn faulty_input_gets_one_line_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = cohort(directory.path());
    let run = directory.path().join("run");
    let train = || {
        arl(&[
            "train",
            text(&dataset),
            "--out",
            text(&run),
            "--device",
            "cpu",
            "--epochs",
            "1",
        ])
    };
    let missing = directory.path().join("nowhere");
    assert_one_line(
        &arl(&["train", text(&missing), "--out", text(&run)]),
        &["nowhere"],
    );

    let mut labels: Vec<_> = fs::read_dir(dataset.join("labelsTr"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    labels.sort();
    let good = fs::read(&labels[0]).unwrap();
    let name = labels[0].file_name().unwrap().to_str().unwrap().to_owned();
    let stem = name.trim_end_matches(".nii.gz").to_owned();
    fs::remove_file(&labels[0]).unwrap();
    assert_one_line(&train(), &[&stem]);
    fs::write(&labels[0], &good[..good.len() / 2]).unwrap();
    assert_one_line(&train(), &[&name]);
    fs::write(&labels[0], "this is a text file\n".repeat(40)).unwrap();
    assert_one_line(&train(), &[&name]);
    fs::write(&labels[0], &good).unwrap();

    let mut volume = arl_data::formats::read_labels(&labels[0]).unwrap();
    volume.data[[0, 0, 0]] = 77;
    arl_data::formats::write_labels(&labels[0], &volume).unwrap();
    assert_one_line(&train(), &[&name, "77"]);
    let small = ndarray::Array3::zeros([4, 4, 4]);
    let geometry = arl_data::Geometry::new([4, 4, 4], volume.geometry.affine);
    arl_data::formats::write_labels(&labels[0], &arl_data::Volume::new(small, geometry)).unwrap();
    assert_one_line(&train(), &[&name]);
    fs::write(&labels[0], &good).unwrap();

    let image = dataset.join("imagesTr").join(format!("{stem}_0000.nii.gz"));
    let mut volume = arl_data::formats::read_image(&image).unwrap();
    volume.data[[1, 2, 3]] = f32::NAN;
    arl_data::formats::write_image(&image, &volume).unwrap();
    assert_one_line(&train(), &[&format!("{stem}_0000.nii.gz"), "NaN"]);
    assert!(!run.exists(), "nothing is written for a faulty dataset");
}

#[test]
fn a_gpu_that_is_not_there_is_refused_before_anything_is_written() {
    let devices = arl(&["devices", "--json"]);
    assert_success(&devices);
    let devices: serde_json::Value = serde_json::from_slice(&devices.stdout).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let dataset = cohort(directory.path());
    for kind in ["wgpu", "cuda"] {
        let found = devices["devices"].as_array().unwrap().iter();
        let found = found.clone().find(|device| device["kind"] == kind).unwrap();
        if found["usable"] == true {
            println!("skipped for {kind}: {} is here", found["name"]);
            continue;
        }
        let run = directory.path().join("run");
        let words = [
            "train",
            text(&dataset),
            "--out",
            text(&run),
            "--device",
            kind,
        ];
        assert_one_line(&arl(&words), &[&format!("--device {kind}"), "arl devices"]);
        assert!(!run.exists());
    }
}

#[test]
fn a_training_on_wgpu_takes_its_steps() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = cohort(directory.path());
    // The smallest network: software that imitates a GPU takes seconds for a step of it.
    let plan = arl(&["plan", text(&dataset), "--device", "cpu", "--json"]);
    assert_success(&plan);
    let mut plan: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
    let stages = plan["stages"].as_array_mut().unwrap();
    stages.truncate(2);
    stages
        .iter_mut()
        .for_each(|stage| stage["features"] = 4.into());
    plan["patch_size"] = serde_json::json!([16, 16, 16]);
    let plan_file = directory.path().join("plan.json");
    fs::write(&plan_file, plan.to_string()).unwrap();
    let run = directory.path().join("run");
    let output = Command::new(env!("CARGO_BIN_EXE_arl"))
        .env("ARL_ALLOW_SOFTWARE_GPU", "1")
        .args([
            "train",
            text(&dataset),
            "--out",
            text(&run),
            "--plan",
            text(&plan_file),
        ])
        .args([
            "--device",
            "wgpu",
            "--epochs",
            "1",
            "--steps-per-epoch",
            "2",
        ])
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    if message.contains("no GPU") && std::env::var_os("ARL_EXPECT_WGPU").is_none() {
        println!("skipped: no GPU and no software Vulkan driver");
        return;
    }
    assert_success(&output);
    let log = fs::read_to_string(run.join("log.jsonl")).unwrap();
    let entry: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!(entry["steps"], 2);
    assert!(entry["loss"].as_f64().unwrap() > 0.0);
}

#[test]
fn an_unknown_loss_is_a_usage_error_that_lists_the_names() {
    let losses = &arl_loss::LossKind::NAMES[..];
    let reductions = &arl_loss::RegionReduction::NAMES[..];
    for (option, names) in [("--loss", losses), ("--region-reduction", reductions)] {
        let output = arl(&["train", "dataset", "--out", "run", option, "hinge"]);
        assert_eq!(output.status.code(), Some(2));
        let message = String::from_utf8_lossy(&output.stderr);
        for name in names {
            assert!(message.contains(name), "{name} is not in {message}");
        }
    }
}

#[test]
fn a_subset_of_a_real_ct_goes_the_whole_way() {
    let Ok(source) = std::env::var("ARL_CT_TORSO") else {
        println!("skipped: ARL_CT_TORSO does not name the directory of a CT cohort");
        return;
    };
    let source = PathBuf::from(source);
    let directory = tempfile::tempdir().unwrap();
    let dataset = directory.path().join("dataset");
    let copy = |folder: &str, name: &str| {
        fs::create_dir_all(dataset.join(folder)).unwrap();
        fs::copy(
            source.join(folder).join(name),
            dataset.join(folder).join(name),
        )
        .unwrap();
    };
    for case in ["torso_000", "torso_001"] {
        copy("imagesTr", &format!("{case}_0000.nii.gz"));
        copy("labelsTr", &format!("{case}.nii.gz"));
    }
    copy("imagesTs", "torso_test_000_0000.nii.gz");
    copy("labelsTs", "torso_test_000.nii.gz");
    let json = fs::read_to_string(source.join("dataset.json")).unwrap();
    fs::write(
        dataset.join("dataset.json"),
        json.replace("\"numTraining\": 20", "\"numTraining\": 2"),
    )
    .unwrap();
    let (run, out) = (directory.path().join("run"), directory.path().join("out"));
    assert_success(&arl(&["check", text(&dataset)]));
    let words = ["--epochs", "1", "--steps-per-epoch", "3", "--device", "cpu"];
    assert_success(&arl(&[
        &["train", text(&dataset), "--out", text(&run)],
        &words[..],
    ]
    .concat()));
    let images = dataset.join("imagesTs");
    assert_success(&arl(&[
        "predict",
        text(&run),
        text(&images),
        "--out",
        text(&out),
        "--device",
        "cpu",
    ]));
    let scored = arl(&[
        "evaluate",
        text(&out),
        text(&dataset.join("labelsTs")),
        "--json",
    ]);
    assert_success(&scored);
    let summary: serde_json::Value = serde_json::from_slice(&scored.stdout).unwrap();
    assert!(summary["foreground_mean"]["Dice"].is_number());
}

/// A bright ball with a brighter core in noise, on 24³ voxels of 1 mm; a corner is not to be judged. The label maps hold
/// 10, 20 and 30.
fn tumours(directory: &Path) -> PathBuf {
    use arl_data::formats::{write_image, write_labels};
    let dataset = directory.join("dataset");
    for folder in ["imagesTr", "labelsTr", "imagesTs", "labelsTs"] {
        fs::create_dir_all(dataset.join(folder)).unwrap();
    }
    let shape = [24; 3];
    let geometry = arl_data::Geometry::from_spacing(shape, [1.0; 3]);
    for (case, set) in [(0, "Tr"), (1, "Tr"), (2, "Ts")] {
        let label = |(d, h, w): (usize, usize, usize)| {
            let distance =
                [(d, 11 + case), (h, 12), (w, 10 + case)].map(|(a, b)| a.abs_diff(b).pow(2));
            match distance.iter().sum::<usize>() {
                0..16 => 20,
                16..64 => 10,
                _ if d + h + w < 6 => 30,
                _ => 0,
            }
        };
        let labels = ndarray::Array3::from_shape_fn(shape, label);
        let mut noise = 1u32;
        let image = labels.mapv(|label: u16| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from(label % 30) * 10.0 + (noise >> 24) as f32 / 8.0 + 1.0
        });
        let place = |data| arl_data::Volume::new(data, geometry.clone());
        let images = dataset.join(format!("images{set}/case_{case}_0000.nii.gz"));
        write_image(&images, &arl_data::Volume::new(image, geometry.clone())).unwrap();
        write_labels(
            &dataset.join(format!("labels{set}/case_{case}.nii.gz")),
            &place(labels),
        )
        .unwrap();
    }
    fs::write(
        dataset.join("dataset.json"),
        r#"{"channel_names": {"0": "MR"}, "numTraining": 2, "file_ending": ".nii.gz", "regions_class_order": [1, 2],
            "labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}}"#,
    )
    .unwrap();
    dataset
}

#[test]
fn regions_and_remapped_labels_go_the_whole_way() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = tumours(directory.path());
    let (run, out) = (directory.path().join("run"), directory.path().join("out"));
    let remap = ["--remap-labels", "10:1,20:2,30:3"];
    let checked = arl(&["check", text(&dataset)]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&checked.stdout).contains("undeclared label values 10, 20, 30")
    );
    assert_success(&arl(&[&["check", text(&dataset)], &remap[..]].concat()));

    // The smallest network that can tell bright from dark.
    let words = ["plan", text(&dataset), "--device", "cpu", "--json"];
    let plan = arl(&[&words[..], &remap[..]].concat());
    assert_success(&plan);
    let mut plan: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
    assert_eq!(plan["regions"][0]["name"], "whole");
    let stages = plan["stages"].as_array_mut().unwrap();
    stages.truncate(2);
    stages
        .iter_mut()
        .for_each(|stage| stage["features"] = 8.into());
    plan["stem_stride"] = serde_json::json!([1, 1, 1]);
    plan["patch_size"] = serde_json::json!([16, 16, 16]);
    let plan_file = directory.path().join("plan.json");
    fs::write(&plan_file, plan.to_string()).unwrap();
    let train = [
        "train",
        text(&dataset),
        "--out",
        text(&run),
        "--plan",
        text(&plan_file),
        "--device",
        "cpu",
        "--loss",
        "arl+ce",
        "--epochs",
        "1",
        "--steps-per-epoch",
        "150",
        "--learning-rate",
        "0.01",
    ];
    // A plan of other regions is not trained on.
    let dull = fs::read_to_string(&plan_file)
        .unwrap()
        .replace("\"core\"", "\"other\"");
    let other_plan = directory.path().join("other.json");
    fs::write(&other_plan, dull).unwrap();
    let mut other = train;
    other[5] = text(&other_plan);
    assert_one_line(
        &arl(&[&other[..], &remap[..]].concat()),
        &["regions are not those of"],
    );
    let topk = train.map(|word| if word == "arl+ce" { "dice+topk" } else { word });
    let refused = arl(&[&topk[..], &remap[..]].concat());
    assert_one_line(&refused, &["--loss dice+topk", "exclude each other"]);
    assert!(!run.exists());
    assert_success(&arl(&[&train[..], &remap[..]].concat()));
    let config = fs::read_to_string(run.join("config.json")).unwrap();
    assert!(
        config.contains("\"remap_labels\": \"10:1,20:2,30:3\""),
        "{config}"
    );

    let images = dataset.join("imagesTs");
    assert_success(&arl(&[
        "predict",
        text(&run),
        text(&images),
        "--out",
        text(&out),
        "--device",
        "cpu",
    ]));
    let found = arl_data::formats::read_labels(&out.join("case_2.nii.gz")).unwrap();
    let truth = arl_data::formats::read_labels(&dataset.join("labelsTs/case_2.nii.gz")).unwrap();
    // Overlap of a region in both maps; the ignored corner is none of either.
    let dice = |found_in: &[u16], true_in: &[u16]| {
        let mut counts = [0.0; 2];
        for (found, truth) in found
            .data
            .iter()
            .zip(&truth.data)
            .filter(|(_, truth)| **truth != 30)
        {
            let (found, truth) = (found_in.contains(found), true_in.contains(truth));
            counts[0] += f64::from(u8::from(found && truth)) * 2.0;
            counts[1] += f64::from(u8::from(found)) + f64::from(u8::from(truth));
        }
        counts[0] / counts[1]
    };
    let (whole, core) = (dice(&[1, 2], &[10, 20]), dice(&[2], &[20]));
    assert!(
        whole > 0.7 && core > 0.6,
        "Dice {whole} of the whole, {core} of the core"
    );

    let reference = dataset.join("labelsTs");
    let words = ["evaluate", text(&out), text(&reference), "--json"];
    assert_one_line(
        &arl(&[&words[..], &["--remap-labels", "auto"]].concat()),
        &["config.json"],
    );
    assert_success(&arl(&[&words[..], &remap[..]].concat()));
    // A run goes on with what it was made with.
    let words = [
        "train",
        text(&dataset),
        "--out",
        text(&run),
        "--resume",
        "--epochs",
        "1",
    ];
    assert_one_line(
        &arl(&[&words[..], &remap[..]].concat()),
        &["own configuration"],
    );
    assert_success(&arl(&words));
}
