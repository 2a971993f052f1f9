//! From a path to a graph or a model: ONNX, text form and artifacts are told apart by their first bytes.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use optc::{Compiler, FileAccess, Model, Options};
use optc_ir::{Graph, infer_types};
use optc_onnx::ModelFile;
use optc_tensor::open_plain;

use crate::exit::{CommandError, Exit, Outcome};
use crate::report::note;
use crate::text_form;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// An ONNX model.
    Onnx,
    /// A graph as text.
    Text,
    /// A `.optc` artifact.
    Artifact,
}

/// Bytes that are looked at to tell text from protobuf.
const SNIFFED: u64 = 64 << 10;

/// What the file at `path` holds.
///
/// # Errors
/// The file cannot be read.
pub fn kind(path: &Path) -> Outcome<FileKind> {
    if path == Path::new("-") {
        return Ok(FileKind::Text);
    }
    let mut head = Vec::new();
    let file = open_plain(path).map_err(|e| CommandError::io(path, &e))?;
    file.take(SNIFFED).read_to_end(&mut head).map_err(|e| CommandError::io(path, &e))?;
    let by_name = path.extension().is_some_and(|e| e == "mlir" || e == "optc-ir");
    Ok(if optc::is_artifact(path) {
        FileKind::Artifact
    } else if by_name || begins_like_text(&head) {
        FileKind::Text
    } else {
        FileKind::Onnx
    })
}

/// Whether the first word after blanks and comments is `func`.
fn begins_like_text(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head);
    let code = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("//"));
    code.is_some_and(|line| line.starts_with("func ") || line.starts_with("func@"))
}

/// The graph of an ONNX or text file as it is before any pass. Text is read; other files are mapped or read.
///
/// # Errors
/// The file cannot be read, or does not hold a valid graph.
pub fn graph(path: &Path, access: FileAccess) -> Outcome<Graph> {
    match kind(path)? {
        FileKind::Onnx => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let file = ModelFile::open_as(path, access)?;
            let graph = optc_onnx::import_model(&file).map_err(|d| d.in_model(name))?;
            optc_onnx::notes(&file).iter().for_each(|text| note(text));
            Ok(graph)
        }
        FileKind::Text => text_form::read(path),
        FileKind::Artifact => {
            let copy = access == FileAccess::Copy;
            let compiler = Compiler::new(Options { keep_graph: true, copy, ..Options::default() });
            let model = compiler.load(path)?;
            model.graph().cloned().ok_or_else(|| optc::Error::NoGraph.into())
        }
    }
}

/// A compiled model and how long its parts took.
#[derive(Debug)]
pub struct LoadedModel {
    /// The model.
    pub model: Model,
    /// Reading the file into a graph; zero for an artifact, whose reading counts as compilation.
    pub import: Duration,
    /// Passes and code generation, as far as they do not wait for input shapes.
    pub compile: Duration,
}

/// Compiles or loads the model at `path`.
///
/// # Errors
/// The file cannot be read, is not valid, uses what is not supported, or cannot be compiled.
pub fn load(path: &Path, compiler: &Compiler) -> Outcome<LoadedModel> {
    let start = Instant::now();
    let (import, model) = match kind(path)? {
        FileKind::Artifact => (Duration::ZERO, compiler.load(path)?),
        FileKind::Onnx | FileKind::Text => {
            let graph = graph(path, compiler.options().access())?;
            let import = start.elapsed();
            (import, compiler.compile_graph(graph)?)
        }
    };
    Ok(LoadedModel { model, import, compile: start.elapsed() - import })
}

/// The graph with every type that follows from the inputs'.
///
/// # Errors
/// An op refuses its operands.
pub fn inferred(mut graph: Graph) -> Outcome<Graph> {
    infer_types(&mut graph).map_err(|e| CommandError::new(Exit::BadModel, e.to_string()))?;
    Ok(graph)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_told_from_protobuf() {
        assert!(begins_like_text(b"// a comment\n\n  func @main() {"));
        assert!(!begins_like_text(b"\x08\x08\x12\x07pytorch"));
        assert!(!begins_like_text(b""));
    }
}
