//! Artifacts with machine code: they run what was compiled, without a compiler, where they are trusted; else, and on
//! other machines, they are compiled from their graphs.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use optc::{Compiler, FileAccess, NativeCode, Options, Val};
use optc_ir::Graph;
use optc_kernel::target::ISAS;
use optc_native::{Artifact, Contents};
use optc_runtime::{Arena, Executor, ThreadPool};
use optc_tests::data;
use optc_tests::networks::{ALL, graph, picture, quantized};

fn for_target(name: &str) -> Compiler {
    Compiler::new(Options { target: Some(name.to_owned()), ..Options::default() })
}

/// The rows that this machine runs.
fn rows() -> Vec<&'static str> {
    ISAS.iter().filter(|isa| optc_emit::host::has(isa)).map(|isa| isa.name).collect()
}

/// Writes the artifact of a graph with machine code for these targets.
fn write(graph: &Graph, targets: &[&str], path: &Path) -> Vec<NativeCode> {
    let natives: Vec<_> = targets.iter().map(|target| for_target(target).native(graph.clone()).unwrap()).collect();
    let model = Compiler::new(Options { keep_graph: true, ..Options::default() }).compile_graph(graph.clone()).unwrap();
    model.save_with(path, &natives).unwrap();
    natives
}

fn trusting(options: Options) -> Compiler {
    Compiler::new(Options { trust: true, ..options })
}

/// Runs machine code of an artifact by nothing but the loader and the engine.
fn run_alone(artifact: &Artifact, target: &str, inputs: &[Val]) -> Vec<Val> {
    let native = artifact.native().unwrap().into_iter().find(|native| native.target().isa.name == target).unwrap();
    // SAFETY: this test has made the code.
    let (plan, _) = unsafe { artifact.plan(&native, &optc_testing::resolve) }.unwrap();
    let pool = ThreadPool::new(1).unwrap();
    Executor::new(Arc::new(plan)).run(inputs, &mut Arena::default(), &pool, None).unwrap()
}

#[test]
fn machine_code_gives_what_the_compiled_model_gives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.optc");
    let (inputs, rows) = ([picture().unwrap()], rows());
    for name in ALL {
        for graph in [graph(name).unwrap(), quantized(name).unwrap()] {
            write(&graph, &rows, &path);
            let artifact = Artifact::open(&path, FileAccess::Map).unwrap();
            for row in &rows {
                let compiled = for_target(row).compile_graph(graph.clone()).unwrap();
                let expected = compiled.session().run_values(&inputs).unwrap();
                assert_eq!(run_alone(&artifact, row, &inputs), expected, "{name} on {row}");
                let isa = Some((*row).to_owned());
                let loaded = trusting(Options { isa, ..Options::default() }).load(&path).unwrap();
                assert_eq!(loaded.session().run_values(&inputs).unwrap(), expected, "{name} on {row}");
                assert!(loaded.name() == compiled.name() && loaded.inputs() == compiled.inputs());
            }
        }
    }
}

/// `ud2`, in place of all code: whoever runs it dies.
fn poison(natives: &mut [NativeCode]) {
    natives.iter_mut().for_each(|native| native.code.text.fill(0x0b));
}

#[test]
fn without_trust_machine_code_is_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.optc");
    let graph = graph("lenet").unwrap();
    let mut natives = write(&graph, &rows(), &path);
    let model = Compiler::new(Options { keep_graph: true, ..Options::default() }).compile_graph(graph).unwrap();
    let expected = model.session().run_values(&[picture().unwrap()]).unwrap();
    poison(&mut natives);
    model.save_with(&path, &natives).unwrap();
    let loaded = Compiler::default().load(&path).unwrap();
    assert_eq!(loaded.session().run_values(&[picture().unwrap()]).unwrap(), expected);
    // What asks for something else than the code does is compiled, trusted or not.
    let other = [
        Options { precision: optc::Precision::Bf16, ..Options::default() },
        Options { keep_graph: true, ..Options::default() },
    ];
    for options in other {
        trusting(options).load(&path).unwrap().session().run_values(&[picture().unwrap()]).unwrap();
    }
}

#[test]
fn machine_code_for_other_machines_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.optc");
    let graph = graph("mlp").unwrap();
    let foreign = if cfg!(target_arch = "aarch64") { "avx2" } else { "aarch64-neon" };
    let natives = write(&graph, &[foreign], &path);
    let artifact = Artifact::open(&path, FileAccess::Copy).unwrap();
    assert_eq!(artifact.native_here(None), None);
    let native = artifact.native().unwrap().remove(0);
    assert_eq!(artifact.native_code(&native).unwrap(), natives[0]);
    let loaded = trusting(Options::default()).load(&path).unwrap();
    let expected =
        Compiler::default().compile_graph(graph).unwrap().session().run_values(&[picture().unwrap()]).unwrap();
    assert_eq!(loaded.session().run_values(&[picture().unwrap()]).unwrap(), expected);
}

/// Weights are not looked at; everything that decides what is done is.
#[test]
fn damaged_code_and_tables_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.optc");
    let natives = write(&graph("lenet").unwrap(), &[optc_emit::host::isa().name], &path);
    let good = std::fs::read(&path).unwrap();
    let code = &natives[0].code.text;
    let at = good.windows(code.len()).position(|bytes| bytes == code).unwrap();
    let front = 32 + u64::from_le_bytes(good[16..24].try_into().unwrap()) as usize;
    let places = (0..front).step_by(7).chain((at..at + code.len()).step_by(61)).chain([good.len()]);
    for place in places {
        let mut bad = good.clone();
        match bad.get_mut(place) {
            Some(byte) => *byte ^= 0x10,
            None => bad.push(0),
        }
        let refused = trusting(Options::default()).compile_bytes(&bad);
        assert!(refused.is_err(), "a change at {place} was not found");
    }
}

/// A file whose sums are right but whose tables lie: an error, before any code runs.
#[test]
fn code_that_does_not_fit_its_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.optc");
    let natives = write(&graph("mlp").unwrap(), &[optc_emit::host::isa().name], &path);
    let contents = |natives: &[NativeCode]| {
        let plain = Contents {
            name: "x",
            passes: "O2",
            specialised: true,
            text: "func @x() {}",
            constants: &[],
            tuning: None,
            natives,
        };
        optc_native::save(&path, &plain).unwrap();
        trusting(Options::default()).load(&path).err().map(|e| e.to_string())
    };
    assert_eq!(contents(&natives), None);
    let mut fewer = natives.clone();
    fewer[0].code.entries.pop();
    assert!(contents(&fewer).unwrap().contains("not the code of each kernel"));
    let mut beyond = natives.clone();
    beyond[0].code.entries[0] = beyond[0].code.text.len();
    assert!(contents(&beyond).unwrap().contains("damaged"));
    let mut outside = natives;
    outside[0].program.flow.buffers[0].bytes += 1 << 20;
    assert!(contents(&outside).unwrap().contains("P3"));
}

/// The loader and the engine run machine code: no code generator is linked.
#[test]
fn the_loader_needs_no_code_generator() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "-p", "optc-native", "-e", "normal", "--prefix", "none"])
        .current_dir(data::repository())
        .output()
        .unwrap();
    let tree = String::from_utf8(tree.stdout).unwrap();
    assert!(tree.contains("optc-runtime"), "{tree}");
    for crate_ in ["optc-emit", "optc-lower", "cranelift", "iced-x86"] {
        assert!(!tree.contains(crate_), "{crate_} is linked:\n{tree}");
    }
}
