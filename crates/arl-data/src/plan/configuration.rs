//! The largest patch that fits the budget, the network for it and the batch.
//!
//! Source: nnU-Net v2, `default_experiment_planner.py` (`get_plans_for_configuration`).

use super::StagePlan;
use super::memory::Network;
use super::options::{Budget, PlanOptions, Rules};
use super::spacing::AxisOrder;
use super::topology::{Topology, topology};

/// Voxels of the first, too large patch.
const FIRST_PATCH: f64 = 256.0 * 256.0 * 256.0;
/// Patches whose feature maps the memory of a preset is meant for; also the smallest batch.
const REFERENCE_BATCH: usize = 2;
/// No search takes so many steps; each makes the patch smaller but for its rounding.
const MAX_STEPS: usize = 100_000;

/// What is known before a patch is chosen. Axes in nnU-Net's order, the coarsest first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task<'a> {
    pub options: &'a PlanOptions,
    /// The way back to `[D, H, W]`, for messages.
    pub order: AxisOrder,
    /// Patch asked for.
    pub patch_size: Option<[usize; 3]>,
    /// Channels of the logits.
    pub outputs: usize,
    /// mm.
    pub spacing: [f64; 3],
    /// Voxels of the median case.
    pub median_shape: [f64; 3],
    /// Voxels of all cases together, about.
    pub dataset_voxels: f64,
}

/// Patch, batch and network at one spacing; axes in nnU-Net's order.
#[derive(Clone, Debug)]
pub(super) struct Configuration {
    pub patch_size: [usize; 3],
    pub batch_size: usize,
    pub stem_stride: [usize; 3],
    pub stages: Vec<StagePlan>,
    /// What of the budget a batch of such patches takes, in words.
    pub costs: String,
}

impl Task<'_> {
    /// Chooses patch, network and batch.
    ///
    /// # Errors
    /// A sentence when not even the smallest patch fits, or the volumes are too small for a network.
    pub fn configuration(&self) -> Result<Configuration, String> {
        let rules = self.options.preset.rules();
        let start = match self.patch_size {
            Some(patch) => patch.map(|edge| edge as f64),
            None => first_patch(self.spacing, self.median_shape),
        };
        let mut stem_stride = self.stem_stride(rules.stem_stride);
        let mut found = topology(start, self.spacing, stem_stride);
        if !is_network(&found) && stem_stride != [1; 3] {
            stem_stride = [1; 3];
            found = topology(start, self.spacing, stem_stride);
        }
        if !is_network(&found) {
            return Err(format!(
                "no axis of a patch of {:?} voxels can be halved, which leaves no network; another target spacing may \
                 give more voxels",
                self.order.restore(found.patch)
            ));
        }
        let mut elements = self.elements(&rules, stem_stride, &found);
        let mut steps = 0;
        while self.patch_size.is_none() && !self.fits(&rules, &found, elements) {
            let smaller = shrink(&found, self.median_shape, self.spacing, stem_stride);
            let Some(smaller) = smaller.filter(|s| is_network(s) && steps < MAX_STEPS) else {
                return Err(format!(
                    "not even a patch of {:?} voxels fits: {}",
                    self.order.restore(found.patch),
                    self.costs(&rules, elements, self.smallest_batch())
                ));
            };
            steps += 1;
            found = smaller;
            elements = self.elements(&rules, stem_stride, &found);
        }
        let batch_size = self.batch_size(&rules, &found, elements);
        Ok(Configuration {
            batch_size,
            stages: stages(&rules, &found),
            patch_size: found.patch,
            stem_stride,
            costs: self.costs(&rules, elements, batch_size),
        })
    }

    /// The stem strides over all axes but the coarse ones.
    fn stem_stride(&self, stride: usize) -> [usize; 3] {
        let finest = self.spacing.into_iter().fold(f64::INFINITY, f64::min);
        self.spacing
            .map(|spacing| if spacing < 2.0 * finest { stride } else { 1 })
    }

    fn elements(&self, rules: &Rules, stem_stride: [usize; 3], topology: &Topology) -> u64 {
        let network = Network {
            architecture: rules.architecture,
            stages: &stages(rules, topology),
            decoder_convolutions: rules.decoder_convolutions,
            stem_stride,
            outputs: self.outputs,
        };
        network.feature_map_elements(topology.patch, false)
    }

    /// By how much the memory is larger than what the preset is meant for.
    fn memory_factor(&self, bytes: u64) -> f64 {
        self.options.memory.unwrap_or(bytes) as f64 / bytes as f64
    }

    /// The batch that has to fit.
    fn smallest_batch(&self) -> usize {
        self.options.batch_size.unwrap_or(REFERENCE_BATCH)
    }

    fn fits(&self, rules: &Rules, topology: &Topology, elements: u64) -> bool {
        match rules.budget {
            Budget::PatchVoxels { voxels, .. } => {
                topology.patch.iter().product::<usize>() <= voxels
            }
            Budget::Memory {
                elements: reference,
                bytes,
            } => {
                let of_batch =
                    elements as f64 / REFERENCE_BATCH as f64 * self.smallest_batch() as f64;
                of_batch <= reference * self.memory_factor(bytes)
            }
        }
    }

    /// As many patches as the memory holds, but no more of the dataset at once than the preset allows, and at least two.
    fn batch_size(&self, rules: &Rules, topology: &Topology, elements: u64) -> usize {
        match (self.options.batch_size, rules.budget) {
            (Some(asked), _) => asked,
            (None, Budget::PatchVoxels { batch_size, .. }) => batch_size,
            (
                None,
                Budget::Memory {
                    elements: reference,
                    bytes,
                },
            ) => {
                let reference = reference * self.memory_factor(bytes);
                let fitting =
                    (reference / elements as f64 * REFERENCE_BATCH as f64).round_ties_even();
                let patch: f64 = topology.patch.iter().map(|&edge| edge as f64).product();
                let share =
                    (self.dataset_voxels * rules.max_dataset_share / patch).round_ties_even();
                (fitting.min(share) as usize).max(REFERENCE_BATCH)
            }
        }
    }

    /// What of the budget a batch of such patches takes, in words.
    fn costs(&self, rules: &Rules, elements: u64, batch: usize) -> String {
        match rules.budget {
            Budget::PatchVoxels { voxels, .. } => {
                format!("the preset {} allows {voxels} voxels", self.options.preset)
            }
            Budget::Memory {
                elements: reference,
                bytes,
            } => {
                let each = bytes as f64 / reference / REFERENCE_BATCH as f64;
                format!(
                    "a training with {batch} of them takes about {:.2} GB of the {:.2} GB given",
                    elements as f64 * each * batch as f64 / 1e9,
                    self.options.memory.unwrap_or(bytes) as f64 / 1e9
                )
            }
        }
    }
}

/// Whether there is a coarser stage to come back from.
fn is_network(topology: &Topology) -> bool {
    topology.stages.len() >= 2
}

/// Features and blocks of each stage.
fn stages(rules: &Rules, topology: &Topology) -> Vec<StagePlan> {
    let last = rules.encoder_blocks.len() - 1;
    topology
        .stages
        .iter()
        .enumerate()
        .map(|(i, &(kernel, stride))| StagePlan {
            features: (rules.base_features << i.min(16)).min(rules.max_features),
            kernel,
            stride,
            blocks: rules.encoder_blocks[i.min(last)],
        })
        .collect()
}

/// 256³ voxels in the proportions of a cube of tissue, no larger than the median case along any axis.
fn first_patch(spacing: [f64; 3], median_shape: [f64; 3]) -> [f64; 3] {
    let inverse = spacing.map(|s| 1.0 / s);
    let factor = (FIRST_PATCH / inverse.iter().product::<f64>()).powf(1.0 / 3.0);
    std::array::from_fn(|axis| {
        let edge = (inverse[axis] * factor).round_ties_even();
        edge.max(1.0).min(median_shape[axis])
    })
}

/// The patch with its largest axis, relative to the median case, one step smaller; `None` when nothing is left of it.
fn shrink(
    from: &Topology,
    median_shape: [f64; 3],
    spacing: [f64; 3],
    stem: [usize; 3],
) -> Option<Topology> {
    let relative = |axis: usize| from.patch[axis] as f64 / median_shape[axis];
    let axis = (0..3).max_by(|&a, &b| relative(a).total_cmp(&relative(b)))?;
    let less = |by: usize| {
        let mut patch = from.patch.map(|edge| edge as f64);
        patch[axis] -= by as f64;
        topology(patch, spacing, stem)
    };
    // A smaller patch may divide by less, and then a smaller step would do: 256 = 8 · 32 is followed by 224 = 7 · 32,
    // although 256 itself divides by 64.
    let step = less(from.divisor[axis]).divisor[axis];
    (step < from.patch[axis]).then(|| less(step))
}
