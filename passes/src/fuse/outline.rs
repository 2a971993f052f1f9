//! Makes the `kernel.fused` op of a group.

use optc_ir::ops::kernel::Fused;
use optc_ir::{Graph, NodeId, Op, Output, Type, Value};
use optc_tensor::DType;

use crate::matching::result;
use crate::rewrite::{locations, remove_unused};

/// Moves the nodes of a group, which are in topological order and of which only the last one's result is used outside,
/// into the region of a new op.
pub(super) fn outline(graph: &mut Graph, group: &[NodeId]) {
    let Some((&first, &last)) = group.first().zip(group.last()) else { return };
    let mut builder = Builder { region: Graph::new("fused"), inside: vec![], operands: vec![] };
    for &id in group {
        // What is not elementwise stands first and reads its operands from buffers, constants as well.
        let reads_buffers = id == first && super::elementwise::is_anchor(graph, id);
        builder.node(graph, id, reads_buffers);
    }
    let Builder { mut region, inside, operands } = builder;
    let Some(&(_, value)) = inside.iter().find(|(outside, _)| *outside == result(last)) else { return };
    region.outputs.push(Output { name: "y".to_owned(), value });
    let loc = locations(group.iter().map(|&id| graph.node(id)));
    let operands: Vec<Option<Value>> = operands.into_iter().map(Some).collect();
    let ty: Type = graph.ty(result(last)).clone();
    let fused = graph.add(Fused {}, &operands, vec![ty]);
    graph.node_mut(fused).regions = vec![region];
    graph.node_mut(fused).loc = loc;
    graph.replace_uses(result(last), result(fused));
    remove_unused(graph, last);
}

struct Builder {
    region: Graph,
    /// Values of the graph, and the region's that stand for them: as few as a kernel can have.
    inside: Vec<(Value, Value)>,
    operands: Vec<Value>,
}

impl Builder {
    fn node(&mut self, graph: &Graph, id: NodeId, reads_buffers: bool) {
        let node = graph.node(id);
        let operands: Vec<Option<Value>> =
            node.operands.iter().map(|v| v.map(|v| self.value(graph, v, reads_buffers))).collect();
        let types = node.results.iter().map(|r| r.ty.clone()).collect();
        let new = self.region.add(node.op.clone(), &operands, types);
        self.region.node_mut(new).loc.clone_from(&node.loc);
        self.region.node_mut(new).names.clone_from(&node.names);
        self.inside.push((result(id), result(new)));
    }

    fn value(&mut self, graph: &Graph, value: Value, as_parameter: bool) -> Value {
        let scalar = graph
            .constant(value)
            .filter(|t| t.len() == 1 && matches!(t.dtype(), DType::F32 | DType::I32 | DType::U8 | DType::I8))
            .cloned();
        if let Some(t) = scalar.filter(|_| !as_parameter) {
            let op = Op::Constant(optc_ir::ops::tensor::Constant { value: optc_ir::Const(t), zeros: 0 });
            let ty = graph.ty(value).clone();
            return result(self.region.add(op, &[], vec![ty]));
        }
        if let Some(&(_, inside)) = self.inside.iter().find(|(outside, _)| *outside == value) {
            return inside;
        }
        let name = format!("p{}", self.operands.len());
        let parameter = self.region.add_input(&name, graph.ty(value).clone());
        self.operands.push(value);
        self.inside.push((value, parameter));
        parameter
    }
}
