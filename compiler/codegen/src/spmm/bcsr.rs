//! Block compressed sparse rows, and the stream that kernels walk.

/// A matrix as blocks of `block` rows by one column that are not all zero, row of blocks after row of blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct Bcsr {
    /// Rows of the matrix.
    pub rows: usize,
    /// Columns of the matrix.
    pub cols: usize,
    /// Rows of a block.
    pub block: usize,
    /// Where each row of blocks begins in `columns`, and their end.
    pub starts: Vec<usize>,
    /// The column of each block, ascending in a row.
    pub columns: Vec<u32>,
    /// The elements of each block; zeros below the last row.
    pub values: Vec<f32>,
}

/// Bytes of a row's entry in the index at the head of a stream: where its blocks begin, and the two counts of them.
pub(super) const ENTRY: usize = 24;
/// Blocks that a turn of a tile's loop takes.
pub(super) const UNROLL: usize = 4;

impl Bcsr {
    /// The blocks of a row-major matrix of `rows` by `cols`.
    pub fn of(matrix: &[f32], rows: usize, cols: usize, block: usize) -> Bcsr {
        let mut sparse = Bcsr { rows, cols, block, starts: vec![0], columns: Vec::new(), values: Vec::new() };
        for first in (0..rows).step_by(block) {
            for col in 0..cols {
                let element = |r: usize| if first + r < rows { matrix[(first + r) * cols + col] } else { 0.0 };
                // A NaN is not zero: it is kept, as a dense kernel would.
                if (0..block).any(|r| element(r) != 0.0) {
                    sparse.columns.push(col as u32);
                    sparse.values.extend((0..block).map(element));
                }
            }
            sparse.starts.push(sparse.columns.len());
        }
        sparse
    }

    /// The blocks of `block` rows of a row-major matrix of `cols` columns that are not all zero.
    pub fn count(matrix: &[f32], cols: usize, block: usize) -> usize {
        let strips = matrix.chunks(block * cols.max(1));
        strips.map(|s| (0..cols).filter(|&c| s[c..].iter().step_by(cols).any(|&v| v != 0.0)).count()).sum()
    }

    /// How many blocks there are.
    pub fn blocks(&self) -> usize {
        self.columns.len()
    }

    /// Rows of blocks.
    pub fn block_rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// Bytes of a block in the stream: the place of its column, then its elements.
    pub(super) fn block_bytes(block: usize) -> usize {
        4 + 4 * block
    }

    /// Bytes of the stream.
    pub fn stream_bytes(&self) -> usize {
        ENTRY * self.block_rows() + Bcsr::block_bytes(self.block) * self.blocks()
    }

    /// The stream: for each row of blocks where it begins and how many turns and single blocks it has (`i64`), then the
    /// blocks, each the byte offset of its column (`offsets[column]`, as `i32`) and its elements. `None` when an offset does
    /// not fit.
    pub fn stream(&self, offsets: &[i64]) -> Option<Vec<u8>> {
        let block = Bcsr::block_bytes(self.block);
        let mut bytes = Vec::with_capacity(self.stream_bytes());
        for pair in self.starts.windows(2) {
            let count = pair[1] - pair[0];
            let fields = [ENTRY * self.block_rows() + block * pair[0], count / UNROLL, count % UNROLL];
            bytes.extend(fields.iter().flat_map(|&v| (v as i64).to_le_bytes()));
        }
        for (&column, values) in self.columns.iter().zip(self.values.chunks(self.block)) {
            let offset = i32::try_from(*offsets.get(column as usize)?).ok().filter(|&o| o >= 0)?;
            bytes.extend(offset.to_le_bytes());
            bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        }
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_that_are_zero_are_left_out() {
        let m = [0.0, 1.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0];
        let sparse = Bcsr::of(&m, 3, 3, 2);
        assert_eq!((sparse.starts.as_slice(), sparse.columns.as_slice()), (&[0, 2, 2][..], &[1, 2][..]));
        assert_eq!(sparse.values, [1.0, 0.0, 0.0, 2.0]);
        let stream = sparse.stream(&[0, 100, 200]).unwrap();
        assert_eq!(stream.len(), sparse.stream_bytes());
        assert_eq!(stream[48..52], 100i32.to_le_bytes());
        assert_eq!(sparse.stream(&[0, -1, 0]), None);
        assert_eq!(sparse.stream(&[0, 1 << 40, 0]), None);
    }

    #[test]
    fn a_nan_is_not_zero() {
        assert_eq!(Bcsr::of(&[f32::NAN, 0.0], 1, 2, 1).blocks(), 1);
    }
}
