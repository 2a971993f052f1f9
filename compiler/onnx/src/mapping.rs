//! What a mapping of an ONNX op works with, and why it may fail.

use optc_ir::ops::tensor::Constant;
use optc_ir::{Const, Graph, InferCx, Op, OpError, Type, Value};
use optc_tensor::Tensor;

use crate::Diagnostic;
use crate::attributes::{AttributeError, Attributes};
use crate::model::ModelFile;
use crate::proto::NodeProto;

/// Why a node could not be mapped.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// An attribute cannot be used.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    /// The IR op refuses its operands or attributes.
    #[error(transparent)]
    Op(#[from] OpError),
    /// A tensor cannot be made.
    #[error(transparent)]
    Tensor(#[from] optc_tensor::TensorError),
    /// An input that the op needs is absent.
    #[error("input {0} is missing")]
    Input(usize),
    /// The node has more results than the op gives.
    #[error("the node has {found} outputs, expected at most {expected}")]
    Outputs {
        /// Results of the op.
        expected: usize,
        /// Outputs of the node.
        found: usize,
    },
    /// The node is wrong in another way.
    #[error("{0}")]
    Invalid(String),
    /// The mapping needs more of the operands' types than is known: the node waits for it. See
    /// [`waiting`](crate::ops::waiting).
    #[error("{0}")]
    Open(String),
    /// The node is right, but this use of the op is not supported.
    #[error("{0}")]
    Unsupported(String),
}

impl MapError {
    pub(crate) fn into_diagnostic(self) -> Diagnostic {
        match &self {
            MapError::Unsupported(_) | MapError::Open(_) => Diagnostic::unsupported("import", self.to_string()),
            MapError::Attribute(AttributeError::Tensor(_, e)) if e.is_unsupported() => {
                Diagnostic::unsupported("import", self.to_string())
            }
            _ => Diagnostic::new("import", self.to_string()),
        }
    }
}

/// Adds a constant of this name.
pub(crate) fn add_constant(graph: &mut Graph, tensor: Tensor, name: &str) -> Value {
    let ty = optc_ir::TensorType::fixed(tensor.dtype(), tensor.shape());
    let node = graph.add(Constant { value: Const(tensor), zeros: 0 }, &[], vec![ty.into()]);
    if !name.is_empty() {
        graph.node_mut(node).loc.push(name.to_owned());
    }
    Value { node, result: 0 }
}

/// The tensor of a constant.
pub(crate) fn constant_of(graph: &Graph, value: Value) -> Option<&Tensor> {
    if let Op::Constant(c) = &graph.node(value.node).op { Some(&c.value.0) } else { None }
}

/// One node on its way into the graph: what a mapping works with.
pub struct NodeCx<'a> {
    /// The ONNX node.
    pub node: &'a NodeProto,
    /// Its attributes.
    pub attrs: Attributes<'a>,
    /// Its inputs; `None` for absent ones.
    pub inputs: Vec<Option<Value>>,
    /// The version of the operator set that the op is from.
    pub opset: i64,
    pub(crate) file: &'a ModelFile,
    pub(crate) graph: &'a mut Graph,
    pub(crate) loc: String,
}

impl NodeCx<'_> {
    /// Input `i`, which must be there.
    ///
    /// # Errors
    /// It is absent.
    pub fn input(&self, i: usize) -> Result<Value, MapError> {
        self.optional(i).ok_or(MapError::Input(i))
    }

    /// Input `i`, if it is there.
    pub fn optional(&self, i: usize) -> Option<Value> {
        self.inputs.get(i).copied().flatten()
    }

    /// The type of a value.
    pub fn ty(&self, value: Value) -> &Type {
        self.graph.ty(value)
    }

    /// The dtype of a tensor value.
    ///
    /// # Errors
    /// It is not a tensor.
    pub fn dtype(&self, value: Value) -> Result<optc_tensor::DType, MapError> {
        let tensor = self.ty(value).as_tensor();
        Ok(tensor.ok_or_else(|| MapError::Invalid("an input is not a tensor".to_owned()))?.dtype)
    }

    /// The value as a compile-time constant, if it is one.
    pub fn constant_of(&self, value: Value) -> Option<&Tensor> {
        constant_of(self.graph, value)
    }

    /// Adds a constant.
    pub fn constant(&mut self, tensor: Tensor) -> Value {
        add_constant(self.graph, tensor, &self.loc)
    }

    /// The node's tensor when it is a `Constant` node.
    ///
    /// # Errors
    /// No spelling of the value is given, or the tensor cannot be read.
    pub fn constant_attribute(&self) -> Result<Tensor, MapError> {
        Ok(self.attrs.constant(&self.file.files)?)
    }

    /// A tensor attribute.
    ///
    /// # Errors
    /// The attribute is of another type, or the tensor cannot be read.
    pub fn tensor_attribute(&self, name: &str) -> Result<Option<Tensor>, MapError> {
        Ok(self.attrs.tensor(name, &self.file.files)?)
    }

    /// Adds an IR op with inferred types and the node's name; returns its results.
    ///
    /// # Errors
    /// The op refuses its operands.
    pub fn emit(&mut self, op: impl Into<Op>, operands: &[Option<Value>]) -> Result<Vec<Value>, MapError> {
        let op = op.into();
        let types: Vec<_> = operands.iter().map(|v| v.map(|v| self.graph.ty(v))).collect();
        let consts: Vec<_> = operands.iter().map(|v| self.constant_of((*v)?)).collect();
        let types = op.infer(&InferCx { types: &types, consts: &consts, regions: &[] })?;
        let count = types.len() as u32;
        let node = self.graph.add(op, operands, types);
        self.graph.node_mut(node).loc.push(self.loc.clone());
        Ok((0..count).map(|result| Value { node, result }).collect())
    }

    /// Adds an IR op with one result and operands that are all there.
    ///
    /// # Errors
    /// The op refuses its operands.
    pub fn emit1(&mut self, op: impl Into<Op>, operands: &[Value]) -> Result<Value, MapError> {
        let operands: Vec<_> = operands.iter().map(|&v| Some(v)).collect();
        let results = self.emit(op, &operands)?;
        results.first().copied().ok_or_else(|| MapError::Invalid("the op has no result".to_owned()))
    }
}
