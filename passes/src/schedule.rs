//! `schedule`: an order of the ops in which fewer bytes are alive at once.
//!
//! ```optc
//! given %x: tensor<4xf32>, %w: tensor<1xf32>
//! %0 = math.add %x, %w : tensor<4xf32>
//! %1 = math.mul %x, %w : tensor<4xf32>
//! %2 = math.reduce %0 {axes = [0], kind = "sum"} : tensor<1xf32>
//! %3 = math.reduce %1 {axes = [0], kind = "sum"} : tensor<1xf32>
//! %4 = math.add %2, %3 : tensor<1xf32>
//! ```
//! becomes
//! ```optc
//! given %x: tensor<4xf32>, %w: tensor<1xf32>
//! %0 = math.add %x, %w : tensor<4xf32>
//! %1 = math.reduce %0 {axes = [0], kind = "sum"} : tensor<1xf32>
//! %2 = math.mul %x, %w : tensor<4xf32>
//! %3 = math.reduce %2 {axes = [0], kind = "sum"} : tensor<1xf32>
//! %4 = math.add %1, %3 : tensor<1xf32>
//! ```
//!
//! List scheduling: of the ops that are ready, that one comes next which adds the fewest bytes (those of its results, less those of
//! the operands that end with it); of equals, the oldest. The order stays as it is unless the peak becomes lower. Graph inputs,
//! outputs and constants have memory of their own and do not count; what has no static shape counts nothing. Offsets within the
//! arena are given when the graph is lowered, where buffers exist.

use std::collections::HashMap;

use optc_ir::{Graph, NodeId, Op, Type, Value};

use crate::{Numerics, OptionError, Options, Pass, PassCx, PassError};

/// See the module.
pub struct Schedule;

impl Pass for Schedule {
    const NAME: &'static str = "schedule";
    const NUMERICS: Numerics = Numerics::BitExact;

    fn from_options(_: &mut Options) -> Result<Schedule, OptionError> {
        Ok(Schedule)
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx) -> Result<(), PassError> {
        let Some(old) = graph.topological_order() else { return Ok(()) };
        let memory = Memory::of(graph);
        let new = memory.list_schedule(graph, &old);
        if memory.peak(graph, &new) < memory.peak(graph, &old) && cx.permit("reordered") {
            *graph = rebuilt(graph, &new);
        }
        Ok(())
    }
}

/// What each value takes, and how many ops read it.
struct Memory {
    bytes: HashMap<Value, i64>,
    readers: HashMap<Value, usize>,
}

impl Memory {
    fn of(graph: &Graph) -> Memory {
        let (mut bytes, mut readers) = (HashMap::new(), HashMap::new());
        for id in graph.ids() {
            let node = graph.node(id);
            let own = matches!(node.op, Op::Param(_) | Op::Constant(_));
            for (result, info) in (0..).zip(&node.results) {
                let value = Value { node: id, result };
                bytes.insert(value, if own || graph.is_output(value) { 0 } else { size(&info.ty) });
            }
            for value in distinct_operands(graph, id) {
                *readers.entry(value).or_default() += 1;
            }
        }
        Memory { bytes, readers }
    }

    /// Bytes that come to life with an op, and those that end with it when `left` readers are still to come.
    fn change(&self, graph: &Graph, id: NodeId, left: &HashMap<Value, usize>) -> (i64, i64) {
        let results = 0..graph.node(id).results.len() as u32;
        let born: i64 = results.map(|result| self.bytes[&Value { node: id, result }]).sum();
        let ends = distinct_operands(graph, id).into_iter().filter(|v| left.get(v) == Some(&1));
        (born, ends.map(|v| self.bytes[&v]).sum())
    }

    /// The most bytes that are alive at once.
    fn peak(&self, graph: &Graph, order: &[NodeId]) -> i64 {
        let mut left = self.readers.clone();
        let (mut alive, mut peak) = (0, 0);
        for &id in order {
            let (born, ended) = self.change(graph, id, &left);
            peak = peak.max(alive + born);
            alive += born - ended;
            read(graph, id, &mut left);
        }
        peak
    }

    fn list_schedule(&self, graph: &Graph, old: &[NodeId]) -> Vec<NodeId> {
        let (constants, ops): (Vec<NodeId>, Vec<NodeId>) =
            old.iter().partition(|&&id| matches!(graph.node(id).op, Op::Param(_) | Op::Constant(_)));
        let mut waiting: HashMap<NodeId, usize> = HashMap::new();
        for &id in &ops {
            let computed = |v: &Value| !matches!(graph.node(v.node).op, Op::Param(_) | Op::Constant(_));
            waiting.insert(id, distinct_operands(graph, id).into_iter().filter(computed).count());
        }
        let place: HashMap<NodeId, usize> = old.iter().enumerate().map(|(i, &id)| (id, i)).collect();
        let mut ready: Vec<NodeId> = ops.iter().copied().filter(|id| waiting[id] == 0).collect();
        let mut left = self.readers.clone();
        let mut order = constants;
        while let Some(at) = (0..ready.len()).min_by_key(|&i| {
            let (born, ended) = self.change(graph, ready[i], &left);
            (born - ended, place[&ready[i]])
        }) {
            let id = ready.swap_remove(at);
            order.push(id);
            read(graph, id, &mut left);
            for result in 0..graph.node(id).results.len() as u32 {
                let mut users: Vec<NodeId> =
                    graph.uses(Value { node: id, result }).into_iter().map(|(node, _)| node).collect();
                users.dedup(); // ordered by node: one entry for each that reads the value
                for user in users {
                    if let Some(n) = waiting.get_mut(&user) {
                        *n -= 1;
                        ready.extend((*n == 0).then_some(user));
                    }
                }
            }
        }
        order
    }
}

/// Counts an op's operands as read.
fn read(graph: &Graph, id: NodeId, left: &mut HashMap<Value, usize>) {
    for value in distinct_operands(graph, id) {
        left.entry(value).and_modify(|n| *n -= 1);
    }
}

fn distinct_operands(graph: &Graph, id: NodeId) -> Vec<Value> {
    let mut values: Vec<Value> = graph.node(id).operands.iter().flatten().copied().collect();
    values.sort_unstable();
    values.dedup();
    values
}

fn size(ty: &Type) -> i64 {
    let Type::Tensor(t) = ty else { return 0 };
    let bytes = t.static_shape().and_then(|shape| t.dtype.bytes_for(optc_tensor::element_count(&shape)?));
    bytes.and_then(|b| i64::try_from(b).ok()).unwrap_or(0)
}

/// The same graph with its nodes created in the order given.
fn rebuilt(graph: &Graph, order: &[NodeId]) -> Graph {
    let mut new = Graph::new(&graph.name);
    let mut values: HashMap<NodeId, NodeId> = HashMap::new();
    for input in graph.inputs() {
        let value = new.add_input(graph.input_name(input).unwrap_or_default(), graph.ty(input).clone());
        values.insert(input.node, value.node);
    }
    let moved = |values: &HashMap<NodeId, NodeId>, v: Value| Value { node: values[&v.node], ..v };
    for &id in order {
        let node = graph.node(id);
        if matches!(node.op, Op::Param(_)) {
            continue;
        }
        let operands: Vec<_> = node.operands.iter().map(|v| v.map(|v| moved(&values, v))).collect();
        let added = new.add(node.op.clone(), &operands, node.results.iter().map(|r| r.ty.clone()).collect());
        new.node_mut(added).regions.clone_from(&node.regions);
        new.node_mut(added).loc.clone_from(&node.loc);
        values.insert(id, added);
    }
    new.outputs.clone_from(&graph.outputs);
    for output in &mut new.outputs {
        output.value = moved(&values, output.value);
    }
    new
}
