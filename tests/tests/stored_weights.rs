//! Products whose weights are integers with scales: compiled code gives what the interpreter gives, nothing runs on the
//! host, and where few rows read the weights, the program has them as they are.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use optc::{Compiler, DType, Options, Tensor, Val};
use optc_ir::ops::math::MatMul;
use optc_ir::ops::nn::Gemm;
use optc_ir::ops::quant::Dequantize;
use optc_ir::ops::tensor::Constant;
use optc_ir::{Const, Graph, Output, Real, TensorType, Value, infer_types};
use optc_kernel::target::Isa;
use optc_tensor::Random;
use optc_testing::isas;
use optc_tests::compare;

/// How scales are shared.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scales {
    One,
    Columns,
    Rows,
    Blocks(usize),
}

/// A product of `m` rows with weights `[k, n]`, transposed or not.
#[derive(Clone, Copy, Debug)]
struct Case {
    extents: [usize; 3],
    dtype: DType,
    scales: Scales,
    zeros: bool,
    transposed: bool,
}

fn constant(g: &mut Graph, t: Tensor) -> Value {
    let ty = TensorType::fixed(t.dtype(), t.shape());
    Value { node: g.add(Constant { value: Const(t), zeros: 0 }, &[], vec![ty.into()]), result: 0 }
}

fn graph(case: Case) -> Graph {
    let Case { extents: [m, n, k], dtype, scales, zeros, transposed } = case;
    let mut random = Random::new((m * 1000 + n * 10 + k) as u64);
    let mut g = Graph::new("stored");
    let x = g.add_input("x", TensorType::fixed(DType::F32, &[m, k]).into());
    let shape = |rows: usize| if transposed { [n, rows] } else { [rows, n] };
    let (low, high) = dtype.int_range().map(|(low, high)| (low as i64, high as i64)).unwrap();
    let mut integers = |shape: &[usize]| {
        let len = shape.iter().product();
        let all: Vec<i64> = (0..len).map(|_| low + random.below((high - low + 1) as usize) as i64).collect();
        Tensor::from_i64(dtype, shape, &all).unwrap()
    };
    let along_k = i64::from(transposed);
    let (of_scales, axis, block) = match scales {
        Scales::One => (vec![], 1 - along_k, 0),
        Scales::Columns => (vec![n], 1 - along_k, 0),
        Scales::Rows => (vec![k], along_k, 0),
        Scales::Blocks(block) => (shape(k.div_ceil(block)).to_vec(), along_k, block as i64),
    };
    let (values, zero) = (integers(&shape(k)), integers(&of_scales));
    let len = of_scales.iter().product();
    let scale: Vec<f32> = (0..len).map(|_| random.real(0.01, 0.02) as f32).collect();
    let values = constant(&mut g, values);
    let scale = constant(&mut g, Tensor::from_slice(&of_scales, &scale).unwrap());
    let zero = zeros.then(|| constant(&mut g, zero));
    let weights = g.add(Dequantize { axis, block, to: DType::F32 }, &[Some(values), Some(scale), zero], vec![]);
    let weights = Some(Value { node: weights, result: 0 });
    let y = match transposed {
        true => {
            let (alpha, beta, precision) = (Real(1.0), Real(1.0), DType::F32);
            g.add(Gemm { alpha, beta, precision, trans_a: false, trans_b: true }, &[Some(x), weights], vec![])
        }
        false => g.add(MatMul { precision: DType::F32 }, &[Some(x), weights], vec![]),
    };
    g.outputs.push(Output { name: "y".to_owned(), value: Value { node: y, result: 0 } });
    for id in g.ids().collect::<Vec<_>>() {
        if g.node(id).results.is_empty() {
            let any = TensorType::of(DType::F32, None);
            g.node_mut(id).results = vec![optc_ir::ResultInfo { ty: any.into() }];
        }
    }
    infer_types(&mut g).unwrap();
    g
}

fn check(case: Case, isa: &Isa) {
    let graph = graph(case);
    let [m, n, k] = case.extents;
    let mut random = Random::new(5);
    let x: Vec<f32> = (0..m * k).map(|_| random.real(-1.0, 1.0) as f32).collect();
    let inputs = [Val::from(Tensor::from_slice(&[m, k], &x).unwrap())];
    let expected = optc_ir::run(&graph, &inputs).unwrap().remove(0);
    let options = Options { isa: Some(isa.name.to_owned()), ..Options::default() };
    let program = Compiler::new(options.clone()).program(graph.clone()).unwrap();
    assert!(program.hosts.is_empty(), "{case:?} on {}: {:?}", isa.name, program.hosts);
    let stored = program.flow.constants.iter().any(|c| c.recipe.contains(" bits in groups of "));
    let packs = case.scales != Scales::Rows && n * k >= 1024;
    assert_eq!(stored, packs, "{case:?} on {}", isa.name);
    let model = Compiler::new(options).compile_graph(graph).unwrap();
    let found = model.session().run_values(&inputs).unwrap().remove(0);
    let wrong = compare::difference(&found, &expected);
    assert!(wrong.is_none(), "{case:?} on {}: {wrong:?}", isa.name);
}

#[test]
fn integers_of_each_form_give_what_the_interpreter_gives() {
    for isa in isas() {
        for dtype in [DType::I4, DType::U4, DType::I8, DType::U8] {
            for scales in [Scales::One, Scales::Columns, Scales::Rows, Scales::Blocks(32), Scales::Blocks(5)] {
                for (zeros, transposed) in [(false, false), (true, false), (false, true), (true, true)] {
                    for extents in [[1, 40, 64], [3, 17, 70], [9, 33, 65]] {
                        check(Case { extents, dtype, scales, zeros, transposed }, isa);
                    }
                }
            }
        }
    }
}

#[test]
fn few_integers_are_folded() {
    let case = Case { extents: [1, 4, 8], dtype: DType::I8, scales: Scales::Columns, zeros: false, transposed: false };
    isas().into_iter().for_each(|isa| check(case, isa));
}
