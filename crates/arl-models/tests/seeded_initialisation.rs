//! Alone in its process, because a device's random numbers are shared by all threads.

use arl_models::{SegmentationModel, StageConfig, UNet, UNetConfig};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Distribution, Tensor};

fn weights(model: &UNet) -> Vec<f32> {
    struct Collect(Vec<f32>);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.extend(param.val().into_data().iter::<f32>());
        }
    }
    let mut collect = Collect(Vec::new());
    model.visit(&mut collect);
    collect.0
}

#[test]
fn the_same_seed_gives_the_same_weights() {
    let device = Device::flex();
    let stages = vec![
        StageConfig::new(8, [3; 3], [1; 3]),
        StageConfig::new(16, [3; 3], [2; 3]),
    ];
    let config = UNetConfig::new(1, 2, stages);
    let first = config.init_seeded(&device, 7).unwrap();
    // Neither random numbers drawn in between nor the order of first use matter.
    let images = Tensor::<5>::random([1, 1, 4, 4, 4], Distribution::Default, &device);
    let second = config.init_seeded(&device, 7).unwrap();
    let other = config.init_seeded(&device, 8).unwrap();
    second.predict(images);
    assert_eq!(weights(&first), weights(&second));
    assert_ne!(weights(&first), weights(&other));

    // He initialisation of the second convolution: std = sqrt(2 / 1.0001 / (8 · 27)), 1728 weights that
    // follow the first convolution's 8·27 weights and the 3·8 numbers after them.
    let start = 8 * 27 + 3 * 8;
    let drawn = &weights(&first)[start..start + 1728];
    let mean_square = drawn.iter().map(|w| w * w).sum::<f32>() / 1728.0;
    let expected = 2.0 / 1.0001 / 216.0;
    assert!((mean_square / expected - 1.0).abs() < 0.15, "{mean_square}");
}
