//! What is scored, and by which metrics.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A class, or a region made of several classes (whole tumour: 1, 2 and 3).
#[derive(Debug, Clone, PartialEq)]
pub struct Structure {
    /// The label values of its voxels.
    pub labels: BTreeSet<u16>,
    /// Distance in mm within which two surfaces agree, for the normalised surface Dice.
    pub tolerance: f64,
}

impl Structure {
    /// The tolerance in mm unless another is given.
    pub const DEFAULT_TOLERANCE: f64 = 2.0;

    /// The class with this label.
    pub fn class(label: u16) -> Self {
        Self::region([label])
    }

    /// The voxels of any of these classes.
    pub fn region(labels: impl IntoIterator<Item = u16>) -> Self {
        Self {
            labels: labels.into_iter().collect(),
            tolerance: Self::DEFAULT_TOLERANCE,
        }
    }

    /// The same structure with this tolerance in mm for its surface.
    pub fn with_tolerance(self, tolerance: f64) -> Self {
        Self { tolerance, ..self }
    }

    /// Whether this is the background class alone.
    pub fn is_background(&self) -> bool {
        self.labels.iter().eq(&[0])
    }
}

/// As nnU-Net writes it in `summary.json`: `1`, or `(1, 2, 3)` for a region.
impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels: Vec<String> = self.labels.iter().map(u16::to_string).collect();
        match labels.as_slice() {
            [label] => f.write_str(label),
            _ => write!(f, "({})", labels.join(", ")),
        }
    }
}

/// A measure of agreement. All are defined in the [module](crate::metrics#definitions).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// Dice coefficient of the voxels, 0 to 1.
    Dice,
    /// Intersection over union of the voxels, 0 to 1.
    Iou,
    /// Hausdorff distance in mm.
    Hausdorff,
    /// 95th percentile of the Hausdorff distance in mm.
    Hausdorff95,
    /// Average symmetric surface distance in mm.
    AverageSurfaceDistance,
    /// Normalised surface Dice, 0 to 1, at the tolerance of the structure.
    NormalisedSurfaceDice,
    /// Predicted less reference volume in ml.
    VolumeError,
    /// Predicted less reference volume over reference volume.
    RelativeVolumeError,
}

impl Metric {
    /// Every metric.
    pub const ALL: [Self; 8] = [
        Self::Dice,
        Self::Iou,
        Self::Hausdorff,
        Self::Hausdorff95,
        Self::AverageSurfaceDistance,
        Self::NormalisedSurfaceDice,
        Self::VolumeError,
        Self::RelativeVolumeError,
    ];

    /// The name in JSON; on the command line in any case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dice => "Dice",
            Self::Iou => "IoU",
            Self::Hausdorff => "HD",
            Self::Hausdorff95 => "HD95",
            Self::AverageSurfaceDistance => "ASSD",
            Self::NormalisedSurfaceDice => "NSD",
            Self::VolumeError => "volume_error_ml",
            Self::RelativeVolumeError => "relative_volume_error",
        }
    }

    /// Whether it needs the distances between the surfaces.
    pub(super) fn of_surface(self) -> bool {
        matches!(
            self,
            Self::Hausdorff
                | Self::Hausdorff95
                | Self::AverageSurfaceDistance
                | Self::NormalisedSurfaceDice
        )
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = |metric: &Self| metric.name().eq_ignore_ascii_case(text);
        Self::ALL.into_iter().find(named).ok_or_else(|| {
            let names = Self::ALL.map(|metric| metric.name().to_lowercase());
            format!("there is no such metric; choose from {}", names.join(", "))
        })
    }
}

impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
