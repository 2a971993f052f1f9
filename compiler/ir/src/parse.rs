//! The text form, parsed. See [`print`](crate::print()) for the grammar by example.
//!
//! The parser never panics: every error says line, column and what was expected. What it returns is not verified.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};

use optc_kernel::program::Program;
use optc_tensor::{DType, Tensor, element_count};
use optc_types::Cursor;

use crate::print::MAX_SPLAT;
use crate::{Attr, Const, Graph, NodeId, Op, Output, ParseError, Real, TensorType, Value};

/// How deeply regions may nest.
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
    let mut parser = Parser { cursor: Cursor::new(text), constants };
    let graph = parser.func(0)?;
    parser.end()?;
    Ok(graph)
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    constants: &'a HashMap<String, Tensor>,
}

impl<'a> Deref for Parser<'a> {
    type Target = Cursor<'a>;

    fn deref(&self) -> &Cursor<'a> {
        &self.cursor
    }
}

impl DerefMut for Parser<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.cursor
    }
}

type Result_<T> = Result<T, ParseError>;

impl<'a> Parser<'a> {
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
            let ty = self.ty()?;
            let value = graph.add_input(&name, ty);
            self.define(&mut names, name, value)?;
            if !self.eat(",") && !self.rest().trim_start().starts_with(')') {
                return Err(self.error("expected `,` or `)`"));
            }
        }
        if self.eat("notes(") {
            while !self.eat(")") {
                let key = self.string()?;
                self.expect("=")?;
                let text = self.string()?;
                graph.notes.push((key, text));
                self.eat(",");
            }
        }
        self.expect("{")?;
        while !self.eat("return") {
            self.node(&mut graph, &mut names, depth)?;
        }
        while !self.eat("}") {
            let value = self.operand(&names)?.ok_or_else(|| self.error("an output cannot be absent"))?;
            let name = if self.eat("as ") { self.string()? } else { format!("out{}", graph.outputs.len()) };
            graph.outputs.push(Output { name, value });
            self.eat(",");
        }
        Ok(graph)
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
        let mut types = vec![self.ty()?];
        while self.eat(",") {
            types.push(self.ty()?);
        }
        if types.len() != results.len() {
            return Err(self.error(format!("expected {} result types, found {}", results.len(), types.len())));
        }
        let id = graph.add(op, &operands, types);
        if self.eat("loc(") {
            while !self.eat(")") {
                let loc = self.string()?;
                graph.node_mut(id).loc.push(loc);
                self.eat(",");
            }
        }
        if self.eat("as ") {
            self.names(graph, id)?;
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

    /// What the model calls the results of a node.
    fn names(&mut self, graph: &mut Graph, id: NodeId) -> Result_<()> {
        let mut names = vec![self.string()?];
        while self.eat(",") {
            names.push(self.string()?);
        }
        let node = graph.node_mut(id);
        if names.len() > node.results.len() {
            return Err(self.error(format!("expected {} names of results, found {}", node.results.len(), names.len())));
        }
        node.names = names;
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
                let t = t.ok_or_else(|| self.error(format!("there is no constant `@{name}`")))?;
                self.content(&name, &t)?;
                Ok(Attr::Const(Const(t)))
            }
            Some('d') if self.eat("dense<[") => self.dense(),
            Some('d') if self.eat("dense<") => self.splat(),
            Some('t' | 's' | 'o') if ["tensor<", "seq<", "opt<"].iter().any(|t| self.rest().starts_with(t)) => {
                Ok(Attr::Type(self.ty()?))
            }
            Some(c) if c.is_ascii_digit() || matches!(c, '-' | '+') => {
                let token = self.digits()?;
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
                items.push(self.string()?);
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

    fn numbers(&mut self, end: &str) -> Result_<Vec<&'a str>> {
        let mut items = vec![];
        while !self.eat(end) {
            items.push(self.digits()?);
            self.eat(",");
        }
        Ok(items)
    }

    /// The hash after a constant's symbol, if there is one: that of the data which was given for it.
    fn content(&mut self, name: &str, t: &Tensor) -> Result_<()> {
        if !self.eat("#") {
            return Ok(());
        }
        let word = self.word("the hash of a constant")?;
        let found = format!("{:08x}", Program::checksum(t));
        if word == found {
            return Ok(());
        }
        Err(self.error(format!("the data of `@{name}` has the hash {found}, the text says {word}")))
    }

    /// The rest of a constant of equal elements.
    fn splat(&mut self) -> Result_<Attr> {
        let item = self.digits()?;
        self.expect(">")?;
        self.constant(|n| if n <= MAX_SPLAT { Some(vec![item; n]) } else { None })
    }

    fn dense(&mut self) -> Result_<Attr> {
        let items = self.numbers("]>")?;
        self.constant(|n| (n == items.len()).then_some(items))
    }

    /// A constant after its elements, which `items` gives for their number.
    fn constant(&mut self, items: impl FnOnce(usize) -> Option<Vec<&'a str>>) -> Result_<Attr> {
        self.expect(":")?;
        let ty = self.ty()?;
        let bad = |s: &Self| s.error("the constant's values do not fit its type");
        let (Some(shape), Some(t)) = (ty.as_tensor().and_then(TensorType::static_shape), ty.as_tensor()) else {
            return Err(self.error("a constant has a concrete tensor type"));
        };
        let items = element_count(&shape).and_then(items).ok_or_else(|| bad(self))?;
        let tensor = if t.dtype == DType::F32 {
            let v: Option<Vec<f32>> = items.iter().map(|s| s.parse().ok()).collect();
            Tensor::from_slice(&shape, &v.ok_or_else(|| bad(self))?)
        } else if t.dtype.is_real() {
            let v: Option<Vec<f64>> = items.iter().map(|s| s.parse().ok()).collect();
            Tensor::from_f64(t.dtype, &shape, &v.ok_or_else(|| bad(self))?)
        } else {
            let v: Option<Vec<i64>> = items.iter().map(|s| s.parse().ok()).collect();
            Tensor::from_i64(t.dtype, &shape, &v.ok_or_else(|| bad(self))?)
        };
        tensor.map(|t| Attr::Const(Const(t))).map_err(|e| self.error(e.to_string()))
    }
}
