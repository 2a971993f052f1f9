//! The interpreter within limits, and how results are compared with it.

use std::cell::Cell;
use std::collections::HashMap;
use std::time::Duration;

use optc_ir::{Args, Graph, GraphError, NodeId, Op, OpError, TensorType, Type, Val, Value};
use optc_tensor::{DType, Deadline, Difference, Tensor, element_count};

/// The most elements that a value may have.
const ELEMENTS: usize = 20_000;
/// The most that an op may do: elements of its result times those of its largest operand, and no sum has more terms
/// than that has.
const WORK: usize = 50_000_000;
/// What a value of open extents counts as; how large it is shows when it is there.
const OPEN: usize = 2_000;
/// The longest that the interpreter may take.
const TIME: Duration = Duration::from_millis(500);
/// Floats beyond this are left out of comparisons: their products overflow, and where they do depends on the order.
const LARGEST: f64 = 1e30;

/// Largest error of a float, relative to the range of the whole output.
const FLOAT: f64 = 1e-4;
/// The same for the small floats: what is next to a tie may be rounded either way.
const HALF: f64 = 1.0 / 64.0;

/// What the interpreter finds.
pub enum Interpretation {
    /// The outputs; `None` in place of them where a value on the way is not a number or nearly too large for one.
    Outputs(Option<Vec<Val>>),
    /// An op refuses its operands.
    Refused,
    /// It takes too long, or its values are too large.
    TooMuch,
}

/// Whether all of a graph's values, those in its regions included, are small as far as their extents are known.
pub fn is_small(graph: &Graph) -> bool {
    let elements = |ty: &Type| match ty.as_tensor().and_then(TensorType::static_shape) {
        Some(shape) => element_count(&shape).filter(|&n| n <= ELEMENTS),
        None => Some(OPEN),
    };
    let small = |id: NodeId| {
        let node = graph.node(id);
        let results: Option<Vec<usize>> = node.results.iter().map(|r| elements(&r.ty)).collect();
        let operands: Option<Vec<usize>> = node.operands.iter().flatten().map(|&v| elements(graph.ty(v))).collect();
        let (Some(results), Some(operands)) = (results, operands) else { return false };
        let largest = |of: &[usize]| of.iter().copied().max().unwrap_or(0).max(1);
        largest(&results) * largest(&operands) <= WORK && node.regions.iter().all(is_small)
    };
    graph.ids().all(small)
}

/// Interprets a graph.
pub fn interpret(graph: &Graph, inputs: &[Val]) -> Interpretation {
    let deadline = Deadline::after(Some(TIME));
    let _until = deadline.enter();
    let run = Run { deadline, finite: Cell::new(true), stopped: Cell::new(false) };
    match run.graph(graph, inputs) {
        Ok(outputs) => Interpretation::Outputs(run.finite.get().then_some(outputs)),
        Err(_) if run.stopped.get() || deadline.check().is_err() => Interpretation::TooMuch,
        Err(_) => Interpretation::Refused,
    }
}

/// One run of the interpreter.
struct Run {
    deadline: Deadline,
    /// Whether all floats so far are numbers, and not too large.
    finite: Cell<bool>,
    /// Whether it was ended by a limit.
    stopped: Cell<bool>,
}

impl Run {
    fn graph(&self, graph: &Graph, inputs: &[Val]) -> Result<Vec<Val>, OpError> {
        let mut env: HashMap<Value, Val> = graph.inputs().zip(inputs.iter().cloned()).collect();
        let order = graph.topological_order().ok_or(OpError::Operand { slot: 0 })?;
        for id in order.into_iter().filter(|&id| !matches!(graph.node(id).op, Op::Param(_))) {
            for (result, val) in self.node(graph, id, &env)?.into_iter().enumerate() {
                // A model that declares what is not so is refused when it runs.
                let declared = graph.node(id).results.get(result).is_some_and(|r| r.ty.accepts(&val.ty()));
                declared.then_some(()).ok_or(OpError::Operand { slot: result })?;
                self.look_at(&val)?;
                env.insert(Value { node: id, result: result as u32 }, val);
            }
        }
        graph.outputs.iter().map(|o| env.get(&o.value).cloned().ok_or(OpError::Operand { slot: 0 })).collect()
    }

    fn node(&self, graph: &Graph, id: NodeId, env: &HashMap<Value, Val>) -> Result<Vec<Val>, OpError> {
        let node = graph.node(id);
        let values: Vec<Option<Val>> = node.operands.iter().map(|v| v.and_then(|v| env.get(&v).cloned())).collect();
        let in_region = |error| OpError::Region(Box::new(GraphError { op: String::new(), loc: String::new(), error }));
        let call = |region: usize, values: &[Val]| {
            let region = node.regions.get(region).ok_or(OpError::Operand { slot: region })?;
            self.graph(region, values).map_err(in_region)
        };
        let types: Vec<Type> = node.results.iter().map(|r| r.ty.clone()).collect();
        node.op.eval(&Args { values: &values, types: &types, call: &call })
    }

    /// Checks a value against the limits.
    fn look_at(&self, val: &Val) -> Result<(), OpError> {
        match val {
            Val::Tensor(t) => {
                let numbers = |t: &Tensor| t.to_f64_vec().iter().all(|v| v.abs() < LARGEST);
                if t.dtype().is_float() && self.finite.get() && !numbers(t) {
                    self.finite.set(false);
                }
                self.stop(t.len() > ELEMENTS || self.deadline.check().is_err())
            }
            Val::Seq(_, values) => {
                self.stop(values.len() > ELEMENTS)?;
                values.iter().try_for_each(|v| self.look_at(v))
            }
            Val::Opt(_, value) => value.iter().try_for_each(|v| self.look_at(v)),
        }
    }

    fn stop(&self, when: bool) -> Result<(), OpError> {
        if when {
            self.stopped.set(true);
            return Err(OpError::Operand { slot: 0 });
        }
        Ok(())
    }
}

/// How outputs differ from what is expected, with floats within `factor` times the tolerance.
pub fn difference(found: &[Val], expected: &[Val], factor: f64) -> Option<String> {
    if found.len() != expected.len() {
        return Some(format!("{} outputs, expected {}", found.len(), expected.len()));
    }
    let of = |(i, (a, b)): (usize, (&Val, &Val))| Some(format!("output {i} {}", differs(a, b, factor)?));
    found.iter().zip(expected).enumerate().find_map(of)
}

fn differs(found: &Val, expected: &Val, factor: f64) -> Option<String> {
    let other = || format!("is {found:?}, expected {expected:?}");
    match (found, expected) {
        (Val::Tensor(a), Val::Tensor(b)) => {
            let tolerance = factor
                * match b.dtype() {
                    DType::F32 | DType::F64 => FLOAT,
                    d if d.is_float() => HALF,
                    _ => 0.0,
                };
            let Some(exact) = Difference::between(a, b, 0.0, 0.0) else { return Some(other()) };
            let d = Difference::between(a, b, tolerance, tolerance * exact.range.max(1.0))?;
            (!d.within_tolerance()).then(|| format!("is off by {:.3e}: {}", d.max_abs, other()))
        }
        (Val::Seq(_, a), Val::Seq(_, b)) if a.len() == b.len() => {
            a.iter().zip(b).find_map(|(a, b)| differs(a, b, factor))
        }
        (Val::Opt(_, Some(a)), Val::Opt(_, Some(b))) => differs(a, b, factor),
        (Val::Opt(_, None), Val::Opt(_, None)) => None,
        _ => Some(other()),
    }
}
