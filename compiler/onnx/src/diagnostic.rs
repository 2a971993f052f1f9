//! The error type of this crate: which model, which node, which op, what is wrong, what to do.

use std::fmt;

/// What class of failure a [`Diagnostic`] is; the command line maps it to an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DiagnosticKind {
    /// The model itself is wrong: corrupt bytes, a dangling name, a broken constraint.
    BadModel,
    /// The model is fine, but uses something that is not supported.
    Unsupported,
    /// A file could not be read or written.
    Io,
}

/// An error about a model, with as much of the place as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic(Box<Parts>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    kind: DiagnosticKind,
    stage: &'static str,
    reason: String,
    model: Option<String>,
    node: Option<(String, String, Option<i64>)>,
    hint: Option<String>,
}

impl Diagnostic {
    /// An error of the model, found in `stage` (`import`, `export`, `read`).
    pub fn new(stage: &'static str, reason: impl Into<String>) -> Self {
        Diagnostic(Box::new(Parts {
            kind: DiagnosticKind::BadModel,
            stage,
            reason: reason.into(),
            model: None,
            node: None,
            hint: None,
        }))
    }

    /// Something that optc does not support.
    pub fn unsupported(stage: &'static str, reason: impl Into<String>) -> Self {
        let mut d = Diagnostic::new(stage, reason);
        d.0.kind = DiagnosticKind::Unsupported;
        d
    }

    /// A failed file operation on `path`.
    pub fn io(stage: &'static str, path: &std::path::Path, error: &std::io::Error) -> Self {
        let mut d = Diagnostic::new(stage, format!("`{}`: {error}", path.display()));
        d.0.kind = DiagnosticKind::Io;
        d
    }

    /// Adds the node, unless a more precise place is already known.
    pub fn at_node(mut self, name: &str, op: &str, opset: Option<i64>) -> Self {
        self.0.node.get_or_insert_with(|| (name.to_owned(), op.to_owned(), opset));
        self
    }

    /// Adds the name of the model.
    pub fn in_model(mut self, model: impl Into<String>) -> Self {
        self.0.model.get_or_insert_with(|| model.into());
        self
    }

    /// Adds advice.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// The class of the failure.
    pub fn kind(&self) -> DiagnosticKind {
        self.0.kind
    }

    /// What is wrong, without the place.
    pub fn reason(&self) -> &str {
        &self.0.reason
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p = &self.0;
        write!(f, "{}: {}", p.stage, p.reason)?;
        if let Some(model) = &p.model {
            write!(f, "\n  model: {model}")?;
        }
        if let Some((name, op, opset)) = &p.node {
            write!(f, "\n  node:  `{name}` ({op}")?;
            match opset {
                Some(v) => write!(f, ", opset {v})")?,
                None => write!(f, ")")?,
            }
        }
        if let Some(hint) = &p.hint {
            write!(f, "\n  hint:  {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_every_known_part() {
        let d = Diagnostic::new("import", "`pads` has 3 entries, expected 4")
            .at_node("conv1", "Conv", Some(13))
            .at_node("outer", "If", Some(13))
            .in_model("m.onnx")
            .hint("one entry per side of each spatial dim");
        assert_eq!(
            d.to_string(),
            "import: `pads` has 3 entries, expected 4\n  model: m.onnx\n  node:  `conv1` (Conv, opset 13)\n  \
             hint:  one entry per side of each spatial dim"
        );
    }
}
