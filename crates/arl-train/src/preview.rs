//! A picture of what is trained on: patches as augmentation makes them, with their labels.

use std::path::Path;

use anyhow::Context;
use arl_data::loader::{Batch, PatchLoader};

use crate::overlay::{blend, save};

/// Patches in the picture, and how many side by side.
const PATCHES: usize = 12;
const COLUMNS: usize = 4;
/// Width of a slice in pixels.
const PANEL: usize = 160;
const GAP: usize = 4;
/// The share of voxels that is darker than black and brighter than white.
const TAILS: f64 = 0.005;

/// Writes the first patches of the first epoch: of each the slice with most foreground, without and with the labels.
/// `spacing` is that of the patches in mm, `[D, H, W]`.
///
/// All slices share one grey scale, so that changes of brightness and contrast are seen. The first rows of the volume are
/// at the top, which is the back of the body in most datasets.
///
/// # Errors
/// When a patch can't be read or the file can't be written.
pub fn write(path: &Path, loader: &PatchLoader, spacing: [f64; 3]) -> anyhow::Result<()> {
    let mut slices = Vec::new();
    for batch in loader.epoch(1) {
        let batch = batch?;
        slices.extend((0..batch.shape[0]).map(|patch| Slice::of(&batch, patch)));
        if slices.len() >= PATCHES {
            break;
        }
    }
    slices.truncate(PATCHES);
    let first = slices.first().context("an epoch without patches")?;
    let (rows, columns) = (first.rows, first.columns);
    let [low, high] = window(&slices);
    let pixel_mm = columns as f64 * spacing[2] / PANEL as f64;
    let panel_height = ((rows as f64 * spacing[1] / pixel_mm).round() as usize).clamp(1, 4 * PANEL);
    let cell = 2 * PANEL + GAP;
    let width = COLUMNS * (cell + 2 * GAP) - 2 * GAP;
    let height = slices.len().div_ceil(COLUMNS) * (panel_height + GAP) - GAP;
    let mut pixels = vec![255u8; width * height * 3];
    for (index, slice) in slices.iter().enumerate() {
        let top = index / COLUMNS * (panel_height + GAP);
        let left = index % COLUMNS * (cell + 2 * GAP);
        for y in 0..panel_height {
            for x in 0..PANEL {
                let at = y * rows / panel_height * columns + x * columns / PANEL;
                let grey = ((slice.image[at] - low) / (high - low)).clamp(0.0, 1.0) * 255.0;
                for (panel, label) in [0, slice.labels[at]].into_iter().enumerate() {
                    let start = ((top + y) * width + left + panel * (PANEL + GAP) + x) * 3;
                    pixels[start..start + 3].copy_from_slice(&blend(grey, label));
                }
            }
        }
    }
    save(path, &pixels, width, height).with_context(|| format!("writing {}", path.display()))
}

/// A slice of a patch's first channel.
struct Slice {
    rows: usize,
    columns: usize,
    image: Vec<f32>,
    labels: Vec<u16>,
}

impl Slice {
    /// The slice of a patch with most foreground; of equals the middle one.
    fn of(batch: &Batch, patch: usize) -> Self {
        let [_, channels, depth, rows, columns] = batch.shape;
        let area = rows * columns;
        let labels = &batch.labels[patch * depth * area..][..depth * area];
        let image = &batch.images[patch * channels * depth * area..][..depth * area];
        let foreground = |d: &usize| {
            let labelled = labels[d * area..][..area]
                .iter()
                .filter(|label| **label > 0);
            (labelled.count(), std::cmp::Reverse(d.abs_diff(depth / 2)))
        };
        let d = (0..depth).max_by_key(foreground).unwrap_or(0);
        Slice {
            rows,
            columns,
            image: image[d * area..][..area].to_vec(),
            labels: labels[d * area..][..area]
                .iter()
                .map(|label| u16::try_from(*label).unwrap_or(0))
                .collect(),
        }
    }
}

/// Black and white: what all but the tails of the values lie between.
fn window(slices: &[Slice]) -> [f32; 2] {
    let mut values: Vec<f32> = slices
        .iter()
        .flat_map(|slice| &slice.image)
        .copied()
        .collect();
    values.sort_by(f32::total_cmp);
    if values.is_empty() {
        return [0.0, 1.0];
    }
    let last = (values.len() - 1) as f64;
    let low = values[(TAILS * last) as usize];
    let high = values[((1.0 - TAILS) * last) as usize];
    [low, high.max(low + 1e-6)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slice_with_most_foreground_is_shown() {
        let mut labels = vec![0; 2 * 3 * 4];
        labels[12 + 4] = 7;
        let batch = Batch {
            images: (0..48u8).map(f32::from).collect(),
            labels,
            shape: [2, 2, 3, 2, 2],
            case_ids: vec!["a".into(), "b".into()],
        };
        let slice = Slice::of(&batch, 1);
        assert_eq!(
            slice.image,
            [28.0, 29.0, 30.0, 31.0],
            "the first channel of the second patch"
        );
        assert_eq!(slice.labels, [7, 0, 0, 0]);
        assert_eq!(
            Slice::of(&batch, 0).image,
            [4.0, 5.0, 6.0, 7.0],
            "the middle one"
        );
        assert_eq!(window(&[slice]), [28.0, 30.0]);
        assert_eq!(window(&[]), [0.0, 1.0]);
    }
}
