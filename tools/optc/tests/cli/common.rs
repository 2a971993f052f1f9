//! Runs the real command and looks at what it says.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A file of the repository's `testdata`.
pub fn testdata(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata")).join(name)
}

/// Splits a line at blanks and runs `optc` with it; `{name}` stands for a path in `testdata`, `@name` for one in
/// `folder`, which is also where temporary files go.
pub fn line(folder: &Path, line: &str) -> Output {
    command(folder, line).output().expect("the command is built with its tests")
}

/// Like [`line`], with this many KiB of address space.
pub fn line_within(kib: usize, folder: &Path, line: &str) -> Output {
    let plain = command(folder, line);
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("ulimit -v {kib}; exec \"$0\" \"$@\"")]).arg(plain.get_program());
    limited.args(plain.get_args()).env("TMPDIR", folder).output().expect("there is a shell")
}

/// Like [`line`], but does not wait for the end.
pub fn start(folder: &Path, line: &str) -> Child {
    let mut command = command(folder, line);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the command is built with its tests")
}

fn command(folder: &Path, line: &str) -> Command {
    let place = |word: &str| match (word.strip_prefix('{').and_then(|w| w.strip_suffix('}')), word.strip_prefix('@')) {
        (Some(name), _) => testdata(name).into_os_string(),
        (_, Some(name)) => folder.join(name).into_os_string(),
        _ => word.into(),
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_optc"));
    command.args(line.split_whitespace().map(place)).env("TMPDIR", folder);
    command
}

/// The exit code.
pub fn code(output: &Output) -> i32 {
    output.status.code().expect("no signal ends the command")
}

/// What went to stderr.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Stdout of a run that must end with `expected`.
pub fn stdout(output: &Output, expected: i32) -> String {
    assert_eq!(code(output), expected, "stderr: {}", stderr(output));
    String::from_utf8(output.stdout.clone()).expect("results are UTF-8")
}

/// The one JSON document on stdout.
pub fn json(output: &Output, expected: i32) -> serde_json::Value {
    let text = stdout(output, expected);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// The names of the files in a folder.
pub fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("tests make their folders");
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
