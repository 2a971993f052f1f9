//! The text form of tiles: one instruction a line, registers `v0`, pointers `p0`, constants as bits.

use super::{Count, Elem, Inst, Load, MemType, Tile};
use std::fmt::{self, Display, Formatter};

/// Spells the variants of an enum as words, both ways.
macro_rules! words {
    ($($ty:ident { $($variant:ident = $word:literal),* $(,)? })*) => {$(
        impl super::$ty {
            /// The word for it in the text form.
            pub fn word(self) -> &'static str {
                match self { $(super::$ty::$variant => $word),* }
            }

            /// What the word stands for.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(super::$ty::$variant),)* _ => None }
            }
        }
    )*};
}

words! {
    MemType { F32 = "f32", Bf16 = "bf16", I32 = "i32", I64 = "i64", U8 = "u8", I8 = "i8", U8Pair = "u8_pair", I8Pair = "i8_pair" }
    Unary {
        Neg = "neg", Abs = "abs", Sqrt = "sqrt", Floor = "floor", Ceil = "ceil", Trunc = "trunc",
        Nearest = "nearest", Not = "not", ToInt = "to_int", ToFloat = "to_float", AsInt = "as_int",
        AsFloat = "as_float",
    }
    Binary {
        Add = "add", Sub = "sub", Mul = "mul", Div = "div", Min = "min", Max = "max", And = "and", Or = "or",
        Xor = "xor", SubPairs = "sub_pairs",
    }
    Cmp { Eq = "eq", Ne = "ne", Lt = "lt", Le = "le", Gt = "gt", Ge = "ge" }
    TileProduct { Bytes = "bytes", Bf16 = "bf16" }
    Shift { Left = "shl", Logical = "shr", Arithmetic = "sar" }
}

impl MemType {
    /// The memory type that holds a register of this element type as it is.
    pub fn of(elem: Elem) -> MemType {
        match elem {
            Elem::F32 => MemType::F32,
            Elem::I32 => MemType::I32,
        }
    }
}

impl Display for Tile {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "tile @{} lanes {}", self.name, self.lanes)?;
        if !self.features.is_empty() {
            write!(f, " with {}", self.features)?;
        }
        writeln!(f, " ptrs {} counts {} {{", self.ptrs, self.counts)?;
        body(f, &self.body, 1)?;
        writeln!(f, "}}")
    }
}

fn body(f: &mut Formatter<'_>, insts: &[Inst], depth: usize) -> fmt::Result {
    for inst in insts {
        write!(f, "{:1$}", "", 2 * depth)?;
        match inst {
            Inst::ConstF(d, bits) => writeln!(f, "v{} = const_f {:#010x}", d.0, bits)?,
            Inst::ConstI(d, value) => writeln!(f, "v{} = const_i {}", d.0, value)?,
            Inst::Unary(d, op, x) => writeln!(f, "v{} = {} v{}", d.0, op.word(), x.0)?,
            Inst::Binary(d, op, x, y) => writeln!(f, "v{} = {} v{} v{}", d.0, op.word(), x.0, y.0)?,
            Inst::Fma(d, x, y, z) => writeln!(f, "v{} = fma v{} v{} v{}", d.0, x.0, y.0, z.0)?,
            Inst::Dot2(d, x, y, z) => writeln!(f, "v{} = dot2 v{} v{} v{}", d.0, x.0, y.0, z.0)?,
            Inst::Dot4(d, x, y, z) => writeln!(f, "v{} = dot4 v{} v{} v{}", d.0, x.0, y.0, z.0)?,
            Inst::DotBf16(d, x, y, z) => writeln!(f, "v{} = dot_bf16 v{} v{} v{}", d.0, x.0, y.0, z.0)?,
            Inst::PackBf16(d, x, y) => writeln!(f, "v{} = pack_bf16 v{} v{}", d.0, x.0, y.0)?,
            Inst::Cmp(d, op, x, y) => writeln!(f, "v{} = cmp {} v{} v{}", d.0, op.word(), x.0, y.0)?,
            Inst::Select(d, m, x, y) => writeln!(f, "v{} = select v{} v{} v{}", d.0, m.0, x.0, y.0)?,
            Inst::Shift(d, op, x, by) => writeln!(f, "v{} = {} v{} {}", d.0, op.word(), x.0, by)?,
            Inst::Reduce(d, op, x) => writeln!(f, "v{} = reduce {} v{}", d.0, op.word(), x.0)?,
            Inst::Permute { dst, x, y, lanes } => {
                write!(f, "v{} = permute v{} v{}", dst.0, x.0, y.0)?;
                lanes.iter().try_for_each(|l| write!(f, " {l}"))?;
                writeln!(f)?;
            }
            Inst::MatConfigure => writeln!(f, "mat_configure")?,
            Inst::MatRelease => writeln!(f, "mat_release")?,
            Inst::MatZero(m) => writeln!(f, "mat_zero m{}", m.0)?,
            Inst::MatLoad { dst, ptr, disp, stride } => {
                writeln!(f, "mat_load m{} p{} {} stride {}", dst.0, ptr.0, disp, stride)?
            }
            Inst::MatStore { ptr, disp, stride, src } => {
                writeln!(f, "mat_store p{} {} stride {} m{}", ptr.0, disp, stride, src.0)?
            }
            Inst::MatDot(m, of, x, y) => writeln!(f, "mat_dot m{} {} m{} m{}", m.0, of.word(), x.0, y.0)?,
            Inst::Load { dst, mem, ptr, disp, load } => {
                write!(f, "v{} = load {} p{} {}", dst.0, mem.word(), ptr.0, disp)?;
                match load {
                    Load::Contiguous(n) => writeln!(f, " n {n}")?,
                    Load::Strided(n, stride) => writeln!(f, " n {n} stride {stride}")?,
                    Load::Broadcast => writeln!(f, " all")?,
                }
            }
            Inst::Store { mem, ptr, disp, n, stride, src } => {
                writeln!(f, "store {} p{} {} n {} stride {} v{}", mem.word(), ptr.0, disp, n, stride, src.0)?
            }
            Inst::Prefetch { ptr, disp } => writeln!(f, "prefetch p{} {}", ptr.0, disp)?,
            Inst::Offset { dst, ptr, disp } => writeln!(f, "p{} = offset p{} {}", dst.0, ptr.0, disp)?,
            Inst::LoadPtr { dst, table, disp, base, other } => {
                write!(f, "p{} = load_ptr p{} {} p{}", dst.0, table.0, disp, base.0)?;
                match other {
                    Some(other) => writeln!(f, " p{}", other.0)?,
                    None => writeln!(f)?,
                }
            }
            Inst::Loop(l) => {
                match l.count {
                    Count::Static(n) => write!(f, "loop {n}")?,
                    Count::Param(c) => write!(f, "loop c{c}")?,
                }
                for i in &l.inducts {
                    write!(f, " p{} = p{} += {}", i.ptr.0, i.init.0, i.step)?;
                }
                for c in &l.carries {
                    write!(f, " v{} = v{} <- v{}", c.phi.0, c.init.0, c.next.0)?;
                }
                writeln!(f, " {{")?;
                body(f, &l.body, depth + 1)?;
                writeln!(f, "{:1$}}}", "", 2 * depth)?;
            }
        }
    }
    Ok(())
}
