//! What is fuzzed, and which laws hold for what it accepts.

use std::collections::HashMap;
use std::sync::Arc;

use clap::ValueEnum;
use optc::{Compiler, MachineProfile, Options, TuningCache};
use optc_ir::{Graph, infer_types, parse, parse_with, print, verify};
use optc_native::Artifact;
use optc_passes::{PassManager, PassOptions, Pipeline};

use crate::{kernels, models, programs};

/// The passes that run on a graph of any shapes before anything is compiled.
const CLEAN_UP: &str = "infer-types,fold-constants,canonicalize,cse,dce";

/// A reader of bytes, or a maker of code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FuzzTarget {
    /// The ONNX importer, type inference and the clean-up passes
    Onnx,
    /// The parser of the text form
    Text,
    /// The loader of artifacts, and the compiler behind it; machine code in them is read as data
    Artifact,
    /// The readers of tuning caches and machine profiles, and the compiler that takes what caches say
    Tuning,
    /// ONNX models that are compiled and run
    Run,
    /// Layers that are drawn, compiled and run
    Kernels,
    /// The parser of programs
    Program,
}

impl FuzzTarget {
    pub fn name(self) -> &'static str {
        match self {
            FuzzTarget::Onnx => "onnx",
            FuzzTarget::Text => "text",
            FuzzTarget::Artifact => "artifact",
            FuzzTarget::Tuning => "tuning",
            FuzzTarget::Run => "run",
            FuzzTarget::Kernels => "kernels",
            FuzzTarget::Program => "program",
        }
    }

    /// What the target makes of an input, as text, if it can say before it runs it.
    pub fn text(self, input: &[u8]) -> Option<String> {
        match self {
            FuzzTarget::Onnx | FuzzTarget::Text | FuzzTarget::Artifact | FuzzTarget::Tuning | FuzzTarget::Program => {
                None
            }
            FuzzTarget::Run => Some(models::text(input)),
            FuzzTarget::Kernels => Some(kernels::text(input)),
        }
    }

    /// Runs one input; whether it was accepted.
    pub fn run(self, input: &[u8]) -> bool {
        match self {
            FuzzTarget::Onnx => onnx(input),
            FuzzTarget::Text => text(input),
            FuzzTarget::Artifact => artifact(input),
            FuzzTarget::Tuning => tuning(input),
            FuzzTarget::Run => models::run(input),
            FuzzTarget::Kernels => kernels::run(input),
            FuzzTarget::Program => programs::run(input),
        }
    }
}

/// What is imported is sound, prints and parses back, and the clean-up passes keep its values defined. Constants that
/// they fold may show that the model contradicts itself, which the verifier then says of an op (V3, V4): no fault of a
/// pass.
fn onnx(input: &[u8]) -> bool {
    let Ok(mut graph) = optc_onnx::import_bytes(input) else { return false };
    sound(&graph, "after import");
    let printed = print(&graph);
    let constants: HashMap<_, _> = printed.constants.iter().map(|(name, t)| (name.clone(), t.clone())).collect();
    let parsed = parse_with(&printed.text, &constants).unwrap_or_else(|e| panic!("{e}:\n{}", printed.text));
    assert_eq!(print(&parsed).text, printed.text, "the text of an imported graph changes");
    let pipeline = Pipeline::parse(CLEAN_UP).expect("the pipeline is one");
    if PassManager::new(PassOptions::default()).run(&pipeline, &mut graph).is_err() {
        return false; // an op refuses its operands
    }
    let broken = verify(&graph).into_iter().find(|f| !matches!(f.rule, "V3" | "V4" | "V6"));
    assert!(broken.is_none(), "after the clean-up passes: {broken:?}\n{}", print(&graph).text);
    true
}

/// What is accepted compiles from its graph; programs with machine code are read, and their code is not run.
fn artifact(input: &[u8]) -> bool {
    if let Ok(artifact) = Artifact::read(Arc::new(input.to_vec())) {
        artifact.native().into_iter().flatten().for_each(|native| drop(artifact.native_code(&native)));
    }
    Compiler::new(Options::default()).compile_bytes(input).is_ok()
}

/// A model that tuning caches are made of and taken by.
pub const TUNED: &str = "lenet.onnx";

/// A compiler of [`TUNED`] for one picture, with what is known of the machine.
pub fn tuned_compiler(tuning: TuningCache) -> Compiler {
    let shapes = vec![("input".to_owned(), vec![1, 1, 28, 28])];
    Compiler::new(Options { shapes, tuning, keep_graph: true, ..Options::default() })
}

/// What is accepted of a machine profile is written as it was read.
fn profile(input: &[u8]) {
    if let Ok(profile) = MachineProfile::parse(input) {
        let written = serde_json::to_vec(&profile).expect("texts can be written");
        assert_eq!(MachineProfile::parse(&written).ok(), Some(profile), "what is written reads otherwise");
    }
}

/// Whatever a cache says, the model compiles; what is accepted is written as it was read.
fn tuning(input: &[u8]) -> bool {
    profile(input);
    let Ok(cache) = TuningCache::parse(input) else { return false };
    let written = serde_json::to_vec(&cache).expect("texts can be written");
    assert_eq!(TuningCache::parse(&written).ok().as_ref(), Some(&cache), "what is written reads otherwise");
    let model = tuned_compiler(cache).compile_file(&optc_tests::data::testdata(TUNED));
    model.unwrap_or_else(|e| panic!("a model does not compile: {e}"));
    true
}

/// What is parsed prints to a text that parses to the same; verifying and inferring types come back.
fn text(input: &[u8]) -> bool {
    let Ok(mut graph) = parse(&String::from_utf8_lossy(input)) else { return false };
    let printed = print(&graph);
    if printed.constants.is_empty() {
        let again = parse(&printed.text).unwrap_or_else(|e| panic!("{e}:\n{}", printed.text));
        assert_eq!(print(&again).text, printed.text, "the text of a parsed graph changes");
    }
    let sound = verify(&graph).is_empty();
    let _ = infer_types(&mut graph); // may refuse, must come back
    sound
}

fn sound(graph: &Graph, when: &str) {
    if let Some(failure) = verify(graph).first() {
        panic!("{when}: {}: {}\n{}", failure.rule, failure.message, print(graph).text);
    }
}
