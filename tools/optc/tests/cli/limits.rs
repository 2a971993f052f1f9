//! What does not fit into memory or time ends in an error that names it, with an exit code, and not in an allocation
//! that fails.

use std::path::Path;

use crate::common::{code, line, stderr};

/// Runs `optc COMMAND @m.mlir` on a graph; gives the exit code and what went to stderr.
fn run(folder: &Path, graph: &str, command: &str) -> (i32, String) {
    std::fs::write(folder.join("m.mlir"), graph).unwrap();
    let output = line(folder, command);
    (code(&output), stderr(&output))
}

#[test]
fn results_that_do_not_fit_name_node_shape_and_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let graph = "\
func @main(%x: tensor<40000x1xf32>, %y: tensor<1x40000xf32>) {
  %0 = math.add %x, %y : tensor<40000x40000xf32> loc(\"outer\")
  return %0 as \"z\"
}
";
    for command in [
        "run @m.mlir --memory-limit 1GiB",
        "run @m.mlir --passes O0 --memory-limit 1000MB",
        "compile @m.mlir -o @m.optc --memory-limit 1G",
    ] {
        let (exit, message) = run(folder.path(), graph, command);
        assert!(exit == 5 && message.contains("`math.add` at outer"), "{command}: {exit} {message}");
        assert!(message.contains("[40000, 40000]") && message.contains("6.0 GiB do not fit"), "{command}: {message}");
    }
}

#[test]
fn what_is_evaluated_on_the_host_is_asked_for_as_well() {
    let folder = tempfile::tempdir().unwrap();
    // The extent is known only while it runs.
    let graph = "\
func @main(%x: tensor<1xf32>, %n: tensor<1xi64>) {
  %0 = tensor.const {value = dense<[1000000000000]> : tensor<1xi64>} : tensor<1xi64>
  %1 = math.mul %n, %0 : tensor<1xi64>
  %2 = math.add %1, %0 : tensor<1xi64>
  %3 = tensor.expand %x, %2 : tensor<?xf32> loc(\"wide\")
  return %3 as \"y\"
}
";
    let (exit, message) = run(folder.path(), graph, "run @m.mlir");
    assert!(
        exit == 6 && message.contains("`tensor.expand` at wide") && message.contains("TiB do not fit"),
        "{exit} {message}"
    );
}

#[test]
fn inputs_that_are_made_up_are_within_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let graph = "func @main(%x: tensor<100000000xf32>) {\n  %0 = math.relu %x : tensor<100000000xf32>\n  \
                 return %0 as \"y\"\n}\n";
    let (exit, message) = run(folder.path(), graph, "run @m.mlir --memory-limit 700MiB");
    assert!(exit == 6 && message.contains("input `x`"), "{exit} {message}");
}

#[test]
fn sizes_and_thread_counts_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let graph = "func @main(%x: tensor<4xf32>) {\n  %0 = math.relu %x : tensor<4xf32>\n  return %0 as \"y\"\n}\n";
    for (option, expected) in [
        ("--memory-limit lots", "expected a size"),
        ("--threads 5000", "5000 threads are more than the 1024"),
        ("--threads 20000", "20000 threads are more than the 1024"),
        ("--time-limit soon", "expected a number of seconds"),
    ] {
        let (exit, message) = run(folder.path(), graph, &format!("run @m.mlir {option}"));
        assert!(exit == 2 && message.contains(expected), "{option}: {exit} {message}");
    }
    let (exit, message) = run(folder.path(), graph, "run @m.mlir --memory-limit 1MiB --time-limit 3600 --threads 2");
    assert_eq!(exit, 0, "{message}");
}

#[test]
fn a_loop_without_an_end_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let graph = "\
func @main(%x: tensor<2xf32>) {
  %0 = tensor.const {value = dense<[16000000]> : tensor<i64>} : tensor<i64>
  %1 = cf.loop %0, _, %x {carried = 1} : tensor<2xf32> region
  func @body(%i: tensor<i64>, %go: tensor<bool>, %a: tensor<2xf32>) {
    %0 = math.add %a, %a : tensor<2xf32>
    return %go as \"go\", %0 as \"a\"
  }
  return %1 as \"y\"
}
";
    let (exit, message) = run(folder.path(), graph, "run @m.mlir --time-limit 0.2");
    assert!(exit == 6 && message.contains("the time limit of 200ms is over"), "{exit} {message}");
}
