//! How many cases may be in memory at once.

use std::sync::{Condvar, Mutex, PoisonError};

use crate::resample::{SLAB_STEP, resampled_shape};

/// Bytes that the cases in the making share.
pub(crate) struct MemoryBudget {
    bytes: u64,
    /// Bytes in use, and by how many cases.
    used: Mutex<(u64, usize)>,
    freed: Condvar,
}

/// A case's share of the budget, given back when dropped.
pub(crate) struct Share<'a> {
    budget: &'a MemoryBudget,
    bytes: u64,
}

impl MemoryBudget {
    pub fn new(bytes: u64) -> Self {
        Self {
            bytes,
            used: Mutex::new((0, 0)),
            freed: Condvar::new(),
        }
    }

    /// Waits until so many bytes are free; a case that needs more than all of them waits until it is alone.
    pub fn take(&self, bytes: u64) -> Share<'_> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let mut used = self
            .freed
            .wait_while(used, |(taken, cases)| {
                *cases > 0 && taken.saturating_add(bytes) > self.bytes
            })
            .unwrap_or_else(PoisonError::into_inner);
        *used = (used.0.saturating_add(bytes), used.1 + 1);
        Share {
            budget: self,
            bytes,
        }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let used = self.budget.used.lock();
        let mut used = used.unwrap_or_else(PoisonError::into_inner);
        *used = (used.0.saturating_sub(self.bytes), used.1 - 1);
        self.budget.freed.notify_all();
    }
}

/// Bytes that cases in memory at the same time may share, unless told otherwise.
pub(crate) const DEFAULT_MEMORY: u64 = 4 << 30;

/// Bytes of a training case as it is read: `voxels` of each channel as f32, and their labels.
pub(crate) fn as_read(voxels: u64, channels: usize) -> u64 {
    voxels.saturating_mul(4 * channels as u64 + 2)
}

/// Bytes that the preprocessing of a training case takes at most: the volumes as they were read, and a slab before and
/// after its resampling and while it is compressed.
pub(crate) fn estimate(
    shape: [usize; 3],
    spacing: [f64; 3],
    channels: usize,
    target_spacing: [f64; 3],
    masked: bool,
) -> u64 {
    let channels = channels as u64;
    let voxels = (shape.iter()).fold(1u64, |product, n| product.saturating_mul(*n as u64));
    let [depth, height, width] = resampled_shape(shape, spacing, target_spacing).map(|n| n as u64);
    let slab = |plane: u64| {
        // The rule of `Resampler::slab_planes`, rounded up.
        (plane * 4 * SLAB_STEP as u64).max(crate::resample::SLAB_BYTES as u64)
    };
    let whole = 4 * depth * height * width;
    let before = slab((shape[1] * shape[2]) as u64);
    let after = slab(height * width).min(whole) * channels;
    let layer = SLAB_STEP as u64 * height * width * (4 * channels + 2);
    let mask = if masked { 2 * voxels } else { 0 };
    as_read(voxels, channels as usize) + mask + before + after + after / 2 + layer
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn cases_share_the_budget_and_a_large_one_is_alone() {
        let budget = MemoryBudget::new(100);
        let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
        let (alone, together) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for bytes in [40, 50, 30, 1000, 60, 10, 20, 90, 40] {
                let (budget, now, most) = (&budget, &now, &most);
                let (alone, together) = (&alone, &together);
                scope.spawn(move || {
                    let share = budget.take(bytes);
                    let total = now.fetch_add(bytes, Ordering::SeqCst) + bytes;
                    if bytes == 1000 {
                        alone.store(total, Ordering::SeqCst);
                    } else {
                        most.fetch_max(total, Ordering::SeqCst);
                        together.fetch_add(1, Ordering::SeqCst);
                    }
                    std::thread::sleep(Duration::from_millis(2));
                    now.fetch_sub(bytes, Ordering::SeqCst);
                    drop(share);
                });
            }
        });
        assert_eq!(alone.load(Ordering::SeqCst), 1000);
        assert!(most.load(Ordering::SeqCst) <= 100);
        assert_eq!(together.load(Ordering::SeqCst), 8);
    }

    #[test]
    fn a_thousand_slices_are_estimated_below_four_gigabytes() {
        let bytes = estimate([1000, 512, 512], [0.8; 3], 1, [1.0, 0.7, 0.7], false);
        let volumes = 1000 * 512 * 512 * 6;
        assert!((volumes..3 << 30).contains(&bytes), "{bytes}");
    }
}
