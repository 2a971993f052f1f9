//! A depthwise convolution that reads what a pointwise one wrote: both as one kernel ([`optc_kernels::separable`]).
//!
//! A product is held back until the node after it is seen: a depthwise convolution that is the only one to read it
//! takes it over.

use optc_ir::Value;
use optc_kernels::separable::{self as kernels, Separable};
use optc_kernels::window::WindowNest;
use optc_tensor::Tensor;
use optc_types::steps::{BufRef, StepInfo};

use super::TensorView;
use super::builder::KernelCall;
use super::cx::Cx;
use super::operands::floats;

/// A depthwise convolution to be emitted.
pub(super) struct Depthwise<'a> {
    /// What it reads, and where that is.
    pub value: Value,
    pub src: &'a TensorView,
    pub window: &'a WindowNest,
    pub weights: &'a Tensor,
    pub places: &'a [BufRef],
    pub dst: BufRef,
    pub loc: &'a [String],
}

/// Emits both convolutions as one kernel, if the one before was lowered last and suits; the report says why they are
/// apart.
pub(super) fn separable(cx: &mut Cx, d: &Depthwise) -> bool {
    let together = together(cx, d);
    cx.notes.apart = together.err();
    together.is_ok()
}

fn together(cx: &mut Cx, d: &Depthwise) -> Result<(), &'static str> {
    let before = cx.out.held.as_ref().filter(|held| held.dst() == Some(d.src.at));
    let before = before.ok_or("it does not follow the product that it reads")?;
    // A region that reads a value twice, in its epilogue too, is one reader.
    let twice = d.places.iter().any(|at| at.buf == d.src.at.buf);
    if !cx.places.is_read_once(d.value) || twice {
        return Err("what is between them is read again");
    }
    let tile = (before.schedule.mr, before.schedule.nr);
    let problem = Separable { dense: before.contract.clone(), window: d.window.clone(), tile };
    if let Some(why) = problem.declines() {
        return Err(why);
    }
    let cut = problem.cut(&cx.target.caches);
    if !problem.pays(cut, &cx.target.caches) {
        return Err("each group of channels would read a long source again");
    }
    let kernel =
        kernels::separable(&problem, cx.target.isa, cut).map_err(|_| "an offset of the first one does not fit")?;
    let of_group = cut.panels * tile.1;
    let recipe = format!("operand 1, channels last in groups of {of_group}");
    let filters = cx.packed(&[d.weights], recipe, || {
        Ok(floats(&kernels::filters(d.weights.as_slice()?, problem.window.channels, of_group))?)
    });
    let filters = filters.map_err(|_| "there is no memory for its weights")?;
    let before = cx.out.held.take().ok_or("it does not follow the product that it reads")?;
    let mut args = vec![before.a, before.b];
    args.extend(before.places);
    args.push(filters);
    args.extend(d.places);
    args.push(d.dst);
    let loc: Vec<_> = before.call.info.loc.iter().chain(d.loc).cloned().collect();
    let bytes = kernel.bufs.iter().map(|b| b.bytes as f64).sum();
    let schedule = format!("blocks of {} rows by {} panels", cut.rows, cut.panels);
    let info = StepInfo { loc, flops: problem.flops(), bytes, schedule, ..StepInfo::default() };
    let call = KernelCall { point: before.call.point, ..cx.call(kernel, args, info) };
    cx.notes.joined = Some((before.call.info.loc, call.info.name.clone()));
    cx.out.emit(call);
    Ok(())
}
