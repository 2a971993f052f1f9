//! `.optc` artifacts: the optimized graph as text, and its constants.
//!
//! ```text
//! "OPTCMODL" | version u32 | crc32 of all that follows u32 | length of the next part u64 | its length inflated u64
//! deflated: length of the header u64 | header (JSON) | text
//! constants
//! ```
//!
//! Numbers are little-endian. The header has the pipeline, and dtype, shape, offset and length of each
//! constant; constants begin at multiples of 64 bytes of the file, so that they are used where the file is mapped. Offsets
//! and lengths are checked before they are used, and a file is written whole or not at all. A constant with many zeros is stored as its
//! blocks that are not zero ([`blocks`]), and is unpacked when it is read.

mod blocks;

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use optc_ir::{Graph, Verified, parse_with, print};
use optc_tensor::{ALIGN, Access, Buffer, DType, FileBytes, Tensor, open_plain, write_file};
use serde::{Deserialize, Serialize};

use crate::{Error, TuningCache};

const MAGIC: &[u8; 8] = b"OPTCMODL";
/// The version of the format that is written, and the only one that is read.
pub const VERSION: u32 = 4;
/// Magic, version, checksum, lengths of what is deflated.
const PREFIX: usize = 32;

#[derive(Serialize, Deserialize)]
struct Header {
    /// The pipeline that open dims are to be specialised with.
    passes: String,
    /// Whether all passes have run.
    specialised: bool,
    constants: Vec<Entry>,
    /// What was measured to be fastest.
    #[serde(default, skip_serializing_if = "TuningCache::is_empty")]
    tuning: TuningCache,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    symbol: String,
    dtype: String,
    shape: Vec<usize>,
    /// From the start of the constants, which is the first multiple of [`ALIGN`] behind the text.
    offset: usize,
    bytes: usize,
    /// Rows of the blocks that are stored; 0 where all elements are.
    #[serde(default, skip_serializing_if = "is_zero")]
    block: usize,
    /// The elements of a string tensor, which has no bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    strings: Vec<String>,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// Bytes that an artifact stores of a constant.
pub fn stored_bytes(t: &Tensor) -> usize {
    blocks::pack(t).map_or(t.bytes().len(), |packed| packed.bytes.len())
}

/// What an artifact holds.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub graph: Graph,
    pub passes: String,
    pub specialised: bool,
    pub tuning: TuningCache,
}

/// Whether the file at `path` begins like an artifact.
pub fn is_artifact(path: &Path) -> bool {
    use std::io::Read;
    let mut magic = [0; 8];
    open_plain(path).and_then(|mut f| f.read_exact(&mut magic)).is_ok() && &magic == MAGIC
}

/// Whether `bytes` begin like an artifact.
pub(crate) fn has_magic(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Writes an artifact; returns its bytes.
pub(crate) fn save(
    path: &Path,
    graph: &Graph,
    passes: &str,
    specialised: bool,
    tuning: TuningCache,
) -> Result<u64, Error> {
    let printed = print(graph);
    let mut offset = 0;
    let mut entries = Vec::new();
    let packed: Vec<Option<blocks::Packed>> = printed.constants.iter().map(|(_, t)| blocks::pack(t)).collect();
    for ((symbol, t), packed) in printed.constants.iter().zip(&packed) {
        let (symbol, shape) = (symbol.clone(), t.shape().to_vec());
        let (block, bytes) = packed.as_ref().map_or((0, t.bytes().len()), |p| (p.block, p.bytes.len()));
        let strings = t.strings().map(<[String]>::to_vec).unwrap_or_default();
        entries.push(Entry { symbol, dtype: t.dtype().name().to_owned(), shape, offset, bytes, block, strings });
        offset += bytes.next_multiple_of(ALIGN);
    }
    let io = |error: std::io::Error| Error::Io { path: path.to_owned(), error };
    let header = Header { passes: passes.to_owned(), specialised, constants: entries, tuning };
    let header = serde_json::to_vec(&header).map_err(|e| io(e.into()))?;
    let length = (header.len() as u64).to_le_bytes();
    let whole = [&length, &header[..], printed.text.as_bytes()].concat();
    let front = deflated(&whole).map_err(io)?;
    write_file(path, |file| {
        let mut out = Checked { out: std::io::BufWriter::new(file), crc: crc32fast::Hasher::new(), written: 0 };
        out.out.write_all(&[0; 16])?; // magic, version and checksum: written last
        out.put(&(front.len() as u64).to_le_bytes())?;
        out.put(&(whole.len() as u64).to_le_bytes())?;
        out.put(&front)?;
        out.align(16)?;
        for ((_, t), packed) in printed.constants.iter().zip(&packed) {
            out.put(packed.as_ref().map_or(t.bytes(), |p| &p.bytes))?;
            out.align(16)?;
        }
        let crc = out.crc.finalize();
        let mut file = out.out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(0))?;
        file.write_all(MAGIC)?;
        file.write_all(&VERSION.to_le_bytes())?;
        file.write_all(&crc.to_le_bytes())
    })
    .map_err(io)
}

fn deflated(text: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(text)?;
    out.finish()
}

/// Deflate makes nothing shorter than by this factor: a header that says so lies.
const MOST: usize = 1100;

fn inflated(bytes: &[u8], len: usize) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let damaged = || "the artifact's text is damaged".to_owned();
    if len > bytes.len().saturating_mul(MOST) {
        return Err(damaged());
    }
    let mut whole = Vec::with_capacity(len);
    let all = flate2::read::DeflateDecoder::new(bytes).take(len as u64 + 1).read_to_end(&mut whole);
    if all.is_err() || whole.len() != len { Err(damaged()) } else { Ok(whole) }
}

/// The number in the eight bytes at `at`; beyond the end, or where it does not fit, more than any length.
fn length(bytes: &[u8], at: usize) -> usize {
    let eight = bytes.get(at..).and_then(|b| b.first_chunk::<8>());
    eight.and_then(|b| usize::try_from(u64::from_le_bytes(*b)).ok()).unwrap_or(usize::MAX)
}

/// A writer that sums up what goes through it.
struct Checked<W> {
    out: W,
    crc: crc32fast::Hasher,
    written: usize,
}

impl<W: Write> Checked<W> {
    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.crc.update(bytes);
        self.written += bytes.len();
        self.out.write_all(bytes)
    }

    /// Zeros up to a multiple of [`ALIGN`] of the file, of which `before` bytes went past this writer.
    fn align(&mut self, before: usize) -> std::io::Result<()> {
        let at = before + self.written;
        self.put(&[0; ALIGN][..at.next_multiple_of(ALIGN) - at])
    }
}

pub(crate) fn load(path: &Path, access: Access) -> Result<Loaded, Error> {
    let bytes = FileBytes::open(path, access).map_err(|error| Error::Io { path: path.to_owned(), error })?;
    parse(Arc::new(bytes)).map_err(|reason| Error::Artifact { path: path.to_owned(), reason })
}

/// Reads an artifact from bytes; the reason when they are not one.
pub(crate) fn parse(owner: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Result<Loaded, String> {
    let bytes = (*owner).as_ref();
    let prefix = bytes.get(..PREFIX).ok_or("the file is too short for an artifact")?;
    if &prefix[..8] != MAGIC {
        return Err("the file is not an artifact of optc".to_owned());
    }
    let number = |at: usize| u32::from_le_bytes([prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]]);
    if number(8) != VERSION {
        return Err(format!("the artifact has version {}, expected {VERSION}: compile the model again", number(8)));
    }
    if crc32fast::hash(&bytes[16..]) != number(12) {
        return Err("the artifact is damaged: its checksum does not fit".to_owned());
    }
    let damaged = || "the artifact is damaged: an offset lies outside of it".to_owned();
    let front = bytes.get(PREFIX..).and_then(|rest| rest.get(..length(bytes, 16))).ok_or_else(damaged)?;
    let whole = inflated(front, length(bytes, 24))?;
    let rest = whole.get(8..).ok_or_else(damaged)?;
    let (header, text) = rest.split_at_checked(length(&whole, 0)).ok_or_else(damaged)?;
    let header: Header =
        serde_json::from_slice(header).map_err(|e| format!("the artifact's header is damaged: {e}"))?;
    let text = std::str::from_utf8(text).map_err(|_| "the artifact's text is not UTF-8".to_owned())?;
    let start = (PREFIX + front.len()).next_multiple_of(ALIGN);
    let mut constants = HashMap::new();
    for entry in header.constants {
        let tensor = constant(&entry, &owner, start).ok_or_else(damaged)?;
        constants.insert(entry.symbol, tensor);
    }
    let graph = parse_with(text, &constants).map_err(|e| format!("the artifact's text is damaged: {e}"))?;
    let graph = Verified::new(graph).map_err(|e| e.to_string())?.into_graph();
    Ok(Loaded { graph, passes: header.passes, specialised: header.specialised, tuning: header.tuning })
}

fn constant(entry: &Entry, owner: &Arc<dyn AsRef<[u8]> + Send + Sync>, start: usize) -> Option<Tensor> {
    let dtype = DType::parse(&entry.dtype)?;
    if dtype == DType::Str {
        return Tensor::from_strings(&entry.shape, entry.strings.clone()).ok();
    }
    let at = start.checked_add(entry.offset)?;
    let buffer = Buffer::shared(owner.clone(), at, entry.bytes)?;
    if entry.block > 0 {
        return blocks::unpack(dtype, &entry.shape, entry.block, buffer.as_slice());
    }
    Tensor::from_buffer(dtype, &entry.shape, buffer).ok()
}
