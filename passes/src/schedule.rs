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

use std::collections::{BTreeSet, HashMap};

use optc_ir::{Graph, NodeId, Op, Output, Type, Value};

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
        // By node; those that are not computed wait for ever.
        let mut waiting = vec![usize::MAX; 1 + old.iter().map(|id| id.index()).max().unwrap_or(0)];
        for &id in &ops {
            let computed = |v: &Value| !matches!(graph.node(v.node).op, Op::Param(_) | Op::Constant(_));
            waiting[id.index()] = distinct_operands(graph, id).into_iter().filter(computed).count();
        }
        let mut left = self.readers.clone();
        let keys = vec![None; waiting.len()];
        let mut ready = Ready { memory: self, graph, old, entries: BTreeSet::new(), keys };
        for (place, id) in old.iter().enumerate().filter(|(_, id)| waiting[id.index()] == 0) {
            ready.put(*id, place, &left);
        }
        let mut place = vec![0; waiting.len()];
        old.iter().enumerate().for_each(|(i, id)| place[id.index()] = i);
        let mut order = constants;
        while let Some(id) = ready.pop() {
            order.push(id);
            for value in read(graph, id, &mut left) {
                ready.ends_with(value, &left);
            }
            for result in 0..graph.node(id).results.len() as u32 {
                let mut users: Vec<NodeId> =
                    graph.uses(Value { node: id, result }).into_iter().map(|(node, _)| node).collect();
                users.dedup(); // ordered by node: one entry for each that reads the value
                for user in users {
                    let n = &mut waiting[user.index()];
                    *n -= 1;
                    if *n == 0 {
                        ready.put(user, place[user.index()], &left);
                    }
                }
            }
        }
        order
    }
}

/// The ops that are ready, by the bytes that they add and their places in the old order.
struct Ready<'a> {
    memory: &'a Memory,
    graph: &'a Graph,
    old: &'a [NodeId],
    entries: BTreeSet<(i64, usize)>,
    /// By node: its entry.
    keys: Vec<Option<(i64, usize)>>,
}

impl Ready<'_> {
    fn put(&mut self, id: NodeId, place: usize, left: &HashMap<Value, usize>) {
        let (born, ended) = self.memory.change(self.graph, id, left);
        let key = (born - ended, place);
        if let Some(former) = self.keys[id.index()].replace(key) {
            self.entries.remove(&former);
        }
        self.entries.insert(key);
    }

    fn pop(&mut self) -> Option<NodeId> {
        let (_, place) = self.entries.pop_first()?;
        self.keys[self.old[place].index()] = None;
        Some(self.old[place])
    }

    /// Lets the last reader of a value know that the value ends with it. That is one walk over the uses of each value.
    fn ends_with(&mut self, value: Value, left: &HashMap<Value, usize>) {
        let mut readers = self.graph.each_use(value).map(|(user, _)| user);
        if let Some((id, (_, place))) = readers.find_map(|id| Some((id, self.keys[id.index()]?))) {
            self.put(id, place, left);
        }
    }
}

/// Counts an op's operands as read; gives those that one op has still to read.
fn read(graph: &Graph, id: NodeId, left: &mut HashMap<Value, usize>) -> Vec<Value> {
    let mut operands = distinct_operands(graph, id);
    operands.retain(|value| {
        left.get_mut(value).is_some_and(|n| {
            *n -= 1;
            *n == 1
        })
    });
    operands
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
    let returned = |output: &Output| Output { name: output.name.clone(), value: moved(&values, output.value) };
    new.outputs = graph.outputs.iter().map(returned).collect();
    new
}
