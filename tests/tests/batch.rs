//! Models with a batch: one plan for any number of items, whose rows have the same bits whatever the number is.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::collections::HashMap;
use std::sync::Arc;

use optc::{Compiler, Model, Options, Program, Tensor, Val};
use optc_ir::{Dim, Graph, Op, ResultInfo, Type, infer_node, parse};
use optc_passes::{NotBatched, batched, seeded, specialize};
use optc_tests::random_graph::random_graph_of;
use optc_tests::{compare, data};

const PIXELS: usize = 28 * 28;

fn pictures(first: usize, n: usize) -> Val {
    let all = data::array("fashion_100.npz", "input").unwrap();
    let some = &all.as_slice::<f32>().unwrap()[first * PIXELS..][..n * PIXELS];
    Tensor::from_slice(&[n, 1, 28, 28], some).unwrap().into()
}

/// The only output for some inputs.
fn output(model: &Model, inputs: &[Val]) -> Tensor {
    model.session().run_values(inputs).unwrap().remove(0).as_tensor().unwrap().clone()
}

fn network(name: &str, threads: usize) -> Model {
    Compiler::new(Options { threads, ..Options::default() })
        .compile_file(&data::testdata(&format!("{name}.onnx")))
        .unwrap()
}

#[test]
fn rows_of_a_network_have_the_same_bits_in_any_batch() {
    for name in ["mlp", "lenet", "resnet8", "mobilenetv2"] {
        let models = [network(name, 1), network(name, 2)];
        assert_eq!(models[0].no_batch(), None, "{name}");
        let all = output(&models[0], &[pictures(0, 100)]);
        let row = all.bytes().len() / 100;
        for model in &models {
            for (first, n) in [(0, 1), (99, 1), (0, 7), (31, 64), (2, 9), (0, 100), (0, 0)] {
                let found = output(model, &[pictures(first, n)]);
                assert_eq!(found.shape(), [n, 10], "{name}");
                assert_eq!(found.bytes(), &all.bytes()[first * row..][..n * row], "{name}: {n} from {first} on");
            }
            let stats = model.cache_stats();
            assert_eq!(stats.misses, 1, "{name}: one plan for all");
        }
    }
}

/// The layers of vit are exported with the items second, and so is lstm.
#[test]
fn networks_that_turn_the_items_around_say_so() {
    for name in ["vit", "lstm"] {
        let model = network(name, 1);
        assert_eq!(output(&model, &[pictures(0, 3)]).shape(), [3, 10]);
        let why = model.no_batch().unwrap();
        assert!(why.contains("`tensor.transpose`"), "{name}: {why}");
    }
}

#[test]
fn a_session_keeps_one_executor_and_an_output_of_its_own_for_each_run() {
    let model = network("mlp", 1);
    let mut session = model.session();
    let mut run = |n: usize| session.run_values(&[pictures(0, n)]).unwrap().remove(0);
    let seven = run(7);
    let (three, again) = (run(3), run(7));
    assert_eq!(seven, again);
    assert_eq!(three.as_tensor().unwrap().bytes(), &seven.as_tensor().unwrap().bytes()[..3 * 40]);
}

#[test]
fn a_batch_needs_memory_for_some_items_at_a_time() {
    let model = network("mobilenetv2", 1);
    let plan = model.plan_for(&[pictures(0, 1).ty()]).unwrap();
    let arena = |n: usize| plan.plan.arena_bytes(&[pictures(0, n).ty()]);
    let batch = plan.plan.flow.batch.unwrap();
    assert!(arena(1) < arena(7) && arena(100) <= plan.plan.flow.arena_bytes + batch.block * batch.item_bytes);
}

/// A graph in which these dims of the inputs are open.
fn open(text: &str) -> Graph {
    parse(text).unwrap()
}

fn refusal(text: &str) -> NotBatched {
    match batched(&open(text)) {
        Ok(found) => panic!("{found:?}: {text}"),
        Err(refused) => refused,
    }
}

/// The body of a function of `x`, 4 elements an item, and of a matrix.
fn function(body: &str) -> String {
    format!("func @f(%x: tensor<Nx4xf32>, %w: tensor<4x4xf32>) {{\n{body}\n}}")
}

#[test]
fn ops_that_mix_items_are_found() {
    for (op, body) in [
        ("tensor.transpose", "%0 = tensor.transpose %x {perm = [1, 0]} : tensor<4xNxf32>"),
        ("nn.softmax", "%0 = nn.softmax %x {axis = 0} : tensor<Nx4xf32>"),
        ("math.reduce", "%0 = math.reduce %x {axes = [0], kind = \"sum\"} : tensor<1x4xf32>"),
        ("tensor.concat", "%0 = tensor.concat %x, %w {axis = 0} : tensor<?x4xf32>"),
        ("quant.dynamic_quantize", "%0, %1, %2 = quant.dynamic_quantize %x : tensor<Nx4xu8>, tensor<f32>, tensor<u8>"),
    ] {
        let refused = refusal(&function(&format!("{body}\nreturn %0 as \"y\"")));
        assert!(matches!(&refused, NotBatched::Mixes { op: found, .. } if *found == op), "{op}: {refused}");
    }
}

#[test]
fn what_depends_on_the_number_of_items_is_found() {
    let times = "%s = tensor.shape %x : tensor<2xi64>
        %f = math.cast %s {to = f32} : tensor<2xf32>
        %i = tensor.const {value = dense<0> : tensor<i64>} : tensor<i64>
        %n = tensor.gather %f, %i : tensor<f32>
        %0 = math.mul %x, %n : tensor<Nx4xf32>
        return %0 as \"y\"";
    let refused = refusal(&function(times));
    assert!(matches!(refused, NotBatched::Count { op: "math.mul", .. }), "{refused}");
    let turned = "func @f(%x: tensor<4xNxf32>) {\n%0 = math.relu %x : tensor<4xNxf32>\nreturn %0 as \"y\"\n}";
    assert_eq!(refusal(turned), NotBatched::Input("x".to_owned()));
}

#[test]
fn reshapes_that_keep_items_are_seen_through() {
    let constant = |name: &str, values: &str, ty: &str| {
        format!("%{name} = tensor.const {{value = dense<{values}> : {ty}}} : {ty}\n")
    };
    let extents = |name: &str, values: &str, n: usize| constant(name, values, &format!("tensor<{n}xi64>"));
    let first = "%n = tensor.shape %x {end = 1} : tensor<1xi64>\n";
    let computed = |rest: &str, n: usize| {
        let all = format!("%s = tensor.concat %n, %r {{axis = 0}} : tensor<{}xi64>\n", n + 1);
        first.to_owned() + &extents("r", rest, n) + &all
    };
    let reshaped = |ty: &str| format!("%0 = tensor.reshape %x, %s : {ty}\n");
    for (name, body) in [
        ("flatten", "%0 = tensor.flatten %x : tensor<Nx4xf32>\n".to_owned()),
        ("left over", extents("s", "[-1, 2, 2]", 3) + &reshaped("tensor<?x2x2xf32>")),
        ("copied", extents("s", "[0, -1]", 2) + &reshaped("tensor<Nx?xf32>")),
        ("computed", computed("[2, 2]", 2) + &reshaped("tensor<?x2x2xf32>")),
        (
            "one for each",
            computed("[4]", 1)
                + &constant("c", "[1.0, 2.0, 3.0, 4.0]", "tensor<1x4xf32>")
                + "%e = tensor.expand %c, %s : tensor<?x4xf32>\n"
                + "%0 = tensor.concat %x, %e {axis = 1} : tensor<Nx8xf32>\n",
        ),
    ] {
        let graph = open(&function(&(body + "return %0 as \"y\"")));
        batched(&graph).unwrap_or_else(|e| panic!("{name}: {e}"));
        let (of, _) = items(&graph, 3, 1);
        check(name, &graph, &of);
    }
}

/// Inputs of so many items for the inputs of a graph that have any, and which these are.
fn items(graph: &Graph, n: usize, seed: u64) -> (Vec<Val>, Vec<bool>) {
    let mut typed = graph.clone();
    let open: Vec<bool> = graph.inputs().map(|v| graph.ty(v).as_tensor().unwrap().static_shape().is_none()).collect();
    let types: Vec<Type> = graph
        .inputs()
        .map(|v| {
            let mut t = graph.ty(v).as_tensor().unwrap().clone();
            let first = t.shape.as_mut().and_then(|s| s.first_mut()).filter(|d| d.known().is_none());
            first.into_iter().for_each(|d| *d = Dim::Known(n));
            t.into()
        })
        .collect();
    specialize(&mut typed, &types).unwrap();
    (seeded::inputs(&typed, seed).unwrap(), open)
}

/// A part of each input that has items.
fn part(inputs: &[Val], open: &[bool], first: usize, n: usize) -> Vec<Val> {
    let of = |(value, open): (&Val, &bool)| {
        let t = value.as_tensor().unwrap();
        if !open {
            return value.clone();
        }
        let row = t.bytes().len() / t.shape()[0];
        let shape = [&[n][..], &t.shape()[1..]].concat();
        Tensor::from_bytes(t.dtype(), &shape, &t.bytes()[first * row..][..n * row]).unwrap().into()
    };
    inputs.iter().zip(open).map(of).collect()
}

/// What a graph gives for some items, by its plan for any number: as the graph's interpreter says, and the same bits
/// for each item alone and in pairs; its program, read back, is interpreted to the same.
fn check(name: &str, graph: &Graph, inputs: &[Val]) {
    let found = batched(graph).unwrap();
    let model = Compiler::default().compile_graph(graph.clone()).unwrap();
    let all = model.session().run_values(inputs).unwrap();
    assert_eq!(model.no_batch(), None, "{name}");
    let mut typed = graph.clone();
    specialize(&mut typed, &inputs.iter().map(Val::ty).collect::<Vec<_>>()).unwrap();
    for (found, expected) in all.iter().zip(optc_ir::run(&typed, inputs).unwrap()) {
        assert_eq!(compare::difference(found, &expected), None, "{name}");
    }
    let n = inputs.iter().zip(&found.inputs).find(|(_, open)| **open).unwrap().0.as_tensor().unwrap().shape()[0];
    for (first, some) in [(0, 1), (n - 1, 1), (1, n - 1), (0, 0)] {
        let some_inputs = part(inputs, &found.inputs, first, some);
        let outputs = model.session().run_values(&some_inputs).unwrap();
        assert_eq!(outputs, part(&all, &found.outputs, first, some), "{name}: {some} from {first} on");
    }
    let program =
        Compiler::new(Options { isa: Some("portable".to_owned()), ..Options::default() }).program(graph.clone());
    let program = program.unwrap();
    assert!(program.flow.batch.is_some(), "{name}");
    let printed = program.print();
    let read = Program::parse(&printed.text, &printed.constants.into_iter().collect()).unwrap();
    assert!(read == program, "{name}: read back it is another program:\n{}", printed.text);
    let hosts: Vec<Arc<dyn optc_types::HostOp>> =
        read.hosts.iter().map(|host| optc_testing::resolve(host, &HashMap::new()).unwrap()).collect();
    let interpreted = read.interpret(inputs, &hosts).unwrap();
    let run = optc_testing::loaded(&read).unwrap();
    let pool = optc_runtime::ThreadPool::new(2).unwrap();
    let (mut executor, mut arena) = (optc_runtime::Executor::new(run), optc_runtime::Arena::default());
    assert_eq!(executor.run(inputs, &mut arena, &pool, None).unwrap(), interpreted, "{name}");
    let none = part(inputs, &found.inputs, 0, 0);
    assert_eq!(executor.run(&none, &mut arena, &pool, None).unwrap(), read.interpret(&none, &hosts).unwrap(), "{name}");
}

/// A random graph whose inputs have open outermost dims.
fn random_batch(seed: u64, ops: usize) -> Graph {
    let mut graph = random_graph_of(seed, ops, Some(3));
    for input in graph.inputs().collect::<Vec<_>>() {
        let Type::Tensor(t) = &mut graph.node_mut(input.node).results[0].ty else { continue };
        t.shape.as_mut().unwrap()[0] = Dim::Named("N".into());
    }
    for id in graph.topological_order().unwrap() {
        if !matches!(graph.node(id).op, Op::Param(_) | Op::Constant(_)) {
            let types = infer_node(&graph, id).unwrap();
            graph.node_mut(id).results = types.into_iter().map(|ty| ResultInfo { ty }).collect();
        }
    }
    graph
}

#[test]
fn items_of_random_graphs_have_the_same_bits_in_any_batch() {
    let cases = std::env::var("OPTC_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    let mut with_batch = 0;
    for seed in 0..cases {
        let graph = random_batch(seed, 1 + seed as usize % 6);
        if batched(&graph).is_err() {
            continue;
        }
        let (inputs, _) = items(&graph, 5, seed);
        let model = Compiler::default().compile_graph(graph.clone()).unwrap();
        model.session().run_values(&inputs).unwrap();
        match model.no_batch() {
            Some(why) => assert_eq!(why, "an op runs on the host", "random_batch({seed})"),
            None => {
                with_batch += 1;
                check(&format!("random_batch({seed})"), &graph, &inputs);
            }
        }
    }
    assert!(with_batch * 10 >= cases, "{with_batch} of {cases} have a batch");
}

#[test]
fn a_model_that_mixes_items_has_a_plan_for_each_number() {
    let text = function("%0 = nn.softmax %x {axis = 0} : tensor<Nx4xf32>\nreturn %0 as \"y\"");
    let model = Compiler::default().compile_graph(open(&text)).unwrap();
    for n in [1, 2, 3] {
        let (inputs, _) = items(&open(&text), n, 1);
        let found = output(&model, &inputs);
        let sum: f32 = found.as_slice::<f32>().unwrap().iter().sum();
        assert!((sum - 4.0).abs() < 1e-5, "{sum}");
    }
    assert_eq!(model.cache_stats().misses, 3);
    let why = model.no_batch().unwrap();
    assert!(why.contains("nn.softmax") && why.contains("does not take each item by itself"), "{why}");
}

#[test]
fn inputs_of_different_numbers_of_items_have_a_plan_of_their_own() {
    let text = "func @f(%x: tensor<Nx4xf32>, %y: tensor<Mx4xf32>) {
        %0 = math.relu %x : tensor<Nx4xf32>\n%1 = math.neg %y : tensor<Mx4xf32>\nreturn %0 as \"a\", %1 as \"b\"\n}";
    let model = Compiler::default().compile_graph(open(text)).unwrap();
    let of = |n: usize| Val::from(Tensor::zeros(optc::DType::F32, &[n, 4]).unwrap());
    let shapes = |inputs: &[Val]| -> Vec<Vec<usize>> {
        let outputs = model.session().run_values(inputs).unwrap();
        outputs.iter().map(|v| v.as_tensor().unwrap().shape().to_vec()).collect()
    };
    assert_eq!(shapes(&[of(2), of(2)]), [[2, 4], [2, 4]]);
    assert_eq!(shapes(&[of(5), of(2)]), [[5, 4], [2, 4]]);
    assert_eq!(model.no_batch(), None);
}

/// What a rewrite may get wrong with items is found by the verifier.
#[test]
fn errors_in_programs_for_batches_are_found() {
    let text = "func @f(%x: tensor<Nx4xf32>) {\n%0 = math.relu %x : tensor<Nx4xf32>
        %1 = nn.softmax %0 : tensor<Nx4xf32>\n%2 = math.tanh %1 : tensor<Nx4xf32>\nreturn %2 as \"y\"\n}";
    let options =
        Options { target: Some("portable".to_owned()), passes: "infer-types".to_owned(), ..Options::default() };
    let program = Compiler::new(options).program(open(text)).unwrap().print().text;
    let refused = |from: &str, to: &str| {
        assert!(program.contains(from), "{from} in {program}");
        Program::parse(&program.replace(from, to), &[].into()).unwrap_err().to_string()
    };
    let batch = program.lines().find(|line| line.starts_with("  batch")).unwrap();
    assert!(refused(batch, "").contains("(P9)"));
    assert!(refused("16 each output 0", "16 output 0").contains("(P9)"));
    assert!(refused("batch 64 items", "batch 0 items").contains("(P9)"));
    assert!(refused(batch, "  batch 64 items 0").contains("(P3)"));
    assert!(refused(" in_place 0", "").contains("(P6)"));
}

#[test]
fn native_code_serves_any_number_of_items() {
    let compiler = Compiler::new(Options { keep_graph: true, ..Options::default() });
    let path = data::testdata("lenet.onnx");
    let native = compiler.native_of_file(&path).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    compiler.compile_file(&path).unwrap().save_with(file.path(), &[native]).unwrap();
    let trusting = Compiler::new(Options { trust: true, ..Options::default() }).compile_file(file.path()).unwrap();
    let compiled = network("lenet", 1);
    for n in [1, 7, 100, 0] {
        assert_eq!(output(&trusting, &[pictures(0, n)]), output(&compiled, &[pictures(0, n)]));
    }
    assert_eq!(trusting.cache_stats().misses, 0, "its only plan is the one in the artifact");
}
