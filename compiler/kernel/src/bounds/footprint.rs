//! The bytes that a tile reads and writes, relative to its pointers.

use smallvec::SmallVec;

use super::linear::gcd;
use crate::tile::{Count, Inst, Load, MATRIX_BYTES, MATRIX_ROWS, Ptr, Tile, TileLoop, computes};
use std::collections::HashMap;

/// A constant and multiples of the tile's trip counts. Numbers of a tile are 64 bits wide, and turns 32: sums of their
/// products are exact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Affine {
    pub constant: i128,
    pub counts: SmallVec<[i128; 2]>,
}

impl Affine {
    fn add(&mut self, count: usize, factor: i64) {
        if self.counts.len() <= count {
            self.counts.resize(count + 1, 0);
        }
        self.counts[count] += i128::from(factor);
    }
}

/// Where a pointer began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Root {
    /// A parameter of the tile.
    Param(usize),
    /// A pointer that the tile read, by its number.
    Read(usize),
}

/// Where a pointer may be: from the first to the last place, relative to its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub root: Root,
    pub first: Affine,
    pub last: Affine,
    /// Places are this far apart; 0 where there is one.
    pub stride: i64,
}

/// A pointer that is read from a table: offsets from a base, or another pointer where they are negative.
#[derive(Clone, Debug)]
pub(super) struct Indirect {
    /// Where the offsets are read.
    pub table: Span,
    pub base: Span,
    pub other: Option<Span>,
}

/// Bytes that are read or written: from the first one to before the last.
#[derive(Clone, Debug)]
pub(super) struct ByteRange {
    pub root: Root,
    pub first: Affine,
    pub end: Affine,
    pub written: bool,
    /// The trip counts, as bits, without which it does not happen.
    pub within: u64,
}

/// What a tile does to memory.
#[derive(Debug, Default)]
pub(super) struct Footprint {
    pub accesses: Vec<ByteRange>,
    pub reads: Vec<Indirect>,
}

/// What tells accesses apart; of others the widest is kept.
type Key = (Root, SmallVec<[i128; 2]>, SmallVec<[i128; 2]>, bool, u64);

/// A pointer, and the accesses through it: reads, and writes.
struct Pointer {
    span: Span,
    accesses: [Option<usize>; 2],
}

struct Walk {
    ptrs: HashMap<Ptr, Pointer>,
    reads: Vec<Indirect>,
    accesses: HashMap<Key, usize>,
    list: Vec<ByteRange>,
    within: u64,
}

impl Footprint {
    /// The footprint of a verified tile.
    pub fn of(tile: &Tile) -> Footprint {
        let param = |i: usize| {
            let (first, last) = (Affine::default(), Affine::default());
            (
                Ptr(i as u32),
                Pointer { span: Span { root: Root::Param(i), first, last, stride: 0 }, accesses: [None; 2] },
            )
        };
        let ptrs = (0..tile.ptrs).map(param).collect();
        let mut walk = Walk { ptrs, reads: vec![], accesses: HashMap::new(), list: vec![], within: 0 };
        walk.body(&tile.body);
        Footprint { accesses: walk.list, reads: walk.reads }
    }
}

impl Walk {
    fn define(&mut self, ptr: Ptr, span: Span) {
        self.ptrs.insert(ptr, Pointer { span, accesses: [None; 2] });
    }

    fn body(&mut self, body: &[Inst]) {
        body.iter().for_each(|inst| self.inst(inst));
    }

    fn inst(&mut self, inst: &Inst) {
        match inst {
            Inst::Load { mem, ptr, disp, load, .. } => {
                let (n, stride) = match load {
                    Load::Contiguous(n) => (i64::from(*n), mem.bytes()),
                    Load::Strided(n, stride) => (i64::from(*n), *stride),
                    Load::Broadcast => (1, 0),
                };
                self.access(*ptr, *disp, (n, stride, mem.bytes()), false);
            }
            Inst::Store { mem, ptr, disp, n, stride, .. } => {
                self.access(*ptr, *disp, (i64::from(*n), *stride, mem.bytes()), true);
            }
            Inst::MatLoad { ptr, disp, stride, .. } => {
                self.access(*ptr, *disp, (MATRIX_ROWS as i64, *stride, MATRIX_BYTES as i64), false);
            }
            Inst::MatStore { ptr, disp, stride, .. } => {
                self.access(*ptr, *disp, (MATRIX_ROWS as i64, *stride, MATRIX_BYTES as i64), true);
            }
            Inst::Offset { dst, ptr, disp } => {
                let span = shifted(&self.ptrs[ptr].span, *disp);
                self.define(*dst, span);
            }
            Inst::LoadPtr { dst, table, disp, base, other } => {
                self.access(*table, *disp, (1, 0, 4), false);
                let table = shifted(&self.ptrs[table].span, *disp);
                let (base, other) = (self.ptrs[base].span.clone(), other.map(|ptr| self.ptrs[&ptr].span.clone()));
                self.reads.push(Indirect { table, base, other });
                let (first, last) = (Affine::default(), Affine::default());
                let span = Span { root: Root::Read(self.reads.len() - 1), first, last, stride: 0 };
                self.define(*dst, span);
            }
            Inst::Loop(l) => self.turns(l),
            computes!() => {}
            // No memory, or, for a prefetch, none that counts.
            Inst::MatConfigure {} | Inst::MatRelease {} | Inst::MatZero { .. } | Inst::MatDot { .. } => {}
            Inst::Prefetch { .. } => {}
        }
    }

    fn turns(&mut self, l: &TileLoop) {
        let inits: Vec<Span> = l.inducts.iter().map(|induct| self.ptrs[&induct.init].span.clone()).collect();
        let outer = self.within;
        if l.count != Count::Static(0) {
            for (induct, init) in l.inducts.iter().zip(&inits) {
                self.define(
                    induct.ptr,
                    moved(init, induct.step, |far| match l.count {
                        Count::Static(n) => far.constant += i128::from(induct.step) * (i128::from(n) - 1),
                        Count::Param(c) => {
                            far.add(c as usize, induct.step);
                            far.constant -= i128::from(induct.step);
                        }
                    }),
                );
            }
            if let Count::Param(c) = l.count {
                self.within |= 1 << c.min(63);
            }
            self.body(&l.body);
            self.within = outer;
        }
        for (induct, mut span) in l.inducts.iter().zip(inits) {
            for end in [&mut span.first, &mut span.last] {
                match l.count {
                    Count::Static(n) => end.constant += i128::from(induct.step) * i128::from(n),
                    Count::Param(c) => end.add(c as usize, induct.step),
                }
            }
            self.define(induct.ptr, span);
        }
    }

    /// `n` pieces of `bytes` bytes, `stride` apart.
    fn access(&mut self, ptr: Ptr, disp: i64, (n, stride, bytes): (i64, i64, i64), written: bool) {
        let Some(pointer) = self.ptrs.get_mut(&ptr).filter(|_| n > 0) else { return };
        let [n, stride, bytes, disp] = [n, stride, bytes, disp].map(i128::from);
        let across = (n - 1) * stride;
        let (first, end) = (disp + across.min(0), disp + across.max(0) + bytes);
        let known = &mut pointer.accesses[usize::from(written)];
        // In a loop that is entered later the same pointer has accesses of its own.
        if let Some(i) = known.filter(|&i| self.list[i].within == self.within) {
            return self.list[i].widen(&pointer.span, first, end);
        }
        let Span { root, first: from, last: to, .. } = &pointer.span;
        let key = (*root, from.counts.clone(), to.counts.clone(), written, self.within);
        let i = *self.accesses.entry(key).or_insert(self.list.len());
        *known = Some(i);
        if i == self.list.len() {
            let access = |at: &Affine, by: i128| Affine { constant: at.constant + by, counts: at.counts.clone() };
            let (first, end) = (access(from, first), access(to, end));
            self.list.push(ByteRange { root: *root, first, end, written, within: self.within });
        } else {
            self.list[i].widen(&pointer.span, first, end);
        }
    }
}

impl ByteRange {
    /// Lets it also hold the bytes from a first one to before a last one, relative to a pointer.
    fn widen(&mut self, span: &Span, first: i128, end: i128) {
        self.first.constant = self.first.constant.min(span.first.constant + first);
        self.end.constant = self.end.constant.max(span.last.constant + end);
    }
}

fn shifted(span: &Span, by: i64) -> Span {
    let mut span = span.clone();
    span.first.constant += i128::from(by);
    span.last.constant += i128::from(by);
    span
}

/// A pointer that is anywhere between its first turn and its last, whose distance `far` adds.
fn moved(init: &Span, step: i64, far: impl Fn(&mut Affine)) -> Span {
    let mut span = init.clone();
    far(if step < 0 { &mut span.first } else { &mut span.last });
    span.stride = gcd(span.stride, step);
    span
}
