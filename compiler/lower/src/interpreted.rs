//! Lowered products of every row of the target table, whatever this machine has: their kernels are interpreted on the
//! constants that the lowering packed for them.

use optc_ir::ops::math::MatMul;
use optc_ir::ops::nn::Conv;
use optc_ir::ops::quant::{QuantConv, QuantMatMul};
use optc_ir::ops::tensor::Constant;
use optc_ir::{Const, Graph, Op, Output, TensorType, Type, Val, Value, Verified, infer_node};
use optc_kernel::target::ISAS;
use optc_tensor::{DType, Random, Tensor};

use super::{LowerOptions, lower};

/// The op on an input and constants after it.
fn check(op: impl Into<Op>, input: &Tensor, constants: &[Option<Tensor>]) {
    let op = op.into();
    let mut graph = Graph::new("test");
    let typed = |t: &Tensor| -> Type { TensorType::fixed(t.dtype(), t.shape()).into() };
    let mut operands = vec![Some(graph.add_input("x", typed(input)))];
    operands.extend(constants.iter().map(|t| {
        let t = t.as_ref()?;
        let node = graph.add(Constant { value: Const(t.clone()), zeros: 0 }, &[], vec![typed(t)]);
        Some(Value { node, result: 0 })
    }));
    let node = graph.add(op.clone(), &operands, vec![TensorType::unranked(DType::F32).into()]);
    graph.node_mut(node).results[0].ty = infer_node(&graph, node).unwrap().remove(0);
    graph.outputs.push(Output { name: "y".to_owned(), value: Value { node, result: 0 } });
    let Val::Tensor(want) = optc_ir::run(&graph, &[Val::Tensor(input.clone())]).unwrap().remove(0) else {
        panic!("a tensor")
    };
    for isa in ISAS {
        let target = optc_emit::host::target().with_isa(isa);
        let program = lower(Verified::new(graph.clone()).unwrap(), &target, LowerOptions::default()).unwrap();
        program.verify().unwrap();
        let Val::Tensor(found) = program.interpret(&[Val::Tensor(input.clone())], &[]).unwrap().remove(0) else {
            panic!("a tensor")
        };
        for (f, w) in found.to_f64_vec().into_iter().zip(want.to_f64_vec()) {
            let near = if want.dtype() == DType::F32 { (f - w).abs() <= 1e-4 * (1.0 + w.abs()) } else { f == w };
            assert!(near, "{f}, expected {w}: {op:?} of {:?} on {}", input.shape(), isa.name);
        }
    }
}

fn bytes(dtype: DType, shape: &[usize], random: &mut Random) -> Tensor {
    let low = if dtype == DType::I8 { -128 } else { 0 };
    let values: Vec<i64> = (0..shape.iter().product()).map(|_| random.below(256) as i64 + low).collect();
    Tensor::from_i64(dtype, shape, &values).unwrap()
}

fn floats(shape: &[usize], random: &mut Random) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect();
    Tensor::from_slice(shape, &values).unwrap()
}

#[test]
fn products_with_constants() {
    let mut random = Random::new(1);
    for (m, k, n) in [(4, 49, 8), (1, 64, 33), (33, 64, 49), (40, 128, 20)] {
        for dtype in [DType::U8, DType::I8] {
            let (x, w) = (bytes(dtype, &[m, k], &mut random), bytes(DType::I8, &[k, n], &mut random));
            let zero = bytes(dtype, &[], &mut random);
            check(QuantMatMul {}, &x, &[Some(w), Some(zero), None]);
        }
        let (x, w) = (floats(&[m, k], &mut random), floats(&[k, n], &mut random));
        for precision in [DType::F32, DType::BF16] {
            check(MatMul { precision }, &x, &[Some(w.clone())]);
        }
    }
}

#[test]
fn convolutions_with_constants() {
    let mut random = Random::new(2);
    for (channels, filters, kernel) in [(3, 20, 3), (32, 33, 1), (64, 8, 3)] {
        let (x, w) = ([1, channels, 6, 7], [filters, channels, kernel, kernel]);
        let pads = vec![(kernel / 2) as i64; 4];
        let quantized = QuantConv { dilations: vec![1, 1], groups: 1, pads: pads.clone(), strides: vec![1, 1] };
        let (image, weights) = (bytes(DType::U8, &x, &mut random), bytes(DType::I8, &w, &mut random));
        let zero = bytes(DType::U8, &[], &mut random);
        check(quantized, &image, &[Some(weights), Some(zero), None, None]);
        let (image, weights) = (floats(&x, &mut random), floats(&w, &mut random));
        for precision in [DType::F32, DType::BF16] {
            let conv = Conv { pads: pads.clone(), precision, ..Conv::default() };
            check(conv, &image, &[Some(weights.clone())]);
        }
    }
}
