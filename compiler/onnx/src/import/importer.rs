//! A model on its way into the IR, and the names in scope.

use std::collections::HashMap;

use optc_ir::{Graph, Value};

use crate::attributes::Bindings;
use crate::model::{ModelFile, Opsets};
use crate::notes::notes_of;
use crate::{Diagnostic, Names};

/// The deepest nesting of function calls and subgraphs.
const MAX_DEPTH: usize = 48;

/// The names in scope of one graph or function body.
pub(super) struct NameScope<'a> {
    /// What each name stands for; `None` for an input of a function that the call leaves out.
    pub(super) values: HashMap<String, Option<Value>>,
    pub(super) opsets: &'a Opsets,
    pub(super) bindings: &'a Bindings,
    pub(super) depth: usize,
}

impl<'a> NameScope<'a> {
    /// An empty scope one level deeper.
    ///
    /// # Errors
    /// The nesting is too deep.
    pub(super) fn inner(&self) -> Result<NameScope<'a>, Diagnostic> {
        if self.depth >= MAX_DEPTH {
            let reason = format!("function calls and subgraphs are nested deeper than {MAX_DEPTH}");
            return Err(Diagnostic::new("import", reason).hint("a function must not call itself"));
        }
        Ok(NameScope { values: HashMap::new(), depth: self.depth + 1, ..*self })
    }

    /// Defines a name; `kind` says what it is of.
    ///
    /// # Errors
    /// The name is empty, which means an absent input in ONNX, or it is defined already.
    pub(super) fn define(&mut self, kind: &str, name: &str, value: Value) -> Result<(), Diagnostic> {
        if name.is_empty() {
            return Err(Diagnostic::new("import", format!("an {kind} has no name")));
        }
        if self.values.insert(name.to_owned(), Some(value)).is_some() {
            return Err(Diagnostic::new("import", format!("{kind} `{name}` is defined twice")));
        }
        Ok(())
    }

    /// The value of a name; `None` where it is absent.
    pub(super) fn get(&self, name: &str) -> Option<Value> {
        self.values.get(name).copied().flatten()
    }
}

/// A model on its way into the IR.
pub(super) struct Importer<'a> {
    pub(super) file: &'a ModelFile,
    /// The graph or region that is being built.
    pub(super) graph: Graph,
    /// Nodes that were walked.
    pub(super) nodes: usize,
    /// What the file's subgraphs capture.
    pub(super) names: Names,
    /// Whether nodes whose types are not known well enough wait for that; else they are errors.
    pub(super) waits: bool,
}

impl<'a> Importer<'a> {
    /// An importer of this model.
    pub(super) fn new(file: &'a ModelFile, waits: bool) -> Importer<'a> {
        let name = file.graph().name();
        let mut graph = Graph::new(if name.is_empty() { "main" } else { name });
        graph.notes = notes_of(file);
        Importer { file, graph, nodes: 0, names: Names::default(), waits }
    }
}
