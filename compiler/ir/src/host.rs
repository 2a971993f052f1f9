//! Ops as the engine takes them: evaluated on the host by their reference implementations.

use std::sync::Arc;

use optc_types::{Callable, HostOp};

use crate::{Args, Graph, Op, OpError, Type, Val};

/// An op with everything that its evaluation needs beside its operands.
#[derive(Debug)]
pub struct HostCall {
    /// The op.
    pub op: Op,
    /// The results' types as the graph has them: a loop without a trip takes from here what it would have stacked.
    pub types: Vec<Type>,
    /// Its regions.
    pub regions: Vec<Arc<dyn Callable>>,
}

impl HostOp for HostCall {
    fn name(&self) -> &str {
        self.op.name()
    }

    fn eval(&self, operands: &[Option<Val>]) -> Result<Vec<Val>, OpError> {
        let call = |region: usize, values: &[Val]| match self.regions.get(region) {
            Some(region) => region.call(values),
            None => Err(OpError::Constraint { constraint: "regions", reason: "the op has no such region".to_owned() }),
        };
        self.op.eval(&Args { values: operands, types: &self.types, call: &call })
    }
}

/// A region that is interpreted.
impl Callable for Graph {
    fn call(&self, values: &[Val]) -> Result<Vec<Val>, OpError> {
        crate::run(self, values).map_err(|e| OpError::Region(Box::new(e)))
    }
}
