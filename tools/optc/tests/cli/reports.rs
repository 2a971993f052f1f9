//! `inspect`, `check`, `opt`, `profile`, `explain`, `passes`, `hwbench` and `completions`.

use optc::{Tensor, npy};

use crate::common::{code, files, json, line, stderr, stdout};

#[test]
fn inspect_says_what_a_model_is_made_of() {
    let folder = tempfile::tempdir().unwrap();
    let report = json(&line(folder.path(), "inspect {lenet.onnx} --shape input:1x1x28x28 --json"), 0);
    assert_eq!(report["parameters"], 127_462);
    assert_eq!(report["macs"], 1_707_592);
    assert_eq!(report["onnx"]["ops"]["Conv"], 2);
    assert_eq!(report["onnx"]["opsets"]["ai.onnx"], 17);
    assert_eq!(report["inputs"][0]["type"], "tensor<1x1x28x28xf32>");
    assert!(report["plan"]["arena_bytes"].is_number());
    let open = json(&line(folder.path(), "inspect {lenet.onnx} --json"), 0);
    assert_eq!(open["open_inputs"][0], "input");
    assert!(open["plan"].is_null() && open["macs_unknown_of"].as_u64().unwrap() > 0);
    assert!(stdout(&line(folder.path(), "inspect {lenet.onnx}"), 0).contains("dims of input are open"));
}

#[test]
fn inspect_reads_artifacts() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(code(&line(folder.path(), "compile {lenet.onnx} --shape input:1x1x28x28 -o @m.optc")), 0);
    let report = json(&line(folder.path(), "inspect @m.optc --json"), 0);
    assert_eq!(report["kind"], "artifact");
    assert_eq!(report["macs"], 1_707_592);
    assert!(report["plan"]["kernel_steps"].is_number());
}

#[test]
fn check_counts_steps() {
    let folder = tempfile::tempdir().unwrap();
    let report = json(&line(folder.path(), "check {vit.onnx} --json"), 0);
    assert_eq!(report["unsupported"].as_array().unwrap().len(), 0);
    let host = report["host_steps"].as_array().unwrap();
    assert!(host.iter().all(|step| !step["reason"].as_str().unwrap().is_empty()));
    let expected = i32::from(!host.is_empty());
    assert_eq!(code(&line(folder.path(), "check {vit.onnx} --fail-on-host")), expected);
}

#[test]
fn opt_goes_from_onnx_to_text_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let text = stdout(&line(folder.path(), "opt {lenet.onnx} --passes O0"), 0);
    assert!(text.starts_with("func @") && text.contains("nn.conv"), "{text}");
    let write = "opt {lenet.onnx} --passes clean-up --verify-each=numerics -o @g.mlir --json";
    let report = json(&line(folder.path(), write), 0);
    assert!(report["passes"].as_array().unwrap().len() > 3);
    assert_eq!(files(folder.path()), ["g.mlir", "g.npz"]);
    let again = stdout(&line(folder.path(), "opt @g.mlir --passes dce"), 0);
    assert_eq!(again, std::fs::read_to_string(folder.path().join("g.mlir")).unwrap());
    let compare = "compare @g.mlir --input {fashion_100.npz} --rows 8 --expect {lenet_expected.npz}";
    assert_eq!(code(&line(folder.path(), compare)), 0);
}

#[test]
fn opt_prints_and_times_on_stderr() {
    let folder = tempfile::tempdir().unwrap();
    let output = line(folder.path(), "opt {mlp.onnx} --time-passes --print-after cse --verify-each");
    let messages = stderr(&output);
    assert!(messages.contains("// after cse\nfunc @") && messages.contains("rules fired"), "{messages}");
    assert!(!messages.contains("// after dce"), "{messages}");
    assert!(stdout(&output, 0).starts_with("func @"));
    let bounded = json(&line(folder.path(), "opt {vit.onnx} --stop-after-rewrites 3 --json"), 0);
    assert_eq!(bounded["rewrites"], 3);
}

#[test]
fn profile_times_every_step_and_writes_a_trace() {
    let folder = tempfile::tempdir().unwrap();
    let report = json(&line(folder.path(), "profile {lenet.onnx} --runs 2 --trace @trace.json --json"), 0);
    let steps = report["steps"].as_array().unwrap();
    assert_eq!(report["runs"], 2);
    assert!(steps.iter().any(|s| s["nodes"].as_array().unwrap().iter().any(|n| n == "/c1/Conv")), "{report}");
    assert!(steps.iter().filter(|s| s["kind"] == "kernel").all(|s| s["gives"] == "f32"), "{report}");
    let share: f64 = steps.iter().map(|s| s["share"].as_f64().unwrap()).sum();
    assert!((share - 1.0).abs() < 1e-6);
    let trace = std::fs::read_to_string(folder.path().join("trace.json")).unwrap();
    let trace: serde_json::Value = serde_json::from_str(&trace).unwrap();
    assert_eq!(trace["traceEvents"].as_array().unwrap().len(), steps.len());
    let top = json(&line(folder.path(), "profile {lenet.onnx} --runs 1 --top 1 --json"), 0);
    assert_eq!(top["steps"].as_array().unwrap().len(), 1);
    assert!(stdout(&line(folder.path(), "profile {mlp.onnx} --runs 1"), 0).contains("GFLOP/s"));
}

#[test]
fn explain_tells_what_became_of_each_node() {
    let folder = tempfile::tempdir().unwrap();
    let report = json(&line(folder.path(), "explain {lenet.onnx} --json"), 0);
    let nodes = report["nodes"].as_array().unwrap();
    let conv = nodes.iter().find(|n| n["nodes"].as_array().unwrap().iter().any(|n| n == "/c1/Conv")).unwrap();
    assert!(conv["ops"].as_array().unwrap().iter().any(|op| op == "nn.conv"), "{conv}");
    let only = json(&line(folder.path(), "explain {lenet.onnx} --only /c1/Conv --json"), 0);
    assert!(only["nodes"].as_array().unwrap().len() < nodes.len());
}

/// A loop with a branch in it: products at two depths.
const NESTED: &str = "func @nested(%n: tensor<i64>, %x: tensor<64x64xf32>) {
  %0 = cf.loop %n, _, %x {carried = 1} : tensor<64x64xf32> loc(\"turns\") region
  func @body(%i: tensor<i64>, %go: tensor<bool>, %x: tensor<64x64xf32>) {
    %0 = math.matmul %x, %x : tensor<64x64xf32> loc(\"outer\")
    %1 = math.tanh %0 : tensor<64x64xf32>
    %2 = cf.if %go, %1 : tensor<64x64xf32> loc(\"choice\") region
    func @then(%x: tensor<64x64xf32>) {
      %0 = math.matmul %x, %x : tensor<64x64xf32> loc(\"inner\")
      return %0 as \"y\"
    }
    region
    func @else(%x: tensor<64x64xf32>) {
      return %x as \"y\"
    }
    return %go as \"go\", %2 as \"x\"
  }
  return %0 as \"y\"
}
";

#[test]
fn reports_look_into_the_bodies_of_control_flow() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("nested.mlir"), NESTED).unwrap();
    let n = Tensor::scalar(3i64);
    let x = Tensor::from_slice(&[64, 64], &[0.125f32; 64 * 64]).unwrap();
    npy::write_npz(&folder.path().join("x.npz"), [("n", &n), ("x", &x)]).unwrap();
    let nodes = json(&line(folder.path(), "explain @nested.mlir --json"), 0)["nodes"].clone();
    let body = |loc: &str| {
        let of = |node: &&serde_json::Value| node["nodes"].to_string().contains(loc) && node["decision"] == "kernel";
        nodes.as_array().unwrap().iter().find(of).map(|node| node["body"].as_str().unwrap().to_owned()).unwrap()
    };
    assert_eq!(body("outer"), "cf.loop turns, region 0");
    assert_eq!(body("inner"), "cf.loop turns, region 0: cf.if choice, region 0");
    let report = json(&line(folder.path(), "profile @nested.mlir --input @x.npz --runs 2 --json"), 0);
    let steps = report["steps"].as_array().unwrap();
    let product = |step: &serde_json::Value| step["kind"] == "host" || step["gflops"].as_f64() > Some(0.0);
    let of = |loc: &str| steps.iter().find(|s| s["nodes"].to_string().contains(loc) && product(s)).unwrap();
    let (turns, outer, inner) = (of("turns"), of("outer"), of("inner"));
    assert!(turns["body"].is_null() && turns["own_ms"].as_f64() < turns["ms"].as_f64(), "{turns}");
    let depth = |step: &serde_json::Value| step["body"].as_str().unwrap().matches('.').count();
    assert_eq!((depth(outer), depth(inner)), (1, 3), "{report}");
    // What bodies take is counted once.
    let shares: f64 = report["summary"].as_array().unwrap().iter().map(|s| s["share"].as_f64().unwrap()).sum();
    assert!((shares - 1.0).abs() < 1e-6, "{report}");
    let measured = json(&line(folder.path(), "explain @nested.mlir --measure --input @x.npz --json"), 0);
    assert!(measured["measured"].to_string().contains("inner"), "{measured}");
}

#[test]
fn passes_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let report = json(&line(folder.path(), "passes --list --json"), 0);
    assert_eq!(report["passes"].as_array().unwrap().len(), optc_passes::Registry::standard().passes().len());
    assert!(stdout(&line(folder.path(), "passes --show O2"), 0).lines().any(|l| l == "dce"));
}

#[test]
fn hwbench_measures_the_instruction_sets() {
    let folder = tempfile::tempdir().unwrap();
    let report = json(&line(folder.path(), "hwbench --rounds 1 --size 64 --no-bandwidth --json"), 0);
    let isas = report["isas"].as_array().unwrap();
    assert!(
        isas.iter().any(|isa| isa["name"] == "portable" && isa["measured"]["fma_peak_gflops"].as_f64() > Some(0.0))
    );
}

#[test]
fn completions_and_help_are_printed() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&line(folder.path(), &format!("completions {shell}")), 0).contains("hwbench"));
    }
    assert!(stdout(&line(folder.path(), "--help"), 0).contains("7  a file could not be read or written"));
}

#[test]
fn explain_says_whether_one_plan_serves_any_batch() {
    let folder = tempfile::tempdir().unwrap();
    let batch = json(&line(folder.path(), "explain {lenet.onnx} --json"), 0);
    assert!(batch["batch"] == true && batch["no_batch"].is_null());
    assert!(stdout(&line(folder.path(), "explain {lenet.onnx}"), 0).contains("one plan for any number of items"));
    let pinned = json(&line(folder.path(), "explain {lenet.onnx} --shape input:7x1x28x28 --json"), 0);
    assert!(pinned["batch"] == false && pinned["no_batch"].is_null());
    let turned = stdout(&line(folder.path(), "explain {vit.onnx}"), 0);
    assert!(turned.contains("a plan for each set of shapes: `tensor.transpose`"), "{turned}");
    let profile = json(&line(folder.path(), "profile {lenet.onnx} --input {fashion_100.npz} --runs 1 --json"), 0);
    assert!(profile["steps"][0]["gflops"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_program_is_made_for_a_batch_but_not_for_other_open_dims() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(code(&line(folder.path(), "compile {mlp.onnx} --emit program -o @m.prog")), 0);
    let text = std::fs::read_to_string(folder.path().join("m.prog")).unwrap();
    assert!(
        text.contains("\n  batch 64 items ") && text.contains(" each input 0\n") && text.contains(" several ("),
        "{text}"
    );
    let refused = line(folder.path(), "compile {vit.onnx} --emit program -o @v.prog");
    assert!(code(&refused) != 0 && stderr(&refused).contains("does not take each item by itself"));
}

#[test]
fn explain_measures_kernels_beside_what_the_machine_can_do() {
    let folder = tempfile::tempdir().unwrap();
    let report = json(&line(folder.path(), "explain {lenet.onnx} --measure --json"), 0);
    let kernels = report["measured"].as_array().unwrap();
    let conv = kernels.iter().find(|k| k["schedule"].as_str().unwrap().contains("tiles")).unwrap();
    assert!(conv["schedule"].as_str().unwrap().contains("panels") && conv["tasks"].as_u64().unwrap() > 0, "{conv}");
    for kernel in kernels {
        for figure in ["predicted_us", "measured_us", "roofline"] {
            assert!(kernel[figure].as_f64().is_some_and(|v| v >= 0.0 && v.is_finite()), "{figure} of {kernel}");
        }
        assert!(["compute", "L1", "L2", "L3", "DRAM"].contains(&kernel["bound_by"].as_str().unwrap()), "{kernel}");
    }
    let only = json(&line(folder.path(), "explain {lenet.onnx} --measure --only /c2/Conv --json"), 0);
    assert!(only["measured"].as_array().unwrap().len() < kernels.len());
    let text = stdout(&line(folder.path(), "explain {mlp.onnx} --measure"), 0);
    assert!(["predicted us", "measured us", "bound by", "tiles"].iter().all(|part| text.contains(part)), "{text}");
    let plain = json(&line(folder.path(), "explain {mlp.onnx} --json"), 0);
    assert!(plain.get("measured").is_none());
}
