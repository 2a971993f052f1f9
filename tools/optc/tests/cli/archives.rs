//! `.npz` archives of unknown origin: what the model does not ask for, or what does not fit it, is not unpacked.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use npyz::zip::write::FileOptions;
use npyz::zip::{CompressionMethod, ZipWriter};
use optc_tensor::npy::{read_npz, write_npz};
use optc_tensor::{DType, Tensor};

use crate::common::{code, line, line_within, stderr, stdout};

/// Bytes of a bomb's array, and of address space that commands on it get: less.
const BOMB: usize = 1 << 30;
const LIMIT_KIB: usize = 700 << 10;

/// A header as NumPy writes it.
fn header(descr: &str, shape: &str) -> Vec<u8> {
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
    let padded = (text.len() + 11).next_multiple_of(64) - 10;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(padded).unwrap().to_le_bytes());
    bytes.extend(format!("{text:<width$}\n", width = padded - 1).into_bytes());
    bytes
}

/// An archive in which each array is a gibibyte of zeros.
fn bombs(path: &Path, arrays: &[(&str, &str, &str)]) {
    let mut out = ZipWriter::new(File::create(path).unwrap());
    let options = FileOptions::default().compression_method(CompressionMethod::Deflated).compression_level(Some(1));
    let zeros = vec![0; 1 << 20];
    for (name, descr, shape) in arrays {
        out.start_file(format!("{name}.npy"), options).unwrap();
        out.write_all(&header(descr, shape)).unwrap();
        (0..BOMB / zeros.len()).for_each(|_| out.write_all(&zeros).unwrap());
    }
    out.finish().unwrap();
    assert!(std::fs::metadata(path).unwrap().len() < 16 << 20);
}

#[test]
fn bombs_are_refused_by_their_headers() {
    let folder = tempfile::tempdir().unwrap();
    let elements = BOMB / 4;
    bombs(&folder.path().join("rank.npz"), &[("input", "<f4", &format!("{elements},"))]);
    let image = Tensor::from_slice(&[1, 1, 28, 28], &[0.5f32; 784]).unwrap();
    let fits = |name: &str, exit: i32, message: &str| {
        for command in ["run", "bench --seconds 0", "quantize --calib", "compare --expect"] {
            let option = if command.contains("--") && !command.contains("seconds") { "" } else { "--input " };
            let output = line_within(LIMIT_KIB, folder.path(), &format!("{command} {option}@{name} {{mlp.onnx}}"));
            assert_eq!(code(&output), exit, "{command} {name}: {}", stderr(&output));
            let expected = if command.starts_with("compare") { "" } else { message };
            assert!(stderr(&output).contains(expected), "{command} {name}: {}", stderr(&output));
        }
    };
    fits("rank.npz", 6, "tensor<268435456xf32>");
    // The same file under the name of another array: no input, so it does not matter what it is.
    let bytes = std::fs::read(folder.path().join("rank.npz")).unwrap();
    let renamed = |name: &[u8; 9]| {
        let mut bytes = bytes.clone();
        while let Some(at) = bytes.windows(9).position(|w| w == b"input.npy") {
            bytes[at..at + 9].copy_from_slice(name);
        }
        bytes
    };
    std::fs::write(folder.path().join("other.npz"), renamed(b"other.npy")).unwrap();
    fits("other.npz", 6, "it has an array `other`");
    // An archive with an input that fits, and something else.
    write_npz(&folder.path().join("both.npz"), [("input", &image), ("more", &image)]).unwrap();
    let output = line(folder.path(), "run {mlp.onnx} --input @both.npz");
    assert_eq!(code(&output), 6);
    assert!(stderr(&output).contains("has an array `more`, but the model has no such input; it has `input`"));
}

/// What fits the declared type is asked of the account before it is unpacked.
#[test]
fn bombs_of_a_fitting_type_are_refused_by_their_size() {
    let folder = tempfile::tempdir().unwrap();
    let text = "func @f(%x: tensor<Nx1024xf32>) {\n  %0 = math.relu %x : tensor<Nx1024xf32>\n  return %0 as \"y\"\n}\n";
    std::fs::write(folder.path().join("f.mlir"), text).unwrap();
    bombs(&folder.path().join("x.npz"), &[("x", "<f4", &format!("{}, 1024", BOMB / 4096))]);
    for limit in ["--memory-limit 256MiB", ""] {
        let output = line_within(LIMIT_KIB, folder.path(), &format!("run @f.mlir --input @x.npz {limit}"));
        assert_eq!(code(&output), 6, "{limit}: {}", stderr(&output));
        assert!(
            stderr(&output).contains("x.npz`: a tensor f32 of shape [262144, 1024]: 1.0 GiB do not fit"),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn constants_that_a_text_does_not_name_are_not_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    let text = |symbol: &str| {
        format!(
            "func @f(%x: tensor<20xf32>) {{\n  %0 = tensor.const {{value = @{symbol}}} : tensor<20xf32>\n  \
             %1 = math.add %x, %0 : tensor<20xf32>\n  return %1 as \"y\"\n}}\n"
        )
    };
    bombs(&folder.path().join("f.npz"), &[("bomb", "|i1", &format!("{BOMB},"))]);
    std::fs::write(folder.path().join("f.mlir"), text("c0")).unwrap();
    let output = line_within(LIMIT_KIB, folder.path(), "opt @f.mlir");
    assert_eq!(code(&output), 3);
    assert!(stderr(&output).contains("there is no constant `@c0`"), "{}", stderr(&output));
    // Symbols of all spellings are found.
    let constant = Tensor::from_slice(&[20], &[2f32; 20]).unwrap();
    for (symbol, spelling) in [("c0", "c0"), ("a.b", "a.b"), ("layer/w:0", "\"layer/w:0\""), ("a b", "\"a b\"")] {
        write_npz(&folder.path().join("f.npz"), [(symbol, &constant)]).unwrap();
        std::fs::write(folder.path().join("f.mlir"), text(spelling)).unwrap();
        let found = stdout(&line(folder.path(), "run @f.mlir -o @y.npz"), 0);
        assert!(found.contains("tensor<20xf32>"), "{symbol}: {found}");
    }
    assert_eq!(read_npz(&folder.path().join("y.npz")).unwrap()[0].1.dtype(), DType::F32);
}
