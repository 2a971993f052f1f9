//! `--autotune` and `--tuning-cache`.

use crate::common::{code, files, json, line, stderr};

/// Tuning ends when all options are tried, and does not take a day for that.
const UNTIL_DONE: &str = "--autotune 86400";

#[test]
fn winners_go_to_the_cache_and_are_taken_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let run = |command: &str, expected: i32| {
        json(&line(folder.path(), &format!("{command} --tuning-cache @t.json --json")), expected)
    };
    let bench = "bench {lenet.onnx} --shape input:1x1x28x28 --threads 1 --seconds 0.01";
    let first = run(&format!("{bench} {UNTIL_DONE}"), 0);
    let tuned = &first["autotune"];
    assert!(tuned["complete"].as_bool().unwrap() && tuned["trials"].as_u64().unwrap() > 0, "{first}");
    assert!(tuned["points"].as_u64().unwrap() > 1 && tuned["share"].as_f64().unwrap() > 0.0, "{first}");
    assert_eq!(files(folder.path()), ["t.json"]);
    // Known choices are not measured again; without `--autotune` there is nothing to report.
    assert_eq!(run(&format!("{bench} {UNTIL_DONE}"), 0)["autotune"]["trials"], 0);
    assert!(run(bench, 0)["autotune"].is_null());
    let compile = format!("compile {{lenet.onnx}} --shape input:1x1x28x28 --threads 2 -o @m.optc {UNTIL_DONE}");
    assert!(run(&compile, 0)["autotune"]["trials"].as_u64().unwrap() > 0, "other threads, other choices");
    let expected = line(folder.path(), "run {lenet.onnx} --input {fashion_100.npz} --rows 1 -o @plain.npz");
    assert_eq!(code(&expected), 0, "{}", stderr(&expected));
    let compare = "compare @m.optc --input {fashion_100.npz} --rows 1 --expect @plain.npz";
    assert_eq!(code(&line(folder.path(), compare)), 0);
}

#[test]
fn a_cache_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.json"), "{\"version\": 9, \"machines\": {}}").unwrap();
    for command in ["bench {mlp.onnx} --autotune 1", "run {mlp.onnx}", "explain {mlp.onnx}"] {
        let output = line(folder.path(), &format!("{command} --tuning-cache @t.json"));
        assert_eq!(code(&output), 2, "{command}: {}", stderr(&output));
        assert!(stderr(&output).contains("version 9"), "{}", stderr(&output));
    }
    assert_eq!(files(folder.path()), ["t.json"]);
    let output = line(folder.path(), "bench {mlp.onnx} --autotune soon");
    assert_eq!(code(&output), 2);
}
