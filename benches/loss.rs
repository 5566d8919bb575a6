//! The adaptive region-specific loss on logits of several shapes, forward and forward + backward: ours fused and in plain
//! tensor operations, PyTorch's eager and compiled, and Dice + CE of ours and MONAI's; with the time of a copy of the logits
//! and the floor that memory sets.
//!
//! `cargo bench --profile dev --workspace --bench loss` (the dev profile optimises what does the arithmetic, and is the one
//! that the rest of the workspace is built with). `-- CLASSES EDGE` takes one shape only, `--fused` times nothing but the
//! fused loss (for a profiler), and `--device wgpu` or `--device cuda` takes a GPU, where half precision is timed as well.
//!
//! PyTorch is timed by `benches/loss.py`, where the Python of the environment variable `PYTHON` (else `python3`) has torch;
//! MONAI where it has monai too.

use arl::loss::{
    AdaptiveRegionLossConfig, CrossEntropyLossConfig, DiceLossConfig, RegionGrid,
    StatisticsOptions, plain_region_statistics, region_statistics,
};
use burn::prelude::*;
use burn::tensor::{DType, Distribution, FloatDType};
use rayon::prelude::*;
use std::hint::black_box;
use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// The allocator of the command `arl`, which keeps what it got from the system (that would clear each page of a fresh
/// gradient), with a count of what is held.
mod counting {
    use mimalloc::MiMalloc;
    use std::alloc::{GlobalAlloc, Layout};
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    pub static HELD: AtomicUsize = AtomicUsize::new(0);
    pub static PEAK: AtomicUsize = AtomicUsize::new(0);

    struct Counting;

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    fn add(bytes: usize) {
        let held = HELD.fetch_add(bytes, Relaxed) + bytes;
        PEAK.fetch_max(held, Relaxed);
    }

    // SAFETY: all calls go to an allocator unchanged.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            add(layout.size());
            unsafe { MiMalloc.alloc(layout) }
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            add(layout.size());
            unsafe { MiMalloc.alloc_zeroed(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            HELD.fetch_sub(layout.size(), Relaxed);
            unsafe { MiMalloc.dealloc(pointer, layout) }
        }

        unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            add(size);
            HELD.fetch_sub(layout.size(), Relaxed);
            unsafe { MiMalloc.realloc(pointer, layout, size) }
        }
    }

    /// `mi_option_purge_delay` of mimalloc.h.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

    pub fn keep_memory() {
        // SAFETY: sets an integer option of the allocator that is in use; −1 means never.
        unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
    }
}

const IMAGES: usize = 2;
const CLASSES: [usize; 4] = [2, 4, 23, 105];
const EDGES: [usize; 2] = [96, 128];
const REGION: usize = 16;
/// At least so many runs, and so long.
const RUNS: usize = 3;
const LONG_ENOUGH: Duration = Duration::from_secs(2);
/// Plain operations hold about so many tensors of the size of the logits.
const PLAIN_TENSORS: u64 = 14;

/// The median time in milliseconds, after a run that warms up.
fn median(mut run: impl FnMut()) -> f64 {
    run();
    let mut times = Vec::new();
    let all = Instant::now();
    while times.len() < RUNS || (all.elapsed() < LONG_ENOUGH && times.len() < 50) {
        let start = Instant::now();
        run();
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// A number of KiB from `/proc`, in MiB.
fn proc_mib(file: &str, name: &str) -> Option<f64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

/// How far a run's peak of memory in MiB lies above what was there before.
fn extra_memory(run: impl FnOnce()) -> f64 {
    let before = counting::HELD.load(Relaxed);
    counting::PEAK.store(before, Relaxed);
    run();
    (counting::PEAK.load(Relaxed) - before) as f64 / f64::from(1 << 20)
}

struct Row {
    name: String,
    forward: f64,
    both: f64,
    extra_mib: Option<f64>,
}

impl Row {
    fn print(&self, fused: f64) {
        let extra = match self.extra_mib {
            Some(mib) => format!("{mib:9.0} MiB"),
            None => "            -".to_owned(),
        };
        println!(
            "  {:32} {:9.1} ms {:9.1} ms {extra} {:7.1}x",
            self.name,
            self.forward,
            self.both,
            self.both / fused
        );
    }
}

/// Cubes of 8³ voxels, each of another class: as in anatomy, neighbours mostly belong together.
fn labels(classes: usize, edge: usize, device: &Device) -> Tensor<4, Int> {
    const CUBE: usize = 8;
    let cubes = edge.div_ceil(CUBE);
    let mut labels = Vec::with_capacity(IMAGES * edge.pow(3));
    for image in 0..IMAGES {
        for voxel in 0..edge.pow(3) {
            let [d, h, w] =
                [voxel / edge / edge, voxel / edge % edge, voxel % edge].map(|at| at / CUBE);
            let cube = ((image * cubes + d) * cubes + h) * cubes + w;
            labels.push((cube * 7919 % classes) as i32);
        }
    }
    let data = burn::tensor::TensorData::new(labels, [IMAGES, edge, edge, edge]);
    Tensor::from_data(data, device)
}

type Loss<'a> = &'a dyn Fn(Tensor<5>) -> Tensor<1>;

fn time(name: &str, logits: &Tensor<5>, loss: Loss) -> Row {
    let device = logits.device();
    let on_cpu = device == Device::flex();
    let done = |loss: Tensor<1>| {
        black_box(loss.into_data());
    };
    let both = || {
        let logits = logits.clone().autodiff().require_grad();
        let value = loss(logits.clone());
        let gradients = value.clone().backward();
        let gradient = logits.grad(&gradients).expect("tracked");
        done(value.inner());
        // A GPU goes on after `backward` has returned.
        device.sync().expect("a working device");
        black_box(gradient);
    };
    let extra_mib = on_cpu.then(|| extra_memory(both));
    Row {
        name: name.to_owned(),
        forward: median(|| done(loss(logits.clone()))),
        both: median(both),
        extra_mib,
    }
}

fn shape(classes: usize, edge: usize, device: &Device, on_cpu: bool, python: Option<&str>) {
    let shape = [IMAGES, classes, edge, edge, edge];
    let bytes = 4 * shape.iter().product::<usize>() as u64;
    println!(
        "\nlogits {shape:?}, f32, {} MiB, regions of {REGION}³",
        bytes >> 20
    );
    let only_fused = std::env::args().any(|argument| argument == "--fused");
    // First, while nothing of ours takes memory.
    let python = python.filter(|_| !only_fused);
    let of_pytorch = python.map(|python| pytorch(python, classes, edge));
    let logits = Tensor::<5>::random(shape, Distribution::Normal(0.0, 3.0), device);
    let labels = labels(classes, edge, device);
    let grid = RegionGrid::size([REGION; 3]);
    let regions = grid.regions([edge; 3]).expect("voxels");
    let options = StatisticsOptions::new();
    let arl = AdaptiveRegionLossConfig::published()
        .with_regions(grid)
        .init();
    let dice = DiceLossConfig::new().init();
    let ce = CrossEntropyLossConfig::new().init();

    let fused = |logits: Tensor<5>| arl.forward(logits, labels.clone());
    let fused_row = time("ARL, fused", &logits, &fused);
    let reference = fused_row.both;
    fused_row.print(reference);
    if only_fused {
        return;
    }
    if !on_cpu {
        for dtype in [DType::F16, DType::BF16] {
            if device.supports_dtype(dtype) {
                let half = logits.clone().cast(FloatDType::from(dtype));
                time(&format!("ARL, fused, {dtype:?}"), &half, &fused).print(reference);
            }
        }
    }
    let sum = |logits: Tensor<5>| {
        let statistics = region_statistics(logits, labels.clone(), &regions, &options);
        let statistics = statistics.expect("shapes made to fit");
        dice.from_statistics(&statistics).expect("classes")
            + ce.from_statistics(&statistics).expect("no weights")
    };
    time("Dice + CE, fused", &logits, &sum).print(reference);

    let available = proc_mib("/proc/meminfo", "MemAvailable:").unwrap_or(f64::MAX);
    let plain_mib = ((bytes * PLAIN_TENSORS) >> 20) as f64;
    if on_cpu && plain_mib > 0.8 * available {
        println!("  ARL, plain operations            skipped: they take some {plain_mib:.0} MiB");
    } else {
        let plain = |logits: Tensor<5>| {
            let statistics = plain_region_statistics(logits, labels.clone(), &regions, &options);
            arl.from_statistics(&statistics.expect("shapes made to fit"))
                .expect("no weights")
        };
        time("ARL, plain operations", &logits, &plain).print(reference);
    }

    if on_cpu {
        let source = logits.into_data().try_to_vec::<f32>().expect("f32");
        let mut copy = vec![0f32; source.len()];
        let copied = median(|| {
            copy.par_chunks_mut(1 << 16)
                .zip(source.par_chunks(1 << 16))
                .for_each(|(to, from)| to.copy_from_slice(from));
            black_box(&mut copy);
        });
        // A copy moves the logits twice. The two passes read them twice and write the gradient once, and read the labels
        // twice (4 bytes each).
        let labels = 1.0 / classes as f64;
        let floor = copied / 2.0 * (3.0 + 2.0 * labels);
        println!(
            "  a copy of the logits {copied:.1} ms; at its speed the bytes that must move take {floor:.1} ms, of which ARL, \
             fused, is {:.1} times",
            reference / floor
        );
    }
    for line in of_pytorch.into_iter().flatten() {
        match line {
            Ok(row) => row.print(reference),
            Err(text) => println!("  {text}"),
        }
    }
}

/// What `benches/loss.py` finds in a process of its own: rows, and what else it has to say.
fn pytorch(python: &str, classes: usize, edge: usize) -> Vec<Result<Row, String>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/loss.py");
    let arguments = [IMAGES, classes, edge, REGION].map(|number| number.to_string());
    let output = match Command::new(python).arg(script).args(arguments).output() {
        Ok(output) => output,
        Err(error) => return vec![Err(format!("PyTorch: {python} does not start ({error})"))],
    };
    let mut found = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        found.push(match fields[..] {
            [name, forward, both, extra] => {
                let number = |text: &str| text.parse().unwrap_or(f64::NAN);
                Ok(Row {
                    name: name.to_owned(),
                    forward: number(forward),
                    both: number(both),
                    extra_mib: extra.parse().ok(),
                })
            }
            _ => Err(line.to_owned()),
        });
    }
    if !output.status.success() {
        found.push(Err(format!("PyTorch stopped: {}", output.status)));
    }
    found
}

fn main() {
    counting::keep_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<usize> = arguments
        .iter()
        .filter_map(|text| text.parse().ok())
        .collect();
    let device = match arguments.iter().position(|text| text == "--device") {
        None => Device::flex(),
        Some(at) => match arguments.get(at + 1).map(String::as_str) {
            Some("wgpu") => Device::wgpu(burn::tensor::DeviceKind::DefaultDevice),
            #[cfg(feature = "cuda")]
            Some("cuda") => Device::cuda(0),
            other => panic!("--device wgpu, or cuda where this was built with it, not {other:?}"),
        },
    };
    let on_cpu = device == Device::flex();
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_torch = Command::new(&python)
        .args(["-c", "import torch"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !has_torch {
        println!("{python} has no torch: only this crate is timed");
    }
    let python = (has_torch && on_cpu).then_some(python.as_str());
    println!(
        "  {:32} {:>12} {:>12} {:>13} {:>8}",
        "", "forward", "+ backward", "extra memory", "ratio"
    );
    match numbers[..] {
        [classes, edge] => shape(classes, edge, &device, on_cpu, python),
        _ => {
            for edge in EDGES {
                for classes in CLASSES {
                    shape(classes, edge, &device, on_cpu, python);
                }
            }
        }
    }
}
