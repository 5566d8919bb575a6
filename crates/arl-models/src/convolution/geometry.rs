/// Sizes of a convolution without dilation and groups.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Geometry {
    /// Images of the batch.
    pub images: usize,
    /// Channels of the input.
    pub inputs: usize,
    /// Channels of the output.
    pub outputs: usize,
    /// Voxels of the input, `[D, H, W]`.
    pub size: [usize; 3],
    /// Voxels of the kernel.
    pub kernel: [usize; 3],
    /// Step of the kernel.
    pub stride: [usize; 3],
    /// Zeros around the input.
    pub padding: [usize; 3],
}

impl Geometry {
    /// Voxels of the output, `[D, H, W]`.
    pub fn output(&self) -> [usize; 3] {
        std::array::from_fn(|i| {
            let room = self.size[i] + 2 * self.padding[i] - self.kernel[i];
            room / self.stride[i] + 1
        })
    }
}
