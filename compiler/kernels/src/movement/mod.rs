//! Movement kernels: strided pieces of sources are copied, or constants filled, into pieces of one destination.
//!
//! Transposes, slices, concatenations, padding, expansion and tiling are all a list of [`Piece`]s. Elements are bits:
//! they are moved in units of four bytes where their width or a run of neighbours allows it, else of one. Each piece
//! becomes the nest of an elementwise kernel without arithmetic, so that transposes go through registers.

use optc_kernel::expr::Expr;
use optc_kernel::nest::{Access, Base, Ix, Kernel, Rel, Stmt, TASK};
use optc_kernel::space::{ByteView, Space};
use optc_kernel::target::Isa;
use optc_kernel::tile::MemType;

use crate::elementwise::{Elementwise, Nest};

/// Elements in memory: element `i` of a piece is at `offset + sum(i[d] * strides[d])` bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PiecePlace {
    /// Where the first element is.
    pub offset: i64,
    /// Bytes from one element to the next, for each dim; in a source, 0 where it is repeated.
    pub strides: Vec<i64>,
}

/// What a piece of the destination is filled with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Elements of the source of this number.
    Copy(usize, PiecePlace),
    /// This element, little endian; bytes after the width are ignored.
    Fill([u8; 8]),
}

/// A piece of the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its extents.
    pub shape: Vec<usize>,
    /// What comes there.
    pub source: Source,
    /// Where it is.
    pub dst: PiecePlace,
}

/// Elements to be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Movement {
    /// Bytes of an element: 1, 2, 4 or 8.
    pub width: usize,
    /// The lengths of the sources' buffers.
    pub sources: Vec<usize>,
    /// The length of the destination's buffer.
    pub dst_bytes: usize,
    /// The pieces; no two of them share bytes of the destination.
    pub pieces: Vec<Piece>,
}

/// What kernels that move elements of this many bytes are called.
pub fn name(width: usize) -> String {
    format!("move_{}", 8 * width)
}

/// Builds the kernel. Buffers: the sources, then the destination.
pub fn movement(m: &Movement, isa: &Isa) -> Kernel {
    let mut kernel = Kernel::new(name(m.width), 0);
    let sources: Vec<_> =
        m.sources.iter().enumerate().map(|(i, &n)| kernel.buf(format!("src{i}"), n, Access::Read)).collect();
    let written: usize = m.pieces.iter().map(|p| p.shape.iter().product::<usize>() * m.width).sum();
    let access = if written == m.dst_bytes { Access::Write } else { Access::ReadWrite };
    let dst = kernel.buf("dst", m.dst_bytes, access);
    let parts: Vec<_> = m.pieces.iter().flat_map(|piece| parts(m, piece)).collect();
    let small = written < ONE_TASK;
    let mut bodies = Vec::new();
    for (problem, source) in &parts {
        let bases: Vec<Base> = source.iter().map(|&s| sources[s]).chain([dst]).collect();
        let task = if small { Ix::Const(0) } else { Ix::var(TASK) - kernel.tasks as i64 };
        let (tasks, body) = Nest::new(problem, isa.lanes()).build(&mut kernel, &bases, &task);
        kernel.tasks += tasks;
        bodies.push((kernel.tasks, body));
    }
    kernel.body = if small {
        kernel.tasks = kernel.tasks.min(1);
        bodies.into_iter().flat_map(|(_, body)| body).collect()
    } else {
        bodies.into_iter().rev().fold(Vec::new(), either)
    };
    kernel
}

/// Bytes below which all pieces are one task; none of them is cut then.
const ONE_TASK: usize = 16 << 10;

/// `if task < end { body } else { otherwise }`.
fn either(otherwise: Vec<Stmt>, (end, then): (u64, Vec<Stmt>)) -> Vec<Stmt> {
    if otherwise.is_empty() {
        return then;
    }
    vec![Stmt::If { a: Ix::var(TASK), rel: Rel::Lt, b: Ix::Const(end as i64), then, otherwise }]
}

/// A piece in units of memory, and the number of its source.
type Part = (Elementwise, Option<usize>);

/// The elementwise problems that move a piece.
fn parts(m: &Movement, piece: &Piece) -> Vec<Part> {
    match &piece.source {
        Source::Copy(source, from) => {
            let width = m.width as i64;
            let unit = if width % 4 == 0 { MemType::I32 } else { MemType::U8 };
            let units = (m.width / unit.bytes() as usize, unit.bytes());
            let (mut shape, mut to, mut src) = (piece.shape.clone(), piece.dst.clone(), from.clone());
            shape.push(units.0);
            to.strides.push(units.1);
            src.strides.push(units.1);
            let copy = Copy { m, source: *source, unit, shape, from: src, to };
            copy.widened()
        }
        Source::Fill(value) => fills(m, piece, value),
    }
}

/// A copy of units.
struct Copy<'a> {
    m: &'a Movement,
    source: usize,
    unit: MemType,
    shape: Vec<usize>,
    from: PiecePlace,
    to: PiecePlace,
}

impl Copy<'_> {
    /// Bytes that lie side by side in runs on both sides are moved four at a time; what is left of each run by a
    /// second part.
    fn widened(self) -> Vec<Part> {
        let space = Space::new(&self.shape, &[&self.to.strides, &self.from.strides]);
        let (Some(&run), Some(strides)) = (space.extents.last(), space.strides.last()) else {
            return vec![self.part(self.unit, &self.shape, &self.from, &self.to)];
        };
        if self.unit != MemType::U8 || strides[..] != [1, 1] || run < 4 || space.is_empty() {
            return vec![self.part(self.unit, &self.shape, &self.from, &self.to)];
        }
        let outer = space.extents.len() - 1;
        let places = |offset: i64, stride: i64| {
            let side = |of: usize, place: &PiecePlace| {
                let mut strides: Vec<i64> = space.strides[..outer].iter().map(|s| s[of]).collect();
                strides.push(stride);
                PiecePlace { offset: place.offset + offset, strides }
            };
            (side(1, &self.from), side(0, &self.to))
        };
        let shape = |n: usize| [&space.extents[..outer], &[n]].concat();
        let (from, to) = places(0, 4);
        let mut all = vec![self.part(MemType::I32, &shape(run / 4), &from, &to)];
        if !run.is_multiple_of(4) {
            let (from, to) = places((run / 4 * 4) as i64, 1);
            all.push(self.part(MemType::U8, &shape(run % 4), &from, &to));
        }
        all
    }

    fn part(&self, mem: MemType, shape: &[usize], from: &PiecePlace, to: &PiecePlace) -> Part {
        let operand = view(mem, self.m.sources[self.source], from);
        let results = vec![(view(mem, self.m.dst_bytes, to), Expr::Operand(0))];
        (Elementwise { shape: shape.to_vec(), operands: vec![operand], results }, Some(self.source))
    }
}

fn view(mem: MemType, bytes: usize, place: &PiecePlace) -> ByteView {
    ByteView { mem, bytes, offset: place.offset, strides: place.strides.clone() }
}

/// Fills with as few parts as the width and the value allow: one where four bytes repeat, else one for each unit.
fn fills(m: &Movement, piece: &Piece, value: &[u8; 8]) -> Vec<Part> {
    let part = |mem: MemType, shape: Vec<usize>, to: PiecePlace, value: i32| {
        let results = vec![(view(mem, m.dst_bytes, &to), Expr::Int(value))];
        (Elementwise { shape, operands: Vec::new(), results }, None)
    };
    let word = |at: usize| {
        let byte = |i: usize| value[(at + i) % m.width];
        i32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)])
    };
    let (mut shape, mut strides) = (piece.shape.clone(), piece.dst.strides.clone());
    shape.push(m.width);
    strides.push(1);
    let space = Space::new(&shape, &[&strides]);
    let run = space.extents.last().copied().unwrap_or(1);
    let repeats = m.width < 8 || word(0) == word(4);
    if run.is_multiple_of(4) && repeats && !space.is_empty() && space.strides.last().is_some_and(|s| s[0] == 1) {
        let (mut shape, mut strides) = (space.extents.clone(), space.strides.iter().map(|s| s[0]).collect::<Vec<_>>());
        let last = shape.len() - 1;
        (shape[last], strides[last]) = (run / 4, 4);
        return vec![part(MemType::I32, shape, PiecePlace { offset: piece.dst.offset, strides }, word(0))];
    }
    let unit = if m.width == 8 { MemType::I32 } else { MemType::U8 };
    (0..m.width)
        .step_by(unit.bytes() as usize)
        .map(|at| {
            let to = PiecePlace { offset: piece.dst.offset + at as i64, ..piece.dst.clone() };
            part(unit, piece.shape.clone(), to, if unit == MemType::I32 { word(at) } else { i32::from(value[at]) })
        })
        .collect()
}
