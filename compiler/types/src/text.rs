//! Reading text: what the text forms of graphs and programs have in common.

use optc_tensor::DType;

use crate::{Dim, Encoding, MAX_EXTENT, TensorType, Type};

/// How deeply types may nest.
const MAX_DEPTH: usize = 64;

/// Why a text is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What was found and what was expected.
    pub message: String,
}

type Result_<T> = Result<T, ParseError>;

/// A place in a text that is read from its beginning to its end.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The beginning of a text.
    pub fn new(text: &'a str) -> Cursor<'a> {
        Cursor { text, at: 0 }
    }

    /// Takes blanks to the end of the text.
    ///
    /// # Errors
    /// Something is left.
    pub fn end(&mut self) -> Result_<()> {
        self.skip();
        if self.at < self.text.len() { Err(self.error("expected the end of the text")) } else { Ok(()) }
    }

    /// An error here.
    pub fn error(&self, message: impl Into<String>) -> ParseError {
        let before = &self.text[..self.at];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        ParseError { line, column, message: message.into() }
    }

    /// What is left.
    pub fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Skips blanks, line ends and `//` comments.
    pub fn skip(&mut self) {
        loop {
            let trimmed = self.rest().trim_start();
            self.at = self.text.len() - trimmed.len();
            if !trimmed.starts_with("//") {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    /// Takes a token after blanks, if it comes next.
    pub fn eat(&mut self, token: &str) -> bool {
        self.skip();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    /// Takes a token after blanks.
    ///
    /// # Errors
    /// Something else comes next.
    pub fn expect(&mut self, token: &str) -> Result_<()> {
        if self.eat(token) { Ok(()) } else { Err(self.error(format!("expected `{token}`"))) }
    }

    /// Takes characters, from here on, as long as they are accepted.
    pub fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// A word of letters, digits, `_` and `.` after blanks.
    ///
    /// # Errors
    /// There is none: `what` was expected.
    pub fn word(&mut self, what: &str) -> Result_<&'a str> {
        self.skip();
        let word = self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'));
        if word.is_empty() { Err(self.error(format!("expected {what}"))) } else { Ok(word) }
    }

    /// A word or a string in quotes.
    ///
    /// # Errors
    /// There is neither: `what` was expected.
    pub fn symbol(&mut self, what: &str) -> Result_<String> {
        if self.rest().starts_with('"') { self.string() } else { self.word(what).map(str::to_owned) }
    }

    /// A string in quotes after blanks, with the escapes of Rust.
    ///
    /// # Errors
    /// There is none, or it does not end.
    pub fn string(&mut self) -> Result_<String> {
        self.expect("\"")?;
        let mut out = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((i, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += i + 1;
                    return Ok(out);
                }
                '\\' => match chars.next().map(|(_, c)| c) {
                    Some('n') => out.push('\n'),
                    Some('t') => out.push('\t'),
                    Some('r') => out.push('\r'),
                    Some('0') => out.push('\0'),
                    Some('u') => {
                        let hex: String = chars.by_ref().map(|(_, c)| c).skip(1).take_while(|&c| c != '}').collect();
                        let c = u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32);
                        out.push(c.ok_or_else(|| self.error("expected `\\u{hex}`"))?);
                    }
                    Some(c) => out.push(c),
                    None => break,
                },
                c => out.push(c),
            }
        }
        Err(self.error("the string does not end"))
    }

    /// The characters of a number after blanks.
    ///
    /// # Errors
    /// There is none.
    pub fn digits(&mut self) -> Result_<&'a str> {
        self.skip();
        let token = self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.'));
        if token.is_empty() { Err(self.error("expected a number")) } else { Ok(token) }
    }

    /// A number after blanks.
    ///
    /// # Errors
    /// There is none, or it does not fit.
    pub fn number<T: std::str::FromStr>(&mut self) -> Result_<T> {
        let digits = self.digits()?;
        digits.parse().map_err(|_| self.error(format!("`{digits}` is not a number that fits here")))
    }

    /// A type.
    ///
    /// # Errors
    /// There is none.
    pub fn ty(&mut self) -> Result_<Type> {
        self.nested_ty(0)
    }

    fn nested_ty(&mut self, depth: usize) -> Result_<Type> {
        if depth > MAX_DEPTH {
            return Err(self.error("types are nested too deeply"));
        }
        if self.eat("tensor<") {
            return self.tensor_type().map(Type::Tensor);
        }
        let wrap: fn(Box<Type>) -> Type = match () {
            () if self.eat("seq<") => Type::Sequence,
            () if self.eat("opt<") => Type::Optional,
            () => return Err(self.error("expected `tensor<`, `seq<` or `opt<`")),
        };
        let inner = self.nested_ty(depth + 1)?;
        self.expect(">")?;
        Ok(wrap(Box::new(inner)))
    }

    /// What stands after `tensor<`.
    fn tensor_type(&mut self) -> Result_<TensorType> {
        let mut dims = Some(vec![]);
        if self.eat("*x") {
            dims = None;
        }
        loop {
            self.skip();
            let rest = self.rest();
            let dim = match rest.chars().next() {
                Some('?') => {
                    self.at += 1;
                    Dim::Unknown
                }
                Some('"') => Dim::Named(self.string()?.into()),
                Some(c) if c.is_ascii_digit() => {
                    let digits = self.take_while(|c| c.is_ascii_digit());
                    let extent = digits.parse().ok().filter(|&n| n <= MAX_EXTENT);
                    Dim::Known(extent.ok_or_else(|| self.error(format!("the extent {digits} is too large")))?)
                }
                Some(c) if c.is_ascii_uppercase() || c == '_' => {
                    Dim::Named(self.take_while(|c| (c.is_ascii_alphanumeric() || c == '_') && c != 'x').into())
                }
                _ => break,
            };
            let Some(dims) = &mut dims else { return Err(self.error("expected a dtype")) };
            dims.push(dim);
            self.expect("x")?;
        }
        let name = self.word("a dtype")?;
        let dtype = DType::parse(name).ok_or_else(|| self.error(format!("there is no dtype `{name}`")))?;
        let mut ty = TensorType::of(dtype, dims);
        if self.eat(",") {
            ty.encoding = self.encoding()?;
            if ty.rank().is_some_and(|rank| !ty.encoding.fits(rank)) {
                return Err(self.error(format!("a tensor of this rank cannot be `{}`", ty.encoding)));
            }
        }
        self.expect(">")?;
        Ok(ty)
    }

    fn encoding(&mut self) -> Result_<Encoding> {
        match self.word("an encoding")? {
            "nhwc" => Ok(Encoding::Nhwc),
            "nchw4c" => Ok(Encoding::Nchw4c),
            "bcsr" => {
                self.expect("<")?;
                let block = self.word("a block")?;
                let bad = || self.error(format!("`{block}` is not a block, expected `4x1` or the like"));
                let (rows, cols) = block.split_once('x').ok_or_else(bad)?;
                let number = |s: &str| s.parse::<u8>().ok().filter(|&n| n > 0).ok_or_else(bad);
                let encoding = Encoding::Bcsr { rows: number(rows)?, cols: number(cols)? };
                self.expect(">")?;
                Ok(encoding)
            }
            other => Err(self.error(format!("there is no encoding `{other}`"))),
        }
    }
}

/// Names in backticks, with commas, for errors.
pub fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
