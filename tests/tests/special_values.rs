//! What is not a number and what is infinite come out of a rewritten graph as out of the graph itself, interpreted and
//! compiled: the graphs of the filetests of `recompose` and `decompose`, on inputs with such values, single ones and
//! whole rows.
//!
//! Sums that `decompose` takes before a product may be of infinities, as it documents: its graphs get NaN alone.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use std::path::Path;

use optc::{Compiler, Options, Val};
use optc_ir::{Graph, parse};
use optc_passes::{PassManager, PassOptions, Pipeline};
use optc_tensor::{DType, Random, Tensor};
use optc_tests::compare::difference;

/// Inputs that each graph is run on.
const SEEDS: u64 = 24;

/// Floats, a few of them special; or, one time in three, some rows that are special as a whole.
fn floats(shape: &[usize], special: &[f32], random: &mut Random) -> Vec<f32> {
    let row = shape.last().copied().unwrap_or(1).max(1);
    let whole = random.once_in(3);
    let mut values: Vec<f32> = (0..shape.iter().product()).map(|_| random.real(-2.0, 2.0) as f32).collect();
    for part in values.chunks_mut(if whole { row } else { 1 }) {
        if random.once_in(8) {
            part.fill(random.pick(special));
        }
    }
    values
}

/// A value for each input; `None` where a shape is open.
fn inputs(graph: &Graph, special: &[f32], seed: u64) -> Option<Vec<Val>> {
    let mut random = Random::new(seed);
    let mut value = |ty: &optc_ir::Type| {
        let t = ty.as_tensor()?;
        let shape = t.static_shape()?;
        let n = shape.iter().product::<usize>();
        let tensor = match t.dtype {
            DType::F32 => Tensor::from_slice(&shape, &floats(&shape, special, &mut random)),
            dtype => {
                let small: Vec<i64> = (0..n).map(|_| random.below(2) as i64).collect();
                Tensor::from_i64(dtype, &shape, &small)
            }
        };
        Some(tensor.ok()?.into())
    };
    graph.inputs().map(|v| value(graph.ty(v))).collect()
}

fn check(text: &str, graph: &Graph, special: &[f32]) -> usize {
    let mut rewritten = graph.clone();
    let pipeline = Pipeline::parse("clean-up,recompose,dce").unwrap();
    PassManager::new(PassOptions::default()).run(&pipeline, &mut rewritten).unwrap();
    let compiled = ["O0,fuse,schedule", "O2"].map(|passes| {
        let options = Options { passes: passes.to_owned(), ..Options::default() };
        (passes, Compiler::new(options).compile_graph(graph.clone()).unwrap())
    });
    let mut runs = 0;
    for seed in 0..SEEDS {
        let Some(inputs) = inputs(graph, special, seed) else { continue };
        let expected = optc_ir::run(graph, &inputs).unwrap();
        let mut found = vec![("interpreted", optc_ir::run(&rewritten, &inputs).unwrap())];
        for (passes, model) in &compiled {
            found.push((passes, model.session().run_values(&inputs).unwrap()));
        }
        for (how, found) in found {
            let wrong = found.iter().zip(&expected).find_map(|(a, b)| difference(a, b));
            assert!(wrong.is_none(), "{how}, seed {seed}: {}\n{inputs:?}\n{text}", wrong.unwrap());
        }
        runs += 1;
    }
    runs
}

fn check_folder(pass: &str, special: &[f32]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("filetests/passes").join(pass);
    let mut runs = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let source = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for text in source.split("// ---\n") {
            runs += check(text, &parse(text).unwrap(), special);
        }
    }
    assert!(runs >= 10 * SEEDS as usize, "{runs} runs");
}

#[test]
fn recomposed_graphs_keep_special_values() {
    check_folder("recompose", &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
}

#[test]
fn decomposed_graphs_keep_what_is_not_a_number() {
    check_folder("decompose", &[f32::NAN]);
}
