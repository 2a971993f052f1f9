//! Reading files: only plain ones are opened, and their bytes are mapped or owned.
//!
//! A fifo or device would block the reader, or do something when it is opened; it is refused before that.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use crate::{Buffer, MappedFile};

/// How the bytes of a model's files are held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FileAccess {
    /// Mapped: nothing is copied, and processes share the memory. While they are in use the files must not be written
    /// in place or truncated: the process ends by SIGBUS where bytes are gone, and computes with what it finds where
    /// they changed. Replacing or removing a file is harmless.
    #[default]
    Map,
    /// Read once and owned: what becomes of the files later does not matter.
    Copy,
}

/// The bytes of a file.
#[derive(Debug)]
pub enum FileBytes {
    /// Mapped; see [`FileAccess::Map`].
    Mapped(MappedFile),
    /// Owned, and aligned to [`ALIGN`](crate::ALIGN).
    Owned(Buffer),
}

impl FileBytes {
    /// The bytes of the file at `path`.
    ///
    /// # Errors
    /// The file cannot be opened, read or mapped, is not a plain one, or does not fit the [account](crate::Memory).
    pub fn open(path: &Path, access: FileAccess) -> Result<FileBytes> {
        match access {
            FileAccess::Map => Ok(FileBytes::Mapped(MappedFile::open(path)?)),
            FileAccess::Copy => {
                let mut file = open_plain(path)?;
                let length = usize::try_from(file.metadata()?.len()).map_err(|_| ErrorKind::FileTooLarge)?;
                let mut buffer = Buffer::zeroed(length).map_err(|e| Error::new(ErrorKind::OutOfMemory, e))?;
                file.read_exact(buffer.own_mut())?;
                Ok(FileBytes::Owned(buffer))
            }
        }
    }
}

impl AsRef<[u8]> for FileBytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            FileBytes::Mapped(map) => map.as_ref(),
            FileBytes::Owned(buffer) => buffer.as_slice(),
        }
    }
}

/// Opens a plain file, or a link to one, for reading.
///
/// # Errors
/// It cannot be opened, or is a folder, fifo, device or socket; those are not opened.
pub fn open_plain(path: &Path) -> Result<File> {
    check_plain(&std::fs::metadata(path)?)?;
    // What it was may have changed since: that neither blocks nor becomes a terminal of ours, and is looked at again.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    check_plain(&file.metadata()?)?;
    Ok(file)
}

fn check_plain(meta: &Metadata) -> Result<()> {
    let kind = meta.file_type();
    let found = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "folder",
        () if kind.is_fifo() => "fifo",
        () if kind.is_socket() => "socket",
        () => "device",
    };
    Err(Error::new(ErrorKind::InvalidInput, format!("it is a {found}, expected a plain file")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_files_are_opened() {
        let folder = std::env::temp_dir().join(format!("optc-read-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let at = |name: &str| folder.join(name);
        std::fs::write(at("plain"), "text").unwrap();
        std::fs::write(at("empty"), "").unwrap();
        std::os::unix::fs::symlink("plain", at("link")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
        for access in [FileAccess::Map, FileAccess::Copy] {
            let open = |name: &str| FileBytes::open(&at(name), access);
            assert_eq!(open("plain").unwrap().as_ref(), b"text");
            assert_eq!(open("link").unwrap().as_ref(), b"text");
            assert_eq!(open("empty").unwrap().as_ref(), b"");
            // Opened, the fifo would block for ever: nobody writes into it.
            assert_eq!(open("fifo").unwrap_err().to_string(), "it is a fifo, expected a plain file");
            assert_eq!(open(".").unwrap_err().to_string(), "it is a folder, expected a plain file");
            assert_eq!(open("none").unwrap_err().kind(), ErrorKind::NotFound);
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn owned_bytes_stay_when_the_file_is_cut_off() {
        let path = std::env::temp_dir().join(format!("optc-owned-{}", std::process::id()));
        std::fs::write(&path, [7; 100_000]).unwrap();
        let bytes = FileBytes::open(&path, FileAccess::Copy).unwrap();
        std::fs::write(&path, []).unwrap();
        assert!(bytes.as_ref().len() == 100_000 && bytes.as_ref().iter().all(|&b| b == 7));
        std::fs::remove_file(&path).unwrap();
    }
}
