//! Programs of networks, for every row of the target table, whatever this machine has: printed, read back, verified,
//! and interpreted, which gives what the graph's interpreter gives.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use optc::{Compiler, Decision, NodeReport, Options, Program};
use optc_ir::Graph;
use optc_kernel::target::{Arch, ISAS};
use optc_passes::{PassManager, Pipeline};
use optc_tests::compare;
use optc_tests::networks::{ALL, graph, picture, quantized};
use optc_types::steps::Step;

/// What the products of a network are made of.
#[derive(Clone, Copy, PartialEq)]
enum Numbers {
    Floats,
    Integers,
}

/// The graph that says what a program computes: as it is, or with products in integers, which passes make of quantized
/// ones.
fn meant(graph: &Graph, numbers: Numbers, options: &Options) -> Graph {
    let mut graph = graph.clone();
    if numbers == Numbers::Integers {
        let passes = Pipeline::parse(&options.passes).unwrap();
        PassManager::new(options.pass_options().unwrap()).run(&passes, &mut graph).unwrap();
    }
    graph
}

/// The program's text, read back.
fn read_back(program: &Program) -> Program {
    let printed = program.print();
    Program::parse(&printed.text, &printed.constants.into_iter().collect()).unwrap()
}

/// Its kernels become machine code on any machine, the same on any number of threads.
fn emitted(program: &Program) {
    let kernels: Vec<_> = program.kernels.iter().collect();
    let code = |threads| optc_emit::machine_code(&kernels, &program.target, threads);
    if program.target.arch == Arch::Wasm32 {
        let refused = code(1).unwrap_err().to_string();
        assert!(refused.contains("no code generator for wasm32-unknown"), "{refused}");
        return;
    }
    let emitted = code(1).unwrap();
    assert_eq!(emitted.entries.len(), kernels.len());
    assert!(!emitted.text.is_empty() && code(2).unwrap() == emitted);
}

/// A program before its last rewrites, read back: copies are not kernels, buffers share nothing.
fn before_rewrites(draft: &Program, program: &Program) -> Program {
    let copies = |program: &Program| program.flow.steps.iter().filter(|s| matches!(s, Step::Arrange(_))).count();
    let moves = program.flow.steps.iter().filter(|s| matches!(s, Step::Kernel(k) if k.info.name.starts_with("move_")));
    assert!(copies(draft) <= moves.count() && copies(program) == 0);
    assert!(draft.flow.arena_bytes >= program.flow.arena_bytes && draft.flow.steps.len() == program.flow.steps.len());
    let read = read_back(draft);
    assert!(read == *draft);
    read
}

fn check(name: &str, graph: &Graph, numbers: Numbers) {
    let inputs = [picture().unwrap()];
    for isa in ISAS {
        let options = Options { isa: Some(isa.name.to_owned()), ..Options::default() };
        let expected = optc_ir::run(&meant(graph, numbers, &options), &inputs).unwrap().remove(0);
        let program = Compiler::new(options.clone()).program(graph.clone()).unwrap();
        assert!(
            Compiler::new(options.clone()).program(graph.clone()).unwrap() == program,
            "{name}: made twice for {}",
            isa.name
        );
        let read = read_back(&program);
        assert!(read == program, "{name} for {}: its text is another program", isa.name);
        emitted(&read);
        assert!(read.hosts.is_empty(), "{name}: {:?}", read.hosts);
        let found = read.interpret(&inputs, &[]).unwrap().remove(0);
        if isa.arch.is_none() {
            let draft = Compiler::new(Options { draft: true, ..options.clone() }).program(graph.clone()).unwrap();
            assert_eq!(before_rewrites(&draft, &program).interpret(&inputs, &[]).unwrap().remove(0), found, "{name}");
        }
        match numbers {
            Numbers::Integers => assert_eq!(found, expected, "{name} for {}", isa.name),
            Numbers::Floats => {
                let difference = compare::difference(&found, &expected);
                assert!(difference.is_none(), "{name} for {}: {difference:?}", isa.name);
            }
        }
    }
}

#[test]
fn a_program_for_any_row_computes_what_the_graph_says() {
    for name in ["mlp", "lenet", "resnet8"] {
        check(name, &graph(name).unwrap(), Numbers::Floats);
    }
}

#[test]
fn a_quantized_program_for_any_row_gives_the_bits_of_the_graph() {
    for name in ["mlp", "lenet", "resnet8"] {
        check(name, &quantized(name).unwrap(), Numbers::Integers);
    }
}

/// Ops are fused only where a kernel takes all of them: a region that is split, or runs on the host, runs slowly, and
/// nobody asked for that.
#[test]
fn no_fused_region_of_a_network_is_split() {
    for name in ALL {
        for graph in [graph(name).unwrap(), quantized(name).unwrap()] {
            for isa in ISAS {
                let options = Options { isa: Some(isa.name.to_owned()), ..Options::default() };
                let program = Compiler::new(options).program(graph.clone()).unwrap();
                let whole = |node: &&NodeReport| node.ops.len() > 1 && matches!(node.decision, Decision::Host { .. });
                let split = program.report.iter().filter(|node| node.split.is_some() || whole(node));
                let split: Vec<_> = split.collect();
                assert!(split.is_empty(), "{name} for {}: {split:?}", isa.name);
            }
        }
    }
}

/// What a rewrite may get wrong is found by the verifier: bytes that are shared without permission, copies that leave a
/// buffer.
#[test]
fn errors_in_rewrites_are_found() {
    let text = "func @f(%x: tensor<2x3xf32>) {
        %0 = math.relu %x : tensor<2x3xf32>
        %1 = math.tanh %0 : tensor<2x3xf32>
        %2 = tensor.transpose %1 {perm = [1, 0]} : tensor<3x2xf32>
        return %2 as \"y\"
    }";
    let made = |draft: bool| {
        let options = Options {
            target: Some("portable".to_owned()),
            passes: "infer-types".to_owned(),
            draft,
            ..Options::default()
        };
        Compiler::new(options).program(optc_ir::parse(text).unwrap()).unwrap().print().text
    };
    let refused = |text: &str, from: &str, to: &str| {
        assert!(text.contains(from), "{from} in {text}");
        Program::parse(&text.replace(from, to), &[].into()).unwrap_err().to_string()
    };
    let (draft, program) = (made(true), made(false));
    assert!(refused(&program, " in_place 0", "").contains("(P6)"));
    for (from, to) in
        [("(4, 12)", "(4, 1200)"), ("(4, 12)", "(4, -12)"), ("(4, 12)", "(4, 12, 0)"), ("arrange 4", "arrange 400")]
    {
        let error = refused(&draft, from, to);
        assert!(error.contains("(P3)"), "{to}: {error}");
    }
    // One element again and again lies in both buffers, but would take for ever.
    let again = draft.replace("(3, 2) b", "(1073741824, 1073741824) b").replace("(4, 12)", "(0, 0)");
    assert!(refused(&again, "(8, 4)", "(0, 0)").contains("more elements than its result has room for"));
}
