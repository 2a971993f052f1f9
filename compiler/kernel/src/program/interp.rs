//! Interprets programs: their kernels by the interpreters of nests and tiles, in the places that the memory plan gave.
//! It is slow, and says on any machine what a program for any target computes.

use std::sync::Arc;

use optc_tensor::{Tensor, TensorError};
use optc_types::steps::{ArenaPlace, BufRef, HostStep, KernelStep, PlainTensor, Port, Slot, Step};
use optc_types::{HostOp, OpError, Val};

use super::Program;
use crate::nest::Access;
use crate::tile::interp::InterpError;

/// Why a program could not be interpreted.
#[derive(Debug, thiserror::Error)]
pub enum InterpretError {
    /// An input is missing, or of another type than the program's.
    #[error("input `{0}` does not fit the program")]
    Input(String),
    /// A kernel reads or writes outside its buffers, or is not well formed.
    #[error("kernel `{name}`: {error}")]
    Kernel {
        /// Its name.
        name: String,
        /// What is wrong.
        error: InterpError,
    },
    /// An op of the host refuses its operands.
    #[error("`{op}`: {error}")]
    Host {
        /// Its name.
        op: String,
        /// Why.
        error: OpError,
    },
    /// A value is read that is not there, or is not what a step expects.
    #[error("a value is not there, or of another type: {0}")]
    Value(String),
    /// An index lies outside of what it addresses.
    #[error("index {0} is outside of an extent of {1}")]
    Index(i64, usize),
    /// A sequence is longer than there are steps, or its length is negative.
    #[error("a length is {0}, expected 0 to {1}")]
    Length(i64, usize),
    /// There is no memory.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// What the buffers and slots hold.
struct Memory<'a> {
    program: &'a Program,
    arena: Vec<u8>,
    inputs: Vec<Option<Tensor>>,
    outputs: Vec<Vec<u8>>,
    values: Vec<Option<Val>>,
}

impl Program {
    /// Runs the program on one value per input; `hosts` are its [host ops](Program::hosts), resolved. Gives one value
    /// per output.
    ///
    /// # Errors
    /// The inputs do not fit, a kernel reaches outside its buffers, or a host op refuses its operands. A program that
    /// does not [verify](Program::verify) may end in any of these.
    pub fn interpret(&self, inputs: &[Val], hosts: &[Arc<dyn HostOp>]) -> Result<Vec<Val>, InterpretError> {
        if self.flow.batch.is_none() {
            return self.interpret_item(inputs, hosts, true);
        }
        let batched =
            |(port, value): (&Port, &Val)| Some(value.as_tensor().filter(|_| self.flow.is_batched(port))?.clone());
        let all: Vec<Option<Tensor>> = self.flow.inputs.iter().zip(inputs).map(batched).collect();
        let mut extents = all.iter().flatten().map(|t| t.shape().first().copied());
        let items = extents.next().flatten().unwrap_or(0);
        if extents.any(|n| n != Some(items)) {
            return Err(InterpretError::Input("a batch".to_owned()));
        }
        // Without an item, what is done once is still done.
        let mut found = vec![];
        for item in 0..items.max(1) {
            let of = |(value, batched): (&Val, &Option<Tensor>)| match batched {
                Some(all) if items > 0 => item_of(all, item),
                Some(_) | None => Ok(value.clone()),
            };
            let inputs = inputs.iter().zip(&all).map(of).collect::<Result<Vec<_>, _>>()?;
            found.push(self.interpret_item(&inputs, hosts, items > 0)?);
        }
        let joined = |(i, port): (usize, &Port)| match (&port.slot, self.flow.is_batched(port)) {
            (Slot::Buffer(s), true) => all_items(s, items, found.iter().filter_map(|outputs| outputs[i].as_tensor())),
            _ => Ok(found[0][i].clone()),
        };
        self.flow.outputs.iter().enumerate().map(joined).collect()
    }

    /// Runs the program on one item, or only what is done once.
    fn interpret_item(
        &self,
        inputs: &[Val],
        hosts: &[Arc<dyn HostOp>],
        repeated: bool,
    ) -> Result<Vec<Val>, InterpretError> {
        let outputs =
            self.flow.outputs.iter().map(|port| vec![0; stored(port).map_or(0, PlainTensor::bytes)]).collect();
        let item_bytes = self.flow.batch.map_or(0, |batch| batch.item_bytes);
        let mut memory = Memory {
            program: self,
            arena: vec![0xa5; self.flow.arena_bytes.saturating_add(item_bytes)],
            inputs: inputs.iter().map(|v| v.as_tensor().cloned()).collect(),
            outputs,
            values: vec![None; self.flow.values],
        };
        memory.take(inputs, repeated)?;
        for step in self.flow.steps.iter().filter(|step| repeated || !self.flow.is_repeated(step)) {
            memory.step(step, hosts)?;
        }
        self.flow.outputs.iter().map(|port| memory.slot(&port.slot)).collect()
    }
}

/// An item of a batch.
fn item_of(all: &Tensor, item: usize) -> Result<Val, InterpretError> {
    let mut shape = all.shape().to_vec();
    let items = shape.first().copied().unwrap_or(0).max(1);
    if let Some(first) = shape.first_mut() {
        *first = 1;
    }
    let bytes = all.bytes().len() / items;
    Ok(Tensor::from_bytes(all.dtype(), &shape, &all.bytes()[item * bytes..][..bytes])?.into())
}

/// The items of an output, side by side.
fn all_items<'a>(of: &PlainTensor, n: usize, items: impl Iterator<Item = &'a Tensor>) -> Result<Val, InterpretError> {
    let mut shape = of.shape.clone();
    if let Some(first) = shape.first_mut() {
        *first = n;
    }
    let bytes: Vec<u8> = items.take(n).flat_map(|t| t.bytes()).copied().collect();
    Ok(Tensor::from_bytes(of.dtype, &shape, &bytes)?.into())
}

fn stored(port: &Port) -> Option<&PlainTensor> {
    if let Slot::Buffer(stored) = &port.slot { Some(stored) } else { None }
}

impl Memory<'_> {
    fn take(&mut self, inputs: &[Val], items: bool) -> Result<(), InterpretError> {
        if self.program.flow.inputs.len() != inputs.len() {
            return Err(InterpretError::Input(format!("{} inputs", inputs.len())));
        }
        for (port, value) in self.program.flow.inputs.iter().zip(inputs) {
            let fits = match &port.slot {
                Slot::Buffer(s) => value.as_tensor().is_some_and(|t| t.dtype() == s.dtype && t.shape() == s.shape),
                Slot::Value(_) | Slot::Constant(_) => port.ty.admits(&value.ty()),
            };
            if !fits && (items || !self.program.flow.is_batched(port)) {
                return Err(InterpretError::Input(port.name.clone()));
            }
            if let Slot::Value(slot) = port.slot {
                self.values[slot] = Some(value.clone());
            }
        }
        Ok(())
    }

    fn step(&mut self, step: &Step, hosts: &[Arc<dyn HostOp>]) -> Result<(), InterpretError> {
        match step {
            Step::Kernel(step) => self.kernel(step),
            Step::Host(step) => self.host(step, hosts),
            Step::Copy { src, dst, bytes } => {
                let moved = self.read(*src, *bytes)?.to_vec();
                self.write(*dst, &moved)
            }
            Step::Arrange(arrange) => {
                let span = |bytes: Option<usize>| bytes.ok_or_else(|| InterpretError::Value("strides".to_owned()));
                let from = self.read(arrange.src.0, span(arrange.src_bytes())?)?.to_vec();
                let mut to = self.read(arrange.dst.0, span(arrange.dst_bytes())?)?.to_vec();
                let width = arrange.width;
                arrange.for_each(|src, dst| to[dst..][..width].copy_from_slice(&from[src..][..width]));
                self.write(arrange.dst.0, &to)
            }
            Step::Load { value, to, .. } => {
                let value = self.values.get(*value).cloned().flatten();
                let value = value.ok_or_else(|| InterpretError::Value("a slot is empty".to_owned()))?;
                self.store(&Slot::Buffer(to.clone()), value)
            }
            Step::Check { indices, extent, .. } => {
                let indices = self.tensor(indices)?.to_i64_vec();
                let range = -(*extent as i64)..*extent as i64;
                let outside = indices.into_iter().find(|i| !range.contains(i));
                outside.map_or(Ok(()), |i| Err(InterpretError::Index(i, *extent)))
            }
            Step::CheckLengths { lengths, most, .. } => {
                let range = 0..=*most as i64;
                let outside = self.tensor(lengths)?.to_i64_vec().into_iter().find(|length| !range.contains(length));
                outside.map_or(Ok(()), |length| Err(InterpretError::Length(length, *most)))
            }
        }
    }

    fn kernel(&mut self, step: &KernelStep) -> Result<(), InterpretError> {
        let program = self.program;
        let kernel = program.kernels.get(step.kernel);
        let kernel = kernel.ok_or_else(|| InterpretError::Value(format!("kernel {}", step.kernel)))?;
        let places = || kernel.bufs.iter().zip(&step.args);
        let buffers = places().map(|(buf, at)| Ok(self.read(*at, buf.bytes)?.to_vec()));
        let mut buffers = buffers.collect::<Result<Vec<_>, InterpretError>>()?;
        let failed = |error| InterpretError::Kernel { name: kernel.name.clone(), error };
        kernel.interpret(&mut buffers).map_err(failed)?;
        // A result may have the place of an operand, which must not come back.
        for ((_, at), bytes) in places().zip(&buffers).filter(|((buf, _), _)| buf.access != Access::Read) {
            self.write(*at, bytes)?;
        }
        Ok(())
    }

    fn host(&mut self, step: &HostStep, hosts: &[Arc<dyn HostOp>]) -> Result<(), InterpretError> {
        let op = hosts.get(step.host).ok_or_else(|| InterpretError::Value(format!("host op {}", step.host)))?;
        let operand = |slot: &Option<Slot>| slot.as_ref().map(|slot| self.slot(slot)).transpose();
        let operands = step.operands.iter().map(operand).collect::<Result<Vec<_>, _>>()?;
        let failed = |error| InterpretError::Host { op: op.name().to_owned(), error };
        for (slot, value) in step.results.iter().zip(op.eval(&operands).map_err(failed)?) {
            if let Some(slot) = slot {
                self.store(slot, value)?;
            }
        }
        Ok(())
    }

    /// The value of a slot.
    fn slot(&self, slot: &Slot) -> Result<Val, InterpretError> {
        match slot {
            Slot::Buffer(stored) => Ok(self.tensor(stored)?.into()),
            Slot::Constant(tensor) => Ok(tensor.clone().into()),
            Slot::Value(v) => {
                let value = self.values.get(*v).cloned().flatten();
                value.ok_or_else(|| InterpretError::Value(format!("slot {v} is empty")))
            }
        }
    }

    fn tensor(&self, stored: &PlainTensor) -> Result<Tensor, InterpretError> {
        Ok(Tensor::from_bytes(stored.dtype, &stored.shape, self.read(stored.at, stored.bytes())?)?)
    }

    fn store(&mut self, slot: &Slot, value: Val) -> Result<(), InterpretError> {
        match (slot, value) {
            (Slot::Value(v), value) => {
                let slot = self.values.get_mut(*v).ok_or_else(|| InterpretError::Value(format!("slot {v}")))?;
                *slot = Some(value);
                Ok(())
            }
            (Slot::Buffer(to), Val::Tensor(t)) if t.dtype() == to.dtype && t.shape() == to.shape => {
                self.write(to.at, t.bytes())
            }
            (_, value) => Err(InterpretError::Value(value.ty().to_string())),
        }
    }

    /// Where a buffer of the arena begins: after what is there once, those of an item.
    fn begin(&self, at: BufRef, begin: usize) -> usize {
        let each = self.program.flow.buffers[at.buf].each;
        if each { begin.saturating_add(self.program.flow.arena_bytes) } else { begin }
    }

    fn read(&self, at: BufRef, bytes: usize) -> Result<&[u8], InterpretError> {
        let all: &[u8] = match self.program.flow.buffers.get(at.buf).map(|b| b.place) {
            Some(ArenaPlace::Arena(begin)) => self.arena.get(self.begin(at, begin)..).unwrap_or_default(),
            Some(ArenaPlace::Constant(i)) => {
                self.program.flow.constants.get(i).map(|c| c.tensor.bytes()).unwrap_or_default()
            }
            Some(ArenaPlace::Input(i)) => {
                self.inputs.get(i).and_then(Option::as_ref).map(Tensor::bytes).unwrap_or_default()
            }
            Some(ArenaPlace::Output(i)) => self.outputs.get(i).map(Vec::as_slice).unwrap_or_default(),
            None => &[],
        };
        let part = at.offset.checked_add(bytes).and_then(|end| all.get(at.offset..end));
        part.ok_or_else(|| InterpretError::Value(format!("bytes of buffer {}", at.buf)))
    }

    fn write(&mut self, at: BufRef, bytes: &[u8]) -> Result<(), InterpretError> {
        let all: &mut [u8] = match self.program.flow.buffers.get(at.buf).map(|b| b.place) {
            Some(ArenaPlace::Arena(begin)) => {
                let begin = self.begin(at, begin);
                self.arena.get_mut(begin..).unwrap_or_default()
            }
            Some(ArenaPlace::Output(i)) => self.outputs.get_mut(i).map(Vec::as_mut_slice).unwrap_or_default(),
            Some(ArenaPlace::Constant(_) | ArenaPlace::Input(_)) | None => &mut [],
        };
        let part = at.offset.checked_add(bytes.len()).and_then(|end| all.get_mut(at.offset..end));
        let part = part.ok_or_else(|| InterpretError::Value(format!("bytes of buffer {} to write", at.buf)))?;
        part.copy_from_slice(bytes);
        Ok(())
    }
}
