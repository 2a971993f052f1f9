//! The target `kernels`: a layer with drawn attributes and extents, compiled and run, gives what the interpreter gives.
//!
//! An input is bytes from which [`arbitrary`] draws everything: the layer ([`crate::layers`]) or a case of the tests of
//! nests, the pipeline, the instruction set, which of the options at each choice point is taken, and the threads.

use std::fmt;

use arbitrary::{Result, Unstructured};
use optc_ir::{Graph, Op, Val, Verified, print};
use optc_kernel::program::{Point, Program};
use optc_kernel::target::Isa;
use optc_lower::{LowerOptions, Tuning, lower};
use optc_passes::{PassManager, PassOptions, Pipeline};
use optc_runtime::{Arena, Executor, ThreadPool};
use optc_tensor::{DType, Random};
use optc_testing::loaded;
use optc_tests::{TestFailure, nest_shapes};

use crate::interpret::{Interpretation, difference, interpret, is_small};
use crate::layers;
use crate::models::isas;

/// A graph, a value for each of its inputs, and how it is compiled and run.
struct Case {
    graph: Graph,
    inputs: Vec<Val>,
    isa: &'static Isa,
    passes: &'static str,
    threads: usize,
    /// Determines which options are taken at choice points; those that are estimated to be fastest without it.
    tuning: Option<u64>,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Case { isa, passes, threads, .. } = self;
        let options = if self.tuning.is_some() { ", any options" } else { "" };
        write!(f, "on {} after `{passes}`, {threads} threads{options}\n{}", isa.name, print(&self.graph).text)
    }
}

/// Runs what the bytes draw; whether it was compared with the interpreter.
pub fn run(input: &[u8]) -> bool {
    draw(&mut Unstructured::new(input)).is_ok_and(|case| case.is_some_and(|case| holds(&case)))
}

/// What the bytes draw, as text.
pub fn text(input: &[u8]) -> String {
    draw(&mut Unstructured::new(input)).ok().flatten().map_or("nothing".to_owned(), |case| case.to_string())
}

fn draw(u: &mut Unstructured) -> Result<Option<Case>> {
    let (isas, threads) = (isas(), 1 + usize::from(u.ratio(1, 4)?));
    let (isa, tuning) = (*u.choose(&isas)?, if u.ratio(1, 2)? { Some(u.arbitrary()?) } else { None });
    if u.ratio(1, 6)? {
        let case = nest_shapes::case(u.choose(nest_shapes::KINDS)?, u.arbitrary()?);
        let (graph, inputs, passes) = (case.graph, case.inputs, case.passes);
        return Ok(Some(Case { graph, inputs, isa, passes, threads: case.threads, tuning }));
    }
    let Some((graph, inputs, passes)) = layers::draw(u)? else { return Ok(None) };
    Ok(Some(Case { graph, inputs, isa, passes: u.choose(passes)?, threads, tuning }))
}

/// Compares a case with the interpreter; whether that can be.
///
/// # Panics
/// It does not compile or run, or gives something else.
fn holds(case: &Case) -> bool {
    if !is_small(&case.graph) {
        return false;
    }
    let Interpretation::Outputs(Some(expected)) = interpret(&case.graph, &case.inputs) else { return false };
    let found = compiled(case).unwrap_or_else(|e| panic!("{e}\n{case}"));
    // Where a sum is next to a tie, what is quantized from it may be a unit off: sums of reals have no order, and
    // passes move scales.
    let quantizes = case.passes == "O2" || case.graph.ids().any(|id| matches!(case.graph.node(id).op, Op::Quantize(_)));
    let wrong = found.iter().zip(&expected).enumerate().find_map(|(i, (a, b))| {
        let how = difference(std::slice::from_ref(a), std::slice::from_ref(b), 1.0)?;
        (!quantizes || !is_within_a_unit(a, b)).then(|| format!("result {i}: {how}"))
    });
    if let Some(how) = wrong {
        panic!("{how}\n{case}");
    }
    true
}

/// Whether two tensors of 8-bit integers differ by no more than 1.
fn is_within_a_unit(a: &Val, b: &Val) -> bool {
    let (Val::Tensor(a), Val::Tensor(b)) = (a, b) else { return false };
    let bytes = matches!(b.dtype(), DType::I8 | DType::U8) && a.dtype() == b.dtype() && a.shape() == b.shape();
    bytes && a.to_i64_vec().iter().zip(b.to_i64_vec()).all(|(a, b)| a.abs_diff(b) <= 1)
}

fn compiled(case: &Case) -> std::result::Result<Vec<Val>, TestFailure> {
    let mut graph = case.graph.clone();
    if !case.passes.is_empty() {
        let pipeline = Pipeline::parse(case.passes)?;
        PassManager::new(PassOptions::default()).run(&pipeline, &mut graph)?;
    }
    let target = optc_emit::host::target().with_isa(case.isa);
    let lower = |tuning: Tuning| -> std::result::Result<Program, TestFailure> {
        let graph = Verified::new(graph.clone())?;
        Ok(lower(graph, &target, LowerOptions { tuning, ..LowerOptions::default() })?)
    };
    let mut made = lower(Tuning::default())?;
    if let Some(seed) = case.tuning.filter(|_| !made.points.is_empty()) {
        let mut random = Random::new(seed);
        let any = |p: &Point| (p.key.clone(), p.options[random.below(p.options.len())].clone());
        made = lower(Tuning(made.points.iter().map(any).collect()))?;
    }
    let mut executor = Executor::new(loaded(&made)?);
    let (mut arena, pool) = (Arena::default(), ThreadPool::new(case.threads)?);
    // Twice: the second run finds the arena as the first one left it.
    executor.run(&case.inputs, &mut arena, &pool, None)?;
    Ok(executor.run(&case.inputs, &mut arena, &pool, None)?)
}
