//! What the driver makes of artifacts: graphs to be compiled, or programs whose machine code is there.

use std::path::Path;

use optc_ir::{Graph, Verified, parse_with, print};
use optc_native::{Artifact, ArtifactError, Contents, NativeCode, NativeProgram, Saved};

use crate::{Error, Options, Precision, TuningCache};

/// What an artifact holds of a graph.
#[derive(Debug)]
pub(crate) struct LoadedArtifact {
    pub graph: Graph,
    pub passes: String,
    pub specialised: bool,
    pub tuning: TuningCache,
}

/// The graph of an artifact.
pub(crate) fn graph(artifact: &Artifact) -> Result<LoadedArtifact, ArtifactError> {
    let damaged = |reason: String| ArtifactError::Damaged(reason);
    let graph = parse_with(artifact.text()?, &artifact.constants()?)
        .map_err(|e| damaged(format!("the artifact's text is damaged: {e}")))?;
    let graph = Verified::new(graph).map_err(|e| damaged(e.to_string()))?.into_graph();
    let tuning = artifact.tuning().cloned().map(serde_json::from_value).transpose();
    let tuning = tuning.map_err(|e| damaged(format!("the artifact's header is damaged: {e}")))?.unwrap_or_default();
    Ok(LoadedArtifact { graph, passes: artifact.passes().to_owned(), specialised: artifact.specialised(), tuning })
}

/// Writes an artifact.
pub(crate) fn save(
    path: &Path,
    graph: &Graph,
    passes: &str,
    specialised: bool,
    tuning: &TuningCache,
    natives: &[NativeCode],
) -> Result<Saved, Error> {
    let io = |error: std::io::Error| Error::Io { path: path.to_owned(), error };
    let printed = print(graph);
    let tuning = (!tuning.is_empty()).then(|| serde_json::to_value(tuning)).transpose().map_err(|e| io(e.into()))?;
    let (text, constants) = (printed.text.as_str(), &printed.constants[..]);
    optc_native::save(path, &Contents { name: &graph.name, passes, specialised, text, constants, tuning, natives })
        .map_err(io)
}

/// An error of the artifact at `path`.
pub(crate) fn at(path: &Path) -> impl Fn(ArtifactError) -> Error {
    move |e| match e {
        ArtifactError::Io(error) => Error::Io { path: path.to_owned(), error },
        ArtifactError::Damaged(reason) => Error::Artifact { path: path.to_owned(), reason },
    }
}

/// The machine code of an artifact that does what the options ask for, if there is any: where they ask for another
/// precision, for other figures, or for the graph, it is compiled.
pub(crate) fn native(artifact: &Artifact, options: &Options) -> Result<Option<NativeProgram>, Error> {
    let Options { isa, target, precision, profile, tuning, keep_graph, trust, .. } = options;
    let plain = *precision == Precision::F32 && *profile == Default::default() && tuning.is_empty() && !keep_graph;
    if !trust || !plain {
        return Ok(None);
    }
    let row = (isa.is_some() || target.is_some()).then(|| options.any_target()).transpose()?.map(|t| t.isa);
    Ok(artifact.native_here(row))
}
