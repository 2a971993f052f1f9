//! The graph that is being written: its nodes, its constants, and what its values are called.
//!
//! All values of a graph that have names take them before any is made up, so that none made up stands in the way. A
//! constant is written with the first node that uses it, into the graph that it belongs to: what became an attribute is
//! not written at all, and a list that the graph's model had as a constant, and that is an operand again, takes the
//! constant's name.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use optc_ir::{Graph, NodeId, Op, Type, Value};
use optc_tensor::{DType, Tensor};

use super::names::NameSet;
use super::schema::OperandKind;
use super::{Exporter, Names, order};
use crate::proto::{NodeProto, TensorProto};
use crate::{Diagnostic, write_tensor};

/// The most bytes of a constant that is found again by its contents.
const MAX_COMPARED: usize = 256;

/// The fewest bytes of a constant that is found in other subgraphs by its contents, whatever it is called there.
const MIN_HASHED: usize = 1024;

/// A graph that is being written.
#[derive(Default)]
pub(super) struct Scope {
    pub(super) nodes: Vec<NodeProto>,
    pub(super) node_names: NameSet,
    /// The constants that are used, each with its place among all.
    constants: Vec<(usize, TensorProto)>,
    /// The names of constants by their dtype, shape and where their bytes are.
    shared: HashMap<Place, String>,
    /// The constants that several subgraphs have, and their names.
    spread: HashMap<Identity, (Tensor, String)>,
    /// The names of written constants by their contents.
    written: HashMap<Contents, String>,
    /// The names of constants that nothing uses, by their contents, the last one first.
    spare: HashMap<Contents, Vec<String>>,
    /// How many constants were named.
    count: usize,
}

/// A constant that is not written yet.
pub(super) struct Waiting {
    /// The depth of its graph.
    depth: usize,
    /// Its place among the constants of the graph.
    place: usize,
    tensor: Tensor,
}

/// Dtype and shape of a constant, and where its bytes are.
type Place = (DType, Vec<usize>, usize);

fn place(tensor: &Tensor) -> Place {
    (tensor.dtype(), tensor.shape().to_vec(), tensor.bytes().as_ptr() as usize)
}

/// What tells the constants of several subgraphs apart: the contents of large ones that were computed, as branches
/// compute the same from the same weights, and the place of those that the model has, under names of their own.
#[derive(PartialEq, Eq, Hash)]
enum Identity {
    Contents(DType, Vec<usize>, u64),
    Place(Place),
}

impl Identity {
    fn of(graph: &Graph, id: NodeId, tensor: &Tensor) -> Identity {
        let is_computed = graph.node(id).loc.is_empty();
        if !is_computed || tensor.bytes().len() < MIN_HASHED {
            return Identity::Place(place(tensor));
        }
        let mut hasher = DefaultHasher::new();
        tensor.bytes().hash(&mut hasher);
        Identity::Contents(tensor.dtype(), tensor.shape().to_vec(), hasher.finish())
    }
}

/// The constants that more than one region of a graph's nodes has, itself or deeper down, with their names: each is
/// written once, into the graph around.
fn spread(graph: &Graph) -> Vec<(&Graph, NodeId)> {
    let mut counts: HashMap<Identity, usize> = HashMap::new();
    let mut found = vec![];
    for region in subgraphs(graph) {
        let (mut own, mut waiting) = (HashSet::new(), vec![region]);
        while let Some(graph) = waiting.pop() {
            for id in graph.ids() {
                let Op::Constant(c) = &graph.node(id).op else { continue };
                let tensor = &c.value.0;
                if tensor.bytes().is_empty() || !own.insert(place(tensor)) {
                    continue;
                }
                let count = counts.entry(Identity::of(graph, id, tensor)).or_default();
                *count += 1;
                if *count == 2 {
                    found.push((graph, id));
                }
            }
            waiting.extend(graph.ids().flat_map(|id| &graph.node(id).regions));
        }
    }
    found
}

/// The regions that become subgraphs.
fn subgraphs(graph: &Graph) -> impl Iterator<Item = &Graph> {
    let nodes = graph.ids().map(|id| graph.node(id));
    nodes.filter(|node| !matches!(node.op, Op::Fused(_) | Op::Deferred(_))).flat_map(|node| &node.regions)
}

/// Dtype, shape and bytes of a small constant.
type Contents = (DType, Vec<usize>, Vec<u8>);

fn contents(tensor: &Tensor) -> Option<Contents> {
    let small = tensor.bytes().len() <= MAX_COMPARED && tensor.dtype() != DType::Str;
    small.then(|| (tensor.dtype(), tensor.shape().to_vec(), tensor.bytes().to_vec()))
}

impl Exporter {
    /// Begins a graph.
    pub(super) fn open(&mut self) {
        self.names.open();
        self.scopes.push(Scope::default());
    }

    /// Ends the graph that was begun last.
    pub(super) fn close(&mut self) -> (Vec<NodeProto>, Vec<TensorProto>) {
        for name in self.names.close() {
            self.waiting.remove(&name);
            self.kinds.remove(&name);
        }
        let mut scope = self.scopes.pop().unwrap_or_default();
        scope.constants.sort_by_key(|&(place, _)| place);
        (scope.nodes, scope.constants.into_iter().map(|(_, tensor)| tensor).collect())
    }

    /// Notes the type of a value.
    pub(super) fn know(&mut self, name: Option<String>, ty: &Type) {
        let kind = match ty {
            Type::Tensor(t) => OperandKind::Tensor(t.dtype),
            Type::Sequence(_) | Type::Optional(_) => OperandKind::Other,
        };
        self.kinds.extend(name.map(|name| (name, kind)));
    }

    /// Names the values of `graph`: as `wanted`, as the model did, or anew.
    pub(super) fn name_all(&mut self, graph: &Graph, names: &mut Names, wanted: &Names) -> Result<(), Diagnostic> {
        for (region, id) in spread(graph) {
            let Op::Constant(c) = &region.node(id).op else { continue };
            let name = self.constant(region, id, &c.value.0);
            let Some(scope) = self.scopes.last_mut() else { continue };
            scope.spread.insert(Identity::of(region, id, &c.value.0), (c.value.0.clone(), name));
        }
        let results = |node| (0..graph.node(node).results.len() as u32).map(move |result| Value { node, result });
        let values = order(graph)?.into_iter().flat_map(results);
        let (named, others): (Vec<_>, Vec<_>) = values.partition(|&v| model_name(graph, v).is_some());
        for value in named.into_iter().chain(others) {
            let node = graph.node(value.node);
            let name = match &node.op {
                Op::Param(_) | Op::ConvertLayout(_) => continue,
                Op::Constant(c) => {
                    let name = self.constant(graph, value.node, &c.value.0);
                    if !graph.is_needed(value.node) {
                        self.spare(&c.value.0, &name);
                    }
                    name
                }
                op => match (wanted.get(&value), model_name(graph, value)) {
                    (Some(name), _) => name.clone(),
                    (None, Some(name)) => self.names.unique(name),
                    (None, None) if has_optional_results(op) && !graph.is_used(value) => continue,
                    (None, None) => self.names.numbered(node.loc.first().map_or("", String::as_str)),
                },
            };
            self.know(Some(name.clone()), graph.ty(value));
            names.insert(value, name);
        }
        Ok(())
    }

    /// The name of a constant of the graph that is being written; those that share bytes share it.
    fn constant(&mut self, graph: &Graph, id: NodeId, tensor: &Tensor) -> String {
        let key = place(tensor);
        let is_shared = !tensor.bytes().is_empty();
        if let Some(name) = self.scopes.iter().find_map(|scope| scope.shared.get(&key)).filter(|_| is_shared) {
            return name.clone();
        }
        if let Some(name) = self.spread_name(graph, id, tensor) {
            return name;
        }
        let name = self.names.unique(model_name(graph, Value { node: id, result: 0 }).unwrap_or_default());
        self.wait(&name, tensor);
        if let Some(scope) = self.scopes.last_mut().filter(|_| is_shared) {
            scope.shared.insert(key, name.clone());
        }
        name
    }

    /// The name of a constant of the graphs around that has the contents of one of a subgraph.
    fn spread_name(&self, graph: &Graph, id: NodeId, tensor: &Tensor) -> Option<String> {
        let around = self.scopes.split_last()?.1;
        if around.iter().all(|scope| scope.spread.is_empty()) {
            return None;
        }
        let identity = Identity::of(graph, id, tensor);
        let same = |(other, name): &(Tensor, String)| (other.bytes() == tensor.bytes()).then(|| name.clone());
        around.iter().find_map(|scope| scope.spread.get(&identity).and_then(same))
    }

    fn wait(&mut self, name: &str, tensor: &Tensor) {
        let Some(depth) = self.scopes.len().checked_sub(1) else { return };
        let scope = &mut self.scopes[depth];
        self.waiting.insert(name.to_owned(), Waiting { depth, place: scope.count, tensor: tensor.clone() });
        scope.count += 1;
    }

    /// Notes a constant that nothing in its own graph uses.
    fn spare(&mut self, tensor: &Tensor, name: &str) {
        if let (Some(contents), Some(scope)) = (contents(tensor), self.scopes.last_mut()) {
            scope.spare.entry(contents).or_default().insert(0, name.to_owned());
        }
    }

    /// Writes a constant that is used for the first time.
    pub(super) fn use_constant(&mut self, name: &str) {
        let Some(Waiting { depth, place, tensor }) = self.waiting.remove(name) else { return };
        let scope = &mut self.scopes[depth];
        scope.constants.push((place, write_tensor(name, &tensor)));
        if let Some(contents) = contents(&tensor) {
            scope.written.entry(contents).or_insert_with(|| name.to_owned());
        }
    }

    /// A vector of integers as a constant.
    pub(super) fn ints(&mut self, values: &[i64]) -> Result<String, Diagnostic> {
        let tensor =
            Tensor::from_slice(&[values.len()], values).map_err(|e| Diagnostic::new("export", e.to_string()))?;
        Ok(self.literal(&tensor))
    }

    /// A tensor that is not of the graph as a constant: one that nothing else uses, one of the same contents, or a new
    /// one.
    pub(super) fn literal(&mut self, tensor: &Tensor) -> String {
        let contents = contents(tensor);
        let spare = |scope: &mut Scope| {
            let names = scope.spare.get_mut(contents.as_ref()?)?;
            names.pop()
        };
        let spare = self.scopes.last_mut().and_then(spare);
        let known = contents.as_ref().and_then(|c| self.scopes.iter().find_map(|scope| scope.written.get(c)));
        if let Some(name) = spare.or_else(|| known.cloned()) {
            return name;
        }
        let name = self.names.numbered("const");
        self.wait(&name, tensor);
        self.kinds.insert(name.clone(), OperandKind::Tensor(tensor.dtype()));
        if let (Some(contents), Some(scope)) = (contents, self.scopes.last_mut()) {
            scope.written.entry(contents).or_insert_with(|| name.clone());
        }
        name
    }
}

/// Whether results that nobody reads may be left out.
fn has_optional_results(op: &Op) -> bool {
    matches!(op, Op::Rnn(_) | Op::Gru(_) | Op::Lstm(_) | Op::DynamicLstm(_))
}

/// What the model calls a value; constants are called as their location says.
fn model_name(graph: &Graph, value: Value) -> Option<&str> {
    let of_constant = || {
        let node = graph.node(value.node);
        node.loc.first().filter(|_| matches!(node.op, Op::Constant(_))).map(String::as_str)
    };
    graph.value_name(value).or_else(of_constant)
}
