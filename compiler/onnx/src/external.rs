//! External tensor data: files beside the model, mapped or read once each.
//!
//! A location must be a relative path without `..` and, with links resolved, must stay inside the model's folder. Where
//! the model itself is a link, as in the cache of the Hugging Face hub, a linked data file may also lie in the folder
//! that holds what the model links to. Offset and length are checked against the file's size before use. What is not a
//! plain file is not opened.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;

use bytes::Bytes;
use optc_tensor::{FileAccess, FileBytes};

use crate::proto::tensor_proto::DataLocation;
use crate::proto::{StringStringEntryProto, TensorProto};

/// Why external data could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ExternalError {
    /// The model was not read from a file, so there is no folder to look in.
    #[error("the model was read from memory; its data file `{0}` cannot be found")]
    NoFolder(String),
    /// The path leaves the model's folder.
    #[error("location `{0}` is not a plain relative path inside the model's folder")]
    Outside(String),
    /// An entry is missing or is not a number.
    #[error("`{0}` is missing or not a number")]
    Entry(&'static str),
    /// The file does not hold the range.
    #[error("`{location}` has {size} bytes, expected {length} at offset {offset}")]
    Range {
        /// The file.
        location: String,
        /// Its size.
        size: usize,
        /// Where the data should start.
        offset: usize,
        /// How many bytes are needed.
        length: usize,
    },
    /// The declared length is not what dtype and shape take.
    #[error("`length` is {found}, but dtype and shape take {expected} bytes")]
    Length {
        /// Bytes that dtype and shape take.
        expected: usize,
        /// The declared length.
        found: usize,
    },
    /// The file could not be mapped or read.
    #[error("`{0}`: {1}")]
    Io(String, std::io::Error),
}

/// The data files of one model.
#[derive(Debug, Default)]
pub struct ExternalFiles {
    folder: Option<PathBuf>,
    /// Where what the model links to lies, if it is a link.
    linked: Option<PathBuf>,
    access: FileAccess,
    open: Mutex<HashMap<PathBuf, Bytes>>,
}

impl ExternalFiles {
    /// For a model without a folder: any external data is an error.
    pub fn none() -> Self {
        ExternalFiles::default()
    }

    /// For the model at `path`; its files are held in this way.
    pub fn beside(path: &Path, access: FileAccess) -> Self {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let is_link = path.symlink_metadata().is_ok_and(|file| file.is_symlink());
        let real = is_link.then(|| path.canonicalize().ok()).flatten();
        let linked = real.and_then(|real| real.parent().map(Path::to_owned));
        ExternalFiles { folder: Some(folder.to_owned()), linked, access, open: Mutex::default() }
    }

    /// The file that a tensor says its elements are in; nothing is checked.
    pub fn path(&self, tensor: &TensorProto) -> Option<PathBuf> {
        let external = tensor.data_location == Some(DataLocation::External as i32);
        let location = tensor.external_data.iter().find(|e| external && e.key() == "location")?;
        Some(self.folder.as_ref()?.join(location.value()))
    }

    /// The `size` bytes that `entries` (`location`, `offset`, `length`) point to, where the file lies in memory.
    ///
    /// # Errors
    /// The path leaves the model's folder, or the file lacks the range.
    pub fn read(&self, entries: &[StringStringEntryProto], size: usize) -> Result<Bytes, ExternalError> {
        let get = |key: &str| entries.iter().find(|e| e.key() == key).map(|e| e.value().to_owned());
        let number = |key: &'static str, default: usize| match get(key) {
            None => Ok(default),
            Some(text) => text.parse::<usize>().map_err(|_| ExternalError::Entry(key)),
        };
        let location = get("location").ok_or(ExternalError::Entry("location"))?;
        let offset = number("offset", 0)?;
        let length = number("length", size)?;
        if length != size {
            return Err(ExternalError::Length { expected: size, found: length });
        }
        let file = self.file(&location)?;
        let end = offset.checked_add(length).filter(|&end| end <= file.len());
        let end = end.ok_or(ExternalError::Range { location, size: file.len(), offset, length })?;
        Ok(file.slice(offset..end))
    }

    fn file(&self, location: &str) -> Result<Bytes, ExternalError> {
        let outside = || ExternalError::Outside(location.to_owned());
        let io = |e| ExternalError::Io(location.to_owned(), e);
        let folder = self.folder.as_ref().ok_or_else(|| ExternalError::NoFolder(location.to_owned()))?;
        let relative = Path::new(location);
        let plain = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if !plain || location.is_empty() {
            return Err(outside());
        }
        let path = folder.join(relative);
        let mut open = self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(bytes) = open.get(&path) {
            return Ok(bytes.clone());
        }
        let (real, root) = (path.canonicalize().map_err(io)?, folder.canonicalize().map_err(io)?);
        let beside_target = self.linked.as_deref().is_some_and(|linked| real.parent() == Some(linked));
        if !real.starts_with(root) && !beside_target {
            return Err(outside());
        }
        let bytes = Bytes::from_owner(FileBytes::open(&real, self.access).map_err(io)?);
        open.insert(path, bytes.clone());
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(pairs: &[(&str, &str)]) -> Vec<StringStringEntryProto> {
        let entry = |&(k, v): &(&str, &str)| StringStringEntryProto { key: Some(k.into()), value: Some(v.into()) };
        pairs.iter().map(entry).collect()
    }

    #[test]
    fn ranges_are_checked_against_the_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("w.bin"), [1, 2, 3, 4]).unwrap();
        let files = ExternalFiles::beside(&folder.path().join("model.onnx"), FileAccess::Map);
        let at = |offset| entries(&[("location", "w.bin"), ("offset", offset), ("length", "2")]);
        assert_eq!(&files.read(&at("2"), 2).unwrap()[..], [3, 4]);
        assert!(matches!(files.read(&at("3"), 2), Err(ExternalError::Range { .. })));
        assert!(matches!(files.read(&at("18446744073709551615"), 2), Err(ExternalError::Range { .. })));
        assert!(matches!(files.read(&at("x"), 2), Err(ExternalError::Entry("offset"))));
        assert!(matches!(files.read(&at("0"), 4), Err(ExternalError::Length { .. })));
    }

    #[test]
    fn paths_stay_inside_the_folder() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("model");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(outer.path().join("secret"), [0; 4]).unwrap();
        let files = ExternalFiles::beside(&folder.join("model.onnx"), FileAccess::Map);
        let absolute = outer.path().join("secret");
        for location in ["../secret", "", "a/../../secret", absolute.to_str().unwrap()] {
            let got = files.read(&entries(&[("location", location)]), 4);
            assert!(matches!(got, Err(ExternalError::Outside(_))), "{location}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&absolute, folder.join("link")).unwrap();
            let got = files.read(&entries(&[("location", "link")]), 4);
            assert!(matches!(got, Err(ExternalError::Outside(_))));
        }
    }

    /// As the cache of the Hugging Face hub has them: all files of a snapshot are links into one folder.
    #[cfg(unix)]
    #[test]
    fn what_a_linked_model_links_to_may_have_its_data_beside_it() {
        use std::os::unix::fs::symlink;
        let outer = tempfile::tempdir().unwrap();
        let (blobs, snapshot) = (outer.path().join("blobs"), outer.path().join("snapshot"));
        for folder in [&blobs, &snapshot, &blobs.join("deeper")] {
            std::fs::create_dir(folder).unwrap();
        }
        for file in ["blobs/model", "blobs/data", "blobs/deeper/data", "secret"] {
            std::fs::write(outer.path().join(file), [1, 2, 3, 4]).unwrap();
        }
        let link = |to: &str, from: &str| symlink(outer.path().join(to), snapshot.join(from)).unwrap();
        link("blobs/model", "model.onnx");
        link("blobs/data", "data");
        link("blobs/deeper/data", "deeper");
        link("secret", "secret");
        std::fs::write(snapshot.join("plain.onnx"), [0; 4]).unwrap();
        let read = |model: &str, location: &str| {
            let files = ExternalFiles::beside(&snapshot.join(model), FileAccess::Map);
            files.read(&entries(&[("location", location)]), 4)
        };
        assert_eq!(&read("model.onnx", "data").unwrap()[..], [1, 2, 3, 4]);
        for (model, location) in [
            ("model.onnx", "secret"),
            ("model.onnx", "deeper"),
            ("model.onnx", "../blobs/data"),
            ("plain.onnx", "data"),
        ] {
            assert!(matches!(read(model, location), Err(ExternalError::Outside(_))), "{model}: {location}");
        }
    }
}
