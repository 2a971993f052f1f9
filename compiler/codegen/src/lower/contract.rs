//! Matrix products and dense convolutions as contractions: finds the strides, packs constant operands, and hands the
//! epilogue on.

use optc_ir::Encoding;
use optc_ir::ops::{math::MatMul, nn::Gemm};
use optc_runtime::plan::{BufRef, Info};
use optc_tensor::{DType, Tensor};

use super::elementwise::mem_of;
use super::{Declined, Epilogue, Lowered, Lowering, Site, View};
use crate::contract::{Contract, Operand, PackB, Rows, Schedule, contract, pack_b, pack_b_kernel, packed_len};
use crate::cost::Product;
use crate::expr::Expr;
use optc_ir::Value;

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
    pub loc: Vec<String>,
}

impl Lowering {
    /// Emits the kernel of a contraction; `call.contract` has neither operands nor an epilogue yet.
    pub(super) fn contract(&mut self, call: Call, schedule: Option<Schedule>) -> Lowered {
        let Call { contract: mut c, a, b, dst, operands, epilogue, loc } = call;
        let places: Vec<BufRef> = operands.iter().map(|p| p.at).collect();
        c.operands = operands.into_iter().map(|p| p.operand).collect();
        c.epilogue = epilogue;
        let (isa, machine) = (self.target.isa, self.target.machine);
        let schedule = schedule.unwrap_or_else(|| Schedule::choose(&c, isa, &machine));
        let built = contract(&c, isa, schedule).map_err(|e| Declined::new(e.to_string()))?;
        let mut args = vec![a, b];
        if let Some(table) = built.table {
            let table =
                Tensor::from_bytes(DType::U8, &[table.len()], &table).expect("a table of bytes fits its length");
            args.push(self.add_constant(table));
        }
        args.extend(places);
        args.push(dst);
        let flops = 2.0 * c.batch as f64 * c.m as f64 * c.n as f64 * c.k as f64 * c.taps as f64;
        let bytes = (c.a_bytes + 4 * c.batch * c.k * c.n * c.taps + c.c_bytes) as f64;
        self.kernel(built.kernel, args, None, Info { name: String::new(), loc, flops, bytes });
        Ok(())
    }

    /// Packs a constant B: one packed matrix for each of `batch`, which are `stride` elements apart.
    pub(super) fn pack_constant(&mut self, src: &[f32], batch: usize, stride: usize, p: &PackB, nr: usize) -> BufRef {
        let mut packed = Vec::with_capacity(batch * packed_len(p.taps, p.k, p.n, nr));
        for i in 0..batch {
            packed.extend(pack_b(&src[i * stride..], p, nr));
        }
        self.add_constant(Tensor::from_slice(&[packed.len()], &packed).expect("as many elements as its length"))
    }

    pub(super) fn matmul(&mut self, _: &MatMul, site: &Site) -> Lowered {
        let (a, b) = (site.operand(0)?, site.operand(1)?);
        let (av, bt) = (self.view(a)?, self.ty(b)?);
        let b_shape = bt.static_shape().unwrap_or_default();
        if av.shape.len() < 2 || b_shape.len() < 2 {
            return Err(Declined::new("an operand of rank 1"));
        }
        self.product(a, false, b, false, site, site.epilogue.clone())
    }

    pub(super) fn gemm(&mut self, op: &Gemm, site: &Site) -> Lowered {
        let mut epilogue = site.epilogue.clone();
        let mut sum = Expr::Operand(0);
        if op.alpha.0 != 1.0 {
            sum = sum.times(Expr::Const(op.alpha.0));
        }
        if let Some(c) = site.optional(2) {
            let view = self.view(c)?;
            only_f32(&view)?;
            let wide = view.broadcast(&site.result()?.shape);
            epilogue.operands.push(wide.ok_or_else(|| Declined::new("`c` does not broadcast"))?);
            let c = Expr::Operand(epilogue.operands.len());
            sum = sum.plus(if op.beta.0 == 1.0 { c } else { c.times(Expr::Const(op.beta.0)) });
        }
        epilogue.expr = epilogue.expr.with_operand(0, &sum);
        self.product(site.operand(0)?, op.trans_a, site.operand(1)?, op.trans_b, site, epilogue)
    }

    /// `result = epilogue(a · b)` over the last two dims, batches broadcast.
    fn product(&mut self, a: Value, ta: bool, b: Value, tb: bool, site: &Site, epilogue: Epilogue) -> Lowered {
        let dst = site.result()?.clone();
        let mut av = self.view(a)?;
        only_f32(&av)?;
        let width = |v: &View| v.width() as i64;
        if !dst.is(Encoding::Plain) {
            return Err(Declined::new("the result of a product is not laid out plainly"));
        }
        if let (Some(block), false) = (self.block_of(b), ta) {
            return self.sparse_matmul(&av, (b, tb), block, site, epilogue);
        }
        let swap = |v: &mut View| {
            let r = v.shape.len();
            v.shape.swap(r - 2, r - 1);
            v.strides.swap(r - 2, r - 1);
        };
        if ta {
            swap(&mut av);
        }
        let rank = dst.shape.len();
        if av.strides[av.shape.len() - 1] != 1 && av.shape[av.shape.len() - 1] != 1 {
            av = self.plain_copy(&av, &site.loc)?;
        }
        let k = av.shape[av.shape.len() - 1];
        let (m, n) = (dst.shape[rank - 2], dst.shape[rank - 1]);
        let batch: usize = dst.shape[..rank - 2].iter().product();
        if batch * m * n * k == 0 {
            return Err(Declined::new("an empty product"));
        }
        let mut lead = dst.shape[..rank - 2].to_vec();
        lead.extend([m, k]);
        let av = av.broadcast(&lead).ok_or_else(|| Declined::new("batches do not broadcast"))?;
        if let (Some(t), false) = (self.constant(b).filter(|t| t.rank() == 2).cloned(), ta) {
            let weights = t.as_slice::<f32>().unwrap_or(&[]);
            let staged_bytes = if batch * m > 1 { 4 * batch * m * k } else { 0 };
            let product = Product { m: n, k, n: batch * m, staged_bytes };
            match tb {
                true => self.weigh(weights, product, None),
                false => {
                    let rows: Vec<f32> = (0..weights.len()).map(|i| weights[i % k * n + i / k]).collect();
                    self.weigh(&rows, product, None);
                }
            }
        }
        let packed = self.packed(b, tb, &dst.shape[..rank - 2], &site.loc)?;
        let one_b = packed.batch_stride == 0;
        // With one B for all batches, the batches are more rows.
        let rows_of_a = collapse(&dims(&av, 0..rank - 1)).filter(|_| one_b);
        let rows_of = |v: &View| collapse(&dims(v, 0..rank - 1));
        let merged = rows_of_a.is_some() && epilogue.operands.iter().all(|v| rows_of(v).is_some());
        let split = if merged { 0 } else { rank - 2 };
        let strides = |v: &View| -> Option<(i64, i64)> {
            Some((collapse(&dims(v, 0..split))?, collapse(&dims(v, split..rank - 1))?))
        };
        let irregular = || Declined::new("an operand's batches are not regular");
        let av = if strides(&av).is_some() { av } else { self.plain_copy(&av, &site.loc)? };
        let (a_batch, a_row) = strides(&av).ok_or_else(irregular)?;
        let (c_batch, c_row) = strides(&dst).ok_or_else(irregular)?;
        let mut operands = Vec::new();
        for view in &epilogue.operands {
            let view = if strides(view).is_some() { view.clone() } else { self.plain_copy(view, &site.loc)? };
            let (batch_stride, row_stride) = strides(&view).ok_or_else(irregular)?;
            let col_stride = width(&view) * if n == 1 { 0 } else { view.strides[rank - 1] };
            let operand = Operand {
                mem: mem_of(view.dtype)?,
                bytes: view.span_bytes(),
                offset: 0,
                batch_stride: width(&view) * batch_stride,
                row_stride: width(&view) * row_stride,
                col_stride,
            };
            operands.push(Placed { operand, at: view.at });
        }
        let (batch, m) = if merged { (1, batch * m) } else { (batch, m) };
        let contract = Contract {
            a_bytes: av.span_bytes(),
            a_batch_stride: 4 * a_batch,
            rows: Rows::Stride(4 * a_row),
            b_batch_stride: 4 * packed.batch_stride as i64,
            c_mem: mem_of(dst.dtype)?,
            c_bytes: dst.span_bytes(),
            c_batch_stride: width(&dst) * c_batch,
            c_row_stride: width(&dst) * c_row,
            c_col_stride: width(&dst),
            ..Contract::matmul(batch, m, n, k)
        };
        let call = Call {
            contract,
            a: av.at,
            b: packed.at,
            dst: dst.at,
            operands,
            epilogue: epilogue.expr,
            loc: site.loc.clone(),
        };
        self.contract(call, None)
    }

    /// A dense plain copy of a view that is not a value's own.
    pub(super) fn plain_copy(&mut self, view: &View, loc: &[String]) -> Result<View, Declined> {
        let at = self.temp(view.len() * view.width());
        let strides = super::strides_in(&view.shape, Encoding::Plain);
        let copy = View { at, dtype: view.dtype, shape: view.shape.clone(), strides };
        super::movement::copy(self, view, &copy, loc)?;
        Ok(copy)
    }

    /// B in panels: at compile time where it is constant, else by a kernel.
    fn packed(&mut self, b: Value, transposed: bool, lead: &[usize], loc: &[String]) -> Result<Packed, Declined> {
        let nr = self.nr();
        if let Some(t) = self.constant(b).cloned() {
            let src = t.as_slice::<f32>().map_err(|e| Declined::new(e.to_string()))?;
            let r = t.rank();
            let (mut k, mut n) = (t.shape()[r - 2], t.shape()[r - 1]);
            let (mut k_stride, mut n_stride) = (n, 1);
            if transposed {
                (k, n, k_stride, n_stride) = (n, k, 1, n);
            }
            let own: usize = t.shape()[..r - 2].iter().product();
            let batch: usize = lead.iter().product();
            if own != 1 && own != batch {
                return Err(Declined::new("a constant operand broadcasts some of its batches"));
            }
            let p = PackB { taps: 1, k, n, tap_stride: 0, k_stride, n_stride };
            let at = self.pack_constant(src, own, k * n, &p, nr);
            return Ok(Packed { at, batch_stride: if own == 1 { 0 } else { packed_len(1, k, n, nr) } });
        }
        let mut view = self.view(b)?;
        only_f32(&view)?;
        let r = view.shape.len();
        if transposed {
            view.shape.swap(r - 2, r - 1);
            view.strides.swap(r - 2, r - 1);
        }
        let own: usize = view.shape[..r - 2].iter().product();
        let mut wide = lead.to_vec();
        wide.extend(&view.shape[r - 2..]);
        let broadcast = own == 1;
        let from = if broadcast {
            View { shape: view.shape[r - 2..].to_vec(), strides: view.strides[r - 2..].to_vec(), ..view }
        } else {
            view.broadcast(&wide).ok_or_else(|| Declined::new("batches do not broadcast"))?
        };
        let r = from.shape.len();
        let batch: usize = from.shape[..r - 2].iter().product();
        let (from, stride) = match collapse(&dims(&from, 0..r - 2)) {
            Some(stride) => (from, stride),
            None => {
                let dense = self.plain_copy(&from, loc)?;
                (dense, (from.shape[r - 2] * from.shape[r - 1]) as i64)
            }
        };
        let (k, n) = (from.shape[r - 2], from.shape[r - 1]);
        let positive = |s: i64| usize::try_from(s).map_err(|_| Declined::new("a negative stride"));
        let (k_stride, n_stride) = (positive(from.strides[r - 2])?, positive(from.strides[r - 1])?);
        let p = PackB { taps: 1, k, n, tap_stride: 0, k_stride, n_stride };
        let len = packed_len(1, k, n, nr);
        let at = self.temp(4 * batch * len);
        let lanes = self.target.isa.lanes();
        let kernel = pack_b_kernel(batch, from.span_bytes() / 4, positive(stride)?, &p, nr, lanes);
        let info = Info { loc: loc.to_vec(), bytes: 8.0 * (batch * len) as f64, ..Info::default() };
        self.kernel(kernel, vec![from.at, at], None, info);
        Ok(Packed { at, batch_stride: if broadcast { 0 } else { len } })
    }

    /// Columns of a panel.
    pub(super) fn nr(&self) -> usize {
        self.target.isa.contract_f32.1 * self.target.isa.lanes()
    }
}

/// Where a packed B is.
struct Packed {
    at: BufRef,
    /// Elements from one batch to the next, 0 for one that all batches share.
    batch_stride: usize,
}
