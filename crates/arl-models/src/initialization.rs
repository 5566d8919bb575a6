use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::Initializer;
use burn::tensor::{Bool, Device, Int, Tensor};

/// Slope of the leaky ReLU below zero that nnU-Net draws its weights for, whatever the activation is.
pub(crate) const LEAKY_SLOPE: f64 = 0.01;

/// He's normal initialisation, which keeps the variance of a signal through a leaky ReLU
/// (He et al., ICCV 2015): std = √(2 / (1 + slope²) / fan_in).
pub(crate) fn he_leaky() -> Initializer {
    Initializer::KaimingNormal {
        gain: (2.0 / (1.0 + LEAKY_SLOPE * LEAKY_SLOPE)).sqrt(),
        fan_out_only: false,
    }
}

/// He's normal initialisation for a ReLU (ICCV 2015), which Caffe calls `msra`: std = √(2 / fan_in).
pub(crate) fn he_relu() -> Initializer {
    Initializer::KaimingNormal {
        gain: std::f64::consts::SQRT_2,
        fan_out_only: false,
    }
}

/// A bias of zeros, as it goes with [`he_leaky`] weights.
pub(crate) fn zero_bias(channels: usize, device: &Device) -> Param<Tensor<1>> {
    Initializer::Zeros.init([channels], device)
}

/// Draws every weight that is not drawn yet, in the order of the module's fields.
///
/// Parameters are lazy: without this their values would depend on which is used first, and on what else
/// draws from the device's random numbers in between.
pub(crate) fn draw_weights<M: Module>(module: &M) {
    struct Draw;
    impl ModuleVisitor for Draw {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            param.val();
        }
        fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
            param.val();
        }
        fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
            param.val();
        }
    }
    module.visit(&mut Draw);
}
