//! Host steps: ops that are evaluated where their operands and results lie, or else on copies of them.

use std::ops::Range;

use optc_tensor::{Tensor, TensorMut, TensorRef};
use optc_types::{HostOp, OpError, Val};

use super::Executor;
use crate::RunError;
use crate::inputs::{describe, fits};
use crate::plan::{ArenaPlace, HostStep, PlainTensor, Plan, Slot};

impl Executor {
    pub(super) fn host(&mut self, plan: &Plan, step: &HostStep, inputs: &[Val]) -> Result<(), RunError> {
        let op = &*plan.hosts[step.host];
        let failed = |error: OpError| RunError::Op {
            op: op.name().to_owned(),
            loc: step.info.loc.join(", "),
            error: Box::new(error),
        };
        if self.in_place(step, op).map_err(failed)? {
            return Ok(());
        }
        let mut operands = Vec::with_capacity(step.operands.len());
        for slot in &step.operands {
            operands.push(match slot {
                None => None,
                Some(Slot::Buffer(stored)) => Some(self.shared_or_read(plan, stored, inputs)?.into()),
                Some(Slot::Value(v)) => self.values[*v].clone(),
                Some(Slot::Constant(t)) => Some(t.clone().into()),
            });
        }
        let results = op.eval(&operands).map_err(failed)?;
        for (slot, value) in step.results.iter().zip(results) {
            match slot {
                None | Some(Slot::Constant(_)) => {}
                Some(Slot::Value(v)) => self.values[*v] = Some(value),
                Some(Slot::Buffer(to)) => match &value {
                    Val::Tensor(t) if fits(t, to) => self.write(t, to),
                    other => {
                        let reason = format!("the result is {}, expected {}", other.ty(), describe(to));
                        return Err(failed(OpError::Constraint { constraint: "type", reason }));
                    }
                },
            }
        }
        Ok(())
    }

    /// The tensor in a buffer: the input or the constant that it is, where it is a whole one, else a copy.
    fn shared_or_read(&self, plan: &Plan, stored: &PlainTensor, inputs: &[Val]) -> Result<Tensor, RunError> {
        let whole = match plan.flow.buffers[stored.at.buf].place {
            ArenaPlace::Input(i) => inputs[i].as_tensor(),
            ArenaPlace::Constant(i) => Some(&plan.flow.constants[i].tensor),
            ArenaPlace::Arena(_) | ArenaPlace::Output(_) => None,
        };
        match whole.filter(|t| stored.at.offset == 0 && fits(t, stored)) {
            Some(tensor) => Ok(tensor.clone()),
            None => self.read(stored),
        }
    }

    /// Evaluates an op on the bytes of its operands and results, where all of these are tensors that lie somewhere;
    /// whether it could.
    fn in_place(&self, step: &HostStep, op: &dyn HostOp) -> Result<bool, OpError> {
        let mut operands = Vec::with_capacity(step.operands.len());
        for slot in &step.operands {
            let view = match slot {
                None => None,
                Some(Slot::Buffer(stored)) => self.borrowed(stored),
                Some(Slot::Value(v)) => self.values[*v].as_ref().and_then(Val::as_tensor).and_then(Tensor::view),
                Some(Slot::Constant(t)) => t.view(),
            };
            if view.is_none() && slot.is_some() {
                return Ok(false);
            }
            operands.push(view);
        }
        let stored =
            |slot: &Option<Slot>| if let Some(Slot::Buffer(stored)) = slot { Some(self.range(stored)) } else { None };
        let read: Vec<Range<usize>> = step.operands.iter().filter_map(stored).collect();
        let written: Vec<Range<usize>> = step.results.iter().filter_map(stored).collect();
        if !are_apart(&read, &written) {
            return Ok(false);
        }
        let mut results = Vec::with_capacity(step.results.len());
        for slot in &step.results {
            let Some(Slot::Buffer(to)) = slot else { return Ok(false) };
            let bytes = match to.bytes() {
                0 => &mut [],
                // SAFETY: the buffer holds a tensor of this dtype and shape (checked when the plan was made) at an
                // address of live memory (see `place`), all of which was written when it was made. The bytes are apart
                // from those of all operands and of the other results, and nobody else uses them during the call.
                bytes => unsafe { std::slice::from_raw_parts_mut(self.address(to.at), bytes) },
            };
            let Some(view) = TensorMut::new(to.dtype, &to.shape, bytes) else { return Ok(false) };
            results.push(view);
        }
        op.eval_into(&operands, &mut results)
    }

    /// The tensor in a buffer, where its elements are aligned.
    fn borrowed<'a>(&'a self, stored: &'a PlainTensor) -> Option<TensorRef<'a>> {
        let bytes = match stored.bytes() {
            0 => &[],
            // SAFETY: the buffer holds a tensor of this dtype and shape (checked when the plan was made) at an address
            // of live memory (see `place`), all of which was written when it was made; no step runs meanwhile, and the
            // one that asks writes no byte of it (`are_apart`).
            bytes => unsafe { std::slice::from_raw_parts(self.address(stored.at).cast_const(), bytes) },
        };
        TensorRef::new(stored.dtype, &stored.shape, bytes)
    }

    /// The addresses of a tensor in a buffer.
    fn range(&self, stored: &PlainTensor) -> Range<usize> {
        let begin = self.address(stored.at).addr();
        begin..begin + stored.bytes()
    }
}

/// Whether what is written is neither read nor written twice.
fn are_apart(read: &[Range<usize>], written: &[Range<usize>]) -> bool {
    let meet = |a: &Range<usize>, b: &Range<usize>| a.start.max(b.start) < a.end.min(b.end);
    written.iter().enumerate().all(|(i, to)| !read.iter().chain(&written[..i]).any(|other| meet(to, other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_read_or_written_elsewhere_are_not_apart() {
        assert!(are_apart(&[0..4, 0..4], &[4..8, 8..9]), "operands may be one");
        assert!(are_apart(&[4..4, 8..9], &[0..8, 9..9]), "an empty tensor has no bytes");
        assert!(!are_apart(&[0..4, 5..6], &[3..5, 6..7]), "a result over an operand");
        assert!(!are_apart(&[], &[0..4, 2..3]), "a result over another one");
    }
}
