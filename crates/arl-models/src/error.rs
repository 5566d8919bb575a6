use thiserror::Error;

/// What can be wrong with a network's description, or with a patch or images for it. Every message says what to change.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ModelError {
    /// A count that has to be at least 1.
    #[error("{what} is 0: it must be at least 1")]
    Zero {
        /// Name of the option, with its stage where it has one.
        what: String,
    },
    /// A number that no network has, whose products would be too large to count.
    #[error("{what} is {value}: it can be at most {most}")]
    TooLarge {
        /// Name of the option, with its stage where it has one.
        what: String,
        /// Its value; where products of numbers are too large, the largest number that there is.
        value: usize,
        /// The largest that is taken.
        most: usize,
    },
    /// A share of something.
    #[error("{what} is {value}: it must be at least 0 and below 1")]
    Share {
        /// Name of the option.
        what: &'static str,
        /// Its value.
        value: f64,
    },
    /// Groups that do not divide the channels they are made of.
    #[error(
        "group normalisation with {groups} groups does not divide {channels} features: use a number of groups that \
         divides the features of every stage"
    )]
    Groups {
        /// Groups given.
        groups: usize,
        /// Features of a convolution.
        channels: usize,
    },
    /// A word that means nothing.
    #[error("there is no {what} {text:?}; known are {known}")]
    Unknown {
        /// The option.
        what: &'static str,
        /// The word given.
        text: String,
        /// The words that mean something.
        known: &'static str,
    },
    /// A U-Net without a level to come back up to.
    #[error(
        "a U-Net needs at least 2 stages, {stages} given: add a stage that halves the resolution"
    )]
    TooFewStages {
        /// Stages given.
        stages: usize,
    },
    /// Residual blocks for another number of stages.
    #[error(
        "residual_blocks has {given} numbers for {stages} stages: give one for each stage, finest first"
    )]
    ResidualBlocks {
        /// Numbers given.
        given: usize,
        /// Stages of the network.
        stages: usize,
    },
    /// A kernel that has no centre voxel.
    #[error(
        "stage {stage} has kernel {kernel:?}, which is even on axis {axis}: \
         use odd sizes such as 1 or 3, so that each output voxel has a centre"
    )]
    EvenKernel {
        /// Stage, 0 is the finest.
        stage: usize,
        /// Kernel `[D,H,W]` in voxels.
        kernel: [usize; 3],
        /// 0 = D, 1 = H, 2 = W.
        axis: usize,
    },
    /// A strided convolution that steps over voxels without reading them.
    #[error(
        "{what} has stride {stride:?} but kernel {kernel:?}: on axis {axis} it would skip voxels; \
         use a kernel of at least the stride, or stride 1 there"
    )]
    SkippedVoxels {
        /// The convolution, with its stage.
        what: String,
        /// Stride `[D,H,W]` in voxels.
        stride: [usize; 3],
        /// Kernel `[D,H,W]` in voxels.
        kernel: [usize; 3],
        /// 0 = D, 1 = H, 2 = W.
        axis: usize,
    },
    /// A stride where the network keeps the stem's resolution.
    #[error(
        "stage 0 has stride {stride:?}: it must be [1, 1, 1]; use stem_stride to start coarser"
    )]
    FirstStride {
        /// Stride `[D,H,W]` given for stage 0.
        stride: [usize; 3],
    },
    /// Image channels that cannot be repeated to make up the features they are added to.
    #[error(
        "{channels} channels do not divide {features} features: V-Net adds the image to its first features, so use a \
         multiple of {channels} for features"
    )]
    RepeatedChannels {
        /// Channels of the images.
        channels: usize,
        /// Features of the finest level.
        features: usize,
    },
    /// An image that valid convolutions use up, or leave with odd sizes before pooling.
    #[error(
        "patch {patch:?} does not fit the network without padding: axis {axis} has {} voxels; the nearest sizes that do \
         are {}{above}", patch[*axis], below.map_or(String::new(), |below| format!("{below} and "))
    )]
    ValidPatchSize {
        /// Patch `[D,H,W]` in voxels.
        patch: [usize; 3],
        /// 0 = D, 1 = H, 2 = W.
        axis: usize,
        /// The next smaller size that fits, if there is one.
        below: Option<usize>,
        /// The next larger size that fits.
        above: usize,
    },
    /// A network with valid convolutions where every voxel needs its logits.
    #[error(
        "patch {patch:?} gives logits of {logits:?} voxels only, because the network has valid convolutions: use the padding \
         \"same\" to train and predict whole patches"
    )]
    SmallerLogits {
        /// Patch `[D,H,W]` in voxels.
        patch: [usize; 3],
        /// Logits `[D,H,W]` in voxels.
        logits: [usize; 3],
    },
    /// Images of other channels than the network's.
    #[error("the images have {given} channels, and the network takes {channels}")]
    Channels {
        /// Channels of the images.
        given: usize,
        /// Channels that the network takes.
        channels: usize,
    },
    /// A patch that the strides do not divide.
    #[error(
        "patch {patch:?} does not fit the network: axis {axis} has {} voxels, not a multiple of {}; \
         each size must be a positive multiple of {divisors:?}", patch[*axis], divisors[*axis]
    )]
    PatchSize {
        /// Patch `[D,H,W]` in voxels.
        patch: [usize; 3],
        /// What each size must be a multiple of.
        divisors: [usize; 3],
        /// 0 = D, 1 = H, 2 = W.
        axis: usize,
    },
    /// A patch of which the deepest stage sees a single voxel, which instance normalisation turns into a constant.
    #[error(
        "patch {patch:?} leaves one voxel at the deepest stage, whose normalisation needs at least two: \
         make one side larger than {divisors:?}, or use fewer stages"
    )]
    PatchTooSmall {
        /// Patch `[D,H,W]` in voxels.
        patch: [usize; 3],
        /// Product of all strides per axis.
        divisors: [usize; 3],
    },
}
