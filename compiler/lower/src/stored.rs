//! Constants that are stored in another form than the one that is read: casts and dequantizations of constants. They
//! are computed when somebody asks for them, and so neither by a kernel nor at each run; products may read the form
//! that is stored.

use optc_ir::{Args, Graph, NodeId, Op, Val, Value};
use optc_tensor::{DType, Tensor};

/// A value that an op gives of constants.
#[derive(Debug)]
pub(super) struct StoredConstant {
    pub op: Op,
    pub operands: Vec<Option<Tensor>>,
}

/// Whether a value is a constant, be it in the form that is read or not.
pub(super) fn is_constant(graph: &Graph, value: Value) -> bool {
    graph.constant(value).is_some() || is_stored(graph, value.node)
}

/// Whether a node widens constants.
fn is_stored(graph: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    let dtype = |slot: usize| graph.operand(id, slot).and_then(|v| graph.constant(v)).map(Tensor::dtype);
    let widens = match &node.op {
        Op::Cast(op) => op.to == DType::F32 && matches!(dtype(0), Some(DType::F16 | DType::BF16)),
        Op::Dequantize(_) => true,
        _ => false,
    };
    widens && node.operands.iter().flatten().all(|&v| graph.constant(v).is_some())
}

impl StoredConstant {
    /// What a node widens, if that is constant.
    pub fn of(graph: &Graph, id: NodeId) -> Option<StoredConstant> {
        let constant = |v: &Option<Value>| v.and_then(|v| graph.constant(v).cloned());
        let node = graph.node(id);
        let operands = || node.operands.iter().map(constant).collect();
        is_stored(graph, id).then(|| StoredConstant { op: node.op.clone(), operands: operands() })
    }

    /// The value in the form that is read; `None` where there is no memory for it.
    pub fn widened(&self) -> Option<Tensor> {
        let values: Vec<Option<Val>> = self.operands.iter().map(|t| t.clone().map(Val::Tensor)).collect();
        let results = self.op.eval(&Args::plain(&values)).ok()?;
        results.first().and_then(Val::as_tensor).cloned()
    }
}
