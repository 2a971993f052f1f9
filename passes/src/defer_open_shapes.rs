//! `defer-open-shapes`: put what depends on shapes that only values tell into one op, which is compiled when it is run.
//!
//! ```optc
//! given %m: tensor<4xbool>, %x: tensor<4x2xf32>
//! %0 = tensor.compress %x, %m : tensor<?x2xf32>
//! %1 = math.exp %0 : tensor<?x2xf32>
//! %2 = math.relu %1 : tensor<?x2xf32>
//! ```
//! becomes
//! ```optc
//! given %m: tensor<4xbool>, %x: tensor<4x2xf32>
//! %0 = tensor.compress %x, %m : tensor<?x2xf32>
//! %1 = kernel.deferred %0 : tensor<?x2xf32> region
//! func @deferred(%p0: tensor<?x2xf32>) {
//!   %0 = math.exp %p0 : tensor<?x2xf32>
//!   %1 = math.relu %0 : tensor<?x2xf32>
//!   return %1 as "y0"
//! }
//! ```
//!
//! Why: kernels are made for known extents, so that all that follows a `NonZero` would run on the host. When the region
//! is run, its inputs have shapes, and it goes through all passes for them; where these meet the next op whose result
//! depends on data, the rest of the region is deferred once more.
//!
//! What depends on an open shape is all in the region, whether its own shapes are open or not: each op in there would
//! have to wait anyway. Constants go along, so that weights are packed. Declines where the shape of an input of the
//! graph is open, for then the graph itself waits, and where nothing in the region has a kernel. Regions of control
//! flow are left alone: they are compiled for the shapes that they are called with.

use std::collections::{HashMap, HashSet};

use optc_ir::ops::kernel::Deferred;
use optc_ir::{ComputedBy, Graph, NodeId, Op, Output, Type, Value};
use optc_tensor::DType;

use crate::rewrite::{locations, remove_unused};
use crate::{Numerics, OptionError, Pass, PassArguments, PassCx, PassError};

/// See the module.
pub struct DeferOpenShapes;

impl Pass for DeferOpenShapes {
    const NAME: &'static str = "defer-open-shapes";
    const SUMMARY: &'static str =
        "put what depends on shapes that only values tell into one op, compiled when it is run";
    const NUMERICS: Numerics = Numerics::BitExact;

    fn from_options(_: &mut PassArguments) -> Result<DeferOpenShapes, OptionError> {
        Ok(DeferOpenShapes)
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx) -> Result<(), PassError> {
        let late = late(graph);
        let has_kernel =
            |&id: &NodeId| matches!(graph.node(id).op.facts().computed_by, ComputedBy::Family | ComputedBy::Expression);
        let fixed = graph.inputs().all(|v| !is_open(graph.ty(v)));
        if fixed && late.iter().any(has_kernel) && cx.permit("defer") {
            outline(graph, &late);
        }
        Ok(())
    }
}

/// Whether a value is one that kernels could compute with, if only its shape were known.
fn is_open(ty: &Type) -> bool {
    ty.as_tensor().is_some_and(|t| t.dtype != DType::Str && t.static_shape().is_none())
}

/// The nodes that depend on values of open shapes, in topological order.
fn late(graph: &Graph) -> Vec<NodeId> {
    let mut late = HashSet::new();
    let mut order = graph.topological_order().unwrap_or_default();
    order.retain(|&id| {
        let waits = |v: &Value| is_open(graph.ty(*v)) || late.contains(&v.node);
        let is = graph.node(id).operands.iter().flatten().any(waits);
        if is {
            late.insert(id);
        }
        is
    });
    order
}

/// Moves nodes, on which only outputs depend besides themselves, into the region of a new op.
fn outline(graph: &mut Graph, late: &[NodeId]) {
    let mut region = Graph::new("deferred");
    let (mut inside, mut operands) = (HashMap::new(), vec![]);
    for &id in late {
        let node = graph.node(id).clone();
        let mut value = |v: Value| {
            *inside.entry(v).or_insert_with(|| match &graph.node(v.node).op {
                constant @ Op::Constant(_) => {
                    let new = region.add(constant.clone(), &[], vec![graph.ty(v).clone()]);
                    region.node_mut(new).loc.clone_from(&graph.node(v.node).loc);
                    region.node_mut(new).names.clone_from(&graph.node(v.node).names);
                    Value { node: new, result: 0 }
                }
                _ => {
                    operands.push(Some(v));
                    region.add_input(&format!("p{}", operands.len() - 1), graph.ty(v).clone())
                }
            })
        };
        let its: Vec<Option<Value>> = node.operands.iter().map(|v| v.map(&mut value)).collect();
        let types = node.results.iter().map(|r| r.ty.clone()).collect();
        let new = region.add(node.op, &its, types);
        region.node_mut(new).loc = node.loc;
        region.node_mut(new).names = node.names;
        region.node_mut(new).regions = node.regions;
        let results =
            (0..node.results.len() as u32).map(|result| (Value { node: id, result }, Value { node: new, result }));
        inside.extend(results);
    }
    let moved: HashSet<NodeId> = late.iter().copied().collect();
    let mut given: Vec<Value> = vec![];
    for output in graph.outputs.iter().filter(|o| moved.contains(&o.value.node)) {
        if !given.contains(&output.value) {
            given.push(output.value);
        }
    }
    for (i, value) in given.iter().enumerate() {
        region.outputs.push(Output { name: format!("y{i}"), value: inside[value] });
    }
    let types = given.iter().map(|&v| graph.ty(v).clone()).collect();
    let loc = locations(late.iter().map(|&id| graph.node(id)));
    let deferred = graph.add(Deferred {}, &operands, types);
    graph.node_mut(deferred).regions = vec![region];
    graph.node_mut(deferred).loc = loc;
    for (value, result) in given.into_iter().zip(0..) {
        graph.replace_uses(value, Value { node: deferred, result });
    }
    for &id in late.iter().rev() {
        remove_unused(graph, id);
    }
}
