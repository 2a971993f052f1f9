//! Nodes whose mapping needs extents, or a rank, that a model leaves open: they give what the same node gives where the
//! extents are declared.

use optc::{Compiler, Options, Tensor, Val};
use optc_ir::{Dim, TensorType, Type};
use optc_onnx::proto::attribute_proto::AttributeType;
use optc_onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto};
use optc_onnx::{import_bytes, write_tensor, write_type};
use optc_tensor::{DType, Random};
use optc_tests::compare::difference;
use prost::Message;

/// A node with the shape of its weights, if it has any, and the dims of its operand that are open.
struct Case {
    node: NodeProto,
    weights: Option<Vec<usize>>,
    /// What is declared of the operand: `None` for an open dim, or all of it for an unknown rank.
    declared: Option<[Option<usize>; 4]>,
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    let kind = Some(AttributeType::Ints as i32);
    AttributeProto { name: Some(name.into()), r#type: kind, ints: ints.to_vec(), ..AttributeProto::default() }
}

fn int(name: &str, i: i64) -> AttributeProto {
    let kind = Some(AttributeType::Int as i32);
    AttributeProto { name: Some(name.into()), r#type: kind, i: Some(i), ..AttributeProto::default() }
}

fn word(name: &str, s: &str) -> AttributeProto {
    let (kind, s) = (Some(AttributeType::String as i32), Some(s.to_owned().into()));
    AttributeProto { name: Some(name.into()), r#type: kind, s, ..AttributeProto::default() }
}

fn node(op: &str, outputs: usize, attribute: Vec<AttributeProto>) -> NodeProto {
    let output = (0..outputs).map(|i| format!("y{i}")).collect();
    NodeProto { op_type: Some(op.into()), input: vec!["x".into()], output, attribute, ..NodeProto::default() }
}

fn with_weights(mut node: NodeProto, weights: &[usize], declared: [Option<usize>; 4]) -> Case {
    node.input.push("w".into());
    Case { node, weights: Some(weights.to_vec()), declared: Some(declared) }
}

const OPEN: [Option<usize>; 4] = [None, Some(4), None, None];

fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for pad in ["SAME_UPPER", "SAME_LOWER"] {
        for (kernel, stride, dilation) in [([3, 3], [2, 2], [1, 1]), ([2, 5], [3, 2], [1, 1]), ([3, 2], [2, 3], [2, 2])]
        {
            let window = [ints("strides", &stride), ints("dilations", &dilation), word("auto_pad", pad)];
            let pooling = [&window[..], &[ints("kernel_shape", &kernel)]].concat();
            let [h, w] = kernel.map(|k| k as usize);
            cases.push(with_weights(node("Conv", 1, window.to_vec()), &[6, 4, h, w], OPEN));
            for (op, outputs) in [("MaxPool", 1), ("MaxPool", 2), ("AveragePool", 1), ("LpPool", 1)] {
                cases.push(Case { node: node(op, outputs, pooling.clone()), weights: None, declared: Some(OPEN) });
            }
        }
    }
    for (shape, pad) in [([13, 14], "NOTSET"), ([13, 13], "SAME_UPPER"), ([12, 14], "SAME_LOWER")] {
        let attributes = vec![ints("strides", &[2, 2]), ints("output_shape", &shape), word("auto_pad", pad)];
        cases.push(with_weights(node("ConvTranspose", 1, attributes), &[4, 3, 3, 3], OPEN));
    }
    // Of an unknown rank.
    let unranked = |node: NodeProto| Case { node, weights: None, declared: None };
    cases.push(unranked(node("Transpose", 1, vec![])));
    cases.push(unranked(node("GlobalAveragePool", 1, vec![])));
    cases.push(unranked(node("GlobalMaxPool", 1, vec![])));
    cases.push(unranked(node("MaxPool", 1, vec![ints("kernel_shape", &[2, 2]), int("ceil_mode", 1)])));
    cases
}

fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut random = Random::new(seed);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.real(-1.0, 1.0) as f32).collect();
    Tensor::from_slice(shape, &values).expect("as many values as elements")
}

/// The case as a model whose operand has the type `ty`, with an op on either side.
fn model(case: &Case, ty: TensorType) -> Vec<u8> {
    let info = |name: &str, ty: Option<Type>| ValueInfoProto {
        name: Some(name.into()),
        r#type: ty.as_ref().map(write_type),
        ..ValueInfoProto::default()
    };
    let mut inner = case.node.clone();
    inner.input[0] = "before".into();
    let mut before = node("Neg", 0, vec![]);
    before.output.push("before".into());
    let mut after = node("Tanh", 0, vec![]);
    (after.input[0], after.output) = ("y0".into(), vec!["z".into()]);
    let outputs = inner.output.iter().skip(1).map(String::as_str).chain(["z"]);
    let graph = GraphProto {
        input: vec![info("x", Some(ty.into()))],
        output: outputs.map(|name| info(name, None)).collect(),
        initializer: case.weights.iter().map(|shape| write_tensor("w", &random(shape, 5))).collect(),
        node: vec![before, inner, after],
        ..GraphProto::default()
    };
    let opset = OperatorSetIdProto { domain: None, version: Some(18) };
    let model =
        ModelProto { ir_version: Some(8), opset_import: vec![opset], graph: Some(graph), ..ModelProto::default() };
    model.encode_to_vec()
}

fn declared(case: &Case) -> TensorType {
    match case.declared {
        None => TensorType::unranked(DType::F32),
        Some(dims) => {
            let dim = |(i, n): (usize, Option<usize>)| n.map_or_else(|| Dim::Named(format!("d{i}").into()), Dim::Known);
            TensorType::new(DType::F32, dims.into_iter().enumerate().map(dim).collect())
        }
    }
}

fn check(found: &[Val], expected: &[Val], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        if let Some(how) = difference(found, expected) {
            panic!("{what}: {how}");
        }
    }
}

#[test]
fn open_extents_give_what_declared_ones_give() {
    for case in cases() {
        let open = model(&case, declared(&case));
        let graph = import_bytes(&open).unwrap();
        let mut sessions: Vec<_> = ["O0", "O2"]
            .map(|passes| Options { passes: passes.to_owned(), keep_graph: true, ..Options::default() })
            .map(|options| Compiler::new(options).compile_bytes(&open).unwrap().session())
            .into();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.optc");
        sessions[1].model().save(&path).unwrap();
        sessions.push(Compiler::default().load(&path).unwrap().session());
        for (i, shape) in [[1, 4, 7, 7], [2, 4, 6, 7], [1, 4, 7, 6], [3, 4, 5, 9]].iter().enumerate() {
            let closed = import_bytes(&model(&case, TensorType::fixed(DType::F32, shape))).unwrap();
            let x = [Val::from(random(shape, i as u64))];
            let expected = optc_ir::run(&closed, &x).unwrap();
            let what = format!("{:?} on {shape:?}", case.node);
            check(&optc_ir::run(&graph, &x).unwrap(), &expected, &what);
            for session in &mut sessions {
                check(&session.run_values(&x).unwrap(), &expected, &what);
            }
        }
    }
}

#[test]
fn nodes_that_wait_leave_no_trace_where_extents_are_known() {
    for case in cases() {
        let shape = [2, 4, 8, 8];
        let model = Compiler::new(Options { keep_graph: true, ..Options::default() })
            .compile_bytes(&self::model(&case, declared(&case)))
            .unwrap();
        let plan = model.plan_for(&[TensorType::fixed(DType::F32, &shape).into()]).unwrap();
        assert!(plan.report.iter().all(|line| !line.ops.iter().any(|op| op == "custom.call")), "{:?}", case.node);
    }
}

#[test]
fn a_node_that_is_exported_while_it_waits_is_itself_again() {
    for case in cases() {
        let open = import_bytes(&model(&case, declared(&case))).unwrap();
        let exported = optc_onnx::export_model(&open).unwrap().encode_to_vec();
        let again = import_bytes(&exported).unwrap();
        let x = [Val::from(random(&[1, 4, 7, 8], 3))];
        let results = [&open, &again].map(|graph| optc_ir::run(graph, &x).unwrap());
        check(&results[1], &results[0], &format!("{:?}", case.node));
    }
}

/// An operand that does not suit a waiting node is an error that names the input or the node.
#[test]
fn what_does_not_fit_is_an_error() {
    let case = &cases()[0];
    let mut session = Compiler::default().compile_bytes(&model(case, declared(case))).unwrap().session();
    let small = Tensor::zeros(DType::F32, &[1, 4, 0, 7]).unwrap();
    let wrong = Tensor::zeros(DType::F32, &[1, 3, 7, 7]).unwrap();
    let refused = |result: Result<Vec<Val>, optc::Error>| result.unwrap_err().to_string();
    let message = refused(session.run_values(&[wrong.into()]));
    assert!(message.contains("input `x` is tensor<1x3x7x7xf32>"), "{message}");
    match session.run_values(&[small.into()]) {
        Ok(results) => assert!(results[0].as_tensor().unwrap().is_empty()),
        Err(error) => assert!(error.to_string().contains("y0"), "{error}"),
    }
}
