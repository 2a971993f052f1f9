//! NumPy's `.npy` and `.npz` files: every dtype that NumPy and optc share, C and Fortran order, either endianness.
//!
//! Arrays of an `.npz` keep their names as they are, `/` and `:` included. Files are read, not mapped, and written by
//! [`write_file`]. Tensors of `bf16` and of small floats, and those of 4-bit
//! and 2-bit integers, which NumPy lacks, are written as `f32` and as `i8`/`u8`.

mod archive;
mod array;

use std::io::{Read, Seek, Write};
use std::path::Path;

use npyz::zip;

use crate::{DType, Tensor, TensorError, write_file};

pub use archive::{Npz, PackedArray};
pub use array::{ArrayReader, open_npy};

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
    open_npy(path)?.read()
}

/// Reads every array of an `.npz` file, in the archive's order. For one of unknown origin, [`Npz`] reads what is
/// needed.
///
/// # Errors
/// The file cannot be read, is not a zip archive, or holds something that is not an array of a supported dtype.
pub fn read_npz(path: &Path) -> Result<Vec<(String, Tensor)>, NpyError> {
    read_all(Npz::open(path)?)
}

/// Reads every array of an `.npz` archive from a stream.
///
/// # Errors
/// As [`read_npz`].
pub fn read_npz_from(reader: impl Read + Seek) -> Result<Vec<(String, Tensor)>, NpyError> {
    read_all(Npz::new(reader)?)
}

fn read_all(mut npz: Npz<impl Read + Seek>) -> Result<Vec<(String, Tensor)>, NpyError> {
    let names: Vec<String> = npz.names().map(str::to_owned).collect();
    names.into_iter().map(|name| npz.array(&name)?.read().map(|tensor| (name, tensor))).collect()
}

/// Writes a `.npy` file.
///
/// # Errors
/// The file cannot be written, or the tensor holds strings.
pub fn write_npy(path: &Path, tensor: &Tensor) -> Result<(), NpyError> {
    write_file(path, |file| {
        let mut out = std::io::BufWriter::new(file);
        write_array("", tensor, &mut out)?;
        Ok(out.flush()?)
    })
    .map(drop)
}

/// Writes an uncompressed `.npz` file with the arrays under their names.
///
/// # Errors
/// The file cannot be written, or a tensor holds strings.
pub fn write_npz<'a>(path: &Path, arrays: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<(), NpyError> {
    write_file(path, |file| {
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
    .map(drop)
}

fn write_array(name: &str, tensor: &Tensor, out: &mut impl Write) -> Result<(), NpyError> {
    let widened = match tensor.dtype() {
        dtype if dtype == DType::BF16 || dtype.is_small_float() => {
            Some(Tensor::from_f64(DType::F32, tensor.shape(), &tensor.to_f64_vec())?)
        }
        DType::I4 | DType::I2 => Some(Tensor::from_i64(DType::I8, tensor.shape(), &tensor.to_i64_vec())?),
        DType::U4 | DType::U2 => Some(Tensor::from_i64(DType::U8, tensor.shape(), &tensor.to_i64_vec())?),
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
        DType::Str
        | DType::BF16
        | DType::I4
        | DType::U4
        | DType::I2
        | DType::U2
        | DType::F8E4M3FN
        | DType::F8E4M3FNUZ
        | DType::F8E5M2
        | DType::F8E5M2FNUZ
        | DType::F8E8M0FNU
        | DType::F4E2M1FN => {
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

    fn parse(bytes: &[u8]) -> Result<Tensor, NpyError> {
        ArrayReader::new("x", bytes)?.read()
    }

    #[test]
    fn every_numpy_dtype_round_trips() {
        for &dtype in DType::ALL {
            let Ok(t) =
                Tensor::from_i64(dtype, &[2, 0, 3], &[]).and_then(|_| Tensor::from_i64(dtype, &[3], &[1, 0, 1]))
            else {
                continue;
            };
            let back = parse(&bytes_of(&t)).unwrap();
            assert_eq!(back.to_f64_vec(), t.to_f64_vec(), "{dtype}");
            assert_eq!(back.shape(), [3]);
        }
    }

    #[test]
    fn scalars_and_empty_shapes_round_trip() {
        for shape in [&[][..], &[1], &[0, 4]] {
            let t = Tensor::zeros(DType::F32, shape).unwrap();
            assert_eq!(parse(&bytes_of(&t)).unwrap(), t);
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
        let back = parse(&bytes).unwrap();
        assert_eq!(back.to_i64_vec(), [256, 768, 512, 1024]);
    }

    #[test]
    fn truncated_arrays_are_errors() {
        let bytes = bytes_of(&Tensor::from_slice(&[3], &[1f32, 2.0, 3.0]).unwrap());
        for n in 0..bytes.len() {
            assert!(parse(&bytes[..n]).is_err(), "{n}");
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
