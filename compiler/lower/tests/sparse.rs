//! Convolutions and products with weights in blocks, lowered and run as compiled plans, against the interpreter.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use optc_ir::ops::math::MatMul;
use optc_ir::ops::nn::{Conv, Gemm};
use optc_ir::ops::quant::{QuantConv, QuantMatMul};
use optc_ir::ops::tensor::Constant;
use optc_ir::{Const, Encoding, Graph, Op, Output, Real, TensorType, Type, Val, Value, Verified, infer_node, run};
use optc_kernel::program::Decision;
use optc_kernel::target::ISAS;
use optc_lower::{LowerOptions, lower};
use optc_runtime::{Arena, Executor, ThreadPool};
use optc_tensor::{DType, Tensor};
use optc_testing::{loaded, random_floats};
use proptest::prelude::*;

fn random(shape: &[usize], seed: u64) -> Tensor {
    Tensor::from_slice(shape, &random_floats(shape.iter().product(), seed)).unwrap()
}

/// Random weights of which about `zeros` of a hundred are zero.
fn sparse(shape: &[usize], zeros: u64, seed: u64) -> Tensor {
    let n = shape.iter().product();
    let (values, kept) = (random_floats(n, seed), random_floats(n, seed + 1));
    let values: Vec<f32> =
        values.iter().zip(&kept).map(|(v, k)| if (k + 1.0) * 50.0 >= zeros as f32 { *v } else { 0.0 }).collect();
    Tensor::from_slice(shape, &values).unwrap()
}

/// Runs an op of one input, weights in blocks of `block` rows and maybe a bias; every kernel must be a sparse one.
fn check(op: impl Into<Op>, x: &Tensor, weights: Tensor, bias: Option<Tensor>, block: u8, to: Encoding) {
    let op = op.into();
    let mut graph = Graph::new("test");
    let x_value = graph.add_input("x", TensorType::fixed(DType::F32, x.shape()).into());
    let mut constant = |t: Tensor, encoding: Encoding| {
        let ty = TensorType::fixed(DType::F32, t.shape()).with_encoding(encoding);
        Value { node: graph.add(Constant { value: Const(t), zeros: 0 }, &[], vec![ty.into()]), result: 0 }
    };
    let w = constant(weights, Encoding::Bcsr { rows: block, cols: 1 });
    let bias = bias.map(|b| constant(b, Encoding::Plain));
    let unknown: Type = TensorType::unranked(DType::F32).into();
    let operands: Vec<Option<Value>> = [Some(x_value), Some(w)].into_iter().chain(bias.map(Some)).collect();
    let node = graph.add(op.clone(), &operands, vec![unknown]);
    let ty = infer_node(&graph, node).unwrap()[0].as_tensor().unwrap().clone().with_encoding(to);
    graph.node_mut(node).results[0].ty = ty.into();
    graph.outputs.push(Output { name: "y".to_owned(), value: Value { node, result: 0 } });
    let inputs = [Val::Tensor(x.clone())];
    let want = run(&graph, &inputs).unwrap();
    let compiled = lower(Verified::new(graph).unwrap(), &optc_emit::host::target(), LowerOptions::default()).unwrap();
    let sparse = |r: &Decision| matches!(r, Decision::Kernel { names } if names.iter().any(|n| n.starts_with("spmm")));
    assert!(compiled.report.iter().all(|r| sparse(&r.decision)), "{op:?}: {:?}", compiled.report);
    let mut executor = Executor::new(loaded(&compiled).unwrap());
    let found = executor.run(&inputs, &mut Arena::default(), &ThreadPool::new(2).unwrap(), None).unwrap();
    let (found, want) = (found[0].as_tensor().unwrap(), want[0].as_tensor().unwrap());
    assert_eq!(found.shape(), want.shape());
    for (i, (f, w)) in found.to_f64_vec().into_iter().zip(want.to_f64_vec()).enumerate() {
        assert!((f - w).abs() <= 5e-5 * (1.0 + w.abs()), "element {i} is {f}, expected {w} of {op:?}");
    }
}

/// An axis: kernel, stride, dilation, padding before and after, and an extent on which the window fits.
fn axis() -> impl Strategy<Value = [usize; 6]> {
    (1usize..4, 1usize..4, 1usize..3, 0usize..3, 0usize..3, 0usize..12).prop_map(|(k, s, d, begin, end, extra)| {
        let reach = (k - 1) * d + 1;
        [k, s, d, begin, end, (reach + extra).saturating_sub(begin + end).max(1)]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]
    #[test]
    fn convolutions(
        batch in 1usize..3, channels in 1usize..9, filters in 1usize..11, h in axis(), w in axis(), zeros in 0u64..101,
        block in prop::sample::select(vec![1u8, 2, 4]), bias: bool, nhwc: bool,
    ) {
        let op = Conv {
            dilations: vec![h[2] as i64, w[2] as i64],
            groups: 1,
            pads: [h[3], w[3], h[4], w[4]].map(|v| v as i64).to_vec(),
            strides: vec![h[1] as i64, w[1] as i64],
            ..Conv::default()
        };
        let to = if nhwc { Encoding::Nhwc } else { Encoding::Plain };
        let weights = sparse(&[filters, channels, h[0], w[0]], zeros, 3);
        let bias = bias.then(|| random(&[filters], 5));
        check(op, &random(&[batch, channels, h[5], w[5]], 1), weights, bias, block, to);
    }

    #[test]
    fn products(
        m in 1usize..20, n in 1usize..30, k in 1usize..30, zeros in 0u64..101, trans_b: bool, bias: bool,
        block in prop::sample::select(vec![1u8, 2, 4]),
    ) {
        let op = Gemm { trans_b, trans_a: false, alpha: Real(0.5), beta: Real(2.0), precision: DType::F32 };
        let shape = if trans_b { [n, k] } else { [k, n] };
        let bias = bias.then(|| random(&[n], 5));
        check(op, &random(&[m, k], 1), sparse(&shape, zeros, 3), bias, block, Encoding::Plain);
    }

    #[test]
    fn products_of_batches(batch in 1usize..4, m in 1usize..9, n in 1usize..30, k in 1usize..30, zeros in 0u64..101) {
        check(MatMul::default(), &random(&[batch, m, k], 1), sparse(&[k, n], zeros, 3), None, 2, Encoding::Plain);
    }
}

#[test]
fn one_spatial_axis() {
    let op = Conv { pads: vec![1, 1], strides: vec![2], ..Conv::default() };
    check(op, &random(&[2, 5, 17], 1), sparse(&[6, 5, 3], 60, 3), None, 2, Encoding::Plain);
}

/// A layer of integers: random bytes and weights with zeros, zero points of both, and a bias.
struct Bytes {
    op: Op,
    x: Tensor,
    x_zero: i64,
    weights: Tensor,
    w_zero: i64,
    bias: Option<Tensor>,
    block: (u8, u8),
    /// How the result lies.
    to: Encoding,
}

fn bytes(dtype: DType, shape: &[usize], seed: u64) -> Tensor {
    let values: Vec<i64> = random_floats(shape.iter().product(), seed)
        .iter()
        .map(|v| (v * 127.0) as i64 + if dtype == DType::U8 { 128 } else { 0 })
        .collect();
    Tensor::from_i64(dtype, shape, &values).unwrap()
}

impl Bytes {
    /// Runs it compiled for every instruction set of this machine: one sparse kernel, which gives what the interpreter
    /// gives.
    fn check(&self) {
        let mut graph = Graph::new("test");
        let x = graph.add_input("x", TensorType::fixed(self.x.dtype(), self.x.shape()).into());
        let mut constant = |t: Tensor, encoding: Encoding| {
            let ty = TensorType::fixed(t.dtype(), t.shape()).with_encoding(encoding);
            Value { node: graph.add(Constant { value: Const(t), zeros: 0 }, &[], vec![ty.into()]), result: 0 }
        };
        let (rows, cols) = self.block;
        let w = constant(self.weights.clone(), Encoding::Bcsr { rows, cols });
        let mut zero = |dtype: DType, of: i64| constant(Tensor::from_i64(dtype, &[], &[of]).unwrap(), Encoding::Plain);
        let zeros = [zero(self.x.dtype(), self.x_zero), zero(self.weights.dtype(), self.w_zero)];
        let bias = self.bias.clone().map(|b| constant(b, Encoding::Plain));
        let operands: Vec<Option<Value>> = [x, w].into_iter().chain(zeros).chain(bias).map(Some).collect();
        let unknown: Type = TensorType::unranked(DType::I32).into();
        let node = graph.add(self.op.clone(), &operands, vec![unknown]);
        let ty = infer_node(&graph, node).unwrap()[0].as_tensor().unwrap().clone().with_encoding(self.to);
        graph.node_mut(node).results[0].ty = ty.into();
        graph.outputs.push(Output { name: "y".to_owned(), value: Value { node, result: 0 } });
        let inputs = [Val::Tensor(self.x.clone())];
        let want = run(&graph, &inputs).unwrap();
        for isa in ISAS.iter().filter(|isa| optc_emit::host::has(isa)) {
            let target = optc_emit::host::target().with_isa(isa);
            let compiled = lower(Verified::new(graph.clone()).unwrap(), &target, LowerOptions::default()).unwrap();
            let name = format!("spmm_i8_{rows}x{cols}");
            let sparse = |r: &Decision| matches!(r, Decision::Kernel { names } if names.contains(&name));
            assert!(compiled.report.iter().all(|r| sparse(&r.decision)), "{:?}: {:?}", self.op, compiled.report);
            let mut executor = Executor::new(loaded(&compiled).unwrap());
            let found = executor.run(&inputs, &mut Arena::default(), &ThreadPool::new(2).unwrap(), None).unwrap();
            assert_eq!(found, want, "{}: {:?}", isa.name, self.op);
        }
    }
}

/// Weights of bytes in which whole blocks are the zero point.
fn sparse_bytes(dtype: DType, shape: &[usize], zeros: u64, zero: i64) -> Tensor {
    let floats = sparse(shape, zeros, 3).to_f64_vec();
    let off = if dtype == DType::U8 { 128 } else { 0 };
    let values: Vec<i64> = floats.iter().map(|&v| if v == 0.0 { zero } else { (v * 127.0) as i64 + off }).collect();
    Tensor::from_i64(dtype, shape, &values).unwrap()
}

fn dtype() -> impl Strategy<Value = DType> {
    prop::sample::select(vec![DType::U8, DType::I8])
}

fn blocks() -> impl Strategy<Value = (u8, u8)> {
    (prop::sample::select(vec![1u8, 2, 4]), prop::sample::select(vec![1u8, 4]))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]
    #[test]
    fn convolutions_of_bytes(
        batch in 1usize..3, quads in 1usize..4, filters in 1usize..11, h in axis(), w in axis(), zeros in 0u64..101,
        block in blocks(), dtypes in (dtype(), dtype()), zero_points in (0i64..128, 0i64..128), bias: bool, nhwc: bool,
        odd in 0usize..3,
    ) {
        // Blocks of four columns are for multiples of four channels.
        let channels = 4 * quads + if block.1 == 1 { odd } else { 0 };
        let op = QuantConv {
            dilations: vec![h[2] as i64, w[2] as i64],
            groups: 1,
            pads: [h[3], w[3], h[4], w[4]].map(|v| v as i64).to_vec(),
            strides: vec![h[1] as i64, w[1] as i64],
        };
        let bias: Option<Vec<i32>> = bias.then(|| (0..filters as i32).map(|i| 1000 * i - 7).collect());
        Bytes {
            op: op.into(),
            x: bytes(dtypes.0, &[batch, channels, h[5], w[5]], 1),
            x_zero: zero_points.0,
            weights: sparse_bytes(dtypes.1, &[filters, channels, h[0], w[0]], zeros, zero_points.1),
            w_zero: zero_points.1,
            bias: bias.map(|b| Tensor::from_slice(&[filters], &b).unwrap()),
            block,
            to: if nhwc { Encoding::Nhwc } else { Encoding::Plain },
        }
        .check();
    }

    #[test]
    fn products_of_bytes(
        m in 1usize..20, n in 1usize..30, quads in 1usize..8, zeros in 0u64..101, block in blocks(),
        dtypes in (dtype(), dtype()), zero_points in (0i64..128, 0i64..128), odd in 0usize..3,
    ) {
        let k = 4 * quads + if block.1 == 1 { odd } else { 0 };
        Bytes {
            op: QuantMatMul {}.into(),
            x: bytes(dtypes.0, &[m, k], 1),
            x_zero: zero_points.0,
            weights: sparse_bytes(dtypes.1, &[k, n], zeros, zero_points.1),
            w_zero: zero_points.1,
            bias: None,
            block,
            to: Encoding::Plain,
        }
        .check();
    }
}
