use crate::criterion::{Request, Term};
use crate::region_statistics::check_shapes;
use crate::{
    AdaptiveRegionLossConfig, Criterion, CrossEntropyLossConfig, DiceLossConfig, EmptyRegions,
    FocalLossConfig, GeneralizedDiceLossConfig, Logits, LossError, RegionGrid, RegionReduction,
    RegionStatistics, Target, TopKCrossEntropyLossConfig, TverskyLossConfig, region_statistics,
};
use burn::prelude::*;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A loss by name: one criterion, or an unweighted sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum LossKind {
    /// The adaptive region-specific loss.
    Arl,
    /// The adaptive region-specific loss and cross entropy.
    ArlCe,
    /// Dice.
    Dice,
    /// Dice and cross entropy, as in nnU-Net.
    DiceCe,
    /// Cross entropy.
    Ce,
    /// The adaptive region-specific loss, Dice and cross entropy.
    ArlDiceCe,
    /// Dice over regions and cross entropy.
    RegionDiceCe,
    /// Tversky over regions, with fixed penalties, and cross entropy.
    RegionTverskyCe,
    /// Tversky and cross entropy.
    TverskyCe,
    /// Focal Tversky and cross entropy.
    FocalTverskyCe,
    /// Jaccard and cross entropy.
    JaccardCe,
    /// Generalised Dice and cross entropy.
    GeneralizedDiceCe,
    /// Dice and focal loss.
    DiceFocal,
    /// Dice and the cross entropy of the hardest tenth of the voxels.
    DiceTopK,
}

impl LossKind {
    /// All losses, in the order of [`NAMES`](Self::NAMES).
    pub const ALL: [LossKind; 14] = [
        Self::Arl,
        Self::ArlCe,
        Self::Dice,
        Self::DiceCe,
        Self::Ce,
        Self::ArlDiceCe,
        Self::RegionDiceCe,
        Self::RegionTverskyCe,
        Self::TverskyCe,
        Self::FocalTverskyCe,
        Self::JaccardCe,
        Self::GeneralizedDiceCe,
        Self::DiceFocal,
        Self::DiceTopK,
    ];
    /// The names that [`FromStr`] reads and [`Display`](fmt::Display) writes.
    pub const NAMES: [&str; 14] = [
        "arl",
        "arl+ce",
        "dice",
        "dice+ce",
        "ce",
        "arl+dice+ce",
        "region-dice+ce",
        "region-tversky+ce",
        "tversky+ce",
        "focal-tversky+ce",
        "jaccard+ce",
        "generalized-dice+ce",
        "dice+focal",
        "dice+topk",
    ];

    /// The name.
    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// Its terms, with default options.
    fn criteria(self) -> Vec<Criterion> {
        let arl = || Criterion::from(AdaptiveRegionLossConfig::new());
        let dice = || Criterion::from(DiceLossConfig::new());
        let ce = || Criterion::from(CrossEntropyLossConfig::new());
        let regions = RegionGrid::default();
        match self {
            Self::Arl => vec![arl()],
            Self::ArlCe => vec![arl(), ce()],
            Self::Dice => vec![dice()],
            Self::DiceCe => vec![dice(), ce()],
            Self::Ce => vec![ce()],
            Self::ArlDiceCe => vec![arl(), dice(), ce()],
            Self::RegionDiceCe => vec![DiceLossConfig::new().with_regions(regions).into(), ce()],
            Self::RegionTverskyCe => {
                vec![TverskyLossConfig::new().with_regions(regions).into(), ce()]
            }
            Self::TverskyCe => vec![TverskyLossConfig::new().into(), ce()],
            Self::FocalTverskyCe => vec![TverskyLossConfig::focal().into(), ce()],
            Self::JaccardCe => vec![TverskyLossConfig::jaccard().into(), ce()],
            Self::GeneralizedDiceCe => vec![GeneralizedDiceLossConfig::new().into(), ce()],
            Self::DiceFocal => vec![dice(), FocalLossConfig::new().into()],
            Self::DiceTopK => vec![dice(), TopKCrossEntropyLossConfig::new().into()],
        }
    }
}

impl fmt::Display for LossKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for LossKind {
    type Err = LossError;

    fn from_str(name: &str) -> Result<Self, LossError> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| LossError::UnknownLoss {
            name: name.to_owned(),
            known: Self::NAMES.join(", "),
        })
    }
}

impl From<LossKind> for String {
    fn from(kind: LossKind) -> Self {
        kind.name().to_owned()
    }
}

impl TryFrom<String> for LossKind {
    type Error = LossError;

    fn try_from(name: String) -> Result<Self, LossError> {
        name.parse()
    }
}

/// A weighted sum of losses. Terms that agree in activation, ignored label and regions (or need only the whole volume) share
/// one pass over the logits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LossConfig {
    /// The terms, each with its weight.
    pub terms: Vec<LossTerm>,
}

/// A term of a [`LossConfig`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LossTerm {
    /// Its weight; 0 leaves it out.
    pub weight: f64,
    /// The loss and its options.
    pub criterion: Criterion,
}

impl LossConfig {
    /// No term yet: add some with [`with_term`](Self::with_term).
    pub fn new() -> Self {
        Self { terms: Vec::new() }
    }

    /// The loss of that name, each of its terms with weight 1 and default options.
    pub fn of(kind: LossKind) -> Self {
        let criteria = kind.criteria().into_iter();
        criteria.fold(Self::new(), |config, criterion| {
            config.with_term(1.0, criterion)
        })
    }

    /// The same with one more term.
    pub fn with_term(mut self, weight: f64, criterion: impl Into<Criterion>) -> Self {
        self.terms.push(LossTerm {
            weight,
            criterion: criterion.into(),
        });
        self
    }

    /// The same with these regions for every term that has regions: the adaptive region-specific loss, and Dice, Tversky and
    /// generalised Dice where they were given more than the whole volume.
    pub fn with_regions(mut self, new: RegionGrid) -> Self {
        for (regions, _) in self.terms.iter_mut().filter_map(regional) {
            *regions = new;
        }
        self
    }

    /// The same with this reduction over the regions of the terms that have some, as [`with_regions`](Self::with_regions).
    pub fn with_region_reduction(mut self, new: RegionReduction) -> Self {
        for (_, reduction) in self.terms.iter_mut().filter_map(regional) {
            *reduction = new;
        }
        self
    }

    /// The same with this policy for the regions that lack a class, of the adaptive region-specific loss.
    pub fn with_empty_regions(mut self, policy: EmptyRegions) -> Self {
        for term in &mut self.terms {
            if let Criterion::AdaptiveRegion(config) = &mut term.criterion {
                config.empty_regions = policy;
            }
        }
        self
    }

    /// The same with this label ignored by all terms.
    pub fn with_ignore_index(mut self, ignore_index: Option<i64>) -> Self {
        for term in &mut self.terms {
            term.criterion.set_ignore_index(ignore_index);
        }
        self
    }

    /// The same for channels that are questions of their own and may overlap, such as a tumour and its core: sigmoid instead
    /// of softmax, and no channel is a background to be left out. The target is then shares, see [`Target::Shares`].
    ///
    /// # Errors
    /// A term that needs classes that exclude each other (top-k cross entropy).
    pub fn for_overlapping_classes(mut self) -> Result<Self, LossError> {
        for term in &mut self.terms {
            term.criterion.let_classes_overlap()?;
        }
        Ok(self)
    }

    /// The loss with these options.
    pub fn init(&self) -> Loss {
        let terms = self.terms.iter().filter(|term| term.weight != 0.0);
        let terms: Vec<(f64, Term)> = terms
            .map(|term| (term.weight, term.criterion.init()))
            .collect();
        let mut passes: Vec<Pass> = Vec::new();
        for (i, (_, term)) in terms.iter().enumerate() {
            let Term::Statistics(scored) = term else {
                continue;
            };
            let request = scored.request();
            let shared = passes
                .iter_mut()
                .find_map(|pass| Some((pass.request.merge(request)?, pass)));
            match shared {
                Some((merged, pass)) => {
                    pass.request = merged;
                    pass.terms.push(i);
                }
                None => passes.push(Pass {
                    request,
                    terms: vec![i],
                }),
            }
        }
        Loss {
            config: self.clone(),
            terms,
            passes,
        }
    }
}

/// The regions of a term, and how they are put together, if it has some.
fn regional(term: &mut LossTerm) -> Option<(&mut RegionGrid, &mut RegionReduction)> {
    match &mut term.criterion {
        Criterion::AdaptiveRegion(config) => Some((&mut config.regions, &mut config.reduction)),
        Criterion::Dice(config) if config.regions != RegionGrid::WHOLE => {
            Some((&mut config.regions, &mut config.reduction))
        }
        Criterion::Tversky(config) if config.regions != RegionGrid::WHOLE => {
            Some((&mut config.regions, &mut config.reduction))
        }
        Criterion::GeneralizedDice(config) if config.regions != RegionGrid::WHOLE => {
            Some((&mut config.regions, &mut config.reduction))
        }
        _ => None,
    }
}

impl Default for LossConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// A weighted sum of losses; see [`LossConfig`].
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    config: LossConfig,
    /// Each with its weight, which is not 0.
    terms: Vec<(f64, Term)>,
    passes: Vec<Pass>,
}

/// Terms that share a pass, by their places.
#[derive(Debug, Clone, PartialEq)]
struct Pass {
    request: Request,
    terms: Vec<usize>,
}

impl Loss {
    /// The options.
    pub fn config(&self) -> &LossConfig {
        &self.config
    }

    /// How many passes over the logits the statistics of all terms take.
    pub fn passes(&self) -> usize {
        self.passes.len()
    }

    /// Loss of `logits` `[N, C, D, H, W]` (or `[N, C, H, W]`) against class indices `[N, D, H, W]` or shares
    /// `[N, C, D, H, W]`; see [`Target`].
    ///
    /// # Panics
    /// Where [`try_forward`](Self::try_forward) returns an error.
    pub fn forward(&self, logits: impl Into<Logits>, target: impl Into<Target>) -> Tensor<1> {
        self.try_forward(logits, target)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`forward`](Self::forward), with wrong input as an error.
    ///
    /// # Errors
    /// No terms, and whatever one of them refuses.
    pub fn try_forward(
        &self,
        logits: impl Into<Logits>,
        target: impl Into<Target>,
    ) -> Result<Tensor<1>, LossError> {
        let (logits, target) = (logits.into(), target.into());
        check_shapes(&logits.0, &target)?;
        let shape = target.volume();
        Ok(self.forward_scaled(logits, target, shape)?.0)
    }

    /// The loss, with regions made for a volume of shape `full` and brought to that of the logits, and the statistics of the
    /// first pass.
    pub(crate) fn forward_scaled(
        &self,
        Logits(logits): Logits,
        target: Target,
        full: [usize; 3],
    ) -> Result<(Tensor<1>, Option<RegionStatistics>), LossError> {
        let [_, _, d, h, w] = logits.dims();
        let mut total: Option<Tensor<1>> = None;
        let mut add = |weight: f64, term: Tensor<1>| {
            let term = term * weight;
            total = Some(match total.take() {
                Some(total) => total + term,
                None => term,
            });
        };
        let mut first = None;
        for pass in &self.passes {
            let regions = pass.request.regions.regions(full)?.rescaled([d, h, w]);
            let options = &pass.request.options;
            let statistics = region_statistics(logits.clone(), target.clone(), &regions, options)?;
            for &i in &pass.terms {
                if let (weight, Term::Statistics(scored)) = &self.terms[i] {
                    add(*weight, scored.loss(&statistics)?);
                }
            }
            first.get_or_insert(statistics);
        }
        for (weight, term) in &self.terms {
            if let Term::TopKCrossEntropy(loss) = term {
                add(*weight, loss.try_forward(logits.clone(), target.clone())?);
            }
        }
        Ok((total.ok_or(LossError::NoTerms)?, first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for (kind, name) in LossKind::ALL.into_iter().zip(LossKind::NAMES) {
            assert_eq!(kind.to_string(), name);
            assert_eq!(name.parse::<LossKind>().unwrap(), kind);
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(serde_json::from_str::<LossKind>(&json).unwrap(), kind);
        }
        let error = "hinge".parse::<LossKind>().unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown loss `hinge`; known: arl, arl+ce, dice, dice+ce, ce, arl+dice+ce, \
             region-dice+ce, region-tversky+ce, tversky+ce, focal-tversky+ce, jaccard+ce, \
             generalized-dice+ce, dice+focal, dice+topk"
        );
    }

    #[test]
    fn options_round_trip_through_json() {
        for kind in LossKind::ALL {
            let config = LossConfig::of(kind)
                .with_regions(RegionGrid::count([2, 3, 4]))
                .with_ignore_index(Some(9));
            let json = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<LossConfig>(&json).unwrap(), config);
        }
    }

    #[test]
    fn overlapping_classes_make_every_term_a_sigmoid_with_all_channels() {
        for kind in LossKind::ALL {
            let config = match LossConfig::of(kind).for_overlapping_classes() {
                Ok(config) => config,
                Err(error) => {
                    assert_eq!(kind, LossKind::DiceTopK);
                    assert!(error.to_string().contains("exclude each other"), "{error}");
                    continue;
                }
            };
            let json = serde_json::to_string(&config).unwrap();
            assert!(!json.to_lowercase().contains("softmax"), "{json}");
            assert!(!json.contains("\"include_background\":false"), "{json}");
            let sigmoids = json.to_lowercase().matches("sigmoid").count();
            assert_eq!(sigmoids, config.terms.len(), "{json}");
        }
    }

    #[test]
    fn terms_share_a_pass_where_they_can() {
        let passes = |config: LossConfig| config.init().passes();
        for kind in LossKind::ALL {
            assert_eq!(passes(LossConfig::of(kind)), 1, "{kind}");
        }
        let arl = LossConfig::of(LossKind::ArlCe);
        let other_regions = DiceLossConfig::new().with_regions(RegionGrid::count([2, 2, 2]));
        assert_eq!(passes(arl.clone().with_term(1.0, other_regions)), 2);
        let other_label = CrossEntropyLossConfig::new().with_ignore_index(Some(3));
        assert_eq!(passes(arl.clone().with_term(1.0, other_label)), 2);
        let focal = |gamma| FocalLossConfig::new().with_gamma(gamma);
        assert_eq!(passes(arl.clone().with_term(1.0, focal(1.5))), 1);
        let two = arl.with_term(1.0, focal(1.5)).with_term(0.5, focal(2.0));
        assert_eq!(passes(two.clone()), 2);
        // A term without weight asks for nothing.
        assert_eq!(passes(two.with_term(0.0, focal(4.0))), 2);
    }
}
