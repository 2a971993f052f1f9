//! Graphs in half precision: compiled code gives what the interpreter gives for the graph that `widen` makes, on every
//! row of this machine, and that is near what it gives for the graph as it was.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use optc::{Compiler, DType, Options, Tensor, Val};
use optc_ir::ops::tensor::Constant;
use optc_ir::{Const, Graph, Op, Type, infer_types};
use optc_passes::{PassManager, PassOptions, Pipeline, seeded};
use optc_tensor::Difference;
use optc_testing::isas;
use optc_tests::random_graph::random_graph;

/// A type with halves for `f32`.
fn halved(ty: &Type, half: DType) -> Type {
    match ty.clone() {
        Type::Tensor(mut t) if t.dtype == DType::F32 => {
            t.dtype = half;
            t.into()
        }
        other => other,
    }
}

/// The graph with halves for `f32`; `None` where an op refuses them.
fn twin(mut graph: Graph, half: DType) -> Option<Graph> {
    for id in graph.ids().collect::<Vec<_>>() {
        let node = graph.node_mut(id);
        node.results.iter_mut().for_each(|r| r.ty = halved(&r.ty, half));
        match &mut node.op {
            Op::Constant(Constant { value: Const(t), .. }) if t.dtype() == DType::F32 => {
                *t = Tensor::from_f64(half, t.shape(), &t.to_f64_vec()).ok()?;
            }
            Op::Cast(cast) if cast.to == DType::F32 => cast.to = half,
            Op::Dequantize(op) => op.to = half,
            Op::Quantize(op) => op.precision = half,
            _ => {}
        }
    }
    infer_types(&mut graph).ok()?;
    Some(graph)
}

/// What the interpreter gives after some passes.
fn interpreted(graph: &Graph, passes: &str, inputs: &[Val]) -> Vec<Val> {
    let mut graph = graph.clone();
    PassManager::new(PassOptions::default()).run(&Pipeline::parse(passes).unwrap(), &mut graph).unwrap();
    optc_ir::run(&graph, inputs).unwrap()
}

/// By how much of the range values differ, more than this; floats alone may.
fn difference(found: &Val, expected: &Val, share: f64) -> Option<String> {
    let (Val::Tensor(a), Val::Tensor(b)) = (found, expected) else { return None };
    let range = Difference::between(a, b, 0.0, 0.0)?.range.max(1.0);
    let d = Difference::between(a, b, share, if b.dtype().is_float() { share * range } else { 0.0 })?;
    (!d.within_tolerance()).then(|| format!("off by {:.3e}: found {a:?}, expected {b:?}", d.max_abs))
}

#[test]
fn random_graphs_in_halves_give_what_the_interpreter_gives() {
    let mut tried = 0;
    for seed in 0..600 {
        let (half, place) = if seed % 3 == 0 { (DType::BF16, 1.0 / 256.0) } else { (DType::F16, 1.0 / 2048.0) };
        let Some(graph) = twin(random_graph(seed, 1 + seed as usize % 8), half) else { continue };
        let Some(inputs) = seeded::inputs(&graph, seed) else { continue };
        let expected = interpreted(&graph, "infer-types,widen", &inputs);
        let isas = isas();
        let isa = isas[seed as usize % isas.len()];
        let options = Options { isa: Some(isa.name.to_owned()), ..Options::default() };
        let model = Compiler::new(options).compile_graph(graph.clone()).unwrap();
        let found = model.session().run_values(&inputs).unwrap();
        for (found, expected) in found.iter().zip(&expected) {
            // A sum in another order may be rounded to the next half.
            let wrong = difference(found, expected, 2.0 * place);
            assert!(wrong.is_none(), "seed {seed} on {}: {wrong:?}\n{}", isa.name, optc_ir::print(&graph).text);
        }
        tried += 1;
    }
    assert!(tried > 200, "{tried} graphs");
}

/// A chain of what transformers have: a product, a norm, an activation, a softmax.
fn chain(half: DType, shape: [usize; 2], n: usize) -> Graph {
    let [m, k] = shape;
    let text = format!(
        "func @chain(%x: tensor<{m}x{k}x{half}>, %w: tensor<{k}x{n}x{half}>, %s: tensor<{n}x{half}>) {{
  %0 = math.matmul %x, %w : tensor<{m}x{n}x{half}>
  %1 = math.add %0, %s : tensor<{m}x{n}x{half}>
  %2 = nn.layer_norm %1, %s, _ {{axis = -1}} : tensor<{m}x{n}x{half}>
  %3 = math.sigmoid %2 : tensor<{m}x{n}x{half}>
  %4 = nn.softmax %3 {{axis = -1}} : tensor<{m}x{n}x{half}>
  return %3 as \"gate\", %4 as \"share\"
}}"
    );
    optc_ir::parse(&text).unwrap()
}

#[test]
fn a_chain_runs_in_kernels_and_is_near_what_halves_give() {
    for isa in isas() {
        for (half, place) in [(DType::F16, 1.0 / 2048.0), (DType::BF16, 1.0 / 256.0)] {
            for (shape, n) in [([1, 7], 5), ([3, 33], 17), ([9, 64], 48), ([17, 5], 64)] {
                let graph = chain(half, shape, n);
                let inputs = seeded::inputs(&graph, 3).unwrap();
                let options = Options { isa: Some(isa.name.to_owned()), ..Options::default() };
                let program = Compiler::new(options.clone()).program(graph.clone()).unwrap();
                assert!(program.hosts.is_empty(), "on {}: {:?}", isa.name, program.hosts);
                let model = Compiler::new(options).compile_graph(graph.clone()).unwrap();
                let found = model.session().run_values(&inputs).unwrap();
                for passes in ["infer-types,widen", "infer-types"] {
                    let expected = interpreted(&graph, passes, &inputs);
                    for (found, expected) in found.iter().zip(&expected) {
                        let wrong = difference(found, expected, 8.0 * place);
                        assert!(wrong.is_none(), "{half} {shape:?} on {}: {wrong:?}", isa.name);
                    }
                }
            }
        }
    }
}
