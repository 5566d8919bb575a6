//! Prediction of a whole volume by overlapping windows with a Gaussian weight (nnU-Net, `sliding_window_prediction.py`).

use crate::faults;
use arl_models::SegmentationModel;
use burn::tensor::{Device, Tensor, TensorData};
use ndarray::{Array3, Array4, ArrayView4, Axis, Zip, s};

/// Class scores (averaged logits) of a whole volume.
///
/// `image` is `[C, D, H, W]`, the result `[K, D, H, W]`. Volumes smaller than `window` are padded with 0. Logits are averaged
/// over all mirrorings along `mirror_axes`, of which each doubles the work. `on_window` hears `(done, total)`.
///
/// # Errors
/// When the device fails, for example for lack of memory.
pub fn predict(
    network: &impl SegmentationModel,
    image: &Array4<f32>,
    window: [usize; 3],
    overlap: f64,
    mirror_axes: &[usize],
    device: &Device,
    on_window: &dyn Fn(usize, usize),
) -> anyhow::Result<Array4<f32>> {
    let (_, d, h, w) = image.dim();
    let shape = [d, h, w];
    let padded: [usize; 3] = std::array::from_fn(|axis| shape[axis].max(window[axis]));
    let before: [usize; 3] = std::array::from_fn(|axis| (padded[axis] - shape[axis]) / 2);
    let image = pad(image.view(), padded, before);
    let starts: [Vec<usize>; 3] =
        std::array::from_fn(|axis| window_starts(padded[axis], window[axis], 1.0 - overlap));
    let weight = gaussian_weight(window);
    let mut scores = Array4::<f32>::zeros([network.num_classes(), padded[0], padded[1], padded[2]]);
    let mut weights = Array3::<f32>::zeros(padded);
    let total = starts.iter().map(Vec::len).product();
    let mut done = 0;
    for &d in &starts[0] {
        for &h in &starts[1] {
            for &w in &starts[2] {
                let area = s![.., d..d + window[0], h..h + window[1], w..w + window[2]];
                let patch = image.slice(area).as_standard_layout().to_owned();
                let dims = [1, image.dim().0, window[0], window[1], window[2]];
                let data = TensorData::new(patch.into_raw_vec_and_offset().0, dims);
                let logits = averaged(network, Tensor::from_data(data, device), mirror_axes);
                let logits: Vec<f32> = logits
                    .try_into_data()
                    .map_err(|e| anyhow::anyhow!("the device failed: {}", faults::one_line(e)))?
                    .iter::<f32>()
                    .collect();
                let logits = Array4::from_shape_vec(
                    [network.num_classes(), window[0], window[1], window[2]],
                    logits,
                )?;
                for (mut scores, logits) in scores
                    .slice_mut(area)
                    .outer_iter_mut()
                    .zip(logits.outer_iter())
                {
                    Zip::from(&mut scores)
                        .and(&logits)
                        .and(&weight)
                        .par_for_each(|score, logit, weight| *score += logit * weight);
                }
                let area = s![d..d + window[0], h..h + window[1], w..w + window[2]];
                weights
                    .slice_mut(area)
                    .zip_mut_with(&weight, |sum, weight| *sum += weight);
                done += 1;
                on_window(done, total);
            }
        }
    }
    for mut class in scores.outer_iter_mut() {
        class.zip_mut_with(&weights, |score, weight| *score /= weight);
    }
    for axis in 0..3 {
        let end = before[axis] + shape[axis];
        scores.slice_axis_inplace(Axis(axis + 1), (before[axis]..end).into());
    }
    Ok(scores)
}

/// The mean of the logits of images `[N, C, D, H, W]` mirrored in every way along some of `[D, H, W]`, mirrored back.
fn averaged(
    network: &impl SegmentationModel,
    images: Tensor<5>,
    mirror_axes: &[usize],
) -> Tensor<5> {
    let ways = 1usize << mirror_axes.len();
    let mirrored = (0..ways).map(|way| {
        let chosen = |place: &usize| way >> place & 1 == 1;
        let mirror = |tensor: Tensor<5>| {
            let places = (0..mirror_axes.len()).filter(chosen);
            places.fold(tensor, |tensor, place| {
                tensor.flip([mirror_axes[place] + 2])
            })
        };
        mirror(network.predict(mirror(images.clone())))
    });
    let sum = mirrored.reduce(|sum, logits| sum + logits);
    sum.map_or_else(|| network.predict(images), |sum| sum / ways as f64)
}

fn pad(image: ArrayView4<'_, f32>, padded: [usize; 3], before: [usize; 3]) -> Array4<f32> {
    let (c, d, h, w) = image.dim();
    let mut result = Array4::zeros([c, padded[0], padded[1], padded[2]]);
    let [z, y, x] = before;
    result
        .slice_mut(s![.., z..z + d, y..y + h, x..x + w])
        .assign(&image);
    result
}

/// First voxels of the windows along an axis: evenly spread, at most `step · window` apart.
pub fn window_starts(size: usize, window: usize, step: f64) -> Vec<usize> {
    if size <= window {
        return vec![0];
    }
    let room = (size - window) as f64;
    let count = (room / (window as f64 * step)).ceil() as usize + 1;
    (0..count)
        .map(|i| (i as f64 * room / (count - 1) as f64).round_ties_even() as usize)
        .collect()
}

/// A Gaussian with σ of an eighth of the window around its middle voxel, so that a window's edge counts little.
fn gaussian_weight(window: [usize; 3]) -> Array3<f32> {
    let along = |axis: usize, i: usize| {
        let sigma = window[axis] as f64 / 8.0;
        (-((i as f64 - (window[axis] / 2) as f64) / sigma).powi(2) / 2.0).exp()
    };
    Array3::from_shape_fn(window, |(d, h, w)| {
        // Never zero, so that every voxel counts: a corner is 4 σ away along each axis, where this is some 4e-11.
        (along(0, d) * along(1, h) * along(2, w)) as f32
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_nnunets() {
        assert_eq!(window_starts(110, 64, 0.5), [0, 23, 46]);
        assert_eq!(
            window_starts(482, 128, 0.5),
            [0, 59, 118, 177, 236, 295, 354]
        );
        assert_eq!(window_starts(138, 128, 0.5), [0, 10]);
        assert_eq!(window_starts(128, 128, 0.5), [0]);
        assert_eq!(window_starts(100, 64, 0.25), [0, 12, 24, 36]);
    }

    /// Adds one to its input: the average over windows must do the same, wherever they overlap.
    struct PlusOne;

    impl SegmentationModel for PlusOne {
        fn num_classes(&self) -> usize {
            1
        }
        fn patch_divisors(&self) -> [usize; 3] {
            [1; 3]
        }
        fn predict(&self, images: Tensor<5>) -> Tensor<5> {
            images + 1.0
        }
    }

    #[test]
    fn every_voxel_is_predicted_once_in_sum() {
        for window in [[4, 10, 7], [20, 22, 23], [4, 1, 7]] {
            let image =
                Array4::from_shape_fn([1, 16, 15, 7], |(_, d, h, w)| (d * 100 + h * 10 + w) as f32);
            let found = predict(
                &PlusOne,
                &image,
                window,
                0.5,
                &[],
                &Device::flex(),
                &|_, _| (),
            )
            .unwrap();
            assert_eq!(found.dim(), image.dim());
            let worst = found
                .iter()
                .zip(&image)
                .map(|(a, b)| (a - b - 1.0).abs())
                .fold(0.0, f32::max);
            assert!(worst < 1e-3, "{worst} for {window:?}");
        }
    }
}
