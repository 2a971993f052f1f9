//! Reads the text form of tiles back.

use super::error::TileError;
use super::verify::verify;
use super::words::Words;
use super::{Carry, Count, Induct, Inst, Tile, TileLoop};
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
        Some(Words::new(line + 1, text))
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
        w.word();
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
                insts.push(Inst::parse(&mut w)?);
                w.end()?;
            }
        }
    }
}

fn header(w: &mut Words<'_>, lines: &mut Lines<'_>, depth: usize) -> Result<Inst, TileError> {
    w.expect("loop")?;
    let count = match w.peek().strip_prefix('c') {
        Some(param) => {
            w.word();
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
