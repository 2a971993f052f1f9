//! What a well-formed program is.
//!
//! - (P1) Each kernel is [well formed](crate::nest::Kernel::verify).
//! - (P2) A step names kernels, host ops, buffers and slots that exist, with an argument for each buffer of a kernel
//!   and the kernel's own numbers of tasks and bytes of scratch. What is checked is `i32` or `i64`.
//! - (P3) What a step reads or writes lies in its buffer; a buffer lies in the arena, or is as large as its constant,
//!   input or output.
//! - (P4) Constants and inputs are not written.
//! - (P5) Buffers and slots are written before they are read.
//! - (P6) Buffers of the arena that are needed at once do not overlap; but the result of a kernel may have the place of
//!   an operand, whole, that nobody needs after it, where the step says that it is computed in place.
//! - (P7) What a kernel reads and writes is [proven](crate::BoundsError) to lie in the buffers and the scratch that it
//!   declares, with the constants that it is called with.
//! - (P8) A body is that of a region of a host op, the only one, and well formed for the same target.
//! - (P9) Only a program with a batch has buffers of which each item has its own, and these are no constants. An input
//!   or output that is one is an item, whose outermost extent is 1. Steps that name such a buffer write no other, and
//!   neither the host nor a slot takes part in them. A kernel for several items has the buffers of the one for each, of
//!   which those that items have are whole, and as many times as long.

use std::collections::BTreeMap;

use optc_tensor::DType;
use optc_types::steps::{ArenaPlace, BufId, BufRef, HostStep, KernelBuffer, KernelStep, PlainTensor, Port, Slot, Step};

use super::Program;
use crate::BoundsError;
use crate::nest::Access;

/// What is wrong with a program: a bug of the lowering, or of whoever wrote the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {reason} ({rule})")]
pub struct ProgramError {
    /// The rule that is broken, as this module numbers them.
    pub rule: &'static str,
    /// The kernel, step, buffer or port.
    pub at: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Program {
    /// Checks the program.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn verify(&self) -> Result<(), ProgramError> {
        for kernel in &self.kernels {
            let failed = |e| error("P1", format!("kernel `{}`", kernel.name), format!("{e}"));
            kernel.verify().map_err(failed)?;
        }
        self.verify_own_steps()?;
        self.prove().map_err(unproven)?;
        self.bodies.iter().try_for_each(|body| body.program.verify())
    }

    /// Checks (P7) of a program whose other rules hold.
    ///
    /// # Errors
    /// The first access that is not proven.
    pub fn verify_bounds(&self) -> Result<(), ProgramError> {
        self.all().into_iter().try_for_each(|program| program.prove().map_err(unproven))
    }

    /// Checks everything but (P1) and (P7), for whoever has each kernel checked where it is compiled.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn verify_steps(&self) -> Result<(), ProgramError> {
        self.all().into_iter().try_for_each(Program::verify_own_steps)
    }

    /// Checks the steps, but not those of the programs in it.
    fn verify_own_steps(&self) -> Result<(), ProgramError> {
        for (i, body) in self.bodies.iter().enumerate() {
            let twice = self.bodies[..i].iter().any(|other| (other.host, other.region) == (body.host, body.region));
            if body.host >= self.hosts.len() || twice || body.program.target != self.target {
                let reason = "it is of no op, of another target, or there are two".to_owned();
                return Err(error(
                    "P8",
                    format!("the body of region {} of host op {}", body.region, body.host),
                    reason,
                ));
            }
        }
        (0..self.flow.buffers.len()).try_for_each(|b| self.buffer(b))?;
        if self.flow.batch.is_some_and(|batch| batch.block == 0) {
            return Err(error("P9", "the batch".to_owned(), "it has no item at once"));
        }
        let filled = self.flow.inputs.len() + self.flow.steps.iter().map(results).sum::<usize>();
        if self.flow.values > filled {
            return Err(error(
                "P2",
                "values".to_owned(),
                format!("{} slots, of which {filled} are filled", self.flow.values),
            ));
        }
        let lives = vec![None; self.flow.buffers.len()];
        let (slots, at) = (vec![false; self.flow.values], String::new());
        let mut check = Check { program: self, slots, lives, at, repeats: false };
        check.ports(&self.flow.inputs, 0, Use::Written)?;
        for (i, step) in self.flow.steps.iter().enumerate() {
            check.at = format!("step {i}");
            check.step(i, step)?;
        }
        check.repeats = false;
        check.ports(&self.flow.outputs, self.flow.steps.len(), Use::Read)?;
        let lives = check.lives;
        apart(self, &lives, false)?;
        apart(self, &lives, true)
    }

    /// Whether a buffer is within the arena, or as large as what it stands for.
    fn buffer(&self, b: BufId) -> Result<(), ProgramError> {
        let buffer = &self.flow.buffers[b];
        let of = |ports: &[Port], i: usize| ports.get(i).and_then(stored).map(PlainTensor::bytes);
        let fits = match buffer.place {
            ArenaPlace::Arena(begin) => {
                let room = match self.flow.batch {
                    Some(batch) if buffer.each => batch.item_bytes,
                    _ => self.flow.arena_bytes,
                };
                begin.checked_add(buffer.bytes).is_some_and(|end| end <= room)
            }
            ArenaPlace::Constant(i) => {
                self.flow.constants.get(i).is_some_and(|c| c.tensor.bytes().len() == buffer.bytes)
            }
            ArenaPlace::Input(i) => of(&self.flow.inputs, i) == Some(buffer.bytes),
            ArenaPlace::Output(i) => of(&self.flow.outputs, i) == Some(buffer.bytes),
        };
        let reason = || format!("{} bytes do not fit {:?}", buffer.bytes, buffer.place);
        if !fits {
            return Err(error("P3", format!("buffer {b}"), reason()));
        }
        let is_item = |port: Option<&Port>| port.and_then(stored).is_some_and(|s| s.shape.first() == Some(&1));
        let may_be = self.flow.batch.is_some()
            && match buffer.place {
                ArenaPlace::Arena(_) => true,
                ArenaPlace::Constant(_) => false,
                ArenaPlace::Input(i) => is_item(self.flow.inputs.get(i)),
                ArenaPlace::Output(i) => is_item(self.flow.outputs.get(i)),
            };
        if buffer.each && !may_be {
            return Err(error("P9", format!("buffer {b}"), "it is not of an item of a batch"));
        }
        Ok(())
    }
}

fn error(rule: &'static str, at: String, reason: impl Into<String>) -> ProgramError {
    ProgramError { rule, at, reason: reason.into() }
}

fn unproven(BoundsError { kernel, what }: BoundsError) -> ProgramError {
    error("P7", format!("kernel `{kernel}`"), what)
}

fn stored(port: &Port) -> Option<&PlainTensor> {
    if let Slot::Buffer(stored) = &port.slot { Some(stored) } else { None }
}

/// How many results a step has that may go to slots.
fn results(step: &Step) -> usize {
    if let Step::Host(host) = step { host.results.len() } else { 0 }
}

/// What is done with bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Read,
    Written,
}

/// The first and the last step that names a buffer.
type Life = Option<(usize, usize)>;

struct Check<'a> {
    program: &'a Program,
    /// Which slots have a value.
    slots: Vec<bool>,
    lives: Vec<Life>,
    /// The step or port at hand.
    at: String,
    /// Whether the step at hand is done for each item of a batch.
    repeats: bool,
}

impl Check<'_> {
    fn error<T>(&self, rule: &'static str, reason: impl Into<String>) -> Result<T, ProgramError> {
        Err(error(rule, self.at.clone(), reason))
    }

    fn ports(&mut self, ports: &[Port], step: usize, how: Use) -> Result<(), ProgramError> {
        for port in ports {
            self.at = format!("`{}`", port.name);
            match &port.slot {
                // The caller has written an input.
                Slot::Buffer(s) if how == Use::Written => {
                    let same = self
                        .program
                        .flow
                        .buffers
                        .get(s.at.buf)
                        .is_some_and(|b| matches!(b.place, ArenaPlace::Input(_)));
                    if !same || s.at.offset != 0 {
                        return self.error("P3", "an input does not lie where inputs lie");
                    }
                    self.lives[s.at.buf] = Some((0, 0));
                }
                slot => {
                    self.slot(slot, step, how)?;
                    self.whole(slot)?;
                }
            }
        }
        Ok(())
    }

    /// That what is given of each item is all of an output.
    fn whole(&self, slot: &Slot) -> Result<(), ProgramError> {
        let Slot::Buffer(s) = slot else { return Ok(()) };
        let buffer = &self.program.flow.buffers[s.at.buf];
        let is_output = matches!(buffer.place, ArenaPlace::Output(_)) && s.at.offset == 0;
        if buffer.each && !is_output { self.error("P9", "it does not lie where outputs lie") } else { Ok(()) }
    }

    fn step(&mut self, i: usize, step: &Step) -> Result<(), ProgramError> {
        self.repeats = step.places().iter().any(|at| self.program.flow.buffers.get(at.buf).is_some_and(|b| b.each));
        if self.repeats && matches!(step, Step::Host(_) | Step::Load { .. }) {
            return self.error("P9", "the host takes part in what is done for each item");
        }
        match step {
            Step::Kernel(step) => self.kernel(i, step),
            Step::Host(step) => self.host(i, step),
            Step::Copy { src, dst, bytes } => {
                self.bytes(*src, *bytes, i, Use::Read)?;
                self.bytes(*dst, *bytes, i, Use::Written)
            }
            Step::Arrange(arrange) => {
                let (Some(from), Some(to)) = (arrange.src_bytes(), arrange.dst_bytes()) else {
                    return self.error("P3", "its strides lead out of memory, or are not one for each dim");
                };
                // As many turns as bytes at most, however often the source is repeated.
                if arrange.element_bytes().is_none_or(|bytes| bytes > to) {
                    return self.error("P3", "it writes more elements than its result has room for");
                }
                self.bytes(arrange.src.0, from, i, Use::Read)?;
                self.bytes(arrange.dst.0, to, i, Use::Written)
            }
            Step::Load { value, to, .. } => {
                self.slot(&Slot::Value(*value), i, Use::Read)?;
                self.bytes(to.at, to.bytes(), i, Use::Written)
            }
            Step::Check { indices: checked, .. } | Step::CheckLengths { lengths: checked, .. } => {
                if ![DType::I32, DType::I64].contains(&checked.dtype) {
                    return self.error("P2", format!("it checks {}, which are not i32 or i64", checked.dtype));
                }
                self.bytes(checked.at, checked.bytes(), i, Use::Read)
            }
        }
    }

    fn kernel(&mut self, i: usize, step: &KernelStep) -> Result<(), ProgramError> {
        let Some(kernel) = self.program.kernels.get(step.kernel) else {
            return self.error("P2", format!("there is no kernel {}", step.kernel));
        };
        let same = step.args.len() == kernel.bufs.len()
            && step.tasks == kernel.tasks
            && step.scratch == kernel.scratch_bytes
            && step.point.is_none_or(|p| p < self.program.points.len());
        if !same {
            return self.error("P2", format!("the call does not fit kernel `{}`", kernel.name));
        }
        let before = step.several.windows(2).all(|two| two[0].items > two[1].items);
        if !before || !step.several.iter().all(|several| self.program.does_several(step, several)) {
            return self.error("P9", "a kernel for several items does not fit the one for each");
        }
        for (buf, at) in kernel.bufs.iter().zip(&step.args).filter(|(buf, _)| buf.access == Access::Read) {
            self.bytes(*at, buf.bytes, i, Use::Read)?;
        }
        // A kernel that writes a part of a buffer reads and writes it, as far as it declares.
        for (buf, at) in kernel.bufs.iter().zip(&step.args).filter(|(buf, _)| buf.access != Access::Read) {
            self.bytes(*at, buf.bytes, i, Use::Written)?;
        }
        Ok(())
    }

    fn host(&mut self, i: usize, step: &HostStep) -> Result<(), ProgramError> {
        if step.host >= self.program.hosts.len() {
            return self.error("P2", format!("there is no host op {}", step.host));
        }
        step.operands.iter().flatten().try_for_each(|slot| self.slot(slot, i, Use::Read))?;
        step.results.iter().flatten().try_for_each(|slot| self.slot(slot, i, Use::Written))
    }

    fn slot(&mut self, slot: &Slot, step: usize, how: Use) -> Result<(), ProgramError> {
        match slot {
            Slot::Buffer(stored) => self.bytes(stored.at, stored.bytes(), step, how),
            Slot::Constant(_) if how == Use::Written => self.error("P4", "a constant is written"),
            Slot::Constant(_) => Ok(()),
            Slot::Value(v) => match self.slots.get_mut(*v) {
                None => self.error("P2", format!("there is no slot {v}")),
                Some(false) if how == Use::Read => self.error("P5", format!("slot {v} is empty")),
                Some(has) => {
                    *has = true;
                    Ok(())
                }
            },
        }
    }

    fn bytes(&mut self, at: BufRef, bytes: usize, step: usize, how: Use) -> Result<(), ProgramError> {
        let Some(buffer) = self.program.flow.buffers.get(at.buf) else {
            return self.error("P2", format!("there is no buffer {}", at.buf));
        };
        if at.offset.checked_add(bytes).is_none_or(|end| end > buffer.bytes) {
            let reason =
                format!("{bytes} bytes from {} on of buffer {}, which has {}", at.offset, at.buf, buffer.bytes);
            return self.error("P3", reason);
        }
        let fixed = matches!(buffer.place, ArenaPlace::Constant(_) | ArenaPlace::Input(_));
        if fixed && how == Use::Written {
            return self.error("P4", format!("buffer {}, which is given, is written", at.buf));
        }
        if self.repeats && !buffer.each && how == Use::Written {
            return self.error("P9", format!("buffer {}, which is there once, is written for each item", at.buf));
        }
        match (&mut self.lives[at.buf], how) {
            (Some(life), _) => life.1 = step,
            (life @ None, Use::Written) => *life = Some((step, step)),
            (life @ None, Use::Read) if fixed => *life = Some((step, step)),
            (None, Use::Read) => {
                // Nothing is read of a buffer without bytes.
                if bytes > 0 {
                    return self.error("P5", format!("buffer {} is read before it is written", at.buf));
                }
            }
        }
        Ok(())
    }
}

/// A buffer in the arena that is or was needed.
struct Tenant {
    buffer: BufId,
    end: usize,
    last: usize,
}

/// Checks that buffers of the arena which are needed at once are apart: of those that each item of a batch has, or of
/// the others, which all items need.
fn apart(program: &Program, lives: &[Life], each: bool) -> Result<(), ProgramError> {
    let place = |b: BufId| match program.flow.buffers[b] {
        KernelBuffer { place: ArenaPlace::Arena(begin), bytes, each: own } if bytes > 0 && own == each => {
            Some((begin, begin + bytes))
        }
        _ => None,
    };
    let stays = program.flow.batch.is_some() && !each;
    let mut order: Vec<(usize, usize, BufId)> = Vec::new();
    for (b, life) in lives.iter().enumerate() {
        if let (Some((first, last)), Some(_)) = (*life, place(b)) {
            order.push((first, if stays { usize::MAX } else { last }, b));
        }
    }
    order.sort_unstable();
    // By where they begin: those that were overlapped by a later one are gone.
    let mut tenants: BTreeMap<usize, Tenant> = BTreeMap::new();
    for (first, last, b) in order {
        let Some((begin, end)) = place(b) else { continue };
        let before = tenants.range(..begin).next_back().filter(|(_, t)| t.end > begin).map(|(at, _)| *at);
        let inside = tenants.range(begin..end).map(|(at, _)| *at);
        for at in inside.chain(before).collect::<Vec<_>>() {
            let Some(tenant) = tenants.remove(&at) else { continue };
            let shared = match program.flow.steps.get(first) {
                Some(Step::Kernel(step)) => step.shares() == Some((tenant.buffer, b)),
                _ => false,
            };
            let in_place = shared && tenant.last == first && (at, tenant.end) == (begin, end);
            if tenant.last >= first && !in_place {
                let reason = format!("it overlaps buffer {} in step {first}", tenant.buffer);
                return Err(error("P6", format!("buffer {b}"), reason));
            }
        }
        tenants.insert(begin, Tenant { buffer: b, end, last });
    }
    Ok(())
}
