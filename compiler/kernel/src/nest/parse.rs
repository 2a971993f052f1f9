//! Reads the text form of kernels back.

use super::{Access, Addr, Base, Buf, IndexMem, Ix, Kernel, NestError, Rel, Stmt, Var};
use crate::tile::parse_tile;

/// How deeply statements and expressions may nest in text.
const MAX_DEPTH: usize = 64;

/// Parses a kernel with its tiles and verifies it.
///
/// # Errors
///
/// What was expected and before which text, or the invariant that the kernel breaks.
pub fn parse_kernel(text: &str) -> Result<Kernel, NestError> {
    let end = text.find("\ntile ").map_or(text.len(), |at| at + 1);
    let (nest, mut tiles) = text.split_at(end);
    let mut p = Parser { rest: nest };
    let mut kernel = header(&mut p)?;
    kernel.body = body(&mut p, 0)?;
    if !p.rest.trim().is_empty() {
        return p.error("the end of the kernel");
    }
    while !tiles.is_empty() {
        let end = tiles[1..].find("\ntile ").map_or(tiles.len(), |at| at + 2);
        let (tile, rest) = tiles.split_at(end);
        kernel.tiles.push(parse_tile(tile).map_err(|e| NestError::Tile(tile.chars().take(40).collect(), e))?);
        tiles = rest;
    }
    kernel.verify()?;
    Ok(kernel)
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn error<T>(&self, expected: &'static str) -> Result<T, NestError> {
        Err(NestError::Syntax { expected, before: self.rest.trim_start().chars().take(24).collect() })
    }

    /// Takes `token` if it comes next.
    fn eat(&mut self, token: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, token: &'static str) -> Result<(), NestError> {
        if self.eat(token) { Ok(()) } else { self.error(token) }
    }

    /// A run of characters that are not blanks.
    fn word(&mut self) -> &'a str {
        let text = self.rest.trim_start();
        let (word, rest) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
        self.rest = rest;
        word
    }

    fn number<T: std::str::FromStr>(&mut self) -> Result<T, NestError> {
        let text = self.rest.trim_start();
        let is_part = |(i, c): (usize, char)| c.is_ascii_digit() || (i == 0 && c == '-');
        let end = text.char_indices().find(|&c| !is_part(c)).map_or(text.len(), |(i, _)| i);
        match text[..end].parse() {
            Ok(number) => {
                self.rest = &text[end..];
                Ok(number)
            }
            Err(_) => self.error("a number"),
        }
    }

    fn var(&mut self) -> Result<Var, NestError> {
        self.expect("i")?;
        self.number().map(Var)
    }

    fn ix(&mut self, depth: usize) -> Result<Ix, NestError> {
        if depth > MAX_DEPTH {
            return self.error("a shallower expression");
        }
        if self.eat("(") {
            let a = Box::new(self.ix(depth + 1)?);
            let ix = if self.eat("+") {
                Ix::Add(a, Box::new(self.ix(depth + 1)?))
            } else if self.eat("-") {
                Ix::Sub(a, Box::new(self.ix(depth + 1)?))
            } else if self.eat("*") {
                Ix::Mul(a, self.number()?)
            } else if self.eat("/") {
                Ix::Div(a, self.number()?)
            } else if self.eat("%") {
                Ix::Rem(a, self.number()?)
            } else {
                return self.error("an operator");
            };
            self.expect(")")?;
            return Ok(ix);
        }
        for (name, make) in [("min(", Ix::Min as fn(_, _) -> _), ("max(", Ix::Max)] {
            if self.eat(name) {
                let a = self.ix(depth + 1)?;
                self.expect(",")?;
                let b = self.ix(depth + 1)?;
                self.expect(")")?;
                return Ok(make(Box::new(a), Box::new(b)));
            }
        }
        if self.rest.trim_start().starts_with('i') { self.var().map(Ix::Var) } else { self.number().map(Ix::Const) }
    }

    fn addr(&mut self) -> Result<Addr, NestError> {
        let base = if self.eat("scratch") {
            Base::Scratch
        } else {
            self.expect("b")?;
            Base::Buf(self.number()?)
        };
        self.expect("[")?;
        let offset = self.ix(0)?;
        self.expect("]")?;
        Ok(Addr { base, offset })
    }
}

fn header(p: &mut Parser<'_>) -> Result<Kernel, NestError> {
    p.expect("kernel")?;
    p.expect("@")?;
    let mut kernel = Kernel::new(p.word(), 0);
    p.expect("tasks")?;
    kernel.tasks = p.number()?;
    p.expect("scratch")?;
    kernel.scratch_bytes = p.number()?;
    p.expect("vars")?;
    kernel.vars = p.number()?;
    p.expect("{")?;
    while p.eat("buf ") {
        let (name, bytes) = (p.word().to_owned(), p.number()?);
        let access = match p.word() {
            "read" => Access::Read,
            "write" => Access::Write,
            "read_write" => Access::ReadWrite,
            _ => return p.error("`read`, `write` or `read_write` before this"),
        };
        kernel.bufs.push(Buf { name, bytes, access });
    }
    Ok(kernel)
}

/// Statements up to the closing brace.
fn body(p: &mut Parser<'_>, depth: usize) -> Result<Vec<Stmt>, NestError> {
    if depth > MAX_DEPTH {
        return p.error("shallower statements");
    }
    let mut stmts = Vec::new();
    while !p.eat("}") {
        stmts.push(stmt(p, depth)?);
    }
    Ok(stmts)
}

fn stmt(p: &mut Parser<'_>, depth: usize) -> Result<Stmt, NestError> {
    if p.eat("for ") {
        let var = p.var()?;
        p.expect("in")?;
        let start = p.ix(0)?;
        p.expect("..")?;
        let end = p.ix(0)?;
        p.expect("step")?;
        let step = p.number()?;
        p.expect("{")?;
        Ok(Stmt::For { var, start, end, step, body: body(p, depth + 1)? })
    } else if p.eat("if ") {
        let a = p.ix(0)?;
        let rel = match p.word() {
            "==" => Rel::Eq,
            "<" => Rel::Lt,
            ">=" => Rel::Ge,
            _ => return p.error("a comparison before this"),
        };
        let b = p.ix(0)?;
        p.expect("{")?;
        let then = body(p, depth + 1)?;
        let otherwise = if p.eat("else {") { body(p, depth + 1)? } else { Vec::new() };
        Ok(Stmt::If { a, rel, b, then, otherwise })
    } else if p.eat("let ") {
        let var = p.var()?;
        p.expect("=")?;
        if !p.eat("load ") {
            return Ok(Stmt::Let { var, value: p.ix(0)? });
        }
        let mem = if p.eat("i32 ") {
            IndexMem::I32
        } else {
            p.expect("i64 ")?;
            IndexMem::I64
        };
        Ok(Stmt::LoadIndex { var, mem, at: p.addr()? })
    } else {
        p.expect("call ")?;
        let tile = p.number()?;
        let (mut ptrs, mut counts) = (Vec::new(), Vec::new());
        while p.rest.trim_start_matches(' ').starts_with(['b', 's']) {
            ptrs.push(p.addr()?);
        }
        while p.eat("count ") {
            counts.push(p.ix(0)?);
        }
        Ok(Stmt::Call { tile, ptrs, counts })
    }
}
