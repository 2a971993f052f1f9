//! Regions of control-flow ops, and of those that wait for shapes, as models of their own: specialised to the shapes
//! that they are called with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use optc_ir::ops::kernel::{Deferred, Fused};
use optc_ir::{Decl, Graph, HostCall, OpError, Type, Val, Value};
use optc_native::{HostError, Regions};
use optc_runtime::{PlanBody, RunError};
use optc_types::{Callable, HostOp, HostText};

use crate::plan::Settings;

/// Sets of shapes for which a region is compiled. A loop that grows a tensor in each turn would compile in each turn:
/// beyond this many it is interpreted.
const MAX_SHAPES: usize = 4;
/// Sets of shapes of which it is noted whether the region is compiled for them.
const MAX_NOTED: usize = 256;
/// Elements that the ops of a deferred region read and write: fewer are interpreted in some ten microseconds, while a
/// plan takes some ten milliseconds to make.
const FEW: usize = 1 << 12;
/// More take longer to interpret than a plan takes to make, even if it is for one run.
const MANY: usize = 1 << 20;

/// A region that is compiled at its first call.
pub(crate) struct CompiledRegion {
    graph: Graph,
    settings: Arc<Settings>,
    /// Whether it is of an op that waits for shapes, not of control flow.
    deferred: bool,
    compiled: OnceLock<Result<Arc<dyn Callable>, RunError>>,
    /// What becomes of values of these types.
    noted: Mutex<HashMap<Vec<Type>, Worth>>,
}

/// Whether a set of shapes is worth a plan.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Worth {
    /// It is.
    Plan,
    /// If it comes again.
    Again,
    /// It is not.
    Nothing,
}

impl std::fmt::Debug for CompiledRegion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Region({})", self.graph.name)
    }
}

/// An op of the host. Its regions run as these plans, by their numbers, for values of the types that these take, and
/// are compiled at their first call for others. A fused region that no kernel takes is interpreted: to compile it would
/// fuse it again.
pub(crate) fn resolve(
    host: &HostText,
    plans: &Regions,
    settings: &Arc<Settings>,
) -> Result<Arc<dyn HostOp>, HostError> {
    let call = HostCall::parse(host, &|number, region| {
        if host.name == Fused::NAME {
            return Arc::new(region);
        }
        let dynamic = CompiledRegion::shared(region, settings.clone(), host.name == Deferred::NAME);
        match plans.get(&number) {
            Some(plan) => Arc::new(PlanBody::new(plan.clone(), settings.pool.clone(), dynamic)),
            None => dynamic,
        }
    })?;
    Ok(Arc::new(call))
}

impl CompiledRegion {
    fn shared(graph: Graph, settings: Arc<Settings>, deferred: bool) -> Arc<dyn Callable> {
        let (compiled, noted) = (OnceLock::new(), Mutex::default());
        Arc::new(CompiledRegion { graph, settings, deferred, compiled, noted })
    }

    /// Whether values of these types are worth a plan of their own.
    fn compiles_for(&self, values: &[Val]) -> bool {
        let types: Vec<Type> = values.iter().map(Val::ty).collect();
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let plans = noted.values().filter(|&&worth| worth == Worth::Plan).count();
        let worth = match noted.get(&types) {
            Some(Worth::Again) if plans < self.settings.options.cached_plans => Worth::Plan,
            Some(&worth) => worth,
            None => self.worth(&types, plans),
        };
        if noted.len() < MAX_NOTED || noted.contains_key(&types) {
            noted.insert(types, worth);
        }
        worth == Worth::Plan
    }

    /// What a new set of shapes is worth, after `plans` others have been compiled.
    fn worth(&self, types: &[Type], plans: usize) -> Worth {
        match self.deferred.then(|| elements(&self.graph, types)).flatten() {
            Some(..FEW) => Worth::Nothing,
            Some(MANY..) => Worth::Plan,
            _ if plans < MAX_SHAPES => Worth::Plan,
            _ if self.deferred => Worth::Again,
            _ => Worth::Nothing,
        }
    }
}

/// Elements that the ops of a graph read and write for inputs of these types; `None` where shapes stay open.
fn elements(graph: &Graph, types: &[Type]) -> Option<usize> {
    let mut graph = graph.clone();
    optc_passes::specialize(&mut graph, types).ok()?;
    let count = |v: Value| graph.ty(v).as_tensor()?.static_shape()?.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let mut sum = 0usize;
    for id in graph.ids().filter(|&id| !graph.node(id).operands.is_empty()) {
        let node = graph.node(id);
        let results = (0..node.results.len() as u32).map(|result| Value { node: id, result });
        for value in node.operands.iter().flatten().copied().chain(results) {
            sum = sum.saturating_add(count(value)?);
        }
    }
    Some(sum)
}

impl Callable for CompiledRegion {
    fn call(&self, values: &[Val]) -> Result<Vec<Val>, OpError> {
        if !self.compiles_for(values) {
            return self.graph.call(values);
        }
        let compile = || (self.settings.compile_region)(self.graph.clone(), self.settings.clone());
        self.compiled.get_or_init(compile).as_ref().map_err(|e| e.clone().inside())?.call(values)
    }
}

#[cfg(test)]
mod tests {
    use optc_ir::parse;
    use optc_tensor::{DType, Tensor};

    use super::*;
    use crate::{Compiler, TuningCache};

    fn region() -> CompiledRegion {
        let text = "func @rows(%x: tensor<?x64xf32>, %w: tensor<64x64xf32>) {
            %0 = math.matmul %x, %w : tensor<?x64xf32>
            return %0 as \"y\"
        }";
        let settings = Compiler::default().settings("O2", TuningCache::default()).unwrap();
        let (compiled, noted) = (OnceLock::new(), Mutex::default());
        CompiledRegion { graph: parse(text).unwrap(), settings, deferred: true, compiled, noted }
    }

    fn values(rows: usize) -> Vec<Val> {
        [[rows, 64], [64, 64]].map(|shape| Tensor::zeros(DType::F32, &shape).unwrap().into()).to_vec()
    }

    #[test]
    fn plans_are_made_for_a_few_shapes_and_those_that_come_again_or_are_large() {
        let region = region();
        let compiles = |rows: usize| region.compiles_for(&values(rows));
        assert!((1..=4).all(|rows| compiles(10 * rows)));
        assert_eq!([compiles(50), compiles(50), compiles(10), compiles(20_000)], [false, true, true, true]);
        assert_eq!(elements(&region.graph, &[values(10)[0].ty(), values(10)[1].ty()]), Some(10 * 64 * 2 + 64 * 64));
    }

    /// A kernel for it is declined late: it is looked at as a whole, and so is a region of its own in each compilation.
    #[test]
    fn a_fused_region_on_the_host_is_interpreted() {
        let text = "func @wide(%x: tensor<2x3xf64>) {
            %0 = kernel.fused %x : tensor<2x3xf64> region
            func @fused(%x: tensor<2x3xf64>) {
                %0 = nn.softmax %x {axis = 1} : tensor<2x3xf64>
                %1 = math.neg %0 : tensor<2x3xf64>
                return %1 as \"y\"
            }
            return %0 as \"y\"
        }";
        let graph = parse(text).unwrap();
        let x: Val = Tensor::from_f64(DType::F64, &[2, 3], &[0.0, 1.0, 2.0, -1.0, 0.5, 3.0]).unwrap().into();
        let expected = optc_ir::run(&graph, std::slice::from_ref(&x)).unwrap();
        let model = Compiler::default().compile_graph(graph).unwrap();
        assert_eq!(model.session().run_values(&[x]).unwrap(), expected);
    }

    #[test]
    fn what_is_small_is_interpreted_and_gives_the_same() {
        let text = "func @rows(%x: tensor<?xf32>) {
            %0 = math.relu %x : tensor<?xf32>
            return %0 as \"y\"
        }";
        let region = CompiledRegion { graph: parse(text).unwrap(), ..region() };
        for (n, compiled) in [(100, false), (10_000, true)] {
            let x = Tensor::from_slice(&[n], &vec![-1.0f32; n]).unwrap();
            let y = region.call(&[x.into()]).unwrap();
            assert_eq!(y[0].as_tensor().unwrap().as_slice::<f32>().unwrap(), vec![0.0; n]);
            assert_eq!(region.compiled.get().is_some(), compiled, "{n}");
        }
    }
}
