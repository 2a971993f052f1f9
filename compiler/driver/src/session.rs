//! Runs a model on one thread (and the workers of the model's pool).

use std::sync::{Arc, Mutex, PoisonError};

use optc_ir::{Graph, OpError, Val};
use optc_runtime::{Arena, Executor, Plan, RunError, Timings};
use optc_tensor::{Deadline, Draws, Tensor};
use optc_types::Callable;

use crate::cache::Lru;
use crate::plan::Settings;
use crate::{Error, Model};

/// The state of one thread that runs a model: arena, outputs, and an executor for each plan that it has used.
#[derive(Debug)]
pub struct Session {
    model: Model,
    executors: Lru<usize, Executor>,
    arena: Arena,
    seed: u64,
}

impl Model {
    /// A session: what one thread runs the model with.
    pub fn session(&self) -> Session {
        Session::new(self.clone())
    }
}

impl Session {
    fn new(model: Model) -> Session {
        let executors = Lru::new(model.cached_plans());
        Session { model, executors, arena: Arena::default(), seed: 0 }
    }

    /// Sets the seed of the random numbers that the next runs draw; 0 at first. Runs with one seed and the same inputs
    /// give the same results.
    pub fn set_seed(&mut self, seed: u64) {
        self.seed = seed;
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Runs the model on tensors by input name; gives the outputs by name, in order.
    ///
    /// # Errors
    /// An input is missing, unknown or does not fit, or an op refuses its operands.
    pub fn run(&mut self, inputs: &[(&str, Tensor)]) -> Result<Vec<(String, Val)>, Error> {
        let named: Vec<(&str, Val)> = inputs.iter().map(|(name, t)| (*name, t.clone().into())).collect();
        let outputs = self.run_values(&self.in_order(&named)?)?;
        Ok(self.model.outputs().iter().map(|o| o.name.clone()).zip(outputs).collect())
    }

    /// Values by input name in the order of the model's inputs.
    ///
    /// # Errors
    /// An input is missing or unknown.
    pub fn in_order(&self, named: &[(&str, Val)]) -> Result<Vec<Val>, Error> {
        let known = self.model.inputs();
        if let Some((name, _)) = named.iter().find(|(name, _)| !known.iter().any(|i| i.name == *name)) {
            let known = known.iter().map(|i| format!("`{}`", i.name)).collect::<Vec<_>>().join(", ");
            return Err(RunError::UnknownInput { name: (*name).to_owned(), known }.into());
        }
        let find = |name: &str| named.iter().find(|(n, _)| *n == name).map(|(_, v)| v.clone());
        let missing = |name: &str| Error::from(RunError::MissingInput(name.to_owned()));
        known.iter().map(|i| find(&i.name).ok_or_else(|| missing(&i.name))).collect()
    }

    /// Runs the model on one value per input, in order; gives one per output.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_values(&mut self, inputs: &[Val]) -> Result<Vec<Val>, Error> {
        self.run_timed(inputs, None)
    }

    /// [`Session::run_values`], which adds the time of every step of the plan to `timings`.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_timed(&mut self, inputs: &[Val], timings: Option<&mut Timings>) -> Result<Vec<Val>, Error> {
        self.check(inputs)?;
        let _memory = self.model.memory().enter();
        let _until = Deadline::after(self.model.time_limit()).enter();
        let _draws = Draws::enter(self.seed);
        let plan = self.model.plan_for_values(inputs)?.plan.clone();
        let key = Arc::as_ptr(&plan) as usize;
        let pool = self.model.pool().clone();
        // The key is the plan's address; an executor holds its plan, so the address cannot be used again meanwhile.
        if self.executors.get(&key).is_none() {
            self.executors.insert(key, Executor::new(plan));
        }
        match self.executors.get(&key) {
            Some(executor) => Ok(executor.run(inputs, &mut self.arena, &pool, timings)?),
            None => Ok(Vec::new()),
        }
    }

    fn check(&self, inputs: &[Val]) -> Result<(), Error> {
        let known = self.model.inputs();
        if known.len() != inputs.len() {
            return Err(RunError::InputCount { expected: known.len(), found: inputs.len() }.into());
        }
        for (info, value) in known.iter().zip(inputs) {
            let found = value.ty();
            if !info.ty.admits(&found) {
                return Err(RunError::InputType { name: info.name.clone(), found, expected: info.ty.clone() }.into());
            }
        }
        Ok(())
    }

    /// The plan that the last run used, if it is known: for reports.
    ///
    /// # Errors
    /// As [`Model::plan_for`].
    pub fn plan(&self, inputs: &[Val]) -> Result<Arc<Plan>, Error> {
        Ok(self.model.plan_for_values(inputs)?.plan.clone())
    }
}

/// A model that several threads call, and sessions of it that are not in use.
struct SharedModel {
    model: Model,
    free: Mutex<Vec<Session>>,
}

impl std::fmt::Debug for SharedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SharedModel({})", self.model.name())
    }
}

impl Callable for SharedModel {
    fn call(&self, values: &[Val]) -> Result<Vec<Val>, OpError> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut session = free.unwrap_or_else(|| self.model.session());
        let outputs = session.run_values(values).map_err(|e| match e {
            Error::Run(e) => e.inside(),
            other => OpError::Constraint { constraint: "region", reason: other.to_string() },
        });
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        outputs
    }
}

/// A region as a model of its own.
pub(crate) fn compile_region(graph: Graph, settings: Arc<Settings>) -> Result<Arc<dyn Callable>, RunError> {
    let model = Model::new(graph, settings).map_err(|e| RunError::Specialize(e.to_string()))?;
    Ok(Arc::new(SharedModel { model, free: Mutex::default() }))
}
