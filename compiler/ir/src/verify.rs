//! The verifier: lists everything that is wrong with a graph.
//!
//! - (V1) The graph has no cycle.
//! - (V2) Every operand and output names a result that exists.
//! - (V3) Every op accepts its operands: arity, constraints, dtypes.
//! - (V4) Every result has a type that [accepts](Type::accepts) the inferred one, and there are as many as the op has.
//!   Those of [exact](crate::Semantics::exact) ops have the inferred type itself.
//! - (V5) Input and output names are not empty and not repeated.
//! - (V6) Regions hold all of this as well.
//! - (V7) A constant of which `zeros` elements were pruned has at least as many zeros.
//! - (V8) An encoding fits its tensor's rank; elements of sequences and optionals are plain; only constants, and
//!   parameters of `kernel.fused` that stand for them, lie in blocks.
//! - (V9) Operands are what is noted as the uses of their values.
//!
//! V4 says how far a declared type may differ from what follows from the operands: two concrete extents are never at
//! odds, and either side may leave open what the other one says. Other ops and lowering go by what is declared. Where
//! that says more than follows, or an op has not seen all that it depends on ([`Verified::is_proven`]), only the value
//! itself can show it, so that no kernel may be made for it. [`Verified`] is the proof that all of this holds.

use std::collections::HashSet;
use std::fmt;
use std::ops::Deref;

use crate::infer::{follows, infer_node, is_settled, laid_out};
use crate::ops::tensor::Constant;
use crate::{Encoding, Graph, Node, NodeId, Op, Type, Value};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The node, where there is one.
    pub node: Option<NodeId>,
    /// The invariant's number, `V1` to `V9`.
    pub rule: &'static str,
    /// What is wrong, with the op and its ONNX nodes.
    pub message: String,
}

/// All that is wrong with a graph: never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Unsound {
    /// The failures, in the order of [`verify`].
    pub failures: Vec<Failure>,
}

/// Failures that a message lists.
const LISTED: usize = 10;

impl fmt::Display for Unsound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the graph is not sound:")?;
        for Failure { rule, message, .. } in self.failures.iter().take(LISTED) {
            write!(f, "\n  {rule}: {message}")?;
        }
        match self.failures.len().saturating_sub(LISTED) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

/// A graph that the verifier found sound. Only [`Verified::new`] makes one, and nothing changes it.
#[derive(Debug, Clone)]
pub struct Verified {
    graph: Graph,
    /// Nodes with a result that is declared to be more concrete than follows, or that may refuse their operands.
    unproven: HashSet<NodeId>,
}

impl Verified {
    /// Verifies a graph.
    ///
    /// # Errors
    /// The graph is not sound.
    pub fn new(graph: Graph) -> Result<Verified, Unsound> {
        let Check { failures, unproven, .. } = check(&graph, None);
        if failures.is_empty() { Ok(Verified { graph, unproven }) } else { Err(Unsound { failures }) }
    }

    /// Whether the concrete extents of a node's results, and those inside of a `kernel.fused`, follow from its
    /// operands, which it does not refuse.
    pub fn is_proven(&self, id: NodeId) -> bool {
        !self.unproven.contains(&id)
    }

    /// The graph, to be changed.
    pub fn into_graph(self) -> Graph {
        self.graph
    }

    /// The graph, and the nodes that are not [proven](Verified::is_proven).
    pub fn into_parts(self) -> (Graph, HashSet<NodeId>) {
        (self.graph, self.unproven)
    }
}

impl Deref for Verified {
    type Target = Graph;

    fn deref(&self) -> &Graph {
        &self.graph
    }
}

/// Every failure of `graph`, in topological order; empty when it is sound. Takes a time linear in the nodes, their
/// operands and the elements of pruned constants.
pub fn verify(graph: &Graph) -> Vec<Failure> {
    check(graph, None).failures
}

/// Checks a graph, which may be a region of an op.
fn check<'a>(graph: &'a Graph, within: Option<&'a Op>) -> Check<'a> {
    let mut check = Check { graph, within, failures: vec![], unproven: HashSet::new() };
    let dangling = !check.operands_exist();
    check.names();
    let Some(order) = graph.topological_order() else {
        check.fail(None, "V1", "the graph has a cycle".to_owned());
        return check;
    };
    if dangling {
        return check;
    }
    for id in order {
        let node = graph.node(id);
        check.encodings(id, node);
        if !matches!(node.op, Op::Param(_)) {
            check.uses(id, node);
            check.types(id, node);
            check.zeros(id, node);
            check.regions(id, node);
        }
    }
    check
}

/// A graph and what was found so far.
struct Check<'a> {
    graph: &'a Graph,
    /// The op that the graph is a region of.
    within: Option<&'a Op>,
    failures: Vec<Failure>,
    unproven: HashSet<NodeId>,
}

impl Check<'_> {
    fn fail(&mut self, node: Option<NodeId>, rule: &'static str, message: String) {
        self.failures.push(Failure { node, rule, message });
    }

    /// [`Check::fail`] of a node, which is named.
    fn fail_at(&mut self, id: NodeId, node: &Node, rule: &'static str, what: &str) {
        let at = if node.loc.is_empty() { String::new() } else { format!(" at {}", node.loc.join(", ")) };
        self.fail(Some(id), rule, format!("`{}`{at}{what}", node.op.name()));
    }

    fn exists(&self, value: Value) -> bool {
        self.graph.get(value.node).is_some_and(|n| (value.result as usize) < n.results.len())
    }

    /// V2. Whether it holds: the others look at what operands name.
    fn operands_exist(&mut self) -> bool {
        let before = self.failures.len();
        for id in self.graph.ids() {
            for (slot, value) in self.graph.node(id).operands.iter().enumerate() {
                if value.is_some_and(|v| !self.exists(v)) {
                    let message = format!("operand {slot} of `{}` is not defined", self.graph.node(id).op.name());
                    self.fail(Some(id), "V2", message);
                }
            }
        }
        for output in self.graph.outputs.iter().filter(|o| !self.exists(o.value)).collect::<Vec<_>>() {
            self.fail(None, "V2", format!("output `{}` is not defined", output.name));
        }
        self.failures.len() == before
    }

    /// V5.
    fn names(&mut self) {
        let inputs: Vec<&str> = self.graph.inputs().filter_map(|v| self.graph.input_name(v)).collect();
        let outputs: Vec<&str> = self.graph.outputs.iter().map(|o| o.name.as_str()).collect();
        for (kind, names) in [("input", inputs), ("output", outputs)] {
            let mut seen = HashSet::new();
            for name in names {
                if name.is_empty() || !seen.insert(name) {
                    self.fail(None, "V5", format!("{kind} name `{name}` is empty or repeated"));
                }
            }
        }
    }

    /// V8.
    fn encodings(&mut self, id: NodeId, node: &Node) {
        let in_blocks = match node.op {
            Op::Param(_) => matches!(self.within, Some(Op::Fused(_))),
            Op::Constant(_) => true,
            _ => false,
        };
        for info in &node.results {
            let encoding = info.ty.encoding();
            let fits = info.ty.as_tensor().and_then(|t| t.rank()).is_none_or(|rank| encoding.fits(rank));
            if !fits || (info.ty.as_tensor().is_none() && info.ty.plain() != info.ty) {
                self.fail_at(id, node, "V8", &format!(": {} has a layout that it cannot have", info.ty));
            }
            if matches!(encoding, Encoding::Bcsr { .. }) && !in_blocks {
                self.fail_at(id, node, "V8", &format!(": {} is not a constant, but lies in blocks", info.ty));
            }
        }
    }

    /// V9.
    fn uses(&mut self, id: NodeId, node: &Node) {
        if !self.graph.uses_follow_operands(id) {
            self.fail_at(id, node, "V9", " has operands that are not noted as uses of their values");
        }
    }

    /// V3 and V4.
    fn types(&mut self, id: NodeId, node: &Node) {
        match infer_node(self.graph, id) {
            Err(error) => self.fail_at(id, node, "V3", &format!(": {error}")),
            Ok(types) if types.len() != node.results.len() => {
                let what = format!(" has {} results, found {}", types.len(), node.results.len());
                self.fail_at(id, node, "V4", &what);
            }
            Ok(types) => {
                for (info, ty) in node.results.iter().zip(types) {
                    let ty = laid_out(&node.op, &info.ty, ty);
                    if !declarable(&node.op, &info.ty, &ty) {
                        self.fail_at(id, node, "V4", &format!(" gives {ty}, declared {}", info.ty));
                    }
                    if !follows(&node.op, &info.ty, ty) {
                        self.unproven.insert(id);
                    }
                }
                if !is_settled(self.graph, id) {
                    self.unproven.insert(id);
                }
            }
        }
    }

    /// V7.
    fn zeros(&mut self, id: NodeId, node: &Node) {
        let Op::Constant(c) = &node.op else { return };
        if c.zeros == 0 {
            return;
        }
        let found = Constant::count_zeros(&c.value.0);
        if usize::try_from(c.zeros).map_or(true, |pruned| found < pruned) {
            self.fail_at(id, node, "V7", &format!(" has {found} zeros, {} were pruned", c.zeros));
        }
    }

    /// V6.
    fn regions(&mut self, id: NodeId, node: &Node) {
        for region in &node.regions {
            let inside = check(region, Some(&node.op));
            inside.failures.into_iter().for_each(|f| self.fail(Some(id), "V6", f.message));
            if node.op.exact() && !inside.unproven.is_empty() {
                self.unproven.insert(id);
            }
        }
    }
}

/// Whether a result of `op` that is inferred to be `ty` may be declared that way.
fn declarable(op: &Op, declared: &Type, ty: &Type) -> bool {
    if op.exact() { declared == ty } else { declared.accepts(ty) }
}
