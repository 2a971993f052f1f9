//! Attention: two products with a softmax between them.
//!
//! ```text
//! scores = cap(scale · q·kᵀ) + mask; probabilities = softmax(scores); y = probabilities · v
//! ```
//!
//! One kernel does all of it, a block of queries at a time ([`optc_kernels::attention`]). Scale, cap and mask are the
//! epilogue of the first product. Heads of `q` that share one of `k` are more rows of its matrix.

use optc_ir::Encoding;
use optc_ir::ops::nn::{Attention, AttentionScores};
use optc_kernel::expr::{Expr, Func};
use optc_kernel::tile::MemType;
use optc_kernels::attention::{self, HeadMatrices};
use optc_kernels::contract::Operand;
use optc_tensor::{DType, Tensor};
use optc_types::ReasonCode;
use optc_types::steps::StepInfo;

use super::contract::nr;
use super::cx::Cx;
use super::matmul::{Strides, packed, regular, strides, turned};
use super::moves::plain_copy;
use super::operands::only_f32;
use super::weights::Right;
use super::{Declined, Epilogue, Lowered, Site, TensorView, elementwise, room, strides_in};

/// Extents of an attention.
struct Sizes {
    batch: usize,
    heads: usize,
    shared: usize,
    queries: usize,
    keys: usize,
}

impl Sizes {
    /// The matrices that one head of `k` sees: `[batch, heads of k, rows, columns]`.
    fn matrices(&self, columns: usize) -> [usize; 4] {
        [self.batch, self.shared, self.heads / self.shared * self.queries, columns]
    }
}

fn matrices(view: &TensorView, of: &Strides) -> HeadMatrices {
    HeadMatrices { bytes: view.span_bytes(), head_stride: 4 * of.batch, row_stride: 4 * of.row }
}

pub(super) fn attention(cx: &mut Cx, op: &Attention, site: &Site) -> Lowered {
    site.without_epilogue()?;
    if op.scores != AttentionScores::Absent {
        return Err(Declined::new(ReasonCode::Attribute, "its kernels do not give the scores"));
    }
    if site.optional(4).or(site.optional(5)).is_some() {
        return Err(Declined::new(ReasonCode::OpenShape, "lengths and offsets depend on data"));
    }
    let [q, k, v] = [0, 1, 2].map(|slot| site.operand(slot).and_then(|value| cx.view(value)));
    let (q, k, v, dst) = (q?, k?, v?, site.result()?.clone());
    [&q, &k, &v, &dst].into_iter().try_for_each(only_f32)?;
    let sizes =
        Sizes { batch: q.shape[0], heads: q.shape[1], shared: k.shape[1], queries: q.shape[2], keys: k.shape[2] };
    if [&q, &k, &v].into_iter().any(TensorView::is_empty) || !dst.is(Encoding::Plain) {
        return Err(Declined::new(ReasonCode::Empty, "it is empty, or the result is not laid out plainly"));
    }
    let loc = &site.loc;
    let scale = if op.scale.0 == 0.0 { 1.0 / (q.shape[3] as f32).sqrt() } else { op.scale.0 };
    let epilogue = score(cx, op, scale, &sizes, site)?;
    let size = q.shape[3];
    let a = grouped(cx, q, &sizes, size, loc)?;
    let dst = dst
        .reshaped(&sizes.matrices(v.shape[3]))
        .ok_or_else(|| Declined::new(ReasonCode::Layout, "the heads are not regular"))?;
    attend(cx, &sizes, [a, k, v, dst], epilogue, loc)
}

/// Emits the kernel for `[q, k, v, y]`, with the heads of `q` and `y` grouped.
fn attend(cx: &mut Cx, sizes: &Sizes, [q, k, v, dst]: [TensorView; 4], score: Epilogue, loc: &[String]) -> Lowered {
    let lead = [sizes.batch, sizes.shared];
    let (size, width) = (q.shape[3], v.shape[3]);
    let q = if q.strides[3] == 1 { q } else { plain_copy(cx, &q, loc)? };
    let (q, of_q) = regular(cx, q, 2, loc)?;
    let of_dst = strides(&dst, 2).ok_or_else(|| Declined::new(ReasonCode::Layout, "the heads are not regular"))?;
    let nr = nr(cx);
    let keys = packed(cx, Right::View(turned(k)), &lead, nr, loc)?;
    let values = packed(cx, Right::View(v), &lead, nr, loc)?;
    let mut problem = attention::AttentionNest {
        heads: sizes.batch * sizes.shared,
        queries: sizes.heads / sizes.shared * sizes.queries,
        keys: sizes.keys,
        size,
        width,
        q: matrices(&q, &of_q),
        packed_strides: [&keys, &values].map(|p| 4 * p.batch_stride as i64),
        operands: Vec::new(),
        score: score.expr,
        dst: matrices(&dst, &of_dst),
    };
    let mut args = vec![q.at, keys.at, values.at];
    for view in score.operands {
        let (view, of) = regular(cx, view, 2, loc)?;
        problem.operands.push(Operand {
            mem: MemType::F32,
            bytes: view.span_bytes(),
            offset: 0,
            batch_stride: 4 * of.batch,
            row_stride: 4 * of.row,
            col_stride: if sizes.keys == 1 { 0 } else { 4 * view.strides[3] },
        });
        args.push(view.at);
    }
    args.push(dst.at);
    let kernel = attention::attention(&problem, cx.target.isa, &cx.target.caches);
    let kernel = kernel.map_err(|e| Declined::new(ReasonCode::Shape, e.to_string()))?;
    let bytes = kernel.bufs.iter().map(|b| b.bytes as f64).sum();
    let info = StepInfo { loc: loc.to_vec(), flops: problem.flops(), bytes, ..StepInfo::default() };
    cx.kernel(kernel, args, None, info);
    Ok(())
}

/// `[batch, heads, queries, columns]` with the heads that share one of `k` as rows of one matrix.
fn grouped(
    cx: &mut Cx,
    view: TensorView,
    sizes: &Sizes,
    columns: usize,
    loc: &[String],
) -> Result<TensorView, Declined> {
    let shape = sizes.matrices(columns);
    if sizes.heads == sizes.shared {
        return Ok(view);
    }
    if let Some(view) = view.reshaped(&shape) {
        return Ok(view);
    }
    let copy = plain_copy(cx, &view, loc)?;
    copy.reshaped(&shape).ok_or_else(|| Declined::new(ReasonCode::Layout, "the heads are not regular"))
}

/// What becomes of a product of `q` and `k`.
fn score(cx: &mut Cx, op: &Attention, scale: f32, sizes: &Sizes, site: &Site) -> Result<Epilogue, Declined> {
    let mut expr = Expr::Operand(0).times(Expr::Const(scale));
    if op.softcap.0 != 0.0 {
        let cap = || Expr::Const(op.softcap.0);
        expr = expr.over(cap()).func(Func::Tanh).times(cap());
    }
    let mut biases = Vec::new();
    if let Some(mask) = site.optional(3) {
        let mask = cx.view(mask)?;
        biases.push(if mask.dtype == DType::Bool { bias_of(cx, &mask, &site.loc)? } else { mask });
    }
    if op.causal || op.left >= 0 || op.right >= 0 {
        biases.push(positions(cx, op, sizes)?);
    }
    let mut operands = Vec::new();
    for bias in biases {
        only_f32(&bias)?;
        let wide = bias.broadcast(&[sizes.batch, sizes.heads, sizes.queries, sizes.keys]);
        let wide = wide.ok_or_else(|| Declined::new(ReasonCode::Shape, "the mask is shorter than the keys"))?;
        operands.push(grouped(cx, wide, sizes, sizes.keys, &site.loc)?);
        expr = expr.plus(Expr::Operand(operands.len()));
    }
    Ok(Epilogue { expr, operands })
}

/// What a boolean mask adds: nothing, or minus infinity.
fn bias_of(cx: &mut Cx, mask: &TensorView, loc: &[String]) -> Result<TensorView, Declined> {
    let strides = strides_in(&mask.shape, Encoding::Plain);
    let bias = TensorView { at: cx.temp(4 * mask.len()), dtype: DType::F32, shape: mask.shape.clone(), strides };
    let expr = Expr::Operand(0).mask().select(Expr::Const(0.0), Expr::Const(f32::NEG_INFINITY));
    elementwise::elementwise(cx, &expr, std::slice::from_ref(mask), &bias, loc)?;
    Ok(bias)
}

/// What the positions of queries and keys add.
fn positions(cx: &mut Cx, op: &Attention, sizes: &Sizes) -> Result<TensorView, Declined> {
    let shape = vec![sizes.queries, sizes.keys];
    let bias = |i: usize, j: usize| if op.sees(i as i64, j as i64) { 0.0 } else { f32::NEG_INFINITY };
    let _room = room(4 * sizes.queries * sizes.keys)?;
    let all: Vec<f32> = (0..sizes.queries).flat_map(|i| (0..sizes.keys).map(move |j| bias(i, j))).collect();
    let at = cx.add_constant("which keys a query sees", Tensor::from_slice(&shape, &all)?);
    Ok(TensorView { at, dtype: DType::F32, strides: strides_in(&shape, Encoding::Plain), shape })
}
