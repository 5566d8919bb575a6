use burn::tensor::{Device, FloatDType};

/// What [`use_matrix_units`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MatrixUnits {
    /// Numbers whose convolutions run on matrix units from now on.
    pub used: Vec<FloatDType>,
    /// Numbers for which the device has matrix units that computed something else than its other units did: its driver is at
    /// fault, and they are not used.
    pub wrong: Vec<FloatDType>,
}

/// Lets convolutions run on the matrix units of a GPU (tensor cores, cooperative matrices), where it has some and they pass a check:
/// a convolution and its gradients, computed with them and without, for each kind of numbers.
///
/// For f32 they multiply in TF32: factors are rounded to 10 bits behind the point, sums are f32, as in PyTorch's convolutions by
/// default. Without this call, and on devices without such units, everything is computed in the numbers it comes in, and
/// more slowly.
///
/// Call it once, before the first network runs on the device; it takes some seconds where kernels have to be compiled.
pub fn use_matrix_units(device: &Device) -> MatrixUnits {
    #[cfg(feature = "cubecl")]
    return crate::convolution::matrix_units::use_matrix_units(device);
    #[cfg(not(feature = "cubecl"))]
    {
        let _ = device;
        MatrixUnits::default()
    }
}
