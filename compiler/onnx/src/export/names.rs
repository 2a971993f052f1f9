//! Names that no two values, or nodes, of a model share where one could be taken for the other.
//!
//! A subgraph may not name anything as the graphs around it do, but two subgraphs side by side may use the same names:
//! what a scope takes is free again when it ends.

use std::collections::{HashMap, HashSet};

/// The names that are taken in the open scopes.
#[derive(Default)]
pub(super) struct NameSet {
    taken: HashSet<String>,
    /// What each open scope has taken, the innermost last.
    scopes: Vec<Vec<String>>,
    /// How many names were made from each.
    made: HashMap<String, usize>,
}

impl NameSet {
    /// Begins a scope inside of the others.
    pub(super) fn open(&mut self) {
        self.scopes.push(vec![]);
    }

    /// Ends the innermost scope; gives the names that are free again.
    pub(super) fn close(&mut self) -> Vec<String> {
        let free = self.scopes.pop().unwrap_or_default();
        for name in &free {
            self.taken.remove(name);
        }
        free
    }

    fn take(&mut self, name: &str) -> bool {
        let is_free = self.taken.insert(name.to_owned());
        if let Some(scope) = self.scopes.last_mut().filter(|_| is_free) {
            scope.push(name.to_owned());
        }
        is_free
    }

    /// `wanted`, or where that is empty or taken the first of `wanted_0`, `wanted_1`, … that is not.
    pub(super) fn unique(&mut self, wanted: &str) -> String {
        if !wanted.is_empty() && self.take(wanted) {
            return wanted.to_owned();
        }
        self.numbered(wanted)
    }

    /// The first of `base_0`, `base_1`, … that is not taken.
    pub(super) fn numbered(&mut self, base: &str) -> String {
        let base = if base.is_empty() { "v" } else { base };
        let mut number = self.made.get(base).copied().unwrap_or(0);
        loop {
            let name = format!("{base}_{number}");
            number += 1;
            if self.take(&name) {
                self.made.insert(base.to_owned(), number);
                return name;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_side_by_side_may_share_names_and_nested_ones_may_not() {
        let mut names = NameSet::default();
        names.open();
        assert_eq!((names.unique("x"), names.unique("x"), names.unique("")), ("x".into(), "x_0".into(), "v_0".into()));
        names.open();
        assert_eq!((names.unique("x"), names.unique("y")), ("x_1".into(), "y".into()));
        assert_eq!(names.close(), ["x_1", "y"]);
        names.open();
        assert_eq!(names.unique("y"), "y");
        names.close();
        assert_eq!(names.unique("y"), "y");
    }

    /// A name that is made is none that the model has, whichever comes first.
    #[test]
    fn made_names_step_around_those_that_are_taken() {
        let mut names = NameSet::default();
        names.open();
        let given: Vec<String> = ["x_0", "x_2", "x"].iter().map(|name| names.unique(name)).collect();
        assert_eq!(given, ["x_0", "x_2", "x"]);
        assert_eq!(
            (names.numbered("x"), names.unique("x"), names.unique("x_0")),
            ("x_1".into(), "x_3".into(), "x_0_0".into())
        );
    }
}
