//! What all contractions share: their operands' places, packed constants, and the step that runs one.

use std::borrow::Cow;

use optc_kernel::expr::Expr;
use optc_kernel::target::Emitter;
use optc_kernel::tile::MemType;
use optc_kernels::contract::{self as kernels, Contract, ContractSchedule, PackB, pack_b, packed_len};
use optc_tensor::{DType, Tensor, bf16, f16};
use optc_types::steps::{ArenaPlace, BufRef, StepInfo};
use optc_types::{Numbers, Product, ReasonCode};

use super::builder::{Held, KernelCall};
use super::cx::Cx;
use super::operands::Placed;
use super::{Declined, Lowered, room, several};

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
    let weights = match c.scaled {
        Some(_) => c.b_bytes(cx.target.isa.lanes()),
        None => c.b_mem.bytes() as usize * c.batch * c.k * c.n * c.taps,
    };
    let bytes = (c.a_bytes + weights + c.c_bytes) as f64;
    let info = StepInfo { loc, flops, bytes, schedule: schedule.to_string(), ..StepInfo::default() };
    let is_constant = |at: &BufRef| matches!(cx.out.buffers[at.buf].place, ArenaPlace::Constant(_));
    let constant: Vec<bool> = places.iter().map(is_constant).collect();
    let several = if cx.batch { several::kernels(&cx.target, &c, &constant, schedule) } else { vec![] };
    let call = KernelCall { several, ..cx.call(built.kernel, args, info) };
    cx.out.hold(Held { contract: c, a, b, places, schedule, call });
    Ok(())
}

/// Packs a constant B of one tap as `mem`: one packed matrix for each of `batch`, which are `stride` elements apart.
///
/// # Errors
/// There is no memory for them.
pub(super) fn pack_constant(
    cx: &mut Cx,
    of: &Tensor,
    (batch, stride): (usize, usize),
    p: &PackB,
    mem: MemType,
) -> Result<BufRef, Declined> {
    let (lanes, threads) = (cx.target.isa.lanes(), cx.threads);
    let len = packed_len(p.taps, p.k, p.n, lanes);
    let apart = [p.k_stride, p.n_stride].map(|stride| stride.to_string()).join(" and ");
    let recipe = format!("operand 1, {batch} x {} x {}, {apart} apart, in strips of {lanes}", p.k, p.n);
    fn each<T>(src: &[T], stride: usize, len: usize, packed: &mut [T], pack: impl Fn(&[T], &mut [T])) {
        packed.chunks_exact_mut(len.max(1)).enumerate().for_each(|(i, packed)| pack(&src[i * stride..], packed));
    }
    let strips = Strips { of, recipe, len: batch * len, mem };
    strips.add(
        cx,
        || Ok(Cow::Borrowed(of.as_slice()?)),
        |src, packed| each(src, stride, len, packed, |src, packed| pack_b(src, p, lanes, threads, packed)),
        |src, packed| each(src, stride, len, packed, |src, packed| pack_b(src, p, lanes, threads, packed)),
    )
}

/// Constant strips to be made: of which constant, by which recipe, how many elements, and of which kind.
pub(super) struct Strips<'a> {
    pub of: &'a Tensor,
    pub recipe: String,
    pub len: usize,
    pub mem: MemType,
}

impl Strips<'_> {
    /// Adds them, packed from what `take` gives by `floats`, or from the bits of its halves by `halves`.
    ///
    /// # Errors
    /// There is no memory for them.
    pub fn add<'w>(
        self,
        cx: &mut Cx,
        take: impl FnOnce() -> Result<Cow<'w, [f32]>, Declined>,
        floats: impl FnOnce(&[f32], &mut [f32]),
        halves: impl FnOnce(&[u16], &mut [u16]),
    ) -> Result<BufRef, Declined> {
        let Strips { of, recipe, len, mem } = self;
        let bits: fn(&f32) -> u16 = match mem {
            MemType::Bf16 => |&w| bf16::from_f32(w).to_bits(),
            MemType::F16 => |&w| f16::from_f32(w).to_bits(),
            _ => {
                return cx.packed(&[of], recipe, || {
                    let mut packed = Tensor::zeros(DType::F32, &[len])?;
                    floats(&take()?, packed.as_mut_slice()?);
                    Ok(packed)
                });
            }
        };
        cx.packed(&[of], format!("{recipe}, as {}", mem.word()), || {
            let src = take()?;
            let _claim = room(2 * src.len())?;
            let src: Vec<u16> = src.iter().map(bits).collect();
            let mut packed = Tensor::zeros(DType::U16, &[len])?;
            halves(&src, packed.as_mut_slice()?);
            Ok(packed)
        })
    }
}

/// Fewer weights than this are not worth widening: a load of `f32` is part of the instruction that multiplies.
const FEW: usize = 1 << 10;

/// As what the strips of a constant are kept: as halves where each of many weights is one, and the row has an
/// instruction that widens them. It follows from the constant and the row alone, so that all who read it agree.
///
/// # Errors
/// The constant is not of `f32`.
pub(super) fn strip_mem(cx: &Cx, of: &Tensor) -> Result<MemType, Declined> {
    let weights = of.as_slice::<f32>()?;
    if weights.len() < FEW || cx.target.isa.emitter != Emitter::X86 {
        return Ok(MemType::F32);
    }
    let all = |exact: fn(f32) -> f32| weights.iter().all(|&w| exact(w).to_bits() == w.to_bits());
    let are = |what, exact| cx.facts.number(&[of], what, || f64::from(u8::from(all(exact)))) > 0.0;
    Ok(if are("are bfloat16", |w| bf16::from_f32(w).to_f32()) {
        MemType::Bf16
    } else if are("are f16", |w| f16::from_f32(w).to_f32()) {
        MemType::F16
    } else {
        MemType::F32
    })
}

/// Columns of a panel.
pub(super) fn nr(cx: &Cx) -> usize {
    cx.target.isa.contract_f32.1 * cx.target.isa.lanes()
}
