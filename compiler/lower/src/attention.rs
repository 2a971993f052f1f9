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
    let positions = [4, 5].map(|slot| integers(cx, site, slot));
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
    let [lengths, offset] = positions;
    let seen = Seen { op, lengths: lengths?, offset: offset?.and_then(|list| list.first().copied()) };
    let epilogue = score(cx, &seen, scale, &sizes, site)?;
    let size = q.shape[3];
    let a = grouped(cx, q, &sizes, size, loc)?;
    let dst = dst
        .reshaped(&sizes.matrices(v.shape[3]))
        .ok_or_else(|| Declined::new(ReasonCode::Layout, "the heads are not regular"))?;
    attend(cx, &sizes, [a, k, v, dst], epilogue, op.formula, loc)
}

/// Emits the kernel for `[q, k, v, y]`, with the heads of `q` and `y` grouped.
fn attend(
    cx: &mut Cx,
    sizes: &Sizes,
    [q, k, v, dst]: [TensorView; 4],
    score: Epilogue,
    formula: bool,
    loc: &[String],
) -> Lowered {
    let lead = [sizes.batch, sizes.shared];
    let (size, width) = (q.shape[3], v.shape[3]);
    let q = if q.strides[3] == 1 { q } else { plain_copy(cx, &q, loc)? };
    let (q, of_q) = regular(cx, q, 2, loc)?;
    let of_dst = strides(&dst, 2).ok_or_else(|| Declined::new(ReasonCode::Layout, "the heads are not regular"))?;
    let nr = nr(cx);
    let keys = packed(cx, Right::View(turned(k)), &lead, nr, MemType::F32, loc)?;
    let values = packed(cx, Right::View(v), &lead, nr, MemType::F32, loc)?;
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
        formula,
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

/// Constant integers of an operand, which may be absent.
fn integers(cx: &Cx, site: &Site, slot: usize) -> Result<Option<Vec<i64>>, Declined> {
    let Some(value) = site.optional(slot) else { return Ok(None) };
    let constant = cx.constant(value);
    let open = || Declined::new(ReasonCode::OpenShape, "lengths or offsets depend on data");
    Ok(Some(constant.ok_or_else(open)?.to_i64_vec()))
}

/// What says which keys a query sees by their positions.
struct Seen<'a> {
    op: &'a Attention,
    lengths: Option<Vec<i64>>,
    offset: Option<i64>,
}

impl Seen<'_> {
    /// Whether a query of a sequence sees key `j`.
    fn sees(&self, sizes: &Sizes, batch: usize, query: usize, j: usize) -> bool {
        let length = self.lengths.as_ref().map(|lengths| lengths[batch]);
        let first = self.offset.or(length.map(|length| length - sizes.queries as i64)).unwrap_or(0);
        length.is_none_or(|length| (j as i64) < length) && self.op.sees(first + query as i64, j as i64)
    }
}

/// What becomes of a product of `q` and `k`.
fn score(cx: &mut Cx, seen: &Seen, scale: f32, sizes: &Sizes, site: &Site) -> Result<Epilogue, Declined> {
    let op = seen.op;
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
    biases.extend(positions(cx, seen, sizes)?);
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

/// What the positions of queries and keys add, where that is anything.
fn positions(cx: &mut Cx, seen: &Seen, sizes: &Sizes) -> Result<Option<TensorView>, Declined> {
    let batches = seen.lengths.as_ref().map_or(1, |_| sizes.batch);
    if seen.lengths.as_ref().is_some_and(|lengths| lengths.len() != sizes.batch) {
        return Err(Declined::new(ReasonCode::Shape, "there is not one length for each sequence"));
    }
    if !(seen.op.causal || seen.op.left >= 0 || seen.op.right >= 0 || seen.lengths.is_some()) {
        return Ok(None);
    }
    let shape = vec![batches, 1, sizes.queries, sizes.keys];
    let _room = room(4 * batches * sizes.queries * sizes.keys)?;
    let row = |at: usize| {
        let (batch, query) = (at / sizes.queries, at % sizes.queries);
        (0..sizes.keys).map(move |j| if seen.sees(sizes, batch, query, j) { 0.0 } else { f32::NEG_INFINITY })
    };
    let all: Vec<f32> = (0..batches * sizes.queries).flat_map(row).collect();
    if all.iter().all(|&bias| bias == 0.0) {
        return Ok(None);
    }
    let at = cx.add_constant("which keys a query sees", Tensor::from_slice(&shape, &all)?);
    Ok(Some(TensorView { at, dtype: DType::F32, strides: strides_in(&shape, Encoding::Plain), shape }))
}
