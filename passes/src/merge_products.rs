//! `merge-products`: multiply rows by one constant at once, where exporters multiply them one after the other.
//!
//! ```optc
//! given %x: tensor<4x2xf32>
//! %0 = tensor.const {value = dense<[1.0, 2.0, 3.0, 4.0]> : tensor<2x2xf32>} : tensor<2x2xf32>
//! %1, %2, %3, %4 = tensor.split %x {parts = 4}
//!     : tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>
//! %5 = math.matmul %1, %0 : tensor<1x2xf32>
//! %6 = math.matmul %2, %0 : tensor<1x2xf32>
//! %7 = math.matmul %3, %0 : tensor<1x2xf32>
//! %8 = math.matmul %4, %0 : tensor<1x2xf32>
//! %9 = tensor.concat %8, %5, %6, %7 {axis = 0} : tensor<4x2xf32>
//! ```
//! becomes
//! ```optc
//! given %x: tensor<4x2xf32>
//! %0 = tensor.const {value = dense<[1.0, 2.0, 3.0, 4.0]> : tensor<2x2xf32>} : tensor<2x2xf32>
//! %1 = math.matmul %x, %0 : tensor<4x2xf32>
//! %2, %3, %4, %5 = tensor.split %1 {sizes = [1, 1, 1, 1]}
//!     : tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>
//! %6 = tensor.concat %5, %2, %3, %4 {axis = 0} : tensor<4x2xf32>
//! ```
//!
//! Why: a product of a few rows takes as long as its weights take to come from memory. An LSTM or a GRU that is
//! unrolled multiplies the operand of each step by the same weights: together they are one product, which reads them
//! once.
//!
//! Products are merged that have one constant, one summand and one shape, of which none needs another's result: each
//! has as many of them before it on its longest way from the inputs. Their rows are put together, unless they are all
//! parts of one value already. Declines fewer than four, more than eight rows each, shapes that are not known, and a
//! summand of several rows. Reassociates: sums of a product of more rows may be added up in another order.

use std::collections::HashSet;

use indexmap::IndexMap;
use optc_ir::ops::tensor::{Concat, Split};
use optc_ir::{Encoding, Graph, Node, NodeId, Op, OpError, Value, infer_node};
use optc_tensor::DType;

use crate::matching::{result, shape, tensor_type};
use crate::rewrite::{for_each_region, locations, remove_unused};
use crate::{Numerics, OptionError, Pass, PassArguments, PassCx, PassError};

/// Fewer products are not worth what is moved for them.
const FEW: usize = 4;
/// Products of more rows do not wait for their weights.
const ROWS: usize = 8;
/// What a merge is counted as.
const RULE: &str = "products-of-one-constant";
/// Sets of products that are looked at: each look goes through the graph once.
const LOOKS: usize = 256;

/// See the module.
pub struct MergeProducts;

impl Pass for MergeProducts {
    const NAME: &'static str = "merge-products";
    const SUMMARY: &'static str = "multiply rows by one constant at once, as in unrolled recurrent layers";
    const NUMERICS: Numerics = Numerics::Reassociates;

    fn from_options(_: &mut PassArguments) -> Result<MergeProducts, OptionError> {
        Ok(MergeProducts)
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx) -> Result<(), PassError> {
        for products in alike(graph).into_iter().take(LOOKS) {
            for independent in levels(graph, &products) {
                if independent.len() >= FEW && cx.permit(RULE) {
                    merge(graph, &independent).map_err(|error| PassError::Rule { rule: RULE, error })?;
                }
            }
        }
        for_each_region(graph, &mut |region| self.run(region, cx))
    }
}

/// What products have in common that may be one: op, constant, summand and the shape of the rows.
type Common = (Op, Value, Option<Value>, Vec<usize>);

/// Sets of at least [`FEW`] products that have all in common, in the order of the graph.
fn alike(g: &Graph) -> Vec<Vec<NodeId>> {
    let mut sets: IndexMap<Common, Vec<NodeId>> = IndexMap::new();
    for id in g.topological_order().unwrap_or_default() {
        if let Some(common) = common(g, id) {
            sets.entry(common).or_default().push(id);
        }
    }
    sets.into_values().filter(|set| set.len() >= FEW).collect()
}

/// What a product of a few rows has in common with others.
fn common(g: &Graph, id: NodeId) -> Option<Common> {
    let op = &g.node(id).op;
    match op {
        Op::MatMul(_) => {}
        Op::Gemm(gemm) if !gemm.trans_a => {}
        _ => return None,
    }
    let (rows, weights) = (g.operand(id, 0)?, g.operand(id, 1)?);
    let plain = |v: Value| tensor_type(g, v).is_some_and(|t| t.dtype == DType::F32 && t.encoding == Encoding::Plain);
    let (extents, result) = (shape(g, rows)?, result(id));
    let matrix = g.constant(weights)?.rank() == 2 && plain(rows) && plain(result);
    let few = extents.len() >= 2 && extents[..extents.len() - 1].iter().product::<usize>() <= ROWS;
    let summand = g.operand(id, 2);
    let one_row = |v: Value| shape(g, v).is_some_and(|s| s.len() < 2 || s[s.len() - 2] == 1);
    (matrix && few && !extents.contains(&0) && summand.is_none_or(one_row))
        .then(|| (op.clone(), weights, summand, extents))
}

/// The products by how many of them come before each on the longest way to it: those of one level do not need each
/// other.
fn levels(g: &Graph, products: &[NodeId]) -> Vec<Vec<NodeId>> {
    let products: HashSet<NodeId> = products.iter().copied().collect();
    let mut levels: Vec<Vec<NodeId>> = Vec::new();
    let mut after: Vec<u32> = vec![];
    for id in g.topological_order().unwrap_or_default() {
        let before = |v: &Value| after.get(v.node.index()).copied().unwrap_or(0);
        let level = g.node(id).operands.iter().flatten().map(before).max().unwrap_or(0);
        let counts = products.contains(&id);
        if counts {
            levels.resize_with(levels.len().max(level as usize + 1), Vec::new);
            levels[level as usize].push(id);
        }
        after.resize(after.len().max(id.index() + 1), 0);
        after[id.index()] = level + u32::from(counts);
    }
    levels
}

/// Makes one product of several, and parts of its result of theirs.
fn merge(g: &mut Graph, products: &[NodeId]) -> Result<(), OpError> {
    let Some(&first) = products.first() else { return Ok(()) };
    let (op, others) = (g.node(first).op.clone(), g.node(first).operands[1..].to_vec());
    let rows: Vec<Value> = products.iter().filter_map(|&id| g.operand(id, 0)).collect();
    let Some(extents) = rows.first().and_then(|&v| shape(g, v)) else { return Ok(()) };
    let axis = extents.len() - 2;
    let loc = locations(products.iter().map(|&id| g.node(id)));
    let together = match whole(g, &rows, axis) {
        Some(whole) => whole,
        None => {
            let operands: Vec<_> = rows.iter().map(|&v| Some(v)).collect();
            result(add(g, Concat { axis: axis as i64 }, &operands, &loc)?)
        }
    };
    let operands: Vec<_> = std::iter::once(Some(together)).chain(others).collect();
    let product = result(add(g, op, &operands, &loc)?);
    let sizes = vec![extents[axis] as i64; products.len()];
    let parts = add(g, Split { axis: axis as i64, parts: 0, sizes }, &[Some(product)], &loc)?;
    for (i, &id) in products.iter().enumerate() {
        g.replace_uses(result(id), Value { node: parts, result: i as u32 });
        remove_unused(g, id);
    }
    Ok(())
}

/// The value of which these are all parts, in their order.
fn whole(g: &Graph, parts: &[Value], axis: usize) -> Option<Value> {
    let from = parts.first()?.node;
    let Node { op: Op::Split(split), results, .. } = g.node(from) else { return None };
    let along = usize::try_from(split.axis).ok() == Some(axis) && results.len() == parts.len();
    let in_order = parts.iter().enumerate().all(|(i, part)| part.node == from && part.result as usize == i);
    g.operand(from, 0).filter(|_| along && in_order)
}

/// Adds a node with inferred types.
fn add(g: &mut Graph, op: impl Into<Op>, operands: &[Option<Value>], loc: &[String]) -> Result<NodeId, OpError> {
    let id = g.add(op, operands, vec![]);
    let types = infer_node(g, id)?;
    let node = g.node_mut(id);
    node.results = types.into_iter().map(|ty| optc_ir::ResultInfo { ty }).collect();
    node.loc = loc.to_vec();
    Ok(id)
}
