//! Files that a command writes, besides those that it reads: neither is the other.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use optc_onnx::ModelFile;

use crate::exit::{CommandError, Exit, Outcome};
use crate::load::{FileKind, kind};
use crate::text_form::constants_beside;

/// What a command reads and writes, as it was told.
#[derive(Debug, Default)]
pub struct Files {
    model: PathBuf,
    inputs: Vec<PathBuf>,
    outputs: Vec<PathBuf>,
}

impl Files {
    /// A command that reads this model. Its data files and constants are asked for only where something could overwrite
    /// them.
    pub fn of_model(model: &Path) -> Files {
        Files { model: model.to_owned(), inputs: vec![model.to_owned()], outputs: vec![] }
    }

    /// It also reads this file, or the files of this folder.
    pub fn reads(mut self, path: Option<&Path>) -> Files {
        if let Some(path) = path {
            self.inputs.push(path.to_owned());
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            self.inputs.extend(entries.map(|entry| entry.path()));
        }
        self
    }

    /// It writes this file.
    pub fn writes(mut self, path: Option<&Path>) -> Files {
        self.outputs.extend(path.map(Path::to_owned));
        self
    }

    /// Refuses to overwrite an input, by whatever path or link, and to write one file twice.
    ///
    /// # Errors
    /// An output is an input, or another output.
    pub fn check(&self) -> Outcome<()> {
        for (i, output) in self.outputs.iter().enumerate() {
            let Some(place) = Place::of(output) else { continue };
            if self.outputs[..i].iter().any(|other| Place::of(other).as_ref() == Some(&place)) {
                let message = format!("`{}` is given for two outputs", output.display());
                return Err(CommandError::new(Exit::Usage, message));
            }
            let is_read = |input: &PathBuf| Place::of(input).as_ref() == Some(&place);
            if matches!(place, Place::File(..))
                && (self.inputs.iter().any(is_read) || self.belonging().iter().any(is_read))
            {
                let message = format!("`{}` is an input of this command, and is not overwritten", output.display());
                return Err(CommandError::new(Exit::Usage, message).hint("write to another file"));
            }
        }
        Ok(())
    }

    /// The files that belong to the model. What is wrong with it is said where it is read.
    fn belonging(&self) -> Vec<PathBuf> {
        match kind(&self.model) {
            Ok(FileKind::Onnx) => ModelFile::open(&self.model).map(|file| file.data_files()).unwrap_or_default(),
            Ok(FileKind::Text) => constants_beside(&self.model).into_iter().collect(),
            Ok(FileKind::Artifact) | Err(_) => vec![],
        }
    }
}

/// Where a path leads to, the same for all paths that lead there.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// A plain file that exists: its device and number.
    File(u64, u64),
    /// A file that is still to be made.
    New(PathBuf),
}

impl Place {
    /// None for what is not a file: all may write to a device.
    fn of(path: &Path) -> Option<Place> {
        match std::fs::metadata(path) {
            Ok(meta) => meta.is_file().then(|| Place::File(meta.dev(), meta.ino())),
            Err(_) => {
                let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
                Some(Place::New(folder.canonicalize().ok()?.join(path.file_name()?)))
            }
        }
    }
}
