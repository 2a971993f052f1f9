//! Operands of other dtypes and shapes than an op was made for: inference refuses them, or compiled code gives what the
//! interpreter gives.
//!
//! Models of the node tests, one input of which gets another type in turn. Kernels are made for the types that are
//! declared, so one that takes an operand of another dtype does not load, and one that takes too short an operand reads
//! beyond it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use optc::{Compiler, Options};
use optc_ir::{Graph, TensorType, Type, Val, Value, Verified, infer_types};
use optc_tensor::{DType, Deadline, Tensor, element_count};
use optc_tests::{compare, data};

/// What an input is made to be.
const DTYPES: &[DType] = &[
    DType::F32,
    DType::F16,
    DType::F64,
    DType::U8,
    DType::I32,
    DType::I64,
    DType::Bool,
    DType::I2,
    DType::F8E4M3FN,
    DType::F4E2M1FN,
];
/// How long a model may take: another trip count makes loops of millions of trips.
const TIME: Duration = Duration::from_secs(1);
/// The most elements of an input.
const ELEMENTS: usize = 20_000;

/// A value of a type: `0, 1, 0, 1, …`, or for integers small numbers of both signs.
fn value(ty: &Type) -> Option<Val> {
    let (dtype, shape) = declared(ty)?;
    let n = element_count(&shape).filter(|&n| n <= ELEMENTS)?;
    let number =
        |i: usize| if matches!(dtype, DType::I32 | DType::I64) { (i * 7 % 5) as f64 - 1.0 } else { (i % 2) as f64 };
    let values: Vec<f64> = (0..n).map(number).collect();
    Tensor::from_f64(dtype, &shape, &values).ok().map(Val::from)
}

/// Other types than this one: of other dtypes, and of other shapes.
fn others(dtype: DType, shape: &[usize]) -> Vec<(DType, Vec<usize>)> {
    let mut others: Vec<_> = DTYPES.iter().filter(|&&d| d != dtype).map(|&d| (d, shape.to_vec())).collect();
    let mut with = |shape: Vec<usize>| others.push((dtype, shape));
    with([&[1], shape].concat());
    with([shape, &[1]].concat());
    for d in 0..shape.len() {
        for n in [0, 1, shape[d].saturating_sub(1), shape[d] + 1] {
            with((0..shape.len()).map(|i| if i == d { n } else { shape[i] }).collect());
        }
        with((0..shape.len()).filter(|&i| i != d).map(|i| shape[i]).collect());
    }
    others
}

/// The dtype and the shape of an input, open dims being 1.
fn declared(ty: &Type) -> Option<(DType, Vec<usize>)> {
    let t = ty.as_tensor()?;
    Some((t.dtype, t.shape.as_ref()?.iter().map(|d| d.known().unwrap_or(1)).collect()))
}

/// The model with another type of input `at`, and its inputs; `None` where inference refuses that, or it has inputs of
/// other kinds.
fn with_type(graph: &Graph, at: Value, (dtype, shape): &(DType, Vec<usize>)) -> Option<(Graph, Vec<Val>)> {
    let mut graph = graph.clone();
    for input in graph.inputs().collect::<Vec<_>>() {
        let (own, of) = declared(graph.ty(input))?;
        let ty = if input == at { TensorType::fixed(*dtype, shape) } else { TensorType::fixed(own, &of) };
        graph.node_mut(input.node).results[0].ty = ty.into();
    }
    infer_types(&mut graph).ok()?;
    let graph = Verified::new(graph).ok()?.into_graph();
    let inputs = graph.inputs().map(|v| value(graph.ty(v))).collect::<Option<Vec<_>>>()?;
    Some((graph, inputs))
}

/// What compiled code does that the interpreter does not.
fn failure(graph: Graph, inputs: &[Val], passes: &str) -> Option<String> {
    let expected = {
        let _until = Deadline::after(Some(TIME)).enter();
        optc_ir::run(&graph, inputs)
    };
    // What the interpreter completes does not take compiled code longer.
    let time_limit = expected.is_err().then_some(TIME);
    let compiler = Compiler::new(Options { threads: 1, passes: passes.to_owned(), time_limit, ..Options::default() });
    let found = compiler.compile_graph(graph).and_then(|model| model.session().run_values(inputs));
    match (found, expected) {
        (Ok(found), Ok(expected)) => found.iter().zip(&expected).find_map(|(f, e)| compare::difference(f, e)),
        (Err(e), Ok(_)) => Some(format!("failed: {e}")),
        (_, Err(_)) => None,
    }
}

#[test]
fn operands_of_other_types_are_refused_or_right() {
    let root = data::unpack("onnx-node-tests.tar.xz", Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    let mut folders: Vec<_> = std::fs::read_dir(root).unwrap().map(|f| f.unwrap().path()).collect();
    folders.sort();
    let (next, tried, failures) = (Mutex::new(folders.into_iter()), Mutex::new(0usize), Mutex::new(vec![]));
    let work = || {
        while let Some(folder) = { next.lock().unwrap().next() } {
            let Ok(graph) = optc_onnx::import_file(&folder.join("model.onnx")) else { continue };
            for (i, input) in graph.inputs().enumerate() {
                let Some((dtype, shape)) = declared(graph.ty(input)) else { continue };
                for other in others(dtype, &shape) {
                    let Some((graph, inputs)) = with_type(&graph, input, &other) else { continue };
                    let passes = {
                        let mut tried = tried.lock().unwrap();
                        *tried += 1;
                        if tried.is_multiple_of(16) { "O2" } else { "O0" }
                    };
                    let caught = catch_unwind(AssertUnwindSafe(|| failure(graph, &inputs, passes)));
                    if let Some(why) = caught.unwrap_or_else(|_| Some("panics".to_owned())) {
                        failures
                            .lock()
                            .unwrap()
                            .push(format!("{}: input {i} as {other:?} after {passes}: {why}", folder.display()));
                    }
                }
            }
        }
    };
    std::thread::scope(|s| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            s.spawn(work);
        }
    });
    let (tried, failures) = (tried.into_inner().unwrap(), failures.into_inner().unwrap());
    assert!(tried > 1000, "{tried} models");
    assert!(failures.is_empty(), "{} of {tried}:\n{}", failures.len(), failures.join("\n"));
}
