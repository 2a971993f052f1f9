//! The tile level: a straight-line vector program on virtual registers, the innermost position of every kernel.
//!
//! A [`Tile`] is a function of pointers and trip counts. It has vector registers ([`Reg`], all of `lanes` lanes of 32
//! bits, either `f32` or `i32`), pointers ([`Ptr`]), and counted loops with induction pointers and carried registers,
//! nested at most [`MAX_DEPTH`] deep. Everything is in SSA form: each register and pointer is defined once, before its
//! uses, in the same or an enclosing body. What does not fit a vector is done with partial loads and stores whose lane
//! count `n` is a constant, as all shapes are known when a kernel is built.
//!
//! Scalars are registers whose lanes are all equal ([`Load::Broadcast`], [`Inst::Reduce`] and constants make them);
//! booleans are `i32` registers of all ones or all zeros. Memory may also hold `i64`, and 8 and 16 bits with a sign or
//! without (bool is `u8`): loads convert to `i32`, stores convert back (wrapping for narrow types, sign-extending for
//! `i64`). Halves and bfloat16 in memory are `f32` in registers; stores round them.
//!
//! The instructions are rows of a table in `inst.rs`, their operators in `operators.rs`. Write tiles with
//! [`build::TileBuilder`]; [`interp`] says what each instruction means; [`mod@verify`] what is well formed.

use optc_types::Features;

pub mod arcs;
mod build;
mod error;
mod field;
mod inst;
pub mod interp;
mod lane;
mod math;
mod operators;
mod parse;
mod print;
pub mod verify;
mod words;

pub use build::TileBuilder;
pub use inst::Inst;
pub(crate) use inst::computes;
pub use operators::{Binary, Cmp, Law, Shift, Unary};
pub use parse::parse_tile;
pub use verify::verify;

/// Loops may be nested this deep in a tile.
pub const MAX_DEPTH: usize = 3;

/// A vector register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reg(pub u32);

/// A pointer: the first ones are the parameters of the tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ptr(pub u32);

/// How many matrix registers there are.
pub const MATRICES: u8 = 8;
/// Rows of a matrix register, and bytes of each.
pub const MATRIX_ROWS: usize = 16;
/// Bytes of a row of a matrix register.
pub const MATRIX_BYTES: usize = 64;

/// A matrix register of a target that has them ([`Features::has_matrices`]): 16 rows of 64 bytes. They are written
/// again and again, unlike all else in a tile; between a call that configures them and one that releases them they keep
/// their values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mat(pub u8);

/// What is multiplied in matrix registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TileProduct {
    /// Fours of `u8` times fours of `i8`, summed as `i32`.
    Bytes,
    /// Pairs of bfloat16, summed as `f32`: the upper ones and the lower ones apart, with one rounding each, then both.
    /// Numbers that are not normal may count as zeros.
    Bf16,
}

/// What a lane of a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Elem {
    /// IEEE single precision.
    F32,
    /// 32 bits, signed where it matters; also booleans as 0 and -1.
    I32,
}

/// What an element in memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemType {
    /// Four bytes, loaded into an [`Elem::F32`] register.
    F32,
    /// Two bytes, a bfloat16, loaded into an [`Elem::F32`] register. A store rounds to the nearest one, ties to even;
    /// NaN stays NaN. Numbers that are not normal may be stored as zeros.
    Bf16,
    /// Two bytes, an IEEE half, loaded into an [`Elem::F32`] register. A store rounds to the nearest one, ties to even:
    /// to infinity from 65520 on, to numbers that are not normal below 2^-14. NaN stays NaN, and becomes a quiet one.
    F16,
    /// Four bytes.
    I32,
    /// Eight bytes, truncated by a load, sign-extended by a store.
    I64,
    /// Two bytes, zero-extended.
    U16,
    /// Two bytes, sign-extended.
    I16,
    /// One byte, zero-extended.
    U8,
    /// One byte, sign-extended.
    I8,
    /// Two bytes, each zero-extended to a half of the lane, the first to the lower one. Only [`Load::Contiguous`] reads
    /// it.
    U8Pair,
    /// Two bytes, each sign-extended to a half of the lane, the first to the lower one. Only [`Load::Contiguous`] reads
    /// it.
    I8Pair,
}

impl MemType {
    /// Bytes of one element.
    pub fn bytes(self) -> i64 {
        match self {
            MemType::F32 | MemType::I32 => 4,
            MemType::I64 => 8,
            MemType::U8 | MemType::I8 => 1,
            MemType::Bf16 | MemType::F16 | MemType::U16 | MemType::I16 => 2,
            MemType::U8Pair | MemType::I8Pair => 2,
        }
    }

    /// Whether an element is two bytes that go to the halves of a lane.
    pub fn is_pair(self) -> bool {
        matches!(self, MemType::U8Pair | MemType::I8Pair)
    }

    /// The element type of a register loaded from such memory.
    pub fn elem(self) -> Elem {
        match self {
            MemType::F32 | MemType::Bf16 | MemType::F16 => Elem::F32,
            MemType::I32 | MemType::I64 | MemType::U16 | MemType::I16 => Elem::I32,
            MemType::U8 | MemType::I8 | MemType::U8Pair | MemType::I8Pair => Elem::I32,
        }
    }
}

/// Which elements a load reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Load {
    /// `n` consecutive elements into lanes `0..n`; the other lanes are zero.
    Contiguous(u8),
    /// `n` elements, `stride` bytes apart, into lanes `0..n`; the other lanes are zero.
    Strided(u8, i64),
    /// One element into every lane.
    Broadcast,
}

/// How a loop knows its trip count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Count {
    /// Always this many.
    Static(u32),
    /// The value of the tile's count parameter of this number.
    Param(u32),
}

/// A pointer that a loop advances: `ptr` starts as `init` and grows by `step` bytes each turn. After the loop it keeps
/// its last value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Induct {
    /// The pointer inside and after the loop.
    pub ptr: Ptr,
    /// Its first value.
    pub init: Ptr,
    /// Bytes added after each turn.
    pub step: i64,
}

/// A register that a loop carries: `phi` starts as `init` and is `next` of the turn before afterwards. After the loop
/// it keeps its last value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Carry {
    /// The register inside and after the loop.
    pub phi: Reg,
    /// Its first value.
    pub init: Reg,
    /// Its value for the next turn.
    pub next: Reg,
}

/// A counted loop; it may run zero times.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TileLoop {
    /// How many turns.
    pub count: Count,
    /// Pointers that advance.
    pub inducts: Vec<Induct>,
    /// Registers that are carried.
    pub carries: Vec<Carry>,
    /// What a turn does.
    pub body: Vec<Inst>,
}

/// A tile: a vector program as a function of pointers and trip counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// What it is, for people; tiles that differ in it alone are compiled once.
    pub name: String,
    /// Lanes of every register.
    pub lanes: usize,
    /// What its machine code may use beyond plain vector instructions; what the tile means does not depend on it.
    pub features: Features,
    /// How many pointer parameters: they are `Ptr(0)..Ptr(ptrs)`.
    pub ptrs: usize,
    /// How many trip-count parameters.
    pub counts: usize,
    /// The program.
    pub body: Vec<Inst>,
}

impl Tile {
    /// Whether it stores elements of this kind.
    pub fn stores(&self, mem: MemType) -> bool {
        fn any(body: &[Inst], mem: MemType) -> bool {
            body.iter().any(|inst| match inst {
                Inst::Store { mem: to, .. } => *to == mem,
                Inst::Loop(l) => any(&l.body, mem),
                _ => false,
            })
        }
        any(&self.body, mem)
    }
}
