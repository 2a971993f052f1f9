//! From a [`ModelFile`] to a [`Graph`].
//!
//! The walk over a model's graphs is in `walk`, ops with subgraphs are in `control`, `map` and `flex`. Each other ONNX
//! node is handed to the mapping of its op in [`crate::ops`], which adds IR ops through a [`NodeCx`](crate::NodeCx).
//! Declared types of results are not trusted: inferred ones hold, but for whether an output is an optional.

mod control;
mod flex;
mod importer;
mod map;
mod walk;

use std::path::Path;

use optc_ir::Graph;
use optc_tensor::FileAccess;

use crate::model::ModelFile;
use crate::{Diagnostic, ops};

/// Imports the model at `path`. Its file and its data files are mapped; see [`FileAccess::Map`] for what that asks of
/// them.
///
/// # Errors
/// The file cannot be read, is not a valid model, or uses something that is not supported.
pub fn import_file(path: &Path) -> Result<Graph, Diagnostic> {
    import_file_as(path, FileAccess::Map)
}

/// Imports the model at `path`, whose files are mapped or read.
///
/// # Errors
/// As [`import_file`].
pub fn import_file_as(path: &Path, access: FileAccess) -> Result<Graph, Diagnostic> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    import_model(&ModelFile::open_as(path, access)?).map_err(|d| d.in_model(name))
}

/// Imports a model from memory.
///
/// # Errors
/// As [`import_file`].
pub fn import_bytes(bytes: &[u8]) -> Result<Graph, Diagnostic> {
    import_model(&ModelFile::from_bytes(bytes)?)
}

/// Imports a decoded model.
///
/// # Errors
/// The model is not valid, or uses something that is not supported; all unsupported ops come in one error.
pub fn import_model(file: &ModelFile) -> Result<Graph, Diagnostic> {
    file.check_ops(is_supported, ops::refusal)?;
    importer::Importer::new(file, true).main_graph()
}

/// [`import_model`] of a node that waited for the types of its operands.
pub(crate) fn import_known(file: &ModelFile) -> Result<Graph, Diagnostic> {
    importer::Importer::new(file, false).main_graph()
}

/// What users of a model should know of how it is imported: where it computes what optc has no type for.
pub fn notes(file: &ModelFile) -> Vec<String> {
    let maps = file.op_histogram().remove(&("ai.onnx.ml".to_owned(), ops::ZIP_MAP.to_owned())).unwrap_or_default();
    let note =
        |node| format!("`{node}` gives its scores as a tensor, with a column for each key of its maps, in order");
    maps.into_iter().map(note).collect()
}

/// Whether the importer knows an op; the standard domain is `""`.
pub fn is_supported(domain: &str, op: &str) -> bool {
    control::is_control(domain, op) || ops::find(domain, op).is_some() || ops::custom::is_registered(domain, op)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{
        AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto,
        attribute_proto::AttributeType,
    };
    use crate::{DiagnosticKind, write_tensor, write_type};
    use optc_ir::{Dim, TensorType, Type, Val};
    use optc_tensor::{DType, Tensor};
    use prost::Message;

    fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
        let own = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
        NodeProto { input: own(inputs), output: own(outputs), op_type: Some(op.into()), ..NodeProto::default() }
    }

    fn value(name: &str, ty: TensorType) -> ValueInfoProto {
        ValueInfoProto { name: Some(name.into()), r#type: Some(write_type(&ty.into())), ..ValueInfoProto::default() }
    }

    fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
        OperatorSetIdProto { domain: Some(domain.into()), version: Some(version) }
    }

    /// A model of `x: Nx2` and result `y`, declared with a wrong shape.
    fn model(nodes: Vec<NodeProto>) -> ModelProto {
        let x = TensorType::new(DType::F32, vec![Dim::Named("N".into()), Dim::Known(2)]);
        let graph = GraphProto {
            node: nodes,
            input: vec![value("x", x)],
            output: vec![value("y", TensorType::fixed(DType::F32, &[9, 9, 9]))],
            initializer: vec![write_tensor("w", &Tensor::from_slice(&[2], &[10f32, 20.0]).unwrap())],
            ..GraphProto::default()
        };
        ModelProto { ir_version: Some(8), opset_import: vec![opset("", 17)], graph: Some(graph), ..Default::default() }
    }

    fn import(m: &ModelProto) -> Result<Graph, Diagnostic> {
        import_bytes(&m.encode_to_vec())
    }

    fn run(m: &ModelProto) -> Vec<f64> {
        let graph = import(m).unwrap();
        let x = Tensor::from_slice(&[1, 2], &[-1f32, 2.0]).unwrap();
        let results = optc_ir::run(&graph, &[Val::Tensor(x)]).unwrap();
        results[0].as_tensor().unwrap().to_f64_vec()
    }

    #[test]
    fn nodes_in_any_order_run_and_wrong_declared_shapes_do_no_harm() {
        let m = model(vec![node("Relu", &["s"], &["y"]), node("Add", &["x", "w"], &["s"])]);
        assert_eq!(run(&m), [9.0, 22.0]);
    }

    #[test]
    fn initializers_that_are_inputs_as_well_are_constants() {
        let mut m = model(vec![node("Mul", &["x", "w"], &["y"])]);
        m.graph.as_mut().unwrap().input.push(value("w", TensorType::fixed(DType::F32, &[2])));
        assert_eq!(import(&m).unwrap().inputs().len(), 1);
        assert_eq!(run(&m), [-10.0, 40.0]);
    }

    #[test]
    fn functions_are_inlined_with_their_attributes_and_absent_inputs() {
        let alpha = |name: &str, to: &str| AttributeProto {
            name: Some(name.into()),
            ref_attr_name: Some(to.into()),
            r#type: Some(AttributeType::Float as i32),
            ..AttributeProto::default()
        };
        let slope = AttributeProto { f: Some(0.5), ref_attr_name: None, ..alpha("slope", "") };
        let body = vec![
            NodeProto { attribute: vec![alpha("alpha", "slope")], ..node("LeakyRelu", &["in"], &["mid"]) },
            node("Clip", &["mid", "", "top"], &["out"]),
        ];
        let function = FunctionProto {
            name: Some("Leak".into()),
            domain: Some("local".into()),
            input: vec!["in".into(), "top".into()],
            output: vec!["out".into()],
            attribute: vec!["slope".into()],
            node: body,
            opset_import: vec![opset("", 17)],
            ..FunctionProto::default()
        };
        let call = NodeProto { domain: Some("local".into()), attribute: vec![slope], ..node("Leak", &["x"], &["y"]) };
        let m = ModelProto { functions: vec![function.clone()], ..model(vec![call.clone()]) };
        assert_eq!(run(&m), [-0.5, 2.0]);
        let endless = FunctionProto {
            node: vec![NodeProto { input: vec!["in".into()], output: vec!["out".into()], ..call.clone() }],
            ..function
        };
        let m = ModelProto { functions: vec![endless], ..model(vec![call]) };
        assert!(import(&m).unwrap_err().reason().contains("nested deeper"));
    }

    #[test]
    fn errors_name_the_node_and_the_op() {
        let stray = AttributeProto { name: Some("stray".into()), ..AttributeProto::default() };
        let m =
            model(vec![NodeProto { name: Some("n1".into()), attribute: vec![stray], ..node("Relu", &["x"], &["y"]) }]);
        let error = import(&m).unwrap_err().to_string();
        assert_eq!(error, "import: unknown attribute `stray`\n  node:  `n1` (Relu, opset 17)");
        let missing = import(&model(vec![node("Frobnicate", &["x"], &["y"])])).unwrap_err();
        assert_eq!(missing.kind(), DiagnosticKind::Unsupported);
        assert!(import(&model(vec![])).unwrap_err().reason().contains("output `y`"));
        let m = model(vec![node("Split", &["x"], &["y", "z"])]);
        let parts = import(&m).unwrap(); // the extent to split is not known, and neither are those of the parts
        assert_eq!(parts.ty(parts.outputs[0].value).to_string(), "tensor<?x2xf32>");
    }

    #[test]
    fn unknown_words_are_named_with_those_that_are_expected() {
        let refused = |op: &str, inputs: &[&str], word: AttributeProto| {
            let node = NodeProto { name: Some("n1".into()), attribute: vec![word], ..node(op, inputs, &["y"]) };
            import(&model(vec![node])).unwrap_err().to_string()
        };
        let word = |name: &str, word: &str| AttributeProto {
            name: Some(name.into()),
            s: Some(word.to_owned().into()),
            r#type: Some(AttributeType::String as i32),
            ..AttributeProto::default()
        };
        let expected = "import: attribute `mode` is \"mirror\", \
                        expected one of \"constant\", \"edge\", \"reflect\", \"wrap\"\n  node:  `n1` (Pad, opset 17)";
        assert_eq!(refused("Pad", &["x", "w"], word("mode", "mirror")), expected);
        let nearest = refused("Resize", &["x", "", "w"], word("nearest_mode", "simple"));
        assert!(nearest.contains(r#"expected one of "round_prefer_floor", "round_prefer_ceil", "floor", "ceil""#));
        let case = refused("StringNormalizer", &["x"], word("case_change_action", "Title"));
        assert!(case.contains(r#"is "Title", expected one of "NONE", "LOWER", "UPPER""#), "{case}");
        let names = AttributeProto {
            strings: vec![bytes::Bytes::from_static(b"tanH"), bytes::Bytes::from_static(b"Square")],
            r#type: Some(AttributeType::Strings as i32),
            ..word("activations", "")
        };
        let activation = refused("GRU", &["x", "w", "w"], names);
        assert!(activation.contains(r#"`activations` is "Square", expected one of "Sigmoid", "Tanh", "Relu""#));
    }

    /// Whether a dropout trains, and how much it drops, may be known only at run time.
    #[test]
    fn dropouts_that_drop_nothing_give_back_what_they_get() {
        let mut m = model(vec![node("Dropout", &["x", "ratio", "training"], &["y"])]);
        let inputs = &mut m.graph.as_mut().unwrap().input;
        inputs.push(value("ratio", TensorType::fixed(DType::F32, &[])));
        inputs.push(value("training", TensorType::fixed(DType::Bool, &[])));
        let graph = import(&m).unwrap();
        let run = |ratio: f32, training: bool| {
            let x = Tensor::from_slice(&[4, 2], &[0.3f32, -1.0, 7.0, f32::INFINITY, 0.1, 2.0, 3.0, 4.0]).unwrap();
            let training = Tensor::from_bools(&[], &[training]).unwrap();
            let given = [x.clone().into(), Tensor::scalar(ratio).into(), training.into()];
            let results = optc_ir::run(&graph, &given).unwrap();
            results[0] == Val::Tensor(x)
        };
        assert!(run(0.0, true) && run(0.75, false) && run(1.0, false) && !run(0.75, true));
    }

    /// Old operator sets are read where the ops that a model has are those of today.
    #[test]
    fn ops_that_changed_early_are_refused_in_older_operator_sets() {
        let of = |op: &str, version: i64| {
            let m = model(vec![node(op, &["x", "w"][..if op == "PRelu" { 2 } else { 1 }], &["y"])]);
            import(&ModelProto { opset_import: vec![opset("", version)], ..m })
        };
        assert!(of("Relu", 1).is_ok() && of("PRelu", 7).is_ok());
        let error = of("PRelu", 6).unwrap_err();
        assert_eq!(error.kind(), DiagnosticKind::Unsupported);
        assert_eq!(error.reason(), "op `PRelu` of operator set 6 is not supported: expected 7 or newer");
    }

    /// The statistics of a batch normalization are named by exporters, though nothing reads them.
    #[test]
    fn outputs_of_training_may_be_named_where_nobody_reads_them() {
        let inputs = ["x", "w", "w", "w", "w"];
        let norm = |op: &str, outputs: &[&str]| node(op, &inputs, outputs);
        let named = ["y", "mean", "variance", "saved_mean", "saved_variance"];
        assert_eq!(run(&model(vec![norm("BatchNormalization", &named)])).len(), 2);
        assert_eq!(run(&model(vec![norm("BatchNormalization", &["y", "mean", "variance"])])).len(), 2);
        let refused = |nodes: Vec<NodeProto>| import(&model(nodes)).unwrap_err().reason().to_owned();
        let read = vec![norm("BatchNormalization", &["z", "mean"]), node("Add", &["z", "mean"], &["y"])];
        assert!(refused(read).contains("2 outputs, expected at most 1"));
        let six = [&named[..], &["more"]].concat();
        assert!(refused(vec![norm("BatchNormalization", &six)]).contains("6 outputs"));
        assert!(refused(vec![node("Relu", &["x"], &["y", "more"])]).contains("2 outputs"));
    }

    #[test]
    fn outputs_are_optionals_where_they_are_declared_so() {
        let declared = |op: &str, ty: Type| {
            let mut m = model(vec![node(op, &["x"], &["y"])]);
            m.graph.as_mut().unwrap().output[0].r#type = Some(write_type(&ty));
            let graph = import(&m).unwrap();
            graph.ty(graph.outputs[0].value).to_string()
        };
        let tensor: Type = TensorType::unranked(DType::F32).into();
        let optional = Type::Optional(Box::new(tensor.clone()));
        assert_eq!(declared("Relu", optional.clone()), "opt<tensor<Nx2xf32>>");
        assert_eq!(declared("Optional", optional), "opt<tensor<Nx2xf32>>");
        assert_eq!(declared("Optional", tensor), "tensor<Nx2xf32>");
    }

    #[test]
    fn names_are_not_empty_and_not_defined_twice() {
        let relu = || vec![node("Relu", &["x"], &["y"])];
        let mut m = model(relu());
        m.graph.as_mut().unwrap().input[0].name = None;
        assert_eq!(import(&m).unwrap_err().reason(), "an input has no name");
        let mut m = model(relu());
        m.graph.as_mut().unwrap().initializer[0].name = None;
        assert_eq!(import(&m).unwrap_err().reason(), "an initializer has no name");
        let mut m = model(relu());
        let again = m.graph.as_ref().unwrap().initializer[0].clone();
        m.graph.as_mut().unwrap().initializer.push(again);
        assert_eq!(import(&m).unwrap_err().reason(), "initializer `w` is defined twice");
    }

    #[test]
    fn truncated_models_never_panic() {
        let bytes = model(vec![node("Relu", &["s"], &["y"]), node("Add", &["x", "w"], &["s"])]).encode_to_vec();
        for n in 0..bytes.len() {
            let _ = import_bytes(&bytes[..n]); // most are errors; none may panic
        }
    }

    /// Of each op of ONNX Runtime: how many inputs it has, those that count, an attribute, and what is said.
    #[test]
    fn what_onnx_runtime_has_beyond_what_is_imported_is_refused_by_name() {
        let int = |name: &str, i: i64| AttributeProto {
            name: Some(name.into()),
            i: Some(i),
            r#type: Some(AttributeType::Int as i32),
            ..AttributeProto::default()
        };
        let word = |name: &str, s: &str| AttributeProto {
            name: Some(name.into()),
            s: Some(s.to_owned().into()),
            r#type: Some(AttributeType::String as i32),
            ..AttributeProto::default()
        };
        let of = |op: &str, last: usize, attribute: AttributeProto| {
            let inputs: Vec<&str> = (0..=last).map(|i| if i == 0 || i == last { "x" } else { "" }).collect();
            let node = NodeProto { attribute: vec![attribute], ..node(op, &inputs, &["y"]) };
            let node = NodeProto { domain: Some("com.microsoft".into()), ..node };
            import(&model(vec![node])).unwrap_err().reason().to_owned()
        };
        let heads = || int("num_heads", 1);
        for (op, last, attribute, said) in [
            ("GroupQueryAttention", 12, heads(), "input 12 (`k_scale`)"),
            ("GroupQueryAttention", 15, heads(), "input 15 (`k_norm_weight`)"),
            ("GroupQueryAttention", 6, int("sliding_window_cache", 1), "`sliding_window_cache`"),
            ("GroupQueryAttention", 6, word("v_quant_type", "PER_TENSOR"), "`v_quant_type` is \"PER_TENSOR\""),
            ("MultiHeadAttention", 8, heads(), "input 8 (`past_sequence_length`)"),
            ("MultiHeadAttention", 9, heads(), "input 9 (`cache_indirection`)"),
            ("Attention", 1, int("do_rotary", 1), "`do_rotary`"),
            ("Attention", 6, heads(), "input 6 (`past_sequence_length`)"),
            ("QAttention", 4, int("past_present_share_buffer", 1), "`past_present_share_buffer`"),
            ("MatMulNBits", 2, int("weight_prepacked", 1), "`weight_prepacked`"),
            ("LinearAttention", 2, int("state_window", 2), "`state_window`"),
            ("CausalConvWithState", 1, int("dilation", 2), "`dilation` is 2"),
            ("GatedAdd", 3, heads(), "input 3 (`gate_weight`)"),
            ("CDist", 1, word("metric", "cosine"), "`metric` is \"cosine\""),
            ("MRotaryEmbedding", 3, int("is_packed_batching", 1), "`is_packed_batching`"),
        ] {
            let found = of(op, last, attribute);
            assert!(found.contains(said), "{op}: {found}");
        }
    }

    #[test]
    fn the_domain_of_onnx_runtime_need_not_be_imported() {
        let of = |domain: &str| NodeProto { domain: Some(domain.into()), ..node("QuickGelu", &["x"], &["y"]) };
        let mut m = model(vec![of("com.microsoft")]);
        m.graph.as_mut().unwrap().output = vec![value("y", TensorType::of(DType::F32, None))];
        assert_eq!(import(&m).unwrap().outputs.len(), 1);
        let refused = NodeProto { domain: Some("com.microsoft".into()), ..node("BeamSearch", &["x"], &["y"]) };
        let error = import(&model(vec![refused, node("Frobnicate", &["x"], &["z"])])).unwrap_err();
        let lines =
            "1× Frobnicate: `z`\n    1× com.microsoft.BeamSearch: `y`\n       it runs a decoder in a loop: compile";
        assert!(error.reason().contains(lines), "{error}");
        let others = NodeProto { domain: Some("ai.onnx.ml".into()), ..node("Scaler", &["x"], &["y"]) };
        assert!(import(&model(vec![others])).unwrap_err().to_string().contains("is not imported by the model"));
    }
}
