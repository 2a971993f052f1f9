//! The nest level: structured loops and index arithmetic around calls of tiles.
//!
//! A [`Kernel`] has buffers, tiles and a body. The body is executed for each parallel task; [`TASK`] is the variable
//! that holds the task's number. Index arithmetic is on 64-bit signed integers; an address is a buffer (or the worker's
//! scratch) and an offset in bytes. Tiles do all the work on data.
//!
//! How to write a kernel builder: make the tiles with [`TileBuilder`](crate::tile::TileBuilder) (main one and one for
//! each tail), add them with [`Kernel::tile`], and place them with [`call`] in nested [`for_loop`]s over [`Ix`]
//! expressions; [`Kernel::vars`] hands out variables:
//!
//! ```
//! use optc_kernel::nest::{Access, Ix, Kernel, TASK, call, for_loop};
//! use optc_kernel::tile::{MemType, TileBuilder};
//! // doubles 8 rows of 16 floats, a task per row, a vector of 4 at a time
//! let mut kernel = Kernel::new("double", 8);
//! let src = kernel.buf("src", 8 * 64, Access::Read);
//! let dst = kernel.buf("dst", 8 * 64, Access::Write);
//! let mut b = TileBuilder::new("double_4", 4);
//! let (s, d) = (b.ptr(), b.ptr());
//! let x = b.load(MemType::F32, s, 0);
//! let y = b.add(x, x);
//! b.store(MemType::F32, d, 0, y);
//! let tile = kernel.tile(b.finish());
//! let j = kernel.var();
//! let at = Ix::var(TASK) * 64 + Ix::var(j) * 16;
//! kernel.body = vec![for_loop(j, 0, 4, vec![call(tile, [src.at(at.clone()), dst.at(at)])])];
//! assert!(kernel.verify().is_ok());
//! ```

mod inline;
mod interp;
mod parse;
mod print;
mod verify;

pub use interp::Watch;
pub use parse::parse_kernel;
pub use verify::NestError;

use crate::target::Isa;
use crate::tile::{MemType, Tile};
use std::ops::{Add, Div, Mul, Rem, Sub};

/// An index variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Var(pub u32);

/// The variable that holds the number of the parallel task.
pub const TASK: Var = Var(0);

/// An index expression.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ix {
    /// A constant.
    Const(i64),
    /// A variable.
    Var(Var),
    /// `a + b`.
    Add(Box<Ix>, Box<Ix>),
    /// `a - b`.
    Sub(Box<Ix>, Box<Ix>),
    /// `a * c`.
    Mul(Box<Ix>, i64),
    /// `a / c` for non-negative `a` and positive `c`.
    Div(Box<Ix>, i64),
    /// `a % c` for non-negative `a` and positive `c`.
    Rem(Box<Ix>, i64),
    /// The smaller.
    Min(Box<Ix>, Box<Ix>),
    /// The larger.
    Max(Box<Ix>, Box<Ix>),
}

impl Ix {
    /// A variable.
    pub fn var(var: Var) -> Ix {
        Ix::Var(var)
    }

    /// The smaller of both.
    pub fn min(self, b: impl Into<Ix>) -> Ix {
        match (self, b.into()) {
            (Ix::Const(a), Ix::Const(b)) => Ix::Const(a.min(b)),
            (a, b) => Ix::Min(Box::new(a), Box::new(b)),
        }
    }

    /// The larger of both.
    pub fn max(self, b: impl Into<Ix>) -> Ix {
        match (self, b.into()) {
            (Ix::Const(a), Ix::Const(b)) => Ix::Const(a.max(b)),
            (a, b) => Ix::Max(Box::new(a), Box::new(b)),
        }
    }
}

impl From<i64> for Ix {
    fn from(value: i64) -> Ix {
        Ix::Const(value)
    }
}

impl From<usize> for Ix {
    fn from(value: usize) -> Ix {
        Ix::Const(value as i64)
    }
}

impl From<i32> for Ix {
    fn from(value: i32) -> Ix {
        Ix::Const(value.into())
    }
}

impl From<Var> for Ix {
    fn from(var: Var) -> Ix {
        Ix::Var(var)
    }
}

impl<T: Into<Ix>> Add<T> for Ix {
    type Output = Ix;
    fn add(self, b: T) -> Ix {
        match (self, b.into()) {
            (Ix::Const(a), Ix::Const(b)) => Ix::Const(a + b),
            (Ix::Const(0), x) | (x, Ix::Const(0)) => x,
            (a, b) => Ix::Add(Box::new(a), Box::new(b)),
        }
    }
}

impl<T: Into<Ix>> Sub<T> for Ix {
    type Output = Ix;
    fn sub(self, b: T) -> Ix {
        match (self, b.into()) {
            (Ix::Const(a), Ix::Const(b)) => Ix::Const(a - b),
            (x, Ix::Const(0)) => x,
            (a, b) => Ix::Sub(Box::new(a), Box::new(b)),
        }
    }
}

impl Mul<i64> for Ix {
    type Output = Ix;
    fn mul(self, c: i64) -> Ix {
        match self {
            Ix::Const(a) => Ix::Const(a * c),
            _ if c == 0 => Ix::Const(0),
            a if c == 1 => a,
            a => Ix::Mul(Box::new(a), c),
        }
    }
}

impl Div<i64> for Ix {
    type Output = Ix;
    fn div(self, c: i64) -> Ix {
        match self {
            Ix::Const(a) if c > 0 => Ix::Const(a / c),
            a if c == 1 => a,
            a => Ix::Div(Box::new(a), c),
        }
    }
}

impl Rem<i64> for Ix {
    type Output = Ix;
    fn rem(self, c: i64) -> Ix {
        match self {
            Ix::Const(a) if c > 0 => Ix::Const(a % c),
            _ if c == 1 => Ix::Const(0),
            a => Ix::Rem(Box::new(a), c),
        }
    }
}

/// The buffer of a kernel, or the scratch of the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Base {
    /// The buffer of this number.
    Buf(u32),
    /// The worker's private bytes.
    Scratch,
}

impl Base {
    /// The address `offset` bytes into it.
    pub fn at(self, offset: impl Into<Ix>) -> Addr {
        Addr { base: self, offset: offset.into() }
    }
}

/// An address: a base and bytes from its start.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Addr {
    /// What it is relative to.
    pub base: Base,
    /// Bytes.
    pub offset: Ix,
}

/// What a kernel does with a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Reads it only.
    Read,
    /// Writes it, every byte that it declares, without reading what was there.
    Write,
    /// Reads and writes it.
    ReadWrite,
}

/// A buffer of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Buf {
    /// A name, for people.
    pub name: String,
    /// Its length.
    pub bytes: usize,
    /// What is done with it.
    pub access: Access,
}

/// How two indices are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rel {
    /// `a == b`.
    Eq,
    /// `a < b`.
    Lt,
    /// `a >= b`.
    Ge,
}

/// The width of an index in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IndexMem {
    /// Four bytes, signed.
    I32,
    /// Eight bytes, signed.
    I64,
}

/// A statement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the fields are explained by each variant's sentence")]
pub enum Stmt {
    /// `for var in (start..end).step_by(step)`.
    For { var: Var, start: Ix, end: Ix, step: i64, body: Vec<Stmt> },
    /// `if a rel b { then } else { otherwise }`.
    If { a: Ix, rel: Rel, b: Ix, then: Vec<Stmt>, otherwise: Vec<Stmt> },
    /// `let var = value`.
    Let { var: Var, value: Ix },
    /// `let var = *at`; check its range before it addresses anything.
    LoadIndex { var: Var, mem: IndexMem, at: Addr },
    /// Runs a tile.
    Call { tile: usize, ptrs: Vec<Addr>, counts: Vec<Ix> },
}

/// `let var = value`.
pub fn let_(var: Var, value: Ix) -> Stmt {
    Stmt::Let { var, value }
}

/// `for var in start..end { body }`.
pub fn for_loop(var: Var, start: impl Into<Ix>, end: impl Into<Ix>, body: Vec<Stmt>) -> Stmt {
    for_step(var, start, end, 1, body)
}

/// `for var in (start..end).step_by(step) { body }`.
pub fn for_step(var: Var, start: impl Into<Ix>, end: impl Into<Ix>, step: i64, body: Vec<Stmt>) -> Stmt {
    Stmt::For { var, start: start.into(), end: end.into(), step, body }
}

/// Runs a tile without trip counts.
pub fn call(tile: usize, ptrs: impl Into<Vec<Addr>>) -> Stmt {
    call_counts(tile, ptrs, [])
}

/// Runs a tile.
pub fn call_counts(tile: usize, ptrs: impl Into<Vec<Addr>>, counts: impl Into<Vec<Ix>>) -> Stmt {
    Stmt::Call { tile, ptrs: ptrs.into(), counts: counts.into() }
}

/// One compiled unit: a fused region of the graph as a loop nest over buffers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// What it is: `contract_f32_5x8`.
    pub name: String,
    /// The buffers, in the order of the arguments.
    pub bufs: Vec<Buf>,
    /// How many independent tasks it has.
    pub tasks: u64,
    /// Bytes that each worker must have privately.
    pub scratch_bytes: usize,
    /// The tiles that it calls.
    pub tiles: Vec<Tile>,
    /// How many variables it has, [`TASK`] included.
    pub vars: u32,
    /// What one task does.
    pub body: Vec<Stmt>,
}

impl Kernel {
    /// A kernel that does nothing yet.
    pub fn new(name: impl Into<String>, tasks: u64) -> Kernel {
        let (bufs, tiles, body) = (Vec::new(), Vec::new(), Vec::new());
        Kernel { name: name.into(), bufs, tasks, scratch_bytes: 0, tiles, vars: 1, body }
    }

    /// What is seen of it from outside: the kernel without tiles and body.
    pub fn declaration(&self) -> Kernel {
        let (bufs, scratch_bytes) = (self.bufs.clone(), self.scratch_bytes);
        Kernel { bufs, scratch_bytes, ..Kernel::new(self.name.clone(), self.tasks) }
    }

    /// Declares the next buffer.
    pub fn buf(&mut self, name: impl Into<String>, bytes: usize, access: Access) -> Base {
        self.bufs.push(Buf { name: name.into(), bytes, access });
        Base::Buf(self.bufs.len() as u32 - 1)
    }

    /// Reserves private bytes, aligned to 64; returns where they begin in the scratch.
    pub fn scratch(&mut self, bytes: usize) -> usize {
        let start = self.scratch_bytes;
        self.scratch_bytes += bytes.next_multiple_of(64);
        start
    }

    /// Lets tiles that store bfloat16 use what the target has for it.
    pub fn rounding_on(mut self, isa: &Isa) -> Kernel {
        for tile in self.tiles.iter_mut().filter(|t| t.lanes == isa.lanes() && t.stores(MemType::Bf16)) {
            tile.features = isa.needs.of_tiles();
        }
        self
    }

    /// Adds a tile, or finds the same one.
    pub fn tile(&mut self, tile: Tile) -> usize {
        if let Some(same) = self.tiles.iter().position(|t| *t == tile) {
            return same;
        }
        self.tiles.push(tile);
        self.tiles.len() - 1
    }

    /// A fresh variable.
    pub fn var(&mut self) -> Var {
        self.vars += 1;
        Var(self.vars - 1)
    }
}
