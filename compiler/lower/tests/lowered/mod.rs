//! One op, lowered and run as a compiled plan, against the interpreter.

use optc_ir::ops::tensor::Constant;
use optc_ir::{Const, Encoding, Graph, Op, Output, TensorType, Type, Val, Value, Verified, infer_node, run};
use optc_kernel::program::Decision;
use optc_kernel::target::Isa;
use optc_lower::{LowerOptions, lower};
use optc_runtime::ThreadPool;
use optc_tensor::{DType, Tensor};
use optc_testing::{GuardedError, isas, loaded, random_floats, run_guarded};

/// An operand of the op under test.
#[derive(Clone, Debug)]
pub enum TestOperand {
    Input(Tensor),
    Constant(Tensor),
    Absent,
}

/// Floats around zero.
pub fn random(shape: &[usize], seed: u64) -> Tensor {
    Tensor::from_slice(shape, &random_floats(shape.iter().product(), seed)).unwrap()
}

/// A random operand that is an input of the graph.
pub fn input(shape: &[usize]) -> TestOperand {
    TestOperand::Input(random(shape, 1))
}

/// A random operand that is constant.
pub fn constant(shape: &[usize], seed: u64) -> TestOperand {
    TestOperand::Constant(random(shape, seed))
}

/// A graph of one op whose results have their channels last where `nhwc`.
fn graph_of(op: &Op, args: &[TestOperand], nhwc: bool) -> (Graph, Vec<Val>) {
    let (mut graph, mut inputs, mut operands) = (Graph::new("test"), Vec::new(), Vec::new());
    for (i, arg) in args.iter().enumerate() {
        operands.push(match arg {
            TestOperand::Absent => None,
            TestOperand::Input(t) => {
                inputs.push(Val::Tensor(t.clone()));
                Some(graph.add_input(&format!("x{i}"), TensorType::fixed(t.dtype(), t.shape()).into()))
            }
            TestOperand::Constant(t) => {
                let ty = TensorType::fixed(t.dtype(), t.shape()).into();
                let node = graph.add(Constant { value: Const(t.clone()), zeros: 0 }, &[], vec![ty]);
                Some(Value { node, result: 0 })
            }
        });
    }
    let results = if matches!(op, Op::Lstm(_)) { 3 } else { 1 + usize::from(matches!(op, Op::Gru(_) | Op::Rnn(_))) };
    let unknown: Type = TensorType::unranked(DType::F32).into();
    let node = graph.add(op.clone(), &operands, vec![unknown; results]);
    for (i, ty) in infer_node(&graph, node).unwrap().into_iter().enumerate() {
        let tensor = ty.as_tensor().unwrap().clone();
        let encoding = if nhwc { Encoding::Nhwc } else { Encoding::Plain };
        graph.node_mut(node).results[i].ty = tensor.with_encoding(encoding).into();
        graph.outputs.push(Output { name: format!("y{i}"), value: Value { node, result: i as u32 } });
    }
    (graph, inputs)
}

/// What the kernels of the op give, which it must have, on an instruction set.
pub fn outcome(isa: &'static Isa, op: &Op, args: &[TestOperand], nhwc: bool) -> Result<Vec<Val>, GuardedError> {
    let (graph, inputs) = graph_of(op, args, nhwc);
    let target = optc_emit::host::target().with_isa(isa);
    let compiled = lower(Verified::new(graph).unwrap(), &target, LowerOptions::default()).unwrap();
    for report in &compiled.report {
        assert!(!matches!(report.decision, Decision::Host { .. }), "{op:?}: {report:?}");
    }
    let name = format!("{op:?} of {args:?} on {}", isa.name);
    run_guarded(&loaded(&compiled).unwrap(), &inputs, &ThreadPool::new(2).unwrap(), &name)
}

/// Runs the op through the kernels of every instruction set and the interpreter.
pub fn check(op: impl Into<Op>, args: &[TestOperand], nhwc: bool) {
    let op = op.into();
    let (graph, inputs) = graph_of(&op, args, nhwc);
    let want = run(&graph, &inputs).unwrap();
    for isa in isas() {
        compare(isa, &op, &outcome(isa, &op, args, nhwc).unwrap(), &want);
    }
}

fn compare(isa: &Isa, op: &Op, found: &[Val], want: &[Val]) {
    for (i, (found, want)) in found.iter().zip(want).enumerate() {
        let (Val::Tensor(found), Val::Tensor(want)) = (found, want) else { panic!("results are tensors") };
        assert_eq!(found.shape(), want.shape());
        for (j, (f, w)) in found.to_f64_vec().into_iter().zip(want.to_f64_vec()).enumerate() {
            let same = f == w || f.is_nan() && w.is_nan() || (f - w).abs() <= 2e-5 * (1.0 + w.abs());
            assert!(same, "result {i}, element {j} is {f}, expected {w} of {op:?} on {}", isa.name);
        }
    }
}
