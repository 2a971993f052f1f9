//! The words of a line of a tile's text, and what may stand for one.

use super::error::TileError;
use super::{Load, Mat, Ptr, Reg};

/// The words of a line, read one after the other.
pub(super) struct Words<'a> {
    line: usize,
    words: Vec<&'a str>,
    at: usize,
}

impl<'a> Words<'a> {
    pub(super) fn new(line: usize, text: &'a str) -> Self {
        Words { line, words: text.split_whitespace().collect(), at: 0 }
    }

    pub(super) fn error<T>(&self, expected: &'static str) -> Result<T, TileError> {
        Err(TileError::Syntax { line: self.line, expected })
    }

    pub(super) fn peek(&self) -> &'a str {
        self.words.get(self.at).copied().unwrap_or("")
    }

    pub(super) fn word(&mut self) -> &'a str {
        self.at += 1;
        self.words.get(self.at - 1).copied().unwrap_or("")
    }

    pub(super) fn expect(&mut self, word: &'static str) -> Result<(), TileError> {
        if self.word() == word { Ok(()) } else { self.error(word) }
    }

    pub(super) fn number<T: std::str::FromStr>(&mut self) -> Result<T, TileError> {
        self.word().parse().or_else(|_| self.error("a number"))
    }

    pub(super) fn reg(&mut self) -> Result<Reg, TileError> {
        let number = self.word().strip_prefix('v').and_then(|n| n.parse().ok());
        number.map(Reg).map_or_else(|| self.error("a register"), Ok)
    }

    pub(super) fn ptr(&mut self) -> Result<Ptr, TileError> {
        let number = self.word().strip_prefix('p').and_then(|n| n.parse().ok());
        number.map(Ptr).map_or_else(|| self.error("a pointer"), Ok)
    }

    pub(super) fn mat(&mut self) -> Result<Mat, TileError> {
        let number = self.word().strip_prefix('m').and_then(|n| n.parse().ok());
        number.map(Mat).map_or_else(|| self.error("a matrix"), Ok)
    }

    /// The word that says what the line does: the first one, or the first after `=`.
    pub(super) fn mnemonic(&self) -> &'a str {
        let at = if self.words.get(1) == Some(&"=") { 2 } else { 0 };
        self.words.get(at).copied().unwrap_or("")
    }

    pub(super) fn bits(&mut self) -> Result<u32, TileError> {
        let bits = self.word().strip_prefix("0x").and_then(|hex| u32::from_str_radix(hex, 16).ok());
        bits.map_or_else(|| self.error("bits"), Ok)
    }

    pub(super) fn load(&mut self) -> Result<Load, TileError> {
        match self.word() {
            "all" => Ok(Load::Broadcast),
            "n" => {
                let n = self.number()?;
                if self.peek() != "stride" {
                    return Ok(Load::Contiguous(n));
                }
                self.at += 1;
                Ok(Load::Strided(n, self.number()?))
            }
            _ => self.error("`all` or `n`"),
        }
    }

    /// Numbers to the end of the line.
    pub(super) fn rest<T: std::str::FromStr>(&mut self) -> Result<Vec<T>, TileError> {
        (self.at..self.words.len()).map(|_| self.number()).collect()
    }

    pub(super) fn named<T>(
        &mut self,
        from: impl Fn(&str) -> Option<T>,
        expected: &'static str,
    ) -> Result<T, TileError> {
        from(self.word()).map_or_else(|| self.error(expected), Ok)
    }

    pub(super) fn end(&self) -> Result<(), TileError> {
        if self.at == self.words.len() { Ok(()) } else { self.error("the end of the line") }
    }
}
