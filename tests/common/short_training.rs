//! A short training on balls and boxes, and the Dice that it ends with.

use arl::loss::{DeepSupervision, LossConfig, LossKind, RegionGrid};
use arl::models::{Network, NetworkConfig, Precision, StageConfig, UNetConfig};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Int, Tensor, TensorData};

const EDGE: usize = 16;
const STEPS: usize = 60;

/// A noisy image with a ball of class 1 and a box of class 2 in places that depend on `case`: images `[1, 1, D, H, W]` and
/// labels `[1, D, H, W]`.
fn draw(case: usize, device: &Device) -> (Tensor<5>, Tensor<4, Int>) {
    let mut state = case as u32 * 977 + 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / u32::MAX as f32
    };
    let centre = [0; 3].map(|_| 4.0 + 8.0 * random());
    let start = [0; 3].map(|_| (9.0 * random()) as usize);
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for index in 0..EDGE.pow(3) {
        let voxel = [index / EDGE / EDGE, index / EDGE % EDGE, index % EDGE];
        let squared: f32 = (0..3).map(|i| (voxel[i] as f32 - centre[i]).powi(2)).sum();
        let inside = (0..3).all(|i| (start[i]..start[i] + 6).contains(&voxel[i]));
        let label = if squared < 16.0 {
            1
        } else {
            2 * i32::from(inside)
        };
        labels.push(label);
        images.push([-0.5, 0.8, 0.2][label as usize] + random() - 0.5);
    }
    let shape = [1, EDGE, EDGE, EDGE];
    let images = Tensor::from_data(TensorData::new(images, [1, 1, EDGE, EDGE, EDGE]), device);
    (
        images,
        Tensor::from_data(TensorData::new(labels, shape), device),
    )
}

/// The mean Dice of both classes over cases that were not trained on.
fn dice(network: &Network, precision: Precision, device: &Device) -> f64 {
    let [mut overlap, mut sum] = [[0.0; 2]; 2];
    for case in 1000..1008 {
        let (images, labels) = draw(case, device);
        let predicted = precision.predict(network, images).argmax(1);
        let predicted = predicted.into_data().iter::<i32>().collect::<Vec<_>>();
        let labels = labels.into_data().iter::<i32>().collect::<Vec<_>>();
        for (found, label) in predicted.into_iter().zip(labels) {
            for class in [1, 2] {
                let at = class as usize - 1;
                overlap[at] += f64::from(u8::from(found == class && label == class));
                sum[at] += f64::from(u8::from(found == class) + u8::from(label == class));
            }
        }
    }
    (0..2).map(|i| 2.0 * overlap[i] / sum[i] / 2.0).sum()
}

/// Trains with seeded weights and returns the mean Dice over cases that were not trained on.
pub fn train(device: &Device, precision: Precision) -> f64 {
    let device = device.clone().autodiff();
    let stages = vec![
        StageConfig::new(8, [3; 3], [1; 3]),
        StageConfig::new(16, [3; 3], [2; 3]),
    ];
    let config = NetworkConfig::UNet(UNetConfig::new(1, 3, stages));
    let mut network = config.init_seeded(&device, 5).unwrap();
    let loss = LossConfig::of(LossKind::ArlCe).with_regions(RegionGrid::size([8; 3]));
    let loss = DeepSupervision::new(&loss);
    let mut optimizer = AdamWConfig::new().init();
    for step in 0..STEPS {
        let (images, labels) = draw(step, &device);
        let value = loss.forward(precision.forward(&network, images), labels);
        let gradients = GradientsParams::from_grads(value.backward(), &network);
        network = optimizer.step(3e-3, network, gradients);
    }
    dice(&network, precision, &device)
}
