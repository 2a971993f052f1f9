//! Choice points: where there are several ways to make the same kernel, and which was taken.
//!
//! Every point has a key, the shape of what is computed, and options as text, the cost model's choice first. A [`Tuning`] names options
//! that were measured to be faster; lowering takes those and reports the points, with the steps that they decide, to whoever measures.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;

use super::Lowering;
use crate::contract::{Contract, Schedule};

/// Options to take, by the key of the point. An option that does not exist is passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuning(pub BTreeMap<String, String>);

/// A choice point that a lowering met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// What is computed.
    pub key: String,
    /// The ways to compute it, the cost model's choice first.
    pub options: Vec<String>,
    /// The number of the option that was taken.
    pub taken: usize,
    /// The steps of the plan whose time depends on it.
    pub steps: Range<usize>,
}

/// A point whose steps are still being emitted: its number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open(usize);

impl Lowering {
    /// Takes one of `options`, of which the first is the choice without measuring; the point decides all steps until it is
    /// [closed](Lowering::close).
    pub(super) fn pick<T: Display>(&mut self, key: String, mut options: Vec<T>) -> (T, Open) {
        let names: Vec<String> = options.iter().map(T::to_string).collect();
        let wanted = self.tuning.0.get(&key);
        let taken = wanted.and_then(|w| names.iter().position(|n| n == w)).unwrap_or(0);
        let at = self.steps.len();
        self.points.push(Point { key, options: names, taken, steps: at..at });
        (options.swap_remove(taken), Open(self.points.len() - 1))
    }

    /// Ends what a point decides.
    pub(super) fn close(&mut self, point: Open) {
        let end = self.steps.len();
        if let Some(point) = self.points.get_mut(point.0) {
            point.steps.end = end;
        }
    }

    /// How a contraction is cut.
    pub(super) fn schedule(&mut self, c: &Contract) -> (Schedule, Open) {
        let options = Schedule::options(c, self.target.isa, &self.target.machine);
        self.pick(c.key(), options)
    }
}
