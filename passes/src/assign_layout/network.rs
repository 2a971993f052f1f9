//! The choice between two layouts as a minimum cut.

use optc_ir::{Graph, NodeId};
use petgraph::algo::dinics;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;

use super::roles::{LayoutRole, Wish};

/// More than all conversions together can cost.
const NEVER: u64 = 1 << 48;

/// A place in the network: where an operand or a result gets its layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LayoutSlot(u32);

impl LayoutSlot {
    /// What is plain in any case: the source.
    pub const PLAIN: LayoutSlot = LayoutSlot(0);
    /// What is channels-last in any case: the sink.
    const LAST: LayoutSlot = LayoutSlot(1);

    fn node(self) -> NodeIndex {
        NodeIndex::new(self.0 as usize)
    }
}

/// Capacities are costs that arise when the head is channels-last and the tail plain.
pub(super) struct Network {
    edges: DiGraph<(), u64>,
}

impl Default for Network {
    fn default() -> Network {
        let mut edges = DiGraph::new();
        edges.add_node(());
        edges.add_node(());
        Network { edges }
    }
}

impl Network {
    fn edge(&mut self, plain: LayoutSlot, last: LayoutSlot, cost: u64) {
        if cost > 0 && plain != last {
            self.edges.add_edge(plain.node(), last.node(), cost);
        }
    }

    fn label(&mut self) -> LayoutSlot {
        LayoutSlot(self.edges.add_node(()).index() as u32)
    }

    /// The labels of an op's operands and of its results.
    pub fn op(&mut self, role: &LayoutRole, graph: &Graph, id: NodeId) -> (LayoutSlot, LayoutSlot) {
        let mut wish = |wish: &Wish| match wish {
            Wish::Plain => LayoutSlot::PLAIN,
            Wish::Last => LayoutSlot::LAST,
            Wish::Either => self.label(),
            Wish::PlainCosts => {
                let label = self.label();
                self.edge(label, LayoutSlot::LAST, super::bytes(graph, super::result(id)).max(1));
                label
            }
        };
        match role {
            LayoutRole::Fixed { operands, results, .. } => (wish(operands), wish(results)),
            LayoutRole::Follows => {
                let label = self.label();
                (label, label)
            }
            LayoutRole::Both { plain, last } => {
                let label = self.label();
                self.edge(label, LayoutSlot::LAST, *plain);
                self.edge(LayoutSlot::PLAIN, label, *last);
                (label, label)
            }
        }
    }

    /// A value of this many bytes: one conversion serves all readers that want the other layout.
    pub fn value(&mut self, result: LayoutSlot, readers: &[LayoutSlot], bytes: u64) {
        let (to_last, to_plain) = (self.label(), self.label());
        self.edge(result, to_last, bytes);
        self.edge(to_plain, result, bytes);
        for &reader in readers {
            self.edge(to_last, reader, NEVER);
            self.edge(reader, to_plain, NEVER);
        }
    }

    /// Of equally cheap choices one in which an op has the layout of its operand: only that can be fused.
    pub fn prefer(&mut self, operand: LayoutSlot, op: LayoutSlot) {
        self.edge(operand, op, 1);
        self.edge(op, operand, 1);
    }

    /// The cheapest choice; plain where both cost the same.
    pub fn cut(self) -> MinCut {
        let (_, flow) = dinics(&self.edges, LayoutSlot::PLAIN.node(), LayoutSlot::LAST.node());
        let mut sink_side = vec![false; self.edges.node_count()];
        let mut reached = vec![LayoutSlot::LAST.node()];
        while let Some(node) = reached.pop() {
            if std::mem::replace(&mut sink_side[node.index()], true) {
                continue;
            }
            for edge in self.edges.edges_directed(node, petgraph::Direction::Incoming) {
                if *edge.weight() > flow[edge.id().index()] {
                    reached.push(edge.source());
                }
            }
            for edge in self.edges.edges(node) {
                if flow[edge.id().index()] > 0 {
                    reached.push(edge.target());
                }
            }
        }
        MinCut { sink_side }
    }
}

/// The two sides.
pub(super) struct MinCut {
    sink_side: Vec<bool>,
}

impl MinCut {
    /// Whether a place is channels-last.
    pub fn is_sink_side(&self, label: LayoutSlot) -> bool {
        self.sink_side[label.0 as usize]
    }
}
