//! Regions of control-flow ops as models of their own: specialised to the shapes that they are called with.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use optc_ir::{Graph, HostCall, OpError, Type, Val};
use optc_native::{HostError, Regions};
use optc_runtime::{PlanBody, RunError};
use optc_types::{Callable, HostOp, HostText};

use crate::plan::Settings;

/// Sets of shapes for which a region is compiled. A loop that grows a tensor in each turn would compile in each turn:
/// beyond this many it is interpreted.
const MAX_SHAPES: usize = 4;

/// A region that is compiled at its first call.
pub(crate) struct CompiledRegion {
    graph: Graph,
    settings: Arc<Settings>,
    compiled: OnceLock<Result<Arc<dyn Callable>, RunError>>,
    seen: Mutex<HashSet<Vec<Type>>>,
}

impl std::fmt::Debug for CompiledRegion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Region({})", self.graph.name)
    }
}

/// An op of the host. Its regions run as these plans, by their numbers, for values of the types that these take, and
/// are compiled at their first call for others.
pub(crate) fn resolve(
    host: &HostText,
    plans: &Regions,
    settings: &Arc<Settings>,
) -> Result<Arc<dyn HostOp>, HostError> {
    let call = HostCall::parse(host, &|number, region| {
        let dynamic = CompiledRegion::shared(region, settings.clone());
        match plans.get(&number) {
            Some(plan) => Arc::new(PlanBody::new(plan.clone(), settings.pool.clone(), dynamic)),
            None => dynamic,
        }
    })?;
    Ok(Arc::new(call))
}

impl CompiledRegion {
    fn shared(graph: Graph, settings: Arc<Settings>) -> Arc<dyn Callable> {
        Arc::new(CompiledRegion { graph, settings, compiled: OnceLock::new(), seen: Mutex::default() })
    }

    /// Whether values of these types are worth a plan of their own.
    fn compiles_for(&self, values: &[Val]) -> bool {
        let types: Vec<Type> = values.iter().map(Val::ty).collect();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.contains(&types) || (seen.len() < MAX_SHAPES && seen.insert(types))
    }
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
