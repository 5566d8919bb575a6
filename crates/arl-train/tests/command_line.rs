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
    let image = arl_data::nifti::read_geometry(&images.join("phantom_test_000_0000.nii.gz"));
    let image = image.or_else(|_| {
        let first = fs::read_dir(&images)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        arl_data::nifti::read_geometry(&first)
    });
    let predicted = fs::read_dir(&out).unwrap().next().unwrap().unwrap().path();
    let predicted = arl_data::nifti::read_labels(&predicted).unwrap();
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

    // A residual encoder is refused before anything is written, and so is a plan with a misspelt field.
    let run = directory.path().join("run");
    let train = [
        "train",
        text(&dataset),
        "--out",
        text(&run),
        "--device",
        "cpu",
    ];
    let residual = arl(&[&train[..], &["--preset", "resenc-m"]].concat());
    assert_one_line(&residual, &["residual encoder", "--preset plain"]);
    let file = directory.path().join("plan.json");
    let misspelt = small.to_string().replace("batch_size", "bach_size");
    fs::write(&file, misspelt).unwrap();
    let misspelt = arl(&[&train[..], &["--plan", text(&file)]].concat());
    assert_one_line(&misspelt, &["plan.json", "bach_size"]);
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

    let mut volume = arl_data::nifti::read_labels(&labels[0]).unwrap();
    volume.data[[0, 0, 0]] = 77;
    arl_data::nifti::write_labels(&labels[0], &volume).unwrap();
    assert_one_line(&train(), &[&name, "77"]);
    let small = ndarray::Array3::zeros([4, 4, 4]);
    let geometry = arl_data::Geometry::new([4, 4, 4], volume.geometry.affine);
    arl_data::nifti::write_labels(&labels[0], &arl_data::Volume::new(small, geometry)).unwrap();
    assert_one_line(&train(), &[&name]);
    fs::write(&labels[0], &good).unwrap();

    let image = dataset.join("imagesTr").join(format!("{stem}_0000.nii.gz"));
    let mut volume = arl_data::nifti::read_image(&image).unwrap();
    volume.data[[1, 2, 3]] = f32::NAN;
    arl_data::nifti::write_image(&image, &volume).unwrap();
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
