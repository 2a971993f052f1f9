//! Where test data is, and how it is read.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use lzma_rust2::XzReader;
use optc::Tensor;
use optc_tensor::npy;

/// A file of `testdata`.
pub fn testdata(name: &str) -> PathBuf {
    repository().join("testdata").join(name)
}

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests' crate lies in the repository")
}

/// All files below a folder, in order; what is built (`target`) and git's own are left out.
///
/// # Panics
/// A folder cannot be read.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let left_out = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.is_dir() && (name == "target" || name == ".git")
    };
    let mut files: Vec<PathBuf> = entries
        .filter(|path| !left_out(path))
        .flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] })
        .collect();
    files.sort();
    files
}

/// The array called `name` of an `.npz` archive in `testdata`.
///
/// # Errors
/// The archive cannot be read, or has no such array.
pub fn array(archive: &str, name: &str) -> Result<Tensor> {
    let entries = npy::read_npz(&testdata(archive)).with_context(|| archive.to_owned())?;
    let found = entries.into_iter().find(|(n, _)| n == name);
    found.map(|(_, t)| t).with_context(|| format!("`{archive}` has no array `{name}`"))
}

/// Unpacks the `.tar.xz` archive of that name in `testdata` to a folder below `target`, which later calls find again;
/// gives the folder.
///
/// # Errors
/// The archive cannot be read, or the files cannot be written.
pub fn unpack(archive: &str, target: &Path) -> Result<PathBuf> {
    let path = testdata(archive);
    let packed = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let folder = target.join(format!("{}-{:08x}", archive.trim_end_matches(".tar.xz"), checksum(&packed)));
    if folder.exists() {
        return Ok(folder);
    }
    // Unpacked next to it and renamed: a run that was stopped leaves nothing that looks complete.
    let partial = tempfile::tempdir_in(target)?;
    let xz = XzReader::new(Cursor::new(packed), true);
    tar::Archive::new(xz).unpack(partial.path()).with_context(|| path.display().to_string())?;
    let made = std::fs::rename(partial.path(), &folder);
    ensure!(made.is_ok() || folder.exists(), "`{}` cannot be made: {made:?}", folder.display());
    Ok(folder)
}

/// FNV-1a: tells one version of an archive from another.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |h, &b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193))
}
