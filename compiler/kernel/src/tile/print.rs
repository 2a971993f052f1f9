//! The text form of tiles: one instruction a line, registers `v0`, pointers `p0`, constants as bits.

use super::field::InstPart;
use super::{Count, Elem, Inst, Load, MemType, Tile, TileLoop};
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
    MemType {
        F32 = "f32", Bf16 = "bf16", F16 = "f16", I32 = "i32", I64 = "i64", U16 = "u16", I16 = "i16", U8 = "u8",
        I8 = "i8", U8Pair = "u8_pair", I8Pair = "i8_pair",
    }
    TileProduct { Bytes = "bytes", Bf16 = "bf16" }
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
            Inst::Loop(l) => turns(f, l, depth)?,
            other => line(f, other)?,
        }
    }
    Ok(())
}

/// An instruction that is a line: what it defines, then its parts.
fn line(f: &mut Formatter<'_>, inst: &Inst) -> fmt::Result {
    let mut before = "";
    if let Some(dst) = inst.result() {
        part(f, &dst)?;
        before = " = ";
    }
    for next in inst.parts() {
        f.write_str(before)?;
        part(f, &next)?;
        before = " ";
    }
    writeln!(f)
}

fn part(f: &mut Formatter<'_>, part: &InstPart<'_>) -> fmt::Result {
    match part {
        InstPart::Reg(reg, _) => write!(f, "v{}", reg.0),
        InstPart::Ptr(ptr) => write!(f, "p{}", ptr.0),
        InstPart::Mat(mat) | InstPart::NewMat(mat) => write!(f, "m{}", mat.0),
        InstPart::Word(word) | InstPart::Operator { word, .. } => f.write_str(word),
        InstPart::Mem(mem) => f.write_str(mem.word()),
        InstPart::Load(Load::Contiguous(n)) => write!(f, "n {n}"),
        InstPart::Load(Load::Strided(n, stride)) => write!(f, "n {n} stride {stride}"),
        InstPart::Load(Load::Broadcast) => f.write_str("all"),
        InstPart::Bits(bits) => write!(f, "{bits:#010x}"),
        InstPart::Number(number) => write!(f, "{number}"),
        InstPart::LaneCount(number) | InstPart::ShiftBy(number) => write!(f, "{number}"),
        InstPart::Picks(lanes) => {
            let lanes: Vec<_> = lanes.iter().map(u8::to_string).collect();
            f.write_str(&lanes.join(" "))
        }
    }
}

fn turns(f: &mut Formatter<'_>, l: &TileLoop, depth: usize) -> fmt::Result {
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
    writeln!(f, "{:1$}}}", "", 2 * depth)
}
