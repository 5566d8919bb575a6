//! From solids to voxels: soft boundaries, texture, warp and scanner noise.

use std::f32::consts::TAU;

use ndarray::Array3;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};

use super::anatomy;
use super::shape::Point;

const AIR: f32 = -1000.0;
/// The darkest and brightest values that scanners write.
const RANGE: [f32; 2] = [-1024.0, 3071.0];
/// Standard deviation of the noise in HU, about that of a routine abdominal scan.
const NOISE: f32 = 14.0;

/// Draws one patient and scans them: HU rounded to integers, and the label of each voxel.
pub(super) fn render(shape: [usize; 3], spacing: [f64; 3], seed: u64) -> (Array3<i16>, Array3<u8>) {
    let mut rng = StdRng::seed_from_u64(seed);
    let spacing = spacing.map(|s| s as f32);
    let field: [f32; 3] = std::array::from_fn(|axis| 0.5 * shape[axis] as f32 * spacing[axis]);
    let [depth, height, width] = field;
    let half: Point = [
        width * rng.random_range(0.84..0.94),
        height * rng.random_range(0.64..0.74),
        depth * rng.random_range(0.95..1.08),
    ];
    let shift =
        [0.03 * width, 0.04 * height, 0.05 * depth].map(|s| s * rng.random_range(-1.0..1.0));
    let anatomy = anatomy::draw(half, &mut rng);
    let warp = Waves::new(&mut rng, half, 0.028 * half[0], 0.4);
    let texture = Waves::new(&mut rng, half, 1.0, 4.0);

    // A voxel shows the mean of what lies in it: boundaries are one voxel wide.
    let softness = (spacing[0] * spacing[1] * spacing[2]).cbrt();
    let parts: Vec<_> = (anatomy.parts.iter())
        .map(|part| (part, part.shape.bounds()))
        .collect();
    let mut clean = Array3::<f32>::from_elem(shape, AIR);
    let mut labels = Array3::<u8>::zeros(shape);
    for ((index, hu), label) in clean.indexed_iter_mut().zip(labels.iter_mut()) {
        let index = [index.2, index.1, index.0];
        let at: Point = std::array::from_fn(|i| {
            (index[i] as f32 + 0.5) * spacing[2 - i] - field[2 - i] - shift[i]
        });
        let pull = warp.at(at);
        let at: Point = std::array::from_fn(|i| at[i] + pull[i]);
        let grain = texture.at(at)[0];
        let cavity = anatomy.cavity.distance(at);
        for (part, [low, high]) in &parts {
            let far = |i: usize| at[i] < low[i] - softness || at[i] > high[i] + softness;
            if (0..3).any(far) {
                continue;
            }
            let mut distance = part.shape.distance(at);
            if part.inside {
                distance = distance.max(cavity);
            }
            let share = (0.5 - distance / softness).clamp(0.0, 1.0);
            if share > 0.0 {
                *hu += share * (part.hu + part.texture * grain - *hu);
            }
            if distance < 0.0 {
                *label = part.label;
            }
        }
    }
    add_noise(&mut clean, &mut rng);
    let scanned = clean.mapv(|hu| hu.clamp(RANGE[0], RANGE[1]).round() as i16);
    (scanned, labels)
}

/// Smooth vector fields as sums of a few plane waves.
struct Waves {
    waves: Vec<Wave>,
}

struct Wave {
    frequency: Point,
    phase: f32,
    amplitude: Point,
}

impl Waves {
    /// Waves of at most `amplitude` in each component, with about `cycles` periods over the body.
    fn new(rng: &mut StdRng, half: Point, amplitude: f32, cycles: f32) -> Self {
        const COUNT: usize = 6;
        let mut symmetric = |limit: f32| rng.random_range(-limit..limit);
        let waves = (0..COUNT)
            .map(|_| Wave {
                frequency: half.map(|h| TAU * symmetric(cycles) / (2.0 * h) * 2.0),
                phase: symmetric(TAU),
                amplitude: [(); 3].map(|()| symmetric(2.0 * amplitude / (COUNT as f32).sqrt())),
            })
            .collect();
        Self { waves }
    }

    fn at(&self, p: Point) -> Point {
        let mut sum = [0.0; 3];
        for wave in &self.waves {
            let phase: f32 = (0..3).map(|i| wave.frequency[i] * p[i]).sum();
            let value = (phase + wave.phase).sin();
            for (total, amplitude) in sum.iter_mut().zip(wave.amplitude) {
                *total += amplitude * value;
            }
        }
        sum
    }
}

/// Gaussian noise, correlated within a slice as a reconstruction kernel leaves it.
fn add_noise(image: &mut Array3<f32>, rng: &mut StdRng) {
    let (depth, height, width) = image.dim();
    // A weighted mean with 1 2 1 along both axes leaves 3/8 of the standard deviation.
    const GAIN: f32 = NOISE / 0.375;
    const WEIGHTS: [f32; 3] = [0.25, 0.5, 0.25];
    for d in 0..depth {
        let white = ndarray::Array2::from_shape_simple_fn((height + 2, width + 2), || {
            let sample: f32 = StandardNormal.sample(rng);
            sample
        });
        for h in 0..height {
            for w in 0..width {
                let mut sum = 0.0;
                for (i, a) in WEIGHTS.iter().enumerate() {
                    for (j, b) in WEIGHTS.iter().enumerate() {
                        sum += a * b * white[[h + i, w + j]];
                    }
                }
                image[[d, h, w]] += GAIN * sum;
            }
        }
    }
}
