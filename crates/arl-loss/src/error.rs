use thiserror::Error;

/// What can be wrong with a loss's inputs or options. Every message says what to change.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum LossError {
    /// Logits and labels do not describe the same voxels.
    #[error(
        "logits [N,C,D,H,W] = {logits:?} do not fit labels [N,D,H,W] = {labels:?}: \
         N, D, H and W must be equal"
    )]
    Shape {
        /// Shape of the logits.
        logits: [usize; 5],
        /// Shape of the labels.
        labels: [usize; 4],
    },
    /// Logits and shares do not describe the same voxels and classes.
    #[error(
        "logits [N,C,D,H,W] = {logits:?} do not fit shares {shares:?}: the shapes must be equal"
    )]
    ShareShape {
        /// Shape of the logits.
        logits: [usize; 5],
        /// Shape of the shares.
        shares: [usize; 5],
    },
    /// Labels that are no class.
    #[error(
        "{count} labels are neither a class (0 to {last}) nor ignored; the first is {value} at [n,d,h,w] = {position:?}"
    )]
    Labels {
        /// How many.
        count: usize,
        /// The last class.
        last: usize,
        /// The first of them.
        value: i64,
        /// Where that one is.
        position: [usize; 4],
    },
    /// An option out of its range.
    #[error("{name} is {value}: it must be {range}")]
    Option {
        /// The option.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What it may be.
        range: &'static str,
    },
    /// A target or an activation that the loss has no meaning for.
    #[error("{loss} needs {needs}")]
    Unsupported {
        /// The loss or its option.
        loss: &'static str,
        /// What it needs.
        needs: &'static str,
    },
    /// Statistics that lack what the loss needs.
    #[error("this loss needs further statistics: take them with StatisticsOptions::with_further")]
    FurtherStatistics,
    /// Regions of another volume.
    #[error(
        "logits [N,C,D,H,W] = {logits:?} do not fit regions of a volume [D,H,W] = {regions:?}: \
         make the regions from the shape of the logits"
    )]
    Regions {
        /// Shape of the logits.
        logits: [usize; 5],
        /// Shape that the regions cover.
        regions: [usize; 3],
    },
    /// A tensor without voxels or classes.
    #[error("logits [N,C,D,H,W] = {logits:?} are empty: every dimension must be at least 1")]
    Empty {
        /// Shape of the logits.
        logits: [usize; 5],
    },
    /// A region grid with more parts than an axis has voxels.
    #[error(
        "axis {axis} has {length} voxels and cannot be cut into {count} regions: \
         ask for at most {length}, or give the region's size in voxels"
    )]
    TooManyRegions {
        /// 0 = D, 1 = H, 2 = W.
        axis: usize,
        /// Voxels along the axis.
        length: usize,
        /// Regions asked for.
        count: usize,
    },
    /// A region grid with a zero in it.
    #[error("region grid has a zero on axis {axis}: counts and sizes start at 1")]
    ZeroRegion {
        /// 0 = D, 1 = H, 2 = W.
        axis: usize,
    },
    /// Class weights that do not match the number of classes.
    #[error(
        "{given} class weights for {classes} classes: give one weight per class, background included"
    )]
    ClassWeights {
        /// Weights given.
        given: usize,
        /// Classes of the logits.
        classes: usize,
    },
    /// Nothing is left when background is left out of a single-class output.
    #[error("one class only and background excluded: nothing to score; set include_background")]
    OnlyBackground,
    /// A name that is no loss.
    #[error("unknown loss `{name}`; known: {known}")]
    UnknownLoss {
        /// The name given.
        name: String,
        /// All names, separated by commas.
        known: String,
    },
    /// A name that is no policy for empty regions.
    #[error("unknown policy for empty regions `{name}`; known: {known}")]
    UnknownPolicy {
        /// The name given.
        name: String,
        /// All names, separated by commas.
        known: String,
    },
    /// A name that is no reduction over regions.
    #[error("unknown reduction `{name}`; known: {known}")]
    UnknownReduction {
        /// The name given.
        name: String,
        /// All names, separated by commas.
        known: String,
    },
    /// A sum of losses without any.
    #[error(
        "a loss needs at least one term whose weight is not 0: add one with LossConfig::with_term"
    )]
    NoTerms,
    /// Deep supervision without any output.
    #[error("deep supervision needs at least one output of the network")]
    NoOutputs,
    /// Deep supervision weights that do not match the outputs.
    #[error(
        "{given} deep supervision weights for {outputs} outputs: give one weight per output, and one above 0"
    )]
    ScaleWeights {
        /// Weights given.
        given: usize,
        /// Outputs of the network.
        outputs: usize,
    },
}
