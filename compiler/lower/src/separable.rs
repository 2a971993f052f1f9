//! A depthwise convolution that reads what a pointwise one wrote: both as one kernel ([`optc_kernels::separable`]).
//!
//! A product is held back until the node after it is seen: a depthwise convolution that is the only one to read it
//! takes it over.

use optc_ir::Value;
use optc_kernel::program::Decision;
use optc_kernels::contract::{Contract, Schedule};
use optc_kernels::separable::{Separable, filters, separable};
use optc_kernels::window::Window;
use optc_types::steps::{BufRef, Info};

use super::conv::floats;
use super::store::KernelCall;
use super::{Lowering, View};

/// A contraction that waits for the next node, and the places of its buffers.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub contract: Contract,
    pub a: BufRef,
    pub b: BufRef,
    pub places: Vec<BufRef>,
    pub schedule: Schedule,
    /// Its own kernel.
    pub call: KernelCall,
}

impl Held {
    fn dst(&self) -> Option<BufRef> {
        self.call.args.last().copied()
    }
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
        let before = self.held.as_ref().filter(|held| held.dst() == Some(d.src.at));
        let before = before.ok_or("it does not follow the product that it reads")?;
        // A region that reads a value twice, in its epilogue too, is one reader.
        let twice = d.places.iter().any(|at| at.buf == d.src.at.buf);
        if self.uses_left.get(&d.value) != Some(&1) || twice {
            return Err("what is between them is read again");
        }
        let tile = (before.schedule.mr, before.schedule.nr);
        let problem = Separable { dense: before.contract.clone(), window: d.window.clone(), tile };
        if let Some(why) = problem.declines() {
            return Err(why);
        }
        let cut = problem.cut(&self.target.caches);
        if !problem.pays(cut, &self.target.caches) {
            return Err("each group of channels would read a long source again");
        }
        let kernel =
            separable(&problem, self.target.isa, cut).map_err(|_| "an offset of the first one does not fit")?;
        let of_group = cut.panels * tile.1;
        let filters = floats(&filters(d.weights, problem.window.channels, of_group));
        let filters = filters.map_err(|_| "there is no memory for its weights")?;
        let before = self.held.take().ok_or("it does not follow the product that it reads")?;
        let filters = self.add_constant(filters);
        let mut args = vec![before.a, before.b];
        args.extend(before.places);
        args.push(filters);
        args.extend(d.places);
        args.push(d.dst);
        let loc: Vec<_> = before.call.info.loc.iter().chain(d.loc).cloned().collect();
        let bytes = kernel.bufs.iter().map(|b| b.bytes as f64).sum();
        let schedule = format!("blocks of {} rows by {} panels", cut.rows, cut.panels);
        let info = Info { loc, flops: problem.flops(), bytes, schedule, ..Info::default() };
        let call = KernelCall { point: before.call.point, ..self.call(kernel, args, info) };
        if let Some(report) = self.report.iter_mut().rev().find(|r| r.loc == before.call.info.loc) {
            report.decision = Decision::Kernel { names: vec![call.info.name.clone()] };
        }
        self.emit(call);
        Ok(())
    }
}
