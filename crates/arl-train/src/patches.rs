//! Patches from the cache as Burn's data loaders.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arl_data::loader::{Batch, EpochIter, PatchLoader};
use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::Device;

use crate::budget::Budget;
use crate::network::PatchTensors;

fn upload(batch: Batch, device: &Device) -> PatchTensors {
    let (images, labels) = batch.into_tensors(device);
    PatchTensors { images, labels }
}

/// Random patches; an epoch ends early when the budget is spent.
#[derive(Clone)]
pub struct TrainingPatches {
    loader: Arc<PatchLoader>,
    steps: usize,
    next_epoch: Arc<AtomicUsize>,
    budget: Arc<Budget>,
    device: Device,
}

impl TrainingPatches {
    /// Patches of `steps` steps an epoch, beginning with epoch `first` (from 1).
    pub fn new(
        loader: Arc<PatchLoader>,
        steps: usize,
        first: usize,
        budget: Arc<Budget>,
        device: Device,
    ) -> Self {
        Self {
            loader,
            steps,
            next_epoch: Arc::new(AtomicUsize::new(first)),
            budget,
            device,
        }
    }
}

impl DataLoader<PatchTensors> for TrainingPatches {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<PatchTensors> + 'a> {
        let epoch = self.next_epoch.fetch_add(1, Ordering::Relaxed);
        Box::new(TrainingEpoch {
            patches: self,
            batches: self.loader.epoch(epoch),
            done: 0,
        })
    }

    fn num_items(&self) -> usize {
        self.steps
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<PatchTensors>> {
        Arc::new(Self {
            device: device.clone(),
            ..self.clone()
        })
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<PatchTensors>> {
        Arc::new(Self {
            steps: end.saturating_sub(start).min(self.steps),
            ..self.clone()
        })
    }
}

struct TrainingEpoch<'a> {
    patches: &'a TrainingPatches,
    batches: EpochIter,
    done: usize,
}

impl Iterator for TrainingEpoch<'_> {
    type Item = Result<PatchTensors, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done >= self.patches.steps || self.patches.budget.is_spent() {
            return None;
        }
        self.done += 1;
        let batch = self.batches.next()?;
        Some(
            batch
                .map(|batch| upload(batch, &self.patches.device))
                .map_err(DatasetError::new),
        )
    }
}

impl DataLoaderIterator<PatchTensors> for TrainingEpoch<'_> {
    fn progress(&self) -> Progress {
        Progress::new(self.done, self.patches.steps, Some("steps".into()))
    }
}

/// A fixed list of patches, the same in every epoch.
#[derive(Clone)]
pub struct ValidationPatches {
    batches: Arc<Vec<Batch>>,
    device: Device,
}

impl ValidationPatches {
    /// Patches to validate on.
    pub fn new(batches: Vec<Batch>, device: Device) -> Self {
        Self {
            batches: Arc::new(batches),
            device,
        }
    }
}

impl DataLoader<PatchTensors> for ValidationPatches {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<PatchTensors> + 'a> {
        Box::new(ValidationEpoch {
            patches: self,
            done: 0,
        })
    }

    fn num_items(&self) -> usize {
        self.batches.len()
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<PatchTensors>> {
        Arc::new(Self {
            device: device.clone(),
            ..self.clone()
        })
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<PatchTensors>> {
        let end = end.min(self.batches.len());
        let batches = Arc::new(self.batches[start.min(end)..end].to_vec());
        Arc::new(Self {
            batches,
            device: self.device.clone(),
        })
    }
}

struct ValidationEpoch<'a> {
    patches: &'a ValidationPatches,
    done: usize,
}

impl Iterator for ValidationEpoch<'_> {
    type Item = Result<PatchTensors, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.patches.batches.get(self.done)?.clone();
        self.done += 1;
        Some(Ok(upload(batch, &self.patches.device)))
    }
}

impl DataLoaderIterator<PatchTensors> for ValidationEpoch<'_> {
    fn progress(&self) -> Progress {
        Progress::new(
            self.done,
            self.patches.batches.len(),
            Some("patches".into()),
        )
    }
}
