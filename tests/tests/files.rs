//! Files of models that are lost while the models are in use: with `Options::copy` nothing of them is needed any more.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::path::Path;

use optc::{Compiler, Model, Options, Tensor};
use optc_onnx::ModelFile;
use optc_onnx::proto::StringStringEntryProto;
use optc_tests::data::{self, testdata};

fn output(model: &Model) -> Tensor {
    let pictures = data::array("fashion_100.npz", "input").unwrap();
    model.session().run_values(&[pictures.into()]).unwrap()[0].as_tensor().unwrap().clone()
}

/// A copy of `lenet.onnx` whose weights are in `weights.bin` beside it.
fn with_external_data(path: &Path) {
    let mut model = ModelFile::open(&testdata("lenet.onnx")).unwrap().model;
    let mut data = Vec::new();
    for tensor in &mut model.graph.as_mut().unwrap().initializer {
        let Some(bytes) = tensor.raw_data.take() else { continue };
        let entry = |key: &str, value: String| StringStringEntryProto { key: Some(key.into()), value: Some(value) };
        let (offset, length) = (data.len().to_string(), bytes.len().to_string());
        tensor.external_data =
            vec![entry("location", "weights.bin".to_owned()), entry("offset", offset), entry("length", length)];
        tensor.data_location = Some(1);
        data.extend_from_slice(&bytes);
    }
    std::fs::write(path.with_file_name("weights.bin"), data).unwrap();
    std::fs::write(path, prost::Message::encode_to_vec(&model)).unwrap();
}

/// Whether this process maps a file of the folder.
fn maps_of(folder: &Path) -> bool {
    std::fs::read_to_string("/proc/self/maps").unwrap().contains(folder.to_str().unwrap())
}

#[test]
fn models_that_own_their_bytes_outlive_their_files() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let at = |name: &str| folder.join(name);
    let lenet = Compiler::new(Options { keep_graph: true, ..Options::default() });
    let lenet = lenet.compile_file(&testdata("lenet.onnx")).unwrap();
    let expected = output(&lenet);
    for name in ["plain.onnx", "external.onnx", "m.optc"] {
        std::fs::copy(testdata("lenet.onnx"), at("plain.onnx")).unwrap();
        with_external_data(&at("external.onnx"));
        lenet.save(&at("m.optc")).unwrap();
        for keep_graph in [true, false] {
            if name == "m.optc" {
                let compiler = Compiler::new(Options { keep_graph: true, ..Options::default() });
                let mapped = compiler.compile_file(&at(name)).unwrap();
                assert!(maps_of(&folder), "artifacts are mapped, and this test would find it");
                drop(mapped);
            }
            let options = Options { copy: true, keep_graph, ..Options::default() };
            let model = Compiler::new(options).compile_file(&at(name)).unwrap();
            assert!(!maps_of(&folder), "{name}");
            let lost: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
            let kept: Vec<_> = lost.iter().map(|path| std::fs::read(path).unwrap()).collect();
            lost.iter().for_each(|path| std::fs::write(path, "cut off").unwrap()); // in place
            assert_eq!(output(&model), expected, "{name}");
            lost.iter().zip(kept).for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
        }
    }
}

#[test]
fn a_model_that_is_mapped_may_be_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.optc");
    let compiler = Compiler::new(Options { keep_graph: true, ..Options::default() });
    let lenet = compiler.compile_file(&testdata("lenet.onnx")).unwrap();
    lenet.save(&path).unwrap();
    let model = compiler.compile_file(&path).unwrap();
    compiler.compile_file(&testdata("mlp.onnx")).unwrap().save(&path).unwrap();
    model.save(&path).unwrap(); // over the file that it was made of
    std::fs::remove_file(&path).unwrap();
    assert_eq!(output(&model), output(&lenet));
}
