//! Files on their way to a name: without one, or with a hidden one, and what dead writers have left of them.

use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::PERMISSIONS;

/// Hidden names that are tried.
const ATTEMPTS: usize = 100;

/// A file on its way to its name.
pub(super) struct Hidden {
    pub(super) file: File,
    folder: PathBuf,
    /// The name that it has by now.
    path: Option<PathBuf>,
}

impl Hidden {
    /// A file in `folder` that nobody sees yet, where the system has such files.
    pub(super) fn create(folder: &Path, mode: u32) -> Result<Hidden> {
        match unnamed(folder, mode) {
            Some(file) => {
                let _ = file.try_lock(); // a file system without locks has none to look at either
                Ok(Hidden { file, folder: folder.to_owned(), path: None })
            }
            None => Hidden::named(folder, mode),
        }
    }

    /// A file that has its hidden name from the beginning.
    pub(super) fn named(folder: &Path, mode: u32) -> Result<Hidden> {
        for _ in 0..ATTEMPTS {
            let path = folder.join(hidden_name());
            let file = OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(&path);
            match file {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
                Ok(file) => {
                    // Before it is locked, another process may take it for a leftover: it then has the lock, or had it.
                    let taken = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
                    if !taken && file.metadata()?.nlink() > 0 {
                        return Ok(Hidden { file, folder: folder.to_owned(), path: Some(path) });
                    }
                }
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }

    /// A file that gets no name.
    pub(super) fn without_name(folder: &Path) -> Result<File> {
        let mut hidden = Hidden::create(folder, 0o600)?;
        if let Some(path) = hidden.path.take() {
            std::fs::remove_file(path)?;
        }
        hidden.file.try_clone()
    }

    /// Puts the file in place of `target`, with what it takes over from the `old` one; returns its length.
    pub(super) fn replace(mut self, target: &Path, old: Option<&Metadata>) -> Result<u64> {
        if let Some(old) = old {
            inherit(&self.file, old)?;
        }
        self.file.sync_all()?;
        let length = self.file.metadata()?.len();
        let path = match self.path.take() {
            Some(path) => path,
            None => link(&self.file, &self.folder)?,
        };
        std::fs::rename(self.path.insert(path), target)?;
        self.path = None;
        Ok(length)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // An error is on its way already; a leftover that cannot be removed adds nothing to it.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Gives a file the permissions of another, and its owner and group where that is allowed.
fn inherit(file: &File, old: &Metadata) -> Result<()> {
    let meta = file.metadata()?;
    if (meta.uid(), meta.gid()) != (old.uid(), old.gid()) {
        // Only root may give files away. Others keep the group where they are in it.
        let _ = fchown(file, Some(old.uid()), Some(old.gid())).or_else(|_| fchown(file, None, Some(old.gid())));
    }
    file.set_permissions(PermissionsExt::from_mode(old.mode() & PERMISSIONS))
}

/// The link by which the system knows an open file.
#[cfg(target_os = "linux")]
fn descriptor(file: &File) -> PathBuf {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// A file without a name; none where the system or the file system has no such files, or cannot name them later.
#[cfg(target_os = "linux")]
fn unnamed(folder: &Path, mode: u32) -> Option<File> {
    let file = OpenOptions::new().read(true).write(true).mode(mode).custom_flags(libc::O_TMPFILE).open(folder).ok()?;
    std::fs::symlink_metadata(descriptor(&file)).is_ok().then_some(file)
}

#[cfg(not(target_os = "linux"))]
fn unnamed(_folder: &Path, _mode: u32) -> Option<File> {
    None
}

/// Gives a file without a name a hidden one.
#[cfg(target_os = "linux")]
fn link(file: &File, folder: &Path) -> Result<PathBuf> {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    let c_path = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(Error::from);
    let from = c_path(&descriptor(file))?;
    for _ in 0..ATTEMPTS {
        let path = folder.join(hidden_name());
        let to = c_path(&path)?;
        // SAFETY: both paths are strings that end in a zero byte and live during the call.
        let failed = unsafe {
            libc::linkat(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), libc::AT_SYMLINK_FOLLOW)
        };
        match (failed, Error::last_os_error()) {
            (0, _) => return Ok(path),
            (_, e) if e.kind() == ErrorKind::AlreadyExists => {}
            (_, e) => return Err(e),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

#[cfg(not(target_os = "linux"))]
fn link(_file: &File, _folder: &Path) -> Result<PathBuf> {
    Err(ErrorKind::Unsupported.into())
}

/// A name that this process has not used yet: `.optc-PROCESS-NUMBER.tmp`.
fn hidden_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!(".optc-{}-{}.tmp", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Whether [`hidden_name`] made a name, in whatever process.
fn is_hidden_name(name: &OsStr) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let inner = name.to_str().and_then(|name| name.strip_prefix(".optc-")?.strip_suffix(".tmp"));
    inner.and_then(|inner| inner.split_once('-')).is_some_and(|(process, count)| number(process) && number(count))
}

/// Removes the hidden files of a folder whose writers are dead. What cannot be removed stays: it is in nobody's way.
pub(super) fn remove_leftovers(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if is_hidden_name(&entry.file_name()) {
            let _ = remove_leftover(&entry.path());
        }
    }
}

fn remove_leftover(path: &Path) -> Result<()> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let (opened, named) = (file.metadata()?, std::fs::symlink_metadata(path)?);
    let same = (opened.dev(), opened.ino()) == (named.dev(), named.ino());
    // Locked from here on: it has no writer, and none that lives can be given its name.
    if opened.is_file() && same && file.try_lock().is_ok() {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write_file;
    use crate::write_file::tests::{Folder, put};
    use std::io::{BufRead, BufReader, Read, Write};
    use std::process::{Command, Stdio};

    /// The folder that [`a_writer_that_waits_to_be_killed`] writes into.
    const FOLDER: &str = "OPTC_TEST_WRITER";

    /// Run by the test below, in a process of its own.
    #[test]
    fn a_writer_that_waits_to_be_killed() {
        let Some(folder) = std::env::var_os(FOLDER) else { return };
        let _named = Hidden::named(Path::new(&folder), 0o666).unwrap();
        let _ = write_file(&Path::new(&folder).join("target"), |file| -> Result<()> {
            file.write_all(&[1; 10_000])?;
            println!("\nhalf of it is written");
            std::io::stdin().read_to_end(&mut vec![])?; // until it is killed
            Ok(())
        });
    }

    #[test]
    fn what_a_killed_writer_leaves_is_removed_by_the_next_one() {
        let folder = Folder::new("killed");
        put(&folder.0.join("target"), "old").unwrap();
        let others = [".optc-1-x.tmp", ".optc-1.tmp", ".optc--1.tmp", ".target.1.0.tmp", "optc-1-0.tmp"];
        others.iter().for_each(|name| std::fs::write(folder.0.join(name), "not ours").unwrap());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "write_file::hidden::tests::a_writer_that_waits_to_be_killed", "--nocapture"])
            .env(FOLDER, &folder.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "half of it is written"));
        let hidden = || folder.names().into_iter().filter(|n| is_hidden_name(OsStr::new(n))).count();
        let during = hidden();
        put(&folder.0.join("other"), "while it lives").unwrap();
        assert_eq!(hidden(), during, "a writer that lives keeps its files");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(hidden() > 0, "the named file is left over");
        assert_eq!(std::fs::read(folder.0.join("target")).unwrap(), b"old");
        put(&folder.0.join("target"), "new").unwrap();
        let mut expected: Vec<&str> = others.into_iter().chain(["other", "target"]).collect();
        expected.sort_unstable();
        assert_eq!(folder.names(), expected);
    }

    #[test]
    fn files_with_a_hidden_name_from_the_beginning_end_like_the_others() {
        let folder = Folder::new("named");
        let path = folder.0.join("a");
        let mut hidden = Hidden::named(&folder.0, 0o666).unwrap();
        hidden.file.write_all(b"text").unwrap();
        remove_leftovers(&folder.0);
        assert_eq!(folder.names().len(), 1, "its writer lives");
        assert_eq!(hidden.replace(&path, None).unwrap(), 4);
        assert_eq!(folder.names(), ["a"]);
        drop(Hidden::named(&folder.0, 0o666).unwrap());
        assert_eq!(folder.names(), ["a"]);
    }
}
