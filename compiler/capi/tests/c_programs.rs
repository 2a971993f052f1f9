//! The header is the one of the sources, and C programs that use it build, run and give the right answers.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use driver::{Compiler, Options, Tensor};

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn testdata(name: &str) -> PathBuf {
    here().join("../../testdata").join(name)
}

/// Where cargo puts the libraries, which it does not make for tests on its own: they are built here, once.
fn libraries() -> PathBuf {
    static BUILT: std::sync::Once = std::sync::Once::new();
    let exe = std::env::current_exe().unwrap();
    let profile = exe.parent().and_then(Path::parent).expect("tests lie in `deps`");
    BUILT.call_once(|| {
        let mut cargo = Command::new(env!("CARGO"));
        // The whole workspace, as its tests are built: other selections would build the dependencies again.
        cargo.args(["build", "--workspace", "--lib", "--target-dir"]).arg(profile.parent().expect("a target folder"));
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.current_dir(here()).status().unwrap().success(), "the libraries do not build");
    });
    profile.to_owned()
}

/// The libraries as `tools/install-capi.sh` installs them, once.
fn installed() -> &'static Path {
    static PREFIX: LazyLock<PathBuf> = LazyLock::new(|| {
        let prefix = Path::new(env!("CARGO_TARGET_TMPDIR")).join("prefix");
        let script = here().join("../../tools/install-capi.sh");
        let output = Command::new("sh").arg(script).arg(&prefix).arg(libraries()).output().unwrap();
        stdout_of(&output);
        prefix
    });
    &PREFIX
}

/// Builds `source` with the system's C compiler, as `pkg-config` says, and runs it.
fn build_and_run(source: &str, args: &[PathBuf]) -> Output {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let program = folder.path().join("program");
    let flags = Command::new("pkg-config")
        .args(["--cflags", "--libs", "optc"])
        .env("PKG_CONFIG_PATH", installed().join("lib/pkgconfig"))
        .output()
        .expect("there is pkg-config");
    let flags = stdout_of(&flags);
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let built = Command::new(compiler)
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-O1"])
        .arg(here().join(source))
        .args(flags.split_whitespace())
        .arg("-o")
        .arg(&program)
        .output()
        .expect("there is a C compiler");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Command::new(&program).args(args).env("LD_LIBRARY_PATH", installed().join("lib")).output().unwrap()
}

fn stdout_of(output: &Output) -> String {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A program needs the library by the name of its ABI, not by that of its file.
#[test]
fn the_shared_library_has_a_soname() {
    let (major, minor) = (env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"));
    let soname = format!("liboptc.so.{}", if major == "0" { format!("0.{minor}") } else { major.to_owned() });
    let lib = installed().join("lib");
    let file = format!("liboptc.so.{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(std::fs::read_link(lib.join("liboptc.so")).unwrap(), Path::new(&soname));
    assert_eq!(std::fs::read_link(lib.join(&soname)).unwrap(), Path::new(&file));
}

#[test]
fn the_header_is_up_to_date() {
    let config = cbindgen::Config::from_file(here().join("cbindgen.toml")).unwrap();
    // The modules are found from the root: naming their files as well would declare every function twice.
    let builder = cbindgen::Builder::new().with_config(config).with_src(here().join("src/lib.rs"));
    let mut header = Vec::new();
    builder.generate().unwrap().write(&mut header);
    let path = here().join("include/optc.h");
    if std::env::var_os("UPDATE_HEADER").is_some() {
        std::fs::write(&path, &header).unwrap();
    }
    let committed = std::fs::read(&path).unwrap_or_default();
    assert!(header == committed, "include/optc.h is out of date: run this test with `UPDATE_HEADER=1`");
}

#[test]
fn the_header_lists_every_source_file() {
    let files = std::fs::read_dir(here().join("src")).unwrap();
    let mut files: Vec<_> = files.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    assert_eq!(
        files,
        ["custom.rs", "error.rs", "layout.rs", "lib.rs", "model.rs", "options.rs", "session.rs", "types.rs"]
    );
}

#[test]
fn classify_names_what_the_picture_shows() {
    let output = build_and_run("examples/classify.c", &[testdata("lenet.onnx"), testdata("boot.pgm")]);
    assert_eq!(stdout_of(&output), "ankle boot\n");
}

#[test]
fn classify_ends_with_the_status_of_the_error() {
    let output = build_and_run("examples/classify.c", &[testdata("README.md"), testdata("boot.pgm")]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("classify: "));
}

#[test]
fn misuse_is_an_error_and_never_a_crash() {
    stdout_of(&build_and_run("tests/misuse.c", &[testdata("lenet.onnx")]));
}

#[test]
fn a_model_that_is_copied_outlives_its_file() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::copy(testdata("lenet.onnx"), &path).unwrap();
    stdout_of(&build_and_run("tests/copy.c", std::slice::from_ref(&path)));
    assert_eq!(std::fs::metadata(path).unwrap().len(), 0);
}

/// A model of one node of an op that nobody knows but the program.
#[test]
fn a_custom_op_of_the_host_runs() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, include_bytes!("custom.onnx")).unwrap();
    let printed = stdout_of(&build_and_run("tests/custom.c", &[path]));
    assert_eq!(printed, "8 24 48\n");
}

/// Machine code that gives other results than the graph, so that it shows which of the two was run.
#[test]
fn machine_code_is_run_where_it_is_trusted() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("model.optc");
    let options = |name: &str| {
        let shapes = vec![("input".to_owned(), vec![1, 1, 28, 28])];
        (Options { shapes, keep_graph: true, ..Options::default() }, testdata(name))
    };
    let ((plain, lenet), (other, resnet)) = (options("lenet.onnx"), options("resnet8.onnx"));
    let native = Compiler::new(other).native_of_file(&resnet).unwrap();
    Compiler::new(plain).compile_file(&lenet).unwrap().save_with(&path, &[native]).unwrap();
    let printed = stdout_of(&build_and_run("tests/trust.c", &[path]));
    let lines: Vec<&str> = printed.lines().collect();
    assert!(lines.len() == 2 && lines[0] != lines[1], "{printed}");
    let pixels = Tensor::from_slice(&[1, 1, 28, 28], &[0f32; 28 * 28]).unwrap();
    for (line, model) in lines.into_iter().zip([lenet, resnet]) {
        let model = Compiler::default().compile_file(&model).unwrap();
        let outputs = model.session().run(&[("input", pixels.clone())]).unwrap();
        let expected = outputs[0].1.as_tensor().unwrap().to_f64_vec();
        let found: Vec<f64> = line.split(' ').map(|n| n.parse().unwrap()).collect();
        assert!(found.iter().zip(&expected).all(|(f, e)| (f - e).abs() < 1e-4), "{found:?}, expected {expected:?}");
    }
}
