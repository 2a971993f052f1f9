//! What is wrong with models, artifacts, inputs and disks is an error of the right kind: no panic, nothing
//! half-written.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use optc::{Compiler, DType, Error, Model, Options, Status, Tensor};
use optc_tests::data;

fn compiler() -> Compiler {
    Compiler::new(Options { keep_graph: true, ..Options::default() })
}

fn lenet() -> Model {
    compiler().compile_file(&data::testdata("lenet.onnx")).unwrap()
}

#[track_caller]
fn fails<T>(result: Result<T, Error>, status: Status, message: &str) {
    match result {
        Ok(_) => panic!("no error, expected {status:?}: {message}"),
        Err(e) => assert!(e.status() == status && e.to_string().contains(message), "{:?}: {e}", e.status()),
    }
}

#[test]
fn files_that_are_not_there() {
    fails(compiler().compile_file(Path::new("no/such.onnx")), Status::Io, "no/such.onnx");
    fails(compiler().load(Path::new("no/such.optc")), Status::Io, "no/such.optc");
    fails(compiler().compile_file(&data::testdata("")), Status::Io, "testdata");
}

#[test]
fn options_that_make_no_sense() {
    let path = data::testdata("lenet.onnx");
    let with = |options: Options| Compiler::new(options).compile_file(&path);
    fails(with(Options { passes: "no-such-pass".into(), ..Options::default() }), Status::Usage, "no-such-pass");
    fails(with(Options { isa: Some("z80".into()), ..Options::default() }), Status::Usage, "z80");
    let shape =
        |name: &str, dims: &[usize]| Options { shapes: vec![(name.into(), dims.to_vec())], ..Options::default() };
    fails(with(shape("nothing", &[1])), Status::Usage, "nothing");
    assert!(with(shape("input", &[1, 2, 3])).is_err());
    assert!(with(shape("input", &[usize::MAX, 1, 28, 28])).is_err());
}

#[test]
fn inputs_that_do_not_fit() {
    let mut session = lenet().session();
    let zeros = |dtype, shape: &[usize]| Tensor::zeros(dtype, shape).unwrap();
    let good = || zeros(DType::F32, &[1, 1, 28, 28]);
    fails(session.run(&[]), Status::Run, "`input` is missing");
    fails(session.run(&[("input", good()), ("other", good())]), Status::Run, "no input `other`");
    fails(session.run(&[("input", zeros(DType::F64, &[1, 1, 28, 28]))]), Status::Run, "f64");
    fails(session.run(&[("input", zeros(DType::F32, &[1, 28, 28]))]), Status::Run, "1x28x28");
    fails(session.run(&[("input", zeros(DType::F32, &[1, 3, 28, 28]))]), Status::Run, "1x3x28x28");
    assert!(session.run(&[("input", good())]).is_ok(), "a session goes on after an error");
}

/// Only the run shows that the declared shape is wrong: it is an error there, and no kernel reads what the operand does
/// not have.
#[test]
fn declared_shapes_that_do_not_come_true() {
    let cut = "%1 = tensor.const {value = dense<[0]> : tensor<1xi64>} : tensor<1xi64>
        %2 = tensor.slice %x, %1, %end : tensor<100000xf32> loc(\"cut\")
        %3 = math.relu %2 : tensor<100000xf32>
        return %3 as \"y\"";
    let plain = format!("func @f(%x: tensor<4xf32>, %end: tensor<1xi64>) {{ {cut} }}");
    let fused = format!(
        "func @f(%a: tensor<4xf32>, %b: tensor<1xi64>) {{
        %0 = kernel.fused %a, %b : tensor<100000xf32> loc(\"cut\") region
        func @fused(%x: tensor<4xf32>, %end: tensor<1xi64>) {{ {cut} }}
        return %0 as \"y\" }}"
    );
    for text in [plain, fused] {
        let compiler = Compiler::new(Options { passes: "schedule".to_owned(), ..Options::default() });
        let model = compiler.compile_graph(optc_ir::parse(&text).unwrap()).unwrap();
        let inputs = [Tensor::zeros(DType::F32, &[4]).unwrap(), Tensor::from_slice(&[1], &[4i64]).unwrap()];
        let run = model.session().run_values(&inputs.map(Into::into));
        fails(run, Status::Run, "the result is tensor<4xf32>, expected tensor<100000xf32>");
    }
}

#[test]
fn graphs_that_are_not_sound() {
    let text = "func @f(%x: tensor<4xf32>) { %0 = math.relu %x : tensor<5xf32> return %0 as \"y\" }";
    let compiled = compiler().compile_graph(optc_ir::parse(text).unwrap());
    fails(compiled, Status::BadModel, "`math.relu` gives tensor<4xf32>, declared tensor<5xf32>");
}

#[test]
fn shapes_that_an_op_refuses() {
    let text = "func @f(%x: tensor<2xKxf32>, %w: tensor<3x4xf32>) {
        %0 = math.matmul %x, %w : tensor<2x4xf32>
        return %0 as \"y\" }";
    let graph = optc_ir::parse(text).unwrap();
    let zeros = |shape: &[usize]| Tensor::zeros(DType::F32, shape).unwrap().into();
    let model = compiler().compile_graph(graph.clone()).unwrap();
    fails(model.session().run_values(&[zeros(&[2, 5]), zeros(&[3, 4])]), Status::Run, "inner extents are 5 and 3");
    assert!(model.session().run_values(&[zeros(&[2, 3]), zeros(&[3, 4])]).is_ok(), "other shapes fit");
    let pinned = Compiler::new(Options { shapes: vec![("x".to_owned(), vec![2, 5])], ..Options::default() });
    fails(pinned.compile_graph(graph), Status::Usage, "inner extents are 5 and 3");
}

#[test]
fn models_that_are_cut_off() {
    let model = std::fs::read(data::testdata("mlp.onnx")).unwrap();
    let step = model.len() / 199;
    for end in (0..64).chain((64..model.len()).step_by(step)) {
        fails(compiler().compile_bytes(&model[..end]), Status::BadModel, "");
    }
}

/// An artifact, and the folder that it lies in.
fn artifact() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.optc");
    lenet().save(&path).unwrap();
    (folder, path)
}

#[test]
fn artifacts_with_a_byte_changed() {
    let (_folder, path) = artifact();
    let good = std::fs::read(&path).unwrap();
    assert!(compiler().compile_bytes(&good).is_ok());
    let header = 32 + u64::from_le_bytes(good[16..24].try_into().unwrap()) as usize;
    let far = (header..good.len()).step_by(good.len() / 97);
    for at in (0..header).chain(far) {
        for flip in [0x01, 0x80] {
            let mut bad = good.clone();
            bad[at] ^= flip;
            fails(compiler().compile_bytes(&bad), Status::BadModel, "");
        }
    }
}

#[test]
fn artifacts_that_are_cut_off() {
    let (folder, path) = artifact();
    let good = std::fs::read(&path).unwrap();
    let cut = folder.path().join("cut.optc");
    for end in (0..200).chain((200..good.len()).step_by(good.len() / 97)) {
        std::fs::write(&cut, &good[..end]).unwrap();
        fails(compiler().load(&cut), Status::BadModel, "cut.optc");
    }
}

#[test]
fn an_artifact_runs_like_the_model_that_it_was_made_of() {
    let (_folder, path) = artifact();
    let pictures = data::array("fashion_100.npz", "input").unwrap();
    let run = |model: Model| model.session().run(&[("input", pictures.clone())]).unwrap();
    assert_eq!(run(compiler().load(&path).unwrap()), run(lenet()));
}

#[test]
fn folders_that_are_not_there_cannot_be_written_to() {
    fails(lenet().save(Path::new("no/such/folder/model.optc")), Status::Io, "no/such/folder");
    let plain = Compiler::new(Options { shapes: vec![("input".into(), vec![1, 1, 28, 28])], ..Options::default() });
    let without_graph = plain.compile_file(&data::testdata("lenet.onnx")).unwrap();
    fails(without_graph.save(Path::new("model.optc")), Status::Compile, "keep_graph");
}

const FULL_DISK: &str = "OPTC_TEST_FULL_DISK";

/// A limit on file sizes acts like a full disk: writes fail in the middle. It holds for a process, so this test starts
/// one.
#[test]
#[cfg(unix)]
fn a_full_disk_leaves_what_was_there() {
    if let Some(path) = std::env::var_os(FULL_DISK) {
        fails(lenet().save(Path::new(&path)), Status::Io, "model.optc");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.optc");
    std::fs::write(&path, "what was there").unwrap();
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$0\" --exact a_full_disk_leaves_what_was_there"])
        .arg(std::env::current_exe().unwrap())
        .env(FULL_DISK, &path)
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "what was there");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
}
