//! How nodes and their results are named.

use petgraph::stable_graph::NodeIndex;

/// A node's identity; stable while other nodes come and go.
pub type NodeId = NodeIndex<u32>;

/// One result of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value {
    /// The node that defines it.
    pub node: NodeId,
    /// Which of the node's results it is.
    pub result: u32,
}
