//! The text form of a plan: one line a step, each buffer by its place. It is read by people and snapshots only.

use std::fmt::{Display, Formatter, Result};

use crate::plan::{BufRef, Place, Plan, Port, Slot, Step, Stored};

/// Kernels by name; `arena[a..b]` are bytes of the arena, `constant0+64` is a byte of a constant.
impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "arena {} bytes, constants {} bytes", self.arena_bytes, self.constant_bytes())?;
        for port in &self.inputs {
            writeln!(f, "  input {}", self.port(port))?;
        }
        for step in &self.steps {
            writeln!(f, "  {}", self.step(step))?;
        }
        for port in &self.outputs {
            writeln!(f, "  output {}", self.port(port))?;
        }
        Ok(())
    }
}

impl Plan {
    fn port(&self, port: &Port) -> String {
        format!("{}: {} in {}", port.name, port.ty, self.slot(&port.slot))
    }

    fn step(&self, step: &Step) -> String {
        let list = |slots: &[Option<Slot>]| -> String {
            let slots: Vec<String> =
                slots.iter().map(|s| s.as_ref().map_or_else(|| "_".to_owned(), |s| self.slot(s))).collect();
            slots.join(", ")
        };
        match step {
            Step::Kernel(k) => {
                let args: Vec<String> = k.args.iter().map(|&a| self.at(a)).collect();
                format!("kernel {} x{}: {}", k.info.name, k.tasks, args.join(", "))
            }
            Step::Host(h) => format!("host {}: {} -> {}", h.info.name, list(&h.operands), list(&h.results)),
            Step::Copy { src, dst, bytes } => format!("copy {bytes} bytes: {} -> {}", self.at(*src), self.at(*dst)),
            Step::Check { indices, extent, .. } => format!("check {} < {extent}", self.stored(indices)),
            Step::Load { value, to, .. } => format!("load value{value} -> {}", self.stored(to)),
        }
    }

    fn slot(&self, slot: &Slot) -> String {
        match slot {
            Slot::Buffer(stored) => self.stored(stored),
            Slot::Value(v) => format!("value{v}"),
            Slot::Constant(t) => format!("{}{:?}", t.dtype(), t.shape()),
        }
    }

    fn stored(&self, stored: &Stored) -> String {
        self.at(stored.at)
    }

    fn at(&self, at: BufRef) -> String {
        let Some(buffer) = self.buffers.get(at.buf) else { return format!("buffer{}", at.buf) };
        let inside = if at.offset == 0 { String::new() } else { format!("+{}", at.offset) };
        match buffer.place {
            Place::Arena(from) => format!("arena[{}..{}]{inside}", from, from + buffer.bytes),
            Place::Constant(i) => format!("constant{i}{inside}"),
            Place::Input(i) => format!("input{i}{inside}"),
            Place::Output(i) => format!("output{i}{inside}"),
        }
    }
}
