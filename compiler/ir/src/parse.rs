//! The text form, parsed. See [`print`](crate::print()) for the grammar by example.
//!
//! The parser never panics: every error says line, column and what was expected. What it returns is not verified.

use std::collections::HashMap;

use optc_tensor::{DType, Tensor, element_count};

use crate::{Attr, Const, Dim, Encoding, Graph, MAX_EXTENT, Op, Output, ParseError, Real, TensorType, Type, Value};

/// How deep regions and types may nest.
const MAX_DEPTH: usize = 64;

/// Parses a graph whose constants are all in the text.
///
/// # Errors
/// The text is not a graph.
pub fn parse(text: &str) -> Result<Graph, ParseError> {
    parse_with(text, &HashMap::new())
}

/// Parses a graph whose larger constants are in `constants`, by symbol.
///
/// # Errors
/// The text is not a graph, or names a constant that is not there.
pub fn parse_with(text: &str, constants: &HashMap<String, Tensor>) -> Result<Graph, ParseError> {
    let mut parser = Parser { text, at: 0, constants };
    let graph = parser.func(0)?;
    parser.skip();
    if parser.at < text.len() { Err(parser.error("expected the end of the text")) } else { Ok(graph) }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    constants: &'a HashMap<String, Tensor>,
}

type Result_<T> = Result<T, ParseError>;

impl<'a> Parser<'a> {
    fn error(&self, message: impl Into<String>) -> ParseError {
        let before = &self.text[..self.at];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        ParseError { line, column, message: message.into() }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Skips blanks, line ends and `//` comments.
    fn skip(&mut self) {
        loop {
            let trimmed = self.rest().trim_start();
            self.at = self.text.len() - trimmed.len();
            if !trimmed.starts_with("//") {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    fn eat(&mut self, token: &str) -> bool {
        self.skip();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn expect(&mut self, token: &str) -> Result_<()> {
        if self.eat(token) { Ok(()) } else { Err(self.error(format!("expected `{token}`"))) }
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn word(&mut self, what: &str) -> Result_<&'a str> {
        self.skip();
        let word = self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'));
        if word.is_empty() { Err(self.error(format!("expected {what}"))) } else { Ok(word) }
    }

    /// A word or a string in quotes.
    fn symbol(&mut self, what: &str) -> Result_<String> {
        if self.rest().starts_with('"') { self.string() } else { self.word(what).map(str::to_owned) }
    }

    fn string(&mut self) -> Result_<String> {
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

    fn func(&mut self, depth: usize) -> Result_<Graph> {
        if depth > MAX_DEPTH {
            return Err(self.error("regions are nested too deeply"));
        }
        self.expect("func")?;
        self.expect("@")?;
        let mut graph = Graph::new(&self.symbol("a function name")?);
        let mut names: HashMap<String, Value> = HashMap::new();
        self.expect("(")?;
        while !self.eat(")") {
            self.expect("%")?;
            let name = self.symbol("an input name")?;
            self.expect(":")?;
            let ty = self.ty(0)?;
            let value = graph.add_input(&name, ty);
            self.define(&mut names, name, value)?;
            if !self.eat(",") && !self.rest().trim_start().starts_with(')') {
                return Err(self.error("expected `,` or `)`"));
            }
        }
        self.expect("{")?;
        while !self.eat("return") {
            self.node(&mut graph, &mut names, depth)?;
        }
        while !self.eat("}") {
            let value = self.operand(&names)?.ok_or_else(|| self.error("an output cannot be absent"))?;
            let name =
                if self.eat("as ") { self.string_after_blanks()? } else { format!("out{}", graph.outputs.len()) };
            graph.outputs.push(Output { name, value });
            self.eat(",");
        }
        Ok(graph)
    }

    fn string_after_blanks(&mut self) -> Result_<String> {
        self.skip();
        self.string()
    }

    fn define(&self, names: &mut HashMap<String, Value>, name: String, value: Value) -> Result_<()> {
        match names.insert(name.clone(), value) {
            Some(_) => Err(self.error(format!("`%{name}` is defined twice"))),
            None => Ok(()),
        }
    }

    fn operand(&mut self, names: &HashMap<String, Value>) -> Result_<Option<Value>> {
        if self.eat("_") {
            return Ok(None);
        }
        self.expect("%")?;
        let name = self.symbol("a value name")?;
        names.get(&name).copied().map(Some).ok_or_else(|| self.error(format!("`%{name}` is not defined")))
    }

    fn node(&mut self, graph: &mut Graph, names: &mut HashMap<String, Value>, depth: usize) -> Result_<()> {
        let mut results = vec![];
        loop {
            self.expect("%")?;
            results.push(self.symbol("a value name")?);
            if !self.eat(",") {
                break;
            }
        }
        self.expect("=")?;
        let op_name = self.word("an op name")?;
        let mut operands = vec![];
        self.skip();
        while self.rest().starts_with(['%', '_']) {
            operands.push(self.operand(names)?);
            if !self.eat(",") {
                break;
            }
            self.skip();
        }
        let attrs = if self.eat("{") { self.attrs()? } else { vec![] };
        let op = match Op::from_attrs(op_name, attrs) {
            None => return Err(self.error(format!("there is no op `{op_name}`"))),
            Some(op) => op.map_err(|e| self.error(format!("`{op_name}`: {e}")))?,
        };
        self.expect(":")?;
        let mut types = vec![self.ty(0)?];
        while self.eat(",") {
            types.push(self.ty(0)?);
        }
        if types.len() != results.len() {
            return Err(self.error(format!("expected {} result types, found {}", results.len(), types.len())));
        }
        let id = graph.add(op, &operands, types);
        if self.eat("loc(") {
            while !self.eat(")") {
                let loc = self.string_after_blanks()?;
                graph.node_mut(id).loc.push(loc);
                self.eat(",");
            }
        }
        while self.eat("region") {
            let region = self.func(depth + 1)?;
            graph.node_mut(id).regions.push(region);
        }
        for (result, name) in results.into_iter().enumerate() {
            self.define(names, name, Value { node: id, result: result as u32 })?;
        }
        Ok(())
    }

    fn attrs(&mut self) -> Result_<Vec<(String, Attr)>> {
        let mut attrs: Vec<(String, Attr)> = vec![];
        while !self.eat("}") {
            let name = self.word("an attribute name")?.to_owned();
            self.expect("=")?;
            let attr = self.attr()?;
            if attrs.iter().any(|(n, _)| *n == name) {
                return Err(self.error(format!("attribute `{name}` is given twice")));
            }
            attrs.push((name, attr));
            self.eat(",");
        }
        Ok(attrs)
    }

    fn attr(&mut self) -> Result_<Attr> {
        self.skip();
        match self.rest().chars().next() {
            Some('"') => Ok(Attr::Str(self.string()?)),
            Some('[') => {
                self.expect("[")?;
                self.list()
            }
            Some('@') => {
                self.expect("@")?;
                let name = self.symbol("a constant's symbol")?;
                let t = self.constants.get(&name).cloned();
                Ok(Attr::Const(Const(t.ok_or_else(|| self.error(format!("there is no constant `@{name}`")))?)))
            }
            Some('d') if self.eat("dense<[") => self.dense(),
            Some('t' | 's' | 'o') if ["tensor<", "seq<", "opt<"].iter().any(|t| self.rest().starts_with(t)) => {
                Ok(Attr::Type(self.ty(0)?))
            }
            Some(c) if c.is_ascii_digit() || matches!(c, '-' | '+') => {
                let token = self.number()?;
                self.scalar_attr(token)
            }
            _ => self.keyword(),
        }
    }

    /// The rest of a list of integers, floats or strings after its `[`.
    fn list(&mut self) -> Result_<Attr> {
        self.skip();
        if self.rest().starts_with('"') {
            let mut items = vec![];
            while !self.eat("]") {
                items.push(self.string_after_blanks()?);
                self.eat(",");
            }
            return Ok(Attr::Strs(items));
        }
        let items = self.numbers("]")?;
        if let Some(ints) = items.iter().map(|t| t.parse().ok()).collect::<Option<_>>() {
            return Ok(Attr::Ints(ints));
        }
        let reals = items.iter().map(|t| t.parse().ok().map(Real)).collect::<Option<_>>();
        Ok(Attr::Reals(reals.ok_or_else(|| self.error("expected a list of numbers"))?))
    }

    fn scalar_attr(&self, token: &str) -> Result_<Attr> {
        if let Ok(v) = token.parse::<i64>() {
            return Ok(Attr::Int(v));
        }
        token.parse().map(|v| Attr::Real(Real(v))).map_err(|_| self.error(format!("`{token}` is not a number")))
    }

    fn keyword(&mut self) -> Result_<Attr> {
        match self.word("an attribute's value")? {
            "true" => Ok(Attr::Bool(true)),
            "false" => Ok(Attr::Bool(false)),
            "inf" => Ok(Attr::Real(Real(f32::INFINITY))),
            "NaN" => Ok(Attr::Real(Real(f32::NAN))),
            word => DType::parse(word).map(Attr::DType).ok_or_else(|| self.error(format!("`{word}` is not a value"))),
        }
    }

    fn number(&mut self) -> Result_<&'a str> {
        self.skip();
        let token = self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.'));
        if token.is_empty() { Err(self.error("expected a number")) } else { Ok(token) }
    }

    fn numbers(&mut self, end: &str) -> Result_<Vec<&'a str>> {
        let mut items = vec![];
        while !self.eat(end) {
            items.push(self.number()?);
            self.eat(",");
        }
        Ok(items)
    }

    fn dense(&mut self) -> Result_<Attr> {
        let items = self.numbers("]>")?;
        self.expect(":")?;
        let ty = self.ty(0)?;
        let bad = |s: &Self| s.error("the constant's values do not fit its type");
        let (Some(shape), Some(t)) = (ty.as_tensor().and_then(TensorType::static_shape), ty.as_tensor()) else {
            return Err(self.error("a constant has a concrete tensor type"));
        };
        if element_count(&shape) != Some(items.len()) {
            return Err(bad(self));
        }
        let tensor = if t.dtype == DType::F32 {
            let v: Option<Vec<f32>> = items.iter().map(|s| s.parse().ok()).collect();
            Tensor::from_slice(&shape, &v.ok_or_else(|| bad(self))?)
        } else if t.dtype.is_float() {
            let v: Option<Vec<f64>> = items.iter().map(|s| s.parse().ok()).collect();
            Tensor::from_f64(t.dtype, &shape, &v.ok_or_else(|| bad(self))?)
        } else {
            let v: Option<Vec<i64>> = items.iter().map(|s| s.parse().ok()).collect();
            Tensor::from_i64(t.dtype, &shape, &v.ok_or_else(|| bad(self))?)
        };
        tensor.map(|t| Attr::Const(Const(t))).map_err(|e| self.error(e.to_string()))
    }

    fn ty(&mut self, depth: usize) -> Result_<Type> {
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
        let inner = self.ty(depth + 1)?;
        self.expect(">")?;
        Ok(wrap(Box::new(inner)))
    }

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
