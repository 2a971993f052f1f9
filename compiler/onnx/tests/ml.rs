//! `ai.onnx.ml`: what is wrong with a model is said, and no model makes an import run for ever.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use optc_ir::{Graph, TensorType, Type, Val, run};
use optc_onnx::proto::attribute_proto::AttributeType;
use optc_onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TypeProto, ValueInfoProto, type_proto,
};
use optc_onnx::{ModelFile, export_model, import_bytes, notes, write_tensor, write_type};
use optc_tensor::{DType, Tensor};
use prost::Message;

fn attribute(name: &str, kind: AttributeType, value: AttributeProto) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), r#type: Some(kind as i32), ..value }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    attribute(name, AttributeType::Ints, AttributeProto { ints: values.to_vec(), ..AttributeProto::default() })
}

fn int(name: &str, value: i64) -> AttributeProto {
    attribute(name, AttributeType::Int, AttributeProto { i: Some(value), ..AttributeProto::default() })
}

fn floats(name: &str, values: &[f32]) -> AttributeProto {
    attribute(name, AttributeType::Floats, AttributeProto { floats: values.to_vec(), ..AttributeProto::default() })
}

fn string(name: &str, value: &str) -> AttributeProto {
    let s = Some(value.to_owned().into());
    attribute(name, AttributeType::String, AttributeProto { s, ..AttributeProto::default() })
}

fn strings(name: &str, values: &[&str]) -> AttributeProto {
    let strings = values.iter().map(|v| (*v).to_owned().into()).collect();
    attribute(name, AttributeType::Strings, AttributeProto { strings, ..AttributeProto::default() })
}

fn tensor(name: &str, dtype: DType, values: &[f64]) -> AttributeProto {
    let t = Some(write_tensor("", &Tensor::from_f64(dtype, &[values.len()], values).unwrap()));
    attribute(name, AttributeType::Tensor, AttributeProto { t, ..AttributeProto::default() })
}

/// A model of one op on `x: 4x2` of this dtype, with two results.
fn model(op: &str, dtype: DType, attributes: Vec<AttributeProto>) -> ModelProto {
    let info = |name: &str, ty: Option<Type>| ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: ty.map(|ty| write_type(&ty)),
        ..ValueInfoProto::default()
    };
    let outputs: &[&str] = if op.ends_with("Classifier") { &["label", "scores"] } else { &["y"] };
    let node = NodeProto {
        op_type: Some(op.to_owned()),
        domain: Some("ai.onnx.ml".to_owned()),
        input: vec!["x".to_owned()],
        output: outputs.iter().map(|&name| name.to_owned()).collect(),
        attribute: attributes,
        ..NodeProto::default()
    };
    let graph = GraphProto {
        node: vec![node],
        input: vec![info("x", Some(TensorType::fixed(dtype, &[4, 2]).into()))],
        output: outputs.iter().map(|name| info(name, None)).collect(),
        ..GraphProto::default()
    };
    let opset = |domain: &str, version| OperatorSetIdProto { domain: Some(domain.to_owned()), version: Some(version) };
    ModelProto {
        ir_version: Some(10),
        opset_import: vec![opset("", 21), opset("ai.onnx.ml", 5)],
        graph: Some(graph),
        ..ModelProto::default()
    }
}

fn import(op: &str, attributes: Vec<AttributeProto>) -> Result<Graph, String> {
    let bytes = model(op, DType::F32, attributes).encode_to_vec();
    import_bytes(&bytes).map_err(|e| e.to_string())
}

/// Attributes with some of them exchanged for others of their name, or taken out where these are empty.
fn with(mut attributes: Vec<AttributeProto>, others: &[AttributeProto]) -> Vec<AttributeProto> {
    for other in others {
        attributes.retain(|a| a.name() != other.name());
        let empty = other.ints.is_empty() && other.floats.is_empty() && other.strings.is_empty();
        if !empty || other.t.is_some() || other.s.is_some() || other.i.is_some() {
            attributes.push(other.clone());
        }
    }
    attributes
}

/// Each change of the attributes gives an error that says this.
fn refused(op: &str, attributes: &[AttributeProto], cases: &[(&[AttributeProto], &str)]) {
    assert!(import(op, attributes.to_vec()).is_ok(), "{:?}", import(op, attributes.to_vec()).err());
    for (change, expected) in cases {
        let found = import(op, with(attributes.to_vec(), change)).err().unwrap_or_default();
        assert!(found.contains(expected), "{op}: {found:?}, expected {expected:?}");
        assert!(found.contains(op), "{found:?} names no op");
    }
}

/// `x[0] <= 0.5` leads to 1 or 2.
fn tree() -> Vec<AttributeProto> {
    vec![
        ints("nodes_treeids", &[0; 3]),
        ints("nodes_nodeids", &[0, 1, 2]),
        ints("nodes_featureids", &[0; 3]),
        floats("nodes_values", &[0.5, 0.0, 0.0]),
        strings("nodes_modes", &["BRANCH_LEQ", "LEAF", "LEAF"]),
        ints("nodes_truenodeids", &[1, 0, 0]),
        ints("nodes_falsenodeids", &[2, 0, 0]),
    ]
}

fn regressor() -> Vec<AttributeProto> {
    let weights = [
        ints("target_treeids", &[0, 0]),
        ints("target_nodeids", &[1, 2]),
        ints("target_ids", &[0, 0]),
        floats("target_weights", &[10.0, 20.0]),
        int("n_targets", 1),
    ];
    [tree(), weights.to_vec()].concat()
}

#[test]
fn hostile_trees_are_refused_in_words() {
    refused(
        "TreeEnsembleRegressor",
        &regressor(),
        &[
            (&[ints("nodes_nodeids", &[])], "attribute `nodes_nodeids` is missing"),
            (&[floats("nodes_values", &[])], "attribute `nodes_values` is missing"),
            (&[ints("target_ids", &[])], "attribute `target_ids` is missing"),
            (&[ints("nodes_treeids", &[0, 0])], "`nodes_treeids` has 2 elements, expected 3"),
            (&[ints("nodes_falsenodeids", &[2])], "`nodes_falsenodeids` has 1 elements, expected 3"),
            (&[floats("target_weights", &[1.0])], "`target_treeids` has 2 elements, expected 1"),
            (&[ints("nodes_missing_value_tracks_true", &[1])], "has 1 elements, expected 3"),
            (&[ints("nodes_truenodeids", &[0, 0, 0])], "node 0 of tree 0 leads back to itself"),
            (&[ints("nodes_truenodeids", &[7, 0, 0])], "leads to node 7, which the tree does not have"),
            (&[ints("nodes_truenodeids", &[-1, 0, 0])], "leads to node -1, which the tree does not have"),
            (&[ints("nodes_nodeids", &[0, 1, 1])], "node 1 of tree 0 is listed twice"),
            (&[ints("nodes_treeids", &[0, 1, 1])], "leads to node 1, which the tree does not have"),
            (&[ints("nodes_featureids", &[2, 0, 0])], "`x` has 2 features, the trees test feature 2"),
            (&[ints("nodes_featureids", &[-1, 0, 0])], "feature -1 is out of range"),
            (&[ints("nodes_featureids", &[i64::MAX, 0, 0])], "feature 9223372036854775807 is out of range"),
            (&[strings("nodes_modes", &["BRANCH_LEQ", "LEAF", "STEM"])], "is \"STEM\", expected one of \"LEAF\""),
            (&[ints("target_nodeids", &[1, 9])], "a weight is for node 9 of tree 0, which is not there"),
            (&[ints("target_ids", &[0, 3])], "there are 1 targets, expected at least 4"),
            (&[int("n_targets", -1)], "target -1 is out of range"),
            (&[floats("base_values", &[1.0, 2.0])], "`base_values` has 2 elements, expected 1"),
            (&[string("aggregate_function", "MEDIAN")], "is \"MEDIAN\", expected one of"),
            (&[tensor("nodes_values_as_tensor", DType::F64, &[0.0; 3])], "`nodes_values` is given twice"),
        ],
    );
}

#[test]
fn a_long_cycle_is_found_and_a_deep_tree_is_none() {
    let n = 200_000i64;
    let chain = |last: i64| {
        let mut modes = vec!["BRANCH_LEQ"; n as usize];
        modes.push("LEAF");
        let mut next: Vec<i64> = (1..=n).collect();
        next[n as usize - 1] = last;
        next.push(0);
        let zeros = vec![0; n as usize + 1];
        vec![
            ints("nodes_treeids", &zeros),
            ints("nodes_nodeids", &(0..=n).collect::<Vec<_>>()),
            ints("nodes_featureids", &zeros),
            floats("nodes_values", &vec![0.5; n as usize + 1]),
            strings("nodes_modes", &modes),
            ints("nodes_truenodeids", &next),
            ints("nodes_falsenodeids", &vec![n; n as usize + 1]),
            ints("target_treeids", &[0]),
            ints("target_nodeids", &[n]),
            ints("target_ids", &[0]),
            floats("target_weights", &[3.0]),
        ]
    };
    assert!(import("TreeEnsembleRegressor", chain(0)).unwrap_err().contains("leads back to itself"));
    let graph = import("TreeEnsembleRegressor", chain(n)).unwrap();
    let x = Tensor::zeros(DType::F32, &[4, 2]).unwrap();
    let y = run(&graph, &[Val::Tensor(x)]).unwrap();
    assert_eq!(y[0].as_tensor().unwrap().to_f64_vec(), [3.0; 4]);
}

#[test]
fn classes_fit_their_weights() {
    let weights = [
        ints("class_treeids", &[0, 0]),
        ints("class_nodeids", &[1, 2]),
        ints("class_ids", &[0, 2]),
        floats("class_weights", &[10.0, 20.0]),
        ints("classlabels_int64s", &[4, 5, 6]),
    ];
    refused(
        "TreeEnsembleClassifier",
        &[tree(), weights.to_vec()].concat(),
        &[
            (&[ints("class_ids", &[0, 3])], "a weight is for class 3 of 3"),
            (&[ints("class_ids", &[0, -3])], "class -3 is out of range"),
            (&[ints("classlabels_int64s", &[])], "expected one of `classlabels_int64s` and `classlabels_strings`"),
            (&[strings("classlabels_strings", &["a", "b", "c"])], "the classes have labels of both kinds"),
            (&[floats("base_values", &[1.0])], "`base_values` has 1 elements, expected 3"),
            (&[ints("class_nodeids", &[1])], "`class_nodeids` has 1 elements, expected 2"),
            (&[string("post_transform", "SQUARE")], "is \"SQUARE\", expected one of \"NONE\", \"SOFTMAX\""),
        ],
    );
}

/// `x[0]` is 1 or 2, else `x[1] < 3`.
fn ensemble() -> Vec<AttributeProto> {
    vec![
        ints("tree_roots", &[0]),
        tensor("nodes_modes", DType::U8, &[6.0, 1.0]),
        ints("nodes_featureids", &[0, 1]),
        tensor("nodes_splits", DType::F32, &[0.0, 3.0]),
        ints("nodes_truenodeids", &[0, 1]),
        ints("nodes_trueleafs", &[1, 1]),
        ints("nodes_falsenodeids", &[1, 2]),
        ints("nodes_falseleafs", &[0, 1]),
        tensor("membership_values", DType::F32, &[1.0, 2.0, f64::NAN]),
        ints("leaf_targetids", &[0, 1, 0]),
        tensor("leaf_weights", DType::F32, &[5.0, 6.0, 7.0]),
        int("n_targets", 2),
    ]
}

#[test]
fn ensembles_of_version_5_are_checked() {
    refused(
        "TreeEnsemble",
        &ensemble(),
        &[
            (&[tensor("membership_values", DType::F32, &[1.0, f64::NAN, 2.0])], "has 2 sets, expected 1"),
            (&[tensor("membership_values", DType::F32, &[])], "has 0 sets, expected 1"),
            (&[tensor("nodes_modes", DType::U8, &[6.0, 6.0])], "has 1 sets, expected 2"),
            (&[tensor("nodes_modes", DType::U8, &[6.0, 9.0])], "mode 9 is none, expected 0 to 6"),
            (&[tensor("nodes_splits", DType::F32, &[1.0])], "`nodes_splits` has 1 elements, expected 2"),
            (&[ints("nodes_trueleafs", &[1])], "`nodes_trueleafs` has 1 elements, expected 2"),
            (&[ints("nodes_truenodeids", &[3, 1])], "node 0 leads to leaf 3 of 3"),
            (&[ints("nodes_falsenodeids", &[2, 2])], "node 0 leads to node 2 of 2"),
            (&[ints("nodes_falsenodeids", &[-1, 2])], "node 0 leads to node -1 of 2"),
            (&[ints("nodes_falsenodeids", &[0, 2])], "node 0 leads back to itself"),
            (&[ints("tree_roots", &[2])], "a tree begins at node 2 of 2"),
            (&[ints("tree_roots", &[-1])], "a tree begins at node -1 of 2"),
            (&[ints("leaf_targetids", &[0, 1])], "`leaf_targetids` has 2 elements, expected 3"),
            (&[ints("leaf_targetids", &[0, 5, 0])], "there are 2 targets, expected at least 6"),
            (&[int("post_transform", 7)], "`post_transform` is 7, expected 0 to 4"),
            (&[int("aggregate_function", 4)], "`aggregate_function` is 4, expected 0 to 3"),
            (&[ints("tree_roots", &[])], "attribute `tree_roots` is missing"),
        ],
    );
}

fn on_rows(graph: &Graph, rows: &[f32]) -> Vec<f64> {
    let x = Tensor::from_slice(&[4, 2], rows).unwrap();
    run(graph, &[Val::Tensor(x)]).unwrap()[0].as_tensor().unwrap().to_f64_vec()
}

/// What the standard says of the numbers of `post_transform`: ONNX Runtime takes 1 and 2 for one another.
#[test]
fn transforms_have_the_numbers_of_the_standard_and_sets_come_back() {
    let rows = [1.0, 9.0, 2.0, 9.0, 3.0, 2.0, 0.0, 3.0];
    let graph = import("TreeEnsemble", ensemble()).unwrap();
    assert_eq!(on_rows(&graph, &rows), [5.0, 0.0, 5.0, 0.0, 0.0, 6.0, 7.0, 0.0]);
    let again = import_bytes(&export_model(&graph).unwrap().encode_to_vec()).unwrap();
    assert_eq!(on_rows(&again, &rows), on_rows(&graph, &rows));
    let by =
        |number| on_rows(&import("TreeEnsemble", with(ensemble(), &[int("post_transform", number)])).unwrap(), &rows);
    let (softmax, logistic) = (by(1), by(2));
    assert!((softmax[0] + softmax[1] - 1.0).abs() < 1e-6 && softmax[1] < 0.01, "{softmax:?}");
    assert!((logistic[1] - 0.5).abs() < 1e-6 && (logistic[0] - 0.993_307).abs() < 1e-5, "{logistic:?}");
}

#[test]
fn linear_models_and_machines_fit_their_coefficients() {
    let linear = [floats("coefficients", &[1.0, 2.0]), floats("intercepts", &[0.5]), ints("classlabels_ints", &[4, 5])];
    refused(
        "LinearClassifier",
        &linear,
        &[
            (&[floats("coefficients", &[])], "attribute `coefficients` is missing"),
            (&[floats("coefficients", &[1.0; 3])], "the operand has 2 features, the coefficients are for 3"),
            (&[floats("intercepts", &[1.0; 3])], "there are 3 intercepts for 2 classes"),
            (&[ints("classlabels_ints", &[])], "expected one of `classlabels_ints` and `classlabels_strings`"),
        ],
    );
    refused(
        "LinearRegressor",
        &[floats("coefficients", &[1.0, 2.0, 3.0, 4.0]), int("targets", 2)],
        &[
            (&[int("targets", 3)], "4 coefficients are not 3 rows of one length"),
            (&[int("targets", 0)], "4 coefficients are not 0 rows of one length"),
            (&[int("targets", -2)], "there are -2 targets"),
        ],
    );
    let machine = [
        floats("coefficients", &[1.0, -1.0]),
        floats("support_vectors", &[1.0, 2.0, 3.0, 4.0]),
        ints("vectors_per_class", &[1, 1]),
        floats("rho", &[0.5]),
        floats("kernel_params", &[0.5, 0.0, 3.0]),
        string("kernel_type", "RBF"),
        ints("classlabels_ints", &[4, 5]),
    ];
    refused(
        "SVMClassifier",
        &machine,
        &[
            (&[ints("vectors_per_class", &[1, 1, 1])], "`vectors_per_class` has 3 numbers for 2 classes"),
            (&[ints("vectors_per_class", &[3, -1])], "a class has -1 support vectors"),
            (&[ints("vectors_per_class", &[1, 2])], "4 numbers are not 3 support vectors of one length"),
            (&[ints("vectors_per_class", &[i64::MAX, i64::MAX])], "weights, more than 67108864"),
            (&[floats("coefficients", &[1.0])], "`coefficients` has 1 numbers, expected 2 for 2 classes"),
            (&[floats("kernel_params", &[1.0])], "`kernel_params` has 1 numbers, expected 3"),
            (&[string("kernel_type", "SQUARE")], "is \"SQUARE\", expected one of \"LINEAR\""),
            (&[floats("rho", &[])], "attribute `rho` is missing"),
            (&[floats("prob_a", &[1.0])], "`prob_b` has 0 numbers, expected 1 for 2 classes"),
            (&[floats("support_vectors", &[1.0; 6])], "the rows have 2 and 3 elements"),
        ],
    );
    let regressor = [
        floats("coefficients", &[1.0]),
        floats("support_vectors", &[1.0, 2.0]),
        int("n_supports", 1),
        floats("rho", &[0.5]),
    ];
    refused(
        "SVMRegressor",
        &regressor,
        &[
            (&[int("n_supports", -1)], "there are -1 support vectors"),
            (&[int("n_supports", 2)], "there are 1 coefficients for 2 support vectors"),
            (&[floats("support_vectors", &[])], "attribute `support_vectors` is missing"),
        ],
    );
}

#[test]
fn features_fit_their_lists() {
    refused(
        "Imputer",
        &[floats("imputed_value_floats", &[1.0, 2.0])],
        &[
            (&[floats("imputed_value_floats", &[])], "attribute `imputed_value_floats` is missing"),
            (&[floats("imputed_value_floats", &[1.0; 3])], "there are 3 imputed values for 2 features"),
            (&[ints("imputed_value_int64s", &[1])], "floats and integers are imputed, expected one of them"),
        ],
    );
    refused(
        "OneHotEncoder",
        &[ints("cats_int64s", &[1, 2])],
        &[
            (&[ints("cats_int64s", &[])], "expected one of `cats_int64s` and `cats_strings`"),
            (&[strings("cats_strings", &["a"])], "expected one of `cats_int64s` and `cats_strings`"),
            (&[ints("cats_int64s", &[]), strings("cats_strings", &["a"])], "has numbers, the categories are strings"),
        ],
    );
    refused(
        "FeatureVectorizer",
        &[ints("inputdimensions", &[2])],
        &[
            (&[ints("inputdimensions", &[])], "attribute `inputdimensions` is missing"),
            (&[ints("inputdimensions", &[2, 2])], "there are 1 inputs and 2 numbers of features"),
            (&[ints("inputdimensions", &[-2])], "-2 features are none"),
        ],
    );
    refused(
        "ZipMap",
        &[ints("classlabels_int64s", &[1, 2])],
        &[
            (&[ints("classlabels_int64s", &[])], "attribute `classlabels_int64s` is missing"),
            (&[ints("classlabels_int64s", &[1, 2, 3])], "there are 2 scores for 3 labels"),
            (&[strings("classlabels_strings", &["a", "b"])], "the classes have labels of both kinds"),
        ],
    );
    refused("Normalizer", &[string("norm", "L1")], &[(&[string("norm", "L3")], "is \"L3\", expected one of \"MAX\"")]);
    let mapped = import("CategoryMapper", vec![strings("cats_strings", &["a"]), ints("cats_int64s", &[1, 2])]);
    assert!(mapped.unwrap_err().contains("there are 1 strings and 2 integers"));
}

#[test]
fn unknown_categories_are_errors_where_there_are_no_zeros_for_them() {
    let graph = import("OneHotEncoder", vec![ints("cats_int64s", &[1, 2]), int("zeros", 0)]).unwrap();
    assert_eq!(on_rows(&graph, &[1.0, 2.0, 2.0, 1.0, 1.0, 1.0, 2.0, 2.0])[..4], [1.0, 0.0, 0.0, 1.0]);
    let x = Tensor::from_slice(&[4, 2], &[3f32; 8]).unwrap();
    assert!(run(&graph, &[Val::Tensor(x)]).is_err());
}

/// The output is declared to be a sequence of maps, as skl2onnx does.
#[test]
fn maps_of_scores_are_their_tensor_and_a_note() {
    let mut m = model("ZipMap", DType::F32, vec![ints("classlabels_int64s", &[1, 2])]);
    let map = type_proto::Map {
        key_type: Some(7),
        value_type: Some(Box::new(write_type(&TensorType::unranked(DType::F32).into()))),
    };
    let map = TypeProto { value: Some(type_proto::Value::MapType(Box::new(map))), ..TypeProto::default() };
    let sequence = type_proto::Sequence { elem_type: Some(Box::new(map)) };
    let declared =
        TypeProto { value: Some(type_proto::Value::SequenceType(Box::new(sequence))), ..TypeProto::default() };
    m.graph.as_mut().unwrap().output[0].r#type = Some(declared);
    let file = ModelFile::from_bytes(&m.encode_to_vec()).unwrap();
    let graph = optc_onnx::import_model(&file).unwrap();
    assert_eq!(graph.ty(graph.outputs[0].value).to_string(), "tensor<4x2xf32>");
    let expected = "`y` gives its scores as a tensor, with a column for each key of its maps, in order";
    assert_eq!(notes(&file), [expected]);
    let other = model("Normalizer", DType::F32, vec![]).encode_to_vec();
    assert!(notes(&ModelFile::from_bytes(&other).unwrap()).is_empty());
}

#[test]
fn ops_that_take_maps_are_refused() {
    for op in ["CastMap", "DictVectorizer"] {
        assert!(import(op, vec![]).unwrap_err().contains(&format!("ai.onnx.ml.{op}")));
    }
}
