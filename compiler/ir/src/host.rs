//! Ops as the engine takes them: evaluated on the host by their reference implementations.

use std::sync::Arc;

use optc_tensor::{TensorMut, TensorRef};
use optc_types::{Callable, HostOp, HostText};

use crate::{
    Args, Graph, NodeId, Op, OpError, Operands, Output, ParseError, Printed, Type, Val, Value, parse_with, print,
};

/// An op with everything that its evaluation needs besides its operands.
#[derive(Debug)]
pub struct HostCall {
    /// The op.
    pub op: Op,
    /// The results' types as the graph has them: a loop without a trip takes from here what it would have stacked.
    pub types: Vec<Type>,
    /// Its regions.
    pub regions: Vec<Arc<dyn Callable>>,
}

impl HostCall {
    /// An op of a graph as text: a graph of its own whose inputs are the op's operands, in plain layouts, and whose
    /// outputs are its results.
    pub fn print(graph: &Graph, id: NodeId) -> HostText {
        let node = graph.node(id);
        let mut alone = Graph::new("host");
        let operands: Vec<Option<Value>> = node
            .operands
            .iter()
            .enumerate()
            .map(|(i, operand)| operand.map(|value| alone.add_input(&format!("x{i}"), graph.ty(value).plain())))
            .collect();
        let types = node.results.iter().map(|r| r.ty.plain()).collect();
        let op = alone.add(node.op.clone(), &operands, types);
        alone.node_mut(op).regions.clone_from(&node.regions);
        for result in 0..node.results.len() as u32 {
            alone.outputs.push(Output { name: format!("y{result}"), value: Value { node: op, result } });
        }
        let Printed { text, constants } = print(&alone);
        HostText { name: node.op.name().to_owned(), text, constants }
    }

    /// What [`HostCall::print`] printed, with what `body` makes of each of its regions, whose number it gets.
    ///
    /// # Errors
    /// The text is not a graph of one op.
    pub fn parse(host: &HostText, body: &dyn Fn(usize, Graph) -> Arc<dyn Callable>) -> Result<HostCall, ParseError> {
        let mut graph = parse_with(&host.text, &host.constants.iter().cloned().collect())?;
        let ops: Vec<NodeId> = graph.ids().filter(|&id| !matches!(graph.node(id).op, Op::Param(_))).collect();
        let one = match &ops[..] {
            &[id] => graph.remove(id),
            _ => None,
        };
        let message = || format!("expected a graph of one op, `{}`", host.name);
        let node = one.ok_or_else(|| ParseError { line: 1, column: 1, message: message() })?;
        let types = node.results.into_iter().map(|r| r.ty).collect();
        let regions = node.regions.into_iter().enumerate().map(|(i, region)| body(i, region));
        Ok(HostCall { op: node.op, types, regions: regions.collect() })
    }
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

    fn eval_into(&self, operands: &[Option<TensorRef>], results: &mut [TensorMut]) -> Result<bool, OpError> {
        self.op.eval_into(&Operands(operands), results)
    }
}

/// A region that is interpreted.
impl Callable for Graph {
    fn call(&self, values: &[Val]) -> Result<Vec<Val>, OpError> {
        crate::run(self, values).map_err(|e| OpError::Region(Box::new(e)))
    }
}
