//! Read-only memory maps of files: model weights are used where they lie, without a copy.
//!
//! What is mapped are ONNX models, their files of external data, and `.optc` artifacts, and only where
//! [`FileAccess::Map`](crate::FileAccess::Map) asks for it; all other files are read.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A file's bytes, mapped read-only.
#[derive(Debug)]
pub struct MappedFile(Option<memmap2::Mmap>);

/// Every live map: its address and its length, so that [`evict`] knows what it may give back.
static MAPS: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());

fn maps() -> MutexGuard<'static, BTreeMap<usize, usize>> {
    MAPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the memory of `bytes` back to the operating system where they lie in a [`MappedFile`]: a hint that they will
/// not be read soon. They are read from the file again when they are used. Other bytes are left alone.
pub fn evict(bytes: &[u8]) {
    const PAGE: usize = 4096;
    let (start, end) = (bytes.as_ptr().addr(), bytes.as_ptr().addr() + bytes.len());
    let maps = maps(); // held, so that the map cannot go away meanwhile
    let inside = maps.range(..=start).next_back().is_some_and(|(at, len)| end <= at + len);
    let (first, last) = (start.next_multiple_of(PAGE), end / PAGE * PAGE);
    if inside && first < last {
        // SAFETY: the whole pages lie in a live map of a file that is private and never written to, so the kernel
        // fills them from the file again; a failure changes nothing, as it is a hint.
        unsafe {
            libc::madvise(
                bytes.as_ptr().wrapping_add(first - start).cast_mut().cast(),
                last - first,
                libc::MADV_DONTNEED,
            )
        };
    }
}

impl MappedFile {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// The file cannot be opened, is not a plain one, or cannot be mapped.
    pub fn open(path: &Path) -> std::io::Result<MappedFile> {
        let file = crate::open_plain(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(MappedFile(None)); // an empty map is an error on some systems
        }
        // SAFETY: the map is read-only and private to this process. Its bytes change only if the file is written in
        // place meanwhile, which `FileAccess::Map` forbids and `write_file` never does; a host that cannot rule it out
        // copies.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        maps().insert(map.as_ptr().addr(), map.len());
        Ok(MappedFile(Some(map)))
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(&[])
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        if let Some(map) = &self.0 {
            maps().remove(&map.as_ptr().addr());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evicted_bytes_are_read_again() {
        let path = std::env::temp_dir().join(format!("optc-evict-{}", std::process::id()));
        let bytes: Vec<u8> = (0..40_000u32).map(|i| i as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let map = MappedFile::open(&path).unwrap();
        let expected = bytes.clone();
        for range in [0..40_000, 5..20_001, 4096..8192, 100..200, 0..0] {
            evict(&map.as_ref()[range]);
            assert_eq!(map.as_ref(), expected);
        }
        evict(&bytes); // not mapped: nothing happens
        assert_eq!(bytes, expected);
        drop(map);
        std::fs::remove_file(path).unwrap();
    }
}
