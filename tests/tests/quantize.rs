//! Networks of `testdata` quantized from calibration pictures: accuracy, the bits of the interpreter, the exported model, and samples or
//! weights that cannot be used.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use optc::{Compiler, Error, Method, Model, Options, Quantized, Quantizer, Tensor, Val};
use optc_ir::{Graph, Op, run};
use optc_passes::{PassManager, PassOptions, Pipeline};
use optc_tests::data;

const PIXELS: usize = 28 * 28;
const CLASSES: usize = 10;
/// Test pictures that are tried.
const TRIED: usize = 2000;
const BATCH: usize = 100;

fn graph(name: &str) -> Graph {
    optc_onnx::import_file(&data::testdata(&format!("{name}.onnx"))).unwrap()
}

fn quantizer(name: &str) -> Quantizer {
    Quantizer::new(graph(name), &Options::default(), &[]).unwrap()
}

fn quantized(name: &str) -> Quantized {
    let mut quantizer = quantizer(name);
    quantizer.observe(&[data::array("fashion_100.npz", "input").unwrap().into()]).unwrap();
    quantizer.finish(Method::MinMax).unwrap()
}

fn hits(model: &Model, images: &[u8], labels: &[u8]) -> usize {
    let mut session = model.session();
    let mut hits = 0;
    for (pixels, labels) in images.chunks(BATCH * PIXELS).zip(labels.chunks(BATCH)) {
        let values: Vec<f32> = pixels.iter().map(|&p| (f32::from(p) / 255.0 - 0.2860) / 0.3530).collect();
        let input = Tensor::from_slice(&[labels.len(), 1, 28, 28], &values).unwrap();
        let logits = session.run_values(&[input.into()]).unwrap()[0].as_tensor().unwrap().to_f64_vec();
        for (row, &label) in logits.chunks(CLASSES).zip(labels) {
            let best = (0..CLASSES).fold(0, |best, i| if row[i] > row[best] { i } else { best });
            hits += usize::from(best == usize::from(label));
        }
    }
    hits
}

/// At most half a point of top-1 is lost, on a part of the test pictures; the whole graph's products are in integers.
fn stays_accurate(name: &str) {
    let images = data::array("test_images.npz", "images").unwrap();
    let labels = data::array("test_images.npz", "labels").unwrap();
    let images = &images.as_slice::<u8>().unwrap()[..TRIED * PIXELS];
    let labels = &labels.as_slice::<u8>().unwrap()[..TRIED];
    let quantized = quantized(name);
    assert!(quantized.layers.iter().all(|l| l.int8), "{name}: {:?}", quantized.layers);
    let float = Compiler::default().compile_graph(graph(name)).unwrap();
    let int8 = Compiler::default().compile_graph(quantized.graph).unwrap();
    let (float, int8) = (hits(&float, images, labels), hits(&int8, images, labels));
    assert!(float.abs_diff(int8) <= TRIED / 200, "{name}: {float} in float, {int8} in integers, of {TRIED}");
}

#[test]
fn mlp_stays_accurate() {
    stays_accurate("mlp");
}

#[test]
fn lenet_stays_accurate() {
    stays_accurate("lenet");
}

#[test]
fn resnet8_stays_accurate() {
    stays_accurate("resnet8");
}

#[test]
fn mobilenetv2_stays_accurate() {
    stays_accurate("mobilenetv2");
}

#[test]
fn vit_stays_accurate() {
    stays_accurate("vit");
}

/// A graph after the default pipeline, for pictures of a number.
fn optimized(graph: &Graph, pictures: &Val) -> Graph {
    let mut graph = graph.clone();
    optc_passes::specialize(&mut graph, &[pictures.ty()]).unwrap();
    PassManager::new(PassOptions::default()).run(&Pipeline::parse("O2").unwrap(), &mut graph).unwrap();
    graph
}

fn contains(graph: &Graph, found: &impl Fn(&Op) -> bool) -> bool {
    graph.ids().any(|id| found(&graph.node(id).op) || graph.node(id).regions.iter().any(|r| contains(r, found)))
}

#[test]
fn compiled_integers_are_those_of_the_interpreter() {
    let all = data::array("fashion_100.npz", "input").unwrap();
    let pictures: Val =
        Tensor::from_slice(&[2, 1, 28, 28], &all.as_slice::<f32>().unwrap()[..2 * PIXELS]).unwrap().into();
    for name in ["mlp", "lenet", "resnet8", "mobilenetv2"] {
        let graph = optimized(&quantized(name).graph, &pictures);
        assert!(
            !contains(&graph, &|op| matches!(op, Op::Conv(_) | Op::Gemm(_) | Op::MatMul(_))),
            "{name} has float products"
        );
        let interpreted = run(&graph, std::slice::from_ref(&pictures)).unwrap();
        for isa in optc_codegen::testing::isas() {
            let options =
                Options { passes: "infer-types".to_owned(), isa: Some(isa.name.to_owned()), ..Options::default() };
            let model = Compiler::new(options).compile_graph(graph.clone()).unwrap();
            let compiled = model.session().run_values(std::slice::from_ref(&pictures)).unwrap();
            assert_eq!(interpreted[0].as_tensor(), compiled[0].as_tensor(), "{name} on {}", isa.name);
        }
    }
}

#[test]
fn an_exported_model_gives_what_the_graph_does() {
    let all = data::array("fashion_100.npz", "input").unwrap();
    let graph = quantized("lenet").graph;
    let file = tempfile::Builder::new().suffix(".onnx").tempfile().unwrap();
    optc_onnx::export_file(&graph, file.path()).unwrap();
    let size = std::fs::metadata(file.path()).unwrap().len();
    assert!(size * 10 < 3 * std::fs::metadata(data::testdata("lenet.onnx")).unwrap().len(), "{size} bytes");
    let [a, b] = [Compiler::default().compile_graph(graph), Compiler::default().compile_file(file.path())]
        .map(|model| model.unwrap().session().run_values(&[all.clone().into()]).unwrap());
    assert_eq!(a[0].as_tensor(), b[0].as_tensor());
}

#[test]
fn nodes_that_are_skipped_stay_in_float() {
    let skip = ["/c2/Conv".to_owned()];
    let mut quantizer = Quantizer::new(graph("lenet"), &Options::default(), &skip).unwrap();
    quantizer.observe(&[data::array("fashion_100.npz", "input").unwrap().into()]).unwrap();
    let quantized = quantizer.finish(Method::Percentile(99.99)).unwrap();
    let float: Vec<&str> = quantized.layers.iter().filter(|l| !l.int8).map(|l| &*l.name).collect();
    assert_eq!(float, ["/c2/Conv"]);
    assert!(contains(&quantized.graph, &|op| matches!(op, Op::Dequantize(_))));
}

fn refused(sample: Tensor) -> String {
    quantizer("lenet").observe(&[sample.into()]).unwrap_err().to_string()
}

#[test]
fn samples_that_do_not_fit_are_refused() {
    let mut values = vec![0.5f32; PIXELS];
    assert!(refused(Tensor::from_slice(&[1, 28, 28], &values).unwrap()).contains("`input`"));
    assert!(refused(Tensor::from_slice(&[1, 1, 28, 28], &vec![1u8; PIXELS]).unwrap()).contains("u8"));
    values[7] = f32::NAN;
    let found = refused(Tensor::from_slice(&[1, 1, 28, 28], &values).unwrap());
    assert!(found.contains("NaN") && found.contains("/c1/Conv.x"), "{found}");
    let nothing = quantizer("lenet").finish(Method::MinMax).unwrap_err();
    assert!(matches!(nothing, Error::Range { .. }), "{nothing}");
}

#[test]
fn zeros_and_shared_weights_are_quantized() {
    let text = r#"
func @shared(%x: tensor<1x2x3x3xf32>) {
  %w = tensor.const {value = dense<[1, -0.5, 0, 0]> : tensor<2x2x1x1xf32>} : tensor<2x2x1x1xf32>
  %b = tensor.const {value = dense<[0.25, 3.5]> : tensor<2xf32>} : tensor<2xf32>
  %0 = nn.conv %x, %w, %b : tensor<1x2x3x3xf32> loc("a")
  %1 = nn.conv %0, %w, %b : tensor<1x2x3x3xf32> loc("b")
  return %1 as "y"
}
"#;
    let graph = optc_ir::parse(text).unwrap();
    let sample: Val = Tensor::from_slice(&[1, 2, 3, 3], &[0f32; 18]).unwrap().into();
    let mut quantizer = Quantizer::new(graph.clone(), &Options::default(), &[]).unwrap();
    quantizer.observe(std::slice::from_ref(&sample)).unwrap();
    let quantized = quantizer.finish(Method::MinMax).unwrap();
    let [float, int8] = [graph, quantized.graph].map(|g| {
        Compiler::default().compile_graph(g).unwrap().session().run_values(std::slice::from_ref(&sample)).unwrap()
    });
    let pairs = float[0].as_tensor().unwrap().to_f64_vec().into_iter().zip(int8[0].as_tensor().unwrap().to_f64_vec());
    pairs.for_each(|(f, q)| assert!((f - q).abs() < 0.03, "{f} and {q}"));
}

#[test]
fn weights_that_are_not_finite_are_refused() {
    let text = r#"
func @nan(%x: tensor<1x2xf32>) {
  %w = tensor.const {value = @w} : tensor<2x2xf32>
  %0 = math.matmul %x, %w : tensor<1x2xf32> loc("fc")
  return %0 as "y"
}
"#;
    let weights = Tensor::from_slice(&[2, 2], &[1f32, f32::NAN, 0.0, 2.0]).unwrap();
    let graph = optc_ir::parse_with(text, &std::collections::HashMap::from([("w".to_owned(), weights)])).unwrap();
    let error = Quantizer::new(graph, &Options::default(), &[]).unwrap_err().to_string();
    assert!(error.contains("weight 1 of `fc.w` is NaN"), "{error}");
}
