//! A procedural cohort of CT-like abdomens: something real enough to train on where no dataset is at hand.
//!
//! The patients differ in size, position, shape and brightness of their organs. The classes cover what makes
//! segmentation hard: large and easy (liver), small (adrenal glands), thin (aorta), of low contrast (pancreas), and
//! paired left and right (kidneys). It shows that training works; it says nothing about results on patients.

mod anatomy;
mod render;
mod shape;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use ndarray::Array3;
use rayon::prelude::*;
use serde_json::{Map, Value, json};

use crate::error::{DataError, Result};
use crate::files;
use crate::formats::{write_hounsfield, write_labels};
use crate::volume::{Geometry, Volume};

/// What a cohort consists of. The same configuration gives the same files, byte for byte.
#[derive(Clone, Debug, PartialEq)]
pub struct CohortConfig {
    /// Cases in `imagesTr` and `labelsTr`.
    pub training: usize,
    /// Cases in `imagesTs` and `labelsTs`.
    pub test: usize,
    /// Seed of all randomness; case `n` is the same in cohorts of any size.
    pub seed: u64,
    /// Voxels along `[D, H, W]`. The anatomy fills the grid.
    pub shape: [usize; 3],
    /// Voxel spacing in mm along `[D, H, W]`.
    pub spacing: [f64; 3],
}

impl Default for CohortConfig {
    fn default() -> Self {
        Self {
            training: 10,
            test: 3,
            seed: 0,
            shape: [40, 64, 64],
            spacing: [3.0, 1.5, 1.5],
        }
    }
}

/// Writes a cohort as an nnU-Net raw dataset into `dir`, which is created if needed.
///
/// Cases are named `phantom_000`, `phantom_001`, ...; training cases come first. `dataset.json` is written last, so
/// that a directory that has one is complete. `on_case` is called from several threads with the number of cases
/// written so far and in total.
///
/// # Errors
/// When a shape or spacing is not positive, or a file cannot be written.
pub fn write_cohort(
    dir: &Path,
    config: &CohortConfig,
    on_case: &(dyn Fn(usize, usize) + Sync),
) -> Result<()> {
    let positive = config.spacing.iter().all(|s| s.is_finite() && *s > 0.0);
    if !positive || config.shape.contains(&0) {
        return Err(DataError::invalid(
            dir,
            format!(
                "a cohort of {:?} voxels of {:?} mm cannot be drawn",
                config.shape, config.spacing
            ),
            "give a shape and a spacing above 0",
        ));
    }
    for folder in ["imagesTr", "labelsTr", "imagesTs", "labelsTs"] {
        let folder = dir.join(folder);
        fs::create_dir_all(&folder).map_err(|error| DataError::io(folder, error))?;
    }
    let total = config.training + config.test;
    let written = AtomicUsize::new(0);
    (0..total).into_par_iter().try_for_each(|number| {
        write_case(dir, config, number)?;
        on_case(written.fetch_add(1, Ordering::Relaxed) + 1, total);
        Ok(())
    })?;
    write_description(dir, config)
}

fn write_case(dir: &Path, config: &CohortConfig, number: usize) -> Result<()> {
    // Neighbouring seeds must not share cases: seed 0, case 1 differs from seed 1, case 0.
    let seed = config.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number as u64;
    let (image, labels) = render::render(config.shape, config.spacing, seed);
    let set = if number < config.training { "Tr" } else { "Ts" };
    let file = |kind: &str, channel: &str| -> PathBuf {
        dir.join(format!("{kind}{set}"))
            .join(format!("phantom_{number:03}{channel}.nii.gz"))
    };
    let geometry = geometry(config);
    write_hounsfield(
        &file("images", "_0000"),
        &Volume {
            data: image,
            geometry: geometry.clone(),
        },
    )?;
    let data: Array3<u16> = labels.mapv(u16::from);
    write_labels(&file("labels", ""), &Volume { data, geometry })
}

/// The grid as scanners write it, rows towards the left and columns towards the back, the origin at its centre.
fn geometry(config: &CohortConfig) -> Geometry {
    let [d, h, w] = config.spacing;
    let centre: [f64; 3] =
        std::array::from_fn(|i| 0.5 * (config.shape[i] as f64 - 1.0) * config.spacing[i]);
    Geometry::new(
        config.shape,
        [
            [-w, 0.0, 0.0, centre[2]],
            [0.0, -h, 0.0, centre[1]],
            [0.0, 0.0, d, -centre[0]],
            [0.0, 0.0, 0.0, 1.0],
        ],
    )
}

fn write_description(dir: &Path, config: &CohortConfig) -> Result<()> {
    let labels: Map<String, Value> = anatomy::CLASSES
        .iter()
        .enumerate()
        .map(|(value, name)| ((*name).to_owned(), value.into()))
        .collect();
    let description = json!({
        "name": "Phantom",
        "description": format!("Procedural CT-like abdomens, seed {}", config.seed),
        "channel_names": { "0": "CT" },
        "labels": labels,
        "numTraining": config.training,
        "file_ending": ".nii.gz",
    });
    files::replace(&dir.join("dataset.json"), ".json", |temporary| {
        let mut file = fs::File::create(temporary)?;
        writeln!(file, "{description:#}")?;
        file.sync_all()
    })
}
