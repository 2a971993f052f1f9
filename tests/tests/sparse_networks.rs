//! Networks with sparse, dense and depthwise convolutions next to each other: compiled code gives what the interpreter
//! gives, whatever layouts and forms were chosen, on every instruction set of this machine.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use optc::{Compiler, Decision, Options};
use optc_ir::ops::math::{Add, Relu};
use optc_ir::ops::nn::Conv;
use optc_ir::ops::tensor::Constant;
use optc_ir::{Const, Graph, Op, Output, TensorType, Val, Value, infer_types, run};
use optc_kernel::target::ISAS;
use optc_passes::{PassManager, PassOptions, Pipeline, VerifyEach};
use optc_tensor::{DType, Tensor};
use optc_tests::data;
use proptest::prelude::*;

/// One layer: what it is, its extent of the window, its step.
#[derive(Debug, Clone, Copy)]
enum Layer {
    Dense(usize, usize),
    /// Zeros of a hundred, rows of a block, window, step.
    Sparse(u32, usize, usize, usize),
    Depthwise(usize, usize),
    Relu,
    /// Adds the value before the last convolution, where the shapes are equal.
    Residual,
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// Weights in which whole blocks of rows are zero.
    fn weights(&mut self, shape: [usize; 4], zeros: u32, block: usize) -> Tensor {
        let cols = shape[1..].iter().product::<usize>();
        let keep: Vec<bool> =
            (0..shape[0].div_ceil(block) * cols).map(|_| (self.next() + 1.0) * 50.0 >= zeros as f32).collect();
        let values: Vec<f32> = (0..shape[0] * cols)
            .map(|i| if keep[i / cols / block * cols + i % cols] { self.next() } else { 0.0 })
            .collect();
        Tensor::from_slice(&shape, &values).unwrap()
    }
}

fn add(g: &mut Graph, op: impl Into<Op>, operands: &[Value]) -> Value {
    let operands: Vec<Option<Value>> = operands.iter().copied().map(Some).collect();
    let node = g.add(op, &operands, vec![TensorType::unranked(DType::F32).into()]);
    Value { node, result: 0 }
}

fn network(layers: &[Layer], channels: usize, size: usize, seed: u64) -> Graph {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut g = Graph::new("network");
    let mut x = g.add_input("x", TensorType::fixed(DType::F32, &[1, channels, size, size]).into());
    let mut before = x;
    let mut conv = |g: &mut Graph, x: Value, kernel: usize, step: usize, groups: usize, zeros: u32, block: usize| {
        let weights = random.weights([channels, channels / groups, kernel, kernel], zeros, block);
        let ty = TensorType::fixed(DType::F32, weights.shape());
        let w = Value { node: g.add(Constant { value: Const(weights), zeros: 0 }, &[], vec![ty.into()]), result: 0 };
        let pad = (kernel / 2) as i64;
        let (pads, strides) = (vec![pad; 4], vec![step as i64; 2]);
        add(g, Conv { groups: groups as i64, pads, strides, ..Conv::default() }, &[x, w])
    };
    for layer in layers {
        let last = x;
        x = match *layer {
            Layer::Dense(kernel, step) => conv(&mut g, x, kernel, step, 1, 0, 1),
            Layer::Sparse(zeros, block, kernel, step) => conv(&mut g, x, kernel, step, 1, zeros, block),
            Layer::Depthwise(kernel, step) => conv(&mut g, x, kernel, step, channels, 0, 1),
            Layer::Relu => add(&mut g, Relu {}, &[x]),
            Layer::Residual => {
                infer_types(&mut g).unwrap();
                if g.ty(before) == g.ty(x) { add(&mut g, Add {}, &[x, before]) } else { x }
            }
        };
        if !matches!(layer, Layer::Relu | Layer::Residual) {
            before = last;
        }
    }
    g.outputs.push(Output { name: "y".to_owned(), value: x });
    infer_types(&mut g).unwrap();
    g
}

/// Runs a network compiled for each instruction set; returns how many sparse kernels there were.
fn check(g: &Graph, seed: u64) -> usize {
    let inputs = [input_of(g, seed)];
    let want = run(g, &inputs).unwrap()[0].as_tensor().unwrap().to_f64_vec();
    let scale = want.iter().fold(1e-3, |m: f64, v| m.max(v.abs()));
    let mut sparse = 0;
    for isa in ISAS.iter().filter(|isa| optc_emit::host::has(isa)) {
        let options = Options { isa: Some(isa.name.to_owned()), ..Options::default() };
        let model = Compiler::new(options).compile_graph(g.clone()).unwrap();
        let plan = model.plan_for(&[inputs[0].ty()]).unwrap();
        let of = |d: &Decision| matches!(d, Decision::Kernel { names } if names.iter().any(|n| n.starts_with("spmm")));
        sparse += plan.report.iter().filter(|r| of(&r.decision)).count();
        let found = model.session().run_values(&inputs).unwrap()[0].as_tensor().unwrap().to_f64_vec();
        for (i, (f, w)) in found.iter().zip(&want).enumerate() {
            assert!((f - w).abs() <= 2e-5 * scale, "{}: element {i} is {f}, expected {w}", isa.name);
        }
    }
    sparse
}

/// The network quantized, with the passes' own costs, so that zeros of many layers make them sparse: compiled code of
/// every instruction set gives the interpreter's bits. Returns how many kernels were called this way.
fn check_integers(mut g: Graph, input: &Val, kernel: &str) -> usize {
    optc_passes::specialize(&mut g, &[input.ty()]).unwrap();
    // All products, whatever the costs of this machine: only integers give the same bits everywhere.
    let passes = Pipeline::parse("O0,fold-batch-norm,insert-fake-quant,calibrate{samples=1},O2").unwrap();
    PassManager::new(PassOptions { verify_each: VerifyEach::Structure, ..PassOptions::default() })
        .run(&passes, &mut g)
        .unwrap();
    let want = run(&g, std::slice::from_ref(input)).unwrap();
    let mut sparse = 0;
    for isa in ISAS.iter().filter(|isa| optc_emit::host::has(isa)) {
        let options =
            Options { isa: Some(isa.name.to_owned()), passes: "infer-types".to_owned(), ..Options::default() };
        let model = Compiler::new(options).compile_graph(g.clone()).unwrap();
        let plan = model.plan_for(&[input.ty()]).unwrap();
        let of = |d: &Decision| matches!(d, Decision::Kernel { names } if names.iter().any(|n| n.starts_with(kernel)));
        sparse += plan.report.iter().filter(|r| of(&r.decision)).count();
        let found = model.session().run_values(std::slice::from_ref(input)).unwrap();
        assert_eq!(found[0].as_tensor(), want[0].as_tensor(), "{}", isa.name);
    }
    sparse
}

fn input_of(g: &Graph, seed: u64) -> Val {
    let mut random = Random(seed | 1);
    let shape = g.ty(g.inputs().next().unwrap()).as_tensor().unwrap().static_shape().unwrap();
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.next()).collect();
    Tensor::from_slice(&shape, &values).unwrap().into()
}

fn layer() -> impl Strategy<Value = Layer> {
    let window = || prop::sample::select(vec![(1usize, 1usize), (1, 1), (3, 1), (3, 2), (1, 2)]);
    prop_oneof![
        window().prop_map(|(k, s)| Layer::Dense(k, s)),
        (prop::sample::select(vec![50u32, 80, 95, 100]), prop::sample::select(vec![1usize, 2, 4]), window())
            .prop_map(|(zeros, block, (k, s))| Layer::Sparse(zeros, block, k, s)),
        (prop::sample::select(vec![3usize, 5]), 1usize..3).prop_map(|(k, s)| Layer::Depthwise(k, s)),
        Just(Layer::Relu),
        Just(Layer::Residual),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(16) })]
    #[test]
    fn random_networks(
        layers in prop::collection::vec(layer(), 1..7), channels in prop::sample::select(vec![4usize, 7, 12, 24]),
        size in 5usize..20, seed in 0u64..1000,
    ) {
        let g = network(&layers, channels, size, seed);
        check(&g, seed);
        let input = input_of(&g, seed);
        check_integers(g, &input, "spmm_i8");
    }
}

#[test]
fn a_sparse_mobile_network_runs_sparse() {
    let block = [Layer::Depthwise(3, 1), Layer::Relu, Layer::Sparse(90, 4, 1, 1), Layer::Relu];
    let layers = [&[Layer::Dense(3, 1), Layer::Relu][..], &block, &block, &[Layer::Residual]].concat();
    let isas = ISAS.iter().filter(|isa| optc_emit::host::has(isa)).count();
    assert_eq!(check(&network(&layers, 64, 20, 3), 5), 2 * isas);
    let g = network(&layers, 64, 20, 3);
    let input = input_of(&g, 5);
    assert_eq!(check_integers(g, &input, "spmm_i8_4x1"), 2 * isas);
}

/// Weights in which whole blocks of four by four channels are zero: words of four channels, with the channels last.
#[test]
fn blocks_of_four_columns() {
    let mut g = network(&[Layer::Dense(3, 1), Layer::Dense(1, 1), Layer::Relu, Layer::Dense(3, 2)], 32, 14, 7);
    for id in g.ids().collect::<Vec<_>>() {
        if let Op::Constant(c) = &mut g.node_mut(id).op {
            let shape = c.value.0.shape().to_vec();
            let mut values = c.value.0.as_slice::<f32>().unwrap().to_vec();
            let taps = shape[2] * shape[3];
            let block = |i: usize| i / taps / shape[1] / 4 + i / taps % shape[1] / 4 + i % taps;
            values.iter_mut().enumerate().filter(|(i, _)| block(*i) % 8 > 0).for_each(|(_, v)| *v = 0.0);
            c.value = Const(Tensor::from_slice(&shape, &values).unwrap());
        }
    }
    let input = input_of(&g, 5);
    let isas = ISAS.iter().filter(|isa| optc_emit::host::has(isa)).count();
    assert_eq!(check_integers(g, &input, "spmm_i8_4x4"), 3 * isas);
}

/// Pruned, then quantized: every zero is kept (the passes verify that), layers run in blocks of integers, bit for bit.
#[test]
fn pruned_networks_run_sparse_in_integers() {
    for (name, least) in [("mlp", 2), ("lenet", 2), ("resnet8", 4), ("mobilenetv2", 6)] {
        let mut g = optc_onnx::import_file(&data::testdata(&format!("{name}.onnx"))).unwrap();
        let pictures = data::array("fashion_100.npz", "input").unwrap();
        let two = Tensor::from_slice(&[2, 1, 28, 28], &pictures.as_slice::<f32>().unwrap()[..2 * 28 * 28]).unwrap();
        let prune = Pipeline::parse("O0,fold-batch-norm,prune{sparsity=0.9,block=4x1,spare=none}").unwrap();
        PassManager::new(PassOptions::default()).run(&prune, &mut g).unwrap();
        let isas = ISAS.iter().filter(|isa| optc_emit::host::has(isa)).count();
        let sparse = check_integers(g, &two.into(), "spmm_i8");
        assert!(sparse >= least * isas, "{name}: {sparse} sparse kernels on {isas} instruction sets");
    }
}

/// Too few zeros to gain from: what runs is what runs without any, to the last kernel and byte of the arena, and the
/// report says why.
#[test]
fn too_few_zeros_run_as_none_do() {
    let layers = |zeros: u32| {
        let sparse = Layer::Sparse(zeros, 1, 1, 1);
        [Layer::Dense(3, 1), Layer::Relu, sparse, Layer::Relu, Layer::Depthwise(3, 1), sparse, Layer::Residual]
    };
    for isa in ISAS.iter().filter(|isa| optc_emit::host::has(isa)) {
        let options = Options { isa: Some(isa.name.to_owned()), ..Options::default() };
        let compiled = |zeros: u32| {
            let g = network(&layers(zeros), 64, 20, 3);
            let inputs: Vec<_> = g.inputs().map(|v| g.ty(v).clone()).collect();
            Compiler::new(options.clone()).compile_graph(g).unwrap().plan_for(&inputs).unwrap()
        };
        let (none, some) = (compiled(0), compiled(30));
        assert_eq!(none.plan.flow.steps, some.plan.flow.steps, "on {}", isa.name);
        assert_eq!(none.plan.flow.buffers, some.plan.flow.buffers, "on {}", isa.name);
        let choices: Vec<_> = some.report.iter().filter_map(|r| r.choice).collect();
        assert_eq!(choices.len(), 2);
        for c in choices {
            // Sparse is taken where it takes less than 0.85 of the time.
            let few = (0.2..0.4).contains(&c.zeros) && !c.sparse && 0.85 * c.dense_ns < c.sparse_ns;
            assert!(few, "on {}: {c:?}", isa.name);
        }
        assert!(none.report.iter().all(|r| r.choice.is_none()));
    }
}
