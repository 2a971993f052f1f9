//! The text form of kernels.

use super::{Access, Addr, Base, IndexMem, Ix, Kernel, Rel, Stmt};
use std::fmt::{self, Display, Formatter};

impl Display for Kernel {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "kernel @{} tasks {} scratch {} vars {} {{", self.name, self.tasks, self.scratch_bytes, self.vars)?;
        for buf in &self.bufs {
            let access = match buf.access {
                Access::Read => "read",
                Access::Write => "write",
                Access::ReadWrite => "read_write",
            };
            writeln!(f, "  buf {} {} {}", buf.name, buf.bytes, access)?;
        }
        body(f, &self.body, 1)?;
        writeln!(f, "}}")?;
        self.tiles.iter().try_for_each(|tile| write!(f, "{tile}"))
    }
}

impl Display for Ix {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Ix::Const(c) => write!(f, "{c}"),
            Ix::Var(var) => write!(f, "i{}", var.0),
            Ix::Add(a, b) => write!(f, "({a} + {b})"),
            Ix::Sub(a, b) => write!(f, "({a} - {b})"),
            Ix::Mul(a, c) => write!(f, "({a} * {c})"),
            Ix::Div(a, c) => write!(f, "({a} / {c})"),
            Ix::Rem(a, c) => write!(f, "({a} % {c})"),
            Ix::Min(a, b) => write!(f, "min({a}, {b})"),
            Ix::Max(a, b) => write!(f, "max({a}, {b})"),
        }
    }
}

impl Display for Addr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.base {
            Base::Buf(b) => write!(f, "b{b}[{}]", self.offset),
            Base::Scratch => write!(f, "scratch[{}]", self.offset),
        }
    }
}

fn body(f: &mut Formatter<'_>, stmts: &[Stmt], depth: usize) -> fmt::Result {
    for stmt in stmts {
        let pad = 2 * depth;
        write!(f, "{:pad$}", "")?;
        match stmt {
            Stmt::For { var, start, end, step, body: inner } => {
                writeln!(f, "for i{} in {start} .. {end} step {step} {{", var.0)?;
                body(f, inner, depth + 1)?;
                writeln!(f, "{:pad$}}}", "")?;
            }
            Stmt::If { a, rel, b, then, otherwise } => {
                let rel = match rel {
                    Rel::Eq => "==",
                    Rel::Lt => "<",
                    Rel::Ge => ">=",
                };
                writeln!(f, "if {a} {rel} {b} {{")?;
                body(f, then, depth + 1)?;
                if !otherwise.is_empty() {
                    writeln!(f, "{:pad$}}} else {{", "")?;
                    body(f, otherwise, depth + 1)?;
                }
                writeln!(f, "{:pad$}}}", "")?;
            }
            Stmt::Let { var, value } => writeln!(f, "let i{} = {value}", var.0)?,
            Stmt::LoadIndex { var, mem, at } => {
                let mem = if *mem == IndexMem::I32 { "i32" } else { "i64" };
                writeln!(f, "let i{} = load {mem} {at}", var.0)?;
            }
            Stmt::Call { tile, ptrs, counts } => {
                write!(f, "call {tile}")?;
                ptrs.iter().try_for_each(|addr| write!(f, " {addr}"))?;
                counts.iter().try_for_each(|count| write!(f, " count {count}"))?;
                writeln!(f)?;
            }
        }
    }
    Ok(())
}
