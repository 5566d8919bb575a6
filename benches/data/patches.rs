//! Random patches of 128³ from a case on disk, cold and warm, beside blosc2 as nnU-Net v2 stores a case and beside numpy's
//! memory map.
//!
//! Every reader is one thread. Cold: the file's pages are dropped from the operating system's cache before each patch.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use arl_data::cache::{Cache, CacheDtype, CacheOptions};
use arl_data::formats::{write_image, write_labels};
use arl_data::plan::Plan;
use arl_data::{Dataset, Geometry, Volume};
use ndarray::Array3;

use crate::peer;

/// The image's own voxels, of 0.8 mm.
const SOURCE: [usize; 3] = [320, 480, 480];
/// At 1 mm.
const SHAPE: [usize; 3] = [256, 384, 384];
const PATCH: [usize; 3] = [128; 3];
const COLD: usize = 12;
const WARM: usize = 24;

/// Tissue with the noise of a CT, in air, and six organs in it.
fn volumes() -> (Array3<f32>, Array3<u16>) {
    let mut state = 1u32;
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    let mut labels = Array3::zeros(SOURCE);
    let image = Array3::from_shape_fn(SOURCE, |at| {
        let [d, h, w] = [at.0, at.1, at.2].map(|i| i as f32);
        let (y, x) = (h / SOURCE[1] as f32 - 0.5, w / SOURCE[2] as f32 - 0.5);
        if x * x + y * y > 0.18 {
            return -1024.0;
        }
        let organ = (d / 60.0).sin() + (h / 40.0).cos() * (w / 50.0).sin();
        labels[at] = if organ > 0.5 {
            1 + (d as u16 / 50) % 6
        } else {
            0
        };
        let noise = uniform() + uniform() + uniform() - 1.5;
        (40.0 + 80.0 * organ + 40.0 * noise).round()
    });
    (image, labels)
}

fn write_dataset(folder: &Path) -> Dataset {
    let (image, labels) = volumes();
    for name in ["imagesTr", "labelsTr"] {
        std::fs::create_dir_all(folder.join(name)).unwrap();
    }
    let geometry = Geometry::from_spacing(SOURCE, [0.8; 3]);
    write_image(
        &folder.join("imagesTr/a_0000.nii"),
        &Volume::new(image, geometry.clone()),
    )
    .unwrap();
    write_labels(
        &folder.join("labelsTr/a.nii"),
        &Volume::new(labels, geometry),
    )
    .unwrap();
    let names = ["background", "a", "b", "c", "d", "e", "f"];
    let labels: serde_json::Map<String, serde_json::Value> = (0..)
        .zip(names)
        .map(|(value, name)| (name.into(), serde_json::json!(value)))
        .collect();
    let json = serde_json::json!({
        "channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii",
    });
    std::fs::write(folder.join("dataset.json"), json.to_string()).unwrap();
    Dataset::open(folder).unwrap()
}

/// Drops a file's pages from the operating system's cache.
fn forget(path: &Path) {
    let input = format!("if={}", path.display());
    let done = Command::new("dd")
        .args([&input, "iflag=nocache", "count=0", "status=none"])
        .status();
    assert!(
        done.is_ok_and(|status| status.success()),
        "dd cannot drop the cache of {input}"
    );
}

/// Starts that every reader uses.
fn starts(count: usize) -> Vec<[i64; 3]> {
    let mut state = 7u64;
    let mut below = |n: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as usize % n) as i64
    };
    (0..count)
        .map(|_| [0, 1, 2].map(|axis| below(SHAPE[axis] - PATCH[axis] + 1)))
        .collect()
}

pub fn run() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dataset = write_dataset(folder.path());
    let fingerprint = arl_data::fingerprint::Fingerprint::extract(&dataset, &|_, _| {}).unwrap();
    let plan = Plan::new(&dataset, &fingerprint, &plan_options()).unwrap();
    println!("patches of {PATCH:?} from {SHAPE:?} per second, 1 thread: cold, warm; MB on disk");
    let row = |name: &str, cold: f64, warm: f64, bytes: f64| {
        println!("{name:<28} {cold:>8.1} {warm:>8.1} {:>8.1}", bytes / 1e6);
    };
    let starts = starts(COLD + WARM);
    let mut rates = Vec::new();
    let mut sums = Vec::new();
    for dtype in [CacheDtype::F32, CacheDtype::F16] {
        let options = CacheOptions {
            dtype,
            ..CacheOptions::default()
        };
        let directory = folder.path().join(format!("{dtype:?}"));
        let begun = Instant::now();
        let cache =
            Cache::open_or_build(&directory, &dataset, &plan, &options, &|_, _| {}).unwrap();
        println!(
            "({dtype:?} preprocessed in {:.1} s)",
            begun.elapsed().as_secs_f64()
        );
        let case = &cache.cases()[0];
        assert_eq!(case.shape, SHAPE, "the plan's grid");
        let mut seconds = [0.0; 2];
        for (i, start) in starts.iter().enumerate() {
            let cold = i < COLD;
            if cold {
                forget(case.path());
            }
            let begun = Instant::now();
            let (image, labels) = case.read_patch(*start, PATCH, 0).unwrap();
            seconds[usize::from(!cold)] += begun.elapsed().as_secs_f64();
            if dtype == CacheDtype::F32 {
                let image: f64 = image.iter().map(|v| f64::from(*v)).sum();
                sums.push((image, labels.iter().map(|v| u64::from(*v)).sum::<u64>()));
            }
        }
        let rate = [COLD as f64 / seconds[0], WARM as f64 / seconds[1]];
        row(
            &format!("ours, {dtype:?}"),
            rate[0],
            rate[1],
            cache.bytes().unwrap() as f64,
        );
        if dtype == CacheDtype::F32 {
            let (image, labels) = case.read_patch([0; 3], SHAPE, 0).unwrap();
            let bytes: Vec<u8> = image.iter().flat_map(|v| v.to_le_bytes()).collect();
            std::fs::write(folder.path().join("image"), bytes).unwrap();
            let bytes: Vec<u8> = labels
                .iter()
                .flat_map(|v| (*v as i16).to_le_bytes())
                .collect();
            std::fs::write(folder.path().join("labels"), bytes).unwrap();
        }
        rates.push(rate);
    }
    let words = serde_json::json!({
        "folder": folder.path(), "shape": SHAPE, "patch": PATCH, "starts": starts, "cold": COLD,
    });
    let Some(peer) = peer::run("patches", &[&words.to_string()]) else {
        return;
    };
    for name in ["blosc2", "memmap"] {
        let figure = |what: &str| peer[name][what].as_f64().expect("the peer's figure");
        row(name, figure("cold"), figure("warm"), figure("bytes"));
        println!(
            "  ours to it: f32 {:.1}x cold, {:.1}x warm; f16 {:.1}x cold, {:.1}x warm",
            rates[0][0] / figure("cold"),
            rates[0][1] / figure("warm"),
            rates[1][0] / figure("cold"),
            rates[1][1] / figure("warm")
        );
        let theirs = peer[name]["sums"].as_array().expect("the peer's sums");
        let worst = sums
            .iter()
            .zip(theirs)
            .map(|((image, labels), sum)| {
                assert_eq!(Some(*labels), sum[1].as_u64(), "the labels of a patch");
                (image - sum[0].as_f64().unwrap()).abs() / image.abs().max(1.0)
            })
            .fold(0.0, f64::max);
        println!("  sums of the patches differ by at most {worst:.1e}");
    }
}

fn plan_options() -> arl_data::plan::PlanOptions {
    arl_data::plan::PlanOptions {
        target_spacing: Some([1.0; 3]),
        patch_size: Some(PATCH),
        ..arl_data::plan::PlanOptions::new(arl_data::plan::Preset::Cpu)
    }
}
