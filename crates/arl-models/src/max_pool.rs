use burn::tensor::Tensor;

/// The largest voxel of each block of 2×2×2: `[N, C, D, H, W]` to `[N, C, D/2, H/2, W/2]`.
///
/// The gradient goes to that voxel; of several equal ones, to one of them.
///
/// # Panics
/// If a spatial size is odd.
pub fn max_pool(x: Tensor<5>) -> Tensor<5> {
    let [n, c, d, h, w] = x.dims();
    assert!(
        [d, h, w].iter().all(|size| size.is_multiple_of(2)),
        "{:?} voxels cannot be pooled by 2: make every size even",
        [d, h, w]
    );
    // One axis at a time, so that each step leaves half of the work to the next: three comparisons per result instead
    // of one among eight gathered voxels.
    let x = x.reshape([n * c * d / 2, 2, h * w]).max_dim(1);
    let x = x.reshape([n * c * d / 2 * h / 2, 2, w]).max_dim(1);
    let x = x.reshape([n * c * d / 2 * h / 2, w / 2, 2]).max_dim(2);
    x.reshape([n, c, d / 2, h / 2, w / 2])
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn the_largest_of_each_block_and_a_gradient_for_it_alone() {
        let device = Device::flex().autodiff();
        let shape = [2, 3, 4, 6, 2];
        let count = shape.iter().product::<usize>();
        // A permutation, so that every maximum is one voxel.
        let values: Vec<f32> = (0..count).map(|i| (i * 101 % count) as f32).collect();
        let x = Tensor::<1>::from_floats(values.as_slice(), &device)
            .reshape(shape)
            .require_grad();
        let y = max_pool(x.clone());
        assert_eq!(y.dims(), [2, 3, 2, 3, 1]);
        let pooled: Vec<f32> = y.clone().into_data().iter().collect();
        let gradients = (y.clone() * y).sum().backward();
        let gradient: Vec<f32> = x.grad(&gradients).unwrap().into_data().iter().collect();

        let at = |n: usize, c, d, h, w| (((n * 3 + c) * 4 + d) * 6 + h) * 2 + w;
        let mut expected_gradient = vec![0.0; count];
        for (index, &found) in pooled.iter().enumerate() {
            let (h, d, c, n) = (index % 3, index / 3 % 2, index / 6 % 3, index / 18);
            let block = (0..8).map(|k| at(n, c, 2 * d + k / 4, 2 * h + k / 2 % 2, k % 2));
            let largest = block
                .max_by(|&a, &b| values[a].total_cmp(&values[b]))
                .unwrap();
            assert_eq!(found, values[largest]);
            expected_gradient[largest] = 2.0 * found;
        }
        assert_eq!(gradient, expected_gradient);
    }

    #[test]
    #[should_panic(expected = "[4, 3, 2] voxels cannot be pooled")]
    fn odd_sizes_are_refused() {
        max_pool(Tensor::zeros([1, 1, 4, 3, 2], &Device::flex()));
    }
}
