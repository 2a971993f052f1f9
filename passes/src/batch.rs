//! Whether the outermost dim of a model's inputs is a batch: each item of the results is computed of the same item of
//! the inputs, in the same way whatever the number of items.
//!
//! In: a graph whose inputs have open outermost dims. Out: which inputs and outputs are batches, or why it is none. The
//! graph is typed for one, two and three items, and what is computed of shapes alone becomes constant. A model has a
//! batch if the three are the same graph, but that
//!
//! - values have one, two and three items, and are *batches*, or the same type, and are *shared*;
//! - constants are equal; those that are not have equal items, or say extents and nothing else;
//! - ops that read a batch [work on each item by itself](optc_ir::Op::is_itemwise).
//!
//! What a program for one item does, done for each item, is then what the model does. That the number of items enters
//! in no other way is looked at for these three numbers; regions, which could ask for it, are refused.

use std::collections::HashMap;

use optc_ir::{Dim, Graph, InferCx, ItemCx, Node, Op, Type, Value};
use optc_tensor::Tensor;

use crate::{PassError, PassManager, PassOptions, Pipeline, specialize};

/// The inputs and outputs of a graph that are batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batched {
    /// For each input, whether it is one.
    pub inputs: Vec<bool>,
    /// The same of the outputs.
    pub outputs: Vec<bool>,
}

/// Why a graph has no batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotBatched {
    /// No input has an open outermost dim, or one is open elsewhere.
    #[error("`{0}` is open elsewhere than in its outermost dim")]
    Input(String),
    /// The graph cannot be typed for some number of items.
    #[error("{0}")]
    Types(String),
    /// An op mixes items, or may.
    #[error("`{op}` at {loc} does not take each item by itself")]
    Mixes {
        /// The op.
        op: &'static str,
        /// The ONNX nodes that it came from.
        loc: String,
    },
    /// What is computed depends on the number of items.
    #[error("`{op}` at {loc} depends on the number of items")]
    Count {
        /// The op.
        op: &'static str,
        /// The ONNX nodes that it came from.
        loc: String,
    },
}

/// The numbers of items that the graph is looked at for.
const COUNTS: [usize; 3] = [1, 2, 3];

/// What makes constants of what is computed of shapes, and changes nothing else.
const PASSES: &str = "infer-types,fold-constants{quantized=keep},dce";

/// Finds the batch of a graph.
///
/// # Errors
/// It has none, or nobody can say so.
pub fn batched(graph: &Graph) -> Result<Batched, NotBatched> {
    let inputs = open_inputs(graph)?;
    let typed = |count: usize| of_count(graph, &inputs, count).map_err(|e| NotBatched::Types(e.to_string()));
    let graphs = [typed(COUNTS[0])?, typed(COUNTS[1])?, typed(COUNTS[2])?];
    let mut compare = Comparison { graphs: &graphs, known: HashMap::new() };
    compare.inputs(&inputs);
    let mut outputs = vec![];
    for i in 0..graph.outputs.len() {
        let of = [0, 1, 2].map(|g| graphs[g].outputs[i].value);
        compare.all(of)?;
        outputs.push(match compare.kind(of) {
            Kind::Batch => true,
            Kind::Shared => false,
            Kind::Extents => return Err(compare.count(of)),
        });
    }
    match outputs.contains(&true) {
        true => Ok(Batched { inputs, outputs }),
        false => Err(NotBatched::Types("no output has the items of the inputs".to_owned())),
    }
}

/// The inputs whose outermost dim is open: all of one name, and no other dim is open.
fn open_inputs(graph: &Graph) -> Result<Vec<bool>, NotBatched> {
    let mut open = vec![];
    for input in graph.inputs() {
        let name = || graph.input_name(input).unwrap_or_default().to_owned();
        let shape =
            graph.ty(input).as_tensor().and_then(|t| t.shape.as_ref()).ok_or_else(|| NotBatched::Input(name()))?;
        let is_open = |dim: &Dim| dim.known().is_none();
        if shape.iter().skip(1).any(is_open) {
            return Err(NotBatched::Input(name()));
        }
        open.push(shape.first().is_some_and(is_open));
    }
    if open.contains(&true) { Ok(open) } else { Err(NotBatched::Input("no input".to_owned())) }
}

/// The graph for so many items.
fn of_count(graph: &Graph, inputs: &[bool], count: usize) -> Result<Graph, PassError> {
    let mut graph = graph.clone();
    let mut types: Vec<Type> = graph.inputs().map(|v| graph.ty(v).clone()).collect();
    for (ty, _) in types.iter_mut().zip(inputs).filter(|(_, open)| **open) {
        if let Type::Tensor(t) = ty
            && let Some(first) = t.shape.as_mut().and_then(|shape| shape.first_mut())
        {
            *first = Dim::Known(count);
        }
    }
    specialize(&mut graph, &types)?;
    PassManager::new(PassOptions::default()).run(&Pipeline::parse(PASSES)?, &mut graph)?;
    Ok(graph)
}

/// The same value in the graphs.
type Values = [Value; COUNTS.len()];

/// What a value is to the items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It has a part for each.
    Batch,
    /// It is the same for all.
    Shared,
    /// It depends on their number.
    Extents,
}

struct Comparison<'a> {
    graphs: &'a [Graph; COUNTS.len()],
    known: HashMap<Values, Kind>,
}

impl<'a> Comparison<'a> {
    fn inputs(&mut self, open: &[bool]) {
        let [a, b, c] = self.graphs;
        for (((a, b), c), open) in a.inputs().zip(b.inputs()).zip(c.inputs()).zip(open) {
            self.known.insert([a, b, c], if *open { Kind::Batch } else { Kind::Shared });
        }
    }

    fn node(&self, graph: usize, value: Value) -> &'a Node {
        self.graphs[graph].node(value.node)
    }

    fn kind(&self, of: Values) -> Kind {
        self.known.get(&of).copied().unwrap_or(Kind::Extents)
    }

    fn count(&self, of: Values) -> NotBatched {
        let node = self.node(0, of[0]);
        NotBatched::Count { op: node.op.name(), loc: node.loc.join(", ") }
    }

    /// Finds the kind of a value, after those of all that it is computed of.
    fn all(&mut self, of: Values) -> Result<(), NotBatched> {
        let mut open = vec![of];
        while let Some(&of) = open.last() {
            if self.known.contains_key(&of) {
                open.pop();
                continue;
            }
            let before = open.len();
            for operand in self.operands(of)?.into_iter().flatten() {
                if !self.known.contains_key(&operand) {
                    open.push(operand);
                }
            }
            if open.len() == before {
                let kind = self.found(of)?;
                self.known.insert(of, kind);
                open.pop();
            }
        }
        Ok(())
    }

    /// The operands of a value's nodes, which must be the same op.
    fn operands(&self, of: Values) -> Result<Vec<Option<Values>>, NotBatched> {
        let nodes = [0, 1, 2].map(|g| self.node(g, of[g]));
        let alike = |node: &&Node| {
            let constants = matches!((&nodes[0].op, &node.op), (Op::Constant(_), Op::Constant(_)));
            (constants || node.op == nodes[0].op) && node.operands.len() == nodes[0].operands.len()
        };
        let results = of.iter().all(|value| value.result == of[0].result);
        if !nodes.iter().all(alike) || !results {
            return Err(self.count(of));
        }
        let operand = |slot: usize| match [0, 1, 2].map(|g| nodes[g].operands[slot]) {
            [Some(a), Some(b), Some(c)] => Ok(Some([a, b, c])),
            [None, None, None] => Ok(None),
            _ => Err(self.count(of)),
        };
        (0..nodes[0].operands.len()).map(operand).collect()
    }

    /// The kind of a value whose operands are known.
    fn found(&self, of: Values) -> Result<Kind, NotBatched> {
        let constants = [0, 1, 2].map(|g| self.graphs[g].constant(of[g]));
        if let [Some(a), Some(b), Some(c)] = constants {
            return Ok(of_constants([a, b, c]));
        }
        let operands = self.operands(of)?;
        let kinds: Vec<Option<Kind>> = operands.iter().map(|v| v.map(|v| self.kind(v))).collect();
        let node = self.node(1, of[1]);
        let says_extents = |slot: usize| node.op.extents_operand() == Some(slot);
        if kinds.iter().enumerate().any(|(slot, kind)| *kind == Some(Kind::Extents) && !says_extents(slot)) {
            return Err(self.count(of));
        }
        if kinds.iter().flatten().all(|kind| *kind == Kind::Shared) {
            let same = of.iter().enumerate().all(|(g, v)| self.graphs[g].ty(*v) == self.graphs[0].ty(of[0]));
            return if same { Ok(Kind::Shared) } else { Err(self.count(of)) };
        }
        let mixes = || NotBatched::Mixes { op: node.op.name(), loc: node.loc.join(", ") };
        let batch = (0..node.results.len()).all(|result| self.has_items(of, result));
        if batch && node.regions.is_empty() && self.is_itemwise(node, &kinds) { Ok(Kind::Batch) } else { Err(mixes()) }
    }

    /// Whether the types of a result differ in the number of items alone.
    fn has_items(&self, of: Values, result: usize) -> bool {
        let shapes = [0, 1, 2].map(|g| {
            let ty = &self.node(g, of[g]).results.get(result)?.ty;
            ty.as_tensor()?.static_shape()
        });
        let [Some(a), Some(b), Some(c)] = shapes else { return false };
        let with = |count: usize| [&[count][..], a.get(1..).unwrap_or_default()].concat();
        a == with(COUNTS[0]) && b == with(COUNTS[1]) && c == with(COUNTS[2])
    }

    fn is_itemwise(&self, node: &Node, kinds: &[Option<Kind>]) -> bool {
        let graph = &self.graphs[1];
        let types: Vec<_> = node.operands.iter().map(|v| v.map(|v| graph.ty(v))).collect();
        let consts: Vec<_> = node.operands.iter().map(|v| v.and_then(|v| graph.constant(v))).collect();
        let batched: Vec<bool> = kinds.iter().map(|kind| *kind == Some(Kind::Batch)).collect();
        let rank = |ty: &Type| ty.as_tensor().and_then(|t| t.rank()).unwrap_or_default();
        let results: Vec<usize> = node.results.iter().map(|r| rank(&r.ty)).collect();
        let infer = InferCx { types: &types, consts: &consts, regions: &node.regions };
        node.op.is_itemwise(&ItemCx { infer, batched: &batched, results: &results })
    }
}

/// What constants are: the same, or items that are all the same, or something that depends on their number.
fn of_constants(of: [&Tensor; COUNTS.len()]) -> Kind {
    let place = |t: &Tensor| (t.dtype(), t.shape().to_vec(), t.bytes().as_ptr_range());
    let in_one_place = !of[0].bytes().is_empty() && of.iter().all(|t| place(t) == place(of[0]));
    if in_one_place || of.iter().all(|t| *t == of[0]) {
        return Kind::Shared;
    }
    let items = |(t, count): (&&Tensor, usize)| {
        let rest = |t: &Tensor| t.shape().get(1..).map(<[usize]>::to_vec);
        let typed = t.dtype() == of[0].dtype() && t.shape().first() == Some(&count) && rest(t) == rest(of[0]);
        let item = of[0].bytes();
        typed && !item.is_empty() && t.bytes().chunks(item.len()).all(|other| other == item)
    };
    if of.iter().zip(COUNTS).all(items) { Kind::Batch } else { Kind::Extents }
}
