//! What all contractions share: their operands' places, packed constants, and the step that runs one.

use optc_ir::Encoding;
use optc_kernel::expr::Expr;
use optc_kernels::contract::{Contract, Operand, PackB, Schedule, contract, pack_b, packed_len};
use optc_tensor::{DType, Tensor};
use optc_types::steps::{BufRef, Info};
use optc_types::{Numbers, Product};

use super::separable::Held;
use super::{Declined, Lowered, Lowering, View};

/// Two dims of extents `outer` and `inner` are one dim when their strides fit. `None` when they do not.
pub(super) fn collapse(dims: &[(usize, i64)]) -> Option<i64> {
    let mut stride = None;
    let mut extent = 1i64;
    for &(n, s) in dims.iter().rev().filter(|(n, _)| *n != 1) {
        match stride {
            None => stride = Some(s),
            Some(inner) if s == inner * extent => {}
            Some(_) => return None,
        }
        extent *= n as i64;
    }
    Some(stride.unwrap_or(0))
}

/// The dims `range` of a view.
pub(super) fn dims(view: &View, range: std::ops::Range<usize>) -> Vec<(usize, i64)> {
    range.map(|d| (view.shape[d], view.strides[d])).collect()
}

/// An operand of the epilogue with its place.
pub(super) struct Placed {
    pub operand: Operand,
    pub at: BufRef,
}

/// Refuses what is not `f32`.
pub(super) fn only_f32(view: &View) -> Result<(), Declined> {
    match view.dtype {
        DType::F32 => Ok(()),
        other => Err(Declined::new(format!("{other} has no contraction kernel"))),
    }
}

/// A contraction, where its operands are, and what it came from.
pub(super) struct Call {
    pub contract: Contract,
    pub a: BufRef,
    pub b: BufRef,
    pub dst: BufRef,
    pub operands: Vec<Placed>,
    pub epilogue: Expr,
    pub schedule: Schedule,
    pub loc: Vec<String>,
}

impl Lowering {
    /// Makes the kernel of a contraction, which is emitted before the next step; `call.contract` has neither operands
    /// nor an epilogue yet.
    pub(super) fn contract(&mut self, call: Call) -> Lowered {
        let Call { contract: mut c, a, b, dst, operands, epilogue, schedule, loc } = call;
        let places: Vec<BufRef> = operands.iter().map(|p| p.at).collect();
        c.operands = operands.into_iter().map(|p| p.operand).collect();
        c.epilogue = epilogue;
        let built = contract(&c, self.target.isa, schedule).map_err(|e| Declined::new(e.to_string()))?;
        let mut args = vec![a, b];
        if let Some(table) = built.table {
            args.push(self.add_constant(Tensor::from_bytes(DType::U8, &[table.len()], &table)?));
        }
        args.extend(places.iter().copied());
        args.push(dst);
        let (batch, k) = (c.batch, c.taps * c.k);
        self.product = Some(Product { batch, inputs: c.a_bytes / 4, ..Product::new(c.m, k, c.n, Numbers::Floats) });
        let flops = 2.0 * c.batch as f64 * c.m as f64 * c.n as f64 * c.k as f64 * c.taps as f64;
        let bytes = (c.a_bytes + 4 * c.batch * c.k * c.n * c.taps + c.c_bytes) as f64;
        let info = Info { loc, flops, bytes, schedule: schedule.to_string(), ..Info::default() };
        let call = self.call(built.kernel, args, info);
        self.hold(Held { contract: c, a, b, places, schedule, call });
        Ok(())
    }

    /// Packs a constant B: one packed matrix for each of `batch`, which are `stride` elements apart.
    ///
    /// # Errors
    /// There is no memory for them.
    pub(super) fn pack_constant(
        &mut self,
        src: &[f32],
        batch: usize,
        stride: usize,
        p: &PackB,
        nr: usize,
    ) -> Result<BufRef, Declined> {
        let len = packed_len(p.taps, p.k, p.n, nr);
        let threads = self.options.threads;
        self.constant_floats(batch * len, |packed| {
            for (i, packed) in packed.chunks_exact_mut(len.max(1)).enumerate() {
                pack_b(&src[i * stride..], p, nr, threads, packed);
            }
        })
    }

    /// A dense plain copy of a view that is not a value's own.
    pub(super) fn plain_copy(&mut self, view: &View, loc: &[String]) -> Result<View, Declined> {
        let at = self.temp(view.len() * view.width());
        let strides = super::strides_in(&view.shape, Encoding::Plain);
        let copy = View { at, dtype: view.dtype, shape: view.shape.clone(), strides };
        super::movement::copy(self, view, &copy, loc)?;
        Ok(copy)
    }

    /// Columns of a panel.
    pub(super) fn nr(&self) -> usize {
        self.target.isa.contract_f32.1 * self.target.isa.lanes()
    }
}
