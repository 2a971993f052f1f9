//! Finding faster schedules by measuring them: `--autotune`.
//!
//! A trial is the whole model, compiled with another option at each choice point. It runs in turn with the plan that is
//! best so far, so that what else the machine does slows both; an option is worth keeping when the median of the ratios
//! of its steps' times is below [`KEEP`]. A point that is a part of another one that varies waits for a later trial. At
//! the end all winners are measured together against the plan before, and those that lose there are given up.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::successors;
use std::sync::Arc;
use std::time::{Duration, Instant};

use optc_ir::Val;
use optc_kernel::program::Point;
use optc_lower::Tuning;
use optc_runtime::plan::{KernelStep, Step};
use optc_runtime::{Arena, Executor, ThreadPool, Timings};

use crate::Error;
use crate::plan::CompiledPlan;

/// An option is kept below this share of the time before: less may be noise.
const KEEP: f64 = 0.97;
/// Pairs of runs that a ratio is the median of, at least and at most.
const PAIRS: (usize, usize) = (5, 60);
/// The share of all time that one trial runs for.
const SHARE: u32 = 40;

/// Compiles a plan with some options.
type Compile<'a> = dyn Fn(&Tuning) -> Result<CompiledPlan, Error> + 'a;

struct Tuner<'a> {
    compile: &'a Compile<'a>,
    pool: &'a ThreadPool,
    inputs: &'a [Val],
    begin: Instant,
    time: Duration,
    /// Options that are taken: those known before, and the winners.
    taken: Tuning,
    /// For each key, the number of its next option.
    next: BTreeMap<String, usize>,
    trials: usize,
}

/// What the tuner found.
pub(crate) struct TuningResult {
    /// All options to take.
    pub tuning: Tuning,
    pub plan: Arc<CompiledPlan>,
    pub points: usize,
    pub trials: usize,
    pub share: f64,
    pub complete: bool,
}

/// Tries options for `time`; those in `known` are taken as they are.
pub(crate) fn tune(
    compile: &Compile,
    known: &Tuning,
    pool: &ThreadPool,
    inputs: &[Val],
    time: Duration,
) -> Result<TuningResult, Error> {
    let next = known.0.keys().map(|key| (key.clone(), usize::MAX)).collect();
    let mut tuner = Tuner { compile, pool, inputs, begin: Instant::now(), time, taken: known.clone(), next, trials: 0 };
    let first = Arc::new(compile(known)?);
    let (mut base, mut complete) = (first.clone(), false);
    while !tuner.is_over() {
        let trial = tuner.trial(&base.points);
        if trial.0.is_empty() {
            complete = true;
            break;
        }
        if tuner.measure(&base, &trial)? {
            base = Arc::new(compile(&tuner.taken)?);
        }
    }
    let (base, share) = tuner.confirm(&first, base, known)?;
    // What was tried to the end and lost keeps the cost model's choice, for good.
    for point in &base.points {
        if tuner.next.get(&point.key).is_some_and(|&n| n >= point.options.len()) {
            tuner.taken.0.entry(point.key.clone()).or_insert_with(|| point.options[0].clone());
        }
    }
    let points = keys(&base.points).len();
    Ok(TuningResult { tuning: tuner.taken, plan: base, points, trials: tuner.trials, share, complete })
}

fn keys(points: &[Point]) -> BTreeSet<&str> {
    points.iter().map(|p| &p.key[..]).collect()
}

impl Tuner<'_> {
    fn is_over(&self) -> bool {
        self.begin.elapsed() >= self.time
    }

    /// The next option of each point that has one, and is not inside another one that varies.
    fn trial(&self, points: &[Point]) -> Tuning {
        let mut trial = Tuning::default();
        let mut varies = vec![false; points.len()];
        for (i, point) in points.iter().enumerate() {
            let next = self.next.get(&point.key).copied().unwrap_or(0);
            let next = next + usize::from(next == point.taken);
            // A point comes after the one that it is a part of.
            let inside = point.within.is_some_and(|outer| varies[outer]);
            varies[i] = inside;
            if let Some(name) = point.options.get(next).filter(|_| !inside) {
                trial.0.insert(point.key.clone(), name.clone());
                varies[i] = true;
            }
        }
        trial
    }

    /// Measures a trial against the best plan; says whether it has winners.
    fn measure(&mut self, base: &CompiledPlan, trial: &Tuning) -> Result<bool, Error> {
        let mut options = self.taken.clone();
        options.0.extend(trial.0.clone());
        let other = (self.compile)(&options)?;
        self.trials += 1;
        let (ratios, _) = self.compare(base, &other, self.time / SHARE)?;
        let mut won = false;
        for (key, name) in &trial.0 {
            let Some(point) = base.points.iter().find(|p| p.key == *key) else { continue };
            let number = point.options.iter().position(|o| o == name).unwrap_or(point.options.len());
            self.next.insert(key.clone(), number + 1);
            if ratios.get(key).is_some_and(|&r| r < KEEP) {
                self.taken.0.insert(key.clone(), name.clone());
                won = true;
            }
        }
        Ok(won)
    }

    /// Measures the winners together against the first plan; gives the plan with those that stay, and its share of the
    /// time.
    fn confirm(
        &mut self,
        first: &CompiledPlan,
        base: Arc<CompiledPlan>,
        known: &Tuning,
    ) -> Result<(Arc<CompiledPlan>, f64), Error> {
        if self.taken == *known {
            return Ok((base, 1.0));
        }
        let (ratios, share) = self.compare(first, &base, self.time / (SHARE / 4))?;
        let lost: Vec<&String> = ratios.iter().filter(|(_, r)| **r >= 1.0).map(|(key, _)| key).collect();
        let before = self.taken.0.len();
        self.taken.0.retain(|key, _| known.0.contains_key(key) || !lost.contains(&key));
        if self.taken.0.len() == before {
            return Ok((base, share));
        }
        let plan = Arc::new((self.compile)(&self.taken)?);
        let (_, share) = self.compare(first, &plan, self.time / SHARE)?;
        Ok((plan, share))
    }

    /// Runs two plans in turn; gives the median ratios of the time of the steps of each key that both have, and of all
    /// steps.
    fn compare(
        &self,
        a: &CompiledPlan,
        b: &CompiledPlan,
        time: Duration,
    ) -> Result<(BTreeMap<String, f64>, f64), Error> {
        let mut runs = [Run::new(a), Run::new(b)];
        for run in &mut runs {
            run.once(self)?; // warms up
        }
        let begin = Instant::now();
        let (mut ratios, mut whole) = (BTreeMap::<String, Vec<f64>>::new(), vec![]);
        while whole.len() < PAIRS.0 || (whole.len() < PAIRS.1 && begin.elapsed() < time) {
            let [before, after] = &mut runs;
            let ((of_a, all_a), (of_b, all_b)) = (before.once(self)?, after.once(self)?);
            whole.push(all_b / all_a);
            for (key, time) in of_b {
                if let Some(&before) = of_a.get(&key).filter(|&&t| t > 0.0) {
                    ratios.entry(key).or_default().push(time / before);
                }
            }
        }
        Ok((ratios.into_iter().map(|(key, all)| (key, median(all))).collect(), median(whole)))
    }
}

/// A plan that is run again and again.
struct Run<'a> {
    plan: &'a CompiledPlan,
    executor: Executor,
    arena: Arena,
}

impl<'a> Run<'a> {
    fn new(plan: &'a CompiledPlan) -> Run<'a> {
        Run { plan, executor: Executor::new(plan.plan.clone()), arena: Arena::default() }
    }

    /// Runs it once; gives the seconds of the steps of each key, and of all steps.
    fn once(&mut self, tuner: &Tuner) -> Result<(BTreeMap<String, f64>, f64), Error> {
        let mut timings = Timings::default();
        self.executor.run(tuner.inputs, &mut self.arena, tuner.pool, Some(&mut timings))?;
        let seconds = |steps: &[Duration]| steps.iter().sum::<Duration>().as_secs_f64();
        let points = &self.plan.points;
        let mut times: BTreeMap<String, f64> = points.iter().map(|p| (p.key.clone(), 0.0)).collect();
        for (step, time) in self.plan.plan.flow.steps.iter().zip(&timings.steps) {
            let Step::Kernel(KernelStep { point, .. }) = step else { continue };
            let chain = successors(*point, |&p| points[p].within);
            for key in chain.map(|p| &points[p].key) {
                *times.entry(key.clone()).or_default() += time.as_secs_f64();
            }
        }
        Ok((times, seconds(&timings.steps)))
    }
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or(1.0)
}
