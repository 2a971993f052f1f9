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
//! Two ops are equal when name, attributes, operands and result types are; constants when their bits are. Declines ops
//! with regions, and those that give other results each time. The one that stays gets the locations of both.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};

use optc_ir::{Effects, Graph, NodeId, Op, Value};

use crate::rewrite::{add_locations, for_each_region};
use crate::{Numerics, OptionError, Pass, PassArguments, PassCx, PassError};

/// See the module.
pub struct Cse;

impl Pass for Cse {
    const NAME: &'static str = "cse";
    const SUMMARY: &'static str = "compute equal things once";
    const NUMERICS: Numerics = Numerics::BitExact;

    fn from_options(_: &mut PassArguments) -> Result<Cse, OptionError> {
        Ok(Cse)
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx) -> Result<(), PassError> {
        // By hash; ops are compared where they stand, since keys of their own would be a second copy of the graph.
        // Other ops with the hash of an earlier one, which hardly ever occur, go into the list.
        let mut seen: HashMap<u64, NodeId> = HashMap::with_capacity(graph.len());
        let mut others: Vec<(u64, NodeId)> = vec![];
        let hasher = RandomState::new();
        for id in graph.topological_order().unwrap_or_default() {
            let node = graph.node(id);
            if matches!(node.op, Op::Param(_)) || !node.regions.is_empty() || node.op.facts().effects != Effects::Pure {
                continue;
            }
            let hash = hasher.hash_one((&node.op, &node.operands));
            let same = |first: NodeId| {
                let first = graph.node(first);
                first.op == node.op && first.operands == node.operands
            };
            let first = match seen.entry(hash) {
                Entry::Vacant(place) => {
                    place.insert(id);
                    continue;
                }
                Entry::Occupied(place) if same(*place.get()) => Some(*place.get()),
                Entry::Occupied(_) => others.iter().find(|&&(h, id)| h == hash && same(id)).map(|&(_, id)| id),
            };
            match first {
                None => others.push((hash, id)),
                Some(first) if graph.node(first).results == node.results && cx.permit("equal") => {
                    merge(graph, first, id);
                }
                Some(_) => {}
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
    if let Some(node) = graph.remove(second)
        && !matches!(node.op, Op::Constant(_))
    {
        // In place: a hundred thousand equal ops become one, which has many names already.
        add_locations(&mut graph.node_mut(first).loc, &node.loc);
    }
}
