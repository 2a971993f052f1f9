//! The instructions of tiles: one row each, from which the enum, the operands, the text both ways and the types follow.
//!
//! A row is the text form: `"fma" = Fma { x: F32, y: F32, z: F32 } -> F32;` says that the text is `v4 = fma v1 v2 v3`,
//! that the variant is `Inst::Fma { dst, x, y, z }`, and that all four registers hold `f32`. In a row
//!
//! - an operator in brackets instead of the word is the word itself, as `add` in `v4 = add v1 v2`;
//! - what stands after a name is the field's [kind](super::field): `F32` and `I32` are registers that hold these,
//!   `Same` ones that hold what the operator, the memory or the first such register has; `Ptr` and `Mat` are used, but
//!   a pointer after the arrow is defined, and so is a [`NewMat`];
//! - a word before a field's name stands before it in the text, too.
//!
//! The rows of `lane_wise` compute each lane of the result from the same lane of the operands. What they compute stands
//! after `=>`, where a field is a lane of its register: an `f32`, the bits of an `i32`, or for `Same` a [`TypedLane`].
//! Those of `across_lanes` also depend on registers alone, and do nothing else. Only `effects` may touch memory,
//! pointers or matrices. A loop, which holds other instructions, is the one that has no row.
//!
//! Beyond its row an instruction needs a rule in each emitter; a meaning in [`super::interp`] where it is not
//! lane-wise; and a line in the verifier only where it demands more than types.

use super::error::TileError;
use super::field::*;
use super::lane::{self, LaneBits, TypedLane};
use super::words::Words;
use super::{Binary, Cmp, Elem, Load, Mat, MemType, Ptr, Reg, Shift, TileLoop, TileProduct, Unary};
use smallvec::SmallVec;

/// Makes [`Inst`] from its rows, what they mean, and the patterns `lane_wise!` and `computes!`.
macro_rules! instructions {
    (lane_wise { $($lane_wise:tt)* } across_lanes { $($across:tt)* } effects { $($effects:tt)* }) => {
        rows! { $($lane_wise)* $($across)* $($effects)* }
        meanings! { $($lane_wise)* }
        pattern! { $($lane_wise)* $($across)* }
    };
}

/// Makes the pattern of instructions that depend on registers alone and define one.
macro_rules! pattern {
    ($(
        $(#[$doc:meta])*
        $([$($op:tt)*])? $($word:literal)? = $Name:ident { $($fields:tt)* } -> $Dst:ident $(=> $meaning:expr)?;
    )*) => {
        /// The pattern of all instructions that do nothing but compute a register from registers.
        macro_rules! computes {
            () => { $($crate::tile::Inst::$Name { .. })|* };
        }
    };
}

/// Makes what the lane-wise rows mean, and their pattern.
macro_rules! meanings {
    ($(
        $(#[$doc:meta])*
        $([$op:ident: $Op:ident])? $($word:literal)? = $Name:ident { $($field:ident: $Kind:ident),* } -> $Dst:ident
            => $meaning:expr;
    )*) => {
        impl Inst {
            /// The bits of a lane of the result of a lane-wise instruction, from that lane of each register it uses.
            pub(super) fn of_lane(&self, uses: &mut dyn Iterator<Item = TypedLane>) -> Option<u32> {
                match self {
                    $(Inst::$Name { $($op,)? $($field,)* .. } => {
                        $(let $op = <$Op as LaneKind>::lane($op, uses);)?
                        $(let $field = <$Kind as LaneKind>::lane($field, uses);)*
                        Some(LaneBits::bits($meaning))
                    })*
                    _ => None,
                }
            }
        }

        /// The pattern of all instructions that compute each lane by itself.
        macro_rules! lane_wise {
            () => { $($crate::tile::Inst::$Name { .. })|* };
        }
    };
}

/// Makes the enum, its text and its operands.
macro_rules! rows {
    ($(
        $(#[$doc:meta])*
        $([$op:ident: $Op:ident])? $($word:literal)? = $Name:ident {
            $($($before:literal)? $field:ident: $Kind:ident),*
        } $(-> $Dst:ident)? $(=> $meaning:expr)?;
    )*) => {
        /// One instruction. A `dst` is what it defines.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "the fields are explained by each variant's sentence")]
        pub enum Inst {
            $(
                $(#[$doc])*
                $Name { $(dst: held!($Dst),)? $($op: held!($Op),)? $($field: held!($Kind)),* },
            )*
            /// A counted loop.
            Loop(TileLoop),
        }

        impl Inst {
            /// What it defines; a loop defines several.
            pub(super) fn result(&self) -> Option<InstPart<'_>> {
                match self {
                    $($(Inst::$Name { dst, .. } => <$Dst as FieldKind>::part(dst),)?)*
                    _ => None,
                }
            }

            /// Shows its text after what it defines, part for part; none of a loop. What only looks for some parts
            /// comes down to a match: with lists of parts, allocating the registers of tiles took 1.6 times as long.
            #[inline(always)]
            pub(super) fn each_part<'a>(&'a self, mut see: impl FnMut(InstPart<'a>)) {
                match self {
                    $(Inst::$Name { $($op,)? $($field,)* .. } => {
                        $(see(InstPart::Word($word));)?
                        $(if let Some(part) = <$Op as FieldKind>::part($op) {
                            see(part);
                        })?
                        $(
                            $(see(InstPart::Word($before));)?
                            if let Some(part) = <$Kind as FieldKind>::part($field) {
                                see(part);
                            }
                        )*
                    })*
                    Inst::Loop(_) => {}
                }
            }

            /// The parts of its text after what it defines; none of a loop.
            pub(super) fn parts(&self) -> InstParts<'_> {
                let mut parts = InstParts::new();
                self.each_part(|part| parts.push(part));
                parts
            }

            /// Reads an instruction other than a loop.
            pub(super) fn parse(w: &mut Words<'_>) -> Result<Inst, TileError> {
                let mnemonic = w.mnemonic();
                $(if $(mnemonic == $word)? $($Op::from_word(mnemonic).is_some())? {
                    $(
                        let dst = <$Dst as FieldKind>::parse(w)?;
                        w.expect("=")?;
                    )?
                    $(w.expect($word)?;)?
                    $(let $op = <$Op as FieldKind>::parse(w)?;)?
                    $(
                        $(w.expect($before)?;)?
                        let $field = <$Kind as FieldKind>::parse(w)?;
                    )*
                    return Ok(Inst::$Name { $(dst: <$Dst as FieldKind>::same(dst),)? $($op,)? $($field),* });
                })*
                w.error("an operation")
            }
        }
    };
}

instructions! {
    lane_wise {
        /// Every lane is the `f32` with these bits.
        "const_f" = ConstF { bits: Bits } -> F32 => bits;
        /// Every lane is this integer.
        "const_i" = ConstI { value: Int } -> I32 => value as u32;
        /// `op x`.
        [op: Unary] = Unary { x: Same } -> Same => op.of_lane(x.elem, x.bits);
        /// `x op y`.
        [op: Binary] = Binary { x: Same, y: Same } -> Same => op.of_lanes(x.elem, x.bits, y.bits);
        /// `x` shifted by a constant below 32.
        [op: Shift] = Shift { x: I32, by: ShiftBy } -> I32 => op.of_lane(x, by);
        /// All ones where `x op y`, else all zeros.
        "cmp" = Cmp { op: Cmp, x: Same, y: Same } -> I32
            => if op.holds(x.elem, x.bits, y.bits) { u32::MAX } else { 0 };
        /// `mask ? x : y` where the mask is all ones or all zeros in each lane.
        "select" = Select { mask: I32, x: Same, y: Same } -> Same => (mask & x.bits) | (!mask & y.bits);
        /// `x * y + z` rounded once.
        "fma" = Fma { x: F32, y: F32, z: F32 } -> F32 => x.mul_add(y, z);
        /// `z + x.low * y.low + x.high * y.high`, where halves of a lane are signed 16-bit integers (wrapping).
        "dot2" = Dot2 { x: I32, y: I32, z: I32 } -> I32 => lane::dot2(x, y, z);
        /// `z` plus the four products of the bytes of `x` as `u8` with those of `y` as `i8` (wrapping).
        "dot4" = Dot4 { x: I32, y: I32, z: I32 } -> I32 => lane::dot4(x, y, z);
        /// `z + x.high * y.high`, rounded, `+ x.low * y.low`, rounded, where halves of `x` and `y` are bfloat16.
        /// Numbers that are not normal may count as zeros.
        "dot_bf16" = DotBf16 { x: I32, y: I32, z: F32 } -> F32 => lane::dot_bf16(x, y, z);
    }
    across_lanes {
        /// The lanes of `x`, then those of `y`, rounded to the nearest bfloat16 (ties to even), two in each lane from
        /// the lower half on. Numbers that are not normal become zeros. Only in tiles whose features sum halves.
        "pack_bf16" = PackBf16 { x: F32, y: F32 } -> I32;
        /// Combines all lanes of `x` with an operator that may ([`super::Law::Reduces`]), as a tree of halves; the
        /// result is in every lane.
        "reduce" = Reduce { op: Binary, x: Same } -> Same;
        /// Lane `i` is lane `lanes[i]` of `x` followed by `y`.
        "permute" = Permute { x: Same, y: Same, lanes: Picks } -> Same;
    }
    effects {
        /// Makes the matrix registers ready for use on this thread, all zeros.
        "mat_configure" = MatConfigure {};
        /// The matrix registers are no longer used on this thread.
        "mat_release" = MatRelease {};
        /// All zeros.
        "mat_zero" = MatZero { mat: NewMat };
        /// Reads rows `stride` bytes apart from `ptr + disp` on.
        "mat_load" = MatLoad { mat: NewMat, ptr: Ptr, disp: Disp, "stride" stride: Disp };
        /// Writes rows `stride` bytes apart from `ptr + disp` on.
        "mat_store" = MatStore { ptr: Ptr, disp: Disp, "stride" stride: Disp, src: Mat };
        /// Adds the matrix product of `x` and `y`, whose elements are groups of 32 bits that are multiplied and added,
        /// to `sum`.
        "mat_dot" = MatDot { sum: Mat, of: TileProduct, x: Mat, y: Mat };
        /// Reads elements at `ptr + disp`.
        "load" = Load { mem: MemType, ptr: Ptr, disp: Disp, load: Load } -> Same;
        /// Writes lanes `0..n` to elements `stride` bytes apart from `ptr + disp` on.
        "store" = Store { mem: MemType, ptr: Ptr, disp: Disp, "n" n: LaneCount, "stride" stride: Disp, src: Same };
        /// Brings the cache line at `ptr + disp` near, into L2, for loads to come; any address will do.
        "prefetch" = Prefetch { ptr: Ptr, disp: Disp };
        /// `dst = ptr + disp`.
        "offset" = Offset { ptr: Ptr, disp: Disp } -> Ptr;
        /// Reads an `i32` offset at `table + disp`: `dst = base + offset`, or `other`, if there is one, when the offset
        /// is negative.
        "load_ptr" = LoadPtr { table: Ptr, disp: Disp, base: Ptr, other: OtherPtr } -> Ptr;
    }
}

pub(crate) use computes;
pub(super) use lane_wise;

impl Inst {
    /// The vector register that it defines; a loop defines those that it carries.
    pub fn defines(&self) -> Option<Reg> {
        match self.result() {
            Some(InstPart::Reg(reg, _)) => Some(reg),
            _ => None,
        }
    }

    /// The pointer that it defines; a loop defines those that it advances.
    pub fn defines_ptr(&self) -> Option<Ptr> {
        match self.result() {
            Some(InstPart::Ptr(ptr)) => Some(ptr),
            _ => None,
        }
    }

    /// The vector registers that it uses, in the order of its text; a loop uses what it carries and what is in it.
    pub fn uses(&self) -> SmallVec<[Reg; 4]> {
        let mut uses = SmallVec::new();
        self.each_part(|part| {
            if let InstPart::Reg(reg, _) = part {
                uses.push(reg);
            }
        });
        uses
    }

    /// The pointers that it uses, in the order of its text; a loop uses what it advances and what is in it.
    pub fn uses_ptrs(&self) -> SmallVec<[Ptr; 4]> {
        let mut uses = SmallVec::new();
        self.each_part(|part| {
            if let InstPart::Ptr(ptr) = part {
                uses.push(ptr);
            }
        });
        uses
    }

    /// What the vector register that it defines holds, when those that it uses hold `elem`.
    pub(super) fn gives(&self, elem: impl Fn(Reg) -> Elem) -> Option<Elem> {
        let Some(InstPart::Reg(_, holds)) = self.result() else { return None };
        let mut types = InstTypes::default();
        self.each_part(|part| {
            types.learn(&part);
            if let InstPart::Reg(reg, Holds::Same) = part {
                types.operands.get_or_insert(elem(reg));
            }
        });
        types.result(holds)
    }
}

/// What `Same` is in one instruction.
#[derive(Default)]
pub(super) struct InstTypes {
    /// What its operands hold, once that is known.
    pub operands: Option<Elem>,
    /// What its result holds, if that is something else.
    result: Option<Elem>,
}

impl InstTypes {
    /// Takes from an operator, or from the memory, what they demand.
    pub fn learn(&mut self, part: &InstPart<'_>) {
        match part {
            InstPart::Operator { takes, gives, .. } => (self.operands, self.result) = (*takes, *gives),
            InstPart::Mem(mem) => self.operands = Some(mem.elem()),
            _ => {}
        }
    }

    /// What a result holds.
    pub fn result(&self, holds: Holds) -> Option<Elem> {
        match holds {
            Holds::Elem(elem) => Some(elem),
            Holds::Same => self.result.or(self.operands),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tile::error::TileError;
    use crate::tile::{Binary, Cmp, Elem, Law, Reg, Shift, TileBuilder, Unary, parse_tile, verify};

    /// Each instruction once, but for what takes the operator's place in its text.
    const ALL: &str = "\
tile @all lanes 16 with avx512bf16 amx-tile amx-int8 amx-bf16 ptrs 2 counts 1 {
  v0 = const_f 0x3f800000
  v1 = const_i -7
  v2 = cmp lt v0 v0
  v3 = select v2 v0 v0
  v4 = fma v0 v3 v0
  v5 = dot2 v1 v1 v2
  v6 = dot4 v1 v5 v2
  v7 = dot_bf16 v1 v6 v0
  v8 = pack_bf16 v0 v7
  v9 = reduce max v8
  v10 = permute v9 v8 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 31
  mat_configure
  mat_zero m0
  mat_load m1 p0 0 stride 64
  mat_load m2 p0 -64 stride -64
  mat_dot m0 bytes m1 m2
  mat_store p1 8 stride 64 m0
  mat_release
  prefetch p0 4096
  p2 = offset p0 16
  p3 = load_ptr p2 4 p0
  p4 = load_ptr p2 4 p0 p1
  v11 = load i8 p4 0 n 3
  v12 = load bf16 p3 0 n 3 stride 6
  v13 = load i64 p3 0 all
  store u8 p1 5 n 2 stride 9 v13
  loop c0 p5 = p0 += 4 v14 = v12 <- v15 {
    v15 = add v14 v12
  }
}
";

    #[test]
    fn every_row_reads_back() {
        let tile = parse_tile(ALL).unwrap();
        assert_eq!(tile.to_string(), ALL);
        let insts = [&tile.body[0], &tile.body[7], &tile.body[20], &tile.body[25]];
        assert_eq!(insts.map(|inst| inst.defines().map(|reg| reg.0)), [Some(0), Some(7), None, None]);
        assert_eq!(insts.map(|inst| inst.uses().len()), [0, 3, 0, 1]);
        assert_eq!(insts.map(|inst| inst.uses_ptrs().len()), [0, 0, 2, 1]);
    }

    /// Applies an operator to a register of each type: it verifies where it should, and gives what it should.
    fn applied(takes: Option<Elem>, gives: Option<Elem>, apply: impl Fn(&mut TileBuilder, Reg) -> Reg) {
        for elem in [Elem::F32, Elem::I32] {
            let mut b = TileBuilder::new("one", 4);
            let x = if elem == Elem::F32 { b.f32(1.0) } else { b.i32(1) };
            let y = apply(&mut b, x);
            let fits = takes.is_none_or(|takes| takes == elem);
            assert!(!fits || b.elem(y) == gives.unwrap_or(elem));
            let tile = b.finish();
            assert_eq!(verify(&tile), if fits { Ok(()) } else { Err(TileError::Elem(0)) });
            assert!(!fits || parse_tile(&tile.to_string()) == Ok(tile));
        }
    }

    #[test]
    fn operators_have_the_types_of_their_rows() {
        Unary::ALL.iter().for_each(|op| applied(op.takes(), op.gives(), |b, x| b.unary(*op, x)));
        Binary::ALL.iter().for_each(|op| applied(op.takes(), op.gives(), |b, x| b.binary(*op, x, x)));
        Cmp::ALL.iter().for_each(|op| applied(op.takes(), op.gives(), |b, x| b.cmp(*op, x, x)));
        Shift::ALL.iter().for_each(|op| applied(op.takes(), op.gives(), |b, x| b.shift(*op, x, 31)));
        let reduces = Binary::ALL.iter().filter(|op| op.has(Law::Reduces));
        reduces.for_each(|op| applied(op.takes(), op.gives(), |b, x| b.reduce(*op, x)));
    }

    #[test]
    fn operands_of_one_type_do_not_mix() {
        let text = "tile @mixed lanes 4 ptrs 0 counts 0 {\n  v0 = const_i 1\n  v1 = const_f 0x0\n  v2 = add v0 v1\n}\n";
        assert_eq!(parse_tile(text), Err(TileError::Elem(1)));
    }
}
