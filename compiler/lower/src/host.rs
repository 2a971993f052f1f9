//! Steps on the host: ops that no kernel takes are evaluated by the interpreter.

use optc_ir::{Encoding, Graph, HostCall, Node, NodeId, Op, Value};
use optc_types::steps::{HostStep, Slot, Step, StepInfo};

use super::moves::view_in;
use super::places::{Loc, buffered, stored};
use super::{Declined, LowerError, Lowering, Region};

impl Lowering {
    /// Lets a node be evaluated on the host.
    pub(super) fn host(&mut self, id: NodeId, node: &Node) -> Result<(), LowerError> {
        let mut operands = Vec::with_capacity(node.operands.len());
        for value in &node.operands {
            operands.push(match value {
                Some(value) => Some(self.host_operand(*value)?),
                None => None,
            });
        }
        let mut results = Vec::new();
        for (i, info) in node.results.iter().enumerate() {
            let (loc, slot) = match buffered(&info.ty) {
                Some(t) => {
                    let view = self.out.dense(&t.with_encoding(Encoding::Plain), None)?;
                    let slot = Slot::Buffer(stored(&view));
                    (Loc::View(view), slot)
                }
                None => {
                    let v = self.out.slot();
                    (Loc::Slot(v), Slot::Value(v))
                }
            };
            self.places.set(Value { node: id, result: i as u32 }, loc);
            results.push(Some(slot));
        }
        let info = StepInfo { name: node.op.name().to_owned(), loc: node.loc.clone(), ..StepInfo::default() };
        let host = self.out.hosts.len();
        self.out.hosts.push(HostCall::print(&self.graph, id));
        let fixed = |graph: &&Graph| graph.inputs().all(|v| buffered(graph.ty(v)).is_some());
        if !matches!(node.op, Op::Fused(_)) {
            for (region, graph) in node.regions.iter().enumerate().filter(|(_, graph)| fixed(graph)) {
                self.out.regions.push(Region { host, region, graph: graph.clone() });
            }
        }
        self.out.step(Step::Host(HostStep { host, operands, results, info }));
        Ok(())
    }

    fn host_operand(&mut self, value: Value) -> Result<Slot, LowerError> {
        match self.places.get(value) {
            Some(Loc::Constant(t)) => Ok(Slot::Constant(t.clone())),
            Some(Loc::Slot(v)) => Ok(Slot::Value(*v)),
            Some(Loc::View(_)) => {
                let view = view_in(&mut self.cx(""), value, Encoding::Plain)
                    .map_err(|Declined(why)| LowerError::Graph(why.sentence))?;
                Ok(Slot::Buffer(stored(&view)))
            }
            None => Err(LowerError::Graph("an operand is not defined".to_owned())),
        }
    }
}
