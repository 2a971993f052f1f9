//! Reads the text form of programs back. It never panics: an error says the line, and what was expected there.

use std::collections::HashMap;

use optc_tensor::Tensor;
use optc_types::steps::{ArenaPlace, Batch, Flow, KernelBuffer, Port, ProgramConstant};
use optc_types::{Cursor, Feature, Features, HostText, ParseError, TensorType};

use super::{Program, ProgramBody};
use crate::nest::{Kernel, parse_kernel};
use crate::program::Point;
use crate::target::Target;
use crate::target::{Caches, Isa};

pub(super) type Result_<T> = Result<T, ParseError>;

impl Program {
    /// Parses what [`Program::print`] printed, with its constants by name, and verifies it.
    ///
    /// # Errors
    /// The text is not a program, a constant is missing or is another, or the program is not well formed.
    pub fn parse(text: &str, constants: &HashMap<String, Tensor>) -> Result<Program, ParseError> {
        Program::parse_with(text, constants, true)
    }

    /// The same without a look at the bytes of constants, for whoever maps them.
    ///
    /// # Errors
    /// As [`Program::parse`], but that a constant may be another of the same type.
    pub fn parse_mapped(text: &str, constants: &HashMap<String, Tensor>) -> Result<Program, ParseError> {
        Program::parse_with(text, constants, false)
    }

    /// What the program with this text is for.
    ///
    /// # Errors
    /// The text does not begin like a program.
    pub fn parse_target(text: &str) -> Result<Target, ParseError> {
        let mut parser = Parser { cursor: Cursor::new(text), constants: &HashMap::new(), kernels: &[], sums: false };
        parser.words(&["program", "for"])?;
        parser.target()
    }

    fn parse_with(text: &str, constants: &HashMap<String, Tensor>, sums: bool) -> Result<Program, ParseError> {
        let sections = sections(text);
        if sections.len() > MAX_BODIES {
            return Err(ParseError { line: 1, column: 1, message: "there are too many programs in it".to_owned() });
        }
        let mut programs = vec![];
        for (number, (line, text)) in sections.into_iter().enumerate() {
            let moved = |e: ParseError| ParseError { line: e.line + line, ..e };
            programs.push(section(text, number, constants, sums).map_err(moved)?);
        }
        // Those in a program come after it.
        while let Some((place, program)) = programs.pop() {
            let Some((of, host, region)) = place else {
                let end = ParseError { line: 1, column: 1, message: String::new() };
                program.verify().map_err(|e| ParseError { message: e.to_string(), ..end })?;
                return Ok(program);
            };
            programs[of].1.bodies.insert(0, ProgramBody { host, region, program });
        }
        Err(Cursor::new(text).error("expected a program"))
    }
}

/// The most programs in one.
const MAX_BODIES: usize = 1000;

/// The parts of a text that are programs, with how many lines come before each.
fn sections(text: &str) -> Vec<(usize, &str)> {
    let mut sections = vec![];
    let (mut begin, mut line) = (0, 0);
    while let Some(length) = text[begin..].find("\nbody ") {
        let section = &text[begin..begin + length + 1];
        sections.push((line, section));
        line += section.matches('\n').count();
        begin += section.len();
    }
    sections.push((line, &text[begin..]));
    sections
}

/// The program that another one is in, the host op and the region.
type At = Option<(usize, usize, usize)>;

/// A program without those in it, and where it is.
fn section(text: &str, number: usize, constants: &HashMap<String, Tensor>, sums: bool) -> Result_<(At, Program)> {
    let begin = text.find("\nkernel @").map_or(text.len(), |at| at + 1);
    let kernels = kernels(text, begin)?;
    let mut parser = Parser { cursor: Cursor::new(&text[..begin]), constants, kernels: &kernels, sums };
    let at = if number > 0 { Some(parser.body(number)?) } else { None };
    let mut program = parser.program()?;
    parser.cursor.end()?;
    program.kernels = kernels;
    Ok((at, program))
}

/// The kernels after the program's own block.
fn kernels(text: &str, begin: usize) -> Result_<Vec<Kernel>> {
    let mut at = begin;
    let mut kernels = vec![];
    while at < text.len() {
        let end = text[at + 1..].find("\nkernel @").map_or(text.len(), |n| at + n + 2);
        let line = text[..at].matches('\n').count() + 1;
        let failed = |e| ParseError { line, column: 1, message: format!("in this kernel: {e}") };
        kernels.push(parse_kernel(&text[at..end]).map_err(failed)?);
        at = end;
    }
    Ok(kernels)
}

pub(super) struct Parser<'a> {
    pub(super) cursor: Cursor<'a>,
    constants: &'a HashMap<String, Tensor>,
    pub(super) kernels: &'a [Kernel],
    /// Whether constants are summed up and compared.
    sums: bool,
}

impl Parser<'_> {
    fn program(&mut self) -> Result_<Program> {
        self.words(&["program", "for"])?;
        let mut program = empty(self.target()?);
        self.cursor.expect("{")?;
        // Constants that ports, host ops and steps name come on lines before theirs.
        let mut named = HashMap::new();
        while !self.cursor.eat("}") {
            let word = self.cursor.word("a line of a program")?;
            match word {
                "const" => {
                    let (name, tensor) = self.constant()?;
                    self.cursor.expect("of")?;
                    let of = self.cursor.string()?;
                    self.cursor.expect("as")?;
                    let recipe = self.cursor.string()?;
                    program.flow.constants.push(ProgramConstant { of, recipe, tensor: tensor.clone() });
                    named.insert(name, tensor);
                }
                "data" => {
                    let (name, tensor) = self.constant()?;
                    named.insert(name, tensor);
                }
                "input" => program.flow.inputs.push(self.port(&named)?),
                "output" => program.flow.outputs.push(self.port(&named)?),
                "arena" => program.flow.arena_bytes = self.cursor.number()?,
                "batch" => program.flow.batch = Some(self.batch()?),
                "values" => program.flow.values = self.cursor.number()?,
                "buffer" => program.flow.buffers.push(self.buffer(program.flow.buffers.len())?),
                "host" => program.hosts.push(self.host(program.hosts.len(), &named)?),
                "point" => program.points.push(self.point(program.points.len())?),
                "node" => program.report.push(self.node()?),
                word => program.flow.steps.push(self.step(word, &named)?),
            }
        }
        Ok(program)
    }

    /// The line before the program of a region.
    fn body(&mut self, number: usize) -> Result_<(usize, usize, usize)> {
        self.cursor.expect("body")?;
        let own: usize = self.cursor.number()?;
        self.cursor.expect("of")?;
        let of = self.cursor.number()?;
        if own != number || of >= number {
            return Err(self.cursor.error(format!("expected `body {number}` of one before it")));
        }
        self.cursor.expect("host")?;
        let host = self.numbered("h")?;
        self.cursor.expect("region")?;
        Ok((of, host, self.cursor.number()?))
    }

    fn words(&mut self, words: &[&str]) -> Result_<()> {
        words.iter().try_for_each(|word| self.cursor.expect(word))
    }

    fn target(&mut self) -> Result_<Target> {
        self.cursor.skip();
        let name = self.cursor.take_while(|c| !c.is_whitespace());
        let isa = Isa::by_name(name);
        let isa = isa.ok_or_else(|| self.cursor.error(format!("there is no instruction set `{name}`")))?;
        self.cursor.expect("on")?;
        self.cursor.skip();
        let triple = self.cursor.take_while(|c| !c.is_whitespace());
        let known = Target::parse_triple(triple).filter(|(arch, _)| isa.arch.is_none_or(|own| own == *arch));
        let (arch, system) =
            known.ok_or_else(|| self.cursor.error(format!("there is no target `{triple}` with `{name}`")))?;
        let row = Target::of_triple(arch, system, isa);
        let features = row.features.union(self.features()?);
        let mut size = |word| {
            self.cursor.expect(word)?;
            self.cursor.number()
        };
        Ok(Target { features, caches: Caches { l1: size("l1")?, l2: size("l2")?, l3: size("l3")? }, ..row })
    }

    /// What a target has beyond its row, up to the sizes of its caches.
    fn features(&mut self) -> Result_<Features> {
        let mut features = Features::default();
        if !self.cursor.eat("with") {
            return Ok(features);
        }
        loop {
            self.cursor.skip();
            let before = self.cursor.clone();
            let word = self.cursor.take_while(|c| !c.is_whitespace());
            match Feature::from_word(word) {
                Some(feature) => features = features.and(&[feature]),
                None if word == "l1" => {
                    self.cursor = before;
                    return Ok(features);
                }
                None => return Err(self.cursor.error(format!("there is no feature `{word}`"))),
            }
        }
    }

    /// A letter and the number after it.
    pub(super) fn numbered(&mut self, letter: &str) -> Result_<usize> {
        self.cursor.expect(letter)?;
        let digits = self.cursor.take_while(|c| c.is_ascii_digit());
        digits.parse().map_err(|_| self.cursor.error(format!("expected a number after `{letter}`")))
    }

    /// The number that comes next in a list.
    fn next(&mut self, letter: &str, number: usize) -> Result_<()> {
        match self.numbered(letter)? == number {
            true => Ok(()),
            false => Err(self.cursor.error(format!("expected `{letter}{number}`"))),
        }
    }

    fn constant(&mut self) -> Result_<(String, Tensor)> {
        let name = format!("c{}", self.numbered("c")?);
        self.cursor.expect(":")?;
        let (ty, _) = self.tensor_type()?;
        self.cursor.expect("#")?;
        let sum = self.cursor.take_while(|c| c.is_ascii_hexdigit());
        let tensor = self.constants.get(&name).cloned();
        let tensor = tensor.ok_or_else(|| self.cursor.error(format!("constant `{name}` is not beside the text")))?;
        let same = TensorType::fixed(tensor.dtype(), tensor.shape()) == ty
            && u32::from_str_radix(sum, 16).is_ok_and(|sum| !self.sums || sum == Program::checksum(&tensor));
        match same {
            true => Ok((name, tensor)),
            false => Err(self.cursor.error(format!("constant `{name}` beside the text is another one"))),
        }
    }

    /// A static tensor type, with its shape.
    pub(super) fn tensor_type(&mut self) -> Result_<(TensorType, Vec<usize>)> {
        let ty = self.cursor.ty()?;
        let known = ty.as_tensor().and_then(|t| Some((t.clone(), t.static_shape()?)));
        let fits = |(t, shape): &(TensorType, Vec<usize>)| {
            let n = optc_tensor::element_count(shape).and_then(|n| t.dtype.bytes_for(n));
            n.is_some_and(|n| n <= isize::MAX as usize)
        };
        known.filter(fits).ok_or_else(|| self.cursor.error("expected the type of a tensor of static shape"))
    }

    fn port(&mut self, named: &HashMap<String, Tensor>) -> Result_<Port> {
        let name = self.cursor.string()?;
        self.cursor.expect(":")?;
        let ty = self.cursor.ty()?;
        self.cursor.expect("=")?;
        Ok(Port { name, ty, slot: self.slot(named)? })
    }

    fn buffer(&mut self, number: usize) -> Result_<KernelBuffer> {
        self.next("b", number)?;
        let bytes = self.cursor.number()?;
        let each = self.cursor.eat("each");
        let place: fn(usize) -> ArenaPlace = match self.cursor.word("a place")? {
            "arena" => ArenaPlace::Arena,
            "constant" => ArenaPlace::Constant,
            "input" => ArenaPlace::Input,
            "output" => ArenaPlace::Output,
            word => return Err(self.cursor.error(format!("there is no place `{word}`"))),
        };
        Ok(KernelBuffer { bytes, place: place(self.cursor.number()?), each })
    }

    fn batch(&mut self) -> Result_<Batch> {
        let block = self.cursor.number()?;
        self.cursor.expect("items")?;
        Ok(Batch { block, item_bytes: self.cursor.number()? })
    }

    fn host(&mut self, number: usize, named: &HashMap<String, Tensor>) -> Result_<HostText> {
        self.next("h", number)?;
        let name = self.cursor.string()?;
        let constants = self.list(|p| {
            let symbol = p.cursor.string()?;
            p.cursor.expect("=")?;
            Ok((symbol, p.named(named)?))
        })?;
        let mut text = String::new();
        while self.cursor.eat("|") {
            let line = self.cursor.take_while(|c| c != '\n');
            text.push_str(line.strip_prefix(' ').unwrap_or(line));
            text.push('\n');
        }
        Ok(HostText { name, text, constants })
    }

    pub(super) fn named(&mut self, named: &HashMap<String, Tensor>) -> Result_<Tensor> {
        let name = format!("c{}", self.numbered("c")?);
        named.get(&name).cloned().ok_or_else(|| self.cursor.error(format!("constant `{name}` is not declared")))
    }

    fn point(&mut self, number: usize) -> Result_<Point> {
        self.next("p", number)?;
        let key = self.cursor.string()?;
        let within = if self.cursor.eat("in ") { Some(self.numbered("p")?) } else { None };
        let options = self.list(|p| p.cursor.string())?;
        self.cursor.expect("taken")?;
        let taken = self.cursor.number()?;
        let fits = taken < options.len() && within.is_none_or(|p| p < number);
        match fits {
            true => Ok(Point { key, options, taken, within }),
            false => Err(self.cursor.error("the point has no such option, or is in none that comes before it")),
        }
    }

    /// Items between parentheses.
    pub(super) fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result_<T>) -> Result_<Vec<T>> {
        self.cursor.expect("(")?;
        let mut items = vec![];
        while !self.cursor.eat(")") {
            if !items.is_empty() {
                self.cursor.expect(",")?;
            }
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// A number that is a count, or a time.
    pub(super) fn real(&mut self) -> Result_<f64> {
        let real: f64 = self.cursor.number()?;
        if real.is_nan() { Err(self.cursor.error("expected a number")) } else { Ok(real) }
    }
}

pub(super) fn empty(target: Target) -> Program {
    let (kernels, hosts, bodies, report, points) = (vec![], vec![], vec![], vec![], vec![]);
    Program { target, flow: Flow::default(), kernels, hosts, bodies, report, points }
}
