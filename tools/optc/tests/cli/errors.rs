//! Exit codes, and that a failure leaves nothing half-written.

use std::path::Path;

use optc_tensor::npy::write_npz;
use optc_tensor::{DType, Tensor};

use crate::common::{code, files, line, stderr, testdata};

fn expect(folder: &Path, command: &str, exit: i32, message: &str) {
    let output = line(folder, command);
    assert_eq!(code(&output), exit, "{command}: {}", stderr(&output));
    assert!(stderr(&output).contains(message), "{command}: {}", stderr(&output));
    assert!(output.stdout.is_empty(), "{command}: a failure has no result");
}

#[test]
fn usage_errors_exit_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let run = |command, message| expect(folder.path(), command, 2, message);
    run("run {mlp.onnx} --frobnicate", "--frobnicate");
    run("run {mlp.onnx} --shape x", "expected a name and dims");
    run("run {mlp.onnx} --shape y:1x2", "no such input");
    run("run {mlp.onnx} --shape input:1x2x28x28", "input");
    run("run {mlp.onnx} --isa pentium", "no instruction set `pentium`");
    run("run {mlp.onnx} --passes frobnicate", "no pass or pipeline `frobnicate`");
    run("bench {mlp.onnx} --seconds soon", "seconds");
    run("passes --show frobnicate", "frobnicate");
    run("", "Usage");
}

#[test]
fn bad_models_exit_with_3() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(testdata("mlp.onnx")).unwrap();
    std::fs::write(folder.path().join("cut.onnx"), &bytes[..bytes.len() / 2]).unwrap();
    std::fs::write(folder.path().join("empty.onnx"), b"").unwrap();
    std::fs::write(folder.path().join("noise.onnx"), [0xff; 100]).unwrap();
    std::fs::write(folder.path().join("bad.mlir"), "func @f(%x: tensor<2xf32>) {\n  return %y as \"y\"\n}\n").unwrap();
    for name in ["cut.onnx", "empty.onnx", "noise.onnx", "bad.mlir"] {
        for command in ["run", "bench", "inspect", "check", "explain", "profile", "opt"] {
            expect(folder.path(), &format!("{command} @{name}"), 3, "error: ");
        }
    }
}

/// A kernel would read four times the memory that its operand has.
#[test]
fn text_whose_types_do_not_fit_together_exits_with_3() {
    let folder = tempfile::tempdir().unwrap();
    let text = "func @f(%x: tensor<1x2x4x4xf32>, %w: tensor<3x2x1x1xf32>) {\n  \
                %0 = kernel.fused %x, %w : tensor<1x3x8x8xf32> loc(\"conv1\") region\n  \
                func @fused(%p0: tensor<1x2x8x8xf32>, %p1: tensor<3x2x1x1xf32>) {\n    \
                %0 = nn.conv %p0, %p1 : tensor<1x3x8x8xf32>\n    \
                %1 = math.relu %0 : tensor<1x3x8x8xf32>\n    \
                return %1 as \"y\"\n  }\n  \
                return %0 as \"y\"\n}\n";
    std::fs::write(folder.path().join("bad.mlir"), text).unwrap();
    let message = "`kernel.fused` at conv1: operand 0 is tensor<1x2x4x4xf32>, the region takes tensor<1x2x8x8xf32>";
    for passes in ["schedule", "fuse", "O0", "O2"] {
        expect(folder.path(), &format!("run @bad.mlir --passes {passes}"), 3, message);
    }
    expect(folder.path(), "compile @bad.mlir -o @bad.optc", 3, message);
}

/// Documented is 6: neither a pass nor the code generator is at fault.
#[test]
fn inputs_whose_shapes_do_not_fit_exit_with_6() {
    let folder = tempfile::tempdir().unwrap();
    let text = "func @f(%x: tensor<2xKxf32>, %w: tensor<3x4xf32>) {\n  \
                %0 = math.matmul %x, %w : tensor<2x4xf32> loc(\"fc1\")\n  \
                return %0 as \"y\"\n}\n";
    std::fs::write(folder.path().join("in.mlir"), text).unwrap();
    let (x, w) = (Tensor::zeros(DType::F32, &[2, 5]).unwrap(), Tensor::zeros(DType::F32, &[3, 4]).unwrap());
    write_npz(&folder.path().join("x.npz"), [("x", &x), ("w", &w)]).unwrap();
    expect(folder.path(), "run @in.mlir --input @x.npz", 6, "`math.matmul` at fc1: inner extents are 5 and 3");
    expect(folder.path(), "run {mlp.onnx} --input @x.npz", 6, "input");
    expect(folder.path(), "run @in.mlir --shape x:2x5", 2, "shape of input `x`: `math.matmul` at fc1");
}

#[test]
fn damaged_artifacts_exit_with_3() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(code(&line(folder.path(), "compile {mlp.onnx} -o @m.optc")), 0);
    let good = std::fs::read(folder.path().join("m.optc")).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    std::fs::write(folder.path().join("bit.optc"), &bad).unwrap();
    std::fs::write(folder.path().join("cut.optc"), &good[..good.len() - 100]).unwrap();
    let mut old = good;
    old[8] = 99;
    std::fs::write(folder.path().join("version.optc"), &old).unwrap();
    expect(folder.path(), "run @bit.optc", 3, "checksum");
    expect(folder.path(), "bench @cut.optc", 3, "cut off");
    expect(folder.path(), "inspect @version.optc", 3, "version 99");
}

#[test]
fn unsupported_models_exit_with_4() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(testdata("mlp.onnx")).unwrap();
    let mut odd = bytes;
    for i in 0..odd.len() - 4 {
        if &odd[i..i + 4] == b"Relu" {
            odd[i..i + 4].copy_from_slice(b"Rexu");
        }
    }
    std::fs::write(folder.path().join("odd.onnx"), &odd).unwrap();
    expect(folder.path(), "run @odd.onnx", 4, "2× Rexu");
    let check = line(folder.path(), "check @odd.onnx");
    assert_eq!(code(&check), 4);
    assert!(String::from_utf8_lossy(&check.stdout).contains("Rexu"));
}

#[test]
fn files_that_are_not_there_exit_with_7() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["run", "bench", "inspect", "check", "explain", "profile", "opt", "compile -o @x.optc"] {
        expect(folder.path(), &format!("{command} @none.onnx"), 7, "No such file");
    }
    expect(folder.path(), "run {mlp.onnx} --input @none.npz", 7, "none.npz");
    expect(folder.path(), "compare {mlp.onnx} --expect @none.npz", 7, "none.npz");
    assert!(files(folder.path()).is_empty());
}

#[test]
fn nothing_is_half_written() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("taken")).unwrap();
    for command in ["run {mlp.onnx} --output", "compile {mlp.onnx} -o", "profile {mlp.onnx} --runs 1 --trace"] {
        expect(folder.path(), &format!("{command} @none/out"), 7, "none");
        expect(folder.path(), &format!("{command} @taken"), 7, "taken");
    }
    expect(folder.path(), "opt {mlp.onnx} -o @none/out.mlir", 7, "none");
    assert_eq!(files(folder.path()), ["taken"]);
    assert!(files(&folder.path().join("taken")).is_empty());
}

#[test]
fn passes_that_fail_exit_with_5_and_leave_a_reproducer() {
    let folder = tempfile::tempdir().unwrap();
    let text = "func @f(%x: tensor<2xKxf32>, %w: tensor<3x4xf32>) {\n  %0 = math.matmul %x, %w : tensor<2x4xf32>\n  \
                return %0 as \"y\"\n}\n";
    std::fs::write(folder.path().join("in.mlir"), text).unwrap();
    expect(folder.path(), "opt @in.mlir --passes dce,specialize-shapes{x=2x5} -o @out.mlir", 5, "reproduce it with");
    let found = files(folder.path());
    assert_eq!(found.len(), 2, "{found:?}");
    let shown = "opt @in.mlir --passes dce,specialize-shapes{x=2x5} --print-after dce -o @out.mlir";
    expect(folder.path(), shown, 5, "// after dce");
    let reproducer = found.iter().find(|name| name.starts_with("optc-specialize-shapes")).unwrap();
    let reproduced = std::fs::read_to_string(folder.path().join(reproducer)).unwrap();
    assert_eq!(reproduced, format!("// passes: specialize-shapes{{x=2x5}}\n{text}"));
    expect(
        folder.path(),
        &format!("opt @{reproducer} --passes specialize-shapes{{x=2x5}} -o @out.mlir"),
        5,
        "reproduce",
    );
    expect(folder.path(), "opt @in.mlir --shape x:3x3", 2, "input `x`");
}
