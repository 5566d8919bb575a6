//! A stage whose result alone is kept.

use std::collections::VecDeque;

use burn::backend::DispatchDevice;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{GradientCheckpointingStrategy, Gradients, Tensor};

use super::graph::{self, Slot};
use super::repeat;

/// Whether gradients are taken through these, with checkpointing, on a backend that [`graph`] knows.
pub(super) fn asked_for(inputs: &[Tensor<5>]) -> bool {
    let known = match inputs[0].device().without_autodiff().as_dispatch() {
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(_) => true,
        #[cfg(feature = "cubecl")]
        DispatchDevice::Cube(_) => true,
        _ => false,
    };
    let balanced = Some(GradientCheckpointingStrategy::Balanced);
    let asked = |input: &Tensor<5>| input.gradient_checkpointing_strategy() == balanced;
    known && inputs.iter().any(asked)
}

/// See [`super::checkpointed`].
pub(super) fn forward<M: Module + 'static, const N: usize>(
    stage: &M,
    inputs: [Tensor<5>; N],
    forward: fn(&M, [Tensor<5>; N]) -> Tensor<5>,
) -> Tensor<5> {
    let mut sources = Sources::new(&inputs[0]);
    inputs.iter().for_each(|input| sources.add(input));
    // Draws the weights too that were not drawn yet, before the stage is cloned.
    stage.visit(&mut sources);
    let Sources {
        tie,
        mut slots,
        distributed,
    } = sources;
    // Nothing to compute again for; and a graph of its own would announce gradients to other machines a second time.
    if distributed || slots.iter().all(Option::is_none) {
        return forward(stage, inputs);
    }

    // Without a graph: Burn's keeps what some operations were given even where no gradients are asked for.
    let plain = stage.clone().map(&mut WithoutGraph);
    let (output, drawn) =
        repeat::first(|| forward(&plain, inputs.clone().map(|input| input.inner())));
    drop(plain);

    let inputs = inputs.map(|input| input.set_require_grad(false));
    let stage = stage.clone().map(&mut Detached);
    graph::computed_again(output, tie, move |gradient| {
        let of_parameters = slots.split_off(N);
        let inputs: [Tensor<5>; N] = std::array::from_fn(|i| match slots[i] {
            Some(_) => inputs[i].clone().require_grad(),
            None => inputs[i].clone(),
        });
        let wanted = of_parameters.iter().map(Option::is_some).collect();
        let stage = stage.map(&mut Leaves { wanted });
        let output = repeat::again(drawn, || forward(&stage, inputs.clone()));
        let gradients = graph::seeded(output, gradient).backward();
        let mut results = Results {
            gradients,
            slots: slots.into_iter().chain(of_parameters).collect(),
        };
        inputs.iter().for_each(|input| results.hand_out(input));
        stage.visit(&mut results);
    })
}

/// What a stage is computed from: its inputs, then its parameters in the order of a visit.
struct Sources {
    /// An operation of all that gradients are asked for.
    tie: Tensor<1>,
    /// Where their gradients will be; `None` for what has none.
    slots: Vec<Option<Slot>>,
    /// Whether one of them is trained on several machines (Burn's distributed data parallel training).
    distributed: bool,
}

impl Sources {
    fn new(input: &Tensor<5>) -> Self {
        Self {
            tie: Tensor::zeros([1], &input.device()),
            slots: Vec::new(),
            distributed: false,
        }
    }

    fn add<const D: usize>(&mut self, source: &Tensor<D>) {
        if !source.is_tracked() {
            self.slots.push(None);
            return;
        }
        self.distributed |= source.is_distributed();
        let slot = Slot::default();
        self.tie = graph::tied(self.tie.clone(), source.clone(), slot.clone());
        self.slots.push(Some(slot));
    }
}

impl ModuleVisitor for Sources {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.add(&param.val());
    }
}

struct WithoutGraph;

impl ModuleMapper for WithoutGraph {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(Tensor::inner)
    }
}

struct Detached;

impl ModuleMapper for Detached {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor.set_require_grad(false))
    }
}

/// Makes parameters the leaves of a graph of their own.
struct Leaves {
    /// Whether gradients are asked for, in the order of a visit.
    wanted: VecDeque<bool>,
}

impl ModuleMapper for Leaves {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.wanted.pop_front() {
            Some(true) => param.map(Tensor::require_grad),
            _ => param,
        }
    }
}

/// Takes the gradients of a stage to where the graph around it looks for them.
struct Results {
    gradients: Gradients,
    slots: VecDeque<Option<Slot>>,
}

impl Results {
    fn hand_out<const D: usize>(&mut self, leaf: &Tensor<D>) {
        if let Some(Some(slot)) = self.slots.pop_front() {
            let gradient = leaf.grad_remove(&mut self.gradients);
            // Of what the result does not depend on.
            slot.fill(gradient.unwrap_or_else(|| leaf.clone().inner().zeros_like()));
        }
    }
}

impl ModuleVisitor for Results {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.hand_out(&param.val());
    }
}
