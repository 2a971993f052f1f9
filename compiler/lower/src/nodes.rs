//! The walk over the nodes: each becomes views, kernels or a step of the host, and an entry of the report.

use optc_ir::{ComputedBy, Node, NodeId, Op, Value};
use optc_kernel::program::{Decision, NodeReport};
use optc_types::ReasonCode;

use super::cx::Notes;
use super::fused::fused;
use super::places::{Loc, buffered};
use super::shape::try_view;
use super::{Declined, Epilogue, LowerError, Lowering, Site, families, report};

impl Lowering {
    /// Lowers all nodes, in topological order.
    pub(super) fn nodes(&mut self) -> Result<(), LowerError> {
        let cycle = || LowerError::Graph("it has a cycle".to_owned());
        for id in self.graph.topological_order().ok_or_else(cycle)? {
            self.node(id)?;
        }
        Ok(())
    }

    fn node(&mut self, id: NodeId) -> Result<(), LowerError> {
        let node = self.graph.node(id).clone();
        let value = Value { node: id, result: 0 };
        if matches!(node.op, Op::Param(_) | Op::Constant(_)) || self.places.stored(value).is_some() {
            return Ok(());
        }
        let (decision, notes) = match self.try_node(id, &node)? {
            Ok(taken) => taken,
            Err(Declined(reason)) => {
                self.host(id, &node)?;
                (Decision::Host { reason }, Notes::default())
            }
        };
        if let Some((before, kernel)) = &notes.joined
            && let Some(before) = self.report.iter_mut().rev().find(|r| r.loc == *before)
        {
            before.decision = Decision::Kernel { names: vec![kernel.clone()] };
        }
        let report = report::report(&node, decision, notes);
        self.report.push(NodeReport { split: self.split.get(&id).cloned(), ..report });
        self.places.release(&node);
        Ok(())
    }

    /// Lowers a node to views and kernels.
    fn try_node(&mut self, id: NodeId, node: &Node) -> Result<Result<(Decision, Notes), Declined>, LowerError> {
        if self.unproven.contains(&id) {
            return Ok(Err(Declined::new(
                ReasonCode::OpenShape,
                "the shape of a result is declared, but depends on data",
            )));
        }
        let mut cx = self.cx(node.loc.first().map_or("", String::as_str));
        if let Some(decision) = try_view(&mut cx, id, node) {
            return Ok(Ok((decision, cx.notes)));
        }
        let Some(types) = node.results.iter().map(|r| buffered(&r.ty)).collect::<Option<Vec<_>>>() else {
            let reason = match node.op.facts().computed_by {
                ComputedBy::Host(reason) => reason,
                _ => "the shape of a result depends on data",
            };
            return Ok(Err(Declined::new(ReasonCode::OpenShape, reason)));
        };
        let before = cx.before();
        let mut results = Vec::new();
        for ty in &types {
            results.push(cx.out.dense(ty, None).map_err(|e| at(node, e))?);
        }
        let (operands, loc) = (node.operands.clone(), node.loc.clone());
        let site = Site { operands, results: results.clone(), epilogue: Epilogue::default(), loc };
        let lowered = match (&node.op, &node.regions[..]) {
            (Op::Fused(_), [region]) => fused(&mut cx, region, site),
            _ => families::op(&mut cx, &node.op, &site),
        };
        if let Err(declined) = lowered {
            cx.roll_back(before);
            return Ok(Err(declined));
        }
        for (i, view) in results.into_iter().enumerate() {
            cx.places.set(Value { node: id, result: i as u32 }, Loc::View(view));
        }
        let names = std::mem::take(&mut cx.notes.names);
        Ok(Ok((Decision::Kernel { names }, cx.notes)))
    }
}

/// An error about a value that is a node's result.
fn at(node: &Node, error: LowerError) -> LowerError {
    match error {
        LowerError::Tensor(error) => LowerError::Node { op: node.op.name(), loc: node.loc.join(", "), error },
        other => other,
    }
}
