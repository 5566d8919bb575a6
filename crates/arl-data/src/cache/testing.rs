//! Caches of made-up cases, for the tests of what reads them.

use std::path::Path;

use ndarray::{Array3, Array4};

use super::file::{self, CaseWriter, Header, Origin};
use super::locations::Draw;
use super::{Cache, CacheDtype};

/// A case of one channel, its image counting the voxels in memory order.
pub(crate) struct TestCase {
    id: String,
    image: Array4<f32>,
    labels: Array3<u16>,
}

impl TestCase {
    pub fn new(id: &str, shape: [usize; 3], label: impl Fn([usize; 3]) -> u16) -> Self {
        let [d, h, w] = shape;
        Self {
            id: id.to_owned(),
            image: Array4::from_shape_fn((1, d, h, w), |(_, i, j, k)| ((i * h + j) * w + k) as f32),
            labels: Array3::from_shape_fn((d, h, w), |(i, j, k)| label([i, j, k])),
        }
    }

    /// The same with that many channels, each 1000 above the one before.
    pub fn with_channels(mut self, channels: usize) -> Self {
        let (_, d, h, w) = self.image.dim();
        self.image = Array4::from_shape_fn((channels, d, h, w), |(c, i, j, k)| {
            self.image[[0, i, j, k]] + 1000.0 * c as f32
        });
        self
    }
}

/// Writes the cases with the classes `0..classes` and opens them.
pub(crate) fn cache_of(directory: &Path, cases: &[TestCase], classes: u16) -> Cache {
    cache_of_dtype(directory, cases, classes, CacheDtype::F32)
}

/// [`cache_of`] with another number format.
pub(crate) fn cache_of_dtype(
    directory: &Path,
    cases: &[TestCase],
    classes: u16,
    dtype: CacheDtype,
) -> Cache {
    let groups: Vec<[u16; 1]> = (0..classes).map(|class| [class]).collect();
    let cases = cases
        .iter()
        .map(|case| {
            let path = directory.join(format!("{}.arlcache", case.id));
            let (channels, d, h, w) = case.image.dim();
            let header = Header {
                origin: Origin {
                    id: case.id.clone(),
                    sources: Vec::new(),
                    plan: String::new(),
                    dtype,
                },
                channels,
                shape: [d, h, w],
                label_bytes: if case.labels.iter().all(|v| *v < 256) {
                    1
                } else {
                    2
                },
                locations_per_class: Vec::new(),
            };
            let mut draw = Draw::new(&groups, 1000, 7);
            for ((d, h), row) in ndarray::indices((d, h)).into_iter().zip(case.labels.rows()) {
                draw.row(d, h, &row.to_vec());
            }
            let channels: Vec<Vec<f32>> = case
                .image
                .outer_iter()
                .map(|channel| channel.iter().copied().collect())
                .collect();
            let labels: Vec<u16> = case.labels.iter().copied().collect();
            let mut writer = CaseWriter::begin(&path, header.clone()).unwrap();
            writer.slab(&channels, &labels).unwrap();
            writer.finish(&draw.finish()).unwrap();
            file::open(&path, &header.origin).unwrap().unwrap()
        })
        .collect();
    Cache {
        directory: directory.to_owned(),
        cases,
    }
}
