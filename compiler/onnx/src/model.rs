//! A model file in memory: decoded messages, opsets, local functions and data files, before it becomes a graph.
//!
//! The file is memory-mapped, or read whole ([`FileAccess`]); tensor data stays there until it is used.
//! [`ModelFile::check_ops`] reports every op that a model needs and optc lacks in one error.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use optc_tensor::{FileAccess, FileBytes};
use prost::Message;

use crate::external::ExternalFiles;
use crate::proto::{
    AttributeProto, FunctionProto, MAX_IR_VERSION, ModelProto, NodeProto, OperatorSetIdProto, SparseTensorProto,
    TensorProto,
};
use crate::{Diagnostic, proto};

/// The oldest IR version that is read.
const MIN_IR_VERSION: i64 = 3;
/// The oldest version of the standard operator set that is read.
pub(crate) const MIN_OPSET: i64 = 7;
/// The newest version of the standard operator set that is known.
pub const MAX_OPSET: i64 = 28;
/// How many nodes of one op an error names.
const NAMED_NODES: usize = 3;

/// The version of each operator set in force; the standard domain is `""`.
pub type Opsets = BTreeMap<String, i64>;

/// A decoded model and what belongs to it.
#[derive(Debug)]
pub struct ModelFile {
    /// The decoded messages; `graph` is present.
    pub model: ModelProto,
    /// The files that external data lies in.
    pub files: ExternalFiles,
    /// The model's operator sets.
    pub opsets: Opsets,
    functions: HashMap<(String, String), usize>,
}

/// The tensors that a sparse one is made of.
fn parts(sparse: &SparseTensorProto) -> impl Iterator<Item = &TensorProto> {
    sparse.values.iter().chain(&sparse.indices)
}

/// The canonical spelling of a domain: `ai.onnx` is the standard domain, `""`.
pub fn canonical_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

impl ModelFile {
    /// Maps and decodes the file at `path`: tensors lie in the map, or in those of its data files, for as long as they
    /// are used.
    ///
    /// # Errors
    /// The file cannot be read, is not an ONNX model, or is of a version that is not supported.
    pub fn open(path: &Path) -> Result<ModelFile, Diagnostic> {
        Self::open_as(path, FileAccess::Map)
    }

    /// Maps, or reads, and decodes the file at `path`; its data files are held in the same way.
    ///
    /// # Errors
    /// As [`ModelFile::open`].
    pub fn open_as(path: &Path, access: FileAccess) -> Result<ModelFile, Diagnostic> {
        let bytes = FileBytes::open(path, access).map_err(|e| Diagnostic::io("read", path, &e))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Self::decode(Bytes::from_owner(bytes), ExternalFiles::beside(path, access)).map_err(|d| d.in_model(name))
    }

    /// Decodes a model from memory; it cannot have external data.
    ///
    /// # Errors
    /// As [`ModelFile::open`].
    pub fn from_bytes(bytes: &[u8]) -> Result<ModelFile, Diagnostic> {
        Self::decode(Bytes::copy_from_slice(bytes), ExternalFiles::none())
    }

    fn decode(bytes: Bytes, files: ExternalFiles) -> Result<ModelFile, Diagnostic> {
        let bad = |reason: String| Diagnostic::new("import", reason);
        if bytes.is_empty() {
            return Err(bad("the file is empty".to_owned()));
        }
        let model = ModelProto::decode(bytes)
            .map_err(|e| bad(format!("not an ONNX model: {e}")).hint("the file may be truncated"))?;
        if model.graph.is_none() {
            return Err(bad("the model has no graph".to_owned()).hint("is the file an ONNX model?"));
        }
        check_ir_version(model.ir_version())?;
        let opsets = opsets_of(&model.opset_import)?;
        let mut functions = HashMap::new();
        for (i, f) in model.functions.iter().enumerate() {
            let key = (canonical_domain(f.domain()).to_owned(), f.name().to_owned());
            if functions.insert(key, i).is_some() {
                return Err(bad(format!("function `{}` is defined twice", f.name())));
            }
        }
        Ok(ModelFile { model, files, opsets, functions })
    }

    /// The model's main graph.
    pub fn graph(&self) -> &proto::GraphProto {
        self.model.graph.as_ref().expect("checked when the model was decoded")
    }

    /// The files that hold tensors of the model.
    pub fn data_files(&self) -> Vec<PathBuf> {
        let mut found = vec![];
        let mut graphs = vec![self.graph()];
        let mut attributes: Vec<&AttributeProto> =
            self.model.functions.iter().flat_map(|f| &f.node).flat_map(|n| &n.attribute).collect();
        loop {
            if let Some(a) = attributes.pop() {
                let sparse = a.sparse_tensor.iter().chain(&a.sparse_tensors).flat_map(parts);
                found.extend(a.t.iter().chain(&a.tensors).chain(sparse).filter_map(|t| self.files.path(t)));
                graphs.extend(a.g.iter().chain(&a.graphs));
            } else if let Some(g) = graphs.pop() {
                let sparse = g.sparse_initializer.iter().flat_map(parts);
                found.extend(g.initializer.iter().chain(sparse).filter_map(|t| self.files.path(t)));
                attributes.extend(g.node.iter().flat_map(|n| &n.attribute));
            } else {
                found.sort();
                found.dedup();
                return found;
            }
        }
    }

    /// The model-local function that `node` calls, if it calls one.
    pub fn function(&self, node: &NodeProto) -> Option<&FunctionProto> {
        let key = (canonical_domain(node.domain()).to_owned(), node.op_type().to_owned());
        self.functions.get(&key).map(|&i| &self.model.functions[i])
    }

    /// How often each (domain, op) occurs, subgraphs and called functions included, with the nodes' names.
    pub fn op_histogram(&self) -> BTreeMap<(String, String), Vec<String>> {
        let mut histogram = BTreeMap::new();
        let mut pending: Vec<&[NodeProto]> = vec![&self.graph().node];
        let mut seen = vec![false; self.model.functions.len()];
        while let Some(nodes) = pending.pop() {
            for node in nodes {
                let key = (canonical_domain(node.domain()).to_owned(), node.op_type().to_owned());
                pending.extend(node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)).map(|g| &g.node[..]));
                if let Some(&f) = self.functions.get(&key) {
                    if !std::mem::replace(&mut seen[f], true) {
                        pending.push(&self.model.functions[f].node);
                    }
                    continue;
                }
                histogram.entry(key).or_insert_with(Vec::new).push(label(node));
            }
        }
        histogram
    }

    /// Reports every op for which `known(domain, op)` is false, with counts and node names.
    ///
    /// # Errors
    /// There is such an op.
    pub fn check_ops(&self, known: impl Fn(&str, &str) -> bool) -> Result<(), Diagnostic> {
        let mut missing: Vec<_> = self.op_histogram().into_iter().filter(|((d, op), _)| !known(d, op)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        missing.sort_by_key(|(_, nodes)| std::cmp::Reverse(nodes.len())); // stable: equal counts stay by name
        let total: usize = missing.iter().map(|(_, nodes)| nodes.len()).sum();
        let mut reason = format!("{total} nodes use {} ops that are not supported:", missing.len());
        for ((domain, op), nodes) in &missing {
            let prefix = if domain.is_empty() { String::new() } else { format!("{domain}.") };
            let names: Vec<_> = nodes.iter().take(NAMED_NODES).map(|n| format!("`{n}`")).collect();
            let more = if nodes.len() > NAMED_NODES { ", …" } else { "" };
            reason += &format!("\n    {}× {prefix}{op}: {}{more}", nodes.len(), names.join(", "));
        }
        let error = Diagnostic::unsupported("import", reason);
        let any = |is: fn(&str) -> bool| missing.iter().any(|((domain, _), _)| is(domain));
        Err(if any(|domain| domain == BLOCKED_LAYOUT) {
            error.hint("save the model at a lower level of graph optimization than `all` (ORT_ENABLE_EXTENDED)")
        } else if any(|domain| !domain.is_empty() && !domain.starts_with("ai.onnx")) {
            error.hint("a program can register ops of its own: `optc::custom::register_custom_op`, `optc_register_op`")
        } else {
            error
        })
    }
}

/// The domain of ops in the layout that ONNX Runtime chooses for the machine that it optimizes a model on.
const BLOCKED_LAYOUT: &str = "com.microsoft.nchwc";

/// What to call a node in a message: its name, or that of its first result.
pub fn label(node: &NodeProto) -> String {
    match node.name() {
        "" => node.output.iter().find(|n| !n.is_empty()).cloned().unwrap_or_default(),
        name => name.to_owned(),
    }
}

fn check_ir_version(version: i64) -> Result<(), Diagnostic> {
    match version {
        MIN_IR_VERSION..=MAX_IR_VERSION => Ok(()),
        v if v > MAX_IR_VERSION => {
            let reason = format!("IR version {v} is newer than {MAX_IR_VERSION}, the newest that is supported");
            Err(Diagnostic::unsupported("import", reason))
        }
        0 => Err(Diagnostic::new("import", "the model has no IR version").hint("is the file an ONNX model?")),
        v => Err(Diagnostic::unsupported("import", format!("IR version {v} is older than {MIN_IR_VERSION}"))),
    }
}

/// Reads a list of operator sets. Domains that no node uses do no harm: they are kept and not checked.
///
/// # Errors
/// A domain occurs with two versions, or the standard one is too old or too new.
pub fn opsets_of(imports: &[OperatorSetIdProto]) -> Result<Opsets, Diagnostic> {
    let mut opsets = Opsets::new();
    for import in imports {
        let domain = canonical_domain(import.domain());
        if let Some(old) = opsets.insert(domain.to_owned(), import.version())
            && old != import.version()
        {
            let reason = format!("operator set `{domain}` is imported with versions {old} and {}", import.version());
            return Err(Diagnostic::new("import", reason));
        }
    }
    match opsets.get("") {
        Some(&v) if !(MIN_OPSET..=MAX_OPSET).contains(&v) => {
            let reason = format!("operator set version {v} is not supported: expected {MIN_OPSET} to {MAX_OPSET}");
            Err(Diagnostic::unsupported("import", reason).hint("convert the model with `onnx.version_converter`"))
        }
        _ => Ok(opsets),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DiagnosticKind;
    use crate::proto::{AttributeProto, GraphProto};

    fn node(op: &str, name: &str) -> NodeProto {
        NodeProto { op_type: Some(op.into()), name: Some(name.into()), ..NodeProto::default() }
    }

    fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
        OperatorSetIdProto { domain: Some(domain.into()), version: Some(version) }
    }

    fn model(node: Vec<NodeProto>) -> ModelProto {
        ModelProto {
            ir_version: Some(8),
            opset_import: vec![opset("ai.onnx", 17), opset("unused.domain", 1)],
            graph: Some(GraphProto { node, ..GraphProto::default() }),
            ..ModelProto::default()
        }
    }

    fn read(m: &ModelProto) -> Result<ModelFile, Diagnostic> {
        ModelFile::from_bytes(&m.encode_to_vec())
    }

    #[test]
    fn the_standard_domain_has_two_spellings_and_unused_ones_are_harmless() {
        assert_eq!(read(&model(vec![])).unwrap().opsets[""], 17);
        let both = ModelProto { opset_import: vec![opset("", 17), opset("ai.onnx", 18)], ..model(vec![]) };
        assert!(read(&both).unwrap_err().reason().contains("17 and 18"));
    }

    #[test]
    fn versions_outside_of_the_range_are_refused() {
        for version in [1, 2, 15] {
            let m = ModelProto { ir_version: Some(version), ..model(vec![]) };
            assert_eq!(read(&m).unwrap_err().kind(), DiagnosticKind::Unsupported);
        }
        let m = ModelProto { opset_import: vec![opset("", 6)], ..model(vec![]) };
        assert_eq!(read(&m).unwrap_err().kind(), DiagnosticKind::Unsupported);
        assert_eq!(read(&ModelProto::default()).unwrap_err().kind(), DiagnosticKind::BadModel);
    }

    #[test]
    fn all_missing_ops_come_in_one_error() {
        let body = GraphProto { node: vec![node("Inner", "deep")], ..GraphProto::default() };
        let attribute = vec![AttributeProto { g: Some(body), ..AttributeProto::default() }];
        let call = NodeProto { domain: Some("local".into()), ..node("F", "call") };
        let function = FunctionProto {
            name: Some("F".into()),
            domain: Some("local".into()),
            node: vec![node("FromF", "in_f")],
            ..FunctionProto::default()
        };
        let nodes = vec![node("A", "a1"), node("A", "a2"), node("Ok", "k"), call.clone(), call];
        let mut m = model(nodes);
        m.functions = vec![function];
        m.graph.as_mut().unwrap().node.push(NodeProto { attribute, ..node("If", "if") });
        let error = read(&m).unwrap().check_ops(|_, op| op == "Ok" || op == "If").unwrap_err();
        assert_eq!(error.kind(), DiagnosticKind::Unsupported);
        assert_eq!(
            error.reason(),
            "4 nodes use 3 ops that are not supported:\n    2× A: `a1`, `a2`\n    1× FromF: `in_f`\n\
             \x20   1× Inner: `deep`"
        );
    }

    #[test]
    fn layouts_of_one_machine_are_refused_with_a_way_out() {
        let blocked = NodeProto { domain: Some(BLOCKED_LAYOUT.into()), ..node("Conv", "c") };
        let error = read(&model(vec![blocked])).unwrap().check_ops(|domain, _| domain.is_empty()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("com.microsoft.nchwc.Conv: `c`") && text.contains("ORT_ENABLE_EXTENDED"), "{text}");
    }

    #[test]
    fn truncated_and_deeply_nested_bytes_are_errors() {
        let bytes = model(vec![node("A", "a1"), node("B", "b")]).encode_to_vec();
        for n in 0..bytes.len() {
            let _ = ModelFile::from_bytes(&bytes[..n]); // some prefixes are models; none may panic
        }
        let mut nested = GraphProto::default();
        for _ in 0..60 {
            let attribute = vec![AttributeProto { g: Some(nested), ..AttributeProto::default() }];
            nested = GraphProto { node: vec![NodeProto { attribute, ..node("If", "") }], ..GraphProto::default() };
        }
        let m = ModelProto { graph: Some(nested), ..model(vec![]) };
        assert!(read(&m).is_err());
        assert_eq!(ModelFile::open(Path::new("/nonexistent/m.onnx")).unwrap_err().kind(), DiagnosticKind::Io);
    }
}
