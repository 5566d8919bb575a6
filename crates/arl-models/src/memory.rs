//! What training takes of the memory, counted before it begins.

use crate::checkpointing::is_computed_again;
use crate::cicek_unet_config::LEVELS as CICEK_LEVELS;
use crate::vnet_config::{LEVELS as VNET_LEVELS, VNetVariant};
use crate::{
    Activation, CicekUNetConfig, LayerConfig, ModelError, NetworkConfig, Normalization, Precision,
    UNetConfig, VNetConfig,
};

/// Bytes of a number in f32.
const FLOAT: f64 = 4.0;

/// Bytes that a training takes with AdamW, in f32, on a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// The weights.
    pub weights: u64,
    /// AdamW's two moments of each of them.
    pub optimizer: u64,
    /// The gradients of the weights.
    pub gradients: u64,
    /// The feature maps that a step keeps from the forward to the backward pass, the batch and the logits among them.
    pub activations: u64,
    /// What the backward pass holds beside those where it takes most, which is near its beginning: gradients of feature maps,
    /// and with gradient checkpointing the feature maps of the stage that is computed again.
    pub backward: u64,
    /// What is held beside all gradients of the weights: what a step of the optimiser takes for the largest of its tensors or, with
    /// gradient checkpointing, a stage near the image that is computed again.
    pub update: u64,
}

impl MemoryEstimate {
    /// The most bytes at a time: where the backward pass begins, or where it has ended and the weights are changed.
    pub fn total(&self) -> u64 {
        let first = self.activations.saturating_add(self.backward);
        let last = self.gradients.saturating_add(self.update);
        (self.weights.saturating_add(self.optimizer)).saturating_add(first.max(last))
    }

    /// The same for features of `precision`. In bf16 they and their gradients take half, and what a convolution's copy of its
    /// weights takes is little beside them. Reckoned: no GPU's memory was measured.
    pub fn in_precision(self, precision: Precision) -> Self {
        match precision {
            Precision::F32 => self,
            Precision::Bf16 => Self {
                activations: self.activations / 2,
                backward: self.backward / 2,
                ..self
            },
        }
    }
}

/// Counts what a training step takes: patches of `patch` voxels `[D, H, W]`, `batch` at a time, AdamW, f32.
///
/// With gradient checkpointing (`Device::gradient_checkpointing`) only what the stages of the network give is kept, and the rest
/// computed again in the backward pass, one stage at a time, in builds with the feature `flex` or one for GPUs.
///
/// Held to what steps on a CPU take (`tests/memory.rs`: within 15 %). A GPU's convolutions may take workspace beside that.
///
/// # Errors
/// If the patch does not go through the network.
pub fn estimate_memory(
    config: &NetworkConfig,
    patch: [usize; 3],
    batch: usize,
    gradient_checkpointing: bool,
) -> Result<MemoryEstimate, ModelError> {
    config.check_patch(patch)?;
    let mut count = Count {
        checkpointing: gradient_checkpointing,
        ..Count::default()
    };
    let images = Maps::of(patch, batch);
    let (channels, _) = config.channels();
    count.keep(images, channels);
    match config {
        NetworkConfig::UNet(config) => unet(&mut count, config, images),
        NetworkConfig::VNet(config) => vnet(&mut count, config, images),
        NetworkConfig::CicekUNet(config) => cicek_unet(&mut count, config, images),
    }
    // What is more than 64 bits can count becomes the largest number that they can.
    let bytes = |numbers: f64| (FLOAT * numbers) as u64;
    Ok(MemoryEstimate {
        weights: bytes(count.weights),
        optimizer: bytes(2.0 * count.weights),
        gradients: bytes(count.weights),
        activations: bytes(count.kept + count.logits),
        backward: bytes(count.backward()),
        update: bytes((UPDATE * count.largest).max(count.last)),
    })
}

/// Tensors of the size of the largest weights that a step of the optimiser holds.
const UPDATE: f64 = 2.0;

/// Gradients of the size of its result that the backward pass of a stage holds.
const GRADIENTS_OF_A_STAGE: f64 = 3.0;

/// Voxels of feature maps of some resolution, in the whole batch.
#[derive(Clone, Copy)]
struct Maps {
    size: [usize; 3],
    batch: usize,
}

impl Maps {
    fn of(size: [usize; 3], batch: usize) -> Self {
        Self { size, batch }
    }

    fn strided(self, stride: [usize; 3]) -> Self {
        let size = std::array::from_fn(|axis| self.size[axis].div_ceil(stride[axis]));
        Self { size, ..self }
    }

    fn elements(self, channels: usize) -> f64 {
        let voxels = self.size.iter().map(|&n| n as f64).product::<f64>();
        voxels * self.batch as f64 * channels as f64
    }
}

/// In f64, which counts exactly up to 2⁵³ and overflows nowhere.
#[derive(Default)]
struct Count {
    /// Numbers that are learned.
    weights: f64,
    /// Those of the largest tensor of them.
    largest: f64,
    /// Numbers of feature maps that are kept, without the logits.
    kept: f64,
    /// Those of the logits, and so of their gradients.
    logits: f64,
    /// Whether stages are computed again rather than kept.
    checkpointing: bool,
    /// Numbers of the feature maps of the stage that was counted last.
    inner: f64,
    /// Whether that one is computed again, rather than kept.
    again: bool,
    /// Numbers of gradients in the last block, where the backward pass begins.
    gradients: f64,
    /// Numbers that are held where it ends, in the largest stage of the way down that is computed again.
    last: f64,
    /// Numbers of the results of the way down.
    skipped: f64,
}

impl Count {
    fn keep(&mut self, maps: Maps, channels: usize) {
        self.kept += maps.elements(channels);
    }

    /// What `stage` keeps, whose result `maps` have so many channels.
    fn stage(&mut self, maps: Maps, channels: usize, stage: impl FnOnce(&mut Self)) {
        let before = self.kept;
        stage(self);
        self.inner = self.kept - before;
        self.again = self.checkpointing;
        if self.again {
            self.kept = before;
            self.keep(maps, channels);
        }
    }

    /// A [`stage`](Self::stage) of the way down, to whose backward pass the gradients of nearly all weights are there, and
    /// those of the results before it.
    fn down(&mut self, maps: Maps, channels: usize, stage: impl FnOnce(&mut Self)) {
        let before = self.kept + self.skipped;
        self.stage(maps, channels, stage);
        self.skipped += maps.elements(channels);
        if self.again {
            let here = before + self.inner + GRADIENTS_OF_A_STAGE * maps.elements(channels);
            self.last = self.last.max(here);
        }
    }

    /// A [`stage`](Self::stage) of the way up, with its channels and the logits of each of its voxels if it is the finest.
    fn up(&mut self, level: usize, maps: Maps, sizes: [usize; 2], stage: impl FnOnce(&mut Self)) {
        if is_computed_again(level, sizes) {
            self.stage(maps, sizes[0], stage);
        } else {
            stage(self);
            self.again = false;
        }
    }

    /// The most that the backward pass holds beside what is kept.
    fn backward(&self) -> f64 {
        let Self {
            logits,
            inner,
            gradients,
            ..
        } = *self;
        match (self.checkpointing, self.again) {
            (false, _) => logits + gradients,
            // First the gradient of the logits; when both are gone, what the last stage takes.
            (true, false) => logits.max(gradients - logits),
            (true, true) => logits.max(inner + gradients - logits),
        }
    }

    fn learn(&mut self, weights: usize) {
        self.weights += weights as f64;
        self.largest = self.largest.max(weights as f64);
    }

    /// A convolution, transposed or not, whose result `maps` have `channels[1]` channels.
    fn convolution(&mut self, channels: [usize; 2], kernel: [usize; 3], bias: bool) {
        let [input, output] = channels;
        self.learn(output * input * kernel.iter().product::<usize>());
        self.learn(if bias { output } else { 0 });
    }

    /// What follows a convolution; keeps the convolution's result, and what lies between the layers.
    fn layers(&mut self, maps: Maps, channels: usize, layers: &LayerConfig, activated: bool) {
        self.keep(maps, channels);
        let activated = activated.then_some(layers.activation);
        if layers.normalization != Normalization::None {
            self.learn(2 * channels);
        }
        if activated == Some(Activation::PRelu) {
            self.learn(channels);
        }
        // Within a stage that is computed again Burn computes these again too.
        if self.checkpointing {
            return;
        }
        if layers.dropout > 0.0 {
            self.keep(maps, channels);
        }
        // An activation of a constant slope goes back from its result; a learned one needs what it was given too.
        if layers.normalization != Normalization::None && activated == Some(Activation::PRelu) {
            self.keep(maps, channels);
        }
    }

    /// A convolution with its layers, whose result is kept for what comes next.
    fn block(
        &mut self,
        channels: [usize; 2],
        kernel: [usize; 3],
        maps: Maps,
        layers: &LayerConfig,
    ) {
        self.convolution(channels, kernel, true);
        self.layers(maps, channels[1], layers, true);
        let light = layers.normalization == Normalization::Instance
            && layers.activation != Activation::PRelu;
        if !(self.checkpointing && light) {
            self.keep(maps, channels[1]);
        }
    }

    /// The activation of a sum, whose result is kept for what comes next.
    fn activated_sum(&mut self, maps: Maps, channels: usize, layers: &LayerConfig) {
        if layers.activation == Activation::PRelu {
            self.learn(channels);
            self.keep(maps, channels);
        }
        self.keep(maps, channels);
    }

    /// What the backward pass of the last block takes.
    fn last_block(&mut self, maps: Maps, channels: usize, layers: &LayerConfig) {
        let ours = matches!(
            layers.normalization,
            Normalization::None | Normalization::Instance
        );
        let of_result = maps.elements(channels);
        self.gradients += match ours && layers.activation != Activation::PRelu {
            // Of its result, in whose place those of the convolution come; computed again, that result too, and what the
            // convolution copies of one image.
            true if self.checkpointing => 2.0 * of_result + of_result / maps.batch.max(1) as f64,
            true => of_result,
            // Of Burn's operations, one by one.
            false => 4.0 * of_result,
        };
    }

    /// Logits of a head.
    fn logits(&mut self, maps: Maps, classes: usize) {
        self.logits += maps.elements(classes);
    }
}

fn unet(count: &mut Count, config: &UNetConfig, images: Maps) {
    let layers = &config.layers;
    let mut maps = images.strided(config.stem_stride);
    let mut input = config.in_channels;
    if config.residual_blocks.is_some() {
        let first = &config.stages[0];
        count.down(maps, first.features, |count| {
            count.block([input, first.features], first.kernel, maps, layers);
        });
        input = first.features;
    }
    let mut levels = Vec::new();
    for (i, stage) in config.stages.iter().enumerate() {
        let features = stage.features;
        let stride = if i == 0 { [1; 3] } else { stage.stride };
        maps = maps.strided(stride);
        count.down(maps, features, |count| match &config.residual_blocks {
            Some(blocks) => {
                for block in 0..blocks[i] {
                    count.block([input, features], stage.kernel, maps, layers);
                    count.convolution([features; 2], stage.kernel, true);
                    let second = LayerConfig {
                        dropout: 0.0,
                        ..*layers
                    };
                    count.layers(maps, features, &second, false);
                    if block == 0 && stride != [1; 3] {
                        count.keep(maps, input);
                    }
                    if input != features {
                        count.convolution([input, features], [1; 3], false);
                        count.layers(maps, features, &second, false);
                    }
                    count.activated_sum(maps, features, layers);
                    input = features;
                }
            }
            None => {
                for _ in 0..config.convolutions_per_encoder_stage {
                    count.block([input, features], stage.kernel, maps, layers);
                    input = features;
                }
            }
        });
        input = features;
        levels.push(maps);
    }
    for i in (0..config.stages.len() - 1).rev() {
        let (fine, coarse) = (&config.stages[i], &config.stages[i + 1]);
        let stem = config.stem_stride.iter().product::<usize>();
        let sizes = [fine.features, config.num_classes * stem];
        count.up(i, levels[i], sizes, |count| {
            count.convolution([coarse.features, fine.features], coarse.stride, true);
            count.keep(levels[i], 2 * fine.features);
            let mut input = 2 * fine.features;
            for _ in 0..config.convolutions_per_decoder_stage {
                count.block([input, fine.features], fine.kernel, levels[i], layers);
                input = fine.features;
            }
        });
        if i == 0 || config.deep_supervision {
            let (stride, maps) = match i {
                0 => (config.stem_stride, images),
                _ => ([1; 3], levels[i]),
            };
            count.convolution([fine.features, config.num_classes], stride, true);
            count.logits(maps, config.num_classes);
        }
    }
    count.last_block(levels[0], config.stages[0].features, layers);
}

fn vnet(count: &mut Count, config: &VNetConfig, images: Maps) {
    let layers = &config.layers;
    let residual = |count: &mut Count, input: usize, features: usize, times: usize, maps: Maps| {
        for i in 0..times {
            let channels = [if i == 0 { input } else { features }, features];
            if i + 1 < times {
                count.block(channels, [5; 3], maps, layers);
                continue;
            }
            count.convolution(channels, [5; 3], true);
            if layers.normalization != Normalization::None {
                count.layers(maps, features, layers, false);
            }
        }
        count.activated_sum(maps, features, layers);
    };
    let mut levels = Vec::new();
    let mut maps = images;
    for (level, times) in config.variant.down().into_iter().enumerate() {
        let features = config.features << level;
        let reduced = level > 0;
        if reduced {
            maps = maps.strided([2; 3]);
        }
        count.down(maps, features, |count| {
            let mut input = config.in_channels;
            if reduced {
                count.block([features / 2, features], [2; 3], maps, layers);
                input = features;
            }
            residual(count, input, features, times, maps);
        });
        levels.push(maps);
    }
    for (level, times) in config.variant.up().into_iter().enumerate().rev() {
        let features = config.features << level;
        let below = if level + 2 == VNET_LEVELS {
            2 * features
        } else {
            4 * features
        };
        let sizes = [2 * features, config.num_classes];
        count.up(level, levels[level], sizes, |count| {
            count.convolution([below, features], [2; 3], true);
            count.layers(levels[level], features, layers, true);
            count.keep(levels[level], 2 * features);
            residual(count, 2 * features, 2 * features, times, levels[level]);
        });
    }
    let (joined, classes) = (2 * config.features, config.num_classes);
    if config.variant == VNetVariant::Prototxt {
        let bare = LayerConfig {
            normalization: Normalization::None,
            dropout: 0.0,
            ..*layers
        };
        count.block([joined, classes], [5; 3], images, &bare);
        count.convolution([classes; 2], [1; 3], true);
    } else {
        count.convolution([joined, classes], [1; 3], true);
    }
    count.logits(images, classes);
    count.last_block(images, joined, layers);
}

fn cicek_unet(count: &mut Count, config: &CicekUNetConfig, images: Maps) {
    let layers = &config.layers;
    let first = |level: usize| config.features << level;
    let mut levels = Vec::new();
    let mut maps = images;
    for level in 0..CICEK_LEVELS {
        let input = if level == 0 {
            config.in_channels
        } else {
            first(level)
        };
        let pooled = level > 0;
        if pooled {
            maps = maps.strided([2; 3]);
        }
        count.down(maps, 2 * first(level), |count| {
            if pooled {
                count.keep(maps, input);
            }
            count.block([input, first(level)], [3; 3], maps, layers);
            count.block([first(level), 2 * first(level)], [3; 3], maps, layers);
        });
        levels.push(maps);
    }
    for level in (0..CICEK_LEVELS - 1).rev() {
        let (below, skip) = (4 * first(level), 2 * first(level));
        let sizes = [skip, config.num_classes];
        count.up(level, levels[level], sizes, |count| {
            count.convolution([below; 2], [2; 3], true);
            count.keep(levels[level], below + skip);
            count.block([below + skip, skip], [3; 3], levels[level], layers);
            count.block([skip, skip], [3; 3], levels[level], layers);
        });
    }
    count.convolution([2 * config.features, config.num_classes], [1; 3], true);
    count.logits(images, config.num_classes);
    count.last_block(images, 2 * config.features, layers);
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::module::Module;
    use burn::tensor::Device;

    use super::*;
    use crate::StageConfig;

    #[test]
    fn all_weights_are_counted() {
        let stages = vec![
            StageConfig::new(4, [1, 3, 3], [1; 3]),
            StageConfig::new(8, [3; 3], [1, 2, 2]),
            StageConfig::new(8, [3; 3], [2; 3]),
        ];
        let unet = UNetConfig::new(2, 3, stages);
        let prototxt = VNetConfig::new(1, 2).with_variant(VNetVariant::Prototxt);
        let networks = [
            NetworkConfig::UNet(unet.clone()),
            NetworkConfig::UNet(
                unet.clone()
                    .with_deep_supervision(false)
                    .with_convolutions_per_encoder_stage(3)
                    .with_convolutions_per_decoder_stage(1),
            ),
            NetworkConfig::UNet(
                unet.with_stem_stride([1, 2, 2])
                    .with_residual_blocks(Some(vec![1, 2, 1])),
            ),
            NetworkConfig::VNet(VNetConfig::new(2, 3).with_features(4)),
            NetworkConfig::VNet(prototxt.with_features(4)),
            NetworkConfig::CicekUNet(CicekUNetConfig::new(2, 3).with_features(4)),
        ];
        for normalization in ["none", "instance", "group:2"] {
            for activation in ["relu", "prelu"] {
                let layers = LayerConfig {
                    normalization: normalization.parse().unwrap(),
                    activation: activation.parse().unwrap(),
                    dropout: 0.1,
                };
                for network in networks.clone() {
                    let config = match network {
                        NetworkConfig::UNet(config) => {
                            NetworkConfig::UNet(config.with_layers(layers))
                        }
                        NetworkConfig::VNet(config) => {
                            NetworkConfig::VNet(config.with_layers(layers))
                        }
                        NetworkConfig::CicekUNet(config) => {
                            NetworkConfig::CicekUNet(config.with_layers(layers))
                        }
                    };
                    let estimate = estimate_memory(&config, [16, 32, 32], 2, false).unwrap();
                    let network = config.try_init(&Device::flex()).unwrap();
                    let parameters = network.num_params() as u64;
                    assert_eq!(estimate.weights, 4 * parameters, "{config:?}");
                    let half = estimate.in_precision(Precision::Bf16);
                    assert_eq!(half.activations, estimate.activations / 2);
                    assert_eq!(half.weights, estimate.weights);
                }
            }
        }
    }
}
