//! `optc prune`: its table, the sizes that it reports, and what it refuses.

use optc_tensor::npy::write_npy;
use optc_tensor::{DType, Tensor};

use crate::common::{code, json, line, stderr, stdout};

#[test]
fn sizes_are_those_of_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let run = |command: &str| json(&line(folder.path(), command), 0);
    run("compile {lenet.onnx} -o @dense.optc --shape input:1x1x28x28 --json");
    let size = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().len();
    let report = run(
        "prune {lenet.onnx} --sparsity 0.9 --block 4x1 --spare none --shape input:1x1x28x28 -o @sparse.optc --json",
    );
    assert_eq!(report["file_bytes"], size("sparse.optc"));
    assert!(size("sparse.optc") * 5 <= size("dense.optc"), "{} of {}", size("sparse.optc"), size("dense.optc"));
    let sum: u64 = report["layers"].as_array().unwrap().iter().map(|l| l["stored_bytes"].as_u64().unwrap()).sum();
    assert!(sum <= size("sparse.optc") && sum + 16_000 > size("sparse.optc"), "{sum}");
    assert_eq!(report["layers"][1]["runs"], "sparse");
    // The artifact gives what the exported model gives.
    run("prune {lenet.onnx} --sparsity 0.9 --block 4x1 --spare none -o @sparse.onnx --json");
    stdout(&line(folder.path(), "compare @sparse.onnx --against @sparse.optc --shape input:1x1x28x28"), 0);
}

#[test]
fn the_table_names_layers_and_reasons() {
    let folder = tempfile::tempdir().unwrap();
    let text = stdout(&line(folder.path(), "prune {resnet8.onnx} --sparsity 0.5 --shape input:1x1x28x28"), 0);
    for part in ["spared: the first layer", "spared: the last layer", "50.0 %", "ms dense", "zeros"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, t: &Tensor| write_npy(&folder.path().join(name), t).unwrap();
    write("wide.npy", &Tensor::zeros(DType::F32, &[4, 1, 28, 27]).unwrap());
    write("bytes.npy", &Tensor::zeros(DType::U8, &[4, 1, 28, 28]).unwrap());
    write("empty.npy", &Tensor::zeros(DType::F32, &[0, 1, 28, 28]).unwrap());
    write("nan.npy", &Tensor::from_slice(&[1, 1, 28, 28], &[f32::NAN; 784]).unwrap());
    let cases = [
        ("--sparsity 1.0", 2, "a sparsity of 1 is out of range"),
        ("--sparsity nan", 2, "out of range"),
        ("--sparsity 0.5 --block 0x1", 2, "out of range"),
        ("--sparsity 0.5 --block four", 2, "is not a block like `4x1`"),
        ("--sparsity 0.5 --layer nothing=0.5", 2, "no layer of `nothing`"),
        ("--sparsity 0.5 -o @x.bin", 2, "ends in .optc or .onnx"),
        ("--sparsity 0.5 --calib @wide.npy", 6, "28x27"),
        ("--sparsity 0.5 --calib @bytes.npy", 6, "u8"),
        ("--sparsity 0.5 --calib @empty.npy", 6, "no samples"),
        ("--sparsity 0.5 --calib @nan.npy", 6, "not finite"),
        ("--sparsity 0.5 --calib @missing.npy", 7, "missing.npy"),
    ];
    for (args, exit, message) in cases {
        let output = line(folder.path(), &format!("prune {{mlp.onnx}} {args}"));
        assert_eq!(code(&output), exit, "{args}: {}", stderr(&output));
        assert!(stderr(&output).contains(message), "{args}: {}", stderr(&output));
    }
}
