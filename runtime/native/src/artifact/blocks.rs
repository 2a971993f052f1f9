//! Constants with many zeros, as they are stored: the blocks that are not all zero, and a bit for each block.
//!
//! A constant of rank 2 or more is a matrix with a row for each index of axis 0, cut into blocks of 1, 2 or 4 rows by
//! one column: block compressed sparse rows whose column numbers are bits. What is stored is the bits, row of blocks
//! after row of blocks, the lowest bit of a byte first, then the elements of each block that is present.

use optc_tensor::{Buffer, DType, Tensor};

/// Rows of a block.
const BLOCKS: [usize; 3] = [1, 2, 4];

/// How a constant is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConstantCoding {
    /// Rows of a block.
    pub block: usize,
    /// The bits and the elements.
    pub bytes: Vec<u8>,
}

/// The constant as a matrix of elements: rows, columns, and bytes of an element. `None` for what is stored as it is.
fn matrix(dtype: DType, shape: &[usize]) -> Option<(usize, usize, usize)> {
    let (rows, rest) = shape.split_first()?;
    let width = dtype.bits() / 8;
    if rest.is_empty() || dtype == DType::Str || width == 0 || !dtype.bits().is_multiple_of(8) || shape.contains(&0) {
        return None;
    }
    Some((*rows, rest.iter().product(), width))
}

/// Whether an element is something else than zero; a negative zero is zero, and comes back as one without a sign.
fn is_something(element: &[u8], float: bool) -> bool {
    let Some((&high, low)) = element.split_last() else { return false };
    low.iter().any(|&b| b != 0) || high & if float { 0x7f } else { 0xff } != 0
}

/// Whether each block has an element that is not zero.
fn present(bytes: &[u8], (rows, cols, width): (usize, usize, usize), block: usize, float: bool) -> Vec<bool> {
    let element = |r: usize, c: usize| &bytes[(r * cols + c) * width..][..width];
    let blocks = (0..rows).step_by(block).flat_map(|first| (0..cols).map(move |c| (first, c)));
    blocks.map(|(first, c)| (first..rows.min(first + block)).any(|r| is_something(element(r, c), float))).collect()
}

/// The smallest form of a constant, where one is smaller than its elements.
pub(super) fn pack(t: &Tensor) -> Option<ConstantCoding> {
    let of = matrix(t.dtype(), t.shape())?;
    let (rows, cols, width) = of;
    let bytes = t.bytes();
    let size =
        |block: usize, there: &[bool]| there.len().div_ceil(8) + there.iter().filter(|b| **b).count() * block * width;
    let best = BLOCKS.into_iter().map(|block| (block, present(bytes, of, block, t.dtype().is_float())));
    let (block, there) = best.min_by_key(|(block, there)| size(*block, there))?;
    if size(block, &there) >= bytes.len() {
        return None;
    }
    let mut packed = vec![0; there.len().div_ceil(8)];
    for (i, _) in there.iter().enumerate().filter(|(_, there)| **there) {
        packed[i / 8] |= 1 << (i % 8);
        for r in 0..block {
            let row = i / cols * block + r;
            match row < rows {
                true => packed.extend_from_slice(&bytes[(row * cols + i % cols) * width..][..width]),
                false => packed.extend(std::iter::repeat_n(0, width)),
            }
        }
    }
    Some(ConstantCoding { block, bytes: packed })
}

/// The constant that `bytes` are the stored form of; `None` when they are not one.
pub(super) fn unpack(dtype: DType, shape: &[usize], block: usize, bytes: &[u8]) -> Option<Tensor> {
    let (rows, cols, width) = matrix(dtype, shape).filter(|_| BLOCKS.contains(&block))?;
    let blocks = rows.div_ceil(block).checked_mul(cols)?;
    // The bits bound what is allocated by the size of the file.
    let bits = bytes.get(..blocks.div_ceil(8))?;
    let mut left = &bytes[bits.len()..];
    let mut buffer = Buffer::zeroed(rows.checked_mul(cols)?.checked_mul(width)?).ok()?;
    let elements = buffer.own_mut();
    for i in (0..blocks).filter(|i| bits[i / 8] >> (i % 8) & 1 == 1) {
        for row in i / cols * block..(i / cols + 1) * block {
            let element = left.get(..width)?;
            left = &left[width..];
            if row < rows {
                elements[(row * cols + i % cols) * width..][..width].copy_from_slice(element);
            }
        }
    }
    left.is_empty().then(|| Tensor::from_buffer(dtype, shape, buffer).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sparse(shape: &[usize], every: usize) -> Tensor {
        let n = shape.iter().product();
        let values: Vec<f32> = (0..n).map(|i| if i % every == 0 { i as f32 + 1.0 } else { 0.0 }).collect();
        Tensor::from_slice(shape, &values).unwrap()
    }

    #[test]
    fn what_is_packed_comes_back() {
        for shape in [vec![5, 7], vec![6, 3, 2, 2], vec![1, 90]] {
            let t = sparse(&shape, 10);
            let packed = pack(&t).unwrap();
            assert!(packed.bytes.len() * 4 < t.bytes().len(), "{shape:?}");
            assert_eq!(unpack(t.dtype(), &shape, packed.block, &packed.bytes), Some(t));
        }
        assert_eq!(pack(&sparse(&[10, 10], 1)), None);
        assert_eq!(pack(&sparse(&[100], 10)), None);
    }

    #[test]
    fn negative_zeros_are_zeros() {
        let mut values = vec![-0.0f32; 64];
        values[5] = -2.0;
        let t = Tensor::from_slice(&[8, 8], &values).unwrap();
        let packed = pack(&t).unwrap();
        assert_eq!(packed.bytes.len(), 8 + 4);
        assert_eq!(unpack(DType::F32, &[8, 8], packed.block, &packed.bytes).unwrap().to_f64_vec(), t.to_f64_vec());
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let t = sparse(&[8, 8], 10);
        let packed = pack(&t).unwrap();
        let unpack = |shape: &[usize], block, bytes: &[u8]| unpack(DType::F32, shape, block, bytes);
        assert_eq!(unpack(&[8, 8], packed.block, &packed.bytes[1..]), None);
        assert_eq!(unpack(&[8, 8], 3, &packed.bytes), None);
        assert_eq!(unpack(&[1 << 40, 1 << 40], packed.block, &packed.bytes), None);
        assert_eq!(unpack(&[1 << 20, 1 << 20], packed.block, &packed.bytes), None);
        assert_eq!(unpack(&[8, 8], packed.block, &[&packed.bytes[..], &[0]].concat()), None);
    }
}
