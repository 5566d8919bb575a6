//! Learns to tell a bright ball from a dim one and from background, in noise, with a network of two convolutions: the
//! adaptive region-specific loss and cross entropy in one pass, then a look at which regions are still wrong.

use arl_loss::{
    AdaptiveRegionLossConfig, CrossEntropyLossConfig, LossConfig, RegionGrid, check_labels,
};
use burn::module::Module;
use burn::nn::conv::{Conv3d, Conv3dConfig};
use burn::nn::{PaddingConfig3d, Relu};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};

const EDGE: usize = 16;
const CLASSES: usize = 3;

#[derive(Module, Debug)]
struct Network {
    first: Conv3d,
    second: Conv3d,
}

impl Network {
    fn new(device: &Device) -> Self {
        let same = PaddingConfig3d::Explicit(1, 1, 1);
        Self {
            first: Conv3dConfig::new([1, 8], [3; 3])
                .with_padding(same.clone())
                .init(device),
            second: Conv3dConfig::new([8, CLASSES], [3; 3])
                .with_padding(same)
                .init(device),
        }
    }

    /// Logits `[N, C, D, H, W]` of images `[N, 1, D, H, W]`.
    fn forward(&self, images: Tensor<5>) -> Tensor<5> {
        self.second
            .forward(Relu::new().forward(self.first.forward(images)))
    }
}

/// Class 1 is a ball of radius 4, class 2 one of radius 2.
fn anatomy() -> Vec<i32> {
    let within = |at: [usize; 3], centre: usize, radius: usize| {
        at.iter().map(|&x| x.abs_diff(centre).pow(2)).sum::<usize>() <= radius.pow(2)
    };
    (0..EDGE.pow(3))
        .map(|i| [i / EDGE / EDGE, i / EDGE % EDGE, i % EDGE])
        .map(|at| {
            if within(at, 5, 4) {
                1
            } else {
                i32::from(within(at, 12, 2)) * 2
            }
        })
        .collect()
}

fn main() {
    let device = Device::flex().autodiff();
    let anatomy = anatomy();
    let brightness: Vec<f32> = anatomy
        .iter()
        .map(|&class| [0.0, 2.0, 1.0][class as usize])
        .collect();
    let labels = TensorData::new(anatomy, [1, EDGE, EDGE, EDGE]);
    let labels = Tensor::<4, Int>::from_data(labels, &device);
    let images = TensorData::new(brightness, [1, 1, EDGE, EDGE, EDGE]);
    let images = Tensor::<5>::from_data(images, &device);
    check_labels(labels.clone(), CLASSES, None).expect("labels from 0 to 2");

    let regions = AdaptiveRegionLossConfig::new().with_regions(RegionGrid::count([4, 4, 4]));
    let loss = LossConfig::new()
        .with_term(1.0, regions.clone())
        .with_term(1.0, CrossEntropyLossConfig::new())
        .init();

    let mut network = Network::new(&device);
    let mut optimizer = AdamWConfig::new().init();
    for step in 0..60 {
        let noise = Tensor::random(images.shape(), Distribution::Normal(0.0, 0.3), &device);
        let value = loss.forward(network.forward(images.clone() + noise), labels.clone());
        let gradients = GradientsParams::from_grads(value.backward(), &network);
        network = optimizer.step(1e-2, network, gradients);
        if step % 10 == 9 {
            println!(
                "step {:2}: loss {:.3}",
                step + 1,
                value.into_scalar::<f32>()
            );
        }
    }

    let report = regions
        .init()
        .region_report(network.forward(images), labels)
        .expect("shapes that fit");
    // The last of the 4³ regions holds the small ball.
    let of_ball = |map: Tensor<3>| map.slice([0..1, 2..3, 63..64]).into_scalar::<f32>();
    println!(
        "the small ball's region: loss {:.3}, weight of false positives {:.2}, of false negatives {:.2}",
        of_ball(report.loss),
        of_ball(report.alpha),
        of_ball(report.beta)
    );
}
