//! Every numbered constraint of every op has a filetest that breaks it, or a line in a list that says why not.
//!
//! A case of `filetests/verify` or `filetests/run` shows constraint C2 of `tensor.slice` where it is named `@slice_c2`
//! or `@slice_c2_more`, has the op, and expects an error that holds `(C2)`, or `declared` where the constraint says
//! what the result's type is, or `one of` where it is a set of words, which the parser checks.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use optc_tests::data::{files_below, repository};

/// A constraint of an op, such as `tensor.slice C2`.
type Pair = (String, String);

const LIST: &str = "tests/constraints_untested.txt";

/// The files below a folder of the repository whose names end so.
fn files(folder: &str, end: &str) -> Vec<PathBuf> {
    let mut files = files_below(&repository().join(folder));
    files.retain(|file| file.to_string_lossy().ends_with(end));
    files
}

/// The constraints that the documentation of a source file's ops numbers: lines `/// - (C1) …` above
/// `"tensor.slice" = `.
fn documented(source: &str) -> BTreeSet<Pair> {
    let (mut numbers, mut pairs) = (vec![], BTreeSet::new());
    for line in source.lines().map(str::trim) {
        if let Some(doc) = line.strip_prefix("///") {
            let number = doc.trim().strip_prefix("- (").and_then(|rest| rest.split_once(')'));
            numbers.extend(number.map(|(number, _)| number.to_owned()));
            continue;
        }
        let name = line.strip_prefix('"').and_then(|rest| rest.split_once("\" = "));
        let numbers = std::mem::take(&mut numbers);
        if let Some((name, _)) = name {
            pairs.extend(numbers.into_iter().map(|number| (name.to_owned(), number)));
        }
    }
    pairs
}

/// The op and the number in a case's name: `slice` and `2` of `slice_c2_more`.
fn named(case: &str) -> Option<(&str, &str)> {
    let name = case.lines().find_map(|l| l.strip_prefix("func @"))?.split('(').next()?;
    name.match_indices("_c").find_map(|(at, _)| {
        let number = name[at + 2..].split('_').next()?;
        number.parse::<u32>().is_ok().then_some((&name[..at], number))
    })
}

/// The constraints that a case shows.
fn shown(case: &str) -> Vec<Pair> {
    let Some((short, number)) = named(case) else { return vec![] };
    let expected = case.lines().filter_map(|l| l.split_once("// error: ").or_else(|| l.split_once(" fails: ")));
    let numbered = format!("(C{number})");
    let says = |message: &str| [numbered.as_str(), "declared", "one of"].iter().any(|part| message.contains(part));
    if !expected.map(|(_, message)| message).any(says) {
        return vec![];
    }
    let ops = case.lines().filter_map(|l| l.trim().split_once(" = ")?.1.split([' ', ':']).next());
    let ops = ops.filter(|op| op.split_once('.').is_some_and(|(_, name)| name == short));
    ops.map(|op| (op.to_owned(), format!("C{number}"))).collect()
}

/// The lines of the list, which says why with a comment.
fn listed(text: &str) -> Vec<Pair> {
    let line = |line: &str| {
        let (pair, why) = line.split_once('#').unwrap_or((line, ""));
        assert!(!why.trim().is_empty(), "{LIST}: `{line}` does not say why; add a `#` and the reason");
        let (op, number) = pair.trim().split_once(' ').expect("a line is `op.name C3  # why`");
        (op.to_owned(), number.to_owned())
    };
    text.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty()).map(line).collect()
}

/// What a function finds in each of these files.
fn collect<T: IntoIterator<Item = Pair>>(files: Vec<PathBuf>, find: impl Fn(&str) -> T) -> BTreeSet<Pair> {
    files.iter().flat_map(|path| find(&fs::read_to_string(path).expect("a file of text"))).collect()
}

#[test]
fn every_constraint_has_a_negative_filetest() {
    let documented = collect(files("compiler/ir/src/ops", ".rs"), documented);
    let tests = ["tests/filetests/verify", "tests/filetests/run"].map(|folder| files(folder, ".ir")).concat();
    let shown = collect(tests, |text| text.split("// ---\n").flat_map(shown).collect::<Vec<_>>());
    let list = listed(&fs::read_to_string(repository().join(LIST)).expect("the list"));
    assert!(list.is_sorted(), "{LIST} is not sorted; sort its lines");

    let missing: Vec<&Pair> = documented.iter().filter(|p| !shown.contains(*p) && !list.contains(p)).collect();
    let needless: Vec<&Pair> = list.iter().filter(|p| shown.contains(*p) || !documented.contains(*p)).collect();
    println!(
        "{} constraints, {} shown, {} listed",
        documented.len(),
        documented.intersection(&shown).count(),
        list.len()
    );
    assert!(
        missing.is_empty(),
        "no filetest breaks {missing:?}. Add a case to tests/filetests/verify, or to run where only values can break \
         it, that is named `@name_c1` after op and number and expects a message with `(C1)`"
    );
    assert!(
        needless.is_empty(),
        "{needless:?} are broken by filetests, or are no more: take their lines out of {LIST}"
    );
}

#[test]
fn constraints_are_found_in_documentation_and_cases() {
    let source = "/// Text.\n///\n/// - (C1) One.\n/// - (C2) Two,\n///   still.\n\"a.b\" = B(x) {}\n\"a.c\" = C(x) {}";
    let pair = |op: &str, number: &str| (op.to_owned(), number.to_owned());
    assert_eq!(documented(source), BTreeSet::from([pair("a.b", "C1"), pair("a.b", "C2")]));
    let case = "func @b_c2_more(%x: T) {\n  %0 = a.b %x : T // error: no (C2)\n  %1 = a.c %0 : T\n}";
    assert_eq!(shown(case), [pair("a.b", "C2")]);
    assert!(shown(&case.replace("(C2)", "(C1)")).is_empty() && shown(&case.replace("c2", "c")).is_empty());
    assert_eq!(shown(&case.replace("no (C2)", "gives T, declared U")), [pair("a.b", "C2")]);
    let run = "// run: @c_c1([1]) fails: no (C1)\nfunc @c_c1(%x: T) {\n  %0 = a.c %x : T\n}";
    assert_eq!(shown(run), [pair("a.c", "C1")]);
}
