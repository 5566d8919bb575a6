//! Batches of augmented patches, made by background threads.
//!
//! Every sample has its own random generator, seeded by where it stands (seed, epoch, step, place in the batch), and
//! batches are handed out in order. So a run sees the same batches whatever the number of threads, and a resumed
//! run goes on with those that it would have seen, also in the middle of an epoch ([`LoaderState`]).

mod batch;
mod workers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ndarray::{Array3, Array4};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::augment::{Augmentation, OUTSIDE_OF_BODY, PatchSource, clear_outside};
use crate::cache::{Cache, CachedCase};
use crate::sampler::PatchSampler;
use crate::{DataError, Result};
pub use batch::Batch;
pub use workers::EpochIter;

/// The label of voxels outside of the volume, for patches of which these channels are normalised within the body.
fn outside(masked_channels: &[usize]) -> u16 {
    // Background, as in nnU-Net.
    if masked_channels.is_empty() {
        0
    } else {
        OUTSIDE_OF_BODY
    }
}

/// What a loader makes, and with how many threads.
#[derive(Clone, Debug)]
pub struct LoaderConfig {
    /// Voxels of a patch along `[D, H, W]`.
    pub patch_size: [usize; 3],
    /// Patches per batch.
    pub batch_size: usize,
    /// Batches per epoch.
    pub steps_per_epoch: usize,
    /// The share of patches forced to contain foreground; see [`PatchSampler`].
    pub foreground_fraction: f64,
    /// What is done to each patch.
    pub augment: Augmentation,
    /// Channels that are normalised within the body, which [`Plan::masked_channels`] knows: outside of it they are 0.
    ///
    /// [`Plan::masked_channels`]: crate::plan::Plan::masked_channels
    pub masked_channels: Vec<usize>,
    /// Distance between the cases' voxels along `[D, H, W]` in mm.
    pub spacing: [f64; 3],
    /// Seed of everything random here.
    pub seed: u64,
    /// Background threads; 0 makes each batch when it is asked for.
    pub workers: usize,
    /// Bytes for batches ahead of the consumer: those finished and waiting, and those in the making. As many as fit, but at
    /// least one; see [`PatchLoader::batch_bytes`]. Not counted: what a worker needs to make a patch (the box of voxels that
    /// the patch is made of: the patch once more, or up to twelve times when it is rotated and scaled as in nnU-Net), and
    /// pages of the cache's files, which the operating system takes back when it needs them.
    pub memory: u64,
}

/// Where a loader stands: the next batch is that of `step` in `epoch`. All that is random follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoaderState {
    /// [`LoaderConfig::seed`].
    pub seed: u64,
    /// The epoch, as given to [`PatchLoader::epoch`].
    pub epoch: usize,
    /// The step within the epoch, from 0.
    pub step: usize,
}

/// Draws training batches from a cache.
#[derive(Debug)]
pub struct PatchLoader {
    source: Arc<Source>,
    waited_ns: Arc<AtomicU64>,
}

/// What a worker needs to make any batch.
#[derive(Debug)]
struct Source {
    cache: Arc<Cache>,
    cases: Vec<usize>,
    sampler: PatchSampler,
    config: LoaderConfig,
}

impl PatchLoader {
    /// A loader over the cases at these indices of [`Cache::cases`].
    ///
    /// # Errors
    /// No case, an index past the end, cases that differ in their number of channels, an empty patch or batch, an
    /// augmentation with a parameter out of its bounds.
    pub fn new(cache: Arc<Cache>, cases: Vec<usize>, config: LoaderConfig) -> Result<Self> {
        check_cases(&cache, &cases, config.patch_size)?;
        if config.batch_size == 0 {
            return Err(DataError::invalid(
                cache.directory(),
                "the batch size is 0",
                "set it to 1 or more",
            ));
        }
        let augment = config
            .augment
            .validate_for(config.patch_size, config.spacing)
            .and_then(|()| {
                let channels = cache.cases()[cases[0]].channels;
                config.augment.validate_channels(channels)
            });
        augment.map_err(|error| {
            let cure = "correct the augmentation";
            DataError::invalid(cache.directory(), error.to_string(), cure)
        })?;
        let sampler = PatchSampler {
            patch_size: config.patch_size,
            foreground_fraction: config.foreground_fraction,
        };
        Ok(Self {
            source: Arc::new(Source {
                cache,
                cases,
                sampler,
                config,
            }),
            waited_ns: Arc::default(),
        })
    }

    /// Starts the threads for an epoch and returns its batches in order. Dropping the iterator stops them.
    ///
    /// An item is an error, and the last one, when a case could not be turned into a patch; it names the case.
    pub fn epoch(&self, epoch: usize) -> EpochIter {
        self.start(LoaderState {
            seed: self.source.config.seed,
            epoch,
            step: 0,
        })
    }

    /// The rest of an epoch from a state that [`EpochIter::state`] gave: the batches that were left there, bit by bit.
    ///
    /// # Errors
    /// The state is of another seed, or past the end of the epoch.
    pub fn epoch_from(&self, state: LoaderState) -> Result<EpochIter> {
        let config = &self.source.config;
        let problem = if state.seed != config.seed {
            format!(
                "the state to go on from has seed {}, the loader has {}",
                state.seed, config.seed
            )
        } else if state.step > config.steps_per_epoch {
            format!(
                "the state to go on from is at step {}, an epoch has {}",
                state.step, config.steps_per_epoch
            )
        } else {
            return Ok(self.start(state));
        };
        let directory = self.source.cache.directory();
        Err(DataError::invalid(
            directory,
            problem,
            "go on with the configuration that the state is from",
        ))
    }

    fn start(&self, state: LoaderState) -> EpochIter {
        let source = self.source.clone();
        let config = &self.source.config;
        let ahead = (config.memory / self.batch_bytes().max(1)).max(1);
        EpochIter::start(
            state,
            config.steps_per_epoch,
            config.workers,
            usize::try_from(ahead).unwrap_or(usize::MAX),
            self.waited_ns.clone(),
            Arc::new(move |step, stop: &AtomicBool| source.batch(state.epoch, step, stop)),
        )
    }

    /// Bytes of the images and labels of a batch.
    pub fn batch_bytes(&self) -> u64 {
        let Source {
            cache,
            cases,
            config,
            ..
        } = &*self.source;
        let channels = cache.cases()[cases[0]].channels as u64;
        let voxels = config
            .patch_size
            .iter()
            .fold(config.batch_size as u64, |n, &edge| {
                n.saturating_mul(edge as u64)
            });
        voxels.saturating_mul(channels * size_of::<f32>() as u64 + size_of::<i32>() as u64)
    }

    /// How long the consumer has waited for batches since this loader was made, over all epochs.
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited_ns.load(Ordering::Relaxed))
    }
}

impl Source {
    /// The batch of a step; `None` if `stop` was set meanwhile.
    fn batch(&self, epoch: usize, step: usize, stop: &AtomicBool) -> Option<Result<Batch>> {
        let config = &self.config;
        let mut batch = Batch::with_capacity(
            config.batch_size,
            self.cache.cases()[self.cases[0]].channels,
            config.patch_size,
        );
        for index in 0..config.batch_size {
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            let mut rng = sample_rng([config.seed, epoch as u64, step as u64, index as u64]);
            let case = &self.cache.cases()[self.cases[rng.random_range(0..self.cases.len())]];
            let pushed = workers::guarded(&case.id, || {
                let foreground = self
                    .sampler
                    .forces_foreground(index, config.batch_size, &mut rng);
                let start = self.sampler.start(case, foreground, &mut rng)?;
                let source = Patches {
                    case,
                    outside: outside(&config.masked_channels),
                };
                let (mut image, mut labels) = config.augment.patch(
                    &source,
                    start,
                    config.patch_size,
                    config.spacing,
                    &mut rng,
                )?;
                clear_outside(&mut image, &mut labels, &config.masked_channels);
                batch.push(&case.id, &image, &labels)
            });
            if let Err(error) = pushed {
                return Some(Err(error));
            }
        }
        Some(Ok(batch))
    }
}

/// A case as augmentation reads it.
struct Patches<'a> {
    case: &'a CachedCase,
    /// The label of voxels outside of the volume.
    outside: u16,
}

impl PatchSource for Patches<'_> {
    fn channels(&self) -> usize {
        self.case.channels
    }

    fn read(&self, start: [i64; 3], size: [usize; 3]) -> Result<(Array4<f32>, Array3<u16>)> {
        self.case.read_patch(start, size, self.outside)
    }
}

/// A fixed list of `count` unaugmented patches, one per batch, for following a training run.
///
/// The cases take turns; each patch is centred on foreground where its case has some. `masked_channels` are those of
/// [`LoaderConfig::masked_channels`].
///
/// # Errors
/// No case, an index past the end, cases that differ in their number of channels, an empty patch.
pub fn validation_patches(
    cache: &Cache,
    cases: &[usize],
    patch_size: [usize; 3],
    count: usize,
    seed: u64,
    masked_channels: &[usize],
) -> Result<Vec<Batch>> {
    check_cases(cache, cases, patch_size)?;
    let sampler = PatchSampler {
        patch_size,
        foreground_fraction: 1.0,
    };
    (0..count)
        .map(|patch| {
            // No epoch has this number, so no training patch shares its generator.
            let mut rng = sample_rng([seed, u64::MAX, patch as u64, 0]);
            let case = &cache.cases()[cases[patch % cases.len()]];
            let start = sampler.start(case, true, &mut rng)?;
            let (mut image, mut labels) =
                case.read_patch(start, patch_size, outside(masked_channels))?;
            clear_outside(&mut image, &mut labels, masked_channels);
            let mut batch = Batch::with_capacity(1, case.channels, patch_size);
            batch.push(&case.id, &image, &labels)?;
            Ok(batch)
        })
        .collect()
}

fn check_cases(cache: &Cache, cases: &[usize], patch_size: [usize; 3]) -> Result<()> {
    let directory = cache.directory();
    if patch_size.contains(&0) {
        let problem = format!("the patch size is {patch_size:?} voxels");
        return Err(DataError::invalid(
            directory,
            problem,
            "set it to 1 or more",
        ));
    }
    let mut selected = Vec::new();
    for &index in cases {
        let Some(case) = cache.cases().get(index) else {
            let problem = format!("case {index} of {} was asked for", cache.cases().len());
            return Err(DataError::invalid(directory, problem, "check the split"));
        };
        selected.push(case);
    }
    let Some(first) = selected.first() else {
        return Err(DataError::invalid(
            directory,
            "no case was selected",
            "check the split",
        ));
    };
    if let Some(other) = selected.iter().find(|case| case.channels != first.channels) {
        let problem = format!(
            "case {} has {} channels, but case {} has {}",
            other.id, other.channels, first.id, first.channels
        );
        return Err(DataError::invalid(
            directory,
            problem,
            "give every case the same channels",
        ));
    }
    Ok(())
}

/// The generator of a sample: its coordinates are folded one by one with SplitMix64, whose full mixing keeps
/// neighbouring samples apart, and the result seeds [`StdRng`].
fn sample_rng(coordinates: [u64; 4]) -> StdRng {
    let mixed = coordinates.into_iter().fold(0u64, |state, coordinate| {
        let mut z = (state ^ coordinate).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    });
    StdRng::seed_from_u64(mixed)
}

#[cfg(test)]
mod tests;
