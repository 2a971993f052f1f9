//! Pruning with and without samples, on small layers through the interpreter.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use optc_ir::ops::nn::{BatchNorm, Conv, Gemm};
use optc_ir::ops::tensor::Constant;
use optc_ir::{Const, Graph, Output, Real, TensorType, Val, Value, infer_types, verify};
use optc_passes::{
    BlockShape, Calibration, Evaluate, PassManager, PassOptions, Pipeline, PruneError, PruneOptions, Spare, Verdict,
    VerifyEach, prune, prune_on_samples,
};
use optc_tensor::{DType, Tensor};

/// Runs graphs through the interpreter.
struct Interpreter;

impl Evaluate for Interpreter {
    type Error = optc_ir::GraphError;
    type Prepared = Graph;

    fn prepare(&self, graph: &Graph) -> Result<Graph, Self::Error> {
        Ok(graph.clone())
    }

    fn run(&self, graph: &mut Graph, inputs: &[Val]) -> Result<Vec<Val>, Self::Error> {
        optc_ir::run(graph, inputs)
    }
}

fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
    Tensor::from_slice(shape, &values).unwrap()
}

fn constant(g: &mut Graph, t: Tensor) -> Value {
    let ty = TensorType::fixed(t.dtype(), t.shape());
    Value { node: g.add(Constant { value: Const(t), zeros: 0 }, &[], vec![ty.into()]), result: 0 }
}

fn add(g: &mut Graph, op: impl Into<optc_ir::Op>, operands: &[Value], name: &str) -> Value {
    let operands: Vec<_> = operands.iter().map(|v| Some(*v)).collect();
    let node = g.add(op, &operands, vec![TensorType::unranked(DType::F32).into()]);
    g.node_mut(node).loc = vec![name.to_owned()];
    Value { node, result: 0 }
}

fn finish(mut g: Graph, y: Value) -> Graph {
    g.outputs.push(Output { name: "y".to_owned(), value: y });
    infer_types(&mut g).unwrap();
    assert!(verify(&g).is_empty());
    g
}

fn gemm() -> Gemm {
    Gemm { alpha: Real(1.0), beta: Real(1.0), trans_a: false, trans_b: true, precision: DType::F32 }
}

/// `x → gemm → batch-normalised convolution` would need images; here: convolution, batch norm, convolution.
fn images() -> Graph {
    let mut g = Graph::new("images");
    let x = g.add_input("x", TensorType::fixed(DType::F32, &[4, 3, 6, 6]).into());
    let conv = || Conv { pads: vec![1, 1, 1, 1], ..Conv::default() };
    let w = constant(&mut g, random(&[8, 3, 3, 3], 1));
    let y = add(&mut g, conv(), &[x, w], "first");
    let ones: Vec<f32> = (0..8).map(|i| 1.0 + i as f32 / 8.0).collect();
    let stats: Vec<Value> = (0..4)
        .map(|i| constant(&mut g, if i == 2 { random(&[8], 9) } else { Tensor::from_slice(&[8], &ones).unwrap() }))
        .collect();
    let y = add(&mut g, BatchNorm { epsilon: Real(1e-5) }, &[&[y][..], &stats].concat(), "norm");
    let w = constant(&mut g, random(&[5, 8, 3, 3], 2));
    let b = constant(&mut g, random(&[5], 3));
    let y = add(&mut g, conv(), &[y, w, b], "second");
    finish(g, y)
}

/// Two products.
fn products(shared: bool) -> Graph {
    let mut g = Graph::new("products");
    let x = g.add_input("x", TensorType::fixed(DType::F32, &[16, 8]).into());
    let w = constant(&mut g, random(&[8, 8], 1));
    let y = add(&mut g, gemm(), &[x, w], "one");
    let w = if shared { w } else { constant(&mut g, random(&[8, 8], 2)) };
    let y = add(&mut g, gemm(), &[y, w], "two");
    finish(g, y)
}

fn options(sparsity: f64, block: &str) -> PruneOptions {
    PruneOptions { spare: Spare::None, ..PruneOptions::new(sparsity, block.parse().unwrap()).unwrap() }
}

fn batches(g: &Graph, n: u64) -> Vec<Vec<Val>> {
    let shape = g.ty(g.inputs().next().unwrap()).as_tensor().unwrap().static_shape().unwrap();
    (0..n).map(|i| vec![random(&shape, 100 + i).into()]).collect()
}

/// The mean square of the difference between what `pruned` and `g` give, relative to that of what `g` gives.
fn error(g: &Graph, pruned: &Graph) -> f64 {
    let (mut error, mut scale) = (0.0, 0.0);
    for inputs in batches(g, 3) {
        let of = |g: &Graph| optc_ir::run(g, &inputs).unwrap()[0].as_tensor().unwrap().to_f64_vec();
        for (a, b) in of(g).into_iter().zip(of(pruned)) {
            error += (a - b) * (a - b);
            scale += a * a;
        }
    }
    error / scale
}

#[test]
fn samples_make_up_for_what_goes() {
    for g in [images(), products(false)] {
        let (mut plain, mut fitted) = (g.clone(), g.clone());
        let options = options(0.5, "1x1");
        prune(&mut plain, &options).unwrap();
        let samples = Calibration { batches: batches(&g, 20), evaluate: &Interpreter };
        let report = prune_on_samples(&mut fitted, &options, &samples).unwrap();
        assert!(
            report.iter().all(|l| l.verdict == Verdict::Pruned && 2 * l.zeros >= l.rows * l.cols - 1),
            "{report:?}"
        );
        let (before, after) = (error(&g, &plain), error(&g, &fitted));
        assert!(after < 0.75 * before, "{before} becomes {after}");
    }
}

#[test]
fn pruning_nothing_changes_nothing() {
    let g = images();
    let mut pruned = g.clone();
    let options = PruneOptions { layers: vec![("first".into(), 0.0), ("second".into(), 0.0)], ..options(0.5, "1x1") };
    let samples = Calibration { batches: batches(&g, 2), evaluate: &Interpreter };
    let report = prune_on_samples(&mut pruned, &options, &samples).unwrap();
    assert!(report.iter().all(|l| l.verdict == Verdict::Spared("by request")));
    assert_eq!(optc_ir::print(&g), optc_ir::print(&pruned));
}

#[test]
fn every_later_pass_keeps_the_zeros() {
    let mut g = images();
    prune(&mut g, &options(0.7, "4x1")).unwrap();
    let pipeline = Pipeline::parse("O2").unwrap();
    let manager = PassManager::new(PassOptions { verify_each: VerifyEach::Numerics, ..PassOptions::default() });
    manager.run(&pipeline, &mut g).unwrap();
    let pruned: i64 = g.ids().filter_map(|id| g.op::<Constant>(id)).map(|c| c.zeros).sum();
    assert!(pruned >= 350, "{pruned}");
}

#[test]
fn blocks_and_shares_out_of_range_are_refused() {
    for share in [-0.1, 1.0, f64::NAN, f64::INFINITY] {
        assert!(
            matches!(PruneOptions::new(share, BlockShape { rows: 1, cols: 1 }), Err(PruneError::Sparsity(_))),
            "{share}"
        );
    }
    for block in ["0x1", "4x0", "65x1", "4", "ax1", "-1x2"] {
        assert!(block.parse::<BlockShape>().is_err(), "{block}");
    }
}

#[test]
fn weights_that_cannot_be_pruned_are_refused() {
    let refused = |mut g: Graph, options: &PruneOptions| prune(&mut g, options).unwrap_err().to_string();
    let message = refused(products(true), &options(0.5, "1x1"));
    assert!(message.contains("`one` and `two` share their weights"), "{message}");
    let mut nan = products(false);
    let id = nan.ids().find(|&id| nan.op::<Constant>(id).is_some()).unwrap();
    let mut values = vec![1.0f32; 64];
    values[5] = f32::NAN;
    nan.node_mut(id).op = Constant { value: Const(Tensor::from_slice(&[8, 8], &values).unwrap()), zeros: 0 }.into();
    assert!(refused(nan, &options(0.5, "1x1")).contains("`one` hold a value that is not finite"));
    let unknown = PruneOptions { layers: vec![("three".into(), 0.5)], ..options(0.5, "1x1") };
    assert!(refused(products(false), &unknown).contains("no layer of `three`"));
}

#[test]
fn samples_that_do_not_fit_are_refused() {
    let g = products(false);
    let refused = |batches: Vec<Vec<Val>>| {
        let samples = Calibration { batches, evaluate: &Interpreter };
        prune_on_samples(&mut g.clone(), &options(0.5, "1x1"), &samples).unwrap_err().to_string()
    };
    assert!(refused(vec![]).contains("there are no samples"));
    assert!(refused(vec![vec![random(&[16, 9], 1).into()]]).contains("tensor<16x9xf32>, expected tensor<16x8xf32>"));
    assert!(refused(vec![vec![Tensor::from_slice(&[16, 8], &[0i64; 128]).unwrap().into()]]).contains("i64"));
    assert!(refused(vec![vec![]]).contains("0 values, the model 1 inputs"));
    let nan = Tensor::from_slice(&[16, 8], &[f32::NAN; 128]).unwrap();
    assert!(refused(vec![vec![nan.into()]]).contains("not finite"));
}

#[test]
fn quantization_keeps_the_zeros() {
    let mut g = images();
    prune(&mut g, &options(0.7, "4x1")).unwrap();
    let pruned = |g: &Graph| g.ids().filter_map(|id| g.op::<Constant>(id)).map(|c| c.zeros).sum::<i64>();
    let before = pruned(&g);
    let pipeline = Pipeline::parse("infer-types,fold-batch-norm,insert-fake-quant,fold-quant{to=pairs}").unwrap();
    let manager = PassManager::new(PassOptions { verify_each: VerifyEach::Structure, ..PassOptions::default() });
    manager.run(&pipeline, &mut g).unwrap();
    let integers = g.ids().filter_map(|id| g.op::<Constant>(id)).filter(|c| c.value.0.dtype() == DType::I8);
    assert_eq!(integers.map(|c| c.zeros).sum::<i64>(), before);
}
