//! Regions of control-flow ops as models of their own: specialised to the shapes that they are called with.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use optc_ir::{Graph, GraphError, OpError, Type, Val};
use optc_runtime::RunError;
use optc_types::Callable;

use crate::model::Settings;
use crate::{Error, Model, Session};

/// Sets of shapes for which a region is compiled. A loop that grows a tensor in each turn would compile in each turn: beyond
/// this many it is interpreted.
const MAX_SHAPES: usize = 4;

/// A region that is compiled at its first call.
pub(crate) struct Region {
    graph: Graph,
    settings: Arc<Settings>,
    model: OnceLock<Result<Model, RunError>>,
    /// Sessions that are not in use.
    sessions: Mutex<Vec<Session>>,
    seen: Mutex<HashSet<Vec<Type>>>,
}

impl std::fmt::Debug for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Region({})", self.graph.name)
    }
}

impl Region {
    pub fn shared(graph: Graph, settings: Arc<Settings>) -> Arc<dyn Callable> {
        Arc::new(Region { graph, settings, model: OnceLock::new(), sessions: Mutex::default(), seen: Mutex::default() })
    }

    /// Whether values of these types are worth a plan of their own.
    fn compiles_for(&self, values: &[Val]) -> bool {
        let types: Vec<Type> = values.iter().map(Val::ty).collect();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.contains(&types) || (seen.len() < MAX_SHAPES && seen.insert(types))
    }
}

impl Callable for Region {
    fn call(&self, values: &[Val]) -> Result<Vec<Val>, OpError> {
        if !self.compiles_for(values) {
            return self.graph.call(values);
        }
        let model = self.model.get_or_init(|| {
            Model::new(self.graph.clone(), self.settings.clone()).map_err(|e| RunError::Specialize(e.to_string()))
        });
        let model = model.as_ref().map_err(|e| inside(e.clone()))?;
        let free = self.sessions.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut session = free.unwrap_or_else(|| model.session());
        let outputs = session.run_values(values).map_err(|e| match e {
            Error::Run(e) => inside(e),
            other => refused(&other),
        });
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        outputs
    }
}

/// A failed run, as the op that has the region tells of it.
fn inside(error: RunError) -> OpError {
    match error {
        RunError::Op { op, loc, error } => OpError::Region(Box::new(GraphError { op, loc, error: *error })),
        RunError::Time(e) => e.into(),
        RunError::Memory(e) => e.into(),
        other => refused(&other),
    }
}

fn refused(why: &dyn std::error::Error) -> OpError {
    OpError::Constraint { constraint: "region", reason: why.to_string() }
}
