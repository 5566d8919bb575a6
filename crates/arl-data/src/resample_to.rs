//! Resampling onto another grid by the affines of both, for any rotation, spacing and size.
//!
//! As `nibabel.processing.resample_from_to` and `scipy.ndimage.affine_transform` with constant mode: the centre of each
//! voxel of the target is looked up in the source, and what lies beyond the centres of its outermost voxels is filled.
//! A millionth of a voxel beyond them still counts as inside, so that rounding cannot lose an edge.

use ndarray::Array3;
use ndarray::parallel::prelude::*;

use crate::affine::{inverse, product};
use crate::volume::{Geometry, Volume};

/// How far outside of the outermost centres, in voxels, a point is still inside.
const EDGE: f64 = 1e-6;

/// How a value is taken from between voxels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpolation {
    /// The value of the nearest voxel.
    Nearest,
    /// Weighted by the distance to the eight voxels around.
    Linear,
}

/// Resamples an image onto `target`; `fill` outside of it.
///
/// # Errors
/// A phrase for a message, when the volume's affine cannot be inverted.
pub fn resample_to(
    volume: &Volume<f32>,
    target: &Geometry,
    interpolation: Interpolation,
    fill: f32,
) -> Result<Volume<f32>, String> {
    match interpolation {
        Interpolation::Nearest => resample_labels_to(volume, target, fill),
        Interpolation::Linear => map(volume, target, |point| linear(&volume.data, point, fill)),
    }
}

/// Resamples labels (or anything that cannot be averaged) onto `target` by the nearest voxel; `fill` outside.
///
/// # Errors
/// As [`resample_to`].
pub fn resample_labels_to<T: Copy + Send + Sync>(
    volume: &Volume<T>,
    target: &Geometry,
    fill: T,
) -> Result<Volume<T>, String> {
    let shape = volume.geometry.shape;
    map(volume, target, |point| match inside(point, shape) {
        Some(point) => volume.data[point.map(|v| (v + 0.5) as usize)],
        None => fill,
    })
}

/// Fills the target with the values at points `[d, h, w]` of the source.
fn map<T: Copy + Send + Sync>(
    volume: &Volume<T>,
    target: &Geometry,
    value: impl Fn([f64; 3]) -> T + Sync,
) -> Result<Volume<T>, String> {
    let to_source = inverse(&volume.geometry.affine)
        .map(|inverse| product(&inverse, &target.affine))
        .ok_or("the affine of the volume cannot be inverted")?;
    let [_, height, width] = target.shape;
    let mut voxels = Vec::with_capacity(target.voxels());
    (0..target.voxels())
        .into_par_iter()
        .with_min_len(1 << 12)
        .map(|index| {
            let (d, h, w) = (
                index / (height * width),
                index / width % height,
                index % width,
            );
            let index = [w as f64, h as f64, d as f64];
            let along =
                |row: &[f64; 4]| row[0] * index[0] + row[1] * index[1] + row[2] * index[2] + row[3];
            value([
                along(&to_source[2]),
                along(&to_source[1]),
                along(&to_source[0]),
            ])
        })
        .collect_into_vec(&mut voxels);
    let data = Array3::from_shape_vec(target.shape, voxels).map_err(|error| error.to_string())?;
    Ok(Volume::new(data, target.clone()))
}

/// The point, moved onto the outermost centres where it lies a little beyond them; `None` further outside.
fn inside(point: [f64; 3], shape: [usize; 3]) -> Option<[f64; 3]> {
    let mut moved = point;
    for (value, &length) in moved.iter_mut().zip(&shape) {
        let last = length as f64 - 1.0;
        // False for NaN too.
        if !(*value >= -EDGE && *value <= last + EDGE) {
            return None;
        }
        *value = value.clamp(0.0, last);
    }
    Some(moved)
}

fn linear(data: &Array3<f32>, point: [f64; 3], fill: f32) -> f32 {
    let (d, h, w) = data.dim();
    let Some(point) = inside(point, [d, h, w]) else {
        return fill;
    };
    let low = point.map(|v| v as usize);
    let high = [0, 1, 2].map(|axis| (low[axis] + 1).min([d, h, w][axis] - 1));
    let weight = [0, 1, 2].map(|axis| point[axis] - low[axis] as f64);
    let mut sum = 0.0;
    for (d, wd) in [(low[0], 1.0 - weight[0]), (high[0], weight[0])] {
        for (h, wh) in [(low[1], 1.0 - weight[1]), (high[1], weight[1])] {
            let row = wd * wh;
            sum += row * (1.0 - weight[2]) * f64::from(data[[d, h, low[2]]])
                + row * weight[2] * f64::from(data[[d, h, high[2]]]);
        }
    }
    sum as f32
}
