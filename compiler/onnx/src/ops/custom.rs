//! Ops that the application registered: nodes of domains and names that no table has.

use optc_ir::ops::custom::{CustomCall, custom_op};
use optc_ir::{Attr, Const, Real};

use super::Mapped;
use crate::attributes::AttributeError;
use crate::mapping::{MapError, NodeCx};
use crate::proto::attribute_proto::AttributeType;

/// Whether an op of this domain and name is registered.
pub(crate) fn is_registered(domain: &str, op: &str) -> bool {
    custom_op(domain, op).is_some()
}

/// All attributes of a node.
pub(super) fn attributes(cx: &NodeCx) -> Result<Vec<(String, Attr)>, MapError> {
    cx.attrs.names().into_iter().map(|name| Ok((name.clone(), attribute(cx, &name)?))).collect()
}

/// A call of the registered op, with all attributes of the node.
pub(crate) fn call(cx: &mut NodeCx) -> Mapped {
    let attributes = attributes(cx)?;
    let (domain, name) = (cx.node.domain().to_owned(), cx.node.op_type().to_owned());
    let call = CustomCall::new(&domain, &name, cx.opset, attributes)?;
    let operands = cx.inputs.clone();
    cx.emit(call, &operands)
}

fn attribute(cx: &NodeCx, name: &str) -> Result<Attr, MapError> {
    let missing = || AttributeError::Missing(name.to_owned());
    let raw = cx.attrs.raw(name).ok_or_else(missing)?;
    let attrs = &cx.attrs;
    Ok(match raw.r#type() {
        AttributeType::Int => Attr::Int(attrs.int(name)?.ok_or_else(missing)?),
        AttributeType::Float => Attr::Real(Real(attrs.float(name)?.ok_or_else(missing)?)),
        AttributeType::String => Attr::Str(attrs.string(name)?.ok_or_else(missing)?),
        AttributeType::Ints => Attr::Ints(attrs.ints(name)?.ok_or_else(missing)?),
        AttributeType::Floats => Attr::Reals(attrs.floats(name)?.ok_or_else(missing)?.into_iter().map(Real).collect()),
        AttributeType::Strings => Attr::Strs(attrs.strings(name)?.ok_or_else(missing)?),
        AttributeType::Tensor => Attr::Const(Const(cx.tensor_attribute(name)?.ok_or_else(missing)?)),
        other => {
            let kind = other.as_str_name();
            return Err(MapError::Unsupported(format!("attribute `{name}` of a custom op is a {kind}")));
        }
    })
}
