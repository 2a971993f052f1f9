//! Regions of control flow as plans.

use std::sync::{Arc, Mutex, PoisonError};

use optc_types::{Callable, OpError, Val};

use crate::{Arena, Executor, Plan, RunError, ThreadPool};

/// A region that runs as a plan where the values have the types of the plan's inputs, else as something else.
#[derive(Debug)]
pub struct PlanBody {
    plan: Arc<Plan>,
    pool: Arc<ThreadPool>,
    otherwise: Arc<dyn Callable>,
    /// What runs used that have ended.
    free: Mutex<Vec<(Executor, Arena)>>,
}

impl PlanBody {
    /// A region with this plan.
    pub fn new(plan: Arc<Plan>, pool: Arc<ThreadPool>, otherwise: Arc<dyn Callable>) -> PlanBody {
        PlanBody { plan, pool, otherwise, free: Mutex::default() }
    }

    /// Whether the plan takes these values.
    fn takes(&self, values: &[Val]) -> bool {
        let inputs = &self.plan.flow.inputs;
        inputs.len() == values.len() && inputs.iter().zip(values).all(|(port, value)| port.ty == value.ty())
    }
}

impl Callable for PlanBody {
    fn call(&self, values: &[Val]) -> Result<Vec<Val>, OpError> {
        if !self.takes(values) {
            return self.otherwise.call(values);
        }
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let (mut executor, mut arena) = free.unwrap_or_else(|| (Executor::new(self.plan.clone()), Arena::default()));
        let outputs = executor.run(values, &mut arena, &self.pool, None).map_err(RunError::inside);
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push((executor, arena));
        outputs
    }
}
