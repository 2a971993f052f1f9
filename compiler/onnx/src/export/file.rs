//! A model as a file, and as two where it is too large for one: what protobuf encodes ends at 2 GB, so larger models
//! have their constants in a data file beside them.
//!
//! The data file is complete before the model takes its place, and neither does when the other cannot be written: an
//! error or a kill leaves a model with the data that it names.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use optc_ir::Graph;
use prost::Message;

use super::{OpsetRaise, export_at};
use crate::Diagnostic;
use crate::proto::tensor_proto::DataLocation;
use crate::proto::{GraphProto, ModelProto, StringStringEntryProto, TensorProto};

/// The most bytes that a model in one file may have: protobuf ends there.
const MAX_BYTES: usize = (1 << 31) - (1 << 20);
/// The fewest bytes of a constant in a data file: shapes and scalars stay in the model, where tools look for them.
const MIN_EXTERNAL: usize = 1024;
/// Constants in a data file begin at multiples of this, so that a runtime can map them.
const ALIGN: usize = 4096;

/// Where the constants of a model go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ExternalData {
    /// Into a data file beside the model where one file would be too large.
    #[default]
    WhenNeeded,
    /// Into a data file beside the model.
    Always,
}

/// How a model is written.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// The operator set; without one that of the imported model, or the least newer one that suffices.
    pub opset: Option<i64>,
    /// Where the constants go.
    pub external: ExternalData,
    /// The most bytes that a model in one file may have.
    pub max_bytes: usize,
}

impl Default for ExportOptions {
    fn default() -> Self {
        ExportOptions { opset: None, external: ExternalData::default(), max_bytes: MAX_BYTES }
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The bytes of the model and its data file.
    pub bytes: u64,
    /// The data file, if there is one.
    pub data: Option<PathBuf>,
    /// Set where a newer operator set was needed than that of the imported model.
    pub raised: Option<OpsetRaise>,
}

/// Writes `graph` as a model file, with a data file where it is too large for one; returns their bytes.
///
/// # Errors
/// As [`export_model`](super::export_model); also when a file cannot be written.
pub fn export_file(graph: &Graph, path: &Path) -> Result<u64, Diagnostic> {
    Ok(export_file_as(graph, path, &ExportOptions::default())?.bytes)
}

/// As [`export_file`], with options.
///
/// # Errors
/// As [`export_file`]; also when an op does not exist in the operator set that is asked for.
pub fn export_file_as(graph: &Graph, path: &Path, options: &ExportOptions) -> Result<Exported, Diagnostic> {
    let (mut model, raised) = export_at(graph, options.opset)?;
    let failed = |e: std::io::Error| Diagnostic::io("export", path, &e);
    if options.external == ExternalData::WhenNeeded && model.encoded_len() <= options.max_bytes {
        let bytes = model.encode_to_vec();
        let bytes = optc_tensor::write_file(path, |file| file.write_all(&bytes)).map_err(failed)?;
        return Ok(Exported { bytes, data: None, raised });
    }
    let data = data_file(path);
    let location = data.file_name().and_then(|name| name.to_str());
    let location = location.ok_or_else(|| Diagnostic::new("export", "the name of the data file is not UTF-8"))?;
    let parts = move_out(&mut model, location);
    let size = model.encoded_len();
    if size > MAX_BYTES {
        let reason = format!("the model takes {size} bytes beside its data file, more than a file may have");
        return Err(Diagnostic::unsupported("export", reason));
    }
    if !is_plain(path) {
        let reason = format!("`{}` is not a plain file, which a model with a data file must be", path.display());
        return Err(Diagnostic::unsupported("export", reason));
    }
    let mut bytes = 0;
    bytes += optc_tensor::write_file(path, |file| {
        file.write_all(&model.encode_to_vec())?;
        bytes = optc_tensor::write_file(&data, |file| write_parts(file, &parts))?;
        std::io::Result::Ok(())
    })
    .map_err(failed)?;
    Ok(Exported { bytes, data: Some(data), raised })
}

/// The data file of the model at `path`.
pub fn data_file(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".data");
    PathBuf::from(name)
}

/// Whether there is a plain file at a path, or nothing.
fn is_plain(path: &Path) -> bool {
    std::fs::metadata(path).map_or(true, |meta| meta.is_file())
}

/// Takes the larger constants out of a model, which says where they lie in the data file from now on.
fn move_out(model: &mut ModelProto, location: &str) -> Vec<(usize, Bytes)> {
    let (mut parts, mut end) = (vec![], 0usize);
    let mut graphs: Vec<&mut GraphProto> = model.graph.iter_mut().collect();
    while let Some(graph) = graphs.pop() {
        for tensor in &mut graph.initializer {
            if let Some(bytes) = tensor.raw_data.take_if(|bytes| bytes.len() >= MIN_EXTERNAL) {
                let start = end.next_multiple_of(ALIGN);
                end = start + bytes.len();
                point(tensor, location, start, bytes.len());
                parts.push((start, bytes));
            }
        }
        graphs.extend(graph.node.iter_mut().flat_map(|n| &mut n.attribute).filter_map(|a| a.g.as_mut()));
    }
    parts
}

/// Makes a tensor say that it lies in a data file.
fn point(tensor: &mut TensorProto, location: &str, offset: usize, length: usize) {
    let entry = |key: &str, value: String| StringStringEntryProto { key: Some(key.to_owned()), value: Some(value) };
    tensor.data_location = Some(DataLocation::External as i32);
    tensor.external_data = vec![
        entry("location", location.to_owned()),
        entry("offset", offset.to_string()),
        entry("length", length.to_string()),
    ];
}

fn write_parts(file: &mut File, parts: &[(usize, Bytes)]) -> std::io::Result<()> {
    let (mut out, mut at) = (BufWriter::new(file), 0);
    for (start, bytes) in parts {
        out.write_all(&[0; ALIGN][..start - at])?;
        out.write_all(bytes)?;
        at = start + bytes.len();
    }
    out.flush()
}
