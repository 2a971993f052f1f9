//! `FlexAttention`: attention whose scores and probabilities go through subgraphs of the node, which are written out
//! between its products.

use optc_ir::ops::nn::{self, AttentionScores};
use optc_ir::ops::{math, tensor};
use optc_ir::{Real, Value};
use optc_tensor::{DType, Tensor};

use super::importer::{Importer, NameScope};
use crate::Diagnostic;
use crate::attributes::Attributes;
use crate::mapping::{MapError, NodeCx};
use crate::model::label;
use crate::ops::dtype_attribute;
use crate::proto::{GraphProto, NodeProto};

fn bad(reason: impl Into<String>) -> Diagnostic {
    Diagnostic::new("import", reason)
}

/// Queries, keys or values.
struct Operand {
    value: Value,
    /// Its number of heads.
    heads: usize,
    /// Its last extent.
    size: usize,
}

impl Operand {
    /// Input `i` of the node.
    fn of(cx: &NodeCx, i: usize) -> Result<Operand, MapError> {
        let value = cx.input(i)?;
        let ty = cx.ty(value).as_tensor().ok_or_else(|| MapError::Invalid(format!("input {i} is not a tensor")))?;
        let known = ty.shape.as_ref().and_then(|shape| match &shape[..] {
            [_, heads, _, size] => Some((heads.known()?, size.known()?)),
            _ => None,
        });
        let unknown = || format!("input {i} is {ty}, expected four dims, with known heads and a known last extent");
        let (heads, size) = known.ok_or_else(|| MapError::Unsupported(unknown()))?;
        Ok(Operand { value, heads, size })
    }

    /// Each head `times` times, one after the other.
    fn repeated(&self, cx: &mut NodeCx, times: usize) -> Result<Value, MapError> {
        if times == 1 {
            return Ok(self.value);
        }
        let heads: Vec<i64> = (0..self.heads * times).map(|head| (head / times) as i64).collect();
        let heads = cx.constant(Tensor::from_slice(&[heads.len()], &heads)?);
        cx.emit1(tensor::Gather { axis: 1 }, &[self.value, heads])
    }
}

impl Importer<'_> {
    /// Imports a `FlexAttention`; without subgraphs it is an attention like others.
    pub(super) fn flex_attention(
        &mut self,
        node: &NodeProto,
        attrs: &Attributes,
        scope: &NameScope,
    ) -> Result<Vec<Value>, Diagnostic> {
        let subgraph = |name: &str| match attrs.has(name) {
            true => attrs.graph(name).map(Some).map_err(|e| bad(e.to_string())),
            false => Ok(None),
        };
        let (score_mod, prob_mod) = (subgraph("score_mod")?, subgraph("prob_mod")?);
        attrs.ignore(&["scale", "softmax_precision"]); // read with the rest
        if score_mod.is_none() && prob_mod.is_none() {
            return self.emitted(node, scope, plain).map(|y| vec![y]).map_err(MapError::into_diagnostic);
        }
        let mut value = self.emitted(node, scope, scores).map_err(MapError::into_diagnostic)?;
        if let Some(body) = score_mod {
            value = self.modified(body, value, scope)?;
        }
        let softmax = |cx: &mut NodeCx| cx.emit1(nn::Softmax { axis: -1, log: false }, &[value]);
        value = self.emitted(node, scope, softmax).map_err(MapError::into_diagnostic)?;
        if let Some(body) = prob_mod {
            value = self.modified(body, value, scope)?;
        }
        let y = self.emitted(node, scope, |cx| weighted(cx, value)).map_err(MapError::into_diagnostic)?;
        Ok(vec![y])
    }

    /// What `emit` adds for the node.
    fn emitted(
        &mut self,
        node: &NodeProto,
        scope: &NameScope,
        emit: impl FnOnce(&mut NodeCx) -> Result<Value, MapError>,
    ) -> Result<Value, MapError> {
        let attrs = Attributes::of(node, scope.bindings)?;
        let inputs = node.input.iter().map(|name| scope.get(name)).collect();
        let (file, graph, loc) = (self.file, &mut self.graph, label(node));
        emit(&mut NodeCx { node, attrs, inputs, opset: 1, file, graph, loc })
    }

    /// The subgraph written out for `value`, whose type it keeps.
    fn modified(&mut self, body: &GraphProto, value: Value, scope: &NameScope) -> Result<Value, Diagnostic> {
        let ([input], [output]) = (&body.input[..], &body.output[..]) else {
            let (inputs, outputs) = (body.input.len(), body.output.len());
            return Err(bad(format!("the subgraph has {inputs} inputs and {outputs} outputs, expected one of each")));
        };
        let mut inner = scope.inner()?;
        for name in self.names.captures(body)?.iter() {
            let undefined = || bad(format!("`{name}`, which a subgraph uses, is not defined"));
            let captured = *scope.values.get(name).ok_or_else(undefined)?;
            inner.values.insert(name.clone(), captured);
        }
        inner.define("input of the subgraph", input.name(), value)?;
        self.initializers(body, &mut inner)?;
        self.walk(&body.node, &mut inner)?;
        let undefined = || bad(format!("the subgraph's output `{}` is not defined", output.name()));
        let result = inner.get(output.name()).ok_or_else(undefined)?;
        let (before, after) = (self.graph.ty(value).as_tensor(), self.graph.ty(result).as_tensor());
        match before.zip(after).is_some_and(|(a, b)| a.dtype == b.dtype && b.rank().is_none_or(|rank| rank == 4)) {
            true => Ok(result),
            false => Err(bad(format!(
                "the subgraph makes {} of {}, expected the same type",
                self.graph.ty(result),
                self.graph.ty(value)
            ))),
        }
    }
}

/// The scale of the products: `1 / √size` where the node does not say another one.
fn scale(cx: &NodeCx, size: usize) -> Result<f32, MapError> {
    Ok(cx.attrs.float_or("scale", 1.0 / (size as f32).sqrt())?)
}

/// How many heads of queries share one of keys.
fn group(q: &Operand, k: &Operand) -> Result<usize, MapError> {
    let heads = (q.heads, k.heads);
    let fits = k.heads > 0 && q.heads.is_multiple_of(k.heads);
    let unequal = || MapError::Invalid(format!("{} heads of queries for {} of keys", heads.0, heads.1));
    if fits { Ok(q.heads / k.heads) } else { Err(unequal()) }
}

/// The whole of it, without subgraphs. All of its steps are as wide as any softmax could ask for.
fn plain(cx: &mut NodeCx) -> Result<Value, MapError> {
    let (q, k, v) = (Operand::of(cx, 0)?, Operand::of(cx, 1)?, Operand::of(cx, 2)?);
    group(&q, &k)?;
    let op = nn::Attention {
        causal: false,
        formula: false,
        left: -1,
        right: -1,
        scale: Real(scale(cx, q.size)?),
        scores: AttentionScores::Absent,
        softcap: Real(0.0),
    };
    let results = cx.emit(op, &[Some(q.value), Some(k.value), Some(v.value), None, None, None])?;
    results.first().copied().ok_or(MapError::Input(0))
}

/// The products of queries and keys, in the dtype of the softmax. Both are scaled by the root, so that products of
/// halves stay in range.
fn scores(cx: &mut NodeCx) -> Result<Value, MapError> {
    let (q, k) = (Operand::of(cx, 0)?, Operand::of(cx, 1)?);
    let (dtype, scale) = (cx.dtype(q.value)?, scale(cx, q.size)?);
    let group = group(&q, &k)?;
    let root = cx.constant(Tensor::from_f64(dtype, &[], &[f64::from(scale.sqrt())])?);
    let keys = k.repeated(cx, group)?;
    let queries = cx.emit1(math::Mul {}, &[q.value, root])?;
    let keys = cx.emit1(math::Mul {}, &[keys, root])?;
    let keys = cx.emit1(tensor::Transpose { perm: vec![0, 1, 3, 2] }, &[keys])?;
    let products = cx.emit1(math::MatMul::default(), &[queries, keys])?;
    let narrow = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let to = dtype_attribute(cx, "softmax_precision")?.unwrap_or(narrow);
    cx.emit1(math::Cast { to }, &[products])
}

/// The values weighted by probabilities, in their own dtype.
fn weighted(cx: &mut NodeCx, probabilities: Value) -> Result<Value, MapError> {
    let (q, v) = (Operand::of(cx, 0)?, Operand::of(cx, 2)?);
    let (own, to) = (cx.dtype(v.value)?, cx.dtype(probabilities)?);
    let group = group(&q, &v)?;
    let values = v.repeated(cx, group)?;
    let values = cx.emit1(math::Cast { to }, &[values])?;
    let y = cx.emit1(math::MatMul::default(), &[probabilities, values])?;
    cx.emit1(math::Cast { to: own }, &[y])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::import_bytes;
    use crate::proto::attribute_proto::AttributeType;
    use crate::proto::{AttributeProto, ModelProto, OperatorSetIdProto, ValueInfoProto};
    use crate::{write_tensor, write_type};
    use optc_ir::{Op, TensorType, Val};
    use prost::Message;

    fn value(name: &str, shape: &[usize]) -> ValueInfoProto {
        let r#type = Some(write_type(&TensorType::fixed(DType::F32, shape).into()));
        ValueInfoProto { name: Some(name.into()), r#type, ..ValueInfoProto::default() }
    }

    fn node(op: &str, domain: &str, inputs: &[&str], output: &str) -> NodeProto {
        NodeProto {
            op_type: Some(op.into()),
            domain: Some(domain.into()),
            input: inputs.iter().map(|&n| n.to_owned()).collect(),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        }
    }

    /// One query of each of two heads, whose two keys they share, with a subgraph for the probabilities.
    fn model(body: Option<GraphProto>) -> ModelProto {
        let attribute = |g| AttributeProto {
            name: Some("prob_mod".into()),
            g: Some(g),
            r#type: Some(AttributeType::Graph as i32),
            ..AttributeProto::default()
        };
        let call = NodeProto {
            attribute: body.into_iter().map(attribute).collect(),
            ..node("FlexAttention", "ai.onnx.preview", &["q", "k", "v"], "y")
        };
        let graph = GraphProto {
            node: vec![call],
            input: vec![value("q", &[1, 2, 1, 1]), value("k", &[1, 1, 2, 1]), value("v", &[1, 1, 2, 1])],
            output: vec![value("y", &[1, 2, 1, 1])],
            initializer: vec![write_tensor("outer", &Tensor::scalar(10f32))],
            ..GraphProto::default()
        };
        let opset = |domain: &str, version| OperatorSetIdProto { domain: Some(domain.into()), version: Some(version) };
        let opset_import = vec![opset("", 24), opset("ai.onnx.preview", 1)];
        ModelProto { ir_version: Some(10), opset_import, graph: Some(graph), ..ModelProto::default() }
    }

    fn body(nodes: Vec<NodeProto>, outputs: &[&str]) -> GraphProto {
        let output = outputs.iter().map(|name| value(name, &[1, 2, 1, 2])).collect();
        GraphProto { node: nodes, input: vec![value("p", &[1, 2, 1, 2])], output, ..GraphProto::default() }
    }

    fn import(body: Option<GraphProto>) -> Result<optc_ir::Graph, Diagnostic> {
        import_bytes(&model(body).encode_to_vec())
    }

    fn run(body: Option<GraphProto>) -> Vec<f64> {
        let graph = import(body).unwrap();
        let of = |shape: &[usize], v: &[f32]| Val::from(Tensor::from_slice(shape, v).unwrap());
        // The first query sees both keys alike, the second one only the first of them.
        let inputs = [of(&[1, 2, 1, 1], &[0.0, 1e4]), of(&[1, 1, 2, 1], &[1.0, 0.0]), of(&[1, 1, 2, 1], &[3.0, 5.0])];
        optc_ir::run(&graph, &inputs).unwrap()[0].as_tensor().unwrap().to_f64_vec()
    }

    #[test]
    fn heads_share_keys_and_subgraphs_see_names_from_outside() {
        assert_eq!(run(None), [4.0, 3.0]);
        assert_eq!(run(Some(body(vec![node("Mul", "", &["p", "outer"], "r")], &["r"]))), [40.0, 30.0]);
        let whole = |graph: optc_ir::Graph| graph.ids().any(|id| matches!(graph.node(id).op, Op::Attention(_)));
        assert!(whole(import(None).unwrap()));
    }

    #[test]
    fn subgraphs_that_change_the_type_are_refused() {
        let reason = |body| import(Some(body)).unwrap_err().reason().to_owned();
        let two = body(vec![node("Relu", "", &["p"], "r")], &["r", "p"]);
        assert!(reason(two).contains("1 inputs and 2 outputs"));
        let test = body(vec![node("IsNaN", "", &["p"], "r")], &["r"]);
        assert!(reason(test).contains("makes tensor<1x2x1x2xbool> of tensor<1x2x1x2xf32>"));
        let lost = body(vec![node("Relu", "", &["nowhere"], "r")], &["r"]);
        assert!(reason(lost).contains("`nowhere`"));
    }
}
