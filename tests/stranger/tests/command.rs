//! An `optc` with a pass of one's own lists it, runs it in pipelines, and compiles with it.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use std::process::Command;

fn stdout(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_optc-stranger")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_command_has_the_passes_that_it_is_given() {
    assert!(stdout(&["passes"]).contains("subtract instead of adding what was negated"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.mlir");
    let text = "func @f(%x: tensor<2xf32>, %y: tensor<2xf32>) {
        %0 = math.neg %y : tensor<2xf32>
        %1 = math.add %x, %0 : tensor<2xf32>
        return %1 as \"z\"
    }";
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let optimized = stdout(&["opt", path, "--passes", "subtract-negated,dce", "--verify-each=numerics"]);
    assert!(optimized.contains("math.sub %x, %y") && !optimized.contains("math.neg"), "{optimized}");
    let explained = stdout(&["explain", path, "--passes", "subtract-negated,O2", "--json"]);
    let explained: serde_json::Value = serde_json::from_str(&explained).unwrap();
    assert_eq!(explained["nodes"][0]["ops"][0], "math.sub", "{explained}");
}
