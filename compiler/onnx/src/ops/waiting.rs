//! Nodes whose mapping needs more of their operands' types than a model says, such as `auto_pad` over open extents.
//!
//! Such a node becomes a [`CustomCall`] in the domain `ai.onnx` that carries its attributes. When the shapes of a run
//! are known, `fold-constants` puts what the mapping makes of the node in its place; interpreted, it is mapped for the
//! operands at hand.

use std::sync::{Arc, Once};

use optc_ir::ops::custom::{CustomCall, CustomError, CustomOp, CustomOperands, register_custom_op};
use optc_ir::{Attr, Dim, Graph, TensorType, Type, Val};
use optc_tensor::DType;
use prost::Message;

use super::Mapped;
use super::custom::attributes;
use crate::export::call_attributes;
use crate::import::import_known;
use crate::mapping::{MapError, NodeCx};
use crate::model::ModelFile;
use crate::proto::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto};
use crate::{Diagnostic, DiagnosticKind, write_type};

/// The domain of nodes that wait: the standard's own, by its other name.
pub(crate) const WAITING: &str = "ai.onnx";
/// The attribute that says how many results the node has.
const RESULTS: &str = "results";
/// The version of the format that a single node is written in.
const IR_VERSION: i64 = 8;

/// Makes the ops of the standard known as custom ops, for graphs whose nodes wait.
pub fn register_waiting() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for op in super::standard() {
            // Names that stand in two tables are one op.
            let _ = register_custom_op(WAITING, op, Arc::new(WaitingNode));
        }
    });
}

/// The node as a call that waits.
pub(crate) fn call(cx: &mut NodeCx) -> Mapped {
    register_waiting();
    let mut attributes = attributes(cx)?;
    if attributes.iter().any(|(name, _)| name == RESULTS) {
        return Err(MapError::Invalid(format!("unknown attribute `{RESULTS}`")));
    }
    let results = cx.node.output.iter().rposition(|name| !name.is_empty()).map_or(1, |i| i + 1);
    attributes.push((RESULTS.to_owned(), Attr::Int(results as i64)));
    let call = CustomCall::new(WAITING, cx.node.op_type(), cx.opset, attributes)?;
    let operands = cx.inputs.clone();
    cx.emit(call, &operands)
}

/// A node of the standard that waits.
struct WaitingNode;

impl CustomOp for WaitingNode {
    fn infer(&self, call: &CustomCall, operands: &CustomOperands) -> Result<Vec<Type>, CustomError> {
        Ok(match self.expand(call, operands)? {
            Some(graph) => graph.outputs.iter().map(|o| graph.ty(o.value).clone()).collect(),
            None => (0..results(call)).map(|i| likely(call, operands, i)).collect::<Result<_, _>>()?,
        })
    }

    fn eval(&self, call: &CustomCall, operands: &[Option<Val>]) -> Result<Vec<Val>, CustomError> {
        let types: Vec<Option<Type>> = operands.iter().map(|v| v.as_ref().map(Val::ty)).collect();
        let types: Vec<Option<&Type>> = types.iter().map(Option::as_ref).collect();
        let constants = vec![None; types.len()];
        let graph = mapped(call, &CustomOperands { types: &types, constants: &constants })?;
        let present: Vec<Val> = operands.iter().flatten().cloned().collect();
        Ok(optc_ir::run(&graph, &present)?)
    }

    fn expand(&self, call: &CustomCall, operands: &CustomOperands) -> Result<Option<Graph>, CustomError> {
        match mapped(call, operands) {
            Ok(graph) => Ok(Some(graph)),
            // Its types are not known well enough yet.
            Err(error) if error.kind() == DiagnosticKind::Unsupported => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// What the mapping makes of the node for operands of these types.
fn mapped(call: &CustomCall, operands: &CustomOperands) -> Result<Graph, Diagnostic> {
    import_known(&ModelFile::from_bytes(&model(call, operands).encode_to_vec())?)
}

fn results(call: &CustomCall) -> usize {
    call.attribute_as::<i64>(RESULTS).and_then(|n| usize::try_from(n).ok()).unwrap_or(1)
}

/// The attributes of the node.
pub(crate) fn own_attributes(call: &CustomCall) -> Vec<(String, Attr)> {
    call.attributes.iter().filter(|(name, _)| name != RESULTS).cloned().collect()
}

/// A model of the node alone, whose inputs are the operands that are there.
fn model(call: &CustomCall, operands: &CustomOperands) -> ModelProto {
    let info = |name: String, ty: Option<&Type>| ValueInfoProto {
        name: Some(name),
        r#type: ty.map(write_type),
        ..ValueInfoProto::default()
    };
    let inputs: Vec<(String, Option<&Type>)> = operands
        .types
        .iter()
        .enumerate()
        .map(|(i, ty)| match ty {
            Some(ty) => (format!("x{i}"), Some(*ty)),
            None => (String::new(), None),
        })
        .collect();
    let outputs: Vec<String> = (0..results(call)).map(|i| format!("y{i}")).collect();
    let node = NodeProto {
        op_type: Some(call.name.clone()),
        input: inputs.iter().map(|(name, _)| name.clone()).collect(),
        output: outputs.clone(),
        attribute: call_attributes(&own_attributes(call)),
        ..NodeProto::default()
    };
    let graph = GraphProto {
        name: Some("waiting".to_owned()),
        node: vec![node],
        input: inputs.into_iter().filter(|(name, _)| !name.is_empty()).map(|(name, ty)| info(name, ty)).collect(),
        output: outputs.into_iter().map(|name| info(name, None)).collect(),
        ..GraphProto::default()
    };
    let opset = OperatorSetIdProto { domain: None, version: Some(call.version) };
    ModelProto { ir_version: Some(IR_VERSION), opset_import: vec![opset], graph: Some(graph), ..ModelProto::default() }
}

/// What is known of result `i` while the node waits.
fn likely(call: &CustomCall, operands: &CustomOperands, i: usize) -> Result<Type, CustomError> {
    let operand = |slot: usize| operands.types.get(slot).copied().flatten().and_then(Type::as_tensor);
    let x = operand(0).ok_or("its first operand is not a tensor")?;
    let dtype = match (call.name.as_str(), i) {
        ("MaxPool", 1) => DType::I64,
        ("ConvInteger", _) => DType::I32,
        ("QLinearConv", _) => operand(7).ok_or("it has no zero point")?.dtype,
        _ => x.dtype,
    };
    let window = ["Conv", "ConvInteger", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"].contains(&&*call.name);
    let shape = x.shape.as_ref().filter(|shape| window && !shape.is_empty()).map(|shape| {
        let rest = shape.iter().skip(1).map(|_| Dim::Unknown);
        std::iter::once(shape[0].clone()).chain(rest).collect()
    });
    Ok(TensorType::of(dtype, shape).into())
}
