//! The target `run`: an ONNX file is imported, compiled and run, and gives what the interpreter gives.
//!
//! How it is compiled (the instruction set, the pipeline, threads, precision) and what it runs on are determined by a
//! checksum of the file.

use std::fmt;

use optc::{Compiler, Options, Precision, Val};
use optc_ir::{Const, Graph, Op, Type, print};
use optc_kernel::target::{ISAS, Isa};
use optc_passes::{seeded, specialize};
use optc_tensor::{Random, Tensor};
use optc_tests::TestFailure;

use crate::interpret::{Interpretation, difference, interpret, is_small};

/// A model with a value for each of its inputs, and how it is compiled.
struct Case {
    graph: Graph,
    inputs: Vec<Val>,
    options: Options,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Options { isa, passes, threads, precision, .. } = &self.options;
        let isa = isa.as_deref().unwrap_or_default();
        let precision = if *precision == Precision::Bf16 { ", bf16" } else { "" };
        write!(f, "on {isa} after `{passes}`, {threads} threads{precision}\n{}", print(&self.graph).text)
    }
}

/// Runs a model; whether it was compared with the interpreter.
pub fn run(input: &[u8]) -> bool {
    case(input).is_some_and(|case| holds(&case))
}

/// The model and how it is compiled, as text.
pub fn text(input: &[u8]) -> String {
    case(input).map_or("no model that is run".to_owned(), |case| case.to_string())
}

/// What the file holds; `None` where it is not a model, or one that is too large.
fn case(input: &[u8]) -> Option<Case> {
    let mut graph = optc_onnx::import_bytes(input).ok()?;
    let seed = u64::from(crc32fast::hash(input));
    let inputs = seeded::inputs(&graph, seed)?;
    let types: Vec<Type> = inputs.iter().map(Val::ty).collect();
    specialize(&mut graph, &types).ok()?;
    is_small(&graph).then(|| Case { graph, inputs, options: options(&mut Random::new(seed)) })
}

/// Compares a model with the interpreter; whether that can be.
///
/// # Panics
/// It does not compile or run though the interpreter runs it, or gives something else.
fn holds(case: &Case) -> bool {
    let expected = interpret(&case.graph, &case.inputs);
    if matches!(expected, Interpretation::TooMuch) {
        return false;
    }
    let found = compiled(case);
    let Interpretation::Outputs(expected) = expected else { return false };
    let (found, optimized) = found.unwrap_or_else(|e| panic!("{e}\n{case}"));
    // Passes decide what is rounded to bfloat16: the graph that they leave says what is meant.
    let expected = match (case.options.precision, optimized) {
        (Precision::Bf16, Some(graph)) => match interpret(&graph, &case.inputs) {
            Interpretation::Outputs(expected) => expected,
            Interpretation::Refused | Interpretation::TooMuch => None,
        },
        _ => expected,
    };
    let Some(expected) = expected else { return false };
    if let Some(how) = difference(&found, &expected, 1.0)
        && is_stable(case, &expected)
    {
        panic!("{how}\n{case}");
    }
    true
}

/// The instruction sets of the machine.
pub fn isas() -> Vec<&'static Isa> {
    ISAS.iter().filter(|isa| optc_emit::host::has(isa)).collect()
}

/// How models are compiled.
fn options(random: &mut Random) -> Options {
    let isa = Some(random.pick(&isas()).name.to_owned());
    let passes = random.pick(&["O0", "O1", "O2", "O3"]).to_owned();
    let precision = if random.once_in(4) { Precision::Bf16 } else { Precision::F32 };
    Options { passes, isa, precision, threads: 1 + random.below(2), keep_graph: true, ..Options::default() }
}

/// What the compiled graph gives, with the graph that the passes left.
fn compiled(case: &Case) -> Result<(Vec<Val>, Option<Graph>), TestFailure> {
    let compiler = Compiler::new(case.options.clone());
    let model = compiler.compile_graph(case.graph.clone()).map_err(|e| format!("does not compile: {e}"))?;
    let mut session = model.session();
    let outputs = session.run_values(&case.inputs).map_err(|e| format!("does not run: {e}"))?;
    Ok((outputs, model.graph().cloned()))
}

/// Whether the outputs stay nearly the same where inputs and constants change a little. Where they do not (a comparison
/// of what is nearly equal, a difference of what is), another order of sums may change them as well.
fn is_stable(case: &Case, expected: &[Val]) -> bool {
    (1..=4).all(|seed| {
        let random = &mut Random::new(seed);
        let mut graph = case.graph.clone();
        nudge_constants(&mut graph, random);
        let inputs: Vec<Val> = case.inputs.iter().map(|v| nudged_value(v, random)).collect();
        match interpret(&graph, &inputs) {
            Interpretation::Outputs(Some(found)) => difference(&found, expected, 0.1).is_none(),
            Interpretation::Outputs(None) | Interpretation::Refused | Interpretation::TooMuch => false,
        }
    })
}

fn nudge_constants(graph: &mut Graph, random: &mut Random) {
    let ids: Vec<_> = graph.ids().collect();
    for id in ids {
        let node = graph.node_mut(id);
        if let Op::Constant(constant) = &mut node.op {
            constant.value = Const(nudged(&constant.value.0, random));
        }
        node.regions.iter_mut().for_each(|region| nudge_constants(region, random));
    }
}

fn nudged_value(value: &Val, random: &mut Random) -> Val {
    match value {
        Val::Tensor(t) => nudged(t, random).into(),
        Val::Seq(..) | Val::Opt(..) => value.clone(),
    }
}

/// Floats, each changed by a millionth at most.
fn nudged(t: &Tensor, random: &mut Random) -> Tensor {
    if !t.dtype().is_float() {
        return t.clone();
    }
    let values: Vec<f64> = t.to_f64_vec().iter().map(|v| v * (1.0 + random.real(-1e-6, 1e-6))).collect();
    Tensor::from_f64(t.dtype(), t.shape(), &values).unwrap_or_else(|_| t.clone())
}
