//! Ops that run without a kernel, as the engine sees them: something that takes values and gives values.

use std::fmt::Debug;

use optc_tensor::{Tensor, TensorMut, TensorRef};

use crate::{OpError, Val};

/// An op that is evaluated on the host, in a step of a loaded plan. The IR implements it by the reference evaluations
/// of its ops, so that the engine knows no op.
pub trait HostOp: Send + Sync + Debug {
    /// The op's name, for errors.
    fn name(&self) -> &str;

    /// One value for each result, of one value for each operand; `None` for those that are absent.
    ///
    /// # Errors
    /// The op refuses its operands, or there is no memory or time for its work.
    fn eval(&self, operands: &[Option<Val>]) -> Result<Vec<Val>, OpError>;

    /// The same for tensors that lie in memory already, into memory for the results: nothing is copied. Whether it was
    /// done: `false` where the op cannot do so, or not for these dtypes and shapes; [`eval`](HostOp::eval) then says
    /// what is to be said. Before that, and after an error, results hold any bytes.
    ///
    /// # Errors
    /// As [`eval`](HostOp::eval).
    fn eval_into(&self, _operands: &[Option<TensorRef>], _results: &mut [TensorMut]) -> Result<bool, OpError> {
        Ok(false)
    }
}

/// An op that runs without a kernel, as a program says it: a graph of that one op in the text form of the IR, with its
/// regions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostText {
    /// The op's name.
    pub name: String,
    /// The graph.
    pub text: String,
    /// The constants of its regions that are not in the text, by symbol.
    pub constants: Vec<(String, Tensor)>,
}

/// The body of a control-flow op.
pub trait Callable: Send + Sync + Debug {
    /// One value for each output, of one value for each parameter.
    ///
    /// # Errors
    /// The values do not fit, an op refuses its operands, or there is no memory or time for them.
    fn call(&self, values: &[Val]) -> Result<Vec<Val>, OpError>;
}
