//! Caches of made-up cases, for the tests of what reads them.

use std::path::Path;

use ndarray::{Array3, Array4};

use super::file::{self, Origin};
use super::{Cache, locations};

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

/// Writes the cases with the classes `0..classes` and maps them.
pub(crate) fn cache_of(directory: &Path, cases: &[TestCase], classes: u16) -> Cache {
    let groups: Vec<Vec<u16>> = (0..classes).map(|class| vec![class]).collect();
    let cases = cases
        .iter()
        .map(|case| {
            let path = directory.join(format!("{}.arlcache", case.id));
            let origin = Origin {
                id: case.id.clone(),
                sources: Vec::new(),
                plan: String::new(),
            };
            let locations = locations::draw(&case.labels, &groups, 1000, 7);
            file::write(&path, origin.clone(), &case.image, &case.labels, &locations).unwrap();
            file::open(&path, &origin).unwrap().unwrap()
        })
        .collect();
    Cache {
        directory: directory.to_owned(),
        cases,
    }
}
