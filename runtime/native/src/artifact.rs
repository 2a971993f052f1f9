//! `.optc` artifacts: the optimized graph as text, its constants, and machine code for targets.
//!
//! ```text
//! "OPTCMODL" | version u32 | crc32 of all that follows up to the blobs u32
//! length of the next part u64 | its length inflated u64
//! deflated: length of the header u64 | header (JSON) | text of the graph | texts of the programs with machine code
//! blobs: constants and machine code
//! ```
//!
//! Numbers are little-endian. The header has the pipeline, and length and checksum of each blob; blobs lie one after
//! the other at multiples of 64 bytes of the file, so that they are used where the file is mapped, with zeros between
//! them. Equal bytes are one blob, whoever names them. Lengths are checked before they are used, and a file is written
//! whole or not at all. A constant of the graph with many zeros is stored as its blocks that are not zero ([`blocks`]),
//! and is unpacked when it is read.
//!
//! Checksums of the front, of machine code and of what the graph needs are checked when they are read. Weights of
//! machine code are used where the file is mapped, and only read when they are multiplied.

mod blocks;
mod write;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use optc_runtime::MachineCode;
use optc_tensor::{ALIGN, Buffer, DType, FileAccess, FileBytes, Tensor, open_plain};
use serde::{Deserialize, Serialize};

pub use write::{Contents, Saved, save};

/// What an artifact begins with.
pub const MAGIC: &[u8; 8] = b"OPTCMODL";
/// The version of the format that is written, and the only one that is read.
pub const VERSION: u32 = 6;
/// Magic, version, checksum, lengths of what is deflated.
const PREFIX: usize = 32;

#[derive(Serialize, Deserialize)]
struct Header {
    /// The graph's name.
    name: String,
    /// The pipeline that open dims are to be specialised with.
    passes: String,
    /// Whether all passes have run.
    specialised: bool,
    blobs: Vec<Blob>,
    /// Bytes of the graph's text.
    text: usize,
    /// The graph's constants.
    constants: Vec<Entry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    natives: Vec<NativeEntry>,
    /// What was measured to be fastest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tuning: Option<serde_json::Value>,
}

/// Bytes after the front.
#[derive(Serialize, Deserialize)]
struct Blob {
    bytes: usize,
    /// Their crc32.
    sum: u32,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    symbol: String,
    dtype: String,
    shape: Vec<usize>,
    blob: usize,
    /// Rows of the blocks that are stored; 0 where all elements are.
    #[serde(default, skip_serializing_if = "is_zero")]
    block: usize,
    /// The elements of a string tensor, which has no bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    strings: Vec<String>,
}

/// A program with machine code.
#[derive(Serialize, Deserialize)]
struct NativeEntry {
    /// Bytes of its text.
    text: usize,
    code: usize,
    entries: Vec<usize>,
    constants: Vec<Entry>,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// Bytes that an artifact stores of a constant of the graph.
pub fn stored_bytes(t: &Tensor) -> usize {
    blocks::pack(t).map_or(t.bytes().len(), |packed| packed.bytes.len())
}

/// Why a file is not an artifact that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// It cannot be opened, read or mapped.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It is damaged, of another version, or something else.
    #[error("{0}")]
    Damaged(String),
}

/// A reason in words.
pub(crate) fn damaged(reason: impl Into<String>) -> ArtifactError {
    ArtifactError::Damaged(reason.into())
}

fn outside() -> ArtifactError {
    damaged("the artifact is damaged: an offset lies outside of it")
}

/// Whether the file at `path` begins like an artifact.
pub fn is_artifact(path: &Path) -> bool {
    use std::io::Read;
    let mut magic = [0; 8];
    open_plain(path).and_then(|mut f| f.read_exact(&mut magic)).is_ok() && &magic == MAGIC
}

/// An artifact whose front was read and checked; the rest is read when it is asked for.
pub struct Artifact {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    header: Header,
    /// The inflated front; texts begin at `texts`.
    front: Vec<u8>,
    texts: usize,
    /// Where each blob begins.
    blobs: Vec<usize>,
}

impl std::fmt::Debug for Artifact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Artifact({} blobs, {} natives)", self.header.blobs.len(), self.header.natives.len())
    }
}

impl Artifact {
    /// Opens the artifact at `path`.
    ///
    /// # Errors
    /// It cannot be opened, or is not one.
    pub fn open(path: &Path, access: FileAccess) -> Result<Artifact, ArtifactError> {
        Artifact::read(Arc::new(FileBytes::open(path, access)?))
    }

    /// Reads an artifact from bytes, which are kept.
    ///
    /// # Errors
    /// They are not one.
    pub fn read(owner: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Result<Artifact, ArtifactError> {
        let bytes = (*owner).as_ref();
        let prefix = bytes.get(..PREFIX).ok_or_else(|| damaged("the file is too short for an artifact"))?;
        if &prefix[..8] != MAGIC {
            return Err(damaged("the file is not an artifact of optc"));
        }
        let number = |at: usize| u32::from_le_bytes([prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]]);
        if number(8) != VERSION {
            let found = number(8);
            return Err(damaged(format!(
                "the artifact has version {found}, expected {VERSION}: compile the model again"
            )));
        }
        let deflated = bytes.get(PREFIX..).and_then(|rest| rest.get(..length(bytes, 16))).ok_or_else(outside)?;
        if crc32fast::hash(&bytes[16..PREFIX + deflated.len()]) != number(12) {
            return Err(damaged("the artifact is damaged: its checksum does not fit"));
        }
        let front = inflated(deflated, length(bytes, 24))?;
        let rest = front.get(8..).ok_or_else(outside)?;
        let (header, _) = rest.split_at_checked(length(&front, 0)).ok_or_else(outside)?;
        let texts = 8 + header.len();
        let header: Header =
            serde_json::from_slice(header).map_err(|e| damaged(format!("the artifact's header is damaged: {e}")))?;
        let blobs = begins(&header.blobs, PREFIX + deflated.len(), bytes)?;
        Ok(Artifact { header, front, texts, blobs, owner })
    }

    /// The graph's name.
    pub fn name(&self) -> &str {
        &self.header.name
    }

    /// The pipeline that open dims are to be specialised with.
    pub fn passes(&self) -> &str {
        &self.header.passes
    }

    /// Whether all passes have run on the graph.
    pub fn specialised(&self) -> bool {
        self.header.specialised
    }

    /// What was measured to be fastest, as the writer put it.
    pub fn tuning(&self) -> Option<&serde_json::Value> {
        self.header.tuning.as_ref()
    }

    /// The graph's text.
    ///
    /// # Errors
    /// It is damaged.
    pub fn text(&self) -> Result<&str, ArtifactError> {
        self.text_at(0, self.header.text)
    }

    /// The graph's constants, by symbol.
    ///
    /// # Errors
    /// One is damaged, or there is no memory to unpack it.
    pub fn constants(&self) -> Result<HashMap<String, Tensor>, ArtifactError> {
        self.header.constants.iter().map(|entry| Ok((entry.symbol.clone(), self.constant(entry, true)?))).collect()
    }

    /// How many targets there is machine code for.
    pub(crate) fn natives(&self) -> usize {
        self.header.natives.len()
    }

    /// The text of a program with machine code, and its constants by name.
    pub(crate) fn native_text(&self, i: usize) -> Result<&str, ArtifactError> {
        let before = self.header.natives[..i].iter().map(|native| native.text);
        let start = before.fold(self.header.text, usize::saturating_add);
        self.text_at(start, self.header.natives[i].text)
    }

    /// The constants of a program with machine code, by name; `sums` says whether their checksums are checked.
    pub(crate) fn native_constants(&self, i: usize, sums: bool) -> Result<HashMap<String, Tensor>, ArtifactError> {
        let entries = self.header.natives[i].constants.iter();
        entries.map(|entry| Ok((entry.symbol.clone(), self.constant(entry, sums)?))).collect()
    }

    /// Machine code, checked.
    pub(crate) fn machine_code(&self, i: usize) -> Result<MachineCode, ArtifactError> {
        let NativeEntry { code, entries, .. } = &self.header.natives[i];
        let text = self.blob(*code, true)?.as_slice().to_vec();
        if entries.iter().any(|&entry| entry >= text.len()) {
            return Err(outside());
        }
        Ok(MachineCode { text, entries: entries.clone() })
    }

    /// `bytes` bytes of text, from `start` after the header on.
    fn text_at(&self, start: usize, bytes: usize) -> Result<&str, ArtifactError> {
        let text = self.front[self.texts..].get(start..).and_then(|rest| rest.get(..bytes)).ok_or_else(outside)?;
        std::str::from_utf8(text).map_err(|_| damaged("the artifact's text is not UTF-8"))
    }

    fn blob(&self, i: usize, sums: bool) -> Result<Buffer, ArtifactError> {
        let (blob, &at) = self.header.blobs.get(i).zip(self.blobs.get(i)).ok_or_else(outside)?;
        let buffer = Buffer::shared(self.owner.clone(), at, blob.bytes).ok_or_else(outside)?;
        if sums && crc32fast::hash(buffer.as_slice()) != blob.sum {
            return Err(damaged("the artifact is damaged: the checksum of a constant does not fit"));
        }
        Ok(buffer)
    }

    fn constant(&self, entry: &Entry, sums: bool) -> Result<Tensor, ArtifactError> {
        let dtype = DType::parse(&entry.dtype).ok_or_else(outside)?;
        if dtype == DType::Str {
            return Tensor::from_strings(&entry.shape, entry.strings.clone()).map_err(|e| damaged(e.to_string()));
        }
        let buffer = self.blob(entry.blob, sums)?;
        if entry.block > 0 {
            return blocks::unpack(dtype, &entry.shape, entry.block, buffer.as_slice()).ok_or_else(outside);
        }
        Tensor::from_buffer(dtype, &entry.shape, buffer).map_err(|e| damaged(e.to_string()))
    }
}

/// Where each blob of a file begins, the first of which comes after `front` bytes: they end where the file ends, and
/// there are zeros between them.
fn begins(blobs: &[Blob], front: usize, file: &[u8]) -> Result<Vec<usize>, ArtifactError> {
    let mut begins = Vec::with_capacity(blobs.len());
    let mut end = front;
    for blob in blobs.iter().map(Some).chain([None]) {
        let begin = end.checked_next_multiple_of(ALIGN).ok_or_else(outside)?;
        let gap = file.get(end..begin).ok_or_else(|| damaged("the artifact is cut off"))?;
        if gap.iter().any(|&byte| byte != 0) {
            return Err(damaged("the artifact is damaged: there is something between its constants"));
        }
        begins.push(begin);
        end = begin.checked_add(blob.map_or(0, |blob| blob.bytes)).ok_or_else(outside)?;
    }
    if end == file.len() { Ok(begins) } else { Err(damaged("the artifact is damaged: it is too long")) }
}

/// Deflate makes nothing shorter than by this factor: a header that says so lies.
const MOST: usize = 1100;

fn inflated(bytes: &[u8], len: usize) -> Result<Vec<u8>, ArtifactError> {
    use std::io::Read;
    let broken = || damaged("the artifact's text is damaged");
    if len > bytes.len().saturating_mul(MOST) {
        return Err(broken());
    }
    let mut whole = Vec::with_capacity(len);
    let all = flate2::read::DeflateDecoder::new(bytes).take(len as u64 + 1).read_to_end(&mut whole);
    if all.is_err() || whole.len() != len { Err(broken()) } else { Ok(whole) }
}

/// The number in the eight bytes at `at`; beyond the end, or where it does not fit, more than any length.
fn length(bytes: &[u8], at: usize) -> usize {
    let eight = bytes.get(at..).and_then(|b| b.first_chunk::<8>());
    eight.and_then(|b| usize::try_from(u64::from_le_bytes(*b)).ok()).unwrap_or(usize::MAX)
}
