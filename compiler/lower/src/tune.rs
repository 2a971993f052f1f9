//! Choice points: where there are several ways to make the same kernel, and which was taken.
//!
//! Every point has a key, the shape of what is computed, and options as text, the cost model's choice first. A [`Tuning`] names options
//! that were measured to be faster; lowering takes those and reports the points to whoever measures; the kernel steps
//! that a point decides name it.

use std::collections::BTreeMap;
use std::fmt::Display;

use optc_kernel::program::Point;
use optc_kernels::contract::{Contract, Schedule};

use super::Lowering;

/// Options to take, by the key of the point. An option that does not exist is passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuning(pub BTreeMap<String, String>);

/// A point whose steps are still being emitted: its number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open(usize);

impl Lowering {
    /// Takes one of `options`, of which the first is the choice without measuring; the point decides all steps until it is
    /// [closed](Lowering::close).
    pub(super) fn pick<T: Display>(&mut self, key: String, mut options: Vec<T>) -> (T, Open) {
        let names: Vec<String> = options.iter().map(T::to_string).collect();
        let wanted = self.options.tuning.0.get(&key);
        let taken = wanted.and_then(|w| names.iter().position(|n| n == w)).unwrap_or(0);
        self.points.push(Point { key, options: names, taken, within: self.point });
        let open = self.points.len() - 1;
        self.point = Some(open);
        (options.swap_remove(taken), Open(open))
    }

    /// Ends what a point decides.
    pub(super) fn close(&mut self, point: Open) {
        self.point = self.points.get(point.0).and_then(|p| p.within);
    }

    /// How a contraction is cut.
    pub(super) fn schedule(&mut self, c: &Contract) -> (Schedule, Open) {
        let options = Schedule::options(c, self.target.isa, &self.target.caches);
        self.pick(c.key(), options)
    }
}
