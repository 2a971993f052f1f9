//! How the commands that write ONNX models do so.

use std::path::{Path, PathBuf};

use optc_ir::Graph;
use optc_onnx::{ExportOptions, ExternalData, data_file, export_file_as};

use crate::exit::Outcome;
use crate::report::note;

/// How an ONNX model is written.
#[derive(Debug, Clone, clap::Args)]
pub struct ExportArgs {
    /// The operator set of an ONNX model that is written, instead of the read one's or the next that suffices
    #[arg(long, value_name = "N")]
    opset: Option<i64>,
    /// Write the constants of an ONNX model into a file beside it, named as the model and `.data`; models above 2 GB
    /// are written so without being told
    #[arg(long)]
    external_data: bool,
}

impl ExportArgs {
    /// Writes the model; returns the bytes of its files.
    ///
    /// # Errors
    /// An op cannot be written, or a file cannot.
    pub fn write(&self, graph: &Graph, path: &Path) -> Outcome<u64> {
        let external = if self.external_data { ExternalData::Always } else { ExternalData::WhenNeeded };
        let options = ExportOptions { opset: self.opset, external, ..ExportOptions::default() };
        let written = export_file_as(graph, path, &options)?;
        if let Some(raise) = written.raised {
            note(&format!(
                "the operator set is {} instead of {}: {} `{}` needs it",
                raise.to, raise.from, raise.op, raise.node
            ));
        }
        if let Some(data) = written.data {
            note(&format!("the constants are in `{}`", data.display()));
        }
        Ok(written.bytes)
    }
}

/// The data file that may be written with a model of this name.
pub fn data_beside(path: Option<&Path>) -> Option<PathBuf> {
    path.filter(|path| path.extension().is_some_and(|e| e == "onnx")).map(data_file)
}
