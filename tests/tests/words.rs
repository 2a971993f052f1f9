//! Names and lines are short enough to be read: a type name has one meaning in the tree, and no line is over 120
//! columns.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use optc_tests::data::{files_below, repository};

/// The longest line.
const COLUMNS: usize = 120;

/// How many names may have several meanings: `Tile`, of kernels and of ONNX.
const AMBIGUOUS: usize = 1;

/// What others have written.
const GENERATED: [&str; 2] = ["compiler/onnx/src/proto/onnx.rs", "compiler/capi/include/optc.h"];

/// The files of the repository, by their paths in it: those that git knows, or else all that are not built.
fn files() -> Vec<String> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(repository());
    let listed = git.output().ok().filter(|output| output.status.success());
    let mut files: Vec<String> = match listed {
        Some(output) => String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect(),
        None => vec![],
    };
    if files.is_empty() {
        let inside = |path: PathBuf| Some(path.strip_prefix(repository()).ok()?.to_string_lossy().into_owned());
        files = files_below(repository()).into_iter().filter_map(inside).collect();
    }
    files.retain(|file| !GENERATED.contains(&file.as_str()) && repository().join(file).is_file());
    files.sort();
    files
}

fn text(file: &str) -> String {
    fs::read_to_string(repository().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// The name of a type that others see, where a line defines one: a struct, an enum, a trait, another name, or an op.
fn defined(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let visible = ["pub(crate) ", "pub(super) ", "pub "].into_iter().find_map(|word| line.strip_prefix(word));
    let rest = match visible {
        Some(rest) => {
            ["struct ", "enum ", "trait ", "type ", "union "].into_iter().find_map(|w| rest.strip_prefix(w))?
        }
        // `"math.add" = Add(a, b)`
        None => line.strip_prefix('"')?.split_once("\" = ").filter(|(op, _)| op.contains('.'))?.1,
    };
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    let declares = visible.is_some() || rest[end..].trim_start().starts_with(['(', '{', '|']);
    (declares && rest.starts_with(|c: char| c.is_ascii_uppercase())).then(|| &rest[..end])
}

#[test]
fn a_type_name_has_one_meaning() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in files().into_iter().filter(|file| file.ends_with(".rs")) {
        for (i, line) in text(&file).lines().enumerate() {
            if let Some(name) = defined(line) {
                places.entry(name.to_owned()).or_default().push(format!("{file}:{}", i + 1));
            }
        }
    }
    places.retain(|_, places| places.len() > 1);
    let listed: Vec<String> = places.iter().map(|(name, places)| format!("{name}: {}", places.join(", "))).collect();
    println!("{}", listed.join("\n"));
    assert!(listed.len() <= AMBIGUOUS, "{} names have several meanings:\n{}", listed.len(), listed.join("\n"));
}

/// Whether lines of a file are for people.
fn is_read(file: &str) -> bool {
    let endings = [".rs", ".md", ".py", ".sh", ".c", ".h", ".toml", ".asm"];
    file == ".ci/run" || endings.into_iter().any(|ending| file.ends_with(ending))
}

/// The lines of a file that are too long, by number and length. What a page of the book prints is as long as it is.
fn long(file: &str, text: &str) -> Vec<(usize, usize)> {
    let (mut long, mut printed) = (vec![], false);
    for (i, line) in text.lines().enumerate() {
        if file.ends_with(".md") && line.starts_with("```") {
            printed = line.starts_with("```optc ");
        }
        let columns = line.chars().count();
        if columns > COLUMNS && !printed {
            long.push((i + 1, columns));
        }
    }
    long
}

#[test]
fn lines_are_not_long() {
    let mut found = vec![];
    for file in files().into_iter().filter(|file| is_read(file)) {
        let lines = long(&file, &text(&file));
        found.extend(lines.into_iter().map(|(line, columns)| format!("{file}:{line} has {columns} columns")));
    }
    assert!(found.is_empty(), "no line is over {COLUMNS} columns:\n{}", found.join("\n"));
}

#[test]
fn definitions_are_told_from_uses() {
    assert_eq!(defined("pub struct Point {"), Some("Point"));
    assert_eq!(defined("    pub(super) enum Use<'a> {"), Some("Use"));
    assert_eq!(defined("pub(crate) type Table = &'static [u8];"), Some("Table"));
    assert_eq!(defined("    \"math.add\" = Add(a, b) {}"), Some("Add"));
    assert_eq!(defined("    \"math.exp\" = Exp {} |s, x| x.exp(),"), Some("Exp"));
    assert_eq!(defined("    \"math.min\" = Min |a, b| a.least(b),"), Some("Min"));
    for line in ["struct Own;", "pub fn Name() {}", "pub struct $Op {", "\"a.b\" = c(d)", "\"text\" = Name {", "// x"] {
        assert_eq!(defined(line), None, "{line}");
    }
    let wide = "a".repeat(COLUMNS + 1);
    assert_eq!(long("a.rs", &format!("x\n{wide}\n")), [(2, COLUMNS + 1)]);
    assert!(long("a.md", &format!("```optc graph\n{wide}\n```\n")).is_empty());
    assert_eq!(long("a.md", &format!("```text\n{wide}\n```\n")).len(), 1);
}
