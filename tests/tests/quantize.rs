//! Networks of `testdata` quantized from calibration pictures: accuracy, the bits of the interpreter, the exported
//! model, and samples or weights that cannot be used.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use optc::{
    Compiler, DType, Decision, Error, Integers, MachineProfile, Method, Model, Options, Quantized, Quantizer, Tensor,
    Val,
};
use optc_ir::ops::nn::PoolKind;
use optc_ir::ops::tensor::Constant;
use optc_ir::{Const, Graph, NodeId, Op, Output, TensorType, Value, print, run};
use optc_kernel::target::ISAS;
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

/// All products in integers, whatever the cost model says of this machine.
fn integers() -> Options {
    Options { integers: Integers::Always, ..Options::default() }
}

fn quantizer(name: &str) -> Quantizer {
    Quantizer::new(graph(name), &integers(), &[]).unwrap()
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
    let products = quantized.layers.iter().filter(|l| l.op != "nn.lstm");
    assert!(products.clone().all(|l| l.int8) && products.count() > 0, "{name}: {:?}", quantized.layers);
    let float = Compiler::default().compile_graph(graph(name)).unwrap();
    let int8 = Compiler::new(integers()).compile_graph(quantized.graph).unwrap();
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

#[test]
fn lstm_stays_accurate() {
    stays_accurate("lstm");
}

/// A graph after the default pipeline, for as many pictures as are given.
fn optimized(graph: &Graph, pictures: &Val) -> Graph {
    let mut graph = graph.clone();
    optc_passes::specialize(&mut graph, &[pictures.ty()]).unwrap();
    PassManager::new(PassOptions::default()).run(&Pipeline::parse("O2").unwrap(), &mut graph).unwrap();
    graph
}

fn contains(graph: &Graph, found: &impl Fn(&Op) -> bool) -> bool {
    graph.ids().any(|id| found(&graph.node(id).op) || graph.node(id).regions.iter().any(|r| contains(r, found)))
}

/// Pictures of the data set as an input.
fn pictures(n: usize) -> Val {
    let all = data::array("fashion_100.npz", "input").unwrap();
    Tensor::from_slice(&[n, 1, 28, 28], &all.as_slice::<f32>().unwrap()[..n * PIXELS]).unwrap().into()
}

/// A model of a graph that has been through all passes, on each instruction set of the machine.
fn on_every_isa(graph: &Graph) -> impl Iterator<Item = (&'static str, Model)> {
    optc_testing::isas().into_iter().map(|isa| {
        let passes = "infer-types".to_owned();
        let options = Options { passes, isa: Some(isa.name.to_owned()), ..Options::default() };
        (isa.name, Compiler::new(options).compile_graph(graph.clone()).unwrap())
    })
}

/// Whether an op computes with reals in a way that is not determined bit for bit.
fn approximates(op: &Op) -> bool {
    let settled = matches!(
        op,
        Op::QuantConv(_)
            | Op::QuantMatMul(_)
            | Op::QuantSum(_)
            | Op::Quantize(_)
            | Op::Dequantize(_)
            | Op::Requantize(_)
    );
    let exact =
        matches!(op, Op::Add(_) | Op::Mul(_) | Op::Cast(_) | Op::Max(_) | Op::Min(_) | Op::Relu(_) | Op::Clip(_));
    let moves =
        matches!(op, Op::Param(_) | Op::Constant(_) | Op::Reshape(_) | Op::Transpose(_) | Op::Concat(_) | Op::Pad(_));
    let views = matches!(op, Op::Slice(_) | Op::Split(_) | Op::Squeeze(_) | Op::Gather(_) | Op::ConvertLayout(_));
    let largest = matches!(op, Op::Pool(pool) if pool.kind == PoolKind::Max);
    !(settled || exact || moves || views || largest || matches!(op, Op::Fused(_)))
}

/// A product or a mean of reals, which quantization left.
fn float_product(op: &Op) -> bool {
    matches!(op, Op::Conv(_) | Op::Gemm(_) | Op::MatMul(_))
        || matches!(op, Op::Pool(pool) if pool.kind == PoolKind::Mean)
}

#[test]
fn compiled_integers_are_those_of_the_interpreter() {
    let pictures = pictures(2);
    for name in ["mlp", "lenet", "resnet8", "mobilenetv2"] {
        let graph = optimized(&quantized(name).graph, &pictures);
        assert!(!contains(&graph, &float_product), "{name} has float products");
        assert!(!contains(&graph, &approximates), "{name} has other float ops");
        let interpreted = run(&graph, std::slice::from_ref(&pictures)).unwrap();
        for (isa, model) in on_every_isa(&graph) {
            let compiled = model.session().run_values(std::slice::from_ref(&pictures)).unwrap();
            assert_eq!(interpreted[0].as_tensor(), compiled[0].as_tensor(), "{name} on {isa}");
        }
    }
}

/// Between convolutions: maxima and means under windows, with and without padding in their divisor, padding, joining,
/// clipping, moves.
const BETWEEN: &str = r#"
func @between(%x: tensor<1x3x9x9xf32>) {
  %w = tensor.const {value = @w} : tensor<8x3x3x3xf32>
  %0 = nn.conv %x, %w {pads = [1, 1, 1, 1]} : tensor<1x8x9x9xf32> loc("a")
  %low = tensor.const {value = dense<[-1]> : tensor<f32>} : tensor<f32>
  %high = tensor.const {value = dense<[6]> : tensor<f32>} : tensor<f32>
  %1 = math.clip %0, %low, %high : tensor<1x8x9x9xf32>
  %2 = nn.pool %1 {kernel = [3, 3], kind = "mean", pads = [1, 1, 1, 1]} : tensor<1x8x9x9xf32> loc("mean")
  %3 = nn.pool %1 {kernel = [3, 3], kind = "max", pads = [1, 1, 1, 1]} : tensor<1x8x9x9xf32>
  %4 = tensor.concat %2, %3 {axis = 1} : tensor<1x16x9x9xf32>
  %5 = tensor.pad %4 {pads = [0, 0, 0, 1, 0, 0, 0, 1]} : tensor<1x16x9x11xf32>
  %v = tensor.const {value = @v} : tensor<8x16x3x3xf32>
  %6 = nn.conv %5, %v {strides = [2, 2]} : tensor<1x8x4x5xf32> loc("b")
  %7 = math.relu %6 : tensor<1x8x4x5xf32>
  %8 = nn.pool %7 {count_include_pad = true, kernel = [2, 2], kind = "mean", pads = [0, 0, 0, 1], strides = [2, 2]}
    : tensor<1x8x2x3xf32> loc("mean2")
  %9 = tensor.flatten %8 : tensor<1x48xf32>
  %u = tensor.const {value = @u} : tensor<48x5xf32>
  %10 = math.matmul %9, %u : tensor<1x5xf32> loc("c")
  return %10 as "y"
}
"#;

#[test]
fn what_stands_between_convolutions_stays_in_integers() {
    let values = |seed: u32, shape: &[usize]| {
        let wave = |i: usize| ((i as f32 + seed as f32) * 0.7).sin();
        Tensor::from_slice(shape, &(0..shape.iter().product()).map(wave).collect::<Vec<_>>()).unwrap()
    };
    let weights = [("w", values(1, &[8, 3, 3, 3])), ("v", values(2, &[8, 16, 3, 3])), ("u", values(3, &[48, 5]))];
    let weights = weights.into_iter().map(|(name, t)| (name.to_owned(), t)).collect();
    let input: Val = values(4, &[1, 3, 9, 9]).into();
    let mut quantizer = Quantizer::new(optc_ir::parse_with(BETWEEN, &weights).unwrap(), &integers(), &[]).unwrap();
    quantizer.observe(std::slice::from_ref(&input)).unwrap();
    let graph = optimized(&quantizer.finish(Method::MinMax).unwrap().graph, &input);
    assert!(!contains(&graph, &float_product) && !contains(&graph, &approximates));
    let interpreted = run(&graph, std::slice::from_ref(&input)).unwrap();
    for (isa, model) in on_every_isa(&graph) {
        let plan = model.plan_for(&[input.ty()]).unwrap();
        let host = plan.report.iter().find(|r| matches!(r.decision, Decision::Host { .. }));
        assert!(host.is_none(), "{host:?}");
        let reals = plan.report.iter().filter(|r| r.results.iter().any(|t| t.to_string().contains("f32"))).count();
        assert_eq!(reals, 1, "only the output is real");
        let compiled = model.session().run_values(std::slice::from_ref(&input)).unwrap();
        assert_eq!(interpreted[0].as_tensor(), compiled[0].as_tensor(), "on {isa}");
    }
}

/// A graph in pieces: each node reads inputs in place of other nodes' results, and gives its own as outputs. Also
/// the values that stand for these inputs.
fn in_pieces(graph: &Graph) -> (Graph, Vec<Value>) {
    let (mut pieces, mut read) = (Graph::new("pieces"), vec![]);
    for id in graph.topological_order().unwrap() {
        let node = graph.node(id);
        let inside = |id: NodeId| {
            let node = graph.node(id);
            approximates(&node.op) || node.regions.iter().any(|r| contains(r, &approximates))
        };
        if matches!(node.op, Op::Param(_) | Op::Constant(_)) || inside(id) {
            continue;
        }
        let mut operands = vec![];
        for value in &node.operands {
            operands.push(value.map(|value| match graph.constant(value) {
                Some(t) => {
                    let op = Op::Constant(Constant { value: Const(t.clone()), zeros: 0 });
                    Value { node: pieces.add(op, &[], vec![graph.ty(value).clone()]), result: 0 }
                }
                None => {
                    read.push(value);
                    pieces.add_input(&format!("x{}", read.len()), graph.ty(value).clone())
                }
            }));
        }
        let types = node.results.iter().map(|r| r.ty.clone()).collect();
        let new = pieces.add(node.op.clone(), &operands, types);
        pieces.node_mut(new).regions.clone_from(&node.regions);
        for result in 0..node.results.len() as u32 {
            let name = format!("y{}", pieces.outputs.len());
            pieces.outputs.push(Output { name, value: Value { node: new, result } });
        }
    }
    (pieces, read)
}

/// Norms, softmax and recurrent cells round differently in kernels; what is between them does not: each kernel of
/// integers gives the interpreter's bits for what the interpreter reads there.
#[test]
fn each_kernel_of_integers_gives_the_bits_of_the_interpreter() {
    let pictures = pictures(1);
    for (name, products) in [("vit", 26), ("lstm", 1)] {
        let mut graph = optimized(&quantized(name).graph, &pictures);
        assert!(!contains(&graph, &float_product), "{name} has float products");
        let (pieces, read) = in_pieces(&graph);
        let found = pieces.ids().filter(|&id| {
            pieces
                .node(id)
                .regions
                .iter()
                .any(|r| contains(r, &|op| matches!(op, Op::QuantMatMul(_) | Op::QuantConv(_))))
        });
        // Of each layer of the transformer, one product is followed by a function that rounds differently.
        assert!(found.count() + if name == "vit" { 4 } else { 0 } >= products, "{name}");
        graph.outputs = read.iter().map(|&value| Output { name: String::new(), value }).collect();
        let values = run(&graph, std::slice::from_ref(&pictures)).unwrap();
        let interpreted = run(&pieces, &values).unwrap();
        for (isa, model) in on_every_isa(&pieces) {
            let compiled = model.session().run_values(&values).unwrap();
            for (i, (a, b)) in interpreted.iter().zip(&compiled).enumerate() {
                assert_eq!(a.as_tensor(), b.as_tensor(), "{name}, output {i} on {isa}");
            }
        }
    }
}

/// The file that a graph is saved in, in bytes.
fn saved(graph: Graph) -> u64 {
    let file = tempfile::Builder::new().suffix(".optc").tempfile().unwrap();
    let compiler = Compiler::new(Options { keep_graph: true, ..integers() });
    compiler.compile_graph(graph).unwrap().save(file.path()).unwrap();
    std::fs::metadata(file.path()).unwrap().len()
}

#[test]
fn integers_take_less_than_a_third_of_the_bytes() {
    for name in ["mlp", "lenet", "resnet8", "mobilenetv2", "vit", "lstm"] {
        let (float, int8) = (saved(graph(name)), saved(quantized(name).graph));
        assert!(int8 * 10 <= float * 3, "{name}: {int8} of {float} bytes");
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
    let compiler = Compiler::new(integers());
    let [a, b] = [compiler.compile_graph(graph), compiler.compile_file(file.path())]
        .map(|model| model.unwrap().session().run_values(&[all.clone().into()]).unwrap());
    assert_eq!(a[0].as_tensor(), b[0].as_tensor());
}

/// Which layers these are depends on the instruction set; that each layer is as its times say does not.
#[test]
fn layers_are_in_integers_where_these_are_faster() {
    let mut quantizer = Quantizer::new(graph("lenet"), &Options::default(), &[]).unwrap();
    quantizer.observe(&[data::array("fashion_100.npz", "input").unwrap().into()]).unwrap();
    let quantized = quantizer.finish(Method::MinMax).unwrap();
    assert_eq!(quantized.layers.len(), 5);
    let machine = MachineProfile::default().of(optc_emit::host::isa());
    for layer in quantized.layers {
        let times = layer.times.unwrap();
        assert_eq!(layer.int8, times.int8_pays(&machine), "{layer:?}");
        let expected = if layer.int8 { "times as fast" } else { "integers are not faster" };
        assert!(layer.reason.contains(expected), "{layer:?}");
    }
}

/// What `optc opt` shows is what `optc run` compiles, on every instruction set.
#[test]
fn passes_with_the_options_of_a_compiler_give_the_graph_that_it_compiles() {
    let quantized = quantized("resnet8").graph;
    for isa in ISAS.iter().filter(|isa| optc_emit::host::has(isa)) {
        let shapes = vec![("input".to_owned(), vec![1, 1, 28, 28])];
        let options = Options { isa: Some(isa.name.to_owned()), keep_graph: true, shapes, ..Options::default() };
        let model = Compiler::new(options.clone()).compile_graph(quantized.clone()).unwrap();
        let mut graph = quantized.clone();
        let image = TensorType::fixed(DType::F32, &[1, 1, 28, 28]);
        optc_passes::specialize(&mut graph, &[image.into()]).unwrap();
        PassManager::new(options.pass_options().unwrap()).run(&Pipeline::parse("O2").unwrap(), &mut graph).unwrap();
        assert_eq!(print(&graph).text, print(model.graph().unwrap()).text, "{}", isa.name);
    }
}

#[test]
fn nodes_that_are_skipped_stay_in_float() {
    let skip = ["/c2/Conv".to_owned()];
    let mut quantizer = Quantizer::new(graph("lenet"), &integers(), &skip).unwrap();
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
    let mut empty = quantizer("lenet");
    empty.observe(&[Tensor::from_slice::<f32>(&[0, 1, 28, 28], &[]).unwrap().into()]).unwrap();
    let nothing = empty.finish(Method::Percentile(99.0)).unwrap_err();
    assert!(matches!(nothing, Error::Range { .. }), "{nothing}");
}

#[test]
fn ranges_that_are_none_are_refused() {
    let ranges = quantized("mlp").ranges;
    for bad in [[f32::NAN, 1.0], [0.0, f32::INFINITY], [2.0, 1.0]] {
        let mut ranges = ranges.clone();
        *ranges.values_mut().next().unwrap() = bad;
        let error = quantizer("mlp").with_ranges(ranges).unwrap_err();
        assert!(matches!(error, Error::Range { .. }), "{bad:?}: {error}");
    }
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
    let mut quantizer = Quantizer::new(graph.clone(), &integers(), &[]).unwrap();
    quantizer.observe(std::slice::from_ref(&sample)).unwrap();
    let quantized = quantizer.finish(Method::MinMax).unwrap();
    let [float, int8] = [graph, quantized.graph].map(|g| {
        Compiler::new(integers()).compile_graph(g).unwrap().session().run_values(std::slice::from_ref(&sample)).unwrap()
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
