//! `optc quantize`: its table, what it writes, and samples that it cannot use.

use std::path::Path;

use optc_tensor::Tensor;
use optc_tensor::npy::write_npz;

use crate::common::{code, files, json, line, stderr, stdout};

fn samples(folder: &Path, name: &str, array: &str, tensor: Tensor) {
    write_npz(&folder.join(name), [(array, &tensor)]).expect("the folder can be written to");
}

#[test]
fn a_table_says_what_became_of_each_product() {
    let folder = tempfile::tempdir().unwrap();
    let command = "quantize {lenet.onnx} --calib {fashion_100.npz} --integers always --skip /f3/Gemm \
                   -o @q.optc --save-ranges @ranges.json";
    let text = stdout(&line(folder.path(), command), 0);
    for part in
        ["/c1/Conv  nn.conv  int8", "/f3/Gemm  nn.gemm  float", "it was asked to stay", "4 of 5 products in int8"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    // Without the skip one more mark has no range.
    let output = line(folder.path(), "quantize {lenet.onnx} --integers always --ranges @ranges.json -o @q.onnx");
    assert_eq!(code(&output), 6, "{}", stderr(&output));
    assert!(stderr(&output).contains("no usable range for `/f3/Gemm.x`"), "{}", stderr(&output));
}

/// Without being told, the estimates decide: the report agrees with itself wherever it is made.
#[test]
fn integers_are_taken_where_they_are_faster() {
    let folder = tempfile::tempdir().unwrap();
    let report = json(&line(folder.path(), "quantize {lenet.onnx} --calib {fashion_100.npz} --json"), 0);
    let layers = report["layers"].as_array().unwrap();
    let faster = layers.iter().filter(|l| l["int8_us"].as_f64().unwrap() < l["f32_us"].as_f64().unwrap()).count();
    assert_eq!((layers.len(), &report["int8"]), (5, &faster.into()), "{report}");
}

#[test]
fn ranges_are_kept_and_files_have_the_sizes_that_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let quantize = "quantize {lenet.onnx} --integers always";
    let first = format!("{quantize} --calib {{fashion_100.npz}} -o @a.onnx --save-ranges @ranges.json --json");
    let report = json(&line(folder.path(), &first), 0);
    let bytes = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().len();
    assert_eq!(report["output_bytes"], bytes("a.onnx"));
    assert_eq!((&report["int8"], &report["samples"]), (&5.into(), &100.into()));
    assert!(report["layers"][0]["sqnr_db"].as_f64().unwrap() > 20.0);
    stdout(&line(folder.path(), &format!("{quantize} --ranges @ranges.json -o @b.onnx")), 0);
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    assert_eq!(read("a.onnx"), read("b.onnx"));
    stdout(&line(folder.path(), &format!("{quantize} --ranges @ranges.json -o @c.optc")), 0);
    for name in ["a.onnx", "c.optc"] {
        let run = format!("compare @{name} --input {{fashion_100.npz}} --expect {{lenet_expected.npz}} --rows 4");
        let text = line(folder.path(), &run);
        assert!(matches!(code(&text), 0 | 1), "{}", stderr(&text));
    }
}

#[test]
fn samples_that_cannot_be_used_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut values = vec![0.5f32; 784];
    samples(folder, "other.npz", "pictures", Tensor::from_slice(&[1, 1, 28, 28], &values).unwrap());
    samples(folder, "shape.npz", "input", Tensor::from_slice(&[1, 28, 28], &values).unwrap());
    samples(folder, "dtype.npz", "input", Tensor::from_slice(&[1, 1, 28, 28], &vec![1i64; 784]).unwrap());
    samples(folder, "empty.npz", "input", Tensor::from_slice::<f32>(&[0, 1, 28, 28], &[]).unwrap());
    values[3] = f32::NAN;
    samples(folder, "nan.npz", "input", Tensor::from_slice(&[1, 1, 28, 28], &values).unwrap());
    let cases = [
        ("other.npz", 6, "has no array for input `input`"),
        ("shape.npz", 6, "`input`"),
        ("dtype.npz", 6, "i64"),
        ("empty.npz", 6, "has no samples"),
        ("nan.npz", 6, "is NaN: calibration needs finite values"),
        ("missing.npz", 7, "missing.npz"),
    ];
    let before = files(folder);
    for (name, exit, message) in cases {
        let output = line(folder, &format!("quantize {{lenet.onnx}} --calib @{name} -o @out.optc"));
        assert_eq!(code(&output), exit, "{name}: {}", stderr(&output));
        assert!(stderr(&output).contains(message), "{name}: {}", stderr(&output));
    }
    assert_eq!(files(folder), before);
    let output = line(folder, "quantize {lenet.onnx} --calib {fashion_100.npz} -o @out.bin");
    assert_eq!(code(&output), 2, "{}", stderr(&output));
}
