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
//! List scheduling: of the ops that are ready, that one comes next which adds the fewest bytes (those of its results,
//! less those of the operands that end with it); of equals, the oldest. The order stays as it is unless the peak
//! becomes lower. Graph inputs, outputs and constants have memory of their own and do not count; what has no static
//! shape counts nothing. Offsets within the arena are given when the graph is lowered, where buffers exist.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use optc_ir::{Graph, NodeId, Op, Output, Type, Value};

use crate::{Numerics, OptionError, Pass, PassArguments, PassCx, PassError};

/// See the module.
pub struct ScheduleOps;

impl Pass for ScheduleOps {
    const NAME: &'static str = "schedule";
    const SUMMARY: &'static str = "choose an order of the ops in which fewer bytes are alive at once";
    const NUMERICS: Numerics = Numerics::BitExact;

    fn from_options(_: &mut PassArguments) -> Result<ScheduleOps, OptionError> {
        Ok(ScheduleOps)
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx) -> Result<(), PassError> {
        let Some(old) = graph.topological_order() else { return Ok(()) };
        let memory = Memory::of(graph, &old);
        let new = memory.list_schedule();
        if memory.peak(new.iter().copied()) < memory.peak(0..old.len()) && cx.permit("reordered") {
            let new: Vec<NodeId> = new.into_iter().map(|place| old[place]).collect();
            *graph = rebuilt(graph, &new);
        }
        Ok(())
    }
}

/// Lists of numbers, one after the other.
struct Lists {
    ranges: Vec<Range<usize>>,
    all: Vec<usize>,
}

impl Lists {
    fn of(lists: impl Iterator<Item = Vec<usize>>) -> Lists {
        let mut made = Lists { ranges: vec![], all: vec![] };
        for list in lists {
            let start = made.all.len();
            made.all.extend(list);
            made.ranges.push(start..made.all.len());
        }
        made
    }

    /// The lists that name `i`, for each `i` below `count`: this relation the other way round.
    fn transposed(&self, count: usize) -> Lists {
        let mut ranges = vec![0..0; count];
        self.all.iter().for_each(|&i| ranges[i].end += 1);
        let mut start = 0;
        for range in &mut ranges {
            let len = range.end;
            *range = start..start; // grows as it is filled
            start += len;
        }
        let mut all = vec![0; self.all.len()];
        for (list, range) in self.ranges.iter().enumerate() {
            for &i in &self.all[range.clone()] {
                all[ranges[i].end] = list;
                ranges[i].end += 1;
            }
        }
        Lists { ranges, all }
    }

    fn at(&self, i: usize) -> &[usize] {
        &self.all[self.ranges[i].clone()]
    }
}

/// What each value takes, what makes it and what reads it. Nodes stand for their places in the old order, and values
/// have numbers of their own. With maps of both, and regions copied instead of moved, the pass took 4.5 times as long
/// in a graph of 100,000 ops.
struct Memory {
    /// By node: its results.
    results: Vec<Range<usize>>,
    /// By node: the values that it reads, each once.
    operands: Lists,
    /// By value: the nodes that read it.
    readers: Lists,
    /// By value.
    bytes: Vec<i64>,
    /// By node: whether it is an input or a constant, which nothing computes.
    stored: Vec<bool>,
}

impl Memory {
    fn of(graph: &Graph, old: &[NodeId]) -> Memory {
        let mut first = vec![0; old.iter().map(|id| id.index() + 1).max().unwrap_or(0)];
        let stored: Vec<bool> = old.iter().map(|&id| is_stored(graph, id)).collect();
        let (mut results, mut bytes) = (vec![], vec![]);
        for (&id, &stored) in old.iter().zip(&stored) {
            first[id.index()] = bytes.len();
            for (result, info) in (0..).zip(&graph.node(id).results) {
                let outside = stored || graph.is_output(Value { node: id, result });
                bytes.push(if outside { 0 } else { size(&info.ty) });
            }
            results.push(first[id.index()]..bytes.len());
        }
        let read = |id: &NodeId| {
            let values = graph.node(*id).operands.iter().flatten();
            let mut values: Vec<usize> = values.map(|v| first[v.node.index()] + v.result as usize).collect();
            values.sort_unstable();
            values.dedup();
            values
        };
        let operands = Lists::of(old.iter().map(read));
        let readers = operands.transposed(bytes.len());
        Memory { results, operands, readers, bytes, stored }
    }

    /// By value: how many nodes read it.
    fn readers(&self) -> Vec<usize> {
        self.readers.ranges.iter().map(Range::len).collect()
    }

    /// Bytes that come to life with an op, and those that end with it when `left` readers are still to come.
    fn change(&self, node: usize, left: &[usize]) -> (i64, i64) {
        let born: i64 = self.bytes[self.results[node].clone()].iter().sum();
        let ends = self.operands.at(node).iter().filter(|&&value| left[value] == 1);
        (born, ends.map(|&value| self.bytes[value]).sum())
    }

    /// The most bytes that are alive at once.
    fn peak(&self, order: impl Iterator<Item = usize>) -> i64 {
        let mut left = self.readers();
        let (mut alive, mut peak) = (0, 0);
        for node in order {
            let (born, ended) = self.change(node, &left);
            peak = peak.max(alive + born);
            alive += born - ended;
            self.operands.at(node).iter().for_each(|&value| left[value] -= 1);
        }
        peak
    }

    fn list_schedule(&self) -> Vec<usize> {
        let mut computed = vec![false; self.bytes.len()];
        for (results, stored) in self.results.iter().zip(&self.stored) {
            computed[results.clone()].fill(!stored);
        }
        let (mut order, ops): (Vec<usize>, Vec<usize>) = (0..self.stored.len()).partition(|&node| self.stored[node]);
        let keys = vec![None; self.stored.len()];
        let mut ready = Ready { memory: self, left: self.readers(), entries: BTreeSet::new(), keys };
        // By node: the results that it waits for.
        let mut waiting = vec![0; self.stored.len()];
        for &node in &ops {
            waiting[node] = self.operands.at(node).iter().filter(|&&value| computed[value]).count();
            if waiting[node] == 0 {
                ready.put(node);
            }
        }
        while let Some(node) = ready.pop() {
            order.push(node);
            ready.read(node);
            for &user in self.results[node].clone().flat_map(|value| self.readers.at(value)) {
                waiting[user] -= 1;
                if waiting[user] == 0 {
                    ready.put(user);
                }
            }
        }
        order
    }
}

/// The ops that are ready, by the bytes that they add and their places in the old order.
struct Ready<'a> {
    memory: &'a Memory,
    /// By value: the nodes that have still to read it.
    left: Vec<usize>,
    entries: BTreeSet<(i64, usize)>,
    /// By node: the bytes of its entry.
    keys: Vec<Option<i64>>,
}

impl Ready<'_> {
    fn put(&mut self, node: usize) {
        let (born, ended) = self.memory.change(node, &self.left);
        if let Some(former) = self.keys[node].replace(born - ended) {
            self.entries.remove(&(former, node));
        }
        self.entries.insert((born - ended, node));
    }

    fn pop(&mut self) -> Option<usize> {
        let (_, node) = self.entries.pop_first()?;
        self.keys[node] = None;
        Some(node)
    }

    /// Counts an op's operands as read. The last reader of each hears that the value ends with it: one walk over the
    /// uses of each value.
    fn read(&mut self, node: usize) {
        let memory = self.memory;
        for &value in memory.operands.at(node) {
            self.left[value] -= 1;
            if self.left[value] == 1
                && let Some(&last) = memory.readers.at(value).iter().find(|&&user| self.keys[user].is_some())
            {
                self.put(last);
            }
        }
    }
}

fn is_stored(graph: &Graph, id: NodeId) -> bool {
    matches!(graph.node(id).op, Op::Param(_) | Op::Constant(_))
}

fn size(ty: &Type) -> i64 {
    let Type::Tensor(t) = ty else { return 0 };
    let bytes = t.static_shape().and_then(|shape| t.dtype.bytes_for(optc_tensor::element_count(&shape)?));
    bytes.and_then(|b| i64::try_from(b).ok()).unwrap_or(0)
}

/// The same graph with its nodes created in the order given. Regions, which hold most of a fused graph, move over.
fn rebuilt(graph: &mut Graph, order: &[NodeId]) -> Graph {
    let mut new = Graph::new(&graph.name);
    new.notes.clone_from(&graph.notes);
    let mut values: HashMap<NodeId, NodeId> = HashMap::new();
    for input in graph.inputs() {
        let value = new.add_input(graph.input_name(input).unwrap_or_default(), graph.ty(input).clone());
        values.insert(input.node, value.node);
    }
    let moved = |values: &HashMap<NodeId, NodeId>, v: Value| Value { node: values[&v.node], ..v };
    for &id in order {
        let node = graph.node_mut(id);
        if matches!(node.op, Op::Param(_)) {
            continue;
        }
        let operands: Vec<_> = node.operands.iter().map(|v| v.map(|v| moved(&values, v))).collect();
        let types = std::mem::take(&mut node.results).into_iter().map(|r| r.ty).collect();
        let added = new.add(node.op.clone(), &operands, types);
        new.node_mut(added).regions = std::mem::take(&mut node.regions);
        new.node_mut(added).loc = std::mem::take(&mut node.loc);
        new.node_mut(added).names = std::mem::take(&mut node.names);
        values.insert(id, added);
    }
    let returned = |output: &Output| Output { name: output.name.clone(), value: moved(&values, output.value) };
    new.outputs = graph.outputs.iter().map(returned).collect();
    new
}
