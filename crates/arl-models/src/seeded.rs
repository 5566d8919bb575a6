use burn::module::Module;
use burn::tensor::Device;

use crate::initialization::draw_weights;

/// The model, with all weights that are not drawn yet drawn from `seed`, which the device's random numbers go on from.
pub(crate) fn seeded<M: Module>(model: M, device: &Device, seed: u64) -> M {
    device.seed(seed);
    draw_weights(&model);
    model
}
