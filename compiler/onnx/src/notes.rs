//! What a model's file says of itself, beside its graph: kept as notes of the graph from import to export.
//!
//! `opset` is the version of the standard operator set and `ir_version` that of the format; `domain`, `model_version`
//! and `doc_string` are the model's own, `graph.doc_string` its graph's, and `metadata.KEY` its free-form entries.
//! `dims.NAME` are the declared extents of an output whose rank is not known otherwise.

use optc_ir::{Dim, Graph, TensorType, Type};

use crate::model::ModelFile;
use crate::proto::{ModelProto, StringStringEntryProto};

/// Stands before the key of a free-form entry.
const METADATA: &str = "metadata.";
/// Stands before the name of an output.
const DIMS: &str = "dims.";

/// The notes of a model; what is empty has none.
pub(crate) fn notes_of(file: &ModelFile) -> Vec<(String, String)> {
    let model = &file.model;
    let number = |n: i64| if n == 0 { String::new() } else { n.to_string() };
    let opset = file.opsets.get("").copied().unwrap_or_default();
    let fixed = [
        ("opset", number(opset)),
        ("ir_version", number(model.ir_version())),
        ("domain", model.domain().to_owned()),
        ("model_version", number(model.model_version())),
        ("doc_string", model.doc_string().to_owned()),
        ("graph.doc_string", file.graph().doc_string().to_owned()),
    ];
    let fixed = fixed.into_iter().map(|(key, text)| (key.to_owned(), text));
    let entries = model.metadata_props.iter().map(|e| (format!("{METADATA}{}", e.key()), e.value().to_owned()));
    fixed.filter(|(_, text)| !text.is_empty()).chain(entries).collect()
}

/// Notes the extents that an output is declared with, where its own type lacks them: the format asks for some.
pub(crate) fn note_dims(graph: &mut Graph, name: &str, declared: &Type, own: &Type) {
    let shape = declared.as_tensor().and_then(|t| t.shape.as_ref());
    if let (Some(dims), Some(TensorType { shape: None, .. })) = (shape, own.as_tensor()) {
        let dim = |d: &Dim| match d {
            Dim::Named(name) if name.contains(',') => Dim::Unknown.to_string(),
            dim => dim.to_string(),
        };
        let text = dims.iter().map(dim).collect::<Vec<_>>().join(",");
        graph.notes.push((format!("{DIMS}{name}"), text));
    }
}

/// The type that an output is declared with: its own, with the extents that were noted where it lacks them.
pub(crate) fn declared(graph: &Graph, name: &str, own: &Type) -> Type {
    let dim = |word: &str| match word.parse() {
        Ok(n) => Dim::Known(n),
        Err(_) if word == "?" => Dim::Unknown,
        Err(_) => Dim::Named(word.into()),
    };
    match (own.as_tensor(), graph.note(&format!("{DIMS}{name}"))) {
        (Some(t @ TensorType { shape: None, .. }), Some(text)) => {
            TensorType::of(t.dtype, Some(text.split(',').filter(|word| !word.is_empty()).map(dim).collect())).into()
        }
        _ => own.clone(),
    }
}

/// The number that a note is.
pub(crate) fn number(graph: &Graph, key: &str) -> Option<i64> {
    graph.note(key)?.parse().ok()
}

/// Writes the notes of a graph into its model, but for the versions.
pub(crate) fn restore(graph: &Graph, model: &mut ModelProto) {
    let text = |key: &str| graph.note(key).map(str::to_owned);
    model.domain = text("domain");
    model.model_version = number(graph, "model_version");
    model.doc_string = text("doc_string");
    if let Some(main) = &mut model.graph {
        main.doc_string = text("graph.doc_string");
    }
    let entry = |(key, value): &(String, String)| {
        let key = Some(key.strip_prefix(METADATA)?.to_owned());
        Some(StringStringEntryProto { key, value: Some(value.clone()) })
    };
    model.metadata_props = graph.notes.iter().filter_map(entry).collect();
}
