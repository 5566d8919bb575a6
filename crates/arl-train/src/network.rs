//! The network with its loss, as Burn's learner wants them.

use anyhow::Context;
use arl_data::plan::{Architecture, Plan};
use arl_loss::{DeepSupervision, Target};
use arl_models::{
    CicekUNetConfig, LayerConfig, Network, NetworkConfig, Precision, StageConfig, UNetConfig,
    VNetConfig, VNetVariant,
};
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::store::ModuleRecord;
use burn::tensor::{Device, ExecutionError, Int, Tensor};
use burn::train::{InferenceStep, ItemLazy, TrainOutput, TrainStep};

use crate::checkpoints::{last_complete, model_path};
use crate::config::{ModelChoice, TrainConfig};
use crate::run::Run;

/// Gradients of all parameters together are scaled down to this norm, as in nnU-Net.
const GRADIENT_NORM: f64 = 12.0;

/// A segmentation network and the loss it is trained with.
#[derive(Module, Debug)]
pub struct Segmenter {
    /// The network.
    pub network: Network,
    #[module(skip)]
    loss: DeepSupervision,
    #[module(skip)]
    regions: RegionLabels,
    #[module(skip)]
    precision: Precision,
}

/// Which labels make up each region, where regions are learned.
#[derive(Debug, Clone)]
struct RegionLabels {
    /// The labels of each region; empty where classes exclude each other.
    values: Vec<Vec<u16>>,
    ignore_label: Option<u16>,
}

impl RegionLabels {
    /// What the logits should be: the labels themselves, or for regions 1 within and 0 outside of each, `[N, R, D, H, W]`.
    /// Ignored voxels have the share -1, which counts nowhere.
    fn target(&self, labels: Tensor<4, Int>) -> Target {
        if self.values.is_empty() {
            return labels.into();
        }
        let is = |value: u16| labels.clone().equal_elem(i64::from(value));
        let region = |values: &Vec<u16>| {
            let masks = values.iter().map(|&value| is(value).float());
            masks.reduce(|a, b| a + b)
        };
        let shares = Tensor::stack::<5>(self.values.iter().filter_map(region).collect(), 1);
        match self.ignore_label {
            // No region holds the ignored label, so its shares are 0 here.
            Some(ignored) => (shares - is(ignored).float().unsqueeze_dim::<5>(1)).into(),
            None => shares.into(),
        }
    }
}

/// Patches on the device: images `[N, C, D, H, W]` and labels `[N, D, H, W]`.
pub struct PatchTensors {
    /// Normalised intensities.
    pub images: Tensor<5>,
    /// Class indices.
    pub labels: Tensor<4, Int>,
}

/// What a step tells the display: small tensors, read on another thread.
pub struct StepOutput {
    /// The loss, one number.
    pub loss: Tensor<1>,
    /// Soft TP, FP and FN over the patch of each class but the background, or of each region, `[3, C]`.
    pub overlap: Tensor<2>,
}

impl Segmenter {
    /// Puts the network of a plan and a loss together.
    pub fn new(network: Network, loss: DeepSupervision, plan: &Plan, precision: Precision) -> Self {
        let regions = RegionLabels {
            values: plan.regions.iter().map(|r| r.values.clone()).collect(),
            ignore_label: plan.ignore_label,
        };
        Self {
            network,
            loss,
            regions,
            precision,
        }
    }

    /// The network of a run, with the weights of its last checkpoint.
    ///
    /// # Errors
    /// When the run has no checkpoint that is complete, or its weights do not fit its plan.
    pub fn load(
        run: &Run,
        config: &TrainConfig,
        plan: &Plan,
        device: &Device,
    ) -> anyhow::Result<Self> {
        let checkpoints = run.checkpoints();
        let checkpoint = last_complete(&checkpoints)?.with_context(|| {
            format!(
                "{}: has no complete checkpoint yet; train longer",
                checkpoints.display()
            )
        })?;
        let loss = DeepSupervision::new(&config.loss_config(plan)?);
        let network = network_config(plan, config)?.try_init(device)?;
        let path = model_path(&checkpoints, checkpoint.epoch);
        let record =
            ModuleRecord::load(&path).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?;
        Self::new(network, loss, plan, config.precision)
            .try_load_record(record)
            .map_err(|e| anyhow::anyhow!("{}: does not fit plan.json ({e})", path.display()))
    }

    fn score(&self, images: Tensor<5>, labels: Tensor<4, Int>) -> StepOutput {
        let logits = self.precision.forward(&self.network, images);
        let (loss, statistics) = self
            .loss
            .try_forward_with_statistics(logits, self.regions.target(labels))
            .unwrap_or_else(|error| panic!("{error}"));
        let of_classes = |sums: Tensor<3>| sums.detach().sum_dim(0).sum_dim(2).flatten::<1>(0, 2);
        let overlap = [statistics.tp, statistics.fp, statistics.fn_].map(of_classes);
        let overlap = Tensor::stack::<2>(overlap.to_vec(), 0);
        let [_, channels] = overlap.dims();
        let background = usize::from(self.regions.values.is_empty());
        StepOutput {
            loss,
            overlap: overlap.narrow(1, background, channels - background),
        }
    }
}

/// The network of a run, for the channels, outputs and patch of its plan, with the layers that were chosen.
///
/// # Errors
/// When there is no such network, or the plan's patch does not go through it.
pub fn network_config(plan: &Plan, chosen: &TrainConfig) -> anyhow::Result<NetworkConfig> {
    let (channels, outputs) = (plan.channel_names.len(), plan.outputs());
    let layers = |own| chosen.layers.applied_to(own);
    let vnet = VNetConfig::new(channels, outputs).with_layers(layers(LayerConfig::vnet()));
    let config = match chosen.model {
        ModelChoice::Unet => {
            let unet = planned_unet(plan)?;
            NetworkConfig::UNet(unet.with_layers(layers(LayerConfig::nnunet())))
        }
        ModelChoice::Vnet => NetworkConfig::VNet(vnet),
        ModelChoice::VnetPrototxt => NetworkConfig::VNet(vnet.with_variant(VNetVariant::Prototxt)),
        ModelChoice::CicekUnet => {
            let unet = CicekUNetConfig::new(channels, outputs);
            NetworkConfig::CicekUNet(unet.with_layers(layers(LayerConfig::cicek_unet())))
        }
    };
    config.validate().context("the network")?;
    config
        .check_patch(plan.patch_size)
        .context("the plan's patch (--patch chooses another)")?;
    Ok(config)
}

/// The U-Net that a plan describes.
pub fn planned_unet(plan: &Plan) -> anyhow::Result<UNetConfig> {
    let blocks: Vec<usize> = plan.stages.iter().map(|stage| stage.blocks).collect();
    let stages = plan
        .stages
        .iter()
        .map(|stage| StageConfig::new(stage.features, stage.kernel, stage.stride))
        .collect();
    let config = UNetConfig::new(plan.channel_names.len(), plan.outputs(), stages)
        .with_stem_stride(plan.stem_stride)
        .with_convolutions_per_decoder_stage(plan.decoder_convolutions);
    Ok(match plan.architecture {
        Architecture::ResidualEncoder => config.with_residual_blocks(Some(blocks)),
        Architecture::Plain => {
            anyhow::ensure!(
                blocks.windows(2).all(|pair| pair[0] == pair[1]),
                "the plan has {blocks:?} blocks in its stages; a plain network needs the same number in each"
            );
            config.with_convolutions_per_encoder_stage(blocks[0])
        }
    })
}

impl TrainStep for Segmenter {
    type Input = PatchTensors;
    type Output = StepOutput;

    fn step(&self, item: PatchTensors) -> TrainOutput<StepOutput> {
        let output = self.score(item.images, item.labels);
        TrainOutput::new(self, output.loss.backward(), output)
    }

    fn optimize(
        self,
        optimizer: &mut ModuleOptimizer,
        learning_rate: ModuleLearningRate,
        mut gradients: GradientsParams,
    ) -> Self {
        clip(&self, &mut gradients);
        optimizer.step(learning_rate, self, gradients)
    }
}

impl InferenceStep for Segmenter {
    type Input = PatchTensors;
    type Output = StepOutput;

    fn step(&self, item: PatchTensors) -> StepOutput {
        self.score(item.images, item.labels)
    }
}

impl ItemLazy for StepOutput {
    fn sync(self) -> Result<Self, ExecutionError> {
        self.loss.device().flush()?;
        Ok(Self {
            loss: self.loss.without_autodiff(),
            overlap: self.overlap.without_autodiff(),
        })
    }
}

/// Scales all gradients so that their common norm is at most [`GRADIENT_NORM`], without reading anything back.
fn clip(module: &Segmenter, gradients: &mut GradientsParams) {
    struct Norm<'a> {
        gradients: &'a GradientsParams,
        squares: Vec<Tensor<1>>,
    }
    impl ModuleVisitor for Norm<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.gradients.get::<D>(param.id) {
                self.squares.push(gradient.powi_scalar(2).sum());
            }
        }
    }
    struct Scale<'a> {
        gradients: &'a mut GradientsParams,
        factor: Tensor<1>,
    }
    impl ModuleVisitor for Scale<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.gradients.remove::<D>(param.id) {
                let scaled = gradient * self.factor.clone().reshape([1; D]);
                self.gradients.register(param.id, scaled);
            }
        }
    }
    let mut norm = Norm {
        gradients,
        squares: Vec::new(),
    };
    module.visit(&mut norm);
    if norm.squares.is_empty() {
        return;
    }
    let total = Tensor::cat(norm.squares, 0).sum().sqrt();
    let factor = (total.add_scalar(1e-6).recip().mul_scalar(GRADIENT_NORM)).clamp_max(1.0);
    module.visit(&mut Scale { gradients, factor });
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;

    #[test]
    fn regions_share_voxels_and_ignored_ones_count_nowhere() {
        let labels = RegionLabels {
            values: vec![vec![1, 2], vec![2]],
            ignore_label: Some(3),
        };
        let data = TensorData::new(vec![0i32, 1, 2, 3], [1, 1, 1, 4]);
        let target = labels.target(Tensor::<4, Int>::from_data(data, &Device::flex()));
        let Target::Shares(shares) = target else {
            panic!("regions are shares");
        };
        assert_eq!(shares.dims(), [1, 2, 1, 1, 4]);
        let shares: Vec<f32> = shares.into_data().iter::<f32>().collect();
        assert_eq!(shares, [0.0, 1.0, 1.0, -1.0, 0.0, 0.0, 1.0, -1.0]);
    }
}
