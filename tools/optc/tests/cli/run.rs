//! `run`, `bench`, `compare` and `compile` on small models.

use crate::common::{code, files, json, line, stderr, stdout};
use optc_tensor::Tensor;
use optc_tensor::npy::{read_npz, write_npy, write_npz};

#[test]
fn run_shows_outputs_and_their_best_classes() {
    let folder = tempfile::tempdir().unwrap();
    let text = stdout(&line(folder.path(), "run {mlp.onnx} --input {fashion_100.npz} --rows 2"), 0);
    assert!(text.starts_with("logits: tensor<2x10xf32> = ["), "{text}");
    assert!(text.contains("row 1: top "), "{text}");
    let report = json(&line(folder.path(), "run {mlp.onnx} --seed 3 --json"), 0);
    assert_eq!(report["outputs"][0]["name"], "logits");
    assert_eq!(report["outputs"][0]["elements"], 10);
    let again = json(&line(folder.path(), "run {mlp.onnx} --seed 3 --json"), 0);
    assert_eq!(report["outputs"], again["outputs"]);
}

#[test]
fn run_writes_outputs_and_counts_right_answers() {
    let folder = tempfile::tempdir().unwrap();
    let command = "run {mlp.onnx} --input {fashion_100.npz} --labels {fashion_100_labels.npz} --output @out.npz --json";
    let whole = json(&line(folder.path(), command), 0);
    let logits = read_npz(&folder.path().join("out.npz")).unwrap();
    assert_eq!((logits[0].0.as_str(), logits[0].1.shape()), ("logits", &[100, 10][..]));
    assert_eq!(whole["accuracy"]["count"], 100);
    assert!(whole["accuracy"]["top1"].as_f64().unwrap() > 0.7);
    let parts = json(&line(folder.path(), &format!("{command} --batch 32")), 0);
    assert_eq!(parts["accuracy"], whole["accuracy"]);
    let other = read_npz(&folder.path().join("out.npz")).unwrap();
    assert_eq!(other[0].1.shape(), logits[0].1.shape());
    assert_eq!(files(folder.path()), ["out.npz"]);
}

#[test]
fn run_takes_one_array_for_a_model_of_one_input() {
    let folder = tempfile::tempdir().unwrap();
    let image = Tensor::from_slice(&[1, 1, 28, 28], &[0.5f32; 784]).unwrap();
    write_npy(&folder.path().join("x.npy"), &image).unwrap();
    assert_eq!(code(&line(folder.path(), "run {mlp.onnx} --input @x.npy")), 0);
}

#[test]
fn bench_ends_with_one_json_object() {
    let folder = tempfile::tempdir().unwrap();
    let text = stdout(&line(folder.path(), "bench {mlp.onnx} --threads 1 --seconds 0.02 --json"), 0);
    let report: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let latency = |name: &str| report["latency_ms"][name].as_f64().unwrap();
    assert!(0.0 < latency("min") && latency("min") <= latency("p50"));
    assert!(latency("p50") <= latency("p90") && latency("p90") <= latency("p99"));
    assert!(latency("mean") >= latency("min"));
    for number in ["throughput", "import_ms", "compile_ms", "first_run_ms", "arena_bytes", "constant_bytes"] {
        assert!(report[number].is_number(), "{number}: {report}");
    }
    assert_eq!(report["threads"], 1);
    assert!(report["runs"].as_u64().unwrap() >= 5);
    assert!(report["isa"].is_string());
    assert!(stdout(&line(folder.path(), "bench {mlp.onnx} --seconds 0"), 0).contains("throughput"));
}

#[test]
fn compare_passes_within_and_fails_above_the_limits() {
    let folder = tempfile::tempdir().unwrap();
    let command = "compare {lenet.onnx} --input {fashion_100.npz} --rows 8 --expect {lenet_expected.npz}";
    assert!(stdout(&line(folder.path(), command), 0).contains("ok"));
    let report = json(&line(folder.path(), &format!("{command} --min-cosine 0.9999 --max-range-error 1e-3 --json")), 0);
    assert_eq!(report["passed"], true);
    assert!(report["outputs"][0]["figures"]["cosine"].as_f64().unwrap() > 0.9999);
    let failed = json(&line(folder.path(), &format!("{command} --min-cosine 1.1 --json")), 1);
    assert_eq!(failed["passed"], false);
    assert!(failed["outputs"][0]["reason"].as_str().unwrap().contains("expected at least 1.1"));
}

#[test]
fn compare_computes_references() {
    let folder = tempfile::tempdir().unwrap();
    for how in ["--against-passes O0", "--against-isa portable", "--against {mlp.onnx}", "--against-interpreter"] {
        let report = json(&line(folder.path(), &format!("compare {{mlp.onnx}} {how} --json")), 0);
        assert_eq!(report["passed"], true, "{how}");
    }
    assert_eq!(code(&line(folder.path(), "compare {mlp.onnx} --against {lenet.onnx} --rtol 0 --atol 0")), 1);
    assert_eq!(code(&line(folder.path(), "compare {mlp.onnx}")), 2);
}

#[test]
fn compiled_artifacts_run_like_their_models() {
    let folder = tempfile::tempdir().unwrap();
    let report = json(&line(folder.path(), "compile {lenet.onnx} -o @m.optc --json"), 0);
    let bytes = std::fs::metadata(folder.path().join("m.optc")).unwrap().len();
    assert_eq!(report["artifact_bytes"], bytes);
    assert_eq!(files(folder.path()), ["m.optc"]);
    let compare = "compare {lenet.onnx} --against @m.optc --input {fashion_100.npz} --rows 3 --rtol 0 --atol 1e-6";
    assert_eq!(code(&line(folder.path(), compare)), 0);
    let fixed = "compile {mlp.onnx} --shape input:2x1x28x28 -o @f.optc";
    assert_eq!(code(&line(folder.path(), fixed)), 0);
    assert!(stdout(&line(folder.path(), "run @f.optc"), 0).contains("tensor<2x10xf32>"));
}

#[test]
fn inputs_that_do_not_fit_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, input: &str, t: &Tensor| {
        write_npz(&folder.path().join(name), [(input, t)]).unwrap();
    };
    let wide = Tensor::from_slice(&[1, 1, 28, 29], &[0f32; 28 * 29]).unwrap();
    write("wide.npz", "input", &wide);
    write("name.npz", "image", &wide);
    write("type.npz", "input", &Tensor::from_slice(&[1, 1, 28, 28], &[0i64; 784]).unwrap());
    write("rank.npz", "input", &Tensor::from_slice(&[784], &[0f32; 784]).unwrap());
    write("two.npz", "input", &Tensor::from_slice(&[2, 1, 28, 28], &[0f32; 1568]).unwrap());
    for (name, message) in [
        ("wide", "tensor<1x1x28x29xf32>"),
        ("name", "has no array for input `input`"),
        ("type", "xi64>"),
        ("rank", "tensor<784xf32>"),
    ] {
        for command in ["run", "bench --seconds 0"] {
            let output = line(folder.path(), &format!("{command} {{mlp.onnx}} --input @{name}.npz"));
            assert_eq!(code(&output), 6, "{name}: {}", stderr(&output));
            assert!(stderr(&output).contains(message), "{name}: {}", stderr(&output));
        }
    }
    let rows = line(folder.path(), "run {mlp.onnx} --shape input:1x1x28x28 --input @two.npz");
    assert_eq!(code(&rows), 6);
    assert!(stderr(&rows).contains("--batch"), "{}", stderr(&rows));
}
