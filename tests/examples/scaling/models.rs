//! Models of any number of ops: chains, fans, branches.

use optc_ir::TensorType;
use optc_onnx::proto::attribute_proto::AttributeType;
use optc_onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto};
use optc_onnx::{write_tensor, write_type};
use optc_tensor::{DType, Tensor};

/// A kind of model: its name, and how one of `n` ops is made.
pub struct ModelKind {
    /// What the command line calls it.
    pub name: &'static str,
    /// The largest `n` that is asked for.
    pub most: usize,
    /// Makes the graph.
    pub make: fn(usize) -> GraphProto,
}

const ANY: usize = usize::MAX;

/// All kinds.
pub static KINDS: &[ModelKind] = &[
    ModelKind { name: "chain-add", most: ANY, make: chain_add },
    ModelKind { name: "chain-elementwise", most: ANY, make: chain_elementwise },
    ModelKind { name: "chain-concat", most: ANY, make: chain_concat },
    ModelKind { name: "chain-concat-slice", most: ANY, make: chain_concat_slice },
    ModelKind { name: "chain-matmul", most: ANY, make: chain_matmul },
    ModelKind { name: "chain-conv", most: ANY, make: chain_conv },
    ModelKind { name: "chain-transpose", most: ANY, make: chain_transpose },
    ModelKind { name: "chain-reshape", most: ANY, make: chain_reshape },
    ModelKind { name: "chain-cast", most: ANY, make: chain_cast },
    ModelKind { name: "chain-qdq", most: ANY, make: chain_qdq },
    ModelKind { name: "chain-if", most: 10_000, make: chain_if },
    ModelKind { name: "chain-loop", most: 10_000, make: chain_loop },
    ModelKind { name: "fan-out-sum", most: ANY, make: |n| fan_out(n, "Sum", &[]) },
    ModelKind { name: "fan-out-concat", most: ANY, make: |n| fan_out(n, "Concat", &[int("axis", 0)]) },
    ModelKind { name: "fan-in-sum", most: ANY, make: |n| fan_in(n, "Sum", &[]) },
    ModelKind { name: "fan-in-max", most: ANY, make: |n| fan_in(n, "Max", &[]) },
    ModelKind { name: "fan-in-mean", most: ANY, make: |n| fan_in(n, "Mean", &[]) },
    ModelKind { name: "fan-in-concat", most: ANY, make: |n| fan_in(n, "Concat", &[int("axis", 0)]) },
    ModelKind { name: "split", most: ANY, make: split },
    ModelKind { name: "constants", most: ANY, make: constants },
    ModelKind { name: "branches", most: ANY, make: branches },
    ModelKind { name: "equal", most: ANY, make: equal },
];

/// A graph that is being made.
#[derive(Default)]
struct Builder(GraphProto);

impl Builder {
    /// A builder with the input `x`.
    fn with_input(shape: &[usize]) -> Builder {
        let mut b = Builder::default();
        b.input("x", shape);
        b
    }

    fn input(&mut self, name: &str, shape: &[usize]) {
        self.0.input.push(value(name, &TensorType::fixed(DType::F32, shape)));
    }

    /// A constant of floats around 1 that are different in each one.
    fn floats(&mut self, shape: &[usize]) -> String {
        let (at, len) = (self.0.initializer.len(), shape.iter().product::<usize>());
        let data: Vec<f32> = (0..len).map(|i| 0.5 + at as f32 * 1e-6 + (i * 7 % 1009) as f32 / 1009.0).collect();
        self.constant(&Tensor::from_slice(shape, &data).expect("the data has the shape"))
    }

    fn constant(&mut self, tensor: &Tensor) -> String {
        let name = format!("c{}", self.0.initializer.len());
        self.0.initializer.push(write_tensor(&name, tensor));
        name
    }

    /// Adds a node of one result.
    fn node(&mut self, op: &str, inputs: &[&str], attributes: &[AttributeProto]) -> String {
        let name = format!("v{}", self.0.node.len());
        self.nodes(op, inputs, attributes, vec![name.clone()]);
        name
    }

    fn nodes(&mut self, op: &str, inputs: &[&str], attributes: &[AttributeProto], output: Vec<String>) {
        self.0.node.push(NodeProto {
            op_type: Some(op.to_owned()),
            input: inputs.iter().map(|&i| i.to_owned()).collect(),
            output,
            name: Some(format!("n{}", self.0.node.len())),
            attribute: attributes.to_vec(),
            ..NodeProto::default()
        });
    }

    /// The graph that returns these values.
    fn returning(mut self, outputs: &[String]) -> GraphProto {
        self.0.output =
            outputs.iter().map(|o| ValueInfoProto { name: Some(o.clone()), ..Default::default() }).collect();
        self.0
    }
}

fn value(name: &str, ty: &TensorType) -> ValueInfoProto {
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(write_type(&ty.clone().into())),
        ..ValueInfoProto::default()
    }
}

fn int(name: &str, i: i64) -> AttributeProto {
    let ty = Some(AttributeType::Int as i32);
    AttributeProto { name: Some(name.to_owned()), i: Some(i), r#type: ty, ..AttributeProto::default() }
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    let ty = Some(AttributeType::Ints as i32);
    AttributeProto { name: Some(name.to_owned()), ints: ints.to_vec(), r#type: ty, ..AttributeProto::default() }
}

fn subgraph(name: &str, g: GraphProto) -> AttributeProto {
    let ty = Some(AttributeType::Graph as i32);
    AttributeProto { name: Some(name.to_owned()), g: Some(g), r#type: ty, ..AttributeProto::default() }
}

/// The model of a graph.
pub fn model(graph: GraphProto) -> ModelProto {
    let opset = OperatorSetIdProto { domain: Some(String::new()), version: Some(17) };
    ModelProto { ir_version: Some(9), opset_import: vec![opset], graph: Some(graph), ..ModelProto::default() }
}

/// `n` ops one after the other, each made from the value before it and its number.
fn chain(mut b: Builder, n: usize, mut op: impl FnMut(&mut Builder, &str, usize) -> String) -> GraphProto {
    let mut last = "x".to_owned();
    for i in 0..n {
        last = op(&mut b, &last, i);
    }
    b.returning(&[last])
}

fn chain_add(n: usize) -> GraphProto {
    chain(Builder::with_input(&[4, 8]), n, |b, x, _| {
        let c = b.floats(&[8]);
        b.node("Add", &[x, &c], &[])
    })
}

fn chain_elementwise(n: usize) -> GraphProto {
    chain(Builder::with_input(&[4, 8]), n, |b, x, i| match i % 4 {
        0 => {
            let c = b.floats(&[8]);
            b.node("Add", &[x, &c], &[])
        }
        1 => b.node("Relu", &[x], &[]),
        2 => {
            let c = b.floats(&[]);
            b.node("Mul", &[x, &c], &[])
        }
        _ => b.node("Tanh", &[x], &[]),
    })
}

fn chain_concat(n: usize) -> GraphProto {
    chain(Builder::with_input(&[1]), n, |b, x, _| b.node("Concat", &[x, "x"], &[int("axis", 0)]))
}

fn chain_concat_slice(n: usize) -> GraphProto {
    let mut b = Builder::with_input(&[4, 8]);
    let [from, to] = [1i64, 5].map(|v| b.constant(&Tensor::from_slice(&[1], &[v]).expect("one element")));
    chain(b, n, |b, x, i| match i % 2 {
        0 => b.node("Concat", &[x, "x"], &[int("axis", 0)]),
        _ => b.node("Slice", &[x, &from, &to], &[]),
    })
}

fn chain_matmul(n: usize) -> GraphProto {
    chain(Builder::with_input(&[4, 8]), n, |b, x, _| {
        let w = b.floats(&[8, 8]);
        b.node("MatMul", &[x, &w], &[])
    })
}

fn chain_conv(n: usize) -> GraphProto {
    chain(Builder::with_input(&[1, 8, 6, 6]), n, |b, x, i| match i % 4 {
        0 => {
            let w = b.floats(&[8, 8, 3, 3]);
            b.node("Conv", &[x, &w], &[ints("pads", &[1, 1, 1, 1])])
        }
        1 | 3 => b.node("Relu", &[x], &[]),
        _ => {
            let w = b.floats(&[8, 8, 1, 1]);
            b.node("Conv", &[x, &w], &[])
        }
    })
}

fn chain_transpose(n: usize) -> GraphProto {
    chain(Builder::with_input(&[4, 5, 6]), n, |b, x, i| match i % 2 {
        0 => b.node("Transpose", &[x], &[ints("perm", &[1, 2, 0])]),
        _ => b.node("Sigmoid", &[x], &[]),
    })
}

fn chain_reshape(n: usize) -> GraphProto {
    let mut b = Builder::with_input(&[4, 6]);
    let shapes = [[6i64, 4], [2, 12], [8, 3]].map(|s| b.constant(&Tensor::from_slice(&[2], &s).expect("two elements")));
    chain(b, n, |b, x, i| b.node("Reshape", &[x, &shapes[i % 3]], &[]))
}

fn chain_cast(n: usize) -> GraphProto {
    // To integers, and back to floats.
    chain(Builder::with_input(&[4, 8]), n, |b, x, i| b.node("Cast", &[x], &[int("to", [6, 1][i % 2])]))
}

fn chain_qdq(n: usize) -> GraphProto {
    let mut b = Builder::with_input(&[4, 8]);
    let scales = [0.5f32, 0.25].map(|v| b.constant(&Tensor::scalar(v)));
    let zero = b.constant(&Tensor::scalar(3u8));
    chain(b, n, |b, x, i| {
        let op = ["QuantizeLinear", "DequantizeLinear", "Relu"][i % 3];
        let scale = &scales[i / 3 % 2];
        b.node(op, &[x, scale, &zero][..if i % 3 == 2 { 1 } else { 3 }], &[])
    })
}

fn chain_if(n: usize) -> GraphProto {
    let mut b = Builder::with_input(&[4, 8]);
    b.0.input.push(value("cond", &TensorType::fixed(DType::Bool, &[])));
    chain(b, n, |b, x, _| {
        let branch = |op: &str| {
            let mut b = Builder::default();
            let y = b.node(op, &[x], &[]);
            // Names outside and in the branches must differ.
            b.0.node[0].output = vec![format!("{op}_{x}_{y}")];
            b.returning(&[format!("{op}_{x}_{y}")])
        };
        b.node("If", &["cond"], &[subgraph("then_branch", branch("Relu")), subgraph("else_branch", branch("Neg"))])
    })
}

fn chain_loop(n: usize) -> GraphProto {
    let mut b = Builder::with_input(&[4, 8]);
    let trips = b.constant(&Tensor::scalar(3i64));
    chain(b, n, |b, x, i| {
        let mut body = Builder::default();
        let [trip, go, state] = ["trip", "go", "state"].map(|name| format!("{name}{i}"));
        body.0.input.push(value(&trip, &TensorType::fixed(DType::I64, &[])));
        body.0.input.push(value(&go, &TensorType::fixed(DType::Bool, &[])));
        body.input(&state, &[4, 8]);
        let y = format!("next{i}");
        body.nodes("Tanh", &[&state], &[], vec![y.clone()]);
        b.node("Loop", &[&trips, "", x], &[subgraph("body", body.returning(&[go, y]))])
    })
}

fn fan_out(n: usize, op: &str, attributes: &[AttributeProto]) -> GraphProto {
    let mut b = Builder::with_input(&[2, 8]);
    let values: Vec<String> = (0..n)
        .map(|_| {
            let c = b.floats(&[]);
            b.node("Pow", &["x", &c], &[])
        })
        .collect();
    let last = b.node(op, &values.iter().map(String::as_str).collect::<Vec<_>>(), attributes);
    b.returning(&[last])
}

fn fan_in(n: usize, op: &str, attributes: &[AttributeProto]) -> GraphProto {
    let mut b = Builder::default();
    let names: Vec<String> = (0..n).map(|i| format!("x{i}")).collect();
    names.iter().for_each(|name| b.input(name, &[1, 4]));
    let last = b.node(op, &names.iter().map(String::as_str).collect::<Vec<_>>(), attributes);
    b.returning(&[last])
}

/// One value in `n` parts, each of which is read.
fn split(n: usize) -> GraphProto {
    let mut b = Builder::with_input(&[n, 2]);
    let sizes = b.constant(&Tensor::from_slice(&[n], &vec![1i64; n]).expect("one size each"));
    let parts: Vec<String> = (0..n).map(|i| format!("part{i}")).collect();
    b.nodes("Split", &["x", &sizes], &[int("axis", 0)], parts.clone());
    let values: Vec<String> = parts.iter().map(|part| b.node("Relu", &[part], &[])).collect();
    let last = b.node("Concat", &values.iter().map(String::as_str).collect::<Vec<_>>(), &[int("axis", 0)]);
    b.returning(&[last])
}

/// `n` sums of constants that are added up and read once.
fn constants(n: usize) -> GraphProto {
    let mut b = Builder::with_input(&[2, 8]);
    let mut last = b.floats(&[8]);
    for _ in 0..n {
        let c = b.floats(&[8]);
        last = b.node("Add", &[&last, &c], &[]);
    }
    last = b.node("Mul", &["x", &last], &[]);
    b.returning(&[last])
}

/// Branches of four ops, each with an output of its own.
fn branches(n: usize) -> GraphProto {
    let mut b = Builder::with_input(&[4, 8]);
    let outputs: Vec<String> = (0..n.div_ceil(4))
        .map(|_| {
            let (c, w) = (b.floats(&[8]), b.floats(&[8, 8]));
            let sum = b.node("Add", &["x", &c], &[]);
            let bent = b.node("Tanh", &[&sum], &[]);
            let product = b.node("MatMul", &[&bent, &w], &[]);
            b.node("Relu", &[&product], &[])
        })
        .collect();
    b.returning(&outputs)
}

/// `n` nodes that compute the same.
fn equal(n: usize) -> GraphProto {
    let mut b = Builder::with_input(&[1, 4]);
    let values: Vec<String> = (0..n).map(|_| b.node("Tanh", &["x"], &[])).collect();
    let last = b.node("Concat", &values.iter().map(String::as_str).collect::<Vec<_>>(), &[int("axis", 0)]);
    b.returning(&[last])
}
