//! Intensities as the network gets them (nnU-Net, `preprocessing/normalization/default_normalization_schemes.py`).

use ndarray::{ArrayView3, Axis, Zip};
use rayon::prelude::*;

use crate::plan::ChannelNormalization;

/// Divisors are at least this, for images of one value.
const SMALLEST: f64 = 1e-8;

/// What normalisation does to a voxel: `(v.clamp(lower, upper) - shift) * scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalizer {
    lower: f32,
    upper: f32,
    shift: f32,
    scale: f32,
    masked: bool,
}

impl Normalizer {
    /// Normalises values in place.
    pub fn apply(&self, values: &mut [f32]) {
        for v in values {
            *v = (v.clamp(self.lower, self.upper) - self.shift) * self.scale;
        }
    }

    /// Whether voxels outside of the mask become 0 instead.
    pub fn is_masked(&self) -> bool {
        self.masked
    }
}

impl ChannelNormalization {
    /// Finds what to do to the channel `[D, H, W]`. A z-score looks at the voxels of `mask` alone, if there is one.
    pub fn fit(
        &self,
        voxels: ArrayView3<'_, f32>,
        mask: Option<ArrayView3<'_, bool>>,
    ) -> Normalizer {
        let affine = |shift: f64, scale: f64| Normalizer {
            lower: f32::NEG_INFINITY,
            upper: f32::INFINITY,
            shift: shift as f32,
            scale: scale as f32,
            masked: false,
        };
        match *self {
            Self::Ct {
                lower,
                upper,
                mean,
                std,
            } => Normalizer {
                lower: lower as f32,
                upper: upper as f32,
                ..affine(mean, 1.0 / std.max(SMALLEST))
            },
            Self::ZScore => {
                let [mean, std] = moments(voxels, mask);
                Normalizer {
                    masked: mask.is_some(),
                    ..affine(mean, 1.0 / std.max(SMALLEST))
                }
            }
            Self::None => affine(0.0, 1.0),
            Self::RescaleTo01 => {
                let (low, high) = voxels
                    .iter()
                    .fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), &v| {
                        (l.min(v), h.max(v))
                    });
                affine(low.into(), 1.0 / f64::from(high - low).max(SMALLEST))
            }
            Self::RgbTo01 => affine(0.0, 1.0 / 255.0),
        }
    }
}

/// Mean and standard deviation, over the mask if there is one; of no voxel, 0 and 0.
fn moments(voxels: ArrayView3<'_, f32>, mask: Option<ArrayView3<'_, bool>>) -> [f64; 2] {
    // Plane by plane, and the planes in order: the same bits with any number of threads.
    let sum = |term: &(dyn Fn(f64) -> f64 + Sync)| -> f64 {
        let plane = |d: usize| {
            let plane = voxels.index_axis(Axis(0), d);
            let mut sum = 0.0;
            match mask {
                None => plane.for_each(|v| sum += term(f64::from(*v))),
                Some(mask) => {
                    Zip::from(plane)
                        .and(mask.index_axis(Axis(0), d))
                        .for_each(|v, inside| {
                            if *inside {
                                sum += term(f64::from(*v));
                            }
                        });
                }
            }
            sum
        };
        let planes: Vec<f64> = (0..voxels.dim().0).into_par_iter().map(plane).collect();
        planes.into_iter().sum()
    };
    let count = sum(&|_| 1.0).max(1.0);
    let mean = sum(&|v| v) / count;
    let variance = sum(&|v| (v - mean).powi(2)) / count;
    [mean, variance.sqrt()]
}
