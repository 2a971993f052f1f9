//! The list of test cases that are refused, by reason: what optc does not support, committed, so that it only shrinks.
//!
//! ```text
//! # comment
//! 2 × `If` of a sequence is not supported
//!   test_if_seq
//!   test_if_opt
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

const HEAD: &str = "\
# Cases of the ONNX standard's node tests that optc refuses, by reason.
# Written by `UPDATE_REFUSED=1 cargo test --release -p optc-tests --test node_tests`; the list may only shrink.
";

/// The names of the cases in a list.
pub fn parse(list: &str) -> BTreeSet<String> {
    list.lines().filter_map(|line| line.strip_prefix("  ")).map(str::to_owned).collect()
}

/// The list of these cases and their reasons, the reason with most cases first.
pub fn print<'a>(refused: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut groups = BTreeMap::<String, Vec<&str>>::new();
    for (case, why) in refused {
        groups.entry(normalised(why)).or_default().push(case);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, cases)| std::cmp::Reverse(cases.len()));
    let total: usize = groups.iter().map(|(_, cases)| cases.len()).sum();
    let mut out = format!("{HEAD}# {total} in all.\n");
    for (why, mut cases) in groups {
        cases.sort_unstable();
        let _ = writeln!(out, "\n{} × {why}", cases.len()); // writing to a string does not fail
        cases.iter().for_each(|case| out.extend(["  ", case, "\n"]));
    }
    out
}

/// A reason without what differs from case to case: its first line, numbers as `#`, and the ops that further lines
/// list.
fn normalised(why: &str) -> String {
    let mut lines = why.lines();
    let first = lines.next().unwrap_or_default();
    // A listed op looks like `    2× Foo: `node`, `other``.
    let ops = lines.filter_map(|line| line.split_once("× ")?.1.split(':').next());
    let line = ops.fold(first.to_owned(), |line, op| line + " " + op);
    let mut out = String::new();
    for c in line.chars() {
        match c.is_ascii_digit() {
            true if out.ends_with('#') => {}
            true => out.push('#'),
            false => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_by_what_is_left_of_the_reason() {
        let list =
            print([("b", "rank 3 is too high\n  node: x"), ("a", "rank 12 is too high"), ("c", "no:\n  2× Op: `x`")]);
        assert!(list.ends_with("# 3 in all.\n\n2 × rank # is too high\n  a\n  b\n\n1 × no: Op\n  c\n"), "{list}");
        assert_eq!(parse(&list), ["a", "b", "c"].map(str::to_owned).into());
    }
}
