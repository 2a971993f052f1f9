//! Classical machine learning: ops of `ai.onnx.ml`, and models that skl2onnx exports from scikit-learn. Interpreted,
//! compiled, and exported and read again, they give what ONNX Runtime gives. `ML_CASE=part` runs the cases whose name
//! contains `part`.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};

use optc::{Compiler, Options, Val};
use optc_ir::Graph;
use optc_onnx::{ModelFile, export_model, import_bytes, import_file, read_data_set};
use optc_tests::compare::difference;
use optc_tests::data;
use optc_tests::node_cases::{CaseOutcome, run_all};
use prost::Message;

/// The folder of the cases, and their names.
fn cases() -> (PathBuf, Vec<String>) {
    let root = data::unpack("ml-cases.tar.xz", Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    let part = std::env::var("ML_CASE").unwrap_or_default();
    let entries = std::fs::read_dir(&root).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = entries.filter(|name| name.contains(&part)).collect();
    names.sort();
    assert!(!names.is_empty(), "no case is called like `{part}`");
    (root, names)
}

/// How what a graph gives for a case differs from what it should.
fn wrong(graph: &Graph, folder: &Path) -> Option<String> {
    let file = ModelFile::open(&folder.join("model.onnx")).unwrap();
    let data = read_data_set(&file, &folder.join("test_data_set_0")).unwrap();
    let inputs: Vec<Val> = data.inputs.into_iter().map(|(_, v)| v).collect();
    let found = match optc_ir::run(graph, &inputs) {
        Ok(found) if found.len() == data.outputs.len() => found,
        Ok(found) => return Some(format!("{} outputs", found.len())),
        Err(e) => return Some(e.to_string()),
    };
    let pairs = found.iter().zip(&data.outputs);
    pairs
        .map(|(found, (name, expected))| difference(found, expected).map(|how| format!("`{name}` {how}")))
        .find_map(|d| d)
}

#[test]
fn compiled_they_give_what_onnx_runtime_gives() {
    let (root, names) = cases();
    let outcomes = run_all(&Compiler::new(Options::default()), &root, &names);
    let bad: Vec<_> = names.iter().zip(outcomes).filter(|(_, outcome)| *outcome != CaseOutcome::Pass).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn interpreted_they_give_what_onnx_runtime_gives() {
    let (root, names) = cases();
    let mut bad = vec![];
    for name in names {
        match import_file(&root.join(&name).join("model.onnx")) {
            Ok(graph) => {
                assert_eq!(optc_ir::verify(&graph), [], "{name}");
                bad.extend(wrong(&graph, &root.join(&name)).map(|how| format!("{name}: {how}")));
            }
            Err(e) => bad.push(format!("{name}: {e}")),
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn exported_and_read_again_they_give_the_same() {
    let (root, names) = cases();
    let mut bad = vec![];
    for name in names {
        let graph = import_file(&root.join(&name).join("model.onnx")).unwrap();
        match export_model(&graph).and_then(|model| import_bytes(&model.encode_to_vec())) {
            Ok(again) => bad.extend(wrong(&again, &root.join(&name)).map(|how| format!("{name}: {how}"))),
            Err(e) => bad.push(format!("{name}: {e}")),
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
}
