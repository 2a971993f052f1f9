//! Where the values of a graph are while it is lowered.

use std::cell::OnceCell;
use std::collections::HashMap;

use indexmap::IndexMap;
use optc_ir::{Encoding, Graph, Node, NodeId, Op, TensorType, Type, Value};
use optc_tensor::{DType, Tensor};
use optc_types::steps::PlainTensor;

use super::TensorView;
use super::stored::StoredConstant;

/// Where a value is.
#[derive(Clone, Debug)]
pub(super) enum Loc {
    View(TensorView),
    Slot(usize),
    Constant(Tensor),
}

/// A constant that is stored in another form, and that is widened once somebody asks for it.
#[derive(Debug)]
struct Widened {
    constant: StoredConstant,
    wide: OnceCell<Option<Loc>>,
}

impl Widened {
    fn loc(&self) -> Option<&Loc> {
        self.wide.get_or_init(|| self.constant.widened().map(Loc::Constant)).as_ref()
    }

    /// Whether a tensor is what this was widened to.
    fn is(&self, t: &Tensor) -> bool {
        matches!(self.wide.get(), Some(Some(Loc::Constant(wide))) if wide.shares_bytes(t))
    }
}

/// Where the values are, and who still reads them.
#[derive(Debug, Default)]
pub(super) struct Places {
    locs: HashMap<Value, Loc>,
    /// Constants that are widened when they are asked for.
    stored: HashMap<Value, Widened>,
    /// Copies of values in other layouts, and constants that were put into buffers.
    copies: IndexMap<(Value, Encoding), TensorView>,
    uses_left: HashMap<Value, usize>,
}

impl Places {
    /// Moves the constants out of a graph, so that each is freed after its last use.
    pub fn of_constants(graph: &mut Graph) -> Places {
        let mut places = Places::default();
        let ids: Vec<NodeId> = graph.ids().collect();
        let widened = |&id: &NodeId| {
            let constant = StoredConstant::of(graph, id)?;
            Some((Value { node: id, result: 0 }, Widened { constant, wide: OnceCell::new() }))
        };
        let stored = ids.iter().filter_map(widened);
        places.stored = stored.collect();
        for id in ids {
            for value in graph.node(id).operands.iter().flatten() {
                *places.uses_left.entry(*value).or_default() += 1;
            }
            if let Op::Constant(c) = &mut graph.node_mut(id).op {
                let tensor = std::mem::replace(&mut c.value.0, Tensor::scalar(0u8));
                places.locs.insert(Value { node: id, result: 0 }, Loc::Constant(tensor));
            }
        }
        for output in &graph.outputs {
            *places.uses_left.entry(output.value).or_default() += 1;
        }
        places
    }

    /// Where a value is.
    pub fn get(&self, value: Value) -> Option<&Loc> {
        self.locs.get(&value).or_else(|| self.stored.get(&value)?.loc())
    }

    /// The form in which a constant is stored, where that is not the one that is read.
    pub fn stored(&self, value: Value) -> Option<&StoredConstant> {
        self.stored.get(&value).map(|widened| &widened.constant)
    }

    /// The constants of the graph that some constants are made from, and how those are that are stored in another form:
    /// these are widened for each program anew, and known by what is stored.
    pub fn origins<'a>(&'a self, of: &[&'a Tensor]) -> (Vec<&'a Tensor>, String) {
        let (mut from, mut how) = (Vec::new(), String::new());
        for (i, &t) in of.iter().enumerate() {
            match self.stored.values().find(|widened| widened.is(t)) {
                Some(Widened { constant, .. }) => {
                    from.extend(constant.operands.iter().flatten());
                    how += &format!(", {i} is {:?} of {}", constant.op, constant.operands.iter().flatten().count());
                }
                None => from.push(t),
            }
        }
        (from, how)
    }

    /// Says where a value is.
    pub fn set(&mut self, value: Value, loc: Loc) {
        self.locs.insert(value, loc);
    }

    /// The constant that a value is, if it is one.
    pub fn constant(&self, value: Value) -> Option<&Tensor> {
        if let Some(Loc::Constant(t)) = self.get(value) { Some(t) } else { None }
    }

    /// The copy of a value in another layout, or of a constant in a buffer.
    pub fn copy(&self, value: Value, encoding: Encoding) -> Option<&TensorView> {
        self.copies.get(&(value, encoding))
    }

    /// Notes such a copy.
    pub fn set_copy(&mut self, value: Value, encoding: Encoding, copy: TensorView) {
        self.copies.insert((value, encoding), copy);
    }

    /// Whether a value has one reader left.
    pub fn is_read_once(&self, value: Value) -> bool {
        self.uses_left.get(&value) == Some(&1)
    }

    /// How many copies there are.
    pub fn copies(&self) -> usize {
        self.copies.len()
    }

    /// Forgets all copies but the first ones.
    pub fn forget_copies(&mut self, from: usize) {
        self.copies.truncate(from);
    }

    /// Forgets constants that nobody reads any more once a node has run.
    pub fn release(&mut self, node: &Node) {
        for value in node.operands.iter().flatten() {
            if let Some(left) = self.uses_left.get_mut(value) {
                *left -= 1;
                if *left == 0
                    && let Some(stored) = self.stored.remove(value)
                {
                    stored.constant.operands.iter().flatten().for_each(|t| optc_tensor::evict(t.bytes()));
                }
                let Some(Loc::Constant(t)) = self.locs.get(value).filter(|_| *left == 0) else { continue };
                if !self.copies.contains_key(&(*value, Encoding::Plain)) {
                    optc_tensor::evict(t.bytes()); // packed: a model takes its weights' memory once, not twice
                }
                self.locs.remove(value);
            }
        }
    }
}

/// The type of a value that can lie in a buffer: static, with elements of whole bytes.
pub(super) fn buffered(ty: &Type) -> Option<TensorType> {
    let t = ty.as_tensor()?;
    t.static_shape()?;
    (t.dtype != DType::Str && t.dtype.bits().is_multiple_of(8) && t.dtype.bits() > 0).then(|| t.clone())
}

/// A view that is laid out plainly, for steps.
pub(super) fn stored(view: &TensorView) -> PlainTensor {
    PlainTensor { at: view.at, dtype: view.dtype, shape: view.shape.clone() }
}
