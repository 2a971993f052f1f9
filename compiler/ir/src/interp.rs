//! The reference interpreter: evaluates a graph op by op. It is the oracle for everything that is compiled.

use std::collections::HashMap;

use optc_tensor::{Deadline, Draws};

use crate::infer::at;
use crate::{Args, Graph, GraphError, Op, OpError, Type, Val, Value};

/// Runs `graph` on one value per input, and returns one per output.
///
/// # Errors
/// The inputs do not fit the graph's, or an op refuses its operands.
pub fn run(graph: &Graph, inputs: &[Val]) -> Result<Vec<Val>, GraphError> {
    let whole = |reason: String| GraphError {
        op: "graph".to_owned(),
        loc: graph.name.clone(),
        error: OpError::Constraint { constraint: "inputs", reason },
    };
    if inputs.len() != graph.inputs().len() {
        return Err(whole(format!("expected {} inputs, found {}", graph.inputs().len(), inputs.len())));
    }
    let mut env: HashMap<Value, Val> = HashMap::new();
    for (value, input) in graph.inputs().zip(inputs) {
        if !graph.ty(value).admits(&input.ty()) {
            let name = graph.input_name(value).unwrap_or_default();
            return Err(whole(format!("input `{name}` is {}, expected {}", input.ty(), graph.ty(value))));
        }
        env.insert(value, input.clone());
    }
    let order = graph.topological_order().ok_or_else(|| whole("the graph has a cycle".to_owned()))?;
    let mut uses_left: HashMap<Value, usize> = HashMap::new();
    for &id in &order {
        for value in graph.node(id).operands.iter().flatten() {
            *uses_left.entry(*value).or_default() += 1;
        }
    }
    for output in &graph.outputs {
        *uses_left.entry(output.value).or_default() += 1;
    }
    let _draws = Draws::enter(0);
    let deadline = Deadline::current();
    for id in order {
        let node = graph.node(id);
        if matches!(node.op, Op::Param(_)) {
            continue;
        }
        deadline.check().map_err(|e| at(graph, id, e.into()))?;
        let values: Vec<Option<Val>> = node.operands.iter().map(|v| v.and_then(|v| env.get(&v).cloned())).collect();
        let call = |region: usize, values: &[Val]| match node.regions.get(region) {
            Some(region) => run(region, values).map_err(|e| OpError::Region(Box::new(e))),
            None => Err(OpError::Constraint { constraint: "regions", reason: "the op has no such region".to_owned() }),
        };
        let types: Vec<Type> = node.results.iter().map(|r| r.ty.clone()).collect();
        let results =
            node.op.eval(&Args { values: &values, types: &types, call: &call }).map_err(|e| at(graph, id, e))?;
        drop(values);
        for value in node.operands.iter().flatten() {
            if let Some(left) = uses_left.get_mut(value) {
                *left -= 1;
                if *left == 0 {
                    env.remove(value);
                }
            }
        }
        for (result, val) in results.into_iter().enumerate() {
            env.insert(Value { node: id, result: result as u32 }, val);
        }
    }
    let output = |v: &Value| env.get(v).cloned().ok_or_else(|| whole("an output is not defined".to_owned()));
    graph.outputs.iter().map(|o| output(&o.value)).collect()
}
