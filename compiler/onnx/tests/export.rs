//! What is exported and imported again computes the same.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use optc_ir::{Graph, NodeId, Val, Value, infer_types, parse, run};
use optc_onnx::proto::{GraphProto, NodeProto, StringStringEntryProto};
use optc_onnx::{
    ExportOptions, ExternalData, ModelFile, export_file, export_file_as, export_model, import_bytes, import_file,
    import_model,
};
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

/// Checks that a graph, and the graphs in it, define no name that is defined already where they stand; returns how many
/// names there are.
fn define_once(graph: &GraphProto, outer: &HashSet<String>) -> usize {
    let mut names = outer.clone();
    let own = |n: &NodeProto| n.output.clone();
    let inputs = graph.input.iter().map(|i| i.name().to_owned());
    let defined = inputs.chain(graph.initializer.iter().map(|i| i.name().to_owned()));
    for name in defined.chain(graph.node.iter().flat_map(own)).filter(|n| !n.is_empty()) {
        assert!(names.insert(name.clone()), "`{name}` is defined twice");
    }
    let inner = graph.node.iter().flat_map(|n| &n.attribute).filter_map(|a| a.g.as_ref());
    names.len() - outer.len() + inner.map(|g| define_once(g, &names)).sum::<usize>()
}

#[test]
fn no_name_is_defined_again_where_it_can_be_seen() {
    let mut graph = parse(NESTED).unwrap();
    infer_types(&mut graph).unwrap();
    let model = export_model(&graph).unwrap();
    let main = model.graph.unwrap();
    assert!(define_once(&main, &HashSet::new()) > 10);
    let nodes: Vec<_> = main.node.into_iter().filter_map(|n| n.name).collect();
    assert_eq!(nodes, ["repeat"]); // the ops of a fused kernel have names of their own, or none
}

/// The names of nodes and of what they compute, in order, without what leaves no op in the graph.
fn all_names(graph: &GraphProto) -> Vec<String> {
    let nodes = graph.node.iter().filter(|n| !matches!(n.op_type(), "Constant" | "Identity" | "Dropout"));
    nodes.flat_map(|n| std::iter::once(n.name().to_owned()).chain(n.output.clone())).collect()
}

#[test]
fn nodes_and_values_keep_their_names_and_models_what_they_say_of_themselves() {
    for name in ["mlp", "lenet", "mobilenetv2", "resnet8", "vit", "lstm"] {
        let mut before = ModelFile::open(&testdata(&format!("{name}.onnx"))).unwrap();
        before.model.metadata_props =
            vec![StringStringEntryProto { key: Some("author".into()), value: Some("nobody".into()) }];
        (before.model.doc_string, before.model.model_version) = (Some("what it is for".into()), Some(3));
        let graph = import_model(&before).unwrap();
        let after = export_model(&graph).unwrap();
        assert_eq!(after.opset_import[0].version(), before.opsets[""], "{name}");
        assert_eq!(after.metadata_props, before.model.metadata_props);
        assert_eq!((after.doc_string(), after.model_version()), ("what it is for", 3));
        let (before, after) = (before.graph().clone(), after.graph.unwrap());
        assert_eq!(after.name(), before.name());
        let kept: HashSet<String> = all_names(&after).into_iter().collect();
        let lost: Vec<String> = all_names(&before).into_iter().filter(|n| !n.is_empty() && !kept.contains(n)).collect();
        assert_eq!(lost, Vec::<String>::new(), "{name}");
        let constants: HashSet<&str> = before.initializer.iter().map(|t| t.name()).collect();
        assert!(after.initializer.iter().any(|t| constants.contains(t.name())), "{name}");
    }
}

/// What a pass puts in the place of something is called as that was, and what it adds as nothing else.
#[test]
fn replaced_values_pass_on_their_names() {
    let text = r#"func @main(%x: tensor<2xf32>) notes("opset" = "17") {
  %0 = math.relu %x : tensor<2xf32> loc("first") as "middle"
  %1 = math.neg %0 : tensor<2xf32> loc("second") as "last"
  %2 = math.exp %1 : tensor<2xf32> loc("third")
  return %2 as "y"
}"#;
    let mut graph = parse(text).unwrap();
    let printed = optc_ir::print(&graph).text;
    assert_eq!(optc_ir::print(&parse(&printed).unwrap()).text, printed);
    let (first, second) = (graph.ids().nth(1).unwrap(), graph.ids().nth(2).unwrap());
    let tanh = graph.add(optc_ir::ops::math::Tanh {}, &[graph.operand(first, 0)], vec![graph.ty(value(first)).clone()]);
    graph.replace_uses(value(first), value(tanh));
    graph.remove(first);
    let abs = graph.add(optc_ir::ops::math::Abs {}, &[Some(value(tanh))], vec![graph.ty(value(tanh)).clone()]);
    graph.set_operand(second, 0, Some(value(abs)));
    let main = export_model(&graph).unwrap().graph.unwrap();
    let outputs: Vec<_> = main.node.iter().map(|n| (n.op_type(), n.output[0].as_str())).collect();
    assert_eq!(outputs, [("Tanh", "middle"), ("Abs", "v_0"), ("Neg", "last"), ("Exp", "y")]);
}

/// What two branches computed from one constant is written once, around them; a constant of the model that each has is
/// not merged with one of another name.
#[test]
fn branches_share_what_they_computed() {
    let zeros = "tensor.const {value = dense<0.5> : tensor<400xf32>} : tensor<400xf32>";
    let branch = |loc: &str| {
        format!("{{ %0 = {zeros}{loc} as \"w\" %1 = math.add %0, %x : tensor<400xf32> return %1 as \"z\" }}")
    };
    let names = |locs: [&str; 2]| {
        let [yes, no] = locs.map(branch);
        let text = format!(
            "func @main(%c: tensor<bool>, %x: tensor<400xf32>) {{\n%0 = cf.if %c, %x : tensor<400xf32> region\n\
             func @then(%x: tensor<400xf32>) {yes}\nregion\n\
             func @else(%x: tensor<400xf32>) {no}\nreturn %0 as \"y\"\n}}"
        );
        let graph = parse(&text).unwrap();
        let main = export_model(&graph).unwrap().graph.unwrap();
        let branches = main.node[0].attribute.iter().filter_map(|a| a.g.as_ref());
        let inner: Vec<_> = branches.map(|g| g.initializer.len()).collect();
        let own = main.initializer.len();
        assert_eq!(run(&again(&graph), &inputs()).unwrap(), run(&graph, &inputs()).unwrap());
        (own, inner)
    };
    assert_eq!(names(["", ""]), (1, vec![0, 0]));
    assert_eq!(names([" loc(\"a\")", " loc(\"b\")"]), (0, vec![1, 1]));
}

fn inputs() -> [Val; 2] {
    let x: Vec<f32> = (0..400).map(|i| i as f32).collect();
    [Tensor::from_bools(&[], &[false]).unwrap().into(), Tensor::from_slice(&[400], &x).unwrap().into()]
}

fn value(node: NodeId) -> Value {
    Value { node, result: 0 }
}

/// The names in a folder, sorted.
fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn constants_lie_in_a_data_file_where_one_file_is_too_small_or_that_is_asked_for() {
    let graph = import_file(&testdata("lenet.onnx")).unwrap();
    let image: Vec<f32> = (0..784).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
    let image: Val = Tensor::from_slice(&[1, 1, 28, 28], &image).unwrap().into();
    let expected = run(&graph, std::slice::from_ref(&image)).unwrap();
    let when = |external, max_bytes| ExportOptions { external, max_bytes, ..ExportOptions::default() };
    for (options, is_split) in [
        (when(ExternalData::WhenNeeded, 1 << 30), false),
        (when(ExternalData::WhenNeeded, 100_000), true),
        (when(ExternalData::Always, 1 << 30), true),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        let written = export_file_as(&graph, &path, &options).unwrap();
        assert_eq!(written.data.is_some(), is_split);
        let both: &[&str] = if is_split { &["m.onnx", "m.onnx.data"] } else { &["m.onnx"] };
        assert_eq!(files(folder.path()), both);
        let sizes = both.iter().map(|name| folder.path().join(name).metadata().unwrap().len());
        assert_eq!(written.bytes, sizes.sum::<u64>());
        let file = ModelFile::open(&path).unwrap();
        assert_eq!(file.data_files().len(), usize::from(is_split));
        for tensor in file.graph().initializer.iter().filter(|t| !t.external_data.is_empty()) {
            assert!(tensor.raw_data.is_none());
            let offset = tensor.external_data.iter().find(|e| e.key() == "offset").unwrap().value();
            assert_eq!(offset.parse::<usize>().unwrap() % 4096, 0);
        }
        assert_eq!(run(&import_file(&path).unwrap(), std::slice::from_ref(&image)).unwrap(), expected);
        // Written again over what is mapped: the model and its data belong together.
        let mapped = import_file(&path).unwrap();
        export_file_as(&mapped, &path, &options).unwrap();
        assert_eq!(files(folder.path()), both);
        assert_eq!(run(&import_file(&path).unwrap(), std::slice::from_ref(&image)).unwrap(), expected);
    }
}

#[test]
fn a_model_with_a_data_file_is_written_whole_or_not_at_all() {
    let graph = import_file(&testdata("mlp.onnx")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    let options = ExportOptions { external: ExternalData::Always, ..ExportOptions::default() };
    std::fs::create_dir(folder.path().join("m.onnx.data")).unwrap(); // nothing can be written there
    assert_eq!(export_file_as(&graph, &path, &options).unwrap_err().kind(), optc_onnx::DiagnosticKind::Io);
    assert_eq!(files(folder.path()), ["m.onnx.data"]);
    let error = export_file_as(&graph, Path::new("/dev/null"), &options).unwrap_err();
    assert!(error.reason().contains("is not a plain file"), "{error}");
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
