//! Tensors without elements: what the interpreter gives, compiled code gives as well, and neither stops the process.
//!
//! Every family of ops, on every dtype that takes part in it, with an extent of zero in each dim in turn and in all of
//! them. Operands are inputs, or all but the first are constants; the instruction sets of the machine take turns, and
//! so do graphs as they are and after `O2`.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use optc_ir::ops::tensor::Constant;
use optc_ir::{Const, Graph, Op, Output, ResultInfo, TensorType, Val, Value, Verified, infer_node, parse};
use optc_kernel::target::Isa;
use optc_lower::{LowerOptions, lower};
use optc_passes::{PassManager, PassOptions, Pipeline};
use optc_runtime::ThreadPool;
use optc_tensor::{DType, Difference, Tensor};
use optc_testing::{isas, loaded, run_guarded};
use optc_tests::TestFailure;

/// An operand.
#[derive(Clone, Debug)]
enum Arg {
    /// Of this type, with values that count up from 0: an input or a constant.
    Of(DType, Vec<usize>),
    /// A list that the op must know when it is compiled.
    List(Vec<i64>),
    Absent,
}

/// One op: its call in text, without operands, how many results it has, and its operands.
#[derive(Clone, Debug)]
struct Case {
    call: String,
    results: usize,
    args: Vec<Arg>,
}

fn case(call: impl Into<String>, args: impl Into<Vec<Arg>>) -> Case {
    Case { call: call.into(), results: 1, args: args.into() }
}

/// The shape, with each of its extents zero in turn, and all of them.
fn zeros_in(shape: &[usize]) -> Vec<Vec<usize>> {
    let with = |d: usize| (0..shape.len()).map(|i| if i == d { 0 } else { shape[i] }).collect();
    (0..shape.len()).map(with).chain([vec![0; shape.len()]]).collect()
}

fn counted(dtype: DType, shape: &[usize]) -> Tensor {
    let values: Vec<f64> = (0..shape.iter().product()).map(|i| (i % 2) as f64).collect();
    Tensor::from_f64(dtype, shape, &values).unwrap()
}

/// The op of a call.
fn op_of(case: &Case) -> Op {
    let (name, attrs) = case.call.split_once(' ').unwrap_or((&case.call, ""));
    let params: Vec<String> = (0..case.args.len()).map(|i| format!("%a{i}: tensor<f32>")).collect();
    let given: Vec<String> = (0..case.args.len()).map(|i| format!("%a{i}")).collect();
    let results: Vec<String> = (0..case.results).map(|i| format!("%r{i}")).collect();
    let types = vec!["tensor<*xf32>"; case.results].join(", ");
    let (params, given, results) = (params.join(", "), given.join(", "), results.join(", "));
    let text = format!("func @f({params}) {{ {results} = {name} {given} {attrs} : {types} return %r0 as \"y\" }}");
    let graph = parse(&text).unwrap_or_else(|e| panic!("{text}\n{e}"));
    graph.node(graph.outputs[0].value.node).op.clone()
}

/// A graph of the op and its inputs; `None` where it refuses the types.
fn graph_of(op: &Op, case: &Case, constants: bool) -> Option<(Graph, Vec<Val>)> {
    let (mut graph, mut inputs, mut operands) = (Graph::new("empty"), vec![], vec![]);
    for (i, arg) in case.args.iter().enumerate() {
        let (tensor, constant) = match arg {
            Arg::Absent => {
                operands.push(None);
                continue;
            }
            Arg::Of(dtype, shape) => (counted(*dtype, shape), constants && i > 0),
            Arg::List(values) => (Tensor::from_slice(&[values.len()], values).unwrap(), true),
        };
        let ty = TensorType::fixed(tensor.dtype(), tensor.shape()).into();
        operands.push(Some(if constant {
            let constant = Constant { value: Const(tensor), zeros: 0 };
            Value { node: graph.add(constant, &[], vec![ty]), result: 0 }
        } else {
            inputs.push(tensor.into());
            graph.add_input(&format!("x{i}"), ty)
        }));
    }
    let unknown = TensorType::unranked(DType::F32).into();
    let node = graph.add(op.clone(), &operands, vec![unknown; case.results]);
    let types = infer_node(&graph, node).ok()?;
    graph.node_mut(node).results = types.into_iter().map(|ty| ResultInfo { ty }).collect();
    for result in 0..graph.node(node).results.len() as u32 {
        graph.outputs.push(Output { name: format!("y{result}"), value: Value { node, result } });
    }
    Some((graph, inputs))
}

/// What compiled code gives for a graph that the interpreter computes.
fn compiled(
    graph: &Graph,
    inputs: &[Val],
    isa: &'static Isa,
    passes: &str,
    name: &str,
) -> Result<Vec<Val>, TestFailure> {
    let mut graph = graph.clone();
    if !passes.is_empty() {
        let pipeline = Pipeline::parse(passes)?;
        PassManager::new(PassOptions::default()).run(&pipeline, &mut graph)?;
    }
    let target = optc_emit::host::target().with_isa(isa);
    let graph = Verified::new(graph)?;
    let program = lower(graph, &target, LowerOptions::default())?;
    let plan = loaded(&program)?;
    let pool = ThreadPool::new(1)?;
    Ok(run_guarded(&plan, inputs, &pool, name)?)
}

/// How results differ.
fn difference(found: &[Val], expected: &[Val]) -> Option<String> {
    found.iter().zip(expected).find_map(|(a, b)| {
        let (Val::Tensor(a), Val::Tensor(b)) = (a, b) else { return (a != b).then(|| format!("{a:?}, not {b:?}")) };
        let same = Difference::between(a, b, 1e-5, 1e-5).is_some_and(|d| d.within_tolerance());
        (!same).then(|| format!("{a:?}, expected {b:?}"))
    })
}

/// Runs all cases; says how many ran, and how many their ops or the interpreter refuse.
fn check(family: &str, cases: Vec<Case>) {
    let isas = isas();
    let (mut ran, mut refused, mut wrong) = (0, 0, vec![]);
    for (i, case) in cases.iter().enumerate() {
        let op = op_of(case);
        for constants in [false, true] {
            let Some((graph, inputs)) = graph_of(&op, case, constants) else {
                refused += 1;
                continue;
            };
            let isa = isas[i % isas.len()];
            let passes = if (i / isas.len()).is_multiple_of(2) { "" } else { "O2" };
            let name = format!("{case:?}, constants: {constants}, on {} after `{passes}`", isa.name);
            let found = compiled(&graph, &inputs, isa, passes, &name);
            match (optc_ir::run(&graph, &inputs), found) {
                (Ok(want), Ok(found)) => {
                    ran += 1;
                    wrong.extend(difference(&found, &want).map(|how| format!("{name}: {how}")));
                }
                (Ok(_), Err(e)) => wrong.push(format!("{name}: {e}")),
                (Err(_), _) => refused += 1,
            }
        }
    }
    println!("{family}: {ran} cases ran, {refused} were refused");
    let some = wrong.iter().take(10).cloned().collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{family}: {} of {ran} wrong; the first:\n{some}", wrong.len());
    assert!(ran > 100, "{family}: only {ran} cases ran, {refused} were refused");
}

/// Every dtype that holds numbers or bools.
fn dtypes() -> impl Iterator<Item = DType> {
    DType::ALL.iter().copied().filter(|&d| d != DType::Str)
}

#[test]
fn elementwise() {
    const UNARY: [&str; 24] = [
        "abs",
        "neg",
        "sign",
        "relu",
        "exp",
        "log",
        "sqrt",
        "reciprocal",
        "erf",
        "floor",
        "round",
        "sin",
        "tanh",
        "sigmoid",
        "softplus",
        "hard_swish",
        "gelu",
        "elu",
        "leaky_relu",
        "is_nan",
        "is_inf",
        "not",
        "bit_not",
        "clip",
    ];
    const BINARY: [&str; 21] = [
        "add",
        "sub",
        "mul",
        "div",
        "min",
        "max",
        "pow",
        "mod",
        "prelu",
        "equal",
        "less",
        "greater",
        "less_equal",
        "greater_equal",
        "and",
        "or",
        "xor",
        "bit_and",
        "bit_or",
        "shift_left",
        "shift_right",
    ];
    let mut cases = vec![];
    for dtype in dtypes() {
        for shape in zeros_in(&[2, 3, 4]) {
            let of = |shape: &[usize]| Arg::Of(dtype, shape.to_vec());
            let x = of(&shape);
            cases.extend(UNARY.map(|name| case(format!("math.{name}"), [x.clone()])));
            cases.extend(dtypes().map(|to| case(format!("math.cast {{to = {}}}", to.name()), [x.clone()])));
            for other in [&shape[..], &[], &[1], &shape[2..], &[1, shape[1], 1]] {
                cases.extend(BINARY.map(|name| case(format!("math.{name}"), &[x.clone(), of(other)])));
                cases.extend(BINARY.map(|name| case(format!("math.{name}"), &[of(other), x.clone()])));
                for mask in [&shape[..], &[1, 1, 1]] {
                    cases.push(case("math.where", &[Arg::Of(DType::Bool, mask.to_vec()), x.clone(), of(other)]));
                }
            }
            cases.push(case("math.clip", &[x.clone(), of(&[]), of(&[])]));
        }
    }
    check("elementwise", cases);
}

#[test]
fn movement() {
    let list = |values: &[i64]| Arg::List(values.to_vec());
    let mut cases = vec![];
    for dtype in dtypes() {
        for shape in zeros_in(&[2, 3, 4]) {
            let x = Arg::Of(dtype, shape.clone());
            let sizes: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
            for perm in ["[2, 0, 1]", "[0, 2, 1]", "[1, 0, 2]"] {
                cases.push(case(format!("tensor.transpose {{perm = {perm}}}"), [x.clone()]));
            }
            for axis in 0..3 {
                let mut full = shape.clone();
                full[axis] = 5;
                let full = Arg::Of(dtype, full);
                let concat = format!("tensor.concat {{axis = {axis}}}");
                cases.push(case(concat.clone(), &[x.clone(), x.clone()]));
                cases.push(case(concat.clone(), &[x.clone(), full.clone()]));
                cases.push(case(concat, &[full.clone(), x.clone(), full.clone()]));
                // From what has elements to what has none.
                let at = list(&[axis as i64]);
                for (start, end) in [(0, 0), (5, 5), (3, 1), (0, 1)] {
                    cases.push(case("tensor.slice", &[full.clone(), list(&[start]), list(&[end]), at.clone()]));
                    cases.push(case("tensor.slice", &[x.clone(), list(&[start]), list(&[end]), at.clone()]));
                }
                let gather = format!("tensor.gather {{axis = {axis}}}");
                cases.push(case(gather.clone(), &[full.clone(), list(&[])]));
                cases.push(case(gather.clone(), &[x.clone(), list(&[0])]));
                for indices in [vec![0], vec![2, 0]] {
                    cases.push(case(gather.clone(), &[full.clone(), Arg::Of(DType::I64, indices)]));
                }
                cases.push(case(gather, &[x.clone(), Arg::Of(DType::I64, vec![2])]));
                let split = format!("tensor.split {{axis = {axis}}}");
                cases.push(Case { results: 2, ..case(split.clone(), &[full.clone(), list(&[0, 5])]) });
                cases.push(Case { results: 2, ..case(split, &[x.clone(), list(&[0, sizes[axis]])]) });
                cases.push(case(format!("tensor.flatten {{axis = {axis}}}"), [x.clone()]));
                cases.push(case("tensor.unsqueeze", &[x.clone(), at]));
            }
            for pads in ["[0, 1, 0, 0, 1, 2]", "[2, 2, 2, 0, 0, 0]", "[0, -1, 0, 0, 0, 1]"] {
                for mode in ["constant", "edge", "reflect", "wrap"] {
                    cases.push(case(format!("tensor.pad {{mode = \"{mode}\", pads = {pads}}}"), [x.clone()]));
                }
            }
            cases.push(case("tensor.tile", &[x.clone(), list(&[2, 1, 3])]));
            cases.push(case("tensor.tile", &[Arg::Of(dtype, vec![2, 3, 4]), list(&[1, 0, 2])]));
            cases.push(case("tensor.expand", &[x.clone(), list(&[&[2][..], &sizes].concat())]));
            cases.push(case("tensor.expand", &[Arg::Of(dtype, vec![1, 1, 1]), list(&sizes)]));
            cases.push(case("tensor.reshape {allow_zero = true}", &[x.clone(), list(&[0, 7])]));
            cases.push(case("tensor.reshape {allow_zero = true}", &[x.clone(), list(&[3, 0, 2, 1])]));
            cases.push(case(
                "tensor.scatter_nd",
                &[x.clone(), Arg::Of(DType::I64, vec![0, 1]), Arg::Of(dtype, vec![0, shape[1], shape[2]])],
            ));
            let updates = Arg::Of(dtype, vec![1, shape[1], shape[2]]);
            cases.push(case("tensor.scatter_nd", &[x.clone(), Arg::Of(DType::I64, vec![1, 1]), updates]));
        }
        for shape in zeros_in(&[2, 3, 4, 5]) {
            cases.push(case("kernel.convert_layout", [Arg::Of(dtype, shape.clone())]));
            let sizes = [shape[0] as i64, shape[1] as i64, 8, 10];
            cases.push(case(
                "nn.resize {mode = \"nearest\"}",
                &[Arg::Of(dtype, shape), Arg::Absent, Arg::List(sizes.to_vec())],
            ));
        }
    }
    check("movement", cases);
}

#[test]
fn reductions() {
    const KINDS: [&str; 9] = ["sum", "mean", "max", "min", "prod", "sum_square", "l1", "l2", "log_sum_exp"];
    let mut cases = vec![];
    for dtype in dtypes() {
        for shape in zeros_in(&[2, 3, 4]) {
            let of = |shape: &[usize]| Arg::Of(dtype, shape.to_vec());
            let x = of(&shape);
            for axes in ["[0]", "[1]", "[2]", "[0, 2]", "[]"] {
                for keep in [true, false] {
                    let of =
                        |kind: &str| format!("math.reduce {{axes = {axes}, keep_dims = {keep}, kind = \"{kind}\"}}");
                    cases.extend(KINDS.map(|kind| case(of(kind), [x.clone()])));
                }
                cases.push(case(format!("quant.sum {{axes = {axes}}}"), [x.clone()]));
            }
            for axis in 0..3 {
                for kind in ["max", "min"] {
                    cases.push(case(format!("math.arg_reduce {{axis = {axis}, kind = \"{kind}\"}}"), [x.clone()]));
                }
                for op in ["nn.softmax", "nn.lp_norm", "nn.hardmax"] {
                    cases.push(case(format!("{op} {{axis = {axis}}}"), [x.clone()]));
                }
                let behind = of(&shape[axis..]);
                cases.push(case(format!("nn.rms_norm {{axis = {axis}}}"), &[x.clone(), behind.clone()]));
                cases.push(case(format!("nn.layer_norm {{axis = {axis}}}"), &[x.clone(), behind.clone(), behind]));
                let kind = "{kind = \"sum\"}";
                cases.push(case(format!("math.cumulate {kind}"), &[x.clone(), Arg::List(vec![axis as i64])]));
            }
            let channels = of(&shape[1..2]);
            cases.push(case("nn.group_norm", &[x.clone(), channels.clone(), channels.clone()]));
            cases.push(case("nn.batch_norm", [&[x][..], &vec![channels; 4]].concat()));
        }
    }
    check("reductions", cases);
}

#[test]
fn products() {
    let mut cases = vec![];
    for dtype in dtypes() {
        let of = |shape: &[usize]| Arg::Of(dtype, shape.to_vec());
        for [batch, m, k, n] in zeros_in(&[2, 3, 4, 5]).into_iter().map(|s| [s[0], s[1], s[2], s[3]]) {
            for op in ["math.matmul", "math.matmul {precision = bf16}", "quant.matmul"] {
                cases.push(case(op, &[of(&[batch, m, k]), of(&[batch, k, n])]));
                cases.push(case(op, &[of(&[batch, m, k]), of(&[k, n])]));
                cases.push(case(op, &[of(&[m, k]), of(&[k, n])]));
                cases.push(case(op, &[of(&[k]), of(&[k, n])]));
                cases.push(case(op, &[of(&[m, k]), of(&[k])]));
            }
            cases.push(case("nn.gemm", &[of(&[m, k]), of(&[k, n])]));
            cases.push(case("nn.gemm", &[of(&[m, k]), of(&[k, n]), of(&[n])]));
            cases.push(case("nn.gemm {trans_a = true, trans_b = true}", &[of(&[k, m]), of(&[n, k]), of(&[m, n])]));
        }
        for shape in zeros_in(&[2, 4, 5, 6]).into_iter().chain([vec![2, 4, 5, 6]]) {
            let x = of(&shape);
            for pads in ["[0, 0, 0, 0]", "[1, 1, 1, 1]", "[2, 2, 3, 3]"] {
                for (filters, groups) in [(3, 1), (0, 1), (4, 2), (4, 4)] {
                    let weights = of(&[filters, shape[1] / groups, 3, 2]);
                    let attrs = format!("{{groups = {groups}, pads = {pads}, strides = [2, 1]}}");
                    let half = format!("{{groups = {groups}, pads = {pads}, precision = bf16}}");
                    cases.push(case(format!("nn.conv {attrs}"), &[x.clone(), weights.clone()]));
                    cases.push(case(format!("nn.conv {half}"), &[x.clone(), weights.clone(), of(&[filters])]));
                    cases.push(case(format!("quant.conv {attrs}"), &[x.clone(), weights]));
                    let turned = of(&[shape[1], filters / groups, 3, 2]);
                    cases.push(case(format!("nn.conv_transpose {attrs}"), &[x.clone(), turned]));
                }
                for kind in ["max", "mean"] {
                    let attrs = format!("{{kernel = [2, 3], kind = \"{kind}\", pads = {pads}}}");
                    cases.push(case(format!("nn.pool {attrs}"), [x.clone()]));
                }
            }
        }
        for [batch, heads, rows, width] in zeros_in(&[2, 3, 4, 8]).into_iter().map(|s| [s[0], s[1], s[2], s[3]]) {
            let q = of(&[batch, heads, rows, width]);
            for keys in [0, 5] {
                let (k, v) = (of(&[batch, heads, keys, width]), of(&[batch, heads, keys, 6]));
                cases.push(case("nn.attention", &[q.clone(), k.clone(), v.clone()]));
                cases.push(case("nn.attention {causal = true}", &[q.clone(), k, v]));
            }
        }
        for [steps, batch, inputs, hidden] in zeros_in(&[3, 2, 4, 5]).into_iter().map(|s| [s[0], s[1], s[2], s[3]]) {
            for (op, gates, results) in [("lstm", 4, 3), ("gru", 3, 2), ("rnn", 1, 2)] {
                let args =
                    [of(&[steps, batch, inputs]), of(&[1, gates * hidden, inputs]), of(&[1, gates * hidden, hidden])];
                cases.push(Case { results, ..case(format!("nn.{op}"), &args) });
            }
        }
    }
    check("products", cases);
}

#[test]
fn quantization() {
    let mut cases = vec![];
    for dtype in [DType::U8, DType::I8] {
        for shape in zeros_in(&[2, 3, 4]) {
            let (floats, bytes) = (Arg::Of(DType::F32, shape.clone()), Arg::Of(dtype, shape.clone()));
            for per in [vec![], vec![shape[1]]] {
                let (scale, zero) = (Arg::Of(DType::F32, per.clone()), Arg::Of(dtype, per.clone()));
                let quantize = format!("quant.quantize {{to = {}}}", dtype.name());
                cases.push(case(quantize.clone(), &[floats.clone(), scale.clone(), zero.clone()]));
                cases.push(case(quantize, &[floats.clone(), scale.clone()]));
                cases.push(case("quant.dequantize", &[bytes.clone(), scale.clone(), zero]));
                cases.push(case("quant.dequantize", &[Arg::Of(DType::I32, shape.clone()), scale.clone()]));
            }
            let (sums, zero) = (Arg::Of(DType::I32, shape.clone()), Arg::Of(dtype, vec![]));
            for scale in [vec![], vec![1, shape[1], 1], vec![shape[2]]] {
                cases.push(case("quant.requantize", &[sums.clone(), Arg::Of(DType::F32, scale), zero.clone()]));
            }
            cases.push(Case { results: 3, ..case("quant.dynamic_quantize", &[floats]) });
        }
    }
    check("quantization", cases);
}
