//! The text form of programs.
//!
//! ```text
//! program for avx2 l1 32768 l2 524288 l3 8388608 {
//!   input "x" : tensor<1x4xf32> = b0 : tensor<1x4xf32>
//!   output "y" : tensor<1x4xf32> = b1 : tensor<1x4xf32>
//!   arena 0
//!   values 0
//!   buffer b0 16 input 0
//!   buffer b1 16 output 0
//!   call k0 (b0, b1) flops 4 bytes 32 name "elementwise_f32" loc ("relu1")
//!   node ("math.relu") : (tensor<1x4xf32>) kernels ("elementwise_f32") loc ("relu1")
//! }
//! kernel @elementwise_f32 tasks 1 scratch 0 vars 1 { … }
//! tile …
//! ```
//!
//! Programs of regions follow the kernels, each after a line `body 1 of 0 host h0 region 1`: its number, that of
//! the program that it is in, and where there.
//!
//! A line says one thing. Buffers, constants, kernels, host ops, slots and choice points are named by a letter and
//! their number, in the order in which they stand. Constants that buffers show are `const`, those of ports and host ops
//! `data`; their bytes come beside the text, here are types and checksums.

use std::fmt::{Display, Write};

use optc_tensor::Tensor;
use optc_types::steps::{
    ArenaPlace, Batch, BufRef, KernelStep, PlainTensor, Port, ProgramConstant, Slot, Step, StepInfo,
};
use optc_types::{HostText, TensorType};

use super::report_text::{Line, list};
use super::{Program, ProgramText};
use crate::program::Point;

impl Program {
    /// The program as text, and its constants. Equal programs give equal texts.
    pub fn print(&self) -> ProgramText {
        let mut printer = Printer { text: String::new(), constants: vec![] };
        printer.section(self, &mut 0);
        ProgramText { text: printer.text, constants: printer.constants }
    }

    /// The checksum of a constant's bytes that its line shows.
    pub fn checksum(tensor: &Tensor) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        match tensor.strings() {
            Ok(strings) => strings.iter().for_each(|s| hasher.update(format!("{s:?}").as_bytes())),
            Err(_) => hasher.update(tensor.bytes()),
        }
        hasher.finalize()
    }
}

struct Printer {
    text: String,
    constants: Vec<(String, Tensor)>,
}

impl Printer {
    fn line(&mut self, line: impl Display) {
        let _ = writeln!(self.text, "  {line}");
    }

    /// A program and those in it, which are numbered from `next` on.
    fn section(&mut self, p: &Program, next: &mut usize) {
        let own = *next;
        self.program(p);
        for body in &p.bodies {
            *next += 1;
            let (number, host, region) = (*next, body.host, body.region);
            let _ = writeln!(self.text, "body {number} of {own} host h{host} region {region}");
            self.section(&body.program, next);
        }
    }

    fn program(&mut self, p: &Program) {
        let _ = writeln!(self.text, "program for {} {{", p.target);
        for ProgramConstant { of, recipe, tensor } in &p.flow.constants {
            self.constant("const", tensor, format_args!(" of {of:?} as {recipe:?}"));
        }
        for (word, ports) in [("input", &p.flow.inputs), ("output", &p.flow.outputs)] {
            for Port { name, ty, slot } in ports {
                let slot = self.slot(slot);
                self.line(format_args!("{word} {name:?} : {ty} = {slot}"));
            }
        }
        self.line(format_args!("arena {}", p.flow.arena_bytes));
        if let Some(Batch { block, item_bytes }) = p.flow.batch {
            self.line(format_args!("batch {block} items {item_bytes}"));
        }
        self.line(format_args!("values {}", p.flow.values));
        for (b, buffer) in p.flow.buffers.iter().enumerate() {
            let place = match buffer.place {
                ArenaPlace::Arena(at) => format!("arena {at}"),
                ArenaPlace::Constant(i) => format!("constant {i}"),
                ArenaPlace::Input(i) => format!("input {i}"),
                ArenaPlace::Output(i) => format!("output {i}"),
            };
            let each = if buffer.each { " each" } else { "" };
            self.line(format_args!("buffer b{b} {}{each} {place}", buffer.bytes));
        }
        p.hosts.iter().enumerate().for_each(|(i, host)| self.host(i, host));
        p.points.iter().enumerate().for_each(|(i, point)| self.point(i, point));
        p.flow.steps.iter().for_each(|step| self.step(step));
        p.report.iter().for_each(|node| self.line(Line(node)));
        self.text.push_str("}\n");
        p.kernels.iter().for_each(|kernel| {
            let _ = write!(self.text, "{kernel}");
        });
    }

    /// Adds a constant; gives its name.
    fn constant(&mut self, word: &str, tensor: &Tensor, more: impl Display) -> String {
        let name = format!("c{}", self.constants.len());
        let ty = TensorType::fixed(tensor.dtype(), tensor.shape());
        self.line(format_args!("{word} {name} : {ty} #{:08x}{more}", Program::checksum(tensor)));
        self.constants.push((name.clone(), tensor.clone()));
        name
    }

    fn host(&mut self, i: usize, host: &HostText) {
        let mut named = vec![];
        for (symbol, tensor) in &host.constants {
            let name = self.constant("data", tensor, "");
            named.push(format!("{symbol:?} = {name}"));
        }
        self.line(format_args!("host h{i} {:?} ({})", host.name, named.join(", ")));
        for line in host.text.lines() {
            self.line(format_args!("| {line}"));
        }
    }

    fn point(&mut self, i: usize, point: &Point) {
        let within = point.within.map_or_else(String::new, |p| format!(" in p{p}"));
        self.line(format_args!("point p{i} {:?}{within} {} taken {}", point.key, list(&point.options), point.taken));
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Kernel(step) => self.call(step),
            Step::Host(step) => {
                let operands: Vec<_> = step.operands.iter().map(|slot| self.optional(slot)).collect();
                let results: Vec<_> = step.results.iter().map(|slot| self.optional(slot)).collect();
                let (operands, results, info) = (operands.join(", "), results.join(", "), info(&step.info));
                self.line(format_args!("run h{} ({operands}) -> ({results}){info}", step.host));
            }
            Step::Copy { src, dst, bytes } => self.line(format_args!("copy {bytes} {} -> {}", at(*src), at(*dst))),
            Step::Arrange(a) => {
                let place = |(b, strides): &(BufRef, Vec<i64>)| format!("{} {}", at(*b), list(strides));
                let point = a.point.map_or_else(String::new, |p| format!(" point p{p}"));
                let (shape, src, dst, info) = (list(&a.shape), place(&a.src), place(&a.dst), info(&a.info));
                self.line(format_args!("arrange {} {shape} {src} -> {dst}{point}{info}", a.width));
            }
            Step::Load { value, to, loc } => self.line(format_args!("load v{value} -> {} loc {loc:?}", stored(to))),
            Step::Check { indices, extent, loc } => {
                self.line(format_args!("check {} below {extent} loc {loc:?}", stored(indices)));
            }
            Step::CheckLengths { lengths, most, op, loc } => {
                self.line(format_args!("check {} up_to {most} of {op:?} loc {loc:?}", stored(lengths)));
            }
        }
    }

    /// The numbers of tasks and bytes of scratch are the kernel's.
    fn call(&mut self, step: &KernelStep) {
        let args: Vec<_> = step.args.iter().map(|&a| at(a)).collect();
        let in_place = step.in_place.map_or_else(String::new, |arg| format!(" in_place {arg}"));
        let point = step.point.map_or_else(String::new, |p| format!(" point p{p}"));
        let parallel = if step.parallel { " parallel" } else { "" };
        let several: Vec<_> = step.several.iter().map(|s| format!("{} k{}", s.items, s.kernel)).collect();
        let several = if several.is_empty() { String::new() } else { format!(" several ({})", several.join(", ")) };
        self.line(format_args!(
            "call k{} ({}){in_place}{point}{parallel}{several}{}",
            step.kernel,
            args.join(", "),
            info(&step.info)
        ));
    }

    fn optional(&mut self, slot: &Option<Slot>) -> String {
        slot.as_ref().map_or_else(|| "_".to_owned(), |slot| self.slot(slot))
    }

    fn slot(&mut self, slot: &Slot) -> String {
        match slot {
            Slot::Buffer(s) => stored(s),
            Slot::Value(v) => format!("v{v}"),
            Slot::Constant(tensor) => self.constant("data", tensor, ""),
        }
    }
}

fn at(at: BufRef) -> String {
    if at.offset == 0 { format!("b{}", at.buf) } else { format!("b{}+{}", at.buf, at.offset) }
}

fn stored(s: &PlainTensor) -> String {
    format!("{} : {}", at(s.at), TensorType::fixed(s.dtype, &s.shape))
}

fn info(info: &StepInfo) -> String {
    let schedule = if info.schedule.is_empty() { String::new() } else { format!(" schedule {:?}", info.schedule) };
    format!(" flops {} bytes {} name {:?}{schedule} loc {}", info.flops, info.bytes, info.name, list(&info.loc))
}
