//! Products with, and gathers of, integers of 2, 4 and 8 bits that are stored in blocks with a scale each.

use optc_ir::Value;
use optc_ir::ops::{math, quant, tensor};
use optc_tensor::{DType, Tensor};

use super::{MICROSOFT, integer, plus, unsqueezed, wide};
use crate::mapping::{MapError, NodeCx};
use crate::ops::attention::list;
use crate::ops::norm::scalar_like;
use crate::ops::{Mapped, Table, rank_of};

pub(crate) const TABLE: Table =
    &[(MICROSOFT, "MatMulNBits", matmul_bits), (MICROSOFT, "GatherBlockQuantized", gather_blocks)];

/// Integers without sign, packed in bytes, least significant bits first; each row starts with a byte.
#[derive(Clone, Copy)]
struct Packed {
    bits: usize,
    columns: usize,
}

impl Packed {
    /// Packed integers of so many bits, which the node says in `bits`.
    fn new(bits: i64, columns: usize) -> Result<Packed, MapError> {
        match bits {
            2 | 4 | 8 => Ok(Packed { bits: bits as usize, columns }),
            _ => Err(MapError::Unsupported(format!("`bits` is {bits}, supported are 2, 4 and 8"))),
        }
    }

    fn row_bytes(self) -> usize {
        (self.columns * self.bits).div_ceil(8)
    }

    fn at(self, bytes: &[u8], row: usize, column: usize) -> u8 {
        let (row, each) = (&bytes[row * self.row_bytes()..], 8 / self.bits);
        if self.bits == 8 { row[column] } else { row[column / each] >> (self.bits * (column % each)) & self.top() }
    }

    /// The largest integer.
    fn top(self) -> u8 {
        u8::MAX >> (8 - self.bits)
    }

    /// What holds them once they are unpacked.
    fn dtype(self) -> DType {
        if self.bits == 8 { DType::U8 } else { DType::U4 }
    }

    /// The columns `order` of `rows` rows, transposed.
    fn transposed(self, bytes: &[u8], rows: usize, order: &[usize]) -> Result<Tensor, MapError> {
        /// Columns that are read at a time, so that neither reads nor writes are far apart.
        const STRIP: usize = 64;
        let columns = order.len();
        let mut tensor = Tensor::zeros(self.dtype(), &[columns, rows])?;
        let to = tensor.bytes_mut()?;
        for (strip, of_strip) in order.chunks(STRIP).enumerate() {
            for row in 0..rows {
                for (column, &from) in of_strip.iter().enumerate() {
                    let (value, i) = (self.at(bytes, row, from), (strip * STRIP + column) * rows + row);
                    if self.bits == 8 { to[i] = value } else { to[i / 2] |= value << (4 * (i % 2)) }
                }
            }
        }
        Ok(tensor)
    }
}

/// A positive integer attribute that must be there.
pub(super) fn extent(cx: &NodeCx, name: &str) -> Result<usize, MapError> {
    let wrong = || MapError::Invalid(format!("attribute `{name}` is missing or not positive"));
    cx.attrs.int(name)?.filter(|&n| n > 0 && n < 1 << 31).map(|n| n as usize).ok_or_else(wrong)
}

/// An input that must be a constant of bytes, `expected` in number.
pub(super) fn constant_bytes(cx: &NodeCx, v: Value, name: &str, expected: usize) -> Result<Tensor, MapError> {
    let open = || MapError::Unsupported(format!("`{name}` is supported only as an initializer"));
    let tensor = cx.constant_of(v).ok_or_else(open)?;
    if tensor.dtype() != DType::U8 || tensor.len() != expected {
        let (found, dtype) = (tensor.len(), tensor.dtype());
        return Err(MapError::Invalid(format!("`{name}` has {found} elements of {dtype}, expected {expected} of u8")));
    }
    Ok(tensor.clone())
}

/// `x` as a matrix of known extents, transposed.
fn transposed(cx: &mut NodeCx, x: Value, rows: usize, columns: usize) -> Result<Value, MapError> {
    let shape = list(cx, &[rows as i64, columns as i64])?;
    let matrix = cx.emit1(tensor::Reshape { allow_zero: false }, &[x, shape])?;
    cx.emit1(tensor::Transpose { perm: vec![1, 0] }, &[matrix])
}

/// `a · wᵀ`, where each row of `w: [n, k]` is stored in blocks. The weights are kept as a matrix `[k, n]` of integers,
/// which products read as they are.
fn matmul_bits(cx: &mut NodeCx) -> Mapped {
    cx.attrs.ignore(&["accuracy_level"]); // all steps are exact to the operands' dtype
    if cx.attrs.int_or("weight_prepacked", 0)? != 0 {
        return Err(MapError::Unsupported("`weight_prepacked` is not 0: such weights are for one kind of GPU".into()));
    }
    let (k, n, block) = (extent(cx, "K")?, extent(cx, "N")?, extent(cx, "block_size")?);
    if !block.is_multiple_of(16) {
        return Err(MapError::Invalid(format!("`block_size` is {block}, expected a multiple of 16")));
    }
    let blocks = k.div_ceil(block);
    let packed = Packed::new(cx.attrs.int_or("bits", 4)?, blocks * block)?;
    let (mut a, b, scales, zeros) = (cx.input(0)?, cx.input(1)?, cx.input(2)?, cx.optional(3));
    let order = match cx.optional(4) {
        Some(groups) => by_group(cx, groups, k, block)?,
        None => (0..k).collect(),
    };
    if !order.is_sorted() {
        if zeros.is_some() || packed.bits != 4 {
            let reason = "`g_idx` is supported only with 4 bits and without `zero_points`, as on ONNX Runtime's CPUs";
            return Err(MapError::Unsupported(reason.into()));
        }
        let places: Vec<i64> = order.iter().map(|&at| at as i64).collect();
        let places = list(cx, &places)?;
        a = cx.emit1(tensor::Gather { axis: -1 }, &[a, places])?;
    }
    let integers = constant_bytes(cx, b, "B", n * packed.row_bytes())?;
    let integers = packed.transposed(integers.bytes(), n, &order)?;
    let integers = cx.constant(integers);
    let scales = transposed(cx, scales, n, blocks)?;
    let to = cx.dtype(scales)?;
    let dequantize = quant::Dequantize { axis: 0, block: block as i64, to };
    let weights = match zeros {
        Some(zeros) if cx.dtype(zeros)?.is_float() => {
            let weights = cx.emit1(dequantize, &[integers, scales])?;
            let zeros = transposed(cx, zeros, n, blocks)?;
            let shift = cx.emit1(math::Mul {}, &[zeros, scales])?;
            let shift = spread(cx, shift, [blocks, block, n], k)?;
            cx.emit1(math::Sub {}, &[weights, shift])?
        }
        Some(zeros) => {
            let packed = Packed { columns: blocks, ..packed };
            let zeros = constant_bytes(cx, zeros, "zero_points", n * packed.row_bytes())?;
            let zeros = cx.constant(packed.transposed(zeros.bytes(), n, &Vec::from_iter(0..blocks))?);
            cx.emit1(dequantize, &[integers, scales, zeros])?
        }
        None => {
            let middle = vec![1 << (packed.bits - 1); blocks * n];
            let zeros = cx.constant(Tensor::from_i64(packed.dtype(), &[blocks, n], &middle)?);
            cx.emit1(dequantize, &[integers, scales, zeros])?
        }
    };
    let product = cx.emit1(math::MatMul::default(), &[a, weights])?;
    let bias = cx.optional(5);
    Ok(vec![plus(cx, product, bias)?])
}

/// The columns in the order of the blocks that `groups` says they are of.
fn by_group(cx: &NodeCx, groups: Value, k: usize, block: usize) -> Result<Vec<usize>, MapError> {
    let open = || MapError::Unsupported("`g_idx` is supported only as an initializer".into());
    let groups = cx.constant_of(groups).ok_or_else(open)?.to_i64_vec();
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by_key(|&column| groups[column]);
    let whole = order.iter().enumerate().all(|(i, &column)| groups[column] == (i / block) as i64);
    if groups.len() != k || !whole {
        let reason = format!("`g_idx` does not part {k} columns in blocks of {block}, which is what is supported");
        return Err(MapError::Unsupported(reason));
    }
    Ok(order)
}

/// Each of the `blocks` rows of `x` as often as a block has rows: the first `k`.
fn spread(cx: &mut NodeCx, x: Value, [blocks, block, n]: [usize; 3], k: usize) -> Result<Value, MapError> {
    let (axis, each) = (list(cx, &[1])?, list(cx, &[blocks as i64, block as i64, n as i64])?);
    let rows = cx.emit1(tensor::Unsqueeze {}, &[x, axis])?;
    let rows = cx.emit1(tensor::Expand {}, &[rows, each])?;
    let flat = list(cx, &[-1, n as i64])?;
    let rows = cx.emit1(tensor::Reshape { allow_zero: false }, &[rows, flat])?;
    let (first, end) = (list(cx, &[0])?, list(cx, &[k as i64])?);
    cx.emit1(tensor::Slice {}, &[rows, first, end, first])
}

/// AttentionRows of a table are gathered as they are stored, with their scales and zero points, and then dequantized.
fn gather_blocks(cx: &mut NodeCx) -> Mapped {
    let (data, indices, scales, zeros) = (cx.input(0)?, cx.input(1)?, cx.input(2)?, cx.optional(3));
    let (bits, block) = (cx.attrs.int_or("bits", 4)?, cx.attrs.int_or("block_size", 128)?);
    let rank = rank_of(cx, data)? as i64;
    let axis = |name: &str, default: i64| -> Result<i64, MapError> {
        let axis = cx.attrs.int_or(name, default)?;
        let inside = (-rank..rank).contains(&axis).then(|| axis.rem_euclid(rank));
        inside.ok_or_else(|| MapError::Invalid(format!("`{name}` is {axis} for a table of rank {rank}")))
    };
    let (along, of_blocks) = (axis("gather_axis", 0)?, axis("quantize_axis", 1)?);
    if along == of_blocks {
        return Err(MapError::Unsupported("`gather_axis` and `quantize_axis` are the same".into()));
    }
    let table = |v: Value, name: &str| {
        let open = || MapError::Unsupported(format!("`{name}` is supported only as an initializer"));
        cx.constant_of(v).cloned().ok_or_else(open)
    };
    let (stored, of_scales) = (table(data, "data")?, table(scales, "scales")?);
    let zeros = zeros.map(|v| table(v, "zero_points")).transpose()?;
    let integers = Integers::new(&stored, bits)?;
    if integers.packed && along == rank - 1 {
        return Err(MapError::Unsupported("`gather_axis` is the last axis, along which integers are packed".into()));
    }
    let zeros = match zeros {
        Some(zeros) => integers.zero_points(&zeros, of_scales.shape())?,
        None => Tensor::from_i64(DType::U8, of_scales.shape(), &vec![integers.middle; of_scales.len()])?,
    };
    let (bytes, zeros) = (cx.constant(integers.bytes(&stored)?), cx.constant(zeros));
    let extent = stored.shape()[along as usize] as i64;
    let (inside, indices) = inside(cx, indices, extent)?;
    let gather = tensor::Gather { axis: along };
    let mut rows = cx.emit1(gather.clone(), &[bytes, indices])?;
    if integers.packed {
        rows = unpacked(cx, rows)?;
    }
    let (scales, zeros) = (cx.emit1(gather.clone(), &[scales, indices])?, cx.emit1(gather, &[zeros, indices])?);
    let axis = if of_blocks < along { of_blocks } else { of_blocks - 1 + rank_of(cx, indices)? as i64 };
    let to = cx.dtype(scales)?;
    let y = cx.emit1(quant::Dequantize { axis, block, to }, &[rows, scales, zeros])?;
    let after: Vec<i64> = (along + 1..rank).map(|d| d - rank).collect();
    let (inside, zero) = (unsqueezed(cx, inside, &after)?, scalar_like(cx, y, 0.0)?);
    Ok(vec![cx.emit1(math::Where {}, &[inside, y, zero])?])
}

/// Which indices lie within an extent, and the indices with others at the first place: ONNX Runtime gives zeros for
/// those.
fn inside(cx: &mut NodeCx, indices: Value, extent: i64) -> Result<(Value, Value), MapError> {
    let indices = wide(cx, indices)?;
    let (first, last, zero) = (integer(cx, -extent), integer(cx, extent - 1), integer(cx, 0));
    let (low, high) =
        (cx.emit1(math::GreaterEqual {}, &[indices, first])?, cx.emit1(math::LessEqual {}, &[indices, last])?);
    let inside = cx.emit1(math::And {}, &[low, high])?;
    let safe = cx.emit1(math::Where {}, &[inside, indices, zero])?;
    Ok((inside, safe))
}

/// How the integers of a table are stored, and with what zero point.
struct Integers {
    /// Two of them are in a byte.
    packed: bool,
    /// They have a sign; that is changed to an offset of 8.
    signed: bool,
    /// The zero point where the node gives none.
    middle: i64,
}

impl Integers {
    fn new(table: &Tensor, bits: i64) -> Result<Integers, MapError> {
        let rows_are_bytes = table.shape().last().is_some_and(|n| n.is_multiple_of(2));
        match (table.dtype(), bits) {
            (DType::U4, 4) if rows_are_bytes => Ok(Integers { packed: true, signed: false, middle: 0 }),
            (DType::I4, 4) if rows_are_bytes => Ok(Integers { packed: true, signed: true, middle: 8 }),
            (DType::U4 | DType::I4, 4) => Err(MapError::Unsupported("rows of `data` end within a byte".into())),
            (DType::U8, 4) => Ok(Integers { packed: true, signed: false, middle: 8 }),
            (DType::U8, 8) => Ok(Integers { packed: false, signed: false, middle: 128 }),
            (dtype, _) => Err(MapError::Unsupported(format!("`data` is of {dtype} with `bits` {bits}"))),
        }
    }

    /// The table as bytes without sign.
    fn bytes(&self, table: &Tensor) -> Result<Tensor, MapError> {
        let mut shape = table.shape().to_vec();
        if let (DType::U4 | DType::I4, Some(last)) = (table.dtype(), shape.last_mut()) {
            *last /= 2;
        }
        if !self.signed && table.dtype() == DType::U8 {
            return Ok(table.clone());
        }
        let offset = if self.signed { 0x88 } else { 0 };
        let bytes: Vec<u8> = table.bytes().iter().map(|byte| byte ^ offset).collect();
        Ok(Tensor::from_bytes(DType::U8, &shape, &bytes)?)
    }

    /// The zero points as bytes in the shape of the scales.
    fn zero_points(&self, zeros: &Tensor, shape: &[usize]) -> Result<Tensor, MapError> {
        let offset = if self.signed { 8 } else { 0 };
        let count: usize = shape.iter().product();
        let columns = shape.last().copied().unwrap_or(1);
        let packed = Packed { bits: if self.packed { 4 } else { 8 }, columns };
        let values: Vec<i64> = match zeros.dtype() {
            DType::U8 if columns > 0 && zeros.len() == count / columns * packed.row_bytes() => {
                let bytes = zeros.bytes();
                (0..count).map(|i| i64::from(packed.at(bytes, i / columns, i % columns))).collect()
            }
            DType::U4 | DType::I4 if zeros.len() == count => {
                zeros.to_i64_vec().into_iter().map(|z| z + offset).collect()
            }
            dtype => {
                let found = zeros.shape();
                let reason = format!("`zero_points` has shape {found:?} of {dtype}, which does not fit the scales'");
                return Err(MapError::Invalid(format!("{reason} {shape:?}")));
            }
        };
        Ok(Tensor::from_i64(DType::U8, shape, &values)?)
    }
}

/// Bytes as twice as many integers of 4 bits, one a byte, the lower one first.
fn unpacked(cx: &mut NodeCx, x: Value) -> Result<Value, MapError> {
    let byte = |cx: &mut NodeCx, v: u8| Tensor::from_slice(&[], &[v]).map(|t| cx.constant(t));
    let (low, four) = (byte(cx, 15)?, byte(cx, 4)?);
    let low = cx.emit1(math::BitAnd {}, &[x, low])?;
    let high = cx.emit1(math::ShiftRight {}, &[x, four])?;
    let rank = rank_of(cx, x)?;
    let last = list(cx, &[-1])?;
    let (low, high) = (cx.emit1(tensor::Unsqueeze {}, &[low, last])?, cx.emit1(tensor::Unsqueeze {}, &[high, last])?);
    let pairs = cx.emit1(tensor::Concat { axis: -1 }, &[low, high])?;
    // All axes stay but for the last, which takes in the pairs.
    let mut shape = vec![0; rank];
    shape[rank - 1] = -1;
    let shape = list(cx, &shape)?;
    cx.emit1(tensor::Reshape { allow_zero: false }, &[pairs, shape])
}
