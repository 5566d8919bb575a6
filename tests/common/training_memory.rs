//! How much memory a training step takes, counted by an allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use arl::loss::{DeepSupervision, LossConfig, LossKind, RegionGrid};
use arl::models::{NetworkConfig, SegmentationModel};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Tensor};

/// The system's allocator, counted.
pub struct LiveBytes;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

/// The most bytes that two training steps held, the network, its optimiser and the batch among them.
pub fn measured(
    config: &NetworkConfig,
    patch: [usize; 3],
    batch: usize,
    checkpointing: bool,
) -> usize {
    let device = match checkpointing {
        false => Device::flex().autodiff(),
        true => Device::flex().autodiff().gradient_checkpointing(),
    };
    let ((), most) = most_during(|| {
        let mut network = config.init_seeded(&device, 0).unwrap();
        let loss = LossConfig::of(LossKind::ArlCe).with_regions(RegionGrid::size([16; 3]));
        let loss = DeepSupervision::new(&loss);
        let mut optimizer = AdamWConfig::new().init();
        let [d, h, w] = patch;
        let (channels, classes) = config.channels();
        for _ in 0..2 {
            let shape = [batch, channels, d, h, w];
            let images = Tensor::<5>::random(shape, Distribution::Normal(0.0, 1.0), &device);
            let labels = Distribution::Uniform(0.0, classes as f64);
            let labels = Tensor::<4>::random([batch, d, h, w], labels, &device).int();
            let value = loss.forward(network.forward(images), labels);
            let gradients = GradientsParams::from_grads(value.backward(), &network);
            network = optimizer.step(1e-3, network, gradients);
        }
    });
    most
}

/// What `run` returns, and the most bytes that all threads held meanwhile beyond what they held before.
fn most_during<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let result = run();
    (result, MOST.load(Ordering::Relaxed).saturating_sub(before))
}

fn grown(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST.fetch_max(live, Ordering::Relaxed);
}

fn shrunk(bytes: usize) {
    LIVE.fetch_sub(bytes, Ordering::Relaxed);
}

// SAFETY: everything is done by the system's allocator; counting touches neither memory nor layouts.
unsafe impl GlobalAlloc for LiveBytes {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: as promised by the caller.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        shrunk(layout.size());
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        grown(size);
        shrunk(layout.size());
        // SAFETY: as promised by the caller.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
