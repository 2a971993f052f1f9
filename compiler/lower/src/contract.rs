//! What all contractions share: their operands' places, packed constants, and the step that runs one.

use optc_kernel::expr::Expr;
use optc_kernels::contract::{self as kernels, Contract, ContractSchedule, PackB, pack_b, packed_len};
use optc_tensor::{DType, Tensor};
use optc_types::steps::{ArenaPlace, BufRef, StepInfo};
use optc_types::{Numbers, Product, ReasonCode};

use super::builder::{Held, KernelCall};
use super::cx::Cx;
use super::operands::Placed;
use super::{Declined, Lowered, several};

/// A contraction, where its operands are, and what it came from.
pub(super) struct ContractCall {
    pub contract: Contract,
    pub a: BufRef,
    pub b: BufRef,
    pub dst: BufRef,
    pub operands: Vec<Placed>,
    pub epilogue: Expr,
    pub schedule: ContractSchedule,
    pub loc: Vec<String>,
}

/// Makes the kernel of a contraction, which is emitted before the next step; `call.contract` has neither operands
/// nor an epilogue yet.
pub(super) fn contraction(cx: &mut Cx, call: ContractCall) -> Lowered {
    let ContractCall { contract: mut c, a, b, dst, operands, epilogue, schedule, loc } = call;
    let places: Vec<BufRef> = operands.iter().map(|p| p.at).collect();
    c.operands = operands.into_iter().map(|p| p.operand).collect();
    c.epilogue = epilogue;
    let built =
        kernels::contract(&c, cx.target.isa, schedule).map_err(|e| Declined::new(ReasonCode::Shape, e.to_string()))?;
    let mut args = vec![a, b];
    if let Some(table) = built.table {
        args.push(cx.add_constant("offsets of taps", Tensor::from_bytes(DType::U8, &[table.len()], &table)?));
    }
    args.extend(places.iter().copied());
    args.push(dst);
    let (batch, k) = (c.batch, c.taps * c.k);
    cx.notes.product = Some(Product { batch, inputs: c.a_bytes / 4, ..Product::new(c.m, k, c.n, Numbers::Floats) });
    let flops = 2.0 * c.batch as f64 * c.m as f64 * c.n as f64 * c.k as f64 * c.taps as f64;
    let bytes = (c.a_bytes + 4 * c.batch * c.k * c.n * c.taps + c.c_bytes) as f64;
    let info = StepInfo { loc, flops, bytes, schedule: schedule.to_string(), ..StepInfo::default() };
    let is_constant = |at: &BufRef| matches!(cx.out.buffers[at.buf].place, ArenaPlace::Constant(_));
    let constant: Vec<bool> = places.iter().map(is_constant).collect();
    let several = if cx.batch { several::kernels(&cx.target, &c, &constant, schedule) } else { vec![] };
    let call = KernelCall { several, ..cx.call(built.kernel, args, info) };
    cx.out.hold(Held { contract: c, a, b, places, schedule, call });
    Ok(())
}

/// Packs a constant B of one tap: one packed matrix for each of `batch`, which are `stride` elements apart.
///
/// # Errors
/// There is no memory for them.
pub(super) fn pack_constant(
    cx: &mut Cx,
    of: &Tensor,
    batch: usize,
    stride: usize,
    p: &PackB,
) -> Result<BufRef, Declined> {
    let src = of.as_slice::<f32>()?;
    let (lanes, threads) = (cx.target.isa.lanes(), cx.threads);
    let len = packed_len(p.taps, p.k, p.n, lanes);
    let apart = [p.k_stride, p.n_stride].map(|stride| stride.to_string()).join(" and ");
    let recipe = format!("operand 1, {batch} x {} x {}, {apart} apart, in strips of {lanes}", p.k, p.n);
    cx.packed_floats(&[of], recipe, batch * len, |packed| {
        for (i, packed) in packed.chunks_exact_mut(len.max(1)).enumerate() {
            pack_b(&src[i * stride..], p, lanes, threads, packed);
        }
    })
}

/// Columns of a panel.
pub(super) fn nr(cx: &Cx) -> usize {
    cx.target.isa.contract_f32.1 * cx.target.isa.lanes()
}
