//! Times of steps, and of those of plans that ops of the host run: the bodies of control flow, and what waits for
//! shapes.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::plan::Plan;

/// Time that each step of a plan took, summed over runs.
#[derive(Debug, Clone, Default)]
pub struct Timings {
    /// One a step: the sum over all runs.
    pub steps: Vec<Duration>,
    /// When each step of the last run began and ended, since the run's start.
    pub last: Vec<(Duration, Duration)>,
    /// How many runs.
    pub runs: usize,
    /// Items of a batch in all of them; one a run where there is no batch.
    pub items: usize,
    /// The plans that steps of the host ran, in the order in which they were met.
    pub bodies: Vec<BodyTimings>,
}

/// A plan that a step of the host ran.
#[derive(Debug, Clone)]
pub struct BodyTimings {
    /// The step, by number.
    pub step: usize,
    /// The plan.
    pub plan: Arc<Plan>,
    /// The times of its own steps; its runs are those of the body, not of the plan that it is in.
    pub timings: Timings,
}

thread_local! {
    /// Bodies that the step at hand has run, where its times are asked for.
    static RUN: RefCell<Option<Vec<BodyTimings>>> = const { RefCell::new(None) };
}

impl Timings {
    /// Makes room for a run of this many steps on so many items.
    pub(crate) fn begin(&mut self, steps: usize, items: usize) {
        self.steps.resize(steps, Duration::ZERO);
        self.last.clear();
        self.runs += 1;
        self.items += items;
    }

    /// Does a step, and notes when, and what plans it ran.
    pub(crate) fn time<T>(&mut self, step: usize, start: Instant, run: impl FnOnce() -> T) -> T {
        let began = start.elapsed();
        let before = RUN.replace(Some(Vec::new()));
        let result = run();
        let bodies = RUN.replace(before);
        let ended = start.elapsed();
        self.steps[step] += ended - began;
        self.last.push((began, ended));
        bodies.into_iter().flatten().for_each(|body| self.note(BodyTimings { step, ..body }));
        result
    }

    fn note(&mut self, body: BodyTimings) {
        let same = |known: &&mut BodyTimings| known.step == body.step && Arc::ptr_eq(&known.plan, &body.plan);
        match self.bodies.iter_mut().find(same) {
            Some(known) => known.timings.add(body.timings),
            None => self.bodies.push(body),
        }
    }

    /// Adds later runs of the same plan.
    fn add(&mut self, later: Timings) {
        self.steps.resize(later.steps.len(), Duration::ZERO);
        self.steps.iter_mut().zip(later.steps).for_each(|(sum, time)| *sum += time);
        self.last = later.last;
        self.runs += later.runs;
        self.items += later.items;
        later.bodies.into_iter().for_each(|body| self.note(body));
    }
}

/// Runs a plan; where it is the body of a step whose times are asked for, so are its own.
pub(crate) fn watched<T>(plan: &Arc<Plan>, run: impl FnOnce(Option<&mut Timings>) -> T) -> T {
    if RUN.with_borrow(Option::is_none) {
        return run(None);
    }
    let mut timings = Timings::default();
    let result = run(Some(&mut timings));
    RUN.with_borrow_mut(|bodies| {
        if let Some(bodies) = bodies {
            bodies.push(BodyTimings { step: 0, plan: plan.clone(), timings });
        }
    });
    result
}
