//! What tests read of a network's parameters, all in the order of a visit.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor, TensorData};

/// The parameters.
pub(crate) fn parameters(module: &impl Module) -> Vec<TensorData> {
    struct Collect(Vec<TensorData>);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.val().into_data());
        }
    }
    let mut collect = Collect(Vec::new());
    module.visit(&mut collect);
    collect.0
}

/// The gradient of each parameter; `None` for one that has none.
pub(crate) fn gradients(module: &impl Module, gradients: &Gradients) -> Vec<Option<TensorData>> {
    struct Collect<'a>(&'a Gradients, Vec<Option<TensorData>>);
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = param.val().grad(self.0);
            self.1.push(gradient.map(Tensor::into_data));
        }
    }
    let mut collect = Collect(gradients, Vec::new());
    module.visit(&mut collect);
    collect.1
}

/// Their numbers, one after the other.
pub(crate) fn numbers(tensors: impl IntoIterator<Item = TensorData>) -> Vec<f32> {
    let tensors: Vec<TensorData> = tensors.into_iter().collect();
    tensors.iter().flat_map(|data| data.iter::<f32>()).collect()
}
