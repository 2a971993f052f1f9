//! What commands print: a value that renders as text for people, or as one JSON document on one line.

pub mod table;
pub mod units;

use std::io::{ErrorKind, Write};
use std::path::Path;

use serde::Serialize;

use crate::exit::{CommandError, Exit, Outcome};

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Tables.
    Text,
    /// One JSON document on one line.
    Json,
}

/// A result that can be shown both ways.
pub trait Report: Serialize {
    /// The text for people, which ends in a line end.
    fn text(&self) -> String;
}

/// Prints a report on stdout.
///
/// # Errors
/// Stdout cannot be written to.
pub fn emit(report: &impl Report, format: Format) -> Outcome<()> {
    match format {
        Format::Text => print(&report.text()),
        Format::Json => {
            let line = serde_json::to_string(report).map_err(|e| CommandError::new(Exit::Io, e.to_string()))?;
            print(&format!("{line}\n"))
        }
    }
}

/// Writes text to stdout. A reader that has gone away (`optc inspect m.onnx | head`) is not an error.
///
/// # Errors
/// Stdout cannot be written to.
pub fn print(text: &str) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(CommandError::io(Path::new("stdout"), &e)),
        _ => Ok(()),
    }
}

/// A message for people, besides the result.
pub fn note(text: &str) {
    eprintln!("note: {text}");
}
