//! bfloat16 in whole networks: what kernels give is what the interpreter gives for the same graph, whose products round
//! their factors, and nearer to it than to the result in `f32`.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use optc::{Compiler, DType, Options, Precision, Tensor, Val};
use optc_ir::{Graph, Op, Type};
use optc_passes::{PassManager, PassOptions, Pipeline, Registry, bf16_pipeline};
use optc_tensor::Difference;
use optc_testing::isas;
use optc_tests::data;

const PICTURES: usize = 4;
const PIXELS: usize = 28 * 28;

/// Whether a product of the graph rounds its factors.
fn rounds(graph: &Graph) -> bool {
    graph.ids().map(|id| graph.node(id)).any(|node| match &node.op {
        Op::Conv(op) => op.precision == DType::BF16,
        Op::Gemm(op) => op.precision == DType::BF16,
        Op::MatMul(op) => op.precision == DType::BF16,
        _ => node.regions.iter().any(rounds),
    })
}

/// The pipeline that rounds all products, whether that is faster or not.
fn all_products() -> String {
    bf16_pipeline(&Registry::standard(), "O2").unwrap().replace("to-bf16", "to-bf16{layers=all}")
}

/// Whether a value of the graph is stored rounded.
fn stores(graph: &Graph) -> bool {
    let half = |ty: &Type| ty.as_tensor().is_some_and(|t| t.dtype == DType::BF16);
    graph.ids().any(|id| graph.node(id).results.iter().any(|r| half(&r.ty)))
}

/// Whether a network rounds after a pipeline, and what the interpreter makes of some pictures.
fn interpreted(name: &str, passes: &str, pictures: &Val) -> (bool, Tensor) {
    let mut graph = optc_onnx::import_file(&data::testdata(&format!("{name}.onnx"))).unwrap();
    optc_passes::specialize(&mut graph, &[pictures.ty()]).unwrap();
    PassManager::new(PassOptions::default()).run(&Pipeline::parse(passes).unwrap(), &mut graph).unwrap();
    let outputs = optc_ir::run(&graph, std::slice::from_ref(pictures)).unwrap();
    assert_eq!(rounds(&graph), stores(&graph), "{name} stores what its products read");
    (rounds(&graph), outputs[0].as_tensor().unwrap().clone())
}

fn rounds_as_the_interpreter(name: &str) {
    let all = data::array("fashion_100.npz", "input").unwrap();
    let some = &all.as_slice::<f32>().unwrap()[..PICTURES * PIXELS];
    let pictures = Val::from(Tensor::from_slice(&[PICTURES, 1, 28, 28], some).unwrap());
    let (rounds, rounded) = interpreted(name, &all_products(), &pictures);
    assert!(rounds, "no product of {name} is rounded");
    let (_, exact) = interpreted(name, "O2", &pictures);
    for isa in isas() {
        let options = Options { isa: Some(isa.name.to_owned()), passes: all_products(), ..Options::default() };
        let model = Compiler::new(options).compile_file(&data::testdata(&format!("{name}.onnx"))).unwrap();
        let found = model.session().run_values(std::slice::from_ref(&pictures)).unwrap();
        let found = found[0].as_tensor().unwrap();
        let [near, far] =
            [&rounded, &exact].map(|want| Difference::between(found, want, 0.0, 0.0).expect("the same shape"));
        // A sum that ends on the other side of a tie is rounded the other way.
        assert!(near.max_abs <= 4e-3 * near.range && near.cosine >= 0.9999, "{name} on {}: {near:?}", isa.name);
        assert!(2.0 * near.rmse < far.rmse, "{name} on {}: {near:?}, from f32 {far:?}", isa.name);
    }
}

#[test]
fn a_perceptron() {
    rounds_as_the_interpreter("mlp");
}

#[test]
fn convolutions() {
    rounds_as_the_interpreter("lenet");
}

#[test]
fn depthwise_convolutions() {
    rounds_as_the_interpreter("mobilenetv2");
}

#[test]
fn residual_blocks() {
    rounds_as_the_interpreter("resnet8");
}

/// What `--precision bf16` rounds is up to the machine; the answer is near that in `f32` all the same.
#[test]
fn a_precision_is_a_permission() {
    let all = data::array("fashion_100.npz", "input").unwrap();
    let some = &all.as_slice::<f32>().unwrap()[..PICTURES * PIXELS];
    let pictures = Val::from(Tensor::from_slice(&[PICTURES, 1, 28, 28], some).unwrap());
    let (_, exact) = interpreted("resnet8", "O2", &pictures);
    for isa in isas() {
        let options = Options { isa: Some(isa.name.to_owned()), precision: Precision::Bf16, ..Options::default() };
        let model = Compiler::new(options).compile_file(&data::testdata("resnet8.onnx")).unwrap();
        let found = model.session().run_values(std::slice::from_ref(&pictures)).unwrap();
        let far = Difference::between(found[0].as_tensor().unwrap(), &exact, 0.0, 0.0).unwrap();
        assert!(far.cosine >= 0.999, "on {}: {far:?}", isa.name);
    }
}
