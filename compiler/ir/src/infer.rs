//! Type inference over a whole graph.

use optc_tensor::Tensor;

use crate::{Carried, Graph, GraphError, InferCx, NodeId, Op, OpError, Type};

/// How often a loop's region is inferred anew with wider parameters before they lose their ranks.
const WIDENINGS: usize = 2;
/// Loops nested deeper than this start with parameters of unknown rank: each level of nesting may infer its inside
/// `WIDENINGS + 2` times.
const WIDENED_DEPTH: usize = 4;
/// How many branches of a graph may be inferred anew without shapes: each level of nesting may double the work.
const RETRIES: usize = 256;

/// Recomputes every result's type from the operands' types and constants, in topological order.
///
/// A branch of a `cf.if` may be one that never runs for the shapes at hand, with ops that refuse them: such a branch
/// keeps parameters without shapes, and fails when it runs.
///
/// # Errors
/// The first op that refuses its operands, or a cycle.
pub fn infer_types(graph: &mut Graph) -> Result<(), GraphError> {
    infer_at(graph, Budget { depth: 0, retries: &mut { RETRIES } })
}

/// Hands the types of a node's operands down into its regions and recomputes the types there.
///
/// # Errors
/// The first op in a region that refuses its operands, or a cycle.
pub fn infer_regions(graph: &mut Graph, id: NodeId) -> Result<(), GraphError> {
    regions_at(graph, id, Budget { depth: 0, retries: &mut { RETRIES } })
}

/// True where the parameters of a node's regions have the types that [`infer_regions`] would hand down to them. It
/// would then find nothing new in regions that are inferred; asked at each level, it would go through the innermost
/// once for each level around.
pub fn regions_settled(graph: &Graph, id: NodeId) -> bool {
    graph.node(id).regions.iter().enumerate().all(|(i, region)| {
        let handed = handed_down(graph, id, i);
        region.inputs().zip(&handed).all(|(param, ty)| ty.as_ref().is_none_or(|ty| ty == region.ty(param)))
    })
}

/// The types that a node's operands give to the parameters of region `i`.
fn handed_down(graph: &Graph, id: NodeId, i: usize) -> Vec<Option<Type>> {
    let mut params = with_cx(graph, id, |op, cx| op.region_params(cx, i));
    if !graph.node(id).op.exact() {
        params.iter_mut().flatten().for_each(|ty| *ty = ty.plain());
    }
    params
}

/// What bounds the work on nested regions.
struct Budget<'a> {
    /// Loops around.
    depth: usize,
    /// Branches that may yet be inferred anew.
    retries: &'a mut usize,
}

impl Budget<'_> {
    fn inside(&mut self, loops: bool) -> Budget<'_> {
        Budget { depth: self.depth + usize::from(loops), retries: self.retries }
    }
}

fn infer_at(graph: &mut Graph, mut budget: Budget) -> Result<(), GraphError> {
    let cycle = || GraphError {
        op: "graph".to_owned(),
        loc: graph.name.clone(),
        error: OpError::Constraint { constraint: "acyclic", reason: "the graph has a cycle".to_owned() },
    };
    for id in graph.topological_order().ok_or_else(cycle)? {
        if matches!(graph.node(id).op, Op::Param(_)) {
            continue;
        }
        regions_at(graph, id, budget.inside(false))?;
        let types = infer_node(graph, id).map_err(|error| at(graph, id, error))?;
        let node = graph.node_mut(id);
        for (info, ty) in node.results.iter_mut().zip(types) {
            info.ty = laid_out(&node.op, &info.ty, ty);
        }
    }
    Ok(())
}

/// Hands the operands' types down to the parameters of a node's regions, and infers the regions. A parameter that a
/// loop carries from trip to trip gets a type that the region keeps.
fn regions_at(graph: &mut Graph, id: NodeId, mut budget: Budget) -> Result<(), GraphError> {
    for i in 0..graph.node(id).regions.len() {
        let mut params = handed_down(graph, id, i);
        let carried = graph.node(id).op.carried();
        let loops = carried.count > 0;
        if loops && budget.depth >= WIDENED_DEPTH {
            let fed = params.iter_mut().skip(carried.param).take(carried.count);
            fed.flatten().for_each(|ty| *ty = ty.widest());
        }
        for round in 0.. {
            let inner = match graph.node(id).op {
                Op::If(_) => branch(&mut graph.node_mut(id).regions[i], &params, budget.inside(false)),
                _ => region(&mut graph.node_mut(id).regions[i], &params, budget.inside(loops)),
            };
            inner.map_err(|e| at(graph, id, OpError::Region(Box::new(e))))?;
            let types = params.iter_mut().map(Option::as_mut);
            if !widen_carried(&graph.node(id).regions[i], types, carried, round) {
                break;
            }
        }
    }
    Ok(())
}

/// Infers a region with parameters of these types.
fn region(region: &mut Graph, params: &[Option<Type>], budget: Budget) -> Result<(), GraphError> {
    let inputs: Vec<_> = region.inputs().collect();
    for (value, ty) in inputs.into_iter().zip(params) {
        if let Some(ty) = ty {
            region.node_mut(value.node).results[0].ty = ty.clone();
        }
    }
    infer_at(region, budget)
}

/// Infers a branch with parameters of these types, or without their shapes where its ops refuse those.
fn branch(graph: &mut Graph, params: &[Option<Type>], mut budget: Budget) -> Result<(), GraphError> {
    let refused = match region(graph, params, budget.inside(false)) {
        Err(refused) if *budget.retries > 0 => refused,
        settled => return settled,
    };
    *budget.retries -= 1;
    let widest: Vec<Option<Type>> = params.iter().map(|ty| ty.as_ref().map(Type::widest)).collect();
    region(graph, &widest, budget).map_err(|_| refused)
}

/// Widens the carried parameters that do not cover what the region gives for the next trip, in round `round` of
/// inferring it; false when there is none. A result of another kind or dtype widens nothing: `infer` of the loop
/// reports it, as it does when the op claims to carry more than there is.
pub fn widen_carried<'a>(
    region: &Graph,
    params: impl Iterator<Item = Option<&'a mut Type>>,
    carried: Carried,
    round: usize,
) -> bool {
    let mut changed = false;
    let fed = params.skip(carried.param).take(carried.count);
    for (param, output) in fed.zip(region.outputs.iter().skip(carried.output)) {
        let Some(param) = param else { continue };
        let given = region.ty(output.value);
        if let Some(join) = param.join(given).filter(|_| !param.covers(given)) {
            *param = if round >= WIDENINGS { join.widest() } else { join };
            changed = true;
        }
    }
    changed
}

/// What is inferred of a result of `op` that is declared as `declared`: `ty`, which knows nothing of layouts unless the
/// op is [exact](crate::Semantics::exact), in the declared one where that fits.
pub(crate) fn laid_out(op: &Op, declared: &Type, ty: Type) -> Type {
    match ty {
        ty if op.exact() => ty,
        Type::Tensor(t) if t.rank().is_none_or(|rank| declared.encoding().fits(rank)) => {
            t.with_encoding(declared.encoding()).into()
        }
        ty => ty.plain(),
    }
}

/// The types that one node's op gives its results.
///
/// # Errors
/// The op refuses its operands.
pub fn infer_node(graph: &Graph, id: NodeId) -> Result<Vec<Type>, OpError> {
    with_cx(graph, id, |op, cx| op.infer(cx))
}

/// Whether the concrete extents of a node's results follow from its operands, and its op takes these whatever their
/// values are. Where it is not so, only an evaluation shows whether the node refuses its operands: no kernel may be
/// made for it, and no rewrite may drop it for something that does not look.
pub fn is_proven(graph: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    matches!(node.op, Op::Param(_))
        || with_cx(graph, id, |op, cx| match op.infer(cx) {
            Ok(types) => op.settled(cx) && node.results.iter().zip(types).all(|(info, ty)| follows(op, &info.ty, ty)),
            Err(_) => false,
        })
}

/// Whether a declared type says no more of the extents than the inferred one.
pub(crate) fn follows(op: &Op, declared: &Type, ty: Type) -> bool {
    let is_static = |ty: &Type| ty.as_tensor().is_some_and(|t| t.static_shape().is_some());
    !is_static(declared) || is_static(&laid_out(op, declared, ty))
}

/// Whether a node's op takes its operands whatever their values are. See [`Semantics::settled`](crate::Semantics).
pub(crate) fn is_settled(graph: &Graph, id: NodeId) -> bool {
    with_cx(graph, id, |op, cx| op.settled(cx))
}

/// Calls `f` with a node's op and what inference may look at.
fn with_cx<T>(graph: &Graph, id: NodeId, f: impl FnOnce(&Op, &InferCx) -> T) -> T {
    let node = graph.node(id);
    let types: Vec<Option<&Type>> = node.operands.iter().map(|v| v.map(|v| graph.ty(v))).collect();
    let consts: Vec<Option<&Tensor>> = node.operands.iter().map(|v| graph.constant((*v)?)).collect();
    f(&node.op, &InferCx { types: &types, consts: &consts, regions: &node.regions })
}

/// Adds the place to an op's error.
pub(crate) fn at(graph: &Graph, id: NodeId, error: OpError) -> GraphError {
    let node = graph.node(id);
    let loc = if node.loc.is_empty() { format!("node {}", id.index()) } else { node.loc.join(", ") };
    GraphError { op: node.op.name().to_owned(), loc, error }
}
