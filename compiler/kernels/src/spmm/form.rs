//! What is multiplied, and how: the steps of a stream and the registers they work on.

use optc_kernel::tile::{Binary, MemType, Ptr, Reg, Shift, TileBuilder, Unary};

/// Bytes of a row's entry in the index at the head of a stream: where its blocks begin, and the two counts of steps.
pub(super) const ENTRY: usize = 24;
/// Steps that a turn of a tile's loop takes.
pub(super) const UNROLL: usize = 4;

/// What the activations are, and what one step of a tile multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SparseForm {
    /// `f32`: a column.
    Float,
    /// Bytes, planes of pixels: any two columns, joined to pairs of 16-bit integers.
    Columns {
        /// Whether the bytes are signed.
        signed: bool,
    },
    /// Bytes, four channels of a pixel in a word (NCHW4c): the four columns of a block, as two pairs.
    Quads {
        /// Whether the bytes are signed.
        signed: bool,
    },
}

impl SparseForm {
    /// The form that reads blocks of `width` columns of bytes.
    pub fn of_bytes(width: usize, signed: bool) -> SparseForm {
        if width == 1 { SparseForm::Columns { signed } } else { SparseForm::Quads { signed } }
    }

    /// Bytes from one pixel to the next.
    pub fn pixel(self) -> usize {
        match self {
            SparseForm::Float | SparseForm::Quads { .. } => 4,
            SparseForm::Columns { .. } => 1,
        }
    }

    /// Columns of blocks in a step.
    pub(super) fn columns(self) -> usize {
        if let SparseForm::Columns { .. } = self { 2 } else { 1 }
    }

    /// Whether a row of blocks begins with the values its sums start from.
    pub(super) fn starts(self) -> bool {
        self != SparseForm::Float
    }

    /// Words of weights of a row in a step.
    fn words(self) -> usize {
        if let SparseForm::Quads { .. } = self { 2 } else { 1 }
    }

    /// Bytes of a step for blocks of `block` rows.
    pub(super) fn step_bytes(self, block: usize) -> usize {
        4 * (self.columns() + self.words() * block)
    }

    /// Bytes of a stream of blocks in `rows` rows of blocks.
    pub fn stream_bytes(self, rows: usize, blocks: usize, block: usize) -> usize {
        let starts = if self.starts() { 4 * block } else { 0 };
        rows * (ENTRY + starts) + blocks.div_ceil(self.columns()) * self.step_bytes(block)
    }

    /// Independent sums that hide the latency of a multiply-add: floats wait for four cycles, integers only for their
    /// addition.
    pub(super) fn chains(self) -> usize {
        if self == SparseForm::Float { 8 } else { 1 }
    }

    /// What is added to each byte as it is read.
    pub fn bias(self) -> i32 {
        match self {
            SparseForm::Columns { signed: true } | SparseForm::Quads { signed: true } => 128,
            _ => 0,
        }
    }

    /// The first values of the sums of `rows` rows, and where the steps begin.
    pub(super) fn start(self, b: &mut TileBuilder, stream: Ptr, block: usize, rows: usize) -> (Vec<Reg>, Ptr) {
        if !self.starts() {
            let zero = b.f32(0.0);
            return (vec![zero; rows], stream);
        }
        let sums = (0..rows).map(|row| b.broadcast(MemType::I32, stream, 4 * row as i64)).collect();
        (sums, b.offset(stream, 4 * block as i64))
    }

    /// The pixels of the step at `stream + disp` for each vector (the first pixel, and how many): a register for each
    /// word of weights.
    pub(super) fn pixels(
        self,
        b: &mut TileBuilder,
        stream: Ptr,
        disp: i64,
        x: Ptr,
        vectors: &[(usize, usize)],
    ) -> Vec<Vec<Reg>> {
        let at: Vec<Ptr> = (0..self.columns()).map(|c| b.index_ptr(stream, disp + 4 * c as i64, x)).collect();
        let load = |b: &mut TileBuilder, &(first, n): &(usize, usize)| {
            let disp = (self.pixel() * first) as i64;
            match self {
                SparseForm::Float => vec![b.load_n(MemType::F32, at[0], disp, n)],
                SparseForm::Columns { signed } => vec![joined(b, [at[0], at[1]], disp, n, signed)],
                SparseForm::Quads { signed } => split(b, at[0], disp, n, signed),
            }
        };
        vectors.iter().map(|v| load(b, v)).collect()
    }

    /// Adds a row of the step to the sums of each vector.
    pub(super) fn add(self, b: &mut TileBuilder, row: &StepRow, pixels: &[Vec<Reg>], sums: &mut [Reg]) {
        for word in 0..self.words() {
            let at = 4 * (self.columns() + row.number * self.words() + word) as i64;
            // Broadcasts of floats fold into one load; the bits are not looked at.
            let loaded = b.broadcast(MemType::F32, row.stream, row.disp + at);
            let weight = if self == SparseForm::Float { loaded } else { b.unary(Unary::AsInt, loaded) };
            for (sum, pixel) in sums.iter_mut().zip(pixels) {
                *sum = match self {
                    // The first factor's register is overwritten: best one that is not needed again.
                    SparseForm::Float if row.is_last => b.fma(pixel[word], weight, *sum),
                    SparseForm::Float => b.fma(weight, pixel[word], *sum),
                    SparseForm::Columns { .. } | SparseForm::Quads { .. } => b.dot2(pixel[word], weight, *sum),
                };
            }
        }
    }
}

/// A row of the step at `stream + disp`.
pub(super) struct StepRow {
    pub stream: Ptr,
    pub disp: i64,
    pub number: usize,
    /// Whether no other row reads the pixels after it.
    pub is_last: bool,
}

/// The bytes of `n` pixels of two columns as pairs. Signed bytes have their sign bit turned, which adds 128.
fn joined(b: &mut TileBuilder, at: [Ptr; 2], disp: i64, n: usize, signed: bool) -> Reg {
    let [low, high] = at.map(|p| b.load_n(MemType::U8, p, disp, n));
    let high = b.shift(Shift::Left, high, 16);
    let pair = b.binary(Binary::Or, low, high);
    if signed { flipped(b, pair, 0x0080_0080) } else { pair }
}

/// The four bytes of each of `n` pixels as pairs of the even and of the odd ones.
fn split(b: &mut TileBuilder, at: Ptr, disp: i64, n: usize, signed: bool) -> Vec<Reg> {
    let word = b.load_n(MemType::I32, at, disp, n);
    let word = if signed { flipped(b, word, 0x8080_8080u32 as i32) } else { word };
    let mask = b.i32(0x00ff_00ff);
    let even = b.binary(Binary::And, word, mask);
    let odd = b.shift(Shift::Logical, word, 8);
    vec![even, b.binary(Binary::And, odd, mask)]
}

fn flipped(b: &mut TileBuilder, x: Reg, bits: i32) -> Reg {
    let bits = b.i32(bits);
    b.binary(Binary::Xor, x, bits)
}
