//! `fuse`: move a producer and the elementwise ops after it, or a tree of elementwise ops, into one kernel.
//!
//! ```optc
//! given %x: tensor<1x4x6x6xf32>, %w: tensor<8x4x1x1xf32>, %r: tensor<1x8x6x6xf32>
//! %0 = nn.conv %x, %w : tensor<1x8x6x6xf32>
//! %1 = math.add %0, %r : tensor<1x8x6x6xf32>
//! %2 = math.relu %1 : tensor<1x8x6x6xf32>
//! ```
//! becomes
//! ```optc
//! given %x: tensor<1x4x6x6xf32>, %w: tensor<8x4x1x1xf32>, %r: tensor<1x8x6x6xf32>
//! %0 = kernel.fused %x, %w, %r : tensor<1x8x6x6xf32> region
//!   func @fused(%p0: tensor<1x4x6x6xf32>, %p1: tensor<8x4x1x1xf32>, %p2: tensor<1x8x6x6xf32>) {
//!   %0 = nn.conv %p0, %p1 : tensor<1x8x6x6xf32>
//!   %1 = math.add %0, %p2 : tensor<1x8x6x6xf32>
//!   %2 = math.relu %1 : tensor<1x8x6x6xf32>
//!   return %2 as "y"
//!   }
//! ```
//!
//! Why: the loads and stores of everything in between go away.
//!
//! First each *anchor* (see [`elementwise::is_anchor`]), the last one first, takes the elementwise ops after it: those
//! whose results have its result's shape and encoding, as long as nothing but the region reads what lies in between; an
//! anchor of integers also takes the dequantizations of what these ops read. Then each elementwise op that is left
//! takes the elementwise ops before it on the same terms. What is elementwise is a fact of each op, with
//! its expression.
//!
//! Constants of one element go into the region; other values that it reads are its parameters. Declines where a value
//! in between has another user or is an output, where the extents are not known to be equal, and regions of one op.
//! Expects inferred types and, for layouts, `assign-layout` before it.

pub(crate) mod elementwise;
mod group;
mod outline;

use optc_ir::{Graph, NodeId, Op, Value};

use crate::rewrite::for_each_region;
use crate::{Numerics, OptionError, Pass, PassArguments, PassCx, PassError};

/// See the module.
pub struct Fuse;

/// Gives each elementwise op that reads dequantized integers a dequantization of its own: loading bytes and computing
/// the reals again is less than loading the reals.
fn one_dequantize_a_use(graph: &mut Graph, cx: &mut PassCx) {
    for id in graph.ids().collect::<Vec<_>>() {
        let value = Value { node: id, result: 0 };
        if !matches!(graph.node(id).op, Op::Dequantize(_)) || elementwise::role_of(graph, id).is_none() {
            continue;
        }
        for (user, slot) in graph.uses(value).into_iter().skip(1) {
            if elementwise::role_of(graph, user).is_none() || !cx.permit("own-dequantize") {
                continue;
            }
            let node = graph.node(id).clone();
            let types = node.results.iter().map(|r| r.ty.clone()).collect();
            let copy = graph.add(node.op, &node.operands, types);
            graph.node_mut(copy).loc = node.loc;
            graph.set_operand(user, slot, Some(Value { node: copy, result: 0 }));
        }
    }
}

impl Pass for Fuse {
    const NAME: &'static str = "fuse";
    const SUMMARY: &'static str = "make one kernel of a producer and the elementwise ops behind it, or of a tree \
        of elementwise ops";
    const NUMERICS: Numerics = Numerics::BitExact;

    fn from_options(_: &mut PassArguments) -> Result<Fuse, OptionError> {
        Ok(Fuse)
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx) -> Result<(), PassError> {
        one_dequantize_a_use(graph, cx);
        let order = graph.topological_order().unwrap_or_default();
        let mut grouped = group::Order::of(&order);
        let mut groups: Vec<(&'static str, Vec<NodeId>)> = vec![];
        for &id in order.iter().rev().filter(|&&id| elementwise::is_anchor(graph, id)) {
            let group = group::with_epilogue(graph, id, &grouped);
            if group.len() > 1 {
                grouped.take(&group);
                groups.push(("epilogue", group));
            }
        }
        for &id in order.iter().rev() {
            let group = group::elementwise(graph, id, &grouped);
            if group.len() > 1 {
                grouped.take(&group);
                groups.push(("elementwise", group));
            }
        }
        for (rule, group) in groups {
            if cx.permit(rule) {
                outline::outline(graph, &group);
            }
        }
        for_each_region(graph, &mut |region| self.run(region, cx))
    }
}
