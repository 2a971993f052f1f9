//! Reads the text form of tiles back.

use super::verify::{TileError, verify};
use super::{
    Binary, Carry, Cmp, Count, Induct, Inst, Load, Mat, MemType, Ptr, Reg, Shift, Tile, TileLoop, TileProduct, Unary,
};
use optc_types::{Feature, Features};

/// Parses one tile and verifies it.
///
/// # Errors
///
/// The line and what was expected there, or the invariant that the tile breaks.
pub fn parse_tile(text: &str) -> Result<Tile, TileError> {
    let mut lines = Lines { lines: text.lines().enumerate() };
    let tile = tile(&mut lines)?;
    verify(&tile)?;
    Ok(tile)
}

struct Lines<'a> {
    lines: std::iter::Enumerate<std::str::Lines<'a>>,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<Words<'a>> {
        let (line, text) = self.lines.find(|(_, text)| !text.trim().is_empty())?;
        Some(Words { line: line + 1, words: text.split_whitespace().collect(), at: 0 })
    }
}

struct Words<'a> {
    line: usize,
    words: Vec<&'a str>,
    at: usize,
}

impl<'a> Words<'a> {
    fn error<T>(&self, expected: &'static str) -> Result<T, TileError> {
        Err(TileError::Syntax { line: self.line, expected })
    }

    fn peek(&self) -> &'a str {
        self.words.get(self.at).copied().unwrap_or("")
    }

    fn word(&mut self) -> &'a str {
        self.at += 1;
        self.words.get(self.at - 1).copied().unwrap_or("")
    }

    fn expect(&mut self, word: &'static str) -> Result<(), TileError> {
        if self.word() == word { Ok(()) } else { self.error(word) }
    }

    fn number<T: std::str::FromStr>(&mut self) -> Result<T, TileError> {
        self.word().parse().or_else(|_| self.error("a number"))
    }

    fn reg(&mut self) -> Result<Reg, TileError> {
        let number = self.word().strip_prefix('v').and_then(|n| n.parse().ok());
        number.map(Reg).map_or_else(|| self.error("a register"), Ok)
    }

    fn ptr(&mut self) -> Result<Ptr, TileError> {
        let number = self.word().strip_prefix('p').and_then(|n| n.parse().ok());
        number.map(Ptr).map_or_else(|| self.error("a pointer"), Ok)
    }

    fn mat(&mut self) -> Result<Mat, TileError> {
        let number = self.word().strip_prefix('m').and_then(|n| n.parse().ok());
        number.map(Mat).map_or_else(|| self.error("a matrix"), Ok)
    }

    fn named<T>(&mut self, from: impl Fn(&str) -> Option<T>, expected: &'static str) -> Result<T, TileError> {
        from(self.word()).map_or_else(|| self.error(expected), Ok)
    }

    fn end(&self) -> Result<(), TileError> {
        if self.at == self.words.len() { Ok(()) } else { self.error("the end of the line") }
    }
}

fn tile(lines: &mut Lines<'_>) -> Result<Tile, TileError> {
    let Some(mut w) = lines.next() else { return Err(TileError::Syntax { line: 1, expected: "a tile" }) };
    w.expect("tile")?;
    let Some(name) = w.word().strip_prefix('@') else { return w.error("a name") };
    w.expect("lanes")?;
    let lanes = w.number()?;
    let mut features = Features::default();
    if w.peek() == "with" {
        w.at += 1;
        while w.peek() != "ptrs" {
            features = features.and(&[w.named(Feature::from_word, "a feature")?]);
        }
    }
    w.expect("ptrs")?;
    let ptrs = w.number()?;
    w.expect("counts")?;
    let counts = w.number()?;
    w.expect("{")?;
    w.end()?;
    Ok(Tile { name: name.to_owned(), lanes, features, ptrs, counts, body: body(lines, 0)? })
}

fn body(lines: &mut Lines<'_>, depth: usize) -> Result<Vec<Inst>, TileError> {
    let mut insts = Vec::new();
    loop {
        let Some(mut w) = lines.next() else { return Err(TileError::Syntax { line: 0, expected: "`}`" }) };
        match w.peek() {
            "}" => return Ok(insts),
            "loop" if depth >= super::MAX_DEPTH => return Err(TileError::Range("the depth of loops")),
            "loop" => insts.push(header(&mut w, lines, depth)?),
            _ => {
                insts.push(inst(&mut w)?);
                w.end()?;
            }
        }
    }
}

fn header(w: &mut Words<'_>, lines: &mut Lines<'_>, depth: usize) -> Result<Inst, TileError> {
    w.expect("loop")?;
    let count = match w.peek().strip_prefix('c') {
        Some(param) => {
            w.at += 1;
            Count::Param(param.parse().or_else(|_| w.error("a count"))?)
        }
        None => Count::Static(w.number()?),
    };
    let (mut inducts, mut carries) = (Vec::new(), Vec::new());
    while w.peek() != "{" {
        if w.peek().starts_with('p') {
            let ptr = w.ptr()?;
            w.expect("=")?;
            let init = w.ptr()?;
            w.expect("+=")?;
            inducts.push(Induct { ptr, init, step: w.number()? });
        } else {
            let phi = w.reg()?;
            w.expect("=")?;
            let init = w.reg()?;
            w.expect("<-")?;
            carries.push(Carry { phi, init, next: w.reg()? });
        }
    }
    Ok(Inst::Loop(TileLoop { count, inducts, carries, body: body(lines, depth + 1)? }))
}

fn inst(w: &mut Words<'_>) -> Result<Inst, TileError> {
    if w.peek() == "store" {
        return store(w);
    }
    if w.peek().starts_with("mat_") {
        return matrix(w);
    }
    if w.peek() == "prefetch" {
        w.at += 1;
        return Ok(Inst::Prefetch { ptr: w.ptr()?, disp: w.number()? });
    }
    if w.peek().starts_with('p') {
        return pointer(w);
    }
    let dst = w.reg()?;
    w.expect("=")?;
    Ok(match w.word() {
        "const_f" => match w.word().strip_prefix("0x").and_then(|hex| u32::from_str_radix(hex, 16).ok()) {
            Some(bits) => Inst::ConstF(dst, bits),
            None => return w.error("bits"),
        },
        "const_i" => Inst::ConstI(dst, w.number()?),
        "fma" => Inst::Fma(dst, w.reg()?, w.reg()?, w.reg()?),
        "dot2" => Inst::Dot2(dst, w.reg()?, w.reg()?, w.reg()?),
        "dot4" => Inst::Dot4(dst, w.reg()?, w.reg()?, w.reg()?),
        "dot_bf16" => Inst::DotBf16(dst, w.reg()?, w.reg()?, w.reg()?),
        "pack_bf16" => Inst::PackBf16(dst, w.reg()?, w.reg()?),
        "cmp" => Inst::Cmp(dst, w.named(Cmp::from_word, "a comparison")?, w.reg()?, w.reg()?),
        "select" => Inst::Select(dst, w.reg()?, w.reg()?, w.reg()?),
        "reduce" => Inst::Reduce(dst, w.named(Binary::from_word, "a reduction")?, w.reg()?),
        "permute" => {
            let (x, y, mut lanes) = (w.reg()?, w.reg()?, Vec::new());
            while w.at < w.words.len() {
                lanes.push(w.number()?);
            }
            Inst::Permute { dst, x, y, lanes }
        }
        "load" => load(dst, w)?,
        word => {
            if let Some(op) = Unary::from_word(word) {
                Inst::Unary(dst, op, w.reg()?)
            } else if let Some(op) = Binary::from_word(word) {
                Inst::Binary(dst, op, w.reg()?, w.reg()?)
            } else if let Some(op) = Shift::from_word(word) {
                Inst::Shift(dst, op, w.reg()?, w.number()?)
            } else {
                return w.error("an operation");
            }
        }
    })
}

fn load(dst: Reg, w: &mut Words<'_>) -> Result<Inst, TileError> {
    let (mem, ptr, disp) = (w.named(MemType::from_word, "a memory type")?, w.ptr()?, w.number()?);
    let load = match w.word() {
        "all" => Load::Broadcast,
        "n" => {
            let n = w.number()?;
            if w.peek() == "stride" {
                w.at += 1;
                Load::Strided(n, w.number()?)
            } else {
                Load::Contiguous(n)
            }
        }
        _ => return w.error("`all` or `n`"),
    };
    Ok(Inst::Load { dst, mem, ptr, disp, load })
}

fn store(w: &mut Words<'_>) -> Result<Inst, TileError> {
    w.expect("store")?;
    let (mem, ptr, disp) = (w.named(MemType::from_word, "a memory type")?, w.ptr()?, w.number()?);
    w.expect("n")?;
    let n = w.number()?;
    w.expect("stride")?;
    Ok(Inst::Store { mem, ptr, disp, n, stride: w.number()?, src: w.reg()? })
}

fn matrix(w: &mut Words<'_>) -> Result<Inst, TileError> {
    Ok(match w.word() {
        "mat_configure" => Inst::MatConfigure,
        "mat_release" => Inst::MatRelease,
        "mat_zero" => Inst::MatZero(w.mat()?),
        "mat_load" => {
            let (dst, ptr, disp) = (w.mat()?, w.ptr()?, w.number()?);
            w.expect("stride")?;
            Inst::MatLoad { dst, ptr, disp, stride: w.number()? }
        }
        "mat_store" => {
            let (ptr, disp) = (w.ptr()?, w.number()?);
            w.expect("stride")?;
            Inst::MatStore { ptr, disp, stride: w.number()?, src: w.mat()? }
        }
        "mat_dot" => Inst::MatDot(w.mat()?, w.named(TileProduct::from_word, "what is multiplied")?, w.mat()?, w.mat()?),
        _ => return w.error("an operation on matrices"),
    })
}

fn pointer(w: &mut Words<'_>) -> Result<Inst, TileError> {
    let dst = w.ptr()?;
    w.expect("=")?;
    match w.word() {
        "offset" => Ok(Inst::Offset { dst, ptr: w.ptr()?, disp: w.number()? }),
        "load_ptr" => {
            let (table, disp) = (w.ptr()?, w.number()?);
            let base = w.ptr()?;
            let other = if w.peek().is_empty() { None } else { Some(w.ptr()?) };
            Ok(Inst::LoadPtr { dst, table, disp, base, other })
        }
        _ => w.error("`offset` or `load_ptr`"),
    }
}
