//! Builds tiles: fresh registers, element types known as you go, and the usual operations as methods.
//!
//! ```
//! use optc_kernel::tile::{Count, MemType, TileBuilder};
//! // dst[i] = max(src[i], 0) for four vectors of four lanes
//! let mut b = TileBuilder::new("relu", 4);
//! let (src, dst) = (b.ptr(), b.ptr());
//! let zero = b.f32(0.0);
//! b.for_each(Count::Static(4), &[(src, 16), (dst, 16)], &[], |b, p, _| {
//!     let x = b.load(MemType::F32, p[0], 0);
//!     let y = b.max(zero, x);
//!     b.store(MemType::F32, p[1], 0, y);
//!     vec![]
//! });
//! let tile = b.finish();
//! assert!(optc_kernel::tile::verify(&tile).is_ok());
//! ```

use super::{
    Binary, Carry, Cmp, Count, Elem, Induct, Inst, Load, Mat, MemType, Ptr, Reg, Shift, Tile, TileLoop, TileProduct,
    Unary,
};
use crate::target::Isa;
use optc_types::Features;
use std::collections::HashMap;

/// Builds one tile, instruction after instruction.
pub struct TileBuilder {
    name: String,
    lanes: usize,
    features: Features,
    ptrs: u32,
    params: usize,
    counts: usize,
    elems: Vec<Elem>,
    /// The open bodies: the tile's and those of the loops around the place of insertion.
    bodies: Vec<Vec<Inst>>,
    /// The constants that each open body has already.
    constants: Vec<HashMap<(Elem, u32), Reg>>,
}

impl TileBuilder {
    /// Starts a tile of `lanes` lanes (those of the target's row).
    pub fn new(name: impl Into<String>, lanes: usize) -> Self {
        let (name, features, elems) = (name.into(), Features::default(), Vec::new());
        let (bodies, constants) = (vec![Vec::new()], vec![HashMap::new()]);
        TileBuilder { name, lanes, features, ptrs: 0, params: 0, counts: 0, elems, bodies, constants }
    }

    /// Starts a tile whose machine code may use all that a row of the target table has.
    pub fn with_isa(name: impl Into<String>, isa: &Isa) -> Self {
        TileBuilder { features: isa.needs.of_tiles(), ..TileBuilder::new(name, isa.lanes()) }
    }

    /// Lanes of a register.
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// What the tile may use beyond plain vectors.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Declares the next pointer parameter. All are declared before the first derived pointer.
    pub fn ptr(&mut self) -> Ptr {
        assert_eq!(self.ptrs as usize, self.params, "pointer parameters come before derived pointers");
        self.params += 1;
        self.fresh_ptr()
    }

    /// Declares the next trip-count parameter.
    pub fn count(&mut self) -> Count {
        self.counts += 1;
        Count::Param(self.counts as u32 - 1)
    }

    /// Ends the tile.
    pub fn finish(mut self) -> Tile {
        let body = self.bodies.pop().unwrap_or_default();
        let TileBuilder { name, lanes, features, params, counts, .. } = self;
        Tile { name, lanes, features, ptrs: params, counts, body }
    }

    /// What a register holds.
    pub fn elem(&self, reg: Reg) -> Elem {
        self.elems[reg.0 as usize]
    }

    fn fresh_ptr(&mut self) -> Ptr {
        self.ptrs += 1;
        Ptr(self.ptrs - 1)
    }

    fn fresh(&mut self, elem: Elem) -> Reg {
        self.elems.push(elem);
        Reg(self.elems.len() as u32 - 1)
    }

    fn push(&mut self, inst: Inst) {
        self.bodies.last_mut().expect("the tile's own body stays open until `finish`").push(inst);
    }

    /// The instruction that defines a fresh register; what that holds follows from the instruction.
    ///
    /// # Panics
    /// If the instruction defines no register.
    pub fn define(&mut self, inst: impl FnOnce(Reg) -> Inst) -> Reg {
        let inst = inst(Reg(self.elems.len() as u32));
        let elem = inst.gives(|reg| self.elem(reg)).expect("the instruction defines a register");
        self.push(inst);
        self.fresh(elem)
    }

    /// A constant in every lane.
    pub fn f32(&mut self, value: f32) -> Reg {
        self.constant(Elem::F32, value.to_bits(), |dst| Inst::ConstF { dst, bits: value.to_bits() })
    }

    /// A constant in every lane.
    pub fn i32(&mut self, value: i32) -> Reg {
        self.constant(Elem::I32, value as u32, |dst| Inst::ConstI { dst, value })
    }

    /// The register of a constant that this body has already, or a fresh one: unrolled code shares its constants.
    fn constant(&mut self, elem: Elem, bits: u32, inst: impl FnOnce(Reg) -> Inst) -> Reg {
        if let Some(&known) = self.constants.last().and_then(|known| known.get(&(elem, bits))) {
            return known;
        }
        let reg = self.define(inst);
        if let Some(known) = self.constants.last_mut() {
            known.insert((elem, bits), reg);
        }
        reg
    }

    /// `op x`.
    pub fn unary(&mut self, op: Unary, x: Reg) -> Reg {
        self.define(|dst| Inst::Unary { dst, op, x })
    }

    /// `x op y`.
    pub fn binary(&mut self, op: Binary, x: Reg, y: Reg) -> Reg {
        self.define(|dst| Inst::Binary { dst, op, x, y })
    }

    /// `x + y`.
    pub fn add(&mut self, x: Reg, y: Reg) -> Reg {
        self.binary(Binary::Add, x, y)
    }

    /// `x - y`.
    pub fn sub(&mut self, x: Reg, y: Reg) -> Reg {
        self.binary(Binary::Sub, x, y)
    }

    /// `x * y`.
    pub fn mul(&mut self, x: Reg, y: Reg) -> Reg {
        self.binary(Binary::Mul, x, y)
    }

    /// `x / y`.
    pub fn div(&mut self, x: Reg, y: Reg) -> Reg {
        self.binary(Binary::Div, x, y)
    }

    /// `x < y ? x : y`.
    pub fn min(&mut self, x: Reg, y: Reg) -> Reg {
        self.binary(Binary::Min, x, y)
    }

    /// `x > y ? x : y`.
    pub fn max(&mut self, x: Reg, y: Reg) -> Reg {
        self.binary(Binary::Max, x, y)
    }

    /// `x * y + z`, rounded once.
    pub fn fma(&mut self, x: Reg, y: Reg, z: Reg) -> Reg {
        self.define(|dst| Inst::Fma { dst, x, y, z })
    }

    /// `z` plus the two products of signed halves; see [`Inst::Dot2`].
    pub fn dot2(&mut self, x: Reg, y: Reg, z: Reg) -> Reg {
        self.define(|dst| Inst::Dot2 { dst, x, y, z })
    }

    /// `z` plus the four products of unsigned and signed bytes; see [`Inst::Dot4`].
    pub fn dot4(&mut self, x: Reg, y: Reg, z: Reg) -> Reg {
        self.define(|dst| Inst::Dot4 { dst, x, y, z })
    }

    /// `z` plus the two products of bfloat16 halves; see [`Inst::DotBf16`].
    pub fn dot_bf16(&mut self, x: Reg, y: Reg, z: Reg) -> Reg {
        self.define(|dst| Inst::DotBf16 { dst, x, y, z })
    }

    /// All lanes of `x` and of `y` as bfloat16; see [`Inst::PackBf16`].
    pub fn pack_bf16(&mut self, x: Reg, y: Reg) -> Reg {
        self.define(|dst| Inst::PackBf16 { dst, x, y })
    }

    /// The mask of `x op y`.
    pub fn cmp(&mut self, op: Cmp, x: Reg, y: Reg) -> Reg {
        self.define(|dst| Inst::Cmp { dst, op, x, y })
    }

    /// `mask ? x : y`.
    pub fn select(&mut self, mask: Reg, x: Reg, y: Reg) -> Reg {
        self.define(|dst| Inst::Select { dst, mask, x, y })
    }

    /// `x` shifted by a constant.
    pub fn shift(&mut self, op: Shift, x: Reg, by: u8) -> Reg {
        self.define(|dst| Inst::Shift { dst, op, x, by })
    }

    /// All lanes of `x` combined, the result in every lane.
    pub fn reduce(&mut self, op: Binary, x: Reg) -> Reg {
        self.define(|dst| Inst::Reduce { dst, op, x })
    }

    /// Lane `i` is lane `lanes[i]` of `x` followed by `y`.
    pub fn permute(&mut self, x: Reg, y: Reg, lanes: &[u8]) -> Reg {
        self.define(|dst| Inst::Permute { dst, x, y, lanes: lanes.to_vec() })
    }

    /// A full vector of consecutive elements.
    pub fn load(&mut self, mem: MemType, ptr: Ptr, disp: i64) -> Reg {
        self.load_n(mem, ptr, disp, self.lanes)
    }

    /// `n` consecutive elements, zeros in the other lanes.
    pub fn load_n(&mut self, mem: MemType, ptr: Ptr, disp: i64, n: usize) -> Reg {
        self.define(|dst| Inst::Load { dst, mem, ptr, disp, load: Load::Contiguous(n as u8) })
    }

    /// `n` elements `stride` bytes apart, zeros in the other lanes.
    pub fn load_strided(&mut self, mem: MemType, ptr: Ptr, disp: i64, n: usize, stride: i64) -> Reg {
        self.define(|dst| Inst::Load { dst, mem, ptr, disp, load: Load::Strided(n as u8, stride) })
    }

    /// One element in every lane.
    pub fn broadcast(&mut self, mem: MemType, ptr: Ptr, disp: i64) -> Reg {
        self.define(|dst| Inst::Load { dst, mem, ptr, disp, load: Load::Broadcast })
    }

    /// `n` elements `stride` bytes apart by the best load for it: one in every lane when the stride is 0.
    pub fn load_along(&mut self, mem: MemType, ptr: Ptr, disp: i64, n: usize, stride: i64) -> Reg {
        match stride {
            0 => self.broadcast(mem, ptr, disp),
            s if s == mem.bytes() => self.load_n(mem, ptr, disp, n),
            8 if mem.bytes() == 4 && n == self.lanes && n > 1 => self.load_every_second(mem, ptr, disp),
            s => self.load_strided(mem, ptr, disp, n, s),
        }
    }

    /// A full vector of every second element, by two loads: the second one ends with the last element that is wanted.
    fn load_every_second(&mut self, mem: MemType, ptr: Ptr, disp: i64) -> Reg {
        let (lanes, last) = (self.lanes, self.lanes - 1);
        let (x, y) = (self.load(mem, ptr, disp), self.load(mem, ptr, disp + mem.bytes() * last as i64));
        let of = |i: usize| if 2 * i < lanes { 2 * i } else { lanes + 2 * i - last };
        let places: Vec<u8> = (0..lanes).map(|i| of(i) as u8).collect();
        self.permute(x, y, &places)
    }

    /// Stores a full vector.
    pub fn store(&mut self, mem: MemType, ptr: Ptr, disp: i64, src: Reg) {
        self.store_n(mem, ptr, disp, self.lanes, src);
    }

    /// Stores lanes `0..n` to consecutive elements.
    pub fn store_n(&mut self, mem: MemType, ptr: Ptr, disp: i64, n: usize, src: Reg) {
        self.push(Inst::Store { mem, ptr, disp, n: n as u8, stride: mem.bytes(), src });
    }

    /// Stores lanes `0..n` to elements `stride` bytes apart.
    pub fn store_strided(&mut self, mem: MemType, ptr: Ptr, disp: i64, n: usize, stride: i64, src: Reg) {
        self.push(Inst::Store { mem, ptr, disp, n: n as u8, stride, src });
    }

    /// Makes the matrix registers ready on this thread.
    pub fn mat_configure(&mut self) {
        self.push(Inst::MatConfigure {});
    }

    /// Ends the use of the matrix registers on this thread.
    pub fn mat_release(&mut self) {
        self.push(Inst::MatRelease {});
    }

    /// Zeros in a matrix register.
    pub fn mat_zero(&mut self, mat: Mat) {
        self.push(Inst::MatZero { mat });
    }

    /// Reads a matrix register from rows `stride` bytes apart.
    pub fn mat_load(&mut self, mat: Mat, ptr: Ptr, disp: i64, stride: i64) {
        self.push(Inst::MatLoad { mat, ptr, disp, stride });
    }

    /// Writes a matrix register to rows `stride` bytes apart.
    pub fn mat_store(&mut self, ptr: Ptr, disp: i64, stride: i64, src: Mat) {
        self.push(Inst::MatStore { ptr, disp, stride, src });
    }

    /// `sum += x · y`; see [`Inst::MatDot`].
    pub fn mat_dot(&mut self, sum: Mat, of: TileProduct, x: Mat, y: Mat) {
        self.push(Inst::MatDot { sum, of, x, y });
    }

    /// Brings the cache line at `ptr + disp` into L2; it need not be in a buffer.
    pub fn prefetch(&mut self, ptr: Ptr, disp: i64) {
        self.push(Inst::Prefetch { ptr, disp });
    }

    /// `ptr + disp`.
    pub fn offset(&mut self, ptr: Ptr, disp: i64) -> Ptr {
        let dst = self.fresh_ptr();
        self.push(Inst::Offset { dst, ptr, disp });
        dst
    }

    /// `base` plus the `i32` byte offset at `table + disp`, or `other` when that is negative.
    pub fn load_ptr(&mut self, table: Ptr, disp: i64, base: Ptr, other: Ptr) -> Ptr {
        let dst = self.fresh_ptr();
        self.push(Inst::LoadPtr { dst, table, disp, base, other: Some(other) });
        dst
    }

    /// `base` plus the `i32` byte offset at `table + disp`.
    pub fn index_ptr(&mut self, table: Ptr, disp: i64, base: Ptr) -> Ptr {
        let dst = self.fresh_ptr();
        self.push(Inst::LoadPtr { dst, table, disp, base, other: None });
        dst
    }

    /// A counted loop. `advance` gives pointers and their steps in bytes, `carried` the first values of registers. The
    /// closure gets the pointers and registers of the turn and returns the registers for the next one. Returns the
    /// registers after the loop; see [`TileBuilder::for_each_ptrs`] for the pointers too.
    pub fn for_each(
        &mut self,
        count: Count,
        advance: &[(Ptr, i64)],
        carried: &[Reg],
        turn: impl FnOnce(&mut Self, &[Ptr], &[Reg]) -> Vec<Reg>,
    ) -> Vec<Reg> {
        self.for_each_ptrs(count, advance, carried, turn).1
    }

    /// [`TileBuilder::for_each`], which also returns where the pointers stand after the loop.
    pub fn for_each_ptrs(
        &mut self,
        count: Count,
        advance: &[(Ptr, i64)],
        carried: &[Reg],
        turn: impl FnOnce(&mut Self, &[Ptr], &[Reg]) -> Vec<Reg>,
    ) -> (Vec<Ptr>, Vec<Reg>) {
        let inducts: Vec<_> =
            advance.iter().map(|&(init, step)| Induct { ptr: self.fresh_ptr(), init, step }).collect();
        let phis: Vec<_> = carried.iter().map(|&init| self.fresh(self.elem(init))).collect();
        let ptrs: Vec<_> = inducts.iter().map(|i| i.ptr).collect();
        self.bodies.push(Vec::new());
        self.constants.push(HashMap::new());
        let next = turn(self, &ptrs, &phis);
        assert_eq!(next.len(), carried.len(), "a turn gives one next value for each carried register");
        let body = self.bodies.pop().expect("pushed above");
        self.constants.pop();
        let carries =
            phis.iter().zip(carried).zip(next).map(|((&phi, &init), next)| Carry { phi, init, next }).collect();
        self.push(Inst::Loop(TileLoop { count, inducts, carries, body }));
        (ptrs, phis)
    }
}
