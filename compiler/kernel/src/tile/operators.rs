//! The operators of tile instructions: one row each, and after the rows what they compute.
//!
//! A row `"word" = Name(takes) -> gives;` names the operator in the text and in Rust, and says which registers it takes
//! and what it gives: `F32`, `I32`, or `Same` for the type that its operands share. The [`Law`]s that hold for it are
//! in brackets. The enums, their words and their types are made from the rows; whoever handles an operator matches on
//! its enum, so that a new one does not compile until all know it.

use super::Elem;

/// What holds for an operator on all operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// `x op y` is `y op x`, but for which NaN it may be.
    Commutes,
    /// [`super::Inst::Reduce`] may combine lanes with it.
    Reduces,
}

/// An element type in a row; `Same` is not a fixed one.
macro_rules! fixed {
    (Same) => {
        None
    };
    ($elem:ident) => {
        Some(Elem::$elem)
    };
}

/// Makes the enums of operators from their rows.
macro_rules! operators {
    ($($(#[$doc:meta])* $Operators:ident {
        $($(#[$about:meta])* $word:literal = $Name:ident($takes:ident) -> $gives:ident $([$($law:ident),*])?;)*
    })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $Operators { $($(#[$about])* $Name,)* }

        impl $Operators {
            /// All of them, in the order of their rows.
            pub const ALL: &[$Operators] = &[$($Operators::$Name),*];

            /// The word for it in the text form.
            pub fn word(self) -> &'static str {
                match self { $($Operators::$Name => $word),* }
            }

            /// What the word stands for.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some($Operators::$Name),)* _ => None }
            }

            /// The element type of its operands, if it takes only one.
            pub fn takes(self) -> Option<Elem> {
                match self { $($Operators::$Name => fixed!($takes)),* }
            }

            /// The element type of its result, if it is not that of the operands.
            pub fn gives(self) -> Option<Elem> {
                match self { $($Operators::$Name => fixed!($gives)),* }
            }

            /// Whether a law holds for it.
            pub fn has(self, law: Law) -> bool {
                match self { $($Operators::$Name => [$($(Law::$law),*)?].contains(&law)),* }
            }
        }
    )*};
}

operators! {
    /// Operations on one register, lane by lane.
    Unary {
        /// `-x`.
        "neg" = Neg(Same) -> Same;
        /// `|x|`.
        "abs" = Abs(Same) -> Same;
        /// Square root.
        "sqrt" = Sqrt(F32) -> F32;
        /// Rounds towards minus infinity.
        "floor" = Floor(F32) -> F32;
        /// Rounds towards plus infinity.
        "ceil" = Ceil(F32) -> F32;
        /// Rounds towards zero.
        "trunc" = Trunc(F32) -> F32;
        /// Rounds to the nearest integer, ties to even.
        "nearest" = Nearest(F32) -> F32;
        /// All bits inverted.
        "not" = Not(I32) -> I32;
        /// `f32` to `i32`, towards zero, saturating, NaN becomes 0.
        "to_int" = ToInt(F32) -> I32;
        /// `i32` to `f32`, to nearest even.
        "to_float" = ToFloat(I32) -> F32;
        /// The bits of an `f32` as `i32`.
        "as_int" = AsInt(F32) -> I32;
        /// The bits of an `i32` as `f32`.
        "as_float" = AsFloat(I32) -> F32;
    }

    /// Operations on two registers of the same element type, lane by lane.
    Binary {
        /// `x + y`, wrapping for integers.
        "add" = Add(Same) -> Same [Commutes, Reduces];
        /// `x - y`, wrapping for integers.
        "sub" = Sub(Same) -> Same;
        /// `x * y`, wrapping for integers.
        "mul" = Mul(Same) -> Same [Commutes, Reduces];
        /// `x / y`.
        "div" = Div(F32) -> F32;
        /// `x < y ? x : y`: gives `y` when either is NaN.
        "min" = Min(Same) -> Same [Reduces];
        /// `x > y ? x : y`: gives `y` when either is NaN.
        "max" = Max(Same) -> Same [Reduces];
        /// Bits and.
        "and" = And(I32) -> I32 [Commutes];
        /// Bits or.
        "or" = Or(I32) -> I32 [Commutes];
        /// Bits exclusive or.
        "xor" = Xor(I32) -> I32 [Commutes];
        /// `x - y` of each half of a lane, wrapping at 16 bits.
        "sub_pairs" = SubPairs(I32) -> I32;
    }

    /// Comparisons; on `f32` all are false with a NaN but `Ne`. The result is all ones or all zeros.
    Cmp {
        /// `x == y`.
        "eq" = Eq(Same) -> I32;
        /// `x != y`.
        "ne" = Ne(Same) -> I32;
        /// `x < y`.
        "lt" = Lt(Same) -> I32;
        /// `x <= y`.
        "le" = Le(Same) -> I32;
        /// `x > y`.
        "gt" = Gt(Same) -> I32;
        /// `x >= y`.
        "ge" = Ge(Same) -> I32;
    }

    /// Shifts by a constant.
    Shift {
        /// To the left.
        "shl" = Left(I32) -> I32;
        /// To the right, filling with zeros.
        "shr" = Logical(I32) -> I32;
        /// To the right, filling with the sign.
        "sar" = Arithmetic(I32) -> I32;
    }
}

impl Unary {
    /// The bits of `op x` for the bits of a lane.
    pub(super) fn of_lane(self, elem: Elem, x: u32) -> u32 {
        let f = f32::from_bits(x);
        match (self, elem) {
            (Unary::Neg, Elem::F32) => x ^ (1 << 31),
            (Unary::Neg, Elem::I32) => x.wrapping_neg(),
            (Unary::Abs, Elem::F32) => x & !(1 << 31),
            (Unary::Abs, Elem::I32) => (x as i32).wrapping_abs() as u32,
            (Unary::Sqrt, _) => f.sqrt().to_bits(),
            (Unary::Floor, _) => f.floor().to_bits(),
            (Unary::Ceil, _) => f.ceil().to_bits(),
            (Unary::Trunc, _) => f.trunc().to_bits(),
            (Unary::Nearest, _) => f.round_ties_even().to_bits(),
            (Unary::Not, _) => !x,
            (Unary::ToInt, _) => f as i32 as u32,
            (Unary::ToFloat, _) => (x as i32 as f32).to_bits(),
            (Unary::AsInt | Unary::AsFloat, _) => x,
        }
    }
}

impl Binary {
    /// The bits of `x op y` for the bits of two lanes.
    pub(super) fn of_lanes(self, elem: Elem, x: u32, y: u32) -> u32 {
        let (f, g) = (f32::from_bits(x), f32::from_bits(y));
        match (self, elem) {
            (Binary::Add, Elem::F32) => (f + g).to_bits(),
            (Binary::Add, Elem::I32) => x.wrapping_add(y),
            (Binary::Sub, Elem::F32) => (f - g).to_bits(),
            (Binary::Sub, Elem::I32) => x.wrapping_sub(y),
            (Binary::Mul, Elem::F32) => (f * g).to_bits(),
            (Binary::Mul, Elem::I32) => x.wrapping_mul(y),
            (Binary::Div, _) => (f / g).to_bits(),
            (Binary::Min, _) => pick(Cmp::Lt.holds(elem, x, y), x, y),
            (Binary::Max, _) => pick(Cmp::Gt.holds(elem, x, y), x, y),
            (Binary::And, _) => x & y,
            (Binary::Or, _) => x | y,
            (Binary::Xor, _) => x ^ y,
            (Binary::SubPairs, _) => {
                let low = (x as u16).wrapping_sub(y as u16) as u32;
                low | (((x >> 16) as u16).wrapping_sub((y >> 16) as u16) as u32) << 16
            }
        }
    }
}

fn pick(first: bool, x: u32, y: u32) -> u32 {
    if first { x } else { y }
}

impl Cmp {
    /// Whether it holds for the bits of two lanes.
    pub(super) fn holds(self, elem: Elem, x: u32, y: u32) -> bool {
        use std::cmp::Ordering::{Equal, Greater, Less};
        let order = match elem {
            Elem::F32 => f32::from_bits(x).partial_cmp(&f32::from_bits(y)),
            Elem::I32 => Some((x as i32).cmp(&(y as i32))),
        };
        match self {
            Cmp::Eq => order == Some(Equal),
            Cmp::Ne => order != Some(Equal),
            Cmp::Lt => order == Some(Less),
            Cmp::Le => matches!(order, Some(Less | Equal)),
            Cmp::Gt => order == Some(Greater),
            Cmp::Ge => matches!(order, Some(Greater | Equal)),
        }
    }
}

impl Shift {
    /// The bits of a lane after the shift.
    pub(super) fn of_lane(self, x: u32, by: u8) -> u32 {
        match self {
            Shift::Left => x << by,
            Shift::Logical => x >> by,
            Shift::Arithmetic => ((x as i32) >> by) as u32,
        }
    }
}
