//! NumPy's `.npy` and `.npz` files: every dtype that NumPy and optc share, C and Fortran order, either endianness.
//!
//! Arrays of an `.npz` keep their names as they are, `/` and `:` included. Files are written by
//! [`write_file`]. `bf16` and 4-bit tensors, which NumPy lacks, are written as `f32` and as `i8`/`u8`.

use std::io::{Read, Seek, Write};
use std::path::Path;

use npyz::zip;
use npyz::{DType as NpyType, Endianness, NpyHeader, Order, TypeChar};

use crate::{DType, MappedFile, Tensor, TensorError, element_count, strides_of, write_file};

/// The longest header that is read; real ones take about a hundred bytes.
const MAX_HEADER: usize = 16 << 10;

/// Why an array file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum NpyError {
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The bytes are not a zip archive.
    #[error("not an .npz archive: {0}")]
    Zip(String),
    /// The bytes are not a `.npy` array.
    #[error("array `{name}`: {reason}")]
    Array {
        /// The array's name; empty for a `.npy` file.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Shape and data do not fit together.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

impl From<zip::result::ZipError> for NpyError {
    fn from(e: zip::result::ZipError) -> Self {
        match e {
            zip::result::ZipError::Io(e) => NpyError::Io(e),
            other => NpyError::Zip(other.to_string()),
        }
    }
}

/// Reads a `.npy` file.
///
/// # Errors
/// The file cannot be read, or is not an array of a supported dtype.
pub fn read_npy(path: &Path) -> Result<Tensor, NpyError> {
    parse_npy("", MappedFile::open(path)?.as_ref())
}

/// Reads every array of an `.npz` file, in the archive's order.
///
/// # Errors
/// The file cannot be read, is not a zip archive, or holds something that is not an array of a supported dtype.
pub fn read_npz(path: &Path) -> Result<Vec<(String, Tensor)>, NpyError> {
    read_npz_from(std::io::Cursor::new(MappedFile::open(path)?))
}

/// Reads every array of an `.npz` archive from a stream.
///
/// # Errors
/// As [`read_npz`].
pub fn read_npz_from(reader: impl Read + Seek) -> Result<Vec<(String, Tensor)>, NpyError> {
    let mut archive = zip::ZipArchive::new(reader)?;
    let mut arrays = Vec::new();
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i)?;
        let Some(name) = npyz::npz::array_name_from_file_name(entry.name()).map(str::to_owned) else { continue };
        let mut bytes = Vec::new(); // grows with what is there, not with what the archive declares
        entry.read_to_end(&mut bytes)?;
        let tensor = parse_npy(&name, &bytes)?;
        arrays.push((name, tensor));
    }
    Ok(arrays)
}

/// Writes a `.npy` file.
///
/// # Errors
/// The file cannot be written, or the tensor holds strings.
pub fn write_npy(path: &Path, tensor: &Tensor) -> Result<(), NpyError> {
    write_atomically(path, |file| {
        let mut out = std::io::BufWriter::new(file);
        write_array("", tensor, &mut out)?;
        Ok(out.flush()?)
    })
}

/// Writes an uncompressed `.npz` file with the arrays under their names.
///
/// # Errors
/// The file cannot be written, or a tensor holds strings.
pub fn write_npz<'a>(path: &Path, arrays: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<(), NpyError> {
    write_atomically(path, |file| {
        let mut archive = zip::ZipWriter::new(std::io::BufWriter::new(file));
        for (name, tensor) in arrays {
            let options = zip::write::FileOptions::default()
                .compression_method(zip::CompressionMethod::Stored)
                .large_file(tensor.bytes().len() > u32::MAX as usize / 2);
            archive.start_file(npyz::npz::file_name_from_array_name(name), options)?;
            write_array(name, tensor, &mut archive)?;
        }
        Ok(archive.finish()?.flush()?)
    })
}

/// Writes a file; see [`write_file`].
///
/// # Errors
/// As [`write_file`].
pub fn write_atomically<E: From<std::io::Error>>(
    path: &Path,
    write: impl FnOnce(&mut std::fs::File) -> Result<(), E>,
) -> Result<(), E> {
    write_file(path, write).map(drop)
}

fn parse_npy(name: &str, bytes: &[u8]) -> Result<Tensor, NpyError> {
    let fail = |reason: String| NpyError::Array { name: name.to_owned(), reason };
    check_header(bytes).map_err(|reason| fail(reason.to_owned()))?;
    let mut rest = bytes;
    let header = NpyHeader::from_reader(&mut rest).map_err(|e| fail(e.to_string()))?;
    let (dtype, big_endian) = dtype_of(&header.dtype()).map_err(fail)?;
    let mut shape = Vec::new();
    for &d in header.shape() {
        shape.push(usize::try_from(d).map_err(|_| fail(format!("dim {d} is too large")))?);
    }
    let size = element_count(&shape).and_then(|n| dtype.bytes_for(n));
    let size = size.ok_or_else(|| TensorError::TooLarge(shape.clone()))?;
    let Some(data) = rest.get(..size) else {
        return Err(fail(format!("data is truncated: expected {size} bytes, found {}", rest.len())));
    };
    let mut tensor = Tensor::from_bytes(dtype, &shape, data)?;
    let width = dtype.bits() / 8;
    if big_endian {
        tensor.bytes_mut()?.chunks_exact_mut(width).for_each(<[u8]>::reverse);
    }
    if dtype == DType::Bool {
        tensor.bytes_mut()?.iter_mut().for_each(|b| *b = (*b != 0) as u8);
    }
    if header.order() == Order::Fortran && shape.len() > 1 {
        tensor = from_fortran(&tensor, width)?;
    }
    Ok(tensor)
}

/// Bounds the header's length and nesting, which the header parser takes on trust.
fn check_header(bytes: &[u8]) -> Result<(), &'static str> {
    let head = bytes.get(..12).filter(|h| h.starts_with(b"\x93NUMPY")).ok_or("not a .npy array")?;
    let (start, length) = match head[6] {
        1 => (10, u16::from_le_bytes([head[8], head[9]]) as usize),
        _ => (12, u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize),
    };
    if length > MAX_HEADER {
        return Err("the header is too long");
    }
    let text = bytes.get(start..start + length).ok_or("the header is truncated")?;
    if text.iter().filter(|b| b"([{".contains(b)).count() > 64 {
        return Err("the header is nested too deeply");
    }
    Ok(())
}

fn dtype_of(dtype: &NpyType) -> Result<(DType, bool), String> {
    let NpyType::Plain(ty) = dtype else { return Err("structured arrays are not supported".to_owned()) };
    let found = match (ty.type_char(), ty.size_field()) {
        (TypeChar::Float, 2) => DType::F16,
        (TypeChar::Float, 4) => DType::F32,
        (TypeChar::Float, 8) => DType::F64,
        (TypeChar::Int, 1) => DType::I8,
        (TypeChar::Int, 2) => DType::I16,
        (TypeChar::Int, 4) => DType::I32,
        (TypeChar::Int, 8) => DType::I64,
        (TypeChar::Uint, 1) => DType::U8,
        (TypeChar::Uint, 2) => DType::U16,
        (TypeChar::Uint, 4) => DType::U32,
        (TypeChar::Uint, 8) => DType::U64,
        (TypeChar::Bool, 1) => DType::Bool,
        _ => return Err(format!("dtype `{ty}` is not supported")),
    };
    Ok((found, ty.endianness() == Endianness::Big))
}

/// The same array with its elements in row-major order.
fn from_fortran(tensor: &Tensor, width: usize) -> Result<Tensor, TensorError> {
    let reversed: Vec<usize> = tensor.shape().iter().rev().copied().collect();
    let mut strides = strides_of(&reversed);
    strides.reverse();
    let mut bytes = Vec::with_capacity(tensor.bytes().len());
    crate::for_each_index(tensor.shape(), |index| {
        let at: usize = index.iter().zip(&strides).map(|(i, s)| i * s).sum();
        bytes.extend_from_slice(&tensor.bytes()[at * width..(at + 1) * width]);
    });
    Tensor::from_bytes(tensor.dtype(), tensor.shape(), &bytes)
}

fn write_array(name: &str, tensor: &Tensor, out: &mut impl Write) -> Result<(), NpyError> {
    let widened = match tensor.dtype() {
        DType::BF16 => Some(Tensor::from_f64(DType::F32, tensor.shape(), &tensor.to_f64_vec())?),
        DType::I4 => Some(Tensor::from_i64(DType::I8, tensor.shape(), &tensor.to_i64_vec())?),
        DType::U4 => Some(Tensor::from_i64(DType::U8, tensor.shape(), &tensor.to_i64_vec())?),
        _ => None,
    };
    let tensor = widened.as_ref().unwrap_or(tensor);
    let descr = match tensor.dtype() {
        DType::F16 => "<f2",
        DType::F32 => "<f4",
        DType::F64 => "<f8",
        DType::I8 => "|i1",
        DType::I16 => "<i2",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
        DType::U8 => "|u1",
        DType::U16 => "<u2",
        DType::U32 => "<u4",
        DType::U64 => "<u8",
        DType::Bool => "|b1",
        DType::Str | DType::BF16 | DType::I4 | DType::U4 => {
            let reason = format!("{} tensors cannot be written as .npy", tensor.dtype());
            return Err(NpyError::Array { name: name.to_owned(), reason });
        }
    };
    let dims: String = tensor.shape().iter().map(|d| format!("{d}, ")).collect();
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}", dims.trim_end());
    // Magic, version, length and header fill a multiple of 64 bytes, so that mapped data is aligned.
    let padding = 63 - (10 + header.len()) % 64;
    header.extend(std::iter::repeat_n(' ', padding));
    header.push('\n');
    let length = u16::try_from(header.len())
        .map_err(|_| NpyError::Array { name: name.to_owned(), reason: "the shape has too many dims".to_owned() })?;
    out.write_all(b"\x93NUMPY\x01\x00")?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    out.write_all(tensor.bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(t: &Tensor) -> Vec<u8> {
        let mut out = Vec::new();
        write_array("", t, &mut out).unwrap();
        out
    }

    #[test]
    fn every_numpy_dtype_round_trips() {
        for &dtype in DType::ALL {
            let Ok(t) =
                Tensor::from_i64(dtype, &[2, 0, 3], &[]).and_then(|_| Tensor::from_i64(dtype, &[3], &[1, 0, 1]))
            else {
                continue;
            };
            let back = parse_npy("", &bytes_of(&t)).unwrap();
            assert_eq!(back.to_f64_vec(), [1.0, 0.0, 1.0], "{dtype}");
            assert_eq!(back.shape(), [3]);
        }
    }

    #[test]
    fn scalars_and_empty_shapes_round_trip() {
        for shape in [&[][..], &[1], &[0, 4]] {
            let t = Tensor::zeros(DType::F32, shape).unwrap();
            assert_eq!(parse_npy("", &bytes_of(&t)).unwrap(), t);
        }
    }

    #[test]
    fn fortran_order_and_big_endian_are_converted() {
        let t = Tensor::from_slice(&[2, 2], &[1i16, 2, 3, 4]).unwrap();
        let mut bytes = bytes_of(&t);
        let at = bytes.windows(5).position(|w| w == b"False").unwrap();
        bytes[at..at + 5].copy_from_slice(b"True ");
        let at = bytes.windows(3).position(|w| w == b"<i2").unwrap();
        bytes[at] = b'>';
        let back = parse_npy("", &bytes).unwrap();
        assert_eq!(back.to_i64_vec(), [256, 768, 512, 1024]);
    }

    #[test]
    fn truncated_arrays_are_errors() {
        let bytes = bytes_of(&Tensor::from_slice(&[3], &[1f32, 2.0, 3.0]).unwrap());
        for n in 0..bytes.len() {
            assert!(parse_npy("x", &bytes[..n]).is_err(), "{n}");
        }
    }

    #[test]
    fn archives_keep_odd_names() {
        let path = std::env::temp_dir().join(format!("optc-npz-{}.npz", std::process::id()));
        let t = Tensor::from_slice(&[2], &[1f32, 2.0]).unwrap();
        write_npz(&path, [("a/b:0", &t), ("x", &t)]).unwrap();
        let back = read_npz(&path);
        std::fs::remove_file(&path).unwrap();
        let back = back.unwrap();
        assert_eq!(back.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(), ["a/b:0", "x"]);
        assert_eq!(back[1].1, t);
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let path = std::env::temp_dir().join(format!("optc-npz-fail-{}.npy", std::process::id()));
        let t = Tensor::from_strings(&[1], vec!["a".to_owned()]).unwrap();
        assert!(write_npy(&path, &t).is_err());
        assert!(!path.exists());
    }
}
