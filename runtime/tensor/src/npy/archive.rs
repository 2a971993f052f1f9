//! Reading `.npz` archives: arrays are listed by name, and only those that are asked for are unpacked.
//!
//! Nothing that an archive says is trusted. An array takes memory only after its own header was read, when the archive
//! agrees on the size and the packed bytes that are there can hold as much; it is unpacked straight into the tensor.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use npyz::zip::read::ZipFile;
use npyz::zip::{CompressionMethod, ZipArchive};

use super::{ArrayReader, NpyError};
use crate::Tensor;

/// Deflate makes nothing shorter than by this factor.
const MOST: u64 = 1032;

/// An `.npz` archive that is read array by array.
pub struct Npz<R> {
    archive: ZipArchive<R>,
    /// Names of arrays in the archive's order, and which of its entries they are.
    names: Vec<(String, usize)>,
    /// Bytes of the archive.
    length: u64,
}

impl Npz<BufReader<File>> {
    /// Opens the archive at `path` and lists its arrays.
    ///
    /// # Errors
    /// The file cannot be read or is not a zip archive, or two arrays have one name.
    pub fn open(path: &Path) -> Result<Self, NpyError> {
        Npz::new(BufReader::new(crate::open_plain(path)?))
    }
}

impl<R: Read + Seek> Npz<R> {
    /// Lists the arrays of an archive.
    ///
    /// # Errors
    /// As [`Npz::open`].
    pub fn new(mut reader: R) -> Result<Self, NpyError> {
        let length = reader.seek(SeekFrom::End(0))?;
        reader.rewind()?;
        let mut archive = ZipArchive::new(reader)?;
        let (mut names, mut known) = (Vec::new(), HashMap::new());
        for i in 0..archive.len() {
            let entry = archive.by_index_raw(i)?;
            let Some(name) = npyz::npz::array_name_from_file_name(entry.name()) else { continue };
            if known.insert(name.to_owned(), i).is_some() {
                return Err(NpyError::Array { name: name.to_owned(), reason: "it is there twice".to_owned() });
            }
            names.push((name.to_owned(), i));
        }
        Ok(Npz { archive, names, length })
    }

    /// The arrays' names, in the archive's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|(name, _)| name.as_str())
    }

    /// The array called `name`, its header read.
    ///
    /// # Errors
    /// There is none, it is not an array of a supported dtype, or archive and header do not agree on its size.
    pub fn array(&mut self, name: &str) -> Result<PackedArray<'_>, NpyError> {
        let wrong = |reason: String| NpyError::Array { name: name.to_owned(), reason };
        let at = self.names.iter().find(|(n, _)| n == name).map(|&(_, at)| at);
        let entry = self.archive.by_index(at.ok_or_else(|| wrong("it is not there".to_owned()))?)?;
        let packed = entry.compressed_size().min(self.length);
        let most = match entry.compression() {
            CompressionMethod::Stored => packed,
            CompressionMethod::Deflated => packed.saturating_mul(MOST),
            other => return Err(wrong(format!("it is compressed by `{other}`, expected `Deflated` or `Stored`"))),
        };
        let declared = entry.size();
        let array = ArrayReader::new(name, entry)?;
        array.check_size(most)?;
        if array.size() != declared {
            let reason = format!("its header asks for {} bytes, the archive declares {declared}", array.size());
            return Err(array.wrong(reason));
        }
        Ok(PackedArray(array))
    }
}

/// An array of an archive that is still to be unpacked.
pub struct PackedArray<'a>(ArrayReader<ZipFile<'a>>);

impl<'a> std::ops::Deref for PackedArray<'a> {
    type Target = ArrayReader<ZipFile<'a>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl PackedArray<'_> {
    /// The array with its elements.
    ///
    /// # Errors
    /// They cannot be read, are more or fewer than the header says, or their checksum does not fit.
    pub fn read(self) -> Result<Tensor, NpyError> {
        let name = self.0.name().to_owned();
        let wrong = |reason: String| NpyError::Array { name: name.clone(), reason };
        let (tensor, mut rest) = self.0.read_all()?;
        // The checksum is looked at where the entry ends.
        match rest.read(&mut [0]) {
            Ok(0) => Ok(tensor),
            Ok(_) => Err(wrong("it has more bytes than its header says".to_owned())),
            Err(e) => Err(wrong(e.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::npy::{read_npz, read_npz_from, write_array};
    use npyz::zip::ZipWriter;
    use npyz::zip::write::FileOptions;
    use std::io::{Cursor, Write};

    /// An archive of entries, deflated.
    fn archive(entries: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
        let mut out = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in entries {
            out.start_file(*name, FileOptions::default().compression_method(method)).unwrap();
            out.write_all(bytes).unwrap();
        }
        out.finish().unwrap().into_inner()
    }

    fn npy(tensor: &Tensor) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_array("", tensor, &mut bytes).unwrap();
        bytes
    }

    /// A header of an array of `f32` in a shape, without elements.
    fn header(shape: &str) -> Vec<u8> {
        let mut bytes = npy(&Tensor::zeros(DType::F32, &[0]).unwrap());
        let at = bytes.windows(4).position(|w| w == b"(0,)").unwrap();
        let text = format!("({shape})");
        let rest = at + text.len() + 3;
        bytes[at..at + text.len()].copy_from_slice(text.as_bytes());
        bytes[at + text.len()..rest].copy_from_slice(b", }");
        let end = bytes.len() - 1;
        bytes[rest..end].fill(b' ');
        bytes
    }

    fn reason(bytes: Vec<u8>) -> String {
        read_npz_from(Cursor::new(bytes)).unwrap_err().to_string()
    }

    #[test]
    fn only_what_is_asked_for_is_unpacked() {
        let small = Tensor::from_slice(&[2], &[1f32, 2.0]).unwrap();
        let bomb = npy(&Tensor::zeros(DType::U8, &[64 << 20]).unwrap());
        let bytes =
            archive(&[("bomb.npy", &bomb), ("text.txt", b"x"), ("x.npy", &npy(&small))], CompressionMethod::Deflated);
        assert!(bytes.len() < 1 << 20);
        let mut npz = Npz::new(Cursor::new(&bytes)).unwrap();
        assert_eq!(npz.names().collect::<Vec<_>>(), ["bomb", "x"]);
        assert_eq!(npz.array("x").unwrap().read().unwrap(), small);
        let array = npz.array("bomb").unwrap();
        assert_eq!((array.dtype(), array.shape()), (DType::U8, &[64 << 20][..]));
        drop(array);
        assert!(npz.array("text").is_err());
    }

    #[test]
    fn sizes_that_cannot_be_are_refused_before_anything_is_made_for_them() {
        // The header alone asks for 2^58 bytes: more than the packed ones can hold, and than there are.
        for method in [CompressionMethod::Deflated, CompressionMethod::Stored] {
            let bytes = archive(&[("x.npy", &header("72057594037927936,"))], method);
            let found = reason(bytes);
            assert!(found.contains("array `x`: data is truncated: expected 288230376151711"), "{found}");
        }
        let more = [npy(&Tensor::zeros(DType::F32, &[100]).unwrap()), vec![0; 10]].concat();
        let found = reason(archive(&[("x.npy", &more)], CompressionMethod::Deflated));
        assert!(found.contains("header asks for") && found.contains("the archive declares"), "{found}");
    }

    #[test]
    fn an_archive_that_lies_about_sizes_is_refused() {
        let honest = npy(&Tensor::zeros(DType::F32, &[1000]).unwrap());
        let bytes = archive(&[("x.npy", &honest)], CompressionMethod::Deflated);
        let size = u32::try_from(honest.len()).unwrap().to_le_bytes();
        // Sizes stand in the local header and in the directory; the last one counts.
        let at = bytes.windows(4).rposition(|w| w == size).unwrap();
        for lie in [0u32, 1, u32::MAX - 1] {
            let mut bytes = bytes.clone();
            bytes[at..at + 4].copy_from_slice(&lie.to_le_bytes());
            assert!(reason(bytes).contains(&format!("the archive declares {lie}")));
        }
    }

    #[test]
    fn entries_that_end_early_or_late_or_are_damaged_are_refused() {
        let tensor = Tensor::from_slice(&[100], &[1.5f32; 100]).unwrap();
        let bytes = archive(&[("x.npy", &npy(&tensor))], CompressionMethod::Stored);
        let at = bytes.windows(4).rposition(|w| w == 1.5f32.to_le_bytes()).unwrap();
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(reason(damaged).contains("checksum"));
        for end in 0..bytes.len() {
            assert!(read_npz_from(Cursor::new(&bytes[..end])).is_err(), "{end}");
        }
    }

    #[test]
    fn what_numpy_does_not_write_is_refused() {
        let one = npy(&Tensor::scalar(1f32));
        let found = reason(archive(&[("x.npy", &one)], CompressionMethod::Bzip2));
        assert!(found.contains("compressed by `Bzip2`"), "{found}");
        let mut twice = archive(&[("x.npy", &one), ("y.npy", &one)], CompressionMethod::Stored);
        while let Some(at) = twice.windows(5).position(|w| w == b"y.npy") {
            twice[at] = b'x';
        }
        assert!(reason(twice).contains("array `x`: it is there twice"));
        assert!(matches!(read_npz("/nonexistent.npz".as_ref()), Err(NpyError::Io(_))));
    }
}
