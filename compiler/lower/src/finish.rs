//! The end of a lowering: outputs and the memory plan.

use optc_ir::{Encoding, Value};
use optc_kernel::program::Program;
use optc_types::steps::{ArenaPlace, Flow, PlainTensor, Port, Slot, Step};

use super::builder::ProgramBuilder;
use super::moves::view_in;
use super::places::{Loc, stored};
use super::{Declined, LowerError, Lowering, TensorView, arrange};

impl Lowering {
    /// Plans the memory.
    pub(super) fn finish(mut self) -> Result<Program, LowerError> {
        let outputs = self.outputs()?;
        self.out.emit_held();
        let ProgramBuilder { buffers, arena: arena_bytes, constants, steps, kernels, hosts, values, points, .. } =
            self.out;
        let mut program = Program {
            target: self.target,
            flow: Flow { inputs: self.inputs, outputs, buffers, constants, arena_bytes, batch: None, values, steps },
            kernels: kernels.into_iter().collect(),
            hosts,
            bodies: vec![],
            report: self.report,
            points,
        };
        program.compact();
        if let Some(batch) = &self.options.batch {
            program.for_batch(&batch.inputs, &batch.outputs)?;
        }
        if !self.options.draft {
            arrange::kernels(&mut program);
            program.plan_memory();
        }
        debug_assert_eq!(program.verify(), Ok(()));
        Ok(program)
    }

    pub(super) fn outputs(&mut self) -> Result<Vec<Port>, LowerError> {
        let mut ports = Vec::new();
        for (i, output) in self.graph.outputs.clone().into_iter().enumerate() {
            let ty = self.graph.ty(output.value).clone();
            let slot = match self.places.get(output.value).cloned() {
                Some(Loc::Constant(t)) => Slot::Constant(t),
                Some(Loc::Slot(v)) => Slot::Value(v),
                Some(Loc::View(view)) => Slot::Buffer(self.output(i, output.value, &view)?),
                None => return Err(LowerError::Graph(format!("output `{}` is not defined", output.name))),
            };
            ports.push(Port { name: output.name, ty, slot });
        }
        Ok(ports)
    }

    /// Lets a value be output `i`: its own buffer where nothing else lies there, else a copy.
    fn output(&mut self, i: usize, value: Value, view: &TensorView) -> Result<PlainTensor, LowerError> {
        let buffer = &mut self.out.buffers[view.at.buf];
        let movable = matches!(buffer.place, ArenaPlace::Arena(_));
        if movable && view.at.offset == 0 && buffer.bytes == view.span_bytes() && view.is(Encoding::Plain) {
            buffer.place = ArenaPlace::Output(i);
            return Ok(stored(view));
        }
        let plain = view_in(&mut self.cx(""), value, Encoding::Plain)
            .map_err(|Declined(why)| LowerError::Graph(why.sentence))?;
        let dst = self.out.buffer(plain.span_bytes(), ArenaPlace::Output(i));
        self.out.step(Step::Copy { src: plain.at, dst, bytes: plain.span_bytes() });
        Ok(PlainTensor { at: dst, dtype: plain.dtype, shape: plain.shape })
    }
}
