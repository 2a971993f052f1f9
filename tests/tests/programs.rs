//! Programs of networks, for every row of the target table, whatever this machine has: printed, read back, verified,
//! and interpreted, which gives what the graph's interpreter gives.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use optc::{Compiler, Decision, Integers, NodeReport, Options, Program};
use optc_ir::Graph;
use optc_kernel::target::{Arch, ISAS};
use optc_passes::{PassManager, Pipeline};
use optc_tests::compare;
use optc_tests::networks::{ALL, graph, picture, quantized};

/// The graph that says what a program computes: as it is, or with products in integers, which passes make of quantized
/// ones.
fn meant(graph: &Graph, options: &Options) -> Graph {
    let mut graph = graph.clone();
    if options.integers == Integers::Always {
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

fn check(name: &str, graph: &Graph, integers: Integers) {
    let inputs = [picture().unwrap()];
    for isa in ISAS {
        let options = Options { isa: Some(isa.name.to_owned()), integers, ..Options::default() };
        let expected = optc_ir::run(&meant(graph, &options), &inputs).unwrap().remove(0);
        let program = Compiler::new(options.clone()).program(graph.clone()).unwrap();
        assert!(
            Compiler::new(options).program(graph.clone()).unwrap() == program,
            "{name}: made twice for {}",
            isa.name
        );
        let read = read_back(&program);
        assert!(read == program, "{name} for {}: its text is another program", isa.name);
        emitted(&read);
        assert!(read.hosts.is_empty(), "{name}: {:?}", read.hosts);
        let found = read.interpret(&inputs, &[]).unwrap().remove(0);
        match integers {
            Integers::Always => assert_eq!(found, expected, "{name} for {}", isa.name),
            Integers::Faster => {
                let difference = compare::difference(&found, &expected);
                assert!(difference.is_none(), "{name} for {}: {difference:?}", isa.name);
            }
        }
    }
}

#[test]
fn a_program_for_any_row_computes_what_the_graph_says() {
    for name in ["mlp", "lenet", "resnet8"] {
        check(name, &graph(name).unwrap(), Integers::Faster);
    }
}

#[test]
fn a_quantized_program_for_any_row_gives_the_bits_of_the_graph() {
    for name in ["mlp", "lenet", "resnet8"] {
        check(name, &quantized(name).unwrap(), Integers::Always);
    }
}

/// Ops are fused only where a kernel takes all of them: a region that is split, or runs on the host, runs slowly, and
/// nobody asked for that.
#[test]
fn no_fused_region_of_a_network_is_split() {
    for name in ALL {
        for (graph, integers) in
            [(graph(name).unwrap(), Integers::Faster), (quantized(name).unwrap(), Integers::Always)]
        {
            for isa in ISAS {
                let options = Options { isa: Some(isa.name.to_owned()), integers, ..Options::default() };
                let program = Compiler::new(options).program(graph.clone()).unwrap();
                let whole = |node: &&NodeReport| node.ops.len() > 1 && matches!(node.decision, Decision::Host { .. });
                let split = program.report.iter().filter(|node| node.split.is_some() || whole(node));
                let split: Vec<_> = split.collect();
                assert!(split.is_empty(), "{name} for {}: {split:?}", isa.name);
            }
        }
    }
}
