//! Files that are written and read: devices, fifos, links, permissions, inputs that are not to be overwritten, writers
//! that are killed.

use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use optc_onnx::ModelFile;
use optc_onnx::proto::StringStringEntryProto;
use prost::Message;

use crate::common::{code, files, json, line, start, stderr, stdout, testdata};

/// Every option that writes a file, with a name that it takes.
const WRITERS: [(&str, &str); 8] = [
    ("compile {mlp.onnx} -o", "out.optc"),
    ("run {mlp.onnx} -o", "out.npz"),
    ("profile {mlp.onnx} --runs 1 --trace", "out.json"),
    ("opt {mlp.onnx} -o", "out.onnx"),
    ("opt {mlp.onnx} -o", "out.mlir"),
    ("prune {mlp.onnx} --sparsity 0.5 -o", "out.onnx"),
    ("quantize {mlp.onnx} --calib {fashion_100.npz} -o", "out.onnx"),
    ("quantize {mlp.onnx} --calib {fashion_100.npz} --save-ranges", "out.json"),
];

fn node(folder: &Path, name: &str, kind: &[&str]) -> bool {
    let made = Command::new("mknod").arg(folder.join(name)).args(kind).stderr(Stdio::null()).status();
    made.is_ok_and(|status| status.success())
}

/// A copy of `lenet.onnx` whose weights are in `weights.bin` beside it.
fn with_external_data(folder: &Path, name: &str) {
    let mut model = ModelFile::open(&testdata("lenet.onnx")).unwrap().model;
    let mut data = Vec::new();
    for tensor in &mut model.graph.as_mut().unwrap().initializer {
        let Some(bytes) = tensor.raw_data.take() else { continue };
        let entry = |key: &str, value: String| StringStringEntryProto { key: Some(key.into()), value: Some(value) };
        tensor.external_data = vec![
            entry("location", "weights.bin".to_owned()),
            entry("offset", data.len().to_string()),
            entry("length", bytes.len().to_string()),
        ];
        tensor.data_location = Some(1);
        data.extend_from_slice(&bytes);
    }
    assert!(data.len() > 100_000);
    std::fs::write(folder.join("weights.bin"), data).unwrap();
    std::fs::write(folder.join(name), model.encode_to_vec()).unwrap();
}

#[test]
fn devices_are_written_into() {
    let folder = tempfile::tempdir().unwrap();
    for (command, name) in WRITERS {
        // A node of our own, which does what `/dev/null` does.
        let path = folder.path().join(name);
        let usable =
            node(folder.path(), name, &["c", "1", "3"]) && std::fs::OpenOptions::new().write(true).open(&path).is_ok();
        if !usable {
            eprintln!("skipped: no device can be made here");
            return;
        }
        let output = line(folder.path(), &format!("{command} @{name}"));
        assert_eq!(code(&output), 0, "{command}: {}", stderr(&output));
        let meta = std::fs::symlink_metadata(&path).unwrap();
        assert!(meta.file_type().is_char_device() && meta.rdev() == 0x103, "{command}");
        std::fs::remove_file(path).unwrap();
    }
    assert_eq!(files(folder.path()), ["out.npz"], "the constants of `out.mlir`");
}

#[test]
fn fifos_take_all_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    assert!(node(folder.path(), "fifo", &["p"]));
    let reader = std::thread::spawn({
        let path = folder.path().join("fifo");
        move || std::fs::read(path).unwrap()
    });
    let report = json(&line(folder.path(), "compile {lenet.onnx} -o @fifo --json"), 0);
    let bytes = reader.join().unwrap();
    assert_eq!(report["artifact_bytes"], bytes.len());
    std::fs::write(folder.path().join("m.optc"), bytes).unwrap();
    let compare = "compare {lenet.onnx} --against @m.optc --rtol 0 --atol 0 --shape input:1x1x28x28";
    assert_eq!(code(&line(folder.path(), compare)), 0);
    assert_eq!(files(folder.path()), ["fifo", "m.optc"]);
}

#[test]
fn links_stay_and_permissions_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("inner")).unwrap();
    for (command, name) in WRITERS {
        let (link, target) = (folder.path().join(name), folder.path().join("inner").join(name));
        std::fs::write(&target, "old").unwrap();
        std::fs::set_permissions(&target, PermissionsExt::from_mode(0o604)).unwrap();
        symlink(Path::new("inner").join(name), &link).unwrap();
        let output = line(folder.path(), &format!("{command} @{name}"));
        assert_eq!(code(&output), 0, "{command}: {}", stderr(&output));
        assert!(link.is_symlink(), "{command}");
        let meta = std::fs::symlink_metadata(&target).unwrap();
        assert!(meta.is_file() && meta.len() > 100 && meta.mode() & 0o777 == 0o604, "{command}: {meta:?}");
        std::fs::remove_file(link).unwrap();
    }
}

#[test]
fn inputs_are_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["mlp.onnx", "fashion_100.npz", "fashion_100_labels.npz"] {
        std::fs::copy(testdata(name), at(name)).unwrap();
    }
    with_external_data(folder.path(), "big.onnx");
    symlink("mlp.onnx", at("link.onnx")).unwrap();
    symlink("weights.bin", at("link.optc")).unwrap();
    std::fs::hard_link(at("mlp.onnx"), at("hard.onnx")).unwrap();
    std::fs::create_dir(at("inner")).unwrap();
    assert_eq!(code(&line(folder.path(), "opt @mlp.onnx -o @g.mlir")), 0);
    assert_eq!(code(&line(folder.path(), "compile @mlp.onnx -o @m.optc")), 0);
    let ranges = "quantize @mlp.onnx --calib @fashion_100.npz --save-ranges @r.onnx";
    assert_eq!(code(&line(folder.path(), ranges)), 0);
    assert_eq!(code(&line(folder.path(), "bench @mlp.onnx --seconds 0 --autotune 0 --tuning-cache @t.json")), 0);
    let contents =
        || files(folder.path()).into_iter().map(|n| (n.clone(), std::fs::read(at(&n)).ok())).collect::<Vec<_>>();
    let before = contents();
    for command in [
        "compile @mlp.onnx -o @mlp.onnx",
        "compile @mlp.onnx -o @inner/../mlp.onnx",
        "compile @mlp.onnx -o @link.onnx",
        "compile @link.onnx -o @mlp.onnx",
        "compile @mlp.onnx -o @hard.onnx",
        "compile @m.optc -o @m.optc",
        "compile @big.onnx -o @weights.bin",
        "compile @big.onnx -o @link.optc",
        "compile @mlp.onnx --autotune 0 --tuning-cache @t.json -o @t.json",
        "compile @mlp.onnx --autotune 0 --input @fashion_100.npz -o @fashion_100.npz",
        "run @mlp.onnx --input @fashion_100.npz -o @fashion_100.npz",
        "run @mlp.onnx --input @fashion_100.npz --labels @fashion_100_labels.npz -o @fashion_100_labels.npz",
        "run @g.mlir -o @g.npz",
        "profile @mlp.onnx --trace @mlp.onnx",
        "opt @mlp.onnx -o @link.onnx",
        "opt @g.mlir -o @g.mlir",
        "opt @g.mlir -o @g.txt",
        "prune @mlp.onnx --sparsity 0.5 -o @hard.onnx",
        "quantize @mlp.onnx --calib @fashion_100.npz -o @mlp.onnx",
        "quantize @mlp.onnx --calib @fashion_100.npz --save-ranges @fashion_100.npz",
        "quantize @mlp.onnx --ranges @r.onnx -o @r.onnx",
        "quantize @mlp.onnx --calib @fashion_100.npz -o @q.onnx --save-ranges @inner/../q.onnx",
    ] {
        let output = line(folder.path(), command);
        assert_eq!(code(&output), 2, "{command}: {}", stderr(&output));
        let message = stderr(&output);
        assert!(message.contains("is an input of this command") || message.contains("for two outputs"), "{message}");
        assert!(contents() == before, "{command}");
    }
}

#[test]
fn an_output_that_was_there_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    with_external_data(folder.path(), "big.onnx");
    for _ in 0..2 {
        assert_eq!(code(&line(folder.path(), "compile @big.onnx -o @m.optc")), 0);
    }
    assert!(stdout(&line(folder.path(), "run @m.optc"), 0).contains("logits"));
    assert_eq!(files(folder.path()), ["big.onnx", "m.optc", "weights.bin"]);
}

/// Whenever a command is killed, its output is whole or not there, and the next one leaves nothing but its own output.
#[test]
fn a_killed_command_leaves_nothing_for_long() {
    let folder = tempfile::tempdir().unwrap();
    let whole = |name: &str| code(&line(folder.path(), &format!("inspect @{name}"))) == 0;
    for i in 0..8 {
        let mut child = start(folder.path(), "compile {lenet.onnx} -o @killed.optc");
        std::thread::sleep(Duration::from_millis(10 * i)); // anywhere: nothing below depends on where
        let _ = child.kill();
        child.wait().unwrap();
        let left = files(folder.path());
        assert!(!left.iter().any(|n| n == "killed.optc") || whole("killed.optc"), "{left:?}");
        assert_eq!(code(&line(folder.path(), "compile {mlp.onnx} -o @next.optc")), 0);
        let left = files(folder.path());
        assert!(left.iter().all(|n| n == "killed.optc" || n == "next.optc"), "{left:?}");
    }
}

/// A fifo that nobody writes into blocks whoever opens it.
#[test]
fn fifos_are_refused_and_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    with_external_data(folder.path(), "big.onnx");
    std::fs::remove_file(folder.path().join("weights.bin")).unwrap();
    for name in ["weights.bin", "m.onnx", "m.optc", "m.mlir", "in.npz", "in.npy"] {
        assert!(node(folder.path(), name, &["p"]));
    }
    let refused = "it is a fifo, expected a plain file";
    for (command, exit) in [
        ("run @big.onnx", 3),
        ("compile @big.onnx -o @out.optc", 3),
        ("run @m.onnx", 7),
        ("run @m.optc", 7),
        ("run @m.mlir", 7),
        ("opt @m.mlir", 7),
        ("inspect @m.onnx", 7),
        ("run {mlp.onnx} --input @in.npz", 7),
        ("run {mlp.onnx} --input @in.npy", 7),
        ("run {mlp.onnx} --labels @in.npy", 7),
        ("compare {mlp.onnx} --expect @in.npz", 7),
        ("quantize {mlp.onnx} --calib @in.npz", 7),
    ] {
        let output = line(folder.path(), command);
        assert_eq!(code(&output), exit, "{command}: {}", stderr(&output));
        assert!(stderr(&output).contains(refused), "{command}: {}", stderr(&output));
    }
}

#[test]
fn text_is_read_from_stdin() {
    let folder = tempfile::tempdir().unwrap();
    let text = "func @f(%x: tensor<2xf32>) {\n  %0 = math.relu %x : tensor<2xf32>\n  return %0 as \"y\"\n}\n";
    std::fs::write(folder.path().join("f.mlir"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_optc"));
    command.args(["opt", "-", "--passes", "dce"]).stdin(std::fs::File::open(folder.path().join("f.mlir")).unwrap());
    let output = command.output().unwrap();
    assert_eq!(stdout(&output, 0), text);
    let mut found = String::new();
    std::fs::File::open(folder.path().join("f.mlir")).unwrap().read_to_string(&mut found).unwrap();
    assert_eq!(found, text);
}
