//! What a stage draws at random the first time it has to use again the second time; and the first time, which takes no
//! gradients, it has to train all the same.

use std::cell::RefCell;
use std::collections::VecDeque;

use burn::tensor::Tensor;

/// What was drawn in the order of drawing.
pub(super) type Drawn = VecDeque<Tensor<5>>;

enum Time {
    /// Stages are computed once.
    Only,
    First(Drawn),
    Second(Drawn),
}

thread_local! {
    static TIME: RefCell<Time> = const { RefCell::new(Time::Only) };
}

/// Sets the time, and sets it back when dropped.
struct Set {
    before: Option<Time>,
}

impl Set {
    fn to(time: Time) -> Self {
        let before = TIME.with(|now| now.replace(time));
        Self {
            before: Some(before),
        }
    }

    fn back(&mut self) -> Time {
        let before = self.before.take().unwrap_or(Time::Only);
        TIME.with(|now| now.replace(before))
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        if self.before.is_some() {
            self.back();
        }
    }
}

/// Runs a stage without gradients, but as in training; with what it drew.
pub(super) fn first<T>(stage: impl FnOnce() -> T) -> (T, Drawn) {
    let mut set = Set::to(Time::First(Drawn::new()));
    let result = stage();
    match set.back() {
        Time::First(drawn) => (result, drawn),
        Time::Only | Time::Second(_) => unreachable!("a stage sets its time back"),
    }
}

/// Runs a stage with what it drew before.
pub(super) fn again<T>(drawn: Drawn, stage: impl FnOnce() -> T) -> T {
    let _set = Set::to(Time::Second(drawn));
    stage()
}

/// What `draw` gives, or gave the first time.
pub(super) fn drawn(draw: impl FnOnce() -> Tensor<5>) -> Tensor<5> {
    let before = TIME.with(|now| match &mut *now.borrow_mut() {
        Time::Second(drawn) => Some(drawn.pop_front().expect("drawn the first time too")),
        Time::Only | Time::First(_) => None,
    });
    before.unwrap_or_else(|| {
        let drawn = draw();
        TIME.with(|now| {
            if let Time::First(all) = &mut *now.borrow_mut() {
                all.push_back(drawn.clone());
            }
        });
        drawn
    })
}

/// Whether a stage is computed for the first of two times.
pub(super) fn is_first() -> bool {
    TIME.with(|now| matches!(*now.borrow(), Time::First(_)))
}
