//! Ops that the application registers: in models, in the text form, in artifacts, and when they misbehave.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::sync::Arc;

use optc::custom::{
    Attr, CustomCall, CustomError, CustomOp, CustomOperands, Dim, Real, TensorType, register_custom_op,
};
use optc::{Compiler, DType, Options, Tensor, Type, Val};
use optc_testing::isas;

/// `y = factor * x`, the elements of `x` that are greater than 0 in `positive`, and how many there are.
struct Positive;

impl CustomOp for Positive {
    fn infer(&self, call: &CustomCall, operands: &CustomOperands) -> Result<Vec<Type>, CustomError> {
        let x = operands.types.first().copied().flatten().and_then(Type::as_tensor).ok_or("expected a tensor")?;
        if x.dtype != DType::F32 || call.attribute_as::<Real>("factor").is_none() {
            return Err(format!("x is {x}, expected f32 and a `factor`").into());
        }
        let positive = TensorType::new(DType::F32, vec![Dim::Unknown]);
        Ok(vec![x.clone().into(), positive.into(), TensorType::fixed(DType::I64, &[]).into()])
    }

    fn eval(&self, call: &CustomCall, operands: &[Option<Val>]) -> Result<Vec<Val>, CustomError> {
        let x = operands[0].as_ref().and_then(Val::as_tensor).ok_or("expected a tensor")?;
        let factor = call.attribute_as::<Real>("factor").ok_or("no factor")?.0;
        let scaled: Vec<f32> = x.as_slice::<f32>()?.iter().map(|v| v * factor).collect();
        let positive: Vec<f32> = x.as_slice::<f32>()?.iter().copied().filter(|&v| v > 0.0).collect();
        let n = positive.len();
        let results = [Tensor::from_slice(x.shape(), &scaled)?, Tensor::from_slice(&[n], &positive)?];
        Ok(results.into_iter().chain([Tensor::scalar(n as i64)]).map(Val::from).collect())
    }
}

/// An op that says one thing and gives another, as its attribute `lie` tells.
struct Liar;

impl CustomOp for Liar {
    fn infer(&self, _: &CustomCall, _: &CustomOperands) -> Result<Vec<Type>, CustomError> {
        Ok(vec![TensorType::fixed(DType::F32, &[4]).into()])
    }

    fn eval(&self, call: &CustomCall, _: &[Option<Val>]) -> Result<Vec<Val>, CustomError> {
        let tensor = match call.attribute_as::<String>("lie").unwrap_or_default().as_str() {
            "shape" => Tensor::zeros(DType::F32, &[2]),
            "dtype" => Tensor::zeros(DType::F64, &[4]),
            "count" => return Ok(vec![]),
            other => return Err(format!("{other}: there is nothing to tell").into()),
        };
        Ok(vec![tensor?.into()])
    }
}

const MODEL: &str = r#"
func @model(%x: tensor<Nx3xf32>) {
  %0 = math.relu %x : tensor<Nx3xf32>
  %1, %2, %3 = custom.call %0 {callee = "com.example::Positive@2", factor = 3.0}
    : tensor<Nx3xf32>, tensor<?xf32>, tensor<i64>
  %4 = math.add %1, %0 : tensor<Nx3xf32>
  %5 = math.neg %2 : tensor<?xf32>
  return %4 as "y", %5 as "positive", %3 as "count"
}
"#;

fn register() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        register_custom_op("com.example", "Positive", Arc::new(Positive)).unwrap();
        register_custom_op("com.example", "Liar", Arc::new(Liar)).unwrap();
    });
}

fn input() -> Val {
    Tensor::from_slice(&[2, 3], &[1f32, -2.0, 3.0, 0.0, 5.0, -6.0]).unwrap().into()
}

fn check(outputs: &[Val], how: &str) {
    let found: Vec<Vec<f64>> = outputs.iter().map(|v| v.as_tensor().unwrap().to_f64_vec()).collect();
    let expected = [vec![4.0, 0.0, 12.0, 0.0, 20.0, 0.0], vec![-1.0, -3.0, -5.0], vec![3.0]];
    assert_eq!(found, expected, "{how}");
}

#[test]
fn a_registered_op_computes_in_every_form_of_a_model() {
    register();
    let graph = optc_ir::parse(MODEL).unwrap();
    let printed = optc_ir::print(&graph);
    let again = optc_ir::print(&optc_ir::parse(&printed.text).unwrap());
    assert_eq!(again.text, printed.text, "the text form keeps the call");
    check(&optc_ir::run(&graph, &[input()]).unwrap(), "interpreted");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    optc_onnx::export_file(&graph, &path).unwrap();
    for isa in isas() {
        let options = || Options { isa: Some(isa.name.to_owned()), keep_graph: true, ..Options::default() };
        let model = Compiler::new(options()).compile_file(&path).unwrap();
        check(&model.session().run_values(&[input()]).unwrap(), isa.name);
        let saved = folder.path().join("model.optc");
        model.save(&saved).unwrap();
        let loaded = Compiler::new(options()).load(&saved).unwrap();
        check(&loaded.session().run_values(&[input()]).unwrap(), isa.name);
    }
}

#[test]
fn what_is_not_registered_is_named() {
    register();
    let unknown = MODEL.replace("::Positive@", "::Negative@");
    let error = optc_ir::parse(&unknown).unwrap();
    let message = Compiler::default().compile_graph(error).unwrap_err().to_string();
    assert!(message.contains("no custom op `com.example::Negative` is registered"), "{message}");
    let twice = register_custom_op("com.example", "Positive", Arc::new(Positive)).unwrap_err();
    assert_eq!(twice.to_string(), "the custom op `com.example::Positive` is registered already");
    for callee in ["com.example", "com.example::Positive", "com.example::Positive@x"] {
        let text = MODEL.replace("com.example::Positive@2", callee);
        let message = optc_ir::parse(&text).unwrap_err().to_string();
        assert!(message.contains("expected \"domain::Name@version\""), "{message}");
    }
}

#[test]
fn what_an_op_refuses_or_gives_against_its_word_is_an_error() {
    register();
    let compile = |text: &str| Compiler::default().compile_graph(optc_ir::parse(text).unwrap());
    let message = compile(&MODEL.replace(", factor = 3.0", "")).unwrap_err().to_string();
    assert!(message.contains("`com.example::Positive`: x is tensor<Nx3xf32>, expected f32"), "{message}");
    for (lie, expected) in [
        ("shape", "result 0 of `com.example::Liar` is tensor<2xf32>, and was said to be tensor<4xf32>"),
        ("dtype", "is tensor<4xf64>"),
        ("count", "`com.example::Liar` gave 0 results, and said 1"),
        ("else", "else: there is nothing to tell"),
    ] {
        let text = format!(
            "func @liar(%x: tensor<4xf32>) {{\n  \
             %0 = custom.call %x {{callee = \"com.example::Liar@1\", lie = \"{lie}\"}} : tensor<4xf32>\n  \
             return %0 as \"y\"\n}}\n"
        );
        let x = Tensor::zeros(DType::F32, &[4]).unwrap();
        let message = compile(&text).unwrap().session().run_values(&[x.into()]).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn attributes_of_every_kind_are_kept() {
    register();
    let attributes = [
        ("i", Attr::Int(3)),
        ("f", Attr::Real(Real(0.5))),
        ("s", Attr::Str("a \"b\"".to_owned())),
        ("ints", Attr::Ints(vec![1, 2])),
        ("floats", Attr::Reals(vec![Real(1.5)])),
        ("strings", Attr::Strs(vec!["x".to_owned()])),
        ("none", Attr::Ints(vec![])),
    ];
    let own = attributes.map(|(name, attr)| (name.to_owned(), attr)).to_vec();
    let call = CustomCall::new("com.example", "Liar", 1, own).unwrap();
    let mut graph = optc_ir::Graph::new("main");
    let x = graph.add_input("x", TensorType::fixed(DType::F32, &[4]).into());
    let node = graph.add(call.clone(), &[Some(x)], vec![TensorType::fixed(DType::F32, &[4]).into()]);
    graph.outputs.push(optc_ir::Output { name: "y".to_owned(), value: optc_ir::Value { node, result: 0 } });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    optc_onnx::export_file(&graph, &path).unwrap();
    let again = optc_onnx::import_file(&path).unwrap();
    let found = again.ids().find_map(|id| match &again.node(id).op {
        optc_ir::Op::CustomCall(call) => Some(call.clone()),
        _ => None,
    });
    assert_eq!(found, Some(call));
    assert!(CustomCall::new("d", "n", 1, vec![("callee".to_owned(), Attr::Int(0))]).is_err());
}
