//! Files of a crate that import each other cannot be read one after the other: where there are none, none may be added.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use optc_tests::data::files_below;

/// For each file of a crate, by its module's path, the files that it names.
type Imports = BTreeMap<Vec<String>, BTreeSet<Vec<String>>>;

/// Crates whose files do not import each other in circles.
const CRATES: [&str; 11] = [
    "compiler/driver",
    "compiler/emit",
    "compiler/ir",
    "compiler/kernel",
    "compiler/kernels",
    "compiler/lower",
    "compiler/onnx",
    "passes",
    "runtime/engine",
    "runtime/native",
    "tools/optc",
];

/// The sources of the crate at `root`, by their modules' paths; the crate's root has an empty one.
fn files(root: &Path) -> BTreeMap<Vec<String>, PathBuf> {
    let module = |path: &Path| {
        let inside = path.strip_prefix(root).unwrap().with_extension("");
        let mut names: Vec<String> = inside.iter().map(|name| name.to_str().unwrap().to_owned()).collect();
        names.pop_if(|last| matches!(last.as_str(), "mod" | "lib" | "main"));
        names
    };
    let sources = files_below(root).into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    sources.map(|path| (module(&path), path)).collect()
}

/// The paths that a text begins with: `a::b`, and all of `a::{b, c::d}`.
fn paths(text: &str, before: &[String], found: &mut Vec<Vec<String>>) {
    if let Some(list) = text.strip_prefix('{') {
        let (mut depth, mut start) = (0, 0);
        for (i, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                ',' | '}' if depth == 0 => {
                    paths(list[start..i].trim_start(), before, found);
                    start = i + 1;
                }
                '}' => depth -= 1,
                _ => {}
            }
            if start > i && c == '}' {
                return;
            }
        }
        return;
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let inner = [before, &[text[..end].to_owned()]].concat();
    match text[end..].strip_prefix("::") {
        Some(rest) => paths(rest, &inner, found),
        None => found.push(inner),
    }
}

/// The paths that a file names, from the root of its crate; tests and comments aside.
fn named(source: &str, module: &[String]) -> Vec<Vec<String>> {
    let code = source.split("mod tests {").next().unwrap_or_default();
    let code: Vec<&str> = code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let code = code.join("\n");
    let mut found = vec![];
    for (i, _) in code.match_indices("crate::") {
        paths(&code[i + "crate::".len()..], &[], &mut found);
    }
    for (i, _) in code.match_indices("super::").filter(|(i, _)| !code[..*i].ends_with("super::")) {
        let mut rest = &code[i..];
        let mut above = module;
        while let Some(inner) = rest.strip_prefix("super::") {
            (rest, above) = (inner, &above[..above.len().saturating_sub(1)]);
        }
        paths(rest, above, &mut found);
    }
    found
}

/// What each file of the crate at `root` imports of the others, but for the crate's root.
fn imports(root: &Path) -> Imports {
    let all = files(root);
    let of = |(module, path): (&Vec<String>, &PathBuf)| {
        let named = named(&std::fs::read_to_string(path).unwrap(), module).into_iter();
        // The longest beginning of a path that is a file.
        let file = |path: Vec<String>| (1..=path.len()).rev().map(|n| path[..n].to_vec()).find(|p| all.contains_key(p));
        (module.clone(), named.filter_map(file).filter(|file| file != module).collect())
    };
    all.iter().filter(|(module, _)| !module.is_empty()).map(of).collect()
}

/// A way from a file to itself.
fn cycle(graph: &Imports) -> Option<Vec<Vec<String>>> {
    fn visit(
        at: &[String],
        graph: &Imports,
        way: &mut Vec<Vec<String>>,
        done: &mut BTreeSet<Vec<String>>,
    ) -> Option<Vec<Vec<String>>> {
        if let Some(from) = way.iter().position(|module| module == at) {
            return Some(way[from..].to_vec());
        }
        if !done.insert(at.to_vec()) {
            return None;
        }
        way.push(at.to_vec());
        let found = graph.get(at)?.iter().find_map(|next| visit(next, graph, way, done));
        way.pop();
        found
    }
    let mut done = BTreeSet::new();
    graph.keys().find_map(|module| visit(module, graph, &mut vec![], &mut done))
}

#[test]
fn files_of_a_crate_do_not_import_each_other_in_circles() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for name in CRATES {
        let graph = imports(&root.join(name).join("src"));
        assert!(graph.values().any(|imports| !imports.is_empty()), "{name}: {graph:?}");
        assert_eq!(cycle(&graph), None, "in {name}");
    }
}

#[test]
fn imports_are_found() {
    let source = "use crate::{a::{B, c::D}, e};\nuse super::f::G; // use crate::h;\nfn i() { super::super::j::k(); }
        mod tests { use crate::l; }";
    let found = named(source, &["x".to_owned(), "y".to_owned(), "z".to_owned()]);
    let joined: Vec<String> = found.iter().map(|path| path.join("::")).collect();
    assert_eq!(joined, ["a::B", "a::c::D", "e", "x::y::f::G", "x::j::k"]);
}

#[test]
fn circles_are_found() {
    let name = |name: &str| vec![name.to_owned()];
    let graph = [("a", "b"), ("b", "c"), ("c", "b")].map(|(from, to)| (name(from), [name(to)].into()));
    assert_eq!(cycle(&graph.into()), Some(vec![name("b"), name("c")]));
}
