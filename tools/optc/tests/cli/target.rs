//! `--isa`, `--precision` and `--machine-profile`: passes ask for them as much as kernels do.

use std::path::Path;

use crate::common::{code, json, line, stderr, stdout};

/// Writes a profile of this machine in which integers have another rate on the portable row, relative to that of
/// floats.
fn profile(folder: &Path, int8: f64) {
    assert_eq!(code(&line(folder, "hwbench --write-profile @p.json")), 0);
    let mut profile: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("p.json")).unwrap()).unwrap();
    let portable = &mut profile["targets"]["portable"];
    portable["int8"] = ((portable["f32"].as_f64().unwrap() * int8) as u64).into();
    portable["filtered"] = 1.into();
    std::fs::write(folder.join("p.json"), profile.to_string()).unwrap();
}

#[test]
fn a_profile_decides_which_products_are_quantized_and_none_after_that() {
    let folder = tempfile::tempdir().unwrap();
    let quantize = "quantize {lenet.onnx} --calib {fashion_100.npz}";
    assert_eq!(code(&line(folder.path(), &format!("{quantize} --integers always -o @q.onnx"))), 0);
    let how = "--isa portable --machine-profile @p.json";
    for (int8, expected) in [(4.0, 5), (0.01, 0)] {
        profile(folder.path(), int8);
        let report = json(&line(folder.path(), &format!("{quantize} {how} -o @p.onnx --json")), 0);
        assert_eq!(report["int8"], expected, "{report}");
        let how = format!("{how} --shape input:1x1x28x28");
        let text = stdout(&line(folder.path(), &format!("opt @q.onnx --passes O2 {how}")), 0);
        assert_eq!(text.matches("quant.conv").count(), 2, "{text}");
        // What is compiled is what was shown.
        let nodes = json(&line(folder.path(), &format!("explain @q.onnx {how} --json")), 0);
        assert_eq!(nodes["nodes"].to_string().matches("quant.conv").count(), 2, "{nodes}");
    }
}

#[test]
fn a_model_is_quantized_for_a_target_and_others_say_where_that_is_slower() {
    let folder = tempfile::tempdir().unwrap();
    // In this profile integers do not pay on the portable row, wherever else they do.
    profile(folder.path(), 0.01);
    let quantize = "quantize {lenet.onnx} --calib {fashion_100.npz} --machine-profile @p.json";
    for (target, expected) in [("portable", 0), ("amx", 5), ("aarch64-neon", 5)] {
        let report = json(&line(folder.path(), &format!("{quantize} --target {target} -o @{target}.onnx --json")), 0);
        assert_eq!(report["int8"], expected, "{target}");
    }
    // What is quantized stays so where that is slower, and it is said.
    // (The default passes make sparse products of the weights of zero, which this profile takes to be faster.)
    let passes = "integers,clean-up,assign-layout{to=nhwc},fuse,schedule";
    let how = format!("--shape input:1x1x28x28 --isa portable --machine-profile @p.json --passes {passes}");
    let report = json(&line(folder.path(), &format!("explain @amx.onnx {how} --json")), 0);
    let nodes = report["nodes"].as_array().unwrap();
    let slower = |target: &str| {
        let names = |node: &&serde_json::Value| node["slower_on"].to_string().contains(&format!("\"{target}\""));
        nodes.iter().filter(names).count()
    };
    assert_eq!((slower("portable"), slower("amx")), (5, 0), "{nodes:?}");
    let text = stdout(&line(folder.path(), &format!("explain @amx.onnx {how}")), 0);
    assert!(text.contains("on portable 5 products of integers would be faster in f32: "), "{text}");
}

#[test]
fn passes_run_for_instruction_sets_that_the_machine_may_lack() {
    let folder = tempfile::tempdir().unwrap();
    let opt = "opt {lenet.onnx} --passes O2 --precision bf16 --shape input:1x1x28x28 --isa";
    assert!(stdout(&line(folder.path(), &format!("{opt} amx")), 0).contains("precision = bf16"));
    let output = line(folder.path(), &format!("{opt} mmx"));
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert!(stderr(&output).contains("there is no instruction set `mmx`"), "{}", stderr(&output));
}

#[test]
fn profiles_are_measured_written_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let measured = json(&line(folder.path(), "hwbench --write-profile @p.json --json"), 0);
    let rows = measured["rows"].as_array().unwrap();
    assert!(rows.iter().any(|row| row["isa"] == "portable" && row["int8_multiply_adds"].as_u64() > Some(0)));
    assert_eq!(code(&line(folder.path(), "explain {mlp.onnx} --machine-profile @p.json")), 0);
    std::fs::write(folder.path().join("p.json"), "{}").unwrap();
    for command in ["explain {mlp.onnx}", "opt {mlp.onnx}", "run {mlp.onnx}"] {
        let output = line(folder.path(), &format!("{command} --machine-profile @p.json"));
        assert_eq!(code(&output), 2, "{command}: {}", stderr(&output));
        assert!(stderr(&output).contains("no machine profile"), "{}", stderr(&output));
    }
    assert_eq!(code(&line(folder.path(), "explain {mlp.onnx} --machine-profile @none.json")), 7);
}

#[test]
fn targets_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let listed = json(&line(folder.path(), "targets --json"), 0);
    let rows = listed["targets"].as_array().unwrap();
    let row = |name: &str| rows.iter().find(|row| row["name"] == name).unwrap();
    assert_eq!(row("portable")["here"], true);
    assert_eq!(row("aarch64-neon")["triple"], "aarch64-linux");
    assert_eq!(row("amx")["measured_on"], serde_json::Value::Null);
    assert!(row("avx512-vnni")["features"].as_array().unwrap().iter().any(|f| f == "avx512vnni"));
    assert!(rows.iter().any(|row| row["name"] == listed["host"] && row["here"] == true));
    assert!(stdout(&line(folder.path(), "targets"), 0).contains("(estimated)"));
}

/// Separate processes make the same bytes, for targets that this machine need not be.
#[test]
fn artifacts_with_machine_code_are_the_same_bytes_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let made = ["first", "again"].map(|out| {
        let native = "--shape input:1x1x28x28 --native=avx2,amx,aarch64-neon";
        let report = json(&line(folder.path(), &format!("compile {{resnet8.onnx}} {native} -o @{out}.optc --json")), 0);
        let of: Vec<_> = report["native"].as_array().unwrap().iter().map(|n| n["target"].clone()).collect();
        assert_eq!(of, ["avx2", "amx", "aarch64-neon"]);
        assert!(report["native"][0]["code_bytes"].as_u64() > Some(1000), "{report}");
        std::fs::read(folder.path().join(format!("{out}.optc"))).unwrap()
    });
    assert!(made[0] == made[1]);
    let refused = line(folder.path(), "compile {vit.onnx} --native=avx2 -o @open.optc");
    assert_eq!(code(&refused), 2, "{}", stderr(&refused));
    let no_code = "compile {resnet8.onnx} --shape input:1x1x28x28 --native=wasm32-simd128 -o @wasm.optc";
    let refused = line(folder.path(), no_code);
    assert_eq!(code(&refused), 5, "{}", stderr(&refused));
    assert!(stderr(&refused).contains("no code generator for wasm32-unknown"), "{}", stderr(&refused));
    assert!(!folder.path().join("wasm.optc").exists());
}

#[test]
fn programs_are_written_for_any_target() {
    let folder = tempfile::tempdir().unwrap();
    let emit = |target: &str, out: &str| {
        let shape = "--shape input:1x1x28x28 --emit program";
        line(folder.path(), &format!("compile {{lenet.onnx}} {shape} {target} -o @{out}.prog --json"))
    };
    let text = |out: &str| std::fs::read_to_string(folder.path().join(format!("{out}.prog"))).unwrap();
    for (target, triple) in [
        ("amx", "x86_64-linux"),
        ("avx2", "x86_64-linux"),
        ("portable", "x86_64-linux"),
        ("aarch64-neon", "aarch64-linux"),
        ("wasm32-simd128", "wasm32-unknown"),
    ] {
        let report = json(&emit(&format!("--target {target}"), target), 0);
        assert_eq!(report["isa"], target);
        assert!(report["kernels"].as_u64() > Some(0) && folder.path().join(format!("{target}.npz")).exists());
        assert!(text(target).starts_with(&format!("program for {target} on {triple} l1 ")));
    }
    // A separate process makes the same text.
    json(&emit("--target amx", "again"), 0);
    assert_eq!(text("amx"), text("again"));
    // A triple is its least row, or the one that is picked.
    json(&emit("--target aarch64-linux", "again"), 0);
    assert_eq!(text("aarch64-neon"), text("again"));
    json(&emit("--target x86_64-linux --isa amx", "again"), 0);
    assert_eq!(text("amx"), text("again"));
    assert_eq!(code(&emit("--target mmx", "none")), 2);
    assert_eq!(code(&emit("--target aarch64-linux --isa avx2", "none")), 2);
    assert_eq!(code(&emit("--target amx --isa avx2", "none")), 2);
    let run = line(folder.path(), "bench {lenet.onnx} --shape input:1x1x28x28 --target wasm32-simd128");
    assert_eq!(code(&run), 4, "{}", stderr(&run));
    assert!(stderr(&run).contains("this machine cannot run `wasm32-simd128`"), "{}", stderr(&run));
    let open = line(folder.path(), "compile {vit.onnx} --emit program -o @open.prog");
    assert_eq!(code(&open), 2, "{}", stderr(&open));
    assert!(stderr(&open).contains("`input`"), "{}", stderr(&open));
    assert!(!folder.path().join("open.prog").exists());
}
