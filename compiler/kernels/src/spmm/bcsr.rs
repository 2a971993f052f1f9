//! Block compressed sparse rows, and the streams that kernels walk.

use super::form::{ENTRY, SparseForm, UNROLL};

/// A matrix as blocks that are not all zero, row of blocks after row of blocks. Blocks are of `block` rows by `width`
/// columns; column `c` of blocks has the columns from `c * width` on.
#[derive(Clone, Debug, PartialEq)]
pub struct Bcsr<T = f32> {
    /// Rows of the matrix.
    pub rows: usize,
    /// Columns of the matrix.
    pub cols: usize,
    /// Rows of a block.
    pub block: usize,
    /// Columns of a block.
    pub width: usize,
    /// Where each row of blocks begins in `columns`, and their end.
    pub starts: Vec<usize>,
    /// The column of each block, ascending in a row.
    pub columns: Vec<u32>,
    /// The elements of each block, row after row; zeros below the last row and after the last column.
    pub values: Vec<T>,
}

impl<T: Copy + Default + PartialEq> Bcsr<T> {
    /// The blocks of `block` rows by one column of a row-major matrix of `rows` by `cols`.
    pub fn of(matrix: &[T], rows: usize, cols: usize, block: usize) -> Bcsr<T> {
        Bcsr::with_blocks(matrix, (rows, cols), (block, 1))
    }

    /// The blocks of `block` rows by `width` columns of a row-major matrix.
    pub fn with_blocks(matrix: &[T], (rows, cols): (usize, usize), (block, width): (usize, usize)) -> Bcsr<T> {
        let mut sparse = Bcsr { rows, cols, block, width, starts: vec![0], columns: Vec::new(), values: Vec::new() };
        for first in (0..rows).step_by(block) {
            for col in (0..cols).step_by(width) {
                let element = |i: usize| {
                    let (r, c) = (first + i / width, col + i % width);
                    if r < rows && c < cols { matrix[r * cols + c] } else { T::default() }
                };
                // A NaN is not zero: it is kept, as a dense kernel would.
                if (0..block * width).any(|i| element(i) != T::default()) {
                    sparse.columns.push((col / width) as u32);
                    sparse.values.extend((0..block * width).map(element));
                }
            }
            sparse.starts.push(sparse.columns.len());
        }
        sparse
    }

    /// How many blocks there are.
    pub fn blocks(&self) -> usize {
        self.columns.len()
    }

    /// Rows of blocks.
    pub fn block_rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// The stream of a form: for each row of blocks where it begins and how many turns and single steps it has (`i64`),
    /// then the rows of blocks. Each is its starting sums, if the form has them, and its steps. `offset` is where a
    /// column of blocks lies. `None` where that does not fit.
    pub(super) fn stream(
        &self,
        form: SparseForm,
        offsets: &[i64],
        start: impl Fn(usize) -> i32,
        step: impl Fn(&mut Vec<u8>, &[&[T]]),
    ) -> Option<Vec<u8>> {
        let mut bytes = vec![0; ENTRY * self.block_rows()];
        for (row, pair) in self.starts.windows(2).enumerate() {
            let steps = (pair[1] - pair[0]).div_ceil(form.columns());
            let fields = [bytes.len(), steps / UNROLL, steps % UNROLL].map(|v| (v as i64).to_le_bytes());
            bytes[ENTRY * row..ENTRY * (row + 1)].copy_from_slice(fields.as_flattened());
            if form.starts() {
                let row = |r: usize| self.block * row + r;
                bytes.extend((0..self.block).flat_map(|r| start(row(r)).to_le_bytes()));
            }
            let blocks: Vec<usize> = (pair[0]..pair[1]).collect();
            for of in blocks.chunks(form.columns()) {
                // A place that is left over reads the pixels of the one before.
                for i in 0..form.columns() {
                    let column = self.columns[*of.get(i).or(of.last())?];
                    let offset = i32::try_from(*offsets.get(column as usize)?).ok().filter(|&o| o >= 0)?;
                    bytes.extend(offset.to_le_bytes());
                }
                let len = self.block * self.width;
                let values: Vec<&[T]> = of.iter().map(|&b| &self.values[b * len..(b + 1) * len]).collect();
                step(&mut bytes, &values);
            }
        }
        Some(bytes)
    }
}

impl Bcsr<f32> {
    /// The stream of [`SparseForm::Float`].
    pub fn floats(&self, offsets: &[i64]) -> Option<Vec<u8>> {
        self.stream(
            SparseForm::Float,
            offsets,
            |_| 0,
            |bytes, of| {
                bytes.extend(of.iter().flat_map(|b| b.iter()).flat_map(|v| v.to_le_bytes()));
            },
        )
    }
}

impl Bcsr<i16> {
    /// The stream of a form of integers, whose pixels have `zero` added as the kernel reads them.
    pub fn integers(&self, form: SparseForm, zero: i32, offsets: &[i64]) -> Option<Vec<u8>> {
        let mut sums = vec![0i32; self.block_rows() * self.block];
        for (row, pair) in self.starts.windows(2).enumerate() {
            for (i, &v) in
                self.values[pair[0] * self.block * self.width..pair[1] * self.block * self.width].iter().enumerate()
            {
                let sum = &mut sums[row * self.block + i / self.width % self.block];
                *sum = sum.wrapping_add(i32::from(v));
            }
        }
        let (block, width) = (self.block, self.width);
        self.stream(
            form,
            offsets,
            |row| sums[row].wrapping_mul(-zero),
            |bytes, of| {
                for row in 0..block {
                    let at = |i: usize, c: usize| of.get(i).map_or(0, |b| b[row * width + c]);
                    let pairs = if width == 1 {
                        vec![[at(0, 0), at(1, 0)]]
                    } else {
                        vec![[at(0, 0), at(0, 2)], [at(0, 1), at(0, 3)]]
                    };
                    bytes.extend(pairs.as_flattened().iter().flat_map(|v| v.to_le_bytes()));
                }
            },
        )
    }
}

/// The blocks of `block` rows by `width` columns of a row-major matrix of `cols` columns that are not all zero.
pub fn count_blocks<T: Copy + Default + PartialEq>(matrix: &[T], cols: usize, (block, width): (usize, usize)) -> usize {
    // Columns of a strip that hold something: found row by row, which compilers make vectors of.
    let mut held = vec![0u8; cols];
    let mut in_strip = |strip: &[T]| {
        held.fill(0);
        for row in strip.chunks(cols.max(1)) {
            held.iter_mut().zip(row).for_each(|(held, v)| *held |= u8::from(*v != T::default()));
        }
        held.chunks(width).filter(|columns| columns.contains(&1)).count()
    };
    matrix.chunks(block * cols.max(1)).map(&mut in_strip).sum()
}

/// A row-major matrix of columns `(channel, tap)` with columns `(four channels, tap, channel of the four)` instead.
pub fn quads_of_taps<T: Copy>(matrix: &[T], channels: usize, taps: usize) -> Vec<T> {
    let from = |i: usize| {
        let (row, quad, tap, c) = (i / (channels * taps), i / (4 * taps) % (channels / 4), i / 4 % taps, i % 4);
        (row * channels + 4 * quad + c) * taps + tap
    };
    (0..matrix.len()).map(|i| matrix[from(i)]).collect()
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
        assert_eq!((count_blocks(&m, 3, (2, 1)), count_blocks(&m, 3, (1, 1)), count_blocks(&m, 3, (2, 2))), (2, 2, 2));
        let stream = sparse.floats(&[0, 100, 200]).unwrap();
        assert_eq!(stream.len(), 2 * ENTRY + 2 * 12);
        assert_eq!(stream[48..52], 100i32.to_le_bytes());
        assert_eq!(sparse.floats(&[0, -1, 0]), None);
        assert_eq!(sparse.floats(&[0, 1 << 40, 0]), None);
    }

    #[test]
    fn a_nan_is_not_zero() {
        assert_eq!(Bcsr::of(&[f32::NAN, 0.0], 1, 2, 1).blocks(), 1);
    }

    #[test]
    fn two_columns_are_a_step_and_rows_begin_with_their_sums() {
        let sparse = Bcsr::of(&[3i16, 0, -1, 5], 1, 4, 1);
        let stream = sparse.integers(SparseForm::Columns { signed: false }, 10, &[0, 1, 2, 3]).unwrap();
        let words: Vec<i32> = stream[ENTRY..].chunks(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect();
        // The third block has no partner: a weight of zero for the same pixels.
        assert_eq!(words, [-70, 0, 2, 3 | (-1 << 16), 3, 3, 5]);
        let quads = Bcsr::with_blocks(&[1i16, 2, 3, 4, 5], (1, 5), (1, 4));
        let stream = quads.integers(SparseForm::Quads { signed: false }, 1, &[0, 8]).unwrap();
        let words: Vec<i32> = stream[ENTRY..].chunks(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect();
        assert_eq!(words, [-15, 0, 1 | 3 << 16, 2 | 4 << 16, 8, 5, 0]);
    }
}
