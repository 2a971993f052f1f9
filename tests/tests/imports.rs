//! Files of a crate that import each other cannot be read one after the other: where there are none, none may come.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The modules that each file directly in a folder imports: names after `super::`, but for the root's own items.
fn imports(folder: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let sources: BTreeMap<String, String> = files
        .filter(|path| {
            path.extension().is_some_and(|e| e == "rs") && !path.ends_with("lib.rs") && !path.ends_with("mod.rs")
        })
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    let words = |text: &str| -> BTreeSet<String> {
        text.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned).collect()
    };
    let of = |(name, source): (&String, &String)| {
        let code = source.split("mod tests {").next().unwrap_or_default();
        let code: String = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let named = code.split("super::").skip(1).map(|rest| rest.split(';').next().unwrap_or_default());
        // `{a, b::c}` names modules of the root, `a::{b, c}` items of one.
        let modules = named.flat_map(|path| match path.strip_prefix('{') {
            Some(list) => words(list),
            None => path.split(|c: char| !c.is_alphanumeric() && c != '_').take(1).map(str::to_owned).collect(),
        });
        let known = modules.filter(|module| module != name && sources.contains_key(module)).collect();
        (name.clone(), known)
    };
    sources.iter().map(of).collect()
}

/// A way from a module to itself.
fn cycle(graph: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut done = BTreeSet::new();
    fn visit(
        at: &str,
        graph: &BTreeMap<String, BTreeSet<String>>,
        way: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        if let Some(from) = way.iter().position(|module| module == at) {
            return Some(way[from..].to_vec());
        }
        if !done.insert(at.to_owned()) {
            return None;
        }
        way.push(at.to_owned());
        let found = graph.get(at)?.iter().find_map(|next| visit(next, graph, way, done));
        way.pop();
        found
    }
    graph.keys().find_map(|module| visit(module, graph, &mut vec![], &mut done))
}

#[test]
fn files_of_lowering_do_not_import_each_other_in_circles() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let graph = imports(&root.join("compiler/lower/src"));
    assert!(graph.len() > 30 && graph["conv"].contains("contract"), "{graph:?}");
    assert_eq!(cycle(&graph), None);
}

#[test]
fn files_of_tiles_and_kernels_do_not_import_each_other_in_circles() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folders = [
        ("kernel/src/tile", "verify", "inst"),
        ("kernel/src/bounds", "footprint", "linear"),
        ("emit/src/x86", "rules", "encoding"),
        ("kernels/src/window", "nest", "planes"),
        ("kernels/src/spmm", "bcsr", "form"),
        ("kernels/src/int8", "tile", "blocks"),
    ];
    for (folder, from, to) in folders {
        let graph = imports(&root.join("compiler").join(folder));
        assert!(graph[from].contains(to), "{folder}: {graph:?}");
        assert_eq!(cycle(&graph), None, "{folder}");
    }
}

#[test]
fn circles_are_found() {
    let graph = [("a", "b"), ("b", "c"), ("c", "b")].map(|(from, to)| (from.to_owned(), [to.to_owned()].into()));
    assert_eq!(cycle(&graph.into()), Some(vec!["b".to_owned(), "c".to_owned()]));
}
