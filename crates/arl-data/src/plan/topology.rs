//! How often the network halves each axis, and with which kernels.
//!
//! Source: nnU-Net v2, `network_topology.py`, `get_pool_and_conv_props`.

/// Smallest edge of a feature map, in voxels.
const MIN_EDGE: f64 = 4.0;
/// Axes whose spacings differ by less than this factor are treated alike.
const SIMILAR: f64 = 2.0;

/// The resolutions of a network, and the patch that fits them. `[D, H, W]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Topology {
    /// The size asked for, rounded up to what the strides divide, in voxels.
    pub patch: [usize; 3],
    /// Kernel and stride of each stage, finest first.
    pub stages: Vec<([usize; 3], [usize; 3])>,
    /// The product of all strides, that of the stem included.
    pub divisor: [usize; 3],
}

/// Kernels and strides for a patch of `size` voxels (a median, so it may have halves) at `spacing` mm.
///
/// The stem's stride comes before the first stage. An axis is halved as long as it has eight voxels and is not coarser
/// than twice the finest such axis; a last single axis needs twelve. An axis has kernel 1 until its spacing is within
/// twice the finest one, then 3. The coarsest stage has kernel 3 throughout.
pub(super) fn topology(size: [f64; 3], spacing: [f64; 3], stem: [usize; 3]) -> Topology {
    let wanted = size;
    let mut size: [f64; 3] = std::array::from_fn(|axis| match stem[axis] {
        1 => size[axis],
        stride => (size[axis] / stride as f64).ceil(),
    });
    let mut spacing: [f64; 3] = std::array::from_fn(|axis| spacing[axis] * stem[axis] as f64);
    let (mut kernel, mut stride, mut divisor) = ([1; 3], [1; 3], stem);
    let mut stages = Vec::new();
    loop {
        let large: Vec<usize> = (0..3).filter(|&a| size[a] >= 2.0 * MIN_EDGE).collect();
        let finest = smallest(large.iter().map(|&axis| spacing[axis]));
        let halved: Vec<usize> = large
            .into_iter()
            .filter(|&axis| spacing[axis] / finest < SIMILAR)
            .collect();
        let done = match halved[..] {
            [] => true,
            [only] => size[only] < 3.0 * MIN_EDGE,
            _ => false,
        };
        if done {
            break;
        }
        let finest = smallest(spacing);
        for axis in 0..3 {
            // The second condition is not nnU-Net's, which would leave every other voxel unseen; it is met only where
            // the finest axis has too few voxels to be halved.
            if spacing[axis] / finest < SIMILAR || stride[axis] > 1 {
                kernel[axis] = 3;
            }
        }
        stages.push((kernel, stride));
        stride = [1; 3];
        for axis in halved {
            stride[axis] = 2;
            divisor[axis] *= 2;
            spacing[axis] *= 2.0;
            size[axis] = (size[axis] / 2.0).ceil();
        }
    }
    stages.push(([3; 3], stride));
    let patch =
        std::array::from_fn(|axis| (wanted[axis].ceil() as usize).next_multiple_of(divisor[axis]));
    Topology {
        patch,
        stages,
        divisor,
    }
}

fn smallest(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anisotropic_patch_is_halved_in_the_plane_first() {
        // MSD Prostate as published by nnU-Net.
        let found = topology([20.0, 320.0, 256.0], [3.6, 0.625, 0.625], [1; 3]);
        assert_eq!(found.patch, [20, 320, 256]);
        let strides: Vec<_> = found.stages.iter().map(|stage| stage.1).collect();
        let (plane, all) = ([1, 2, 2], [2, 2, 2]);
        assert_eq!(strides, [[1; 3], plane, plane, all, all, plane, plane]);
        let kernels: Vec<_> = found.stages.iter().map(|stage| stage.0).collect();
        assert_eq!(kernels[..2], [[1, 3, 3]; 2]);
        assert_eq!(kernels[2..], [[3; 3]; 5]);
    }

    #[test]
    fn a_median_with_halves_is_rounded_up() {
        assert_eq!(
            topology([7.5, 100.5, 64.0], [1.0; 3], [1; 3]).patch,
            [8, 112, 64]
        );
        // 7.5 voxels are too few to be halved, 8 are not.
        assert_eq!(topology([7.5; 3], [1.0; 3], [1; 3]).stages.len(), 1);
        assert_eq!(topology([8.0; 3], [1.0; 3], [1; 3]).stages.len(), 2);
    }

    #[test]
    fn no_stride_skips_voxels_beside_a_thin_fine_axis() {
        let found = topology([64.0, 64.0, 6.0], [1.0, 1.0, 0.2], [1; 3]);
        assert_eq!(found.stages[0], ([1, 1, 3], [1; 3]));
        assert_eq!(found.stages[1], ([3; 3], [2, 2, 1]));
    }

    #[test]
    fn the_stem_comes_before_the_first_stage() {
        let found = topology([101.0, 90.0, 97.0], [3.0; 3], [2; 3]);
        assert_eq!(found.divisor, [16; 3]);
        assert_eq!(found.patch, [112, 96, 112]);
        assert_eq!(found.stages.len(), 4);
    }
}
