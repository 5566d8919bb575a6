//! A coarser training beside the main one, where a patch sees too little of a volume.
//!
//! Source: nnU-Net v2, `default_experiment_planner.py` (`plan_experiment`, "3d_lowres").

use super::configuration::{Configuration, Task};

/// A patch that has less than this share of the median case's voxels sees too little of it.
const ENOUGH: f64 = 0.25;
/// By how much the voxels grow with each step.
const STEP: f64 = 1.03;
/// Axes more than so many times finer than the coarsest are made coarser first.
const SIMILAR: f64 = 2.0;
/// A training with less than so many times fewer voxels isn't worth having.
const MIN_GAIN: f64 = 2.0;
/// The voxels have grown by a factor of 10^12 along each axis by then.
const MAX_STEPS: usize = 1000;

/// What the coarser training is planned for, and its configuration; `None` where the patch sees enough, or the coarser
/// training would hardly be coarser. Axes in nnU-Net's order.
///
/// # Errors
/// As [`Task::configuration`].
pub(super) fn low_resolution<'a>(
    full: &Task<'a>,
    patch_size: [usize; 3],
    cases: usize,
) -> Option<(Task<'a>, Configuration)> {
    let full_voxels: f64 = full.median_shape.iter().product();
    let mut voxels = full_voxels;
    let mut patch_voxels = product(patch_size);
    let mut spacing = full.spacing;
    let mut found = None;
    for _ in 0..MAX_STEPS {
        if patch_voxels / voxels >= ENOUGH {
            break;
        }
        let coarsest = spacing.into_iter().fold(0.0, f64::max);
        let fine = spacing.map(|s| coarsest / s > SIMILAR);
        for axis in 0..3 {
            if fine[axis] || fine == [false; 3] {
                spacing[axis] *= STEP;
            }
        }
        let shape: [f64; 3] = std::array::from_fn(|axis| {
            full.spacing[axis] / spacing[axis] * full.median_shape[axis]
        });
        voxels = shape.iter().product();
        let task = Task {
            spacing,
            median_shape: shape.map(|edge| edge.round_ties_even().max(1.0)),
            dataset_voxels: voxels * cases as f64,
            ..*full
        };
        // A spacing that leaves no network is passed over.
        let configuration = task.configuration().ok();
        if let Some(configuration) = &configuration {
            patch_voxels = product(configuration.patch_size);
        }
        found = configuration.map(|configuration| (task, configuration));
    }
    found.filter(|_| full_voxels / voxels >= MIN_GAIN)
}

fn product(patch: [usize; 3]) -> f64 {
    patch.iter().map(|&edge| edge as f64).product()
}
