//! The kinds of fields that rows of instructions name: what each holds, how it is spelled, and what the others
//! (printer, verifier, register allocators) see of it.

use super::error::TileError;
use super::lane::TypedLane;
use super::words::Words;
use super::{Binary, Cmp, Elem, Load, Mat, MemType, Ptr, Reg, Shift, TileProduct, Unary};
use smallvec::SmallVec;

/// A part of an instruction's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InstPart<'a> {
    /// A vector register, and what it must hold.
    Reg(Reg, Holds),
    /// A pointer.
    Ptr(Ptr),
    /// A matrix that holds something.
    Mat(Mat),
    /// A matrix that is written.
    NewMat(Mat),
    /// An operator, with the types that it fixes.
    Operator { word: &'static str, takes: Option<Elem>, gives: Option<Elem> },
    /// What an element in memory is.
    Mem(MemType),
    /// Which elements are loaded.
    Load(Load),
    /// A word that means nothing more here.
    Word(&'static str),
    /// The bits of an `f32`.
    Bits(u32),
    /// A number, of any size.
    Number(i64),
    /// How many lanes.
    LaneCount(u8),
    /// By how much a lane is shifted.
    ShiftBy(u8),
    /// Lanes of two registers.
    Picks(&'a [u8]),
}

/// The parts of an instruction.
pub(super) type InstParts<'a> = SmallVec<[InstPart<'a>; 10]>;

/// What a register must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// This type.
    Elem(Elem),
    /// The type that an instruction's registers share.
    Same,
}

/// A kind of field.
pub(super) trait FieldKind {
    /// What the field holds.
    type Held;

    /// What others see of it; `None` where nothing is written.
    fn part(held: &Self::Held) -> Option<InstPart<'_>>;

    /// Reads it.
    fn parse(w: &mut Words<'_>) -> Result<Self::Held, TileError>;

    /// What the field holds, as it is: names the kind of a result that was read before.
    fn same(held: Self::Held) -> Self::Held {
        held
    }
}

/// A kind of field of lane-wise instructions.
pub(super) trait LaneKind: FieldKind {
    /// What one lane sees of it.
    type Lane;

    /// The field for one lane; of a register it is the next of `uses`.
    fn lane(held: &Self::Held, uses: &mut dyn Iterator<Item = TypedLane>) -> Self::Lane;
}

/// What a kind of field holds, as a type.
macro_rules! held {
    (F32) => { Reg };
    (I32) => { Reg };
    (Same) => { Reg };
    (NewMat) => { Mat };
    (OtherPtr) => { Option<Ptr> };
    (Bits) => { u32 };
    (Int) => { i32 };
    (Disp) => { i64 };
    (LaneCount) => { u8 };
    (ShiftBy) => { u8 };
    (Picks) => { Vec<u8> };
    ($own:ident) => { $own };
}
pub(super) use held;

/// A register that holds `f32`.
pub(super) enum F32 {}
/// A register that holds `i32`.
pub(super) enum I32 {}
/// A register that holds what the others of its kind do.
pub(super) enum Same {}
/// A matrix that is written.
pub(super) enum NewMat {}
/// A pointer that may be left out.
pub(super) enum OtherPtr {}
/// The bits of an `f32`.
pub(super) enum Bits {}
/// An integer.
pub(super) enum Int {}
/// A displacement in bytes.
pub(super) enum Disp {}
/// How many lanes, at least one.
pub(super) enum LaneCount {}
/// By how much a lane is shifted, below 32.
pub(super) enum ShiftBy {}
/// A lane of two registers for each lane; the last on its line.
pub(super) enum Picks {}

/// Says for each kind what others see of a field, and how one is read.
macro_rules! kinds {
    ($($Kind:ident: |$held:ident| $part:expr, |$w:ident| $read:expr;)*) => {$(
        impl FieldKind for $Kind {
            type Held = held!($Kind);

            #[inline(always)]
            fn part($held: &Self::Held) -> Option<InstPart<'_>> {
                $part
            }

            fn parse($w: &mut Words<'_>) -> Result<Self::Held, TileError> {
                $read
            }
        }
    )*};
}

kinds! {
    F32: |reg| Some(InstPart::Reg(*reg, Holds::Elem(Elem::F32))), |w| w.reg();
    I32: |reg| Some(InstPart::Reg(*reg, Holds::Elem(Elem::I32))), |w| w.reg();
    Same: |reg| Some(InstPart::Reg(*reg, Holds::Same)), |w| w.reg();
    Ptr: |ptr| Some(InstPart::Ptr(*ptr)), |w| w.ptr();
    OtherPtr: |ptr| ptr.map(InstPart::Ptr), |w| if w.peek().is_empty() { Ok(None) } else { w.ptr().map(Some) };
    Mat: |mat| Some(InstPart::Mat(*mat)), |w| w.mat();
    NewMat: |mat| Some(InstPart::NewMat(*mat)), |w| w.mat();
    MemType: |mem| Some(InstPart::Mem(*mem)), |w| w.named(MemType::from_word, "a memory type");
    Load: |load| Some(InstPart::Load(*load)), |w| w.load();
    TileProduct: |of| Some(InstPart::Word(of.word())), |w| w.named(TileProduct::from_word, "what is multiplied");
    Bits: |bits| Some(InstPart::Bits(*bits)), |w| w.bits();
    Int: |value| Some(InstPart::Number(i64::from(*value))), |w| w.number();
    Disp: |bytes| Some(InstPart::Number(*bytes)), |w| w.number();
    LaneCount: |n| Some(InstPart::LaneCount(*n)), |w| w.number();
    ShiftBy: |by| Some(InstPart::ShiftBy(*by)), |w| w.number();
    Picks: |lanes| Some(InstPart::Picks(lanes)), |w| w.rest();
}

/// Operators: they fix types.
macro_rules! operator_kinds {
    ($($Operator:ident: $expected:literal;)*) => {kinds! {$(
        $Operator: |op| Some(InstPart::Operator { word: op.word(), takes: op.takes(), gives: op.gives() }),
            |w| w.named($Operator::from_word, $expected);
    )*}};
}

operator_kinds! {
    Unary: "an operator on one register";
    Binary: "an operator on two registers";
    Cmp: "a comparison";
    Shift: "a shift";
}

/// A register is one of its lanes.
macro_rules! register_lanes {
    ($($Kind:ident: $Lane:ty = |$lane:ident| $as:expr;)*) => {$(
        impl LaneKind for $Kind {
            type Lane = $Lane;

            fn lane(_: &Reg, uses: &mut dyn Iterator<Item = TypedLane>) -> $Lane {
                let $lane = uses.next().expect("there is a lane of each register that is used");
                $as
            }
        }
    )*};
}

register_lanes! {
    F32: f32 = |lane| f32::from_bits(lane.bits);
    I32: u32 = |lane| lane.bits;
    Same: TypedLane = |lane| lane;
}

/// All else is the same for each lane.
macro_rules! constant_lanes {
    ($($Kind:ident)*) => {$(
        impl LaneKind for $Kind {
            type Lane = held!($Kind);

            fn lane(held: &Self::Held, _: &mut dyn Iterator<Item = TypedLane>) -> Self::Lane {
                *held
            }
        }
    )*};
}

constant_lanes! { Unary Binary Cmp Shift ShiftBy Bits Int }
