//! What is exported and imported again computes the same.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};

use optc_ir::{Graph, Val, infer_types, parse, run};
use optc_onnx::proto::{GraphProto, NodeProto};
use optc_onnx::{export_file, export_model, import_bytes, import_file};
use optc_tensor::Tensor;
use prost::Message;

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata").join(name)
}

fn again(graph: &Graph) -> Graph {
    let graph = import_bytes(&export_model(graph).unwrap().encode_to_vec()).unwrap();
    assert_eq!(optc_ir::verify(&graph), []);
    graph
}

fn names(graph: &Graph) -> Vec<String> {
    let inputs = graph.inputs().map(|v| graph.input_name(v).unwrap().to_owned());
    inputs.chain(graph.outputs.iter().map(|o| o.name.clone())).collect()
}

#[test]
fn trained_models_come_back_bit_for_bit() {
    for name in ["mlp", "lenet", "mobilenetv2", "resnet8", "vit", "lstm"] {
        let graph = import_file(&testdata(&format!("{name}.onnx"))).unwrap();
        let back = again(&graph);
        assert_eq!(names(&back), names(&graph), "{name}");
        let image: Vec<f32> = (0..784).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
        let image: Val = Tensor::from_slice(&[1, 1, 28, 28], &image).unwrap().into();
        assert_eq!(run(&back, std::slice::from_ref(&image)).unwrap(), run(&graph, &[image]).unwrap(), "{name}");
    }
}

/// A dtype asks for the operator set that it came with.
#[test]
fn operator_sets_know_the_dtypes_of_a_model() {
    for (dtype, opset, ir_version) in [("f8E5M2", 21, 10), ("f4E2M1FN", 23, 11), ("f8E8M0FNU", 24, 12), ("i2", 25, 13)]
    {
        let text = format!(
            "func @main(%x: tensor<2x3xf32>) {{\n  %0 = math.cast %x {{to = {dtype}}} : tensor<2x3x{dtype}>\n  \
             %1 = tensor.transpose %0 {{perm = [1, 0]}} : tensor<3x2x{dtype}>\n  \
             %2 = math.cast %1 {{to = f32}} : tensor<3x2xf32>\n  return %2 as \"y\"\n}}"
        );
        let graph = parse(&text).unwrap();
        let model = export_model(&graph).unwrap();
        assert_eq!((model.opset_import[0].version, model.ir_version), (Some(opset), Some(ir_version)), "{dtype}");
        let x: Val = Tensor::from_slice(&[2, 3], &[0.5f32, 1.0, -2.0, 1.5, 0.0, 1.0]).unwrap().into();
        assert_eq!(run(&again(&graph), std::slice::from_ref(&x)).unwrap(), run(&graph, &[x]).unwrap(), "{dtype}");
    }
}

/// How to round and what does not saturate is written with the node.
#[test]
fn conversions_that_are_not_the_default_come_back() {
    let graph = parse(
        r#"func @main(%x: tensor<4xf32>) {
  %0 = math.narrow %x {round_mode = "down", saturate = true, to = f8E8M0FNU} : tensor<4xf8E8M0FNU>
  %1 = math.narrow %x {saturate = false, to = f8E4M3FN} : tensor<4xf8E4M3FN>
  %s = tensor.const {value = dense<[0.5]> : tensor<1xf32>} : tensor<1xf32>
  %2 = quant.quantize %x, %s {saturate = false, to = f8E5M2} : tensor<4xf8E5M2>
  %3 = quant.dequantize %2, %s : tensor<4xf32>
  return %0 as "powers", %1 as "floats", %3 as "reals"
}"#,
    )
    .unwrap();
    let x: Val = Tensor::from_slice(&[4], &[3f32, 1000.0, -1e9, 0.3]).unwrap().into();
    assert_eq!(run(&again(&graph), std::slice::from_ref(&x)).unwrap(), run(&graph, &[x]).unwrap());
}

/// Regions in regions, with captures, constants and passed-on values; a fused kernel; a result that is an input.
const NESTED: &str = r#"func @main(%n: tensor<i64>, %c: tensor<bool>, %x: tensor<2xf32>) {
  %k = tensor.const {value = dense<[10.0, 20.0]> : tensor<2xf32>} : tensor<2xf32>
  %0, %1 = cf.loop %n, %c, %x, %c, %x {carried = 1} : tensor<2xf32>, tensor<?x2xf32> loc("repeat") region
  func @body(%i: tensor<i64>, %go: tensor<bool>, %v: tensor<2xf32>, %c: tensor<bool>, %x: tensor<2xf32>) {
    %k = tensor.const {value = dense<[10.0, 20.0]> : tensor<2xf32>} : tensor<2xf32>
    %0 = cf.if %c, %v, %x : tensor<2xf32> region
    func @then(%v: tensor<2xf32>, %x: tensor<2xf32>) { %0 = math.add %v, %x : tensor<2xf32> return %0 as "v" }
    region
    func @else(%v: tensor<2xf32>, %x: tensor<2xf32>) { return %x as "v" }
    %1 = math.mul %0, %k : tensor<2xf32>
    return %go as "go", %1 as "v", %x as "x"
  }
  %2 = kernel.fused %0, %k : tensor<2xf32> loc("fused") region
  func @kernel(%a: tensor<2xf32>, %b: tensor<2xf32>) {
    %0 = math.sub %a, %b : tensor<2xf32>
    %1 = math.relu %0 : tensor<2xf32>
    return %1 as "y"
  }
  return %2 as "y", %1 as "stack", %x as "copy", %2 as "y again", %k as "constant"
}"#;

#[test]
fn regions_become_subgraphs_and_fused_kernels_are_written_out() {
    let mut graph = parse(NESTED).unwrap();
    infer_types(&mut graph).unwrap();
    let back = again(&graph);
    assert_eq!(names(&back), names(&graph));
    for (n, c) in [(3i64, true), (0, true), (2, false)] {
        let x = Tensor::from_slice(&[2], &[1f32, -2.0]).unwrap();
        let inputs = [Tensor::scalar(n).into(), Tensor::from_bools(&[], &[c]).unwrap().into(), x.into()];
        assert_eq!(run(&back, &inputs).unwrap(), run(&graph, &inputs).unwrap(), "{n} {c}");
    }
}

#[test]
fn factors_that_are_rounded_are_cast_back() {
    let text = r#"func @main(%x: tensor<1x2xf32>) {
  %w = tensor.const {value = dense<[1.0, 0.5, 2.0, -1.0]> : tensor<2x2xf32>} : tensor<2x2xf32>
  %0 = math.cast %x {to = bf16} : tensor<1x2xbf16>
  %1 = math.matmul %0, %w {precision = bf16} : tensor<1x2xf32>
  return %1 as "y"
}"#;
    let mut graph = parse(text).unwrap();
    infer_types(&mut graph).unwrap();
    let x: Val = Tensor::from_slice(&[1, 2], &[1.001f32, 3.003]).unwrap().into();
    assert_eq!(run(&again(&graph), std::slice::from_ref(&x)).unwrap(), run(&graph, &[x]).unwrap());
}

/// All names of values that a graph and the graphs in it define.
fn defined(graph: &GraphProto, names: &mut Vec<String>) {
    names.extend(graph.input.iter().map(|i| i.name().to_owned()));
    names.extend(graph.initializer.iter().map(|i| i.name().to_owned()));
    let own = |n: &NodeProto| n.output.clone();
    names.extend(graph.node.iter().flat_map(own).filter(|n| !n.is_empty()));
    graph.node.iter().flat_map(|n| &n.attribute).filter_map(|a| a.g.as_ref()).for_each(|g| defined(g, names));
}

#[test]
fn every_name_is_defined_once_in_the_whole_model() {
    let mut graph = parse(NESTED).unwrap();
    infer_types(&mut graph).unwrap();
    let model = export_model(&graph).unwrap();
    let mut names = vec![];
    defined(model.graph.as_ref().unwrap(), &mut names);
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
    let nodes: Vec<_> = model.graph.unwrap().node.into_iter().filter_map(|n| n.name).collect();
    assert_eq!(nodes, ["repeat"]); // the ops of a fused kernel have names of their own, or none
}

#[test]
fn a_file_that_cannot_be_written_leaves_nothing_behind() {
    let graph = import_file(&testdata("mlp.onnx")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let error = export_file(&graph, &folder.path().join("missing/out.onnx")).unwrap_err();
    assert_eq!(error.kind(), optc_onnx::DiagnosticKind::Io);
    let path = folder.path().join("out.onnx");
    export_file(&graph, &path).unwrap();
    assert_eq!(names(&import_file(&path).unwrap()), names(&graph));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
