//! Read-only memory maps of files: model weights are used where they lie, without a copy.

use std::fs::File;
use std::path::Path;

/// A file's bytes, mapped read-only.
#[derive(Debug)]
pub struct MappedFile(Option<memmap2::Mmap>);

impl MappedFile {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// The file cannot be opened, is not a regular file, or cannot be mapped.
    pub fn open(path: &Path) -> std::io::Result<MappedFile> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file"));
        }
        if meta.len() == 0 {
            return Ok(MappedFile(None)); // an empty map is an error on some systems
        }
        // SAFETY: the map is read-only and private to this process. Its bytes change only if another process writes
        // the file meanwhile, which the documentation of optc forbids, as every memory-mapping model runtime does.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(MappedFile(Some(map)))
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(&[])
    }
}
