//! Tests of passes, those of other people included: graphs as text in, graphs as text out, for snapshots.

use optc_ir::{ParseError, parse, print, verify};

use crate::{PassError, PassManager, PassOptions, Registry, VerifyEach};

/// Why there is no graph to look at.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The text is not a graph.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The graph is not sound.
    #[error("{}", .0.join("\n"))]
    Unsound(Vec<String>),
    /// The pipeline is not valid, or a pass failed or gave other results than it may.
    #[error(transparent)]
    Pass(#[from] PassError),
}

/// Parses `text`, runs the pipeline `passes` on it, and prints the result. After each pass the graph is verified, and
/// interpreted on seeded inputs: results must be those of before, as far as the pass says.
///
/// # Errors
/// See [`CheckError`].
pub fn check(text: &str, passes: &str, registry: &Registry) -> Result<String, CheckError> {
    let mut graph = parse(text)?;
    let failures = verify(&graph);
    if !failures.is_empty() {
        return Err(CheckError::Unsound(failures.into_iter().map(|f| format!("{}: {}", f.rule, f.message)).collect()));
    }
    let options = PassOptions { verify_each: VerifyEach::Numerics, ..PassOptions::default() };
    PassManager::new(options).run(&registry.parse(passes)?, &mut graph)?;
    Ok(print(&graph).text)
}
