//! Weights are packed once for each form, whoever reads them: ops of one program, and plans of one model. What no plan
//! reads any more is freed.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use optc::{Compiler, Memory, Model, Options, Program, Tensor, Val};
use optc_ir::{Graph, parse_with};
use optc_tensor::{DType, Random};

/// Rows and columns of the weights.
const K: usize = 96;
const N: usize = 200;

/// A graph with two constants, which the text names `w` (K x N) and `r` (N x N).
fn graph(text: &str) -> Graph {
    let mut random = Random::new(5);
    let mut floats = |shape: &[usize]| {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.real(-1.0, 1.0) as f32).collect();
        Tensor::from_slice(shape, &values).unwrap()
    };
    let constants = [("w", floats(&[K, N])), ("r", floats(&[N, N]))].map(|(name, t)| (name.to_owned(), t));
    parse_with(text, &constants.into_iter().collect()).unwrap()
}

fn program(text: &str) -> Program {
    Compiler::default().program(graph(text)).unwrap()
}

/// Bytes of a program's constants, and how many there are of some bytes at least.
fn constants(program: &Program) -> (usize, usize) {
    let bytes = program.flow.constants.iter().map(|c| c.tensor.bytes().len());
    (bytes.clone().sum(), bytes.filter(|&bytes| bytes >= 1 << 14).count())
}

#[test]
fn ops_of_different_rows_read_one_packed_weight() {
    let text = format!(
        "func @rows(%a: tensor<1x{K}xf32>, %b: tensor<7x{K}xf32>, %c: tensor<100x{K}xf32>, %d: tensor<2x3x{K}xf32>) {{
  %w = tensor.const {{value = @w}} : tensor<{K}x{N}xf32>
  %0 = math.matmul %a, %w : tensor<1x{N}xf32>
  %1 = math.matmul %b, %w : tensor<7x{N}xf32>
  %2 = nn.gemm %c, %w {{alpha = 2.0}} : tensor<100x{N}xf32>
  %3 = math.matmul %d, %w : tensor<2x3x{N}xf32>
  %4 = math.relu %3 : tensor<2x3x{N}xf32>
  return %0, %1, %2, %4
}}"
    );
    let (bytes, large) = constants(&program(&text));
    assert_eq!(large, 1);
    assert!(bytes as f64 <= 1.2 * (4 * K * N) as f64, "{bytes} bytes");
}

#[test]
fn a_weight_is_packed_for_each_of_its_forms() {
    // As it is and transposed: two forms of the same bytes.
    let text = format!(
        "func @forms(%a: tensor<5x{N}xf32>, %b: tensor<9x{N}xf32>) {{
  %r = tensor.const {{value = @r}} : tensor<{N}x{N}xf32>
  %0 = nn.gemm %a, %r : tensor<5x{N}xf32>
  %1 = nn.gemm %b, %r : tensor<9x{N}xf32>
  %2 = nn.gemm %a, %r {{trans_b = true}} : tensor<5x{N}xf32>
  %3 = nn.gemm %b, %r {{trans_b = true}} : tensor<9x{N}xf32>
  return %0, %1, %2, %3
}}"
    );
    assert_eq!(constants(&program(&text)).1, 2);
}

/// The largest of each column of `x`: a model with this result has no batch, and a plan for each number of rows.
const LARGEST: &str = "%m = math.reduce %x {axes = [0], keep_dims = false, kind = \"max\"}";

/// A layer before and after which nothing is known of the rows.
fn open() -> Graph {
    graph(&format!(
        "func @open(%x: tensor<?x{K}xf32>, %f: tensor<3x{K}xf32>) {{
  %w = tensor.const {{value = @w}} : tensor<{K}x{N}xf32>
  %r = tensor.const {{value = @r}} : tensor<{N}x{N}xf32>
  %0 = math.matmul %x, %w : tensor<?x{N}xf32>
  %1 = math.tanh %0 : tensor<?x{N}xf32>
  %2 = nn.gemm %1, %r {{trans_b = true}} : tensor<?x{N}xf32>
  %3 = math.matmul %f, %w : tensor<3x{N}xf32>
  {LARGEST} : tensor<{K}xf32>
  return %2, %3, %m
}}"
    ))
}

fn inputs(rows: usize) -> [Val; 2] {
    [rows, 3].map(|rows| {
        let values: Vec<f32> = (0..rows * K).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
        Tensor::from_slice(&[rows, K], &values).unwrap().into()
    })
}

fn compiled(options: &Options) -> Model {
    Compiler::new(options.clone()).compile_graph(open()).unwrap()
}

fn run(model: &Model, rows: usize) -> Vec<Val> {
    model.session().run_values(&inputs(rows)).unwrap()
}

#[test]
fn plans_of_a_model_share_constants_and_kernels_and_nothing_of_it_shows() {
    let rows = [1, 2, 3, 5, 9, 17, 48, 100];
    let model = compiled(&Options::default());
    run(&model, rows[0]);
    let one = model.plan_bytes();
    for rows in rows {
        // A model of its own for each shape shares nothing.
        assert_eq!(run(&model, rows), run(&compiled(&Options::default()), rows), "{rows} rows");
    }
    let all = model.plan_bytes();
    assert_eq!((one.plans, all.plans), (1, rows.len()));
    assert_eq!(all.constants, one.constants);
    let own = |rows: usize| {
        let model = compiled(&Options::default());
        run(&model, rows);
        model.plan_bytes().code
    };
    // The product of three rows is the same kernel in all plans.
    let apart: usize = rows.into_iter().map(own).sum();
    assert!(all.code < apart, "{} bytes of code, {apart} in models of their own", all.code);
}

/// A convolution, as a product, whose channels are scaled after it.
fn scaled() -> Graph {
    graph(&format!(
        "func @scaled(%x: tensor<?x{K}xf32>) {{
  %w = tensor.const {{value = @w}} : tensor<{K}x{N}xf32>
  %s = tensor.const {{value = dense<[1.5, 0.5]> : tensor<2xf32>}} : tensor<2xf32>
  %i = tensor.const {{value = dense<[{N}]> : tensor<1xi64>}} : tensor<1xi64>
  %0 = tensor.const {{value = dense<[{halves}, 2]> : tensor<2xi64>}} : tensor<2xi64>
  %1 = tensor.expand %s, %0 : tensor<{halves}x2xf32>
  %2 = tensor.reshape %1, %i : tensor<{N}xf32>
  %3 = math.matmul %x, %w : tensor<?x{N}xf32>
  %4 = math.mul %3, %2 : tensor<?x{N}xf32>
  {LARGEST} : tensor<{K}xf32>
  return %4, %m
}}",
        halves = N / 2
    ))
}

#[test]
fn plans_share_weights_that_passes_make() {
    let model = Compiler::default().compile_graph(scaled()).unwrap();
    let mut one = 0;
    for rows in [1, 4, 30] {
        let found = model.session().run_values(&inputs(rows)[..1]).unwrap();
        let alone = Compiler::default().compile_graph(scaled()).unwrap();
        assert_eq!(found, alone.session().run_values(&inputs(rows)[..1]).unwrap());
        one = alone.plan_bytes().constants;
    }
    assert_eq!((model.plan_bytes().plans, model.plan_bytes().constants), (3, one));
}

#[test]
fn what_no_plan_reads_is_freed() {
    let memory = Memory::with_limit(1 << 30);
    let options = Options { cached_plans: 2, memory: memory.clone(), ..Options::default() };
    {
        let model = compiled(&options);
        let mut session = model.session();
        let mut used = Vec::new();
        for rows in (1..60).chain(1..60) {
            drop(session.run_values(&inputs(rows)).unwrap());
            used.push(memory.used());
        }
        let last = |n: usize| used[used.len() - n..].iter().max().copied();
        assert_eq!(model.plan_bytes().plans, 2);
        assert!(model.cache_stats().evictions > 100);
        // Activations of 59 rows, of as many plans as a session keeps, and no more constants than at the start.
        assert!(last(10) <= used[..60].iter().max().copied(), "{used:?}");
    }
    assert_eq!(memory.used(), 0);
}

/// A product of open rows with weights that the text of `weights` makes of constants.
fn stored(weights: &str, constants: &[(&str, Tensor)]) -> Model {
    let text = format!(
        "func @stored(%x: tensor<?x{K}xf32>) {{
{weights}
  %y = math.matmul %x, %w : tensor<?x{N}xf32>
  {LARGEST} : tensor<{K}xf32>
  return %y, %m
}}"
    );
    let constants = constants.iter().map(|(name, t)| ((*name).to_owned(), t.clone()));
    Compiler::default().compile_graph(parse_with(&text, &constants.collect()).unwrap()).unwrap()
}

/// Bytes of constants of all plans after one for each of so many rows.
fn constants_after(model: &Model, rows: &[usize]) -> usize {
    let run = |&rows: &usize| drop(model.session().run_values(&inputs(rows)[..1]).unwrap());
    rows.iter().for_each(run);
    model.plan_bytes().constants
}

#[test]
fn plans_share_weights_that_are_halves() {
    let halves: Vec<f32> = (0..K * N).map(|i| (i % 255) as f32 / 128.0 - 1.0).collect();
    let weights = format!("  %w = tensor.const {{value = @w}} : tensor<{K}x{N}xf32>");
    let model = stored(&weights, &[("w", Tensor::from_slice(&[K, N], &halves).unwrap())]);
    let one = constants_after(&model, &[1]);
    assert_eq!(constants_after(&model, &[2, 3, 9, 17, 100]), one);
}

#[test]
fn plans_share_integers_with_scales() {
    let integers: Vec<i8> = (0..K * N).map(|i| (i % 255) as u8 as i8).collect();
    let scales: Vec<f32> = (0..N).map(|i| 0.013 + i as f32 / 1000.0).collect();
    let weights = format!(
        "  %q = tensor.const {{value = @q}} : tensor<{K}x{N}xi8>
  %s = tensor.const {{value = @s}} : tensor<{N}xf32>
  %w = quant.dequantize %q, %s {{axis = 1}} : tensor<{K}x{N}xf32>"
    );
    let q = Tensor::from_slice(&[K, N], &integers).unwrap();
    let model = stored(&weights, &[("q", q), ("s", Tensor::from_slice(&[N], &scales).unwrap())]);
    // Few rows dequantize them as they load them, many a panel at a time.
    let bytes = constants_after(&model, &[1]);
    assert!((K * N..2 * K * N).contains(&bytes), "{bytes} bytes");
    assert_eq!(constants_after(&model, &[2, 3, 8, 9, 10, 17, 100]), bytes);
}

#[test]
fn integers_and_floats_of_the_same_shape_are_packed_apart() {
    let weights = |zero: u8| Tensor::from_slice(&[1], &[zero]).unwrap();
    let text = format!(
        "func @zeros(%a: tensor<4x{K}xu8>) {{
  %w = tensor.const {{value = @q}} : tensor<{K}x{N}xu8>
  %one = tensor.const {{value = @one}} : tensor<1xu8>
  %two = tensor.const {{value = @two}} : tensor<1xu8>
  %za = tensor.const {{value = @one}} : tensor<1xu8>
  %0 = quant.matmul %a, %w, %za, %one : tensor<4x{N}xi32>
  %1 = quant.matmul %a, %w, %za, %two : tensor<4x{N}xi32>
  return %0, %1
}}"
    );
    let q = Tensor::from_bytes(DType::U8, &[K, N], &(0..K * N).map(|i| (i % 120) as u8).collect::<Vec<_>>()).unwrap();
    let constants = [("q", q), ("one", weights(1)), ("two", weights(2))].map(|(name, t)| (name.to_owned(), t));
    let graph = parse_with(&text, &constants.into_iter().collect()).unwrap();
    let a = Tensor::from_bytes(DType::U8, &[4, K], &(0..4 * K).map(|i| (i % 251) as u8).collect::<Vec<_>>()).unwrap();
    let expected = optc_ir::run(&graph, &[a.clone().into()]).unwrap();
    let model = Compiler::default().compile_graph(graph).unwrap();
    assert_eq!(model.session().run_values(&[a.into()]).unwrap(), expected);
}

/// A product of unsigned bytes with these zero points; the operand's own is constant, or an input.
fn unsigned(zero_of_weights: Vec<u8>, computed: bool) -> Graph {
    let n = zero_of_weights.len();
    let (input, of_a) = if computed { (", %z: tensor<u8>", "%z") } else { ("", "%za") };
    let text = format!(
        "func @unsigned(%a: tensor<5x{K}xu8>{input}) {{
  %w = tensor.const {{value = @q}} : tensor<{K}x{N}xu8>
  %zw = tensor.const {{value = @zw}} : tensor<{n}xu8>
  %za = tensor.const {{value = dense<7> : tensor<u8>}} : tensor<u8>
  %0 = quant.matmul %a, %w, {of_a}, %zw : tensor<5x{N}xi32>
  %1 = math.cast %0 {{to = f32}} : tensor<5x{N}xf32>
  return %0, %1
}}"
    );
    let q: Vec<u8> = (0..K * N).map(|i| (i * 31 % 256) as u8).collect();
    let zeros = Tensor::from_slice(&[n], &zero_of_weights).unwrap();
    let constants = [("q", Tensor::from_bytes(DType::U8, &[K, N], &q).unwrap()), ("zw", zeros)];
    parse_with(&text, &constants.map(|(name, t)| (name.to_owned(), t)).into_iter().collect()).unwrap()
}

#[test]
fn unsigned_weights_stay_bytes_whatever_their_zero_points_are() {
    let a = Tensor::from_bytes(DType::U8, &[5, K], &(0..5 * K).map(|i| (i * 7 % 256) as u8).collect::<Vec<_>>());
    let a: Val = a.unwrap().into();
    let of_columns = (0..N).map(|n| (n * 3 % 256) as u8).collect();
    for zeros in [vec![119], vec![0], vec![128], of_columns] {
        for computed in [false, true] {
            let graph = unsigned(zeros.clone(), computed);
            let inputs = [a.clone(), Tensor::scalar(200u8).into()];
            let inputs = &inputs[..1 + usize::from(computed)];
            let expected = optc_ir::run(&graph, inputs).unwrap();
            for isa in optc_testing::all_isas() {
                let options = Options { isa: Some(isa.name.to_owned()), ..Options::default() };
                if options.target().is_ok() {
                    let model = Compiler::new(options.clone()).compile_graph(graph.clone()).unwrap();
                    let found = model.session().run_values(inputs).unwrap();
                    assert_eq!(found, expected, "{}: {zeros:?}, computed: {computed}", isa.name);
                }
                if isa.needs.sums_bytes() {
                    let (bytes, _) = constants(&Compiler::new(options).program(graph.clone()).unwrap());
                    assert!(bytes < 2 * K * N, "{}: {bytes} bytes", isa.name);
                }
            }
        }
    }
}
