//! `cse`: compute equal things once.
//!
//! ```optc
//! given %x: tensor<2xf32>
//! %0 = math.exp %x : tensor<2xf32>
//! %1 = math.exp %x : tensor<2xf32>
//! %2 = math.add %0, %1 : tensor<2xf32>
//! ```
//! becomes
//! ```optc
//! given %x: tensor<2xf32>
//! %0 = math.exp %x : tensor<2xf32>
//! %1 = math.add %0, %0 : tensor<2xf32>
//! ```
//!
//! Two ops are equal when name, attributes, operands and result types are; constants when their bits are. Declines ops with
//! regions, and those that give other results each time. The one that stays gets the locations of both.

use std::collections::HashMap;

use optc_ir::{Graph, NodeId, Op, ResultInfo, Value};

use crate::matching::is_deterministic;
use crate::rewrite::{for_each_region, locations};
use crate::{Numerics, OptionError, Options, Pass, PassCx, PassError};

/// See the module.
pub struct Cse;

impl Pass for Cse {
    const NAME: &'static str = "cse";
    const NUMERICS: Numerics = Numerics::BitExact;

    fn from_options(_: &mut Options) -> Result<Cse, OptionError> {
        Ok(Cse)
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx) -> Result<(), PassError> {
        let mut seen: HashMap<(Op, Vec<Option<Value>>), NodeId> = HashMap::new();
        for id in graph.topological_order().unwrap_or_default() {
            let node = graph.node(id);
            if matches!(node.op, Op::Param(_)) || !node.regions.is_empty() || !is_deterministic(&node.op) {
                continue;
            }
            let first = *seen.entry((node.op.clone(), node.operands.clone())).or_insert(id);
            let results: Vec<ResultInfo> = node.results.clone();
            if first != id && graph.node(first).results == results && cx.permit("equal") {
                merge(graph, first, id);
            }
        }
        for_each_region(graph, &mut |region| self.run(region, cx))
    }
}

/// Makes the uses of `second` uses of `first`, and removes it.
fn merge(graph: &mut Graph, first: NodeId, second: NodeId) {
    for result in 0..graph.node(second).results.len() as u32 {
        graph.replace_uses(Value { node: second, result }, Value { node: first, result });
    }
    graph.node_mut(first).loc = locations(&[graph.node(first).clone(), graph.node(second).clone()]);
    graph.remove(second);
}
