//! Each op in each operator set: what is written in one is read again as what it was, and where an operator set cannot
//! say it the op is named.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use optc_ir::{Graph, Type, Val, infer_types, parse, run};
use optc_onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto};
use optc_onnx::{MAX_OPSET, export_model, export_model_at, import_bytes, write_tensor, write_type};
use optc_tensor::{DType, Tensor};
use prost::Message;

const OLDEST: i64 = 7;

fn graph(params: &str, body: &str) -> Graph {
    let outputs = body.lines().next_back().and_then(|last| last.split(" = ").next()).unwrap();
    let outputs: Vec<&str> = outputs.trim().split(", ").collect();
    let outputs: Vec<String> = outputs.iter().enumerate().map(|(i, o)| format!("{o} as \"y{i}\"")).collect();
    let text = format!("func @main({params}) {{\n{body}\nreturn {}\n}}", outputs.join(", "));
    let mut graph = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    infer_types(&mut graph).unwrap_or_else(|e| panic!("{e}\n{text}"));
    graph
}

fn input(ty: &Type) -> Val {
    let t = ty.as_tensor().unwrap();
    let shape = t.static_shape().unwrap();
    let count: usize = shape.iter().product();
    let values = (0..count).map(|i| ((i * 37 + 11) % 23) as f64);
    let values: Vec<f64> = match t.dtype {
        DType::F32 => values.map(|v| v / 4.0 - 2.5).collect(),
        DType::Bool => values.map(|v| v % 2.0).collect(),
        _ => values.map(|v| v % 3.0).collect(),
    };
    Tensor::from_f64(t.dtype, &shape, &values).unwrap().into()
}

fn outputs(graph: &Graph) -> Vec<Val> {
    let inputs: Vec<Val> = graph.inputs().map(|v| input(graph.ty(v))).collect();
    run(graph, &inputs).unwrap()
}

/// The same to a few units in the last place: what an operator set lacks is written as the ops that make it up.
fn assert_close(found: &[Val], expected: &[Val], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        let (found, expected) = (found.as_tensor().unwrap(), expected.as_tensor().unwrap());
        assert_eq!((found.dtype(), found.shape()), (expected.dtype(), expected.shape()), "{what}");
        for (f, e) in found.to_f64_vec().iter().zip(expected.to_f64_vec()) {
            assert!((f - e).abs() <= 2e-6 * e.abs().max(1.0), "{what}: found {f}, expected {e}");
        }
    }
}

/// Writes and reads a graph in all operator sets. Those before `least` refuse it by the ONNX op's name.
fn check(params: &str, body: &str, op: &str, least: i64) {
    let graph = graph(params, body);
    let expected = outputs(&graph);
    for opset in OLDEST..=MAX_OPSET {
        let what = format!("{op} in operator set {opset}");
        match export_model_at(&graph, opset) {
            Ok(model) => {
                assert!(opset >= least, "{what} is written, expected from {least} on");
                assert_eq!(model.opset_import[0].version(), opset, "{what}");
                let back = import_bytes(&model.encode_to_vec()).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_eq!(optc_ir::verify(&back), [], "{what}");
                assert_close(&outputs(&back), &expected, &what);
            }
            Err(e) => {
                assert!(opset < least, "{what}: {e}");
                assert!(e.to_string().contains(&format!("`{op}` needs operator set")), "{what}: {e}");
            }
        }
    }
}

const X: &str = "%x: tensor<2x3x4xf32>";

/// A constant of the body.
fn list(name: &str, values: &[i64]) -> String {
    let n = values.len();
    format!("%{name} = tensor.const {{value = dense<{values:?}> : tensor<{n}xi64>}} : tensor<{n}xi64>\n")
}

fn reals(name: &str, shape: &str, values: &[f32]) -> String {
    format!("%{name} = tensor.const {{value = dense<{values:?}> : tensor<{shape}xf32>}} : tensor<{shape}xf32>\n")
}

#[test]
fn axes_are_attributes_or_inputs() {
    let x = |consts: &str, op: &str| format!("{consts}%0 = {op} : tensor<*xf32>");
    check(X, &x(&list("a", &[0, -1]), "tensor.unsqueeze %x, %a"), "Unsqueeze", 7);
    check("%x: tensor<1x3x1xf32>", &x(&list("a", &[-1, 0]), "tensor.squeeze %x, %a"), "Squeeze", 7);
    check("%x: tensor<1x3x1xf32>", &x("", "tensor.squeeze %x"), "Squeeze", 7);
    for (kind, op) in [("sum", "ReduceSum"), ("mean", "ReduceMean"), ("max", "ReduceMax"), ("l2", "ReduceL2")] {
        for attributes in ["axes = [1]", "axes = [-1, 0], keep_dims = false", "keep_dims = false"] {
            check(X, &x("", &format!("math.reduce %x {{{attributes}, kind = \"{kind}\"}}")), op, 7);
        }
    }
    let open = "%x: tensor<2x3x4xf32>, %a: tensor<1xi64>";
    check(open, &x("", "math.reduce %x, %a {kind = \"sum\"}"), "ReduceSum", 13);
    check(open, &x("", "math.reduce %x, %a {kind = \"min\"}"), "ReduceMin", 18);
    check("%x: tensor<2x4x2xf32>", &x(&list("a", &[1]), "math.dft %x, _, %a"), "DFT", 17);
}

#[test]
fn bounds_and_parts_are_attributes_or_inputs() {
    let slice = |steps: i64| {
        let lists = [("s", vec![1, 0]), ("e", vec![3, 9]), ("a", vec![-1, 1]), ("t", vec![steps, 1])];
        let lists: String = lists.iter().map(|(name, values)| list(name, values)).collect();
        format!("{lists}%0 = tensor.slice %x, %s, %e, %a, %t : tensor<*xf32>")
    };
    check(X, &slice(1), "Slice", 7);
    check(X, &slice(2), "Slice", 10);
    let (low, high) = (reals("l", "", &[-1.0]).replace("tensor<xf32>", "tensor<f32>"), "_");
    check(X, &format!("{low}%0 = math.clip %x, %l, {high} : tensor<*xf32>"), "Clip", 7);
    check("%x: tensor<2xf32>, %l: tensor<f32>", "%0 = math.clip %x, %l : tensor<*xf32>", "Clip", 11);
    let low = low.replace("f32", "i32").replace("-1.0", "1");
    check("%x: tensor<2xi32>", &format!("{low}%0 = math.clip %x, %l : tensor<*xi32>"), "Clip", 12);
    check("%x: tensor<2xi32>, %l: tensor<i32>", "%0 = math.clip %x, %l : tensor<*xi32>", "Clip", 12);
    let parts = ": tensor<*xf32>, tensor<*xf32>";
    check(X, &format!("%0, %1 = tensor.split %x {{axis = -1, sizes = [1, 3]}} {parts}"), "Split", 7);
    check(X, &format!("%0, %1 = tensor.split %x {{axis = 2, parts = 2}} {parts}"), "Split", 7);
    check(X, &format!("%0, %1 = tensor.split %x {{axis = 1, parts = 2}} {parts}"), "Split", 18);
    let pads = "pads = [0, 0, 1, 0, 0, 2]";
    check(X, &format!("%0 = tensor.pad %x {{{pads}}} : tensor<*xf32>"), "Pad", 7);
    check(X, &format!("%0 = tensor.pad %x {{mode = \"edge\", {pads}}} : tensor<*xf32>"), "Pad", 7);
    check(X, &format!("%0 = tensor.pad %x {{mode = \"wrap\", {pads}}} : tensor<*xf32>"), "Pad", 19);
    let top =
        |more: &str| format!("{}%0, %1 = math.top_k %x, %k{more} : tensor<*xf32>, tensor<*xi64>", list("k", &[2]));
    check(X, &top(""), "TopK", 7);
    check(X, &top(" {largest = false}"), "TopK", 11);
    check("%a: tensor<2x3xf32>, %b: tensor<3x2xf32>", "%0 = nn.gemm %a, %b : tensor<*xf32>", "Gemm", 7);
}

#[test]
fn meanings_that_changed_are_kept() {
    for axis in [-1, 0, 1, 2] {
        check(X, &format!("%0 = nn.softmax %x {{axis = {axis}}} : tensor<*xf32>"), "Softmax", 7);
        check(X, &format!("%0 = nn.softmax %x {{axis = {axis}, log = true}} : tensor<*xf32>"), "LogSoftmax", 7);
        check(X, &format!("%0 = nn.hardmax %x {{axis = {axis}}} : tensor<*xf32>"), "Hardmax", 7);
    }
    let image = "%x: tensor<1x1x2x3xf32>";
    let scales = reals("s", "4", &[1.0, 1.0, 2.0, 3.0]);
    let resize = |attributes: &str| format!("{scales}%0 = nn.resize %x, %s {{{attributes}}} : tensor<*xf32>");
    check(image, &resize("coordinate = \"asymmetric\", nearest = \"floor\""), "Resize", 7);
    check(image, &resize("coordinate = \"asymmetric\", mode = \"linear\""), "Resize", 7);
    check(image, &resize("coordinate = \"asymmetric\", nearest = \"simple\""), "Resize", 7);
    check(image, &resize("mode = \"linear\""), "Resize", 11);
    check(image, &resize("antialias = true, mode = \"linear\""), "Resize", 18);
    check(image, &resize("coordinate = \"half_pixel_symmetric\", mode = \"linear\""), "Resize", 19);
    let grid = "%x: tensor<1x1x2x3xf32>, %g: tensor<1x2x2x2xf32>";
    check(grid, "%0 = nn.grid_sample %x, %g : tensor<*xf32>", "GridSample", 16);
    check(grid, "%0 = nn.grid_sample %x, %g {mode = \"cubic\"} : tensor<*xf32>", "GridSample", 16);
    let indices = "%x: tensor<4xf32>, %i: tensor<2xi64>, %u: tensor<2xf32>";
    check(indices, "%0 = tensor.scatter_elements %x, %i, %u : tensor<*xf32>", "Scatter", 9);
    check(
        indices,
        "%0 = tensor.scatter_elements %x, %i, %u {reduction = \"add\"} : tensor<*xf32>",
        "ScatterElements",
        16,
    );
    check(
        indices,
        "%0 = tensor.scatter_elements %x, %i, %u {reduction = \"max\"} : tensor<*xf32>",
        "ScatterElements",
        18,
    );
    check(X, &format!("{}%0 = tensor.gather %x, %i : tensor<*xf32>", list("i", &[-1])), "Gather", 11);
    check(X, &format!("{}%0 = tensor.gather %x, %i : tensor<*xf32>", list("i", &[1])), "Gather", 7);
}

#[test]
fn what_newer_operator_sets_bring_is_written_out_or_needed() {
    for (op, onnx, least) in [
        ("math.hard_swish %x", "HardSwish", 7),
        ("math.mish %x", "Mish", 7),
        ("math.swish %x {alpha = 1.5}", "Swish", 7),
        ("math.gelu %x", "Erf", 9),
        ("math.gelu %x {approximate = true}", "Gelu", 7),
        ("math.celu %x", "Celu", 12),
        ("math.erf %x", "Erf", 9),
        ("math.round %x", "Round", 11),
    ] {
        check(X, &format!("%0 = {op} : tensor<*xf32>"), onnx, least);
    }
    let vector = reals("s", "4", &[1.0, 0.5, 2.0, -1.0]) + &reals("b", "4", &[0.0, 1.0, -1.0, 0.5]);
    check(X, &format!("{vector}%0 = nn.layer_norm %x, %s, %b : tensor<*xf32>"), "LayerNormalization", 7);
    check(X, &format!("{vector}%0 = nn.layer_norm %x, %s {{axis = 2}} : tensor<*xf32>"), "LayerNormalization", 7);
    check(X, &format!("{vector}%0 = nn.rms_norm %x, %s : tensor<*xf32>"), "RMSNormalization", 7);
    let image = "%x: tensor<1x4x2x3xf32>";
    check(
        image,
        &format!("{vector}%0 = nn.group_norm %x, %s, %b {{groups = 2}} : tensor<*xf32>"),
        "GroupNormalization",
        7,
    );
    check("%a: tensor<2xf32>, %b: tensor<2xf32>", "%0 = math.less_equal %a, %b : tensor<*xbool>", "LessOrEqual", 12);
    check("%c: tensor<2xbool>, %b: tensor<2xf32>", "%0 = math.where %c, %b, %b : tensor<*xf32>", "Where", 9);
}

#[test]
fn attention_is_written_as_its_formula_where_it_is_no_more() {
    let heads = "%q: tensor<1x2x3x4xf32>, %k: tensor<1x2x5x4xf32>, %v: tensor<1x2x5x4xf32>";
    let attention =
        |mask: &str, attributes: &str| format!("%0 = nn.attention %q, %k, %v{mask} {{{attributes}}} : tensor<*xf32>");
    check(heads, &attention("", "formula = true"), "Softmax", 7);
    check(heads, &attention("", "scale = 0.25"), "Softmax", 7);
    let masked = |dtype: &str| format!("{heads}, %m: tensor<1x1x3x5x{dtype}>");
    check(&masked("f32"), &attention(", %m", "formula = true"), "Softmax", 7);
    check(&masked("bool"), &attention(", %m", "formula = true"), "Where", 9);
    check(&masked("f32"), &attention(", %m", "formula = false"), "Attention", 23);
    check(heads, &attention("", "causal = true"), "Attention", 23);
    check(heads, &attention("", "softcap = 2.0"), "Attention", 23);
}

#[test]
fn dtypes_and_attributes_ask_for_the_operator_set_that_has_them() {
    check("%x: tensor<2xi32>", "%0 = math.relu %x : tensor<*xi32>", "Relu", 14);
    check("%x: tensor<2xi64>, %y: tensor<2xi64>", "%0 = math.max %x, %y : tensor<*xi64>", "Max", 12);
    check("%x: tensor<2xi64>, %y: tensor<2xi64>", "%0 = math.pow %x, %y : tensor<*xi64>", "Pow", 12);
    let image = "%x: tensor<1x1x5x5xf32>";
    let pool = |kind: &str, more: &str| {
        format!("%0 = nn.pool %x {{{more}kernel = [2, 2], kind = \"{kind}\"}} : tensor<*xf32>")
    };
    check(image, &pool("max", ""), "MaxPool", 7);
    check(image, &pool("max", "dilations = [2, 2], "), "MaxPool", 10);
    check(image, &pool("mean", "ceil_mode = true, "), "AveragePool", 10);
    check(image, &pool("mean", "dilations = [2, 2], "), "AveragePool", 19);
    check(X, "%0 = math.arg_reduce %x {kind = \"max\"} : tensor<*xi64>", "ArgMax", 7);
    check(X, "%0 = math.arg_reduce %x {kind = \"max\", last = true} : tensor<*xi64>", "ArgMax", 12);
    let regions = "%x: tensor<1x1x4x4xf32>, %r: tensor<1x4xf32>, %b: tensor<1xi64>";
    let regions = regions.replace("%b: tensor<1xi64>", "%c: tensor<f32>");
    let region = "%b = tensor.const {value = dense<[0]> : tensor<1xi64>} : tensor<1xi64>\n%0 = nn.roi_align %x, %r, %b";
    check(&regions, &format!("{region} {{half_pixel = false}} : tensor<*xf32>"), "RoiAlign", 10);
    check(&regions, &format!("{region} {{half_pixel = true}} : tensor<*xf32>"), "RoiAlign", 16);
}

#[test]
fn scales_along_an_axis_need_operator_set_13() {
    let scale = |shape: &str, values: &[f32]| reals("s", shape, values).replace("tensor<xf32>", "tensor<f32>");
    let (one, each) = (scale("", &[0.5]), scale("3", &[0.5, 0.25, 1.0]));
    let quantize = |scale: &str, to: &str| format!("{scale}%0 = quant.quantize %x, %s {{to = {to}}} : tensor<*x{to}>");
    check(X, &quantize(&one, "u8"), "QuantizeLinear", 10);
    check(X, &quantize(&one, "i8"), "QuantizeLinear", 10);
    check(X, &quantize(&each, "i8"), "QuantizeLinear", 13);
    check(X, &quantize(&one, "i16"), "QuantizeLinear", 21);
    let integers = "%x: tensor<2x3x4xu8>";
    check(integers, &format!("{one}%0 = quant.dequantize %x, %s : tensor<*xf32>"), "DequantizeLinear", 10);
    check(integers, &format!("{each}%0 = quant.dequantize %x, %s : tensor<*xf32>"), "DequantizeLinear", 13);
    let fake = "%0 = quant.fake_quant %x {high = [4.0], low = [-4.0], to = i8} : tensor<*xf32>";
    check(X, fake, "QuantizeLinear", 10);
}

fn node(op: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
    let own = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
    let name = Some(format!("the {op}"));
    NodeProto {
        name,
        op_type: Some(op.into()),
        input: own(inputs),
        output: own(outputs),
        attribute,
        ..NodeProto::default()
    }
}

fn model(opset: i64, nodes: Vec<NodeProto>) -> ModelProto {
    let ty: Type = optc_ir::TensorType::fixed(DType::F32, &[2, 3, 4]).into();
    let value = |name: &str| ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(write_type(&ty)),
        ..ValueInfoProto::default()
    };
    let graph = GraphProto {
        node: nodes,
        input: vec![value("x")],
        output: vec![value("y")],
        initializer: vec![write_tensor("axes", &Tensor::from_slice(&[1], &[1i64]).unwrap())],
        ..GraphProto::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: None, version: Some(opset) }];
    ModelProto { ir_version: Some(4), opset_import, graph: Some(graph), ..ModelProto::default() }
}

fn again(model: &ModelProto) -> ModelProto {
    export_model(&import_bytes(&model.encode_to_vec()).unwrap()).unwrap()
}

/// A softmax of before operator set 13 comes back as the one node that it was.
#[test]
fn a_softmax_over_several_axes_stays_one_node() {
    let axis = AttributeProto { name: Some("axis".into()), i: Some(1), r#type: Some(2), ..AttributeProto::default() };
    for op in ["Softmax", "LogSoftmax"] {
        let before = model(11, vec![node(op, &["x"], &["y"], vec![axis.clone()])]);
        let after = again(&before);
        assert_eq!(after.opset_import[0].version(), 11);
        let mut nodes = after.graph.unwrap().node;
        nodes[0].attribute.clear(); // `axis` is 1, which is the default
        assert_eq!(nodes, [node(op, &["x"], &["y"], vec![])]);
    }
}

/// A constant that the importer reads into an attribute takes its name again where it is an input.
#[test]
fn constants_that_were_read_keep_their_names() {
    let before = model(18, vec![node("ReduceMean", &["x", "axes"], &["y"], vec![])]);
    let after = again(&before).graph.unwrap();
    assert_eq!((after.initializer.len(), after.initializer[0].name()), (1, "axes"));
    assert_eq!(after.node[0].input, ["x", "axes"]);
}
