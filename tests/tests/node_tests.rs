//! The ONNX standard's node tests through compiled models: no wrong answer, no crash, and what is refused is listed in
//! `node_tests_refused.txt`, with reasons. `UPDATE_REFUSED=1` writes that list anew; `NODE_TEST=part` runs the cases
//! whose name contains `part`, and compares with no list.

use std::collections::BTreeSet;
use std::path::Path;

use optc::{Compiler, Options};
use optc_kernel::target::Isa;
use optc_testing::isas;
use optc_tests::node_cases::{CaseOutcome, run_all};
use optc_tests::{data, refused};

/// Cases in the archive.
const CASES: usize = 1884;

fn names(root: &Path, part: &str) -> Vec<String> {
    let entries = std::fs::read_dir(root).expect("the cases are unpacked");
    let name = |e: std::io::Result<std::fs::DirEntry>| e.expect("a folder").file_name().to_string_lossy().into_owned();
    let mut names: Vec<String> = entries.map(name).filter(|n| n.contains(part)).collect();
    names.sort();
    names
}

#[test]
fn node_tests_pass_or_are_listed_as_refused() {
    let root = data::unpack("onnx-node-tests.tar.xz", Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    let part = std::env::var("NODE_TEST").unwrap_or_default();
    let names = names(&root, &part);
    assert!(!part.is_empty() || names.len() == CASES, "{} cases in the archive", names.len());
    isas().into_iter().for_each(|isa| pass_or_are_listed(isa, &root, &names, part.is_empty()));
}

fn pass_or_are_listed(isa: &Isa, root: &Path, names: &[String], all: bool) {
    let options = Options { isa: Some(isa.name.to_owned()), ..Options::default() };
    let outcomes = run_all(&Compiler::new(options), root, names);

    let (mut passed, mut bad) = (BTreeSet::new(), Vec::new());
    let mut reasons = Vec::new();
    for (name, outcome) in names.iter().zip(&outcomes) {
        match outcome {
            CaseOutcome::Pass => _ = passed.insert(name.clone()),
            CaseOutcome::Refused(why) => reasons.push((name.as_str(), why.as_str())),
            CaseOutcome::Wrong(how) => bad.push(format!("wrong: {name}: {how}")),
            CaseOutcome::Crashed(message) => bad.push(format!("crashed: {name}: {message}")),
        }
    }
    println!(
        "{}: {} passed, {} refused, {} wrong or crashed of {}",
        isa.name,
        passed.len(),
        reasons.len(),
        bad.len(),
        names.len()
    );
    if all {
        compare_with_list(&passed, &reasons, &mut bad);
    } else {
        reasons.iter().for_each(|(name, why)| println!("refused: {name}: {why}"));
    }
    assert!(bad.is_empty(), "{} failures on {}:\n{}", bad.len(), isa.name, bad.join("\n"));
}

fn compare_with_list(passed: &BTreeSet<String>, reasons: &[(&str, &str)], bad: &mut Vec<String>) {
    let path = data::repository().join("tests/node_tests_refused.txt");
    if std::env::var_os("UPDATE_REFUSED").is_some() {
        std::fs::write(&path, refused::print(reasons.iter().copied())).expect("the list can be written");
        return;
    }
    let listed = refused::parse(&std::fs::read_to_string(&path).unwrap_or_default());
    let new = reasons.iter().filter(|(name, _)| !listed.contains(*name));
    bad.extend(new.map(|(name, why)| format!("refused, but not listed: {name}: {why}")));
    let gone = listed.intersection(passed);
    bad.extend(gone.map(|name| format!("passes now; take it off the list (`UPDATE_REFUSED=1`): {name}")));
}
