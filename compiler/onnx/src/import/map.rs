//! `SequenceMap`: written out as a loop over the positions of its first sequence.

use optc_ir::{Type, Value};

use super::importer::{Importer, NameScope};
use crate::Diagnostic;
use crate::attributes::Attributes;
use crate::proto::attribute_proto::AttributeType;
use crate::proto::{AttributeProto, GraphProto, NodeProto, ValueInfoProto, type_proto};

/// A name that no model has: `kind` and a number after a control character.
fn own(kind: &str, i: usize) -> String {
    format!("\u{1}{kind}{i}")
}

fn node(op: &str, inputs: &[String], output: &str) -> NodeProto {
    NodeProto {
        op_type: Some(op.to_owned()),
        input: inputs.to_vec(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}

fn info(name: String) -> ValueInfoProto {
    ValueInfoProto { name: Some(name), ..ValueInfoProto::default() }
}

impl Importer<'_> {
    /// Imports a `SequenceMap` as `Loop`, `SequenceAt` and `SequenceInsert`.
    pub(super) fn sequence_map(
        &mut self,
        call: &NodeProto,
        attrs: &Attributes,
        scope: &NameScope,
    ) -> Result<Vec<Value>, Diagnostic> {
        let body = attrs.graph("body").map_err(|e| Diagnostic::new("import", e.to_string()))?;
        if body.input.len() != call.input.len() || call.input.is_empty() {
            return Err(Diagnostic::new("import", "the body must have one input for each input of the node"));
        }
        let mut inner = scope.inner()?;
        inner.values.clone_from(&scope.values);
        let mut nodes = vec![node("SequenceLength", &[own("in", 0)], &own("length", 0))];
        let mut steps = vec![];
        for (k, (outer, param)) in call.input.iter().zip(&body.input).enumerate() {
            let value = scope.get(outer);
            inner.values.insert(own("in", k), value);
            let sequence = value.is_some_and(|v| matches!(self.graph.ty(v), Type::Sequence(_)));
            steps.push(match sequence {
                true => node("SequenceAt", &[own("in", k), own("i", 0)], param.name()),
                false => node("Identity", &[own("in", k)], param.name()),
            });
        }
        steps.extend(body.node.iter().cloned());
        let mut inputs = vec![own("length", 0), String::new()];
        for (k, output) in body.output.iter().enumerate() {
            let mut empty = node("SequenceEmpty", &[], &own("empty", k));
            empty.attribute.push(dtype_of(output)?);
            nodes.push(empty);
            inputs.push(own("empty", k));
            steps.push(node("SequenceInsert", &[own("so_far", k), output.name().to_owned()], &own("more", k)));
        }
        let count = body.output.len();
        let params = [own("i", 0), own("go", 0)].into_iter().chain((0..count).map(|k| own("so_far", k)));
        let results = [own("go", 0)].into_iter().chain((0..count).map(|k| own("more", k)));
        let repeated = GraphProto {
            input: params.map(info).collect(),
            output: results.map(info).collect(),
            node: steps,
            ..body.clone()
        };
        let mut repeat = node("Loop", &inputs, "");
        repeat.output = (0..count).map(|k| own("mapped", k)).collect();
        repeat.name = call.name.clone();
        repeat.attribute.push(AttributeProto {
            name: Some("body".to_owned()),
            r#type: Some(AttributeType::Graph as i32),
            g: Some(repeated),
            ..AttributeProto::default()
        });
        nodes.push(repeat);
        self.walk(&nodes, &mut inner)?;
        let missing = || Diagnostic::new("import", "the body gives no result");
        (0..count).map(|k| inner.get(&own("mapped", k)).ok_or_else(missing)).collect()
    }
}

/// The `dtype` attribute of the empty sequence that an output of the body goes into.
fn dtype_of(output: &ValueInfoProto) -> Result<AttributeProto, Diagnostic> {
    let code = match output.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(type_proto::Value::TensorType(t)) => t.elem_type(),
        _ => {
            let reason = format!("output `{}` of the body has no declared tensor type", output.name());
            return Err(Diagnostic::unsupported("import", reason));
        }
    };
    Ok(AttributeProto {
        name: Some("dtype".to_owned()),
        r#type: Some(AttributeType::Int as i32),
        i: Some(i64::from(code)),
        ..AttributeProto::default()
    })
}
