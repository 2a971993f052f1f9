//! A depthwise convolution that reads what a pointwise one wrote: both as one kernel ([`crate::separable`]).
//!
//! The pointwise convolution has been lowered when the depthwise one is: its step is taken back. Nobody else may read its result.

use optc_ir::Value;
use optc_types::steps::{BufRef, Info, Step};

use super::conv::floats;
use super::report::Decision;
use super::{Lowering, View};
use crate::contract::{Contract, Schedule};
use crate::separable::{Separable, filters, separable};
use crate::window::Window;

/// A contraction that was emitted, and the places of its buffers.
#[derive(Debug)]
pub(super) struct Emitted {
    pub contract: Contract,
    pub a: BufRef,
    pub b: BufRef,
    pub places: Vec<BufRef>,
    pub dst: BufRef,
    pub schedule: Schedule,
    pub loc: Vec<String>,
}

/// A depthwise convolution to be emitted.
pub(super) struct Depthwise<'a> {
    /// What it reads, and where that is.
    pub value: Value,
    pub src: &'a View,
    pub window: &'a Window,
    pub weights: &'a [f32],
    pub places: &'a [BufRef],
    pub dst: BufRef,
    pub loc: &'a [String],
}

impl Lowering {
    /// Emits both convolutions as one kernel, if the one before was lowered last and suits; the report says why they are apart.
    pub(super) fn separable(&mut self, d: &Depthwise) -> bool {
        let together = self.together(d);
        self.apart = together.err();
        together.is_ok()
    }

    fn together(&mut self, d: &Depthwise) -> Result<(), &'static str> {
        let before = self.emitted.take_if(|e| e.dst == d.src.at);
        let before = before.ok_or("what it reads comes from no product")?;
        // A region that reads a value twice, in its epilogue too, is one reader.
        let twice = d.places.iter().any(|at| at.buf == before.dst.buf);
        if self.uses_left.get(&d.value) != Some(&1) || twice {
            return Err("what is between them is read again");
        }
        if !self.steps.last().is_some_and(|step| matches!(step, Step::Kernel(k) if k.args.last() == Some(&before.dst)))
        {
            return Err("something runs between them");
        }
        let tile = (before.schedule.mr, before.schedule.nr);
        let problem = Separable { dense: before.contract, window: d.window.clone(), tile };
        if let Some(why) = problem.declines() {
            return Err(why);
        }
        let cut = problem.cut(&self.target.machine);
        if !problem.pays(cut, &self.target.machine) {
            return Err("each group of channels would read a long source again");
        }
        let kernel =
            separable(&problem, self.target.isa, cut).map_err(|_| "an offset of the first one does not fit")?;
        let of_group = cut.panels * tile.1;
        let filters = floats(&filters(d.weights, problem.window.channels, of_group));
        let filters = filters.map_err(|_| "there is no memory for its weights")?;
        let point = self.take_back();
        let filters = self.add_constant(filters);
        let mut args = vec![before.a, before.b];
        args.extend(before.places);
        args.push(filters);
        args.extend(d.places);
        args.push(d.dst);
        let name = kernel.name.clone();
        let loc: Vec<_> = before.loc.iter().chain(d.loc).cloned().collect();
        let bytes = kernel.bufs.iter().map(|b| b.bytes as f64).sum();
        let schedule = format!("blocks of {} rows by {} panels", cut.rows, cut.panels);
        let outer = std::mem::replace(&mut self.point, point);
        self.kernel(kernel, args, None, Info { loc, flops: problem.flops(), bytes, schedule, ..Info::default() });
        self.point = outer;
        if let Some(report) = self.report.iter_mut().rev().find(|r| r.loc == before.loc) {
            report.decision = Decision::Kernel { names: vec![name] };
        }
        Ok(())
    }

    /// Takes the last step back, a kernel's, and its kernel if no other step runs that. Gives the choice point that made it.
    fn take_back(&mut self) -> Option<usize> {
        let Some(Step::Kernel(last)) = self.steps.pop() else { return None };
        let shared = self.steps.iter().any(|step| matches!(step, Step::Kernel(k) if k.kernel == last.kernel));
        if !shared && last.kernel + 1 == self.kernels.len() {
            self.kernels.pop();
        }
        last.point
    }
}
