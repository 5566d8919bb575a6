//! The network with its loss, as Burn's learner wants them.

use anyhow::Context;
use arl_data::plan::{Architecture, Plan};
use arl_loss::DeepSupervision;
use arl_models::{SegmentationModel, StageConfig, UNet, UNetConfig};
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{ExecutionError, Int, Tensor};
use burn::train::{InferenceStep, ItemLazy, TrainOutput, TrainStep};

/// Gradients of all parameters together are scaled down to this norm, as in nnU-Net.
const GRADIENT_NORM: f64 = 12.0;

/// A segmentation network and the loss it is trained with.
#[derive(Module, Debug)]
pub struct Segmenter {
    /// The network.
    pub network: UNet,
    #[module(skip)]
    loss: DeepSupervision,
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
    /// Soft TP, FP and FN of each class over the patch, `[3, C]`.
    pub overlap: Tensor<2>,
}

impl Segmenter {
    /// Puts a network and a loss together.
    pub fn new(network: UNet, loss: DeepSupervision) -> Self {
        Self { network, loss }
    }

    fn score(&self, images: Tensor<5>, labels: Tensor<4, Int>) -> StepOutput {
        let logits = self.network.forward(images);
        let (loss, statistics) = self
            .loss
            .try_forward_with_statistics(logits, labels)
            .unwrap_or_else(|error| panic!("{error}"));
        let of_classes = |sums: Tensor<3>| sums.detach().sum_dim(0).sum_dim(2).flatten::<1>(0, 2);
        let overlap = [statistics.tp, statistics.fp, statistics.fn_].map(of_classes);
        StepOutput {
            loss,
            overlap: Tensor::stack(overlap.to_vec(), 0),
        }
    }
}

/// Whether this version trains such a network.
///
/// # Errors
/// A sentence with the cure.
pub fn check_architecture(architecture: Architecture) -> anyhow::Result<()> {
    anyhow::ensure!(
        architecture == Architecture::Plain,
        "the plan is for a residual encoder, which can be planned but not yet trained; choose --preset plain or cpu"
    );
    Ok(())
}

/// The network that a plan describes.
///
/// # Errors
/// When this version has no such network.
pub fn network_config(plan: &Plan) -> anyhow::Result<UNetConfig> {
    check_architecture(plan.architecture)?;
    let blocks: Vec<usize> = plan.stages.iter().map(|stage| stage.blocks).collect();
    anyhow::ensure!(
        blocks.windows(2).all(|pair| pair[0] == pair[1]),
        "the plan has {blocks:?} blocks in its stages; a plain network needs the same number in each"
    );
    let stages = plan
        .stages
        .iter()
        .map(|stage| StageConfig::new(stage.features, stage.kernel, stage.stride))
        .collect();
    let config = UNetConfig::new(plan.channel_names.len(), plan.num_classes(), stages)
        .with_stem_stride(plan.stem_stride)
        .with_convolutions_per_encoder_stage(blocks[0])
        .with_convolutions_per_decoder_stage(plan.decoder_convolutions);
    config
        .check_patch(plan.patch_size)
        .context("the plan's patch")?;
    Ok(config)
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
