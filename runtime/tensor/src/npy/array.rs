//! Reading one array: first its header, which says what it is and how large, then its elements into a tensor of that
//! size.

use std::io::{BufReader, Read};
use std::path::Path;

use npyz::{DType as NpyType, Endianness, NpyHeader, Order, TypeChar};

use super::NpyError;
use crate::{DType, Tensor, TensorError, element_count, for_each_index, strides_of};

/// The longest header that is read; real ones take about a hundred bytes.
const MAX_HEADER: usize = 16 << 10;

/// An array whose header was read, and whose elements are still to be. The header is not trusted: a tensor is only made
/// for elements that can be there.
pub struct ArrayReader<R> {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    big_endian: bool,
    fortran: bool,
    /// Bytes of magic, version and header.
    header_bytes: usize,
    /// Bytes of the elements.
    data_bytes: usize,
    rest: R,
}

impl<R: Read> ArrayReader<R> {
    /// Reads the header of the array called `name`.
    ///
    /// # Errors
    /// There is none, or it is of an array that is not supported.
    pub(super) fn new(name: &str, mut from: R) -> Result<ArrayReader<R>, NpyError> {
        let fail = |reason: String| NpyError::Array { name: name.to_owned(), reason };
        let bytes = header(&mut from).map_err(|e| fail(e.to_string()))?;
        let parsed = NpyHeader::from_reader(&bytes[..]).map_err(|e| fail(e.to_string()))?;
        let (dtype, big_endian) = dtype_of(&parsed.dtype()).map_err(|e| fail(e.to_string()))?;
        let mut shape = Vec::new();
        for &d in parsed.shape() {
            shape.push(usize::try_from(d).map_err(|_| fail(format!("dim {d} is too large")))?);
        }
        let size = element_count(&shape).and_then(|n| dtype.bytes_for(n));
        let data_bytes = size.ok_or_else(|| TensorError::TooLarge(shape.clone()))?;
        let fortran = parsed.order() == Order::Fortran && shape.len() > 1;
        let header_bytes = bytes.len();
        Ok(ArrayReader {
            name: name.to_owned(),
            dtype,
            shape,
            big_endian,
            fortran,
            header_bytes,
            data_bytes,
            rest: from,
        })
    }

    /// The array's name; empty for a `.npy` file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The extents.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Bytes of header and elements.
    pub(super) fn size(&self) -> u64 {
        self.header_bytes as u64 + self.data_bytes as u64
    }

    /// An error that says what is wrong with this array.
    pub(super) fn wrong(&self, reason: String) -> NpyError {
        NpyError::Array { name: self.name.clone(), reason }
    }

    /// Refuses an array that needs more bytes than the `most` that there can be of header and elements.
    pub(super) fn check_size(&self, most: u64) -> Result<(), NpyError> {
        match self.size() <= most {
            true => Ok(()),
            false => {
                Err(self.wrong(format!("data is truncated: expected {} bytes, found at most {most}", self.size())))
            }
        }
    }

    /// The array with its elements, and what follows them.
    pub(super) fn read_all(mut self) -> Result<(Tensor, R), NpyError> {
        let mut tensor = Tensor::zeros(self.dtype, &self.shape)?;
        let data = tensor.bytes_mut()?;
        let mut filled = 0;
        while filled < data.len() {
            match self.rest.read(&mut data[filled..]) {
                Ok(0) => {
                    let reason = format!("data is truncated: expected {} bytes, found {filled}", self.data_bytes);
                    return Err(self.wrong(reason));
                }
                Ok(n) => filled += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.wrong(e.to_string())),
            }
        }
        let width = self.dtype.bits() / 8;
        if self.big_endian {
            data.chunks_exact_mut(width).for_each(<[u8]>::reverse);
        }
        if self.dtype == DType::Bool {
            data.iter_mut().for_each(|b| *b = (*b != 0) as u8);
        }
        let tensor = if self.fortran { from_fortran(&tensor, width)? } else { tensor };
        Ok((tensor, self.rest))
    }

    /// The array with its elements.
    ///
    /// # Errors
    /// They cannot be read, or are fewer than the header says.
    pub fn read(self) -> Result<Tensor, NpyError> {
        Ok(self.read_all()?.0)
    }
}

/// Opens the `.npy` file at `path` and reads its header.
///
/// # Errors
/// The file cannot be read, is shorter than its header says, or is not an array of a supported dtype.
pub fn open_npy(path: &Path) -> Result<ArrayReader<BufReader<std::fs::File>>, NpyError> {
    let file = crate::open_plain(path)?;
    let length = file.metadata()?.len();
    let array = ArrayReader::new("", BufReader::new(file))?;
    array.check_size(length)?;
    Ok(array)
}

/// Why a header is not that of an array that is read.
#[derive(Debug, thiserror::Error)]
enum HeaderError {
    #[error("not a .npy array")]
    Magic,
    #[error("the header is truncated")]
    Truncated,
    #[error("the header is too long")]
    TooLong,
    #[error("the header is nested too deeply")]
    TooDeep,
    #[error("structured arrays are not supported")]
    Structured,
    #[error("dtype `{0}` is not supported")]
    DType(String),
}

/// Reads magic, version and header, of bounded length and nesting: the header's parser takes both on trust.
fn header(from: &mut impl Read) -> Result<Vec<u8>, HeaderError> {
    let mut bytes = vec![0; 10];
    from.read_exact(&mut bytes).map_err(|_| HeaderError::Magic)?;
    if !bytes.starts_with(b"\x93NUMPY") {
        return Err(HeaderError::Magic);
    }
    let wide = bytes[6] != 1; // four bytes for the length from version 2 on
    bytes.resize(if wide { 12 } else { 10 }, 0);
    let truncated = |_| HeaderError::Truncated;
    from.read_exact(&mut bytes[10..]).map_err(truncated)?;
    let length = match wide {
        true => u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize,
        false => u16::from_le_bytes([bytes[8], bytes[9]]) as usize,
    };
    if length > MAX_HEADER {
        return Err(HeaderError::TooLong);
    }
    let start = bytes.len();
    bytes.resize(start + length, 0);
    from.read_exact(&mut bytes[start..]).map_err(truncated)?;
    if bytes[start..].iter().filter(|b| b"([{".contains(b)).count() > 64 {
        return Err(HeaderError::TooDeep);
    }
    Ok(bytes)
}

fn dtype_of(dtype: &NpyType) -> Result<(DType, bool), HeaderError> {
    let NpyType::Plain(ty) = dtype else { return Err(HeaderError::Structured) };
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
        _ => return Err(HeaderError::DType(ty.to_string())),
    };
    Ok((found, ty.endianness() == Endianness::Big))
}

/// The same array with its elements in row-major order.
fn from_fortran(tensor: &Tensor, width: usize) -> Result<Tensor, TensorError> {
    let reversed: Vec<usize> = tensor.shape().iter().rev().copied().collect();
    let mut strides = strides_of(&reversed);
    strides.reverse();
    let mut ordered = Tensor::zeros(tensor.dtype(), tensor.shape())?;
    let mut elements = ordered.bytes_mut()?.chunks_exact_mut(width);
    for_each_index(tensor.shape(), |index| {
        let at: usize = index.iter().zip(&strides).map(|(i, s)| i * s).sum();
        if let Some(element) = elements.next() {
            element.copy_from_slice(&tensor.bytes()[at * width..(at + 1) * width]);
        }
    });
    Ok(ordered)
}
