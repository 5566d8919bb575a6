//! The faults of one case.

use std::collections::BTreeMap;
use std::path::Path;

use ndarray::Array3;

use super::Problem;
use crate::dataset::read::{check_channels, check_finite, count_values};
use crate::dataset::{Case, Dataset, check_placement};
use crate::error::DataError;
use crate::formats::read_channels;
use crate::volume::Geometry;

/// What reading a case told.
#[derive(Default)]
pub(super) struct Findings {
    pub problems: Vec<Problem>,
    /// Voxels of each label value that occurs.
    pub voxels: BTreeMap<u16, u64>,
    /// Where the first channel lies.
    pub geometry: Option<Geometry>,
    /// A checksum of all channels' voxels, to find cases that are the same.
    pub content: Option<u32>,
}

impl Findings {
    fn error(&mut self, error: DataError) {
        self.problems.push(error.into());
    }

    fn warning(&mut self, problem: DataError) {
        self.problems.push(Problem::warning(problem));
    }

    /// Compares a file's place with that of the first channel.
    fn compare(&mut self, dataset: &Dataset, path: &Path, geometry: &Geometry, first_path: &Path) {
        let Some(first) = &self.geometry else {
            return;
        };
        let ignore = dataset.options.ignore_geometry;
        match check_placement(path, geometry, first_path, first, ignore) {
            Ok(None) => {}
            Ok(Some(difference)) => self.warning(difference),
            Err(error) => self.error(error),
        }
    }
}

pub(super) fn check_case(dataset: &Dataset, case: &Case) -> Findings {
    let mut findings = Findings::default();
    let mut first_path: &Path = Path::new("");
    let mut channels = 0;
    let mut all_read = true;
    let mut content = crc32fast::Hasher::new();
    for path in &case.images {
        let volumes = match read_channels(path) {
            Ok(volumes) => volumes,
            Err(error) => {
                findings.error(error);
                all_read = false;
                continue;
            }
        };
        for volume in volumes {
            channels += 1;
            if let Err(error) = check_finite(path, &volume.data) {
                findings.error(error);
            } else if is_constant(&volume.data) {
                findings.warning(DataError::invalid(
                    path,
                    "holds the same value in every voxel",
                    "export the image again, or remove the case",
                ));
            }
            add_content(&mut content, &volume.data);
            if findings.geometry.is_some() {
                findings.compare(dataset, path, &volume.geometry, first_path);
            } else {
                first_path = path;
                findings.geometry = Some(volume.geometry);
            }
        }
    }
    if all_read {
        findings.content = Some(content.finalize());
        if let Err(error) = check_channels(case, channels, dataset.channel_names.len()) {
            findings.error(error);
        }
    }
    if let Some(path) = &case.label {
        check_labels(dataset, path, first_path, &mut findings);
    }
    findings
}

fn check_labels(dataset: &Dataset, path: &Path, first_path: &Path, findings: &mut Findings) {
    let labels = match dataset.read_labels(path) {
        Ok(labels) => labels,
        Err(error) => return findings.error(error),
    };
    findings.compare(dataset, path, &labels.geometry, first_path);
    findings.voxels = count_values(&labels.data);
    // Where the description does not say which labels there are, that has been named.
    if !dataset.classes.is_empty()
        && let Err(error) = dataset.check_declared(path, &labels.data)
    {
        findings.error(error);
    }
    let is_foreground = |value: u16| value != 0 && dataset.ignore_label != Some(value);
    if !findings.voxels.keys().any(|&value| is_foreground(value)) {
        findings.warning(DataError::invalid(
            path,
            "holds nothing but background",
            "leave it if the case is meant to be empty, else correct the label map",
        ));
    }
}

fn add_content(checksum: &mut crc32fast::Hasher, data: &Array3<f32>) {
    // Rows at a time: a call for each voxel would take longer than reading the file.
    let mut bytes = Vec::new();
    for row in data.rows() {
        bytes.clear();
        bytes.extend(row.iter().flat_map(|value| value.to_le_bytes()));
        checksum.update(&bytes);
    }
}

fn is_constant(data: &Array3<f32>) -> bool {
    let first = data.first();
    data.len() > 1 && data.iter().all(|value| Some(value) == first)
}
