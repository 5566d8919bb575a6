//! nnU-Net's augmentation of a 128³ patch, of one channel and four classes, beside nnU-Net's own (batchgeneratorsv2), from
//! the same 205³ volume in memory with the same probabilities, on one thread each.
//!
//! Both draw at random, so of the whole only the time is compared; with given parameters the results are, here for rotation
//! with scaling and in `crates/arl-data/tests/augmentation.rs` for all. Reading the patch from the volume is part of our time,
//! but copying the volume isn't part of the peer's.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use arl_data::augment::{
    Augmentation, Blur, Brightness, Contrast, Gamma, InMemory, LowResolution, Mirror, Noise,
    PatchSource, Preset, Rotation, SpatialMap,
};
use ndarray::{Array3, Array4, s};
use rand::SeedableRng;
use rand::rngs::StdRng;

const SOURCE: usize = 205;
const PATCH: [usize; 3] = [128; 3];
const START: [i64; 3] = [38; 3];
const PATCHES: usize = 100;
const REPETITIONS: usize = 5;
/// Centre and radius of each organ.
const ORGANS: [[f32; 4]; 3] = [
    [60.0, 90.0, 70.0, 40.0],
    [130.0, 110.0, 120.0, 50.0],
    [100.0, 60.0, 150.0, 35.0],
];

/// Compares nnU-Net's list as a whole and each transform alone.
pub fn run() {
    let (image, labels) = volume();
    let source = InMemory {
        image: image.view(),
        labels: labels.view(),
        outside: 0,
    };
    let nnunet = Preset::Nnunet.augmentation(PATCH, &[0, 1, 2]);
    let mut rng = StdRng::seed_from_u64(0);
    let ours = milliseconds(|rng| varied(&nnunet, &source, rng), PATCHES, &mut rng);
    let mean = ours.iter().sum::<f64>() / PATCHES as f64;
    let (plain, _) = source
        .read(START, PATCH)
        .unwrap_or_else(|error| panic!("{error}"));
    let alone = alone(&source, &plain, &mut rng);
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(
        folder.path(),
        "image",
        image.iter().map(|v| v.to_le_bytes()),
    );
    write(
        folder.path(),
        "labels",
        labels.iter().map(|v| v.to_le_bytes()),
    );
    let (turned, turned_labels) = given(&source);
    write(
        folder.path(),
        "turned_image",
        turned.iter().map(|v| v.to_le_bytes()),
    );
    write(
        folder.path(),
        "turned_labels",
        turned_labels.iter().map(|v| v.to_le_bytes()),
    );
    let peer = crate::peer::run(
        "augmentation",
        &[
            &PATCHES.to_string(),
            &REPETITIONS.to_string(),
            &folder.path().display().to_string(),
        ],
    );

    println!("milliseconds, one thread   | ours   | batchgeneratorsv2 | ratio");
    let number = |name: &str| match &peer {
        Some(value) if name == "patch" => value["patch"].as_f64(),
        Some(value) => value["alone"][name].as_f64(),
        None => None,
    };
    let print = |label: &str, ours: f64, name: &str| match number(name) {
        Some(peer) => println!("{label:26} | {ours:6.2} | {peer:17.2} | {:.1}", peer / ours),
        None => println!("{label:26} | {ours:6.2} | {:>17} |", "-"),
    };
    print(&format!("a patch, mean of {PATCHES}"), mean, "patch");
    for (label, name, ours) in alone {
        print(label, ours, name);
    }
    if let Some(peer) = &peer {
        println!(
            "rotated and scaled alike: images differ by {} at most, {} of {} labels differ",
            peer["difference"],
            peer["other_labels"],
            turned_labels.len()
        );
    }
}

/// The patch in the middle at given angles and factor, which the peer makes too.
fn given(source: &InMemory) -> (Array4<f32>, Array3<u16>) {
    let turn = Rotation::matrix([20.0, -15.0, 10.0]);
    let map = SpatialMap::new(PATCH).with_matrix(turn.map(|row| row.map(|v| 1.2 * v)));
    // An even edge, so that both programs turn about the same point.
    let even = InMemory {
        image: source.image.slice_move(s![.., ..-1, ..-1, ..-1]),
        labels: source.labels.slice_move(s![..-1, ..-1, ..-1]),
        ..*source
    };
    map.read(&even, START)
        .unwrap_or_else(|error| panic!("{error}"))
}

fn write<const N: usize>(folder: &Path, name: &str, values: impl Iterator<Item = [u8; N]>) {
    let bytes: Vec<u8> = values.flatten().collect();
    std::fs::write(folder.join(name), bytes).expect("the volume is written");
}

/// Each transform, done for certain: what it is called here and by the peer, and the least time.
fn alone(
    source: &InMemory,
    image: &Array4<f32>,
    rng: &mut StdRng,
) -> Vec<(&'static str, &'static str, f64)> {
    let mut certain = Preset::Nnunet.augmentation(PATCH, &[0, 1, 2]).spatial;
    if let (Some(rotation), Some(scaling)) = (&mut certain.rotation, &mut certain.scaling) {
        (rotation.probability, scaling.probability) = (1.0, 1.0);
    }
    let spatial = |rng: &mut StdRng| {
        let map = certain.draw(PATCH, [1.0; 3], rng);
        map.read(source, START)
            .unwrap_or_else(|error| panic!("{error}"));
    };
    let mut labels = Array3::<u16>::zeros(PATCH);
    let mirror = Mirror {
        probability: 1.0,
        ..Mirror::default()
    };
    let noise = Noise {
        probability: 1.0,
        ..Noise::default()
    };
    let blur = Blur {
        probability: 1.0,
        channel_probability: 1.0,
        ..Blur::default()
    };
    let brightness = Brightness {
        probability: 1.0,
        ..Brightness::default()
    };
    let contrast = Contrast {
        probability: 1.0,
        ..Contrast::default()
    };
    let low = LowResolution {
        probability: 1.0,
        channel_probability: 1.0,
        ..LowResolution::default()
    };
    let inverted = Gamma {
        probability: 1.0,
        ..Gamma::inverted()
    };
    let gamma = Gamma {
        probability: 1.0,
        ..Gamma::default()
    };
    let least = |run: &dyn Fn(&mut StdRng), rng: &mut StdRng| {
        let times = milliseconds(|rng| run(rng), 2 + REPETITIONS, rng);
        times.into_iter().fold(f64::INFINITY, f64::min)
    };
    let in_place = |run: &mut dyn FnMut(&mut Array4<f32>, &mut StdRng), rng: &mut StdRng| {
        let mut least = f64::INFINITY;
        for _ in 0..2 + REPETITIONS {
            let mut image = image.clone();
            let start = Instant::now();
            run(&mut image, rng);
            least = least.min(1000.0 * start.elapsed().as_secs_f64());
            black_box(image);
        }
        least
    };
    vec![
        ("rotation and scaling", "spatial", least(&spatial, rng)),
        (
            "mirror",
            "MirrorTransform",
            in_place(&mut |x, rng| mirror.apply(x, &mut labels, rng), rng),
        ),
        (
            "noise",
            "GaussianNoiseTransform",
            in_place(&mut |x, rng| noise.apply(x, rng), rng),
        ),
        (
            "blur",
            "GaussianBlurTransform",
            in_place(&mut |x, rng| blur.apply(x, rng), rng),
        ),
        (
            "brightness",
            "MultiplicativeBrightnessTransform",
            in_place(&mut |x, rng| brightness.apply(x, rng), rng),
        ),
        (
            "contrast",
            "ContrastTransform",
            in_place(&mut |x, rng| contrast.apply(x, rng), rng),
        ),
        (
            "low resolution",
            "SimulateLowResolutionTransform",
            in_place(&mut |x, rng| low.apply(x, rng), rng),
        ),
        (
            "inverted gamma",
            "inverted_gamma",
            in_place(&mut |x, rng| inverted.apply(x, rng), rng),
        ),
        (
            "gamma",
            "GammaTransform",
            in_place(&mut |x, rng| gamma.apply(x, rng), rng),
        ),
    ]
}

fn milliseconds(mut run: impl FnMut(&mut StdRng), times: usize, rng: &mut StdRng) -> Vec<f64> {
    let one = |_| {
        let start = Instant::now();
        run(rng);
        1000.0 * start.elapsed().as_secs_f64()
    };
    (0..times).map(one).collect()
}

fn varied(augmentation: &Augmentation, source: &InMemory, rng: &mut StdRng) {
    let patch = augmentation.patch(source, START, PATCH, [1.0; 3], rng);
    black_box(patch.unwrap_or_else(|error| panic!("{error}")));
}

/// Waves with noise, and three balls.
fn volume() -> (Array4<f32>, Array3<u16>) {
    let mut image = Array4::from_shape_fn((1, SOURCE, SOURCE, SOURCE), |(_, z, y, x)| {
        let [z, y, x] = [z, y, x].map(|i| i as f32);
        (z / 9.0).sin() + (y / 13.0).cos() * (x / 7.0).sin()
    });
    let noise = Noise {
        probability: 1.0,
        deviation: (0.1, 0.1),
    };
    noise.apply(&mut image, &mut StdRng::seed_from_u64(0));
    let labels = Array3::from_shape_fn([SOURCE; 3], |(z, y, x)| {
        let inside = |organ: &[f32; 4]| {
            let offsets = [
                z as f32 - organ[0],
                y as f32 - organ[1],
                x as f32 - organ[2],
            ];
            offsets.iter().map(|offset| offset * offset).sum::<f32>() < organ[3] * organ[3]
        };
        let last = ORGANS.iter().rposition(inside);
        last.map_or(0, |organ| organ as u16 + 1)
    });
    (image, labels)
}
