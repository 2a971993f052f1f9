//! Writing files: a target holds all of what is written or what it held before, whatever happens meanwhile.
//!
//! - A plain file is written without a name (`O_TMPFILE`) in its folder, then linked to a hidden name and renamed over
//!   the target, so that a kill leaves nothing behind. Where the system has no such files, the hidden name is there
//!   from the beginning.
//! - A hidden file is locked for as long as its writer lives. The next write into the folder removes those that are
//!   not.
//! - A symbolic link stays: what it leads to is replaced. A file that is replaced passes on its permissions, and its
//!   owner where the system lets it; a new one has what the umask leaves.
//! - Devices and fifos are written into, once all that goes there is known.
//!
//! Nothing is ever written into a plain file in place: it may be mapped. Hard links to a target keep what they had.

mod hidden;

use std::fs::{File, Metadata, OpenOptions};
use std::io::{Error, ErrorKind, Result, Seek};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hidden::{Hidden, remove_leftovers};

/// Links that a path may lead through, as many as Linux follows.
const MAX_LINKS: usize = 40;
/// Permissions that a file passes on: bits beyond them are about running it.
const PERMISSIONS: u32 = 0o777;

/// Writes what `write` puts into the file that it is given, which may be read and sought in as well, to `path`; returns
/// how many bytes those were. See the module for what is done with what is there.
///
/// # Errors
/// Whatever `write` returns, and errors of creating, syncing and renaming files; `path` is a folder or a socket.
pub fn write_file<E: From<Error>>(
    path: &Path,
    write: impl FnOnce(&mut File) -> std::result::Result<(), E>,
) -> std::result::Result<u64, E> {
    match Target::of(path)? {
        Target::Stream => {
            let mut whole = Hidden::without_name(&std::env::temp_dir())?;
            write(&mut whole)?;
            Ok(pour(whole, path)?)
        }
        Target::File { path, old } => {
            let folder = folder_of(&path);
            remove_leftovers(folder);
            let mut hidden = Hidden::create(folder, permissions(old.as_ref()))?;
            write(&mut hidden.file)?;
            Ok(hidden.replace(&path, old.as_ref())?)
        }
    }
}

/// What a path leads to.
enum Target {
    /// Something that bytes go into: a device or a fifo.
    Stream,
    /// A plain file, with links resolved, and what is known of the one that is there.
    File { path: PathBuf, old: Option<Metadata> },
}

impl Target {
    fn of(path: &Path) -> Result<Target> {
        match std::fs::metadata(path) {
            Ok(meta) if meta.is_file() => Ok(Target::File { path: resolved(path)?, old: Some(meta) }),
            Ok(meta) if meta.is_dir() => Err(ErrorKind::IsADirectory.into()),
            Ok(meta) if meta.file_type().is_socket() => Err(Error::new(ErrorKind::InvalidInput, "it is a socket")),
            Ok(_) => Ok(Target::Stream),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Target::File { path: resolved(path)?, old: None }),
            Err(e) => Err(e),
        }
    }
}

/// Where the links of a path's last component end; there need be nothing.
fn resolved(path: &Path) -> Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match std::fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_symlink() => {
                check_link(&path, &meta)?;
                path = folder_of(&path).join(std::fs::read_link(&path)?);
            }
            _ => return Ok(path),
        }
    }
    Err(Error::from_raw_os_error(libc::ELOOP))
}

/// Refuses the links that Linux does not follow either where it protects links: those that a stranger has put into a
/// folder that is open to all.
fn check_link(path: &Path, link: &Metadata) -> Result<()> {
    const OPEN_TO_ALL: u32 = libc::S_ISVTX | libc::S_IWOTH;
    let folder = std::fs::metadata(folder_of(path))?;
    // SAFETY: the call has no arguments and cannot fail.
    let user = unsafe { libc::geteuid() };
    let open = folder.mode() & OPEN_TO_ALL == OPEN_TO_ALL;
    if open && link.uid() != user && link.uid() != folder.uid() {
        return Err(Error::new(
            ErrorKind::PermissionDenied,
            "it is a link of another user in a folder that is open to all",
        ));
    }
    Ok(())
}

/// The folder that a path's last component is in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The permissions that a file is created with, before the umask.
fn permissions(old: Option<&Metadata>) -> u32 {
    old.map_or(0o666, |meta| meta.mode() & PERMISSIONS)
}

/// Copies a whole file into a device or fifo.
fn pour(mut whole: File, path: &Path) -> Result<u64> {
    let mut to = OpenOptions::new().write(true).custom_flags(libc::O_NOCTTY).open(path)?;
    if to.metadata()?.is_file() {
        return Err(Error::other("it became a plain file meanwhile"));
    }
    whole.rewind()?;
    std::io::copy(&mut whole, &mut to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;

    /// An empty folder, removed at the end.
    pub(super) struct Folder(pub(super) PathBuf);

    impl Folder {
        pub(super) fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("optc-write-{name}-{}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            Folder(path)
        }

        pub(super) fn names(&self) -> Vec<String> {
            let entries = std::fs::read_dir(&self.0).unwrap();
            let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    pub(super) fn put(path: &Path, text: &str) -> Result<u64> {
        write_file(path, |file| file.write_all(text.as_bytes()))
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let folder = Folder::new("whole");
        let path = folder.0.join("a");
        assert_eq!(put(&path, "first").unwrap(), 5);
        let failed = write_file(&path, |file| file.write_all(b"half").and(Err(Error::other("no more"))));
        assert_eq!(failed.unwrap_err().to_string(), "no more");
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert!(put(&folder.0.join("none/a"), "x").is_err());
        assert_eq!(put(&folder.0, "x").unwrap_err().kind(), ErrorKind::IsADirectory);
        assert_eq!(folder.names(), ["a"]);
    }

    #[test]
    fn what_was_mapped_stays_when_its_file_is_replaced() {
        let folder = Folder::new("mapped");
        let path = folder.0.join("a");
        put(&path, &"x".repeat(10_000)).unwrap();
        let map = crate::MappedFile::open(&path).unwrap();
        put(&path, "y").unwrap();
        assert!(map.as_ref().len() == 10_000 && map.as_ref().iter().all(|&b| b == b'x'));
    }

    #[test]
    fn permissions_are_kept_and_new_files_respect_the_umask() {
        let folder = Folder::new("modes");
        let (path, plain) = (folder.0.join("a"), folder.0.join("b"));
        put(&path, "new").unwrap();
        std::fs::write(&plain, "as others write it").unwrap();
        assert_eq!(mode(&path), mode(&plain));
        for bits in [0o600, 0o640, 0o666, 0o755, 0o444] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(bits)).unwrap();
            put(&path, "again").unwrap();
            assert_eq!(mode(&path), bits);
        }
    }

    #[test]
    fn owners_are_kept_by_root() {
        let folder = Folder::new("owners");
        let path = folder.0.join("a");
        put(&path, "mine").unwrap();
        if std::os::unix::fs::chown(&path, Some(1), Some(2)).is_err() {
            eprintln!("skipped: only root gives files away");
            return;
        }
        put(&path, "still theirs").unwrap();
        let meta = std::fs::metadata(&path).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (1, 2));
    }

    #[test]
    fn links_stay_and_what_they_lead_to_is_replaced() {
        let folder = Folder::new("links");
        let at = |name: &str| folder.0.join(name);
        std::fs::create_dir(at("inner")).unwrap();
        put(&at("inner/target"), "old").unwrap();
        symlink("inner/target", at("one")).unwrap();
        symlink(at("one"), at("two")).unwrap();
        put(&at("two"), "through two links").unwrap();
        assert_eq!(std::fs::read(at("inner/target")).unwrap(), b"through two links");
        symlink("inner/new", at("dangling")).unwrap();
        put(&at("dangling"), "new").unwrap();
        assert_eq!(std::fs::read(at("inner/new")).unwrap(), b"new");
        symlink("loop", at("loop")).unwrap();
        assert!(put(&at("loop"), "x").is_err());
        for link in ["one", "two", "dangling", "loop"] {
            assert!(at(link).is_symlink(), "{link}");
        }
        assert_eq!(folder.names(), ["dangling", "inner", "loop", "one", "two"]);
    }

    #[test]
    fn links_of_strangers_in_open_folders_are_not_followed() {
        let folder = Folder::new("strangers");
        let (link, target) = (folder.0.join("link"), folder.0.join("target"));
        symlink(&target, &link).unwrap();
        std::fs::set_permissions(&folder.0, PermissionsExt::from_mode(0o1777)).unwrap();
        put(&link, "our own link").unwrap();
        // Neither ours nor the folder's owner's.
        if std::os::unix::fs::lchown(&link, Some(1), None).is_err() {
            eprintln!("skipped: only root gives links away");
            return;
        }
        assert_eq!(put(&link, "no").unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert_eq!(std::fs::read(&target).unwrap(), b"our own link");
    }

    #[test]
    fn fifos_are_written_into() {
        let folder = Folder::new("fifo");
        let path = folder.0.join("fifo");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let reader = std::thread::spawn({
            let path = path.clone();
            move || std::fs::read(path).unwrap()
        });
        // What was written can be changed until all of it is there.
        let written = write_file(&path, |file| {
            file.write_all(&[b'x'; 100_000])?;
            file.rewind()?;
            file.write_all(b"y")
        });
        assert_eq!(written.unwrap(), 100_000);
        let found = reader.join().unwrap();
        assert!(found.len() == 100_000 && found.starts_with(b"yx"));
        assert!(std::fs::metadata(&path).unwrap().file_type().is_fifo());
        assert_eq!(folder.names(), ["fifo"]);
    }
}
