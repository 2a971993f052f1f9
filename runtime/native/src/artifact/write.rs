//! Writes artifacts.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use optc_tensor::{ALIGN, Tensor, write_file};

use super::{Blob, Entry, Header, MAGIC, NativeEntry, PREFIX, VERSION, blocks};
use crate::NativeCode;

/// What an artifact is written of.
#[derive(Debug)]
pub struct Contents<'a> {
    /// The graph's name.
    pub name: &'a str,
    /// The pipeline that open dims are to be specialised with.
    pub passes: &'a str,
    /// Whether all passes have run.
    pub specialised: bool,
    /// The graph.
    pub text: &'a str,
    /// Its constants, by symbol.
    pub constants: &'a [(String, Tensor)],
    /// What was measured to be fastest, in a form of the caller.
    pub tuning: Option<serde_json::Value>,
    /// Programs with machine code.
    pub natives: &'a [NativeCode],
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Bytes of the file.
    pub bytes: u64,
    /// For each program with machine code, bytes of its code, and of its constants that neither the graph nor a program
    /// before it has.
    pub natives: Vec<(u64, u64)>,
}

/// Distinct runs of bytes, in the order of the file.
#[derive(Default)]
struct Blobs<'a> {
    list: Vec<Cow<'a, [u8]>>,
    entries: Vec<Blob>,
    known: HashMap<(usize, u32), Vec<usize>>,
    bytes: usize,
}

impl<'a> Blobs<'a> {
    /// The number of these bytes.
    fn number(&mut self, bytes: Cow<'a, [u8]>) -> usize {
        let sum = crc32fast::hash(&bytes);
        let alike = self.known.entry((bytes.len(), sum)).or_default();
        if let Some(&same) = alike.iter().find(|&&i| self.list[i] == bytes) {
            return same;
        }
        alike.push(self.list.len());
        self.entries.push(Blob { bytes: bytes.len(), sum });
        self.bytes += bytes.len().next_multiple_of(ALIGN);
        self.list.push(bytes);
        self.list.len() - 1
    }

    /// The entry of a constant; `packed` says whether blocks of zeros are left out.
    fn constant(&mut self, symbol: &str, t: &'a Tensor, packed: bool) -> Entry {
        let blocks = if packed { blocks::pack(t) } else { None };
        let (block, bytes) = match blocks {
            Some(packed) => (packed.block, Cow::Owned(packed.bytes)),
            None => (0, Cow::Borrowed(t.bytes())),
        };
        let strings = t.strings().map(<[String]>::to_vec).unwrap_or_default();
        let (symbol, shape) = (symbol.to_owned(), t.shape().to_vec());
        Entry { symbol, dtype: t.dtype().name().to_owned(), shape, blob: self.number(bytes), block, strings }
    }
}

/// Writes an artifact. An existing file is replaced, never written in place.
///
/// # Errors
/// The file cannot be written.
pub fn save(path: &Path, contents: &Contents) -> std::io::Result<Saved> {
    let printed: Vec<_> = contents.natives.iter().map(|native| native.program.print()).collect();
    let mut blobs = Blobs::default();
    let constants = contents.constants.iter().map(|(symbol, t)| blobs.constant(symbol, t, true)).collect();
    let (mut natives, mut sizes) = (Vec::new(), Vec::new());
    for (native, printed) in contents.natives.iter().zip(&printed) {
        let code = blobs.number(Cow::Borrowed(&native.code.text));
        let before = blobs.bytes;
        let constants = printed.constants.iter().map(|(symbol, t)| blobs.constant(symbol, t, false)).collect();
        sizes.push((native.code.text.len() as u64, (blobs.bytes - before) as u64));
        let entries = native.code.entries.clone();
        natives.push(NativeEntry { text: printed.text.len(), code, entries, constants });
    }
    let Contents { name, passes, specialised, text, .. } = *contents;
    let (name, passes, tuning) = (name.to_owned(), passes.to_owned(), contents.tuning.clone());
    let header =
        Header { name, passes, specialised, blobs: blobs.entries, text: text.len(), constants, natives, tuning };
    let header = serde_json::to_vec(&header)?;
    let mut whole = [&(header.len() as u64).to_le_bytes(), &header[..], text.as_bytes()].concat();
    printed.iter().for_each(|printed| whole.extend_from_slice(printed.text.as_bytes()));
    let front = deflated(&whole)?;
    let bytes = write_file(path, |file| write(file, &front, whole.len(), &blobs.list))?;
    Ok(Saved { bytes, natives: sizes })
}

fn write(file: &mut std::fs::File, front: &[u8], inflated: usize, blobs: &[Cow<[u8]>]) -> std::io::Result<()> {
    let lengths = [(front.len() as u64).to_le_bytes(), (inflated as u64).to_le_bytes()].concat();
    let mut sum = crc32fast::Hasher::new();
    sum.update(&lengths);
    sum.update(front);
    let mut out = std::io::BufWriter::new(file);
    out.write_all(MAGIC)?;
    out.write_all(&VERSION.to_le_bytes())?;
    out.write_all(&sum.finalize().to_le_bytes())?;
    out.write_all(&lengths)?;
    out.write_all(front)?;
    align(&mut out, PREFIX + front.len())?;
    for blob in blobs {
        out.write_all(blob)?;
        align(&mut out, blob.len())?;
    }
    out.flush()
}

/// Zeros after `bytes` bytes, up to a multiple of [`ALIGN`].
fn align(out: &mut impl Write, bytes: usize) -> std::io::Result<()> {
    out.write_all(&[0; ALIGN][..bytes.next_multiple_of(ALIGN) - bytes])
}

fn deflated(text: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(text)?;
    out.finish()
}
