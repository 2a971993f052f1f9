//! Ops of ONNX Runtime, as its optimizer and tools write them into models: compiled and interpreted, they give what
//! ONNX Runtime gives. `ONNXRUNTIME_OP=part` runs the cases whose name contains `part`.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};

use optc::{Compiler, Options, Val};
use optc_onnx::{ModelFile, import_file, is_supported, onnxruntime_ops, read_data_set};
use optc_testing::isas;
use optc_tests::compare::difference;
use optc_tests::data;
use optc_tests::node_cases::{CaseOutcome, run_all};

/// The folder of the cases, and their names.
fn cases() -> (PathBuf, Vec<String>) {
    let root = data::unpack("onnxruntime-ops.tar.xz", Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    let part = std::env::var("ONNXRUNTIME_OP").unwrap_or_default();
    let entries = std::fs::read_dir(&root).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = entries.filter(|name| name.contains(&part)).collect();
    names.sort();
    assert!(!names.is_empty(), "no case is called like `{part}`");
    (root, names)
}

#[test]
fn compiled_they_give_what_onnx_runtime_gives() {
    let (root, names) = cases();
    for isa in isas() {
        let options = Options { isa: Some(isa.name.to_owned()), ..Options::default() };
        let outcomes = run_all(&Compiler::new(options), &root, &names);
        let bad: Vec<_> = names.iter().zip(outcomes).filter(|(_, outcome)| *outcome != CaseOutcome::Pass).collect();
        assert!(bad.is_empty(), "on {}: {bad:#?}", isa.name);
    }
}

/// A row for each op of the importer's tables.
fn rows() -> String {
    let row = |(op, refusal): (&str, Option<&str>)| match refusal {
        None => format!("| `{op}` | imported | |\n"),
        Some(reason) => format!("| `{op}` | refused | {reason} |\n"),
    };
    onnxruntime_ops().into_iter().map(row).collect()
}

/// `UPDATE_BOOK=1` writes the table anew.
#[test]
fn the_page_says_what_becomes_of_each_op() {
    let path = data::repository().join("compiler/docs/onnxruntime-ops.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let head = "## The ops\n\n| op | | why |\n|---|---|---|\n";
    let (before, found) = page.split_once(head).unwrap();
    if std::env::var_os("UPDATE_BOOK").is_some() {
        std::fs::write(&path, format!("{before}{head}{}", rows())).unwrap();
        return;
    }
    assert_eq!(found, rows(), "UPDATE_BOOK=1 writes the table anew");
}

#[test]
fn refused_ops_say_what_to_do() {
    let ops = onnxruntime_ops();
    assert!(ops.len() > 140, "{} ops are known", ops.len());
    for (op, refusal) in &ops {
        assert_eq!(is_supported("com.microsoft", op), refusal.is_none(), "`{op}`");
        assert!(refusal.is_none_or(|reason| reason.contains(": ")), "`{op}` is refused without a way out");
    }
}

#[test]
fn interpreted_they_give_what_onnx_runtime_gives() {
    let (root, names) = cases();
    for name in names {
        let path = root.join(&name).join("model.onnx");
        let graph = import_file(&path).unwrap();
        assert_eq!(optc_ir::verify(&graph), [], "{name}");
        let file = ModelFile::open(&path).unwrap();
        let sets = (0..).map(|set| root.join(&name).join(format!("test_data_set_{set}")));
        for (set, folder) in sets.take_while(|folder| folder.exists()).enumerate() {
            let data = read_data_set(&file, &folder).unwrap();
            let inputs: Vec<Val> = data.inputs.into_iter().map(|(_, v)| v).collect();
            let found = optc_ir::run(&graph, &inputs).unwrap();
            assert_eq!(found.len(), data.outputs.len(), "{name}");
            for (found, (output, expected)) in found.iter().zip(&data.outputs) {
                assert_eq!(difference(found, expected), None, "{name}, set {set}: `{output}`");
            }
        }
    }
}
