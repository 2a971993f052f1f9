//! Matrix products: finds the strides, packs the right operand, and hands the epilogue on.

use optc_ir::ops::math::MatMul;
use optc_ir::ops::nn::Gemm;
use optc_ir::{Encoding, Value};
use optc_kernel::expr::Expr;
use optc_kernel::tile::MemType;
use optc_kernels::contract::{Contract, ContractRows, Operand, PackB, pack_b_kernel, packed_len};
use optc_tensor::DType;
use optc_types::steps::{BufRef, StepInfo};
use optc_types::{Numbers, Product, ReasonCode};

use super::bf16::{bf16_product, only_f32_precision, only_factors};
use super::contract::{ContractCall, contraction, pack_constant, strip_mem};
use super::cx::Cx;
use super::dots::{Undecided, matmul_dots};
use super::moves::plain_copy;
use super::operands::{Placed, collapse, dims, mem_of, only_f32};
use super::scaled::scaled_right;
use super::sparse::{BlockSize, Matrix, SparseFilters, block_of, columns, sparse_matmul, weigh, zeros_of};
use super::weights::{MatrixProduct, Right};
use super::{Declined, Epilogue, Lowered, Site, TensorView};

/// Where a packed B is.
pub(super) struct PackedPlace {
    pub at: BufRef,
    /// Elements from one batch to the next, 0 for one that all batches share.
    pub batch_stride: usize,
}

/// Batch and row strides of what a product reads or writes.
pub(super) struct Strides {
    pub batch: i64,
    pub row: i64,
}

pub(super) fn matmul(cx: &mut Cx, op: &MatMul, site: &Site) -> Lowered {
    let (mut a, mut dst) = (cx.view(site.operand(0)?)?, site.result()?.clone());
    if let Some(block) = block_of(cx, site.operand(1)?)
        && a.shape.len() >= 2
    {
        only_f32_precision(op.precision)?;
        return in_blocks(cx, &a, (site.operand(1)?, false), block, site, site.epilogue.clone());
    }
    let b = right(cx, site.operand(1)?, false, op.precision)?;
    let b_is_vector = cx.ty(site.operand(1)?)?.rank() == Some(1);
    let mut epilogue = site.epilogue.clone();
    // A vector is a matrix of one row or column, a dim that the result does not have.
    let missing = usize::from(b_is_vector);
    if a.shape.len() == 1 {
        a = inserted(&a, 0);
        for view in epilogue.operands.iter_mut().chain([&mut dst]) {
            *view = inserted(view, view.shape.len() + missing - 1);
        }
    }
    if b_is_vector {
        for view in epilogue.operands.iter_mut().chain([&mut dst]) {
            *view = inserted(view, view.shape.len());
        }
    }
    product(cx, MatrixProduct { a, b, dst, epilogue, precision: op.precision, loc: &site.loc })
}

pub(super) fn gemm(cx: &mut Cx, op: &Gemm, site: &Site) -> Lowered {
    let mut epilogue = site.epilogue.clone();
    let mut sum = Expr::Operand(0);
    if op.alpha.0 != 1.0 {
        sum = sum.times(Expr::Const(op.alpha.0));
    }
    if let Some(c) = site.optional(2).filter(|_| op.reads_c()) {
        let view = cx.view(c)?;
        only_f32(&view)?;
        let wide = view.broadcast(&site.result()?.shape);
        epilogue.operands.push(wide.ok_or_else(|| Declined::new(ReasonCode::Shape, "`c` does not broadcast"))?);
        let c = Expr::Operand(epilogue.operands.len());
        sum = sum.plus(if op.beta.0 == 1.0 { c } else { c.times(Expr::Const(op.beta.0)) });
    }
    epilogue.expr = epilogue.expr.with_operand(0, &sum);
    let a = cx.view(site.operand(0)?)?;
    if let (Some(block), false) = (block_of(cx, site.operand(1)?), op.trans_a) {
        only_f32_precision(op.precision)?;
        return in_blocks(cx, &a, (site.operand(1)?, op.trans_b), block, site, epilogue);
    }
    let a = if op.trans_a { turned(a) } else { a };
    let b = right(cx, site.operand(1)?, op.trans_b, op.precision)?;
    let dst = site.result()?.clone();
    product(cx, MatrixProduct { a, b, dst, epilogue, precision: op.precision, loc: &site.loc })
}

fn in_blocks(
    cx: &mut Cx,
    a: &TensorView,
    b: (Value, bool),
    block: BlockSize,
    site: &Site,
    epilogue: Epilogue,
) -> Lowered {
    only_f32(a)?;
    if !site.result()?.is(Encoding::Plain) {
        return Err(Declined::new(ReasonCode::Layout, "the result of a product is not laid out plainly"));
    }
    let t = cx
        .constant(b.0)
        .cloned()
        .ok_or_else(|| Declined::new(ReasonCode::NotConstant, "the weights are not constant"))?;
    let floats = t.as_slice::<f32>()?;
    let &[first, second] = t.shape() else {
        return Err(Declined::new(ReasonCode::Shape, "sparse weights of another rank than 2"));
    };
    let filters = match b.1 {
        true => SparseFilters { matrix: Matrix::Floats(floats.to_vec()), shape: vec![first, second], block },
        false => {
            SparseFilters { matrix: Matrix::Floats(columns(floats, first, second)), shape: vec![second, first], block }
        }
    };
    sparse_matmul(cx, a, &filters, site, epilogue)
}

/// Says what a sparse form of a constant right operand would take, for `rows` rows of the left one.
fn weigh_right(cx: &mut Cx, b: &Right, rows: usize) {
    let Right::Constant { tensor, pack, .. } = b else { return };
    let Ok(src) = tensor.as_slice::<f32>() else { return };
    if tensor.rank() == 2 {
        let (k, staged_bytes) = (pack.k, if rows > 1 { 4 * rows * pack.k } else { 0 });
        let at = |i: usize| src[i / k * pack.n_stride + i % k * pack.k_stride];
        let product = Product { staged_bytes, ..Product::new(rows, k, pack.n, Numbers::Floats) };
        weigh(cx, zeros_of(cx, tensor), || (0..src.len()).map(at).collect(), product);
    }
}

/// A value as the right operand of a product in some precision.
fn right(cx: &mut Cx, b: Value, transposed: bool, precision: DType) -> Result<Right, Declined> {
    if precision == DType::F32
        && let Some(scaled) = scaled_right(cx, b, transposed)
    {
        return Ok(Right::Scaled(scaled));
    }
    let Some(t) = cx.constant(b).cloned() else {
        let view = cx.view(b)?;
        let view = if view.shape.len() == 1 { inserted(&view, 1) } else { view };
        return Ok(Right::View(if transposed { turned(view) } else { view }));
    };
    let (k, n, lead) = match t.shape() {
        [lead @ .., k, n] => (*k, *n, lead),
        [k] => (*k, 1, &[][..]),
        [] => return Err(Declined::new(ReasonCode::Shape, "an operand is a scalar")),
    };
    let batches = lead.iter().product();
    let straight = PackB { taps: 1, k, n, tap_stride: 0, k_stride: n, n_stride: 1 };
    let pack = if transposed { PackB { k: n, n: k, k_stride: 1, n_stride: n, ..straight } } else { straight };
    Ok(Right::Constant { tensor: t, batches, pack })
}

/// Emits the kernels of a product.
pub(super) fn product(cx: &mut Cx, p: MatrixProduct) -> Lowered {
    only_factors(&p.a, p.precision)?;
    let bf16 = p.precision == DType::BF16;
    let MatrixProduct { a, b, dst, epilogue, loc, .. } = p;
    let width = |v: &TensorView| v.width() as i64;
    let rank = dst.shape.len();
    if !dst.is(Encoding::Plain) || a.shape.len() < 2 || rank < 2 {
        return Err(Declined::new(ReasonCode::Layout, "the result of a product is not laid out plainly"));
    }
    let (k, _) = b.extents();
    let (m, n) = (dst.shape[rank - 2], dst.shape[rank - 1]);
    let lead = dst.shape[..rank - 2].to_vec();
    let batch: usize = lead.iter().product();
    if batch * m * n * k == 0 {
        return Err(Declined::new(ReasonCode::Empty, "an empty product"));
    }
    if bf16 {
        return bf16_product(cx, MatrixProduct { a, b, dst, epilogue, precision: DType::BF16, loc });
    }
    let a = if a.strides[a.shape.len() - 1] != 1 && k != 1 { plain_copy(cx, &a, loc)? } else { a };
    let a = a.broadcast(&[&lead[..], &[m, k]].concat());
    let a = a.ok_or_else(|| Declined::new(ReasonCode::Shape, "batches do not broadcast"))?;
    weigh_right(cx, &b, batch * m);
    let own_b = b.is_own();
    // With one B for all batches, the batches are more rows.
    let rows = |v: &TensorView| collapse(&dims(v, 0..rank - 1)).is_some();
    let merged = !own_b && rows(&a) && epilogue.operands.iter().all(rows);
    let split = if merged { 0 } else { rank - 2 };
    let (a, of_a) = regular(cx, a, split, loc)?;
    let of_c = strides(&dst, split).ok_or_else(irregular)?;
    let mut operands = Vec::new();
    for view in epilogue.operands {
        let (view, of) = regular(cx, view, split, loc)?;
        let operand = Operand {
            mem: mem_of(view.dtype)?,
            bytes: view.span_bytes(),
            offset: 0,
            batch_stride: width(&view) * of.batch,
            row_stride: width(&view) * of.row,
            col_stride: width(&view) * if n == 1 { 0 } else { view.strides[rank - 1] },
        };
        operands.push(Placed { operand, at: view.at });
    }
    let (batch, m) = if merged { (1, batch * m) } else { (batch, m) };
    let contract = Contract {
        a_bytes: a.span_bytes(),
        a_batch_stride: 4 * of_a.batch,
        rows: ContractRows::Stride(4 * of_a.row),
        own_b,
        b_mem: right_mem(cx, &b)?,
        scaled: if let Right::Scaled(b) = &b { Some(b.scaled) } else { None },
        c_mem: mem_of(dst.dtype)?,
        c_bytes: dst.span_bytes(),
        c_batch_stride: width(&dst) * of_c.batch,
        c_row_stride: width(&dst) * of_c.row,
        c_col_stride: width(&dst),
        ..Contract::matmul(batch, m, n, k)
    };
    let call = Undecided { a: a.at, dst: dst.at, operands: &operands, epilogue: &epilogue.expr, loc };
    if let Some(lowered) = matmul_dots(cx, &contract, &b, &call) {
        return lowered;
    }
    let (schedule, point) = cx.schedule(&contract);
    let b = match b {
        Right::Scaled(b) => b.pack(cx, &contract)?,
        b => packed(cx, b, &lead, schedule.nr, contract.b_mem, loc)?.at,
    };
    let (epilogue, loc) = (epilogue.expr, loc.to_vec());
    contraction(cx, ContractCall { contract, a: a.at, b, dst: dst.at, operands, epilogue, schedule, loc })?;
    cx.close(point);
    Ok(())
}

/// A view whose dims before and after `split` (but for the last one) are one dim each; a copy where they are not.
pub(super) fn regular(
    cx: &mut Cx,
    view: TensorView,
    split: usize,
    loc: &[String],
) -> Result<(TensorView, Strides), Declined> {
    if let Some(found) = strides(&view, split) {
        return Ok((view, found));
    }
    let copy = plain_copy(cx, &view, loc)?;
    let found = strides(&copy, split).ok_or_else(irregular)?;
    Ok((copy, found))
}

/// What the strips of a right operand hold.
fn right_mem(cx: &Cx, b: &Right) -> Result<MemType, Declined> {
    match b {
        Right::Constant { tensor, .. } => strip_mem(cx, tensor),
        Right::Scaled(_) | Right::View(_) => Ok(MemType::F32),
    }
}

/// B packed: at compile time where it is constant, as `mem`, else by a kernel, `nr` columns in a task, as `f32`.
pub(super) fn packed(
    cx: &mut Cx,
    b: Right,
    lead: &[usize],
    nr: usize,
    mem: MemType,
    loc: &[String],
) -> Result<PackedPlace, Declined> {
    let (batch, lanes): (usize, _) = (lead.iter().product(), cx.target.isa.lanes());
    match b {
        Right::Constant { tensor, batches, pack } => {
            if batches != 1 && batches != batch {
                return Err(Declined::new(
                    ReasonCode::NotConstant,
                    "a constant operand broadcasts some of its batches",
                ));
            }
            let at = pack_constant(cx, &tensor, (batches, pack.k * pack.n), &pack, mem)?;
            Ok(PackedPlace { at, batch_stride: if batches == 1 { 0 } else { packed_len(1, pack.k, pack.n, lanes) } })
        }
        Right::Scaled(_) => Err(Declined::new(ReasonCode::Numbers, "integers are packed for one product")),
        Right::View(view) => packed_view(cx, view, lead, nr, loc),
    }
}

fn packed_view(
    cx: &mut Cx,
    view: TensorView,
    lead: &[usize],
    nr: usize,
    loc: &[String],
) -> Result<PackedPlace, Declined> {
    only_f32(&view)?;
    let (matrix, own) = (view.shape.len() - 2, Right::View(view.clone()).is_own());
    let one = !own;
    let from = if one {
        TensorView { shape: view.shape[matrix..].to_vec(), strides: view.strides[matrix..].to_vec(), ..view }
    } else {
        let wide = [lead, &view.shape[matrix..]].concat();
        view.broadcast(&wide).ok_or_else(|| Declined::new(ReasonCode::Shape, "batches do not broadcast"))?
    };
    let matrix = from.shape.len() - 2;
    let batch: usize = from.shape[..matrix].iter().product();
    let stride_of = |from: &TensorView| collapse(&dims(from, 0..matrix));
    let from = if stride_of(&from).is_some() { from } else { plain_copy(cx, &from, loc)? };
    let positive = |s: i64| usize::try_from(s).map_err(|_| Declined::new(ReasonCode::Attribute, "a negative stride"));
    let stride = positive(stride_of(&from).ok_or_else(irregular)?)?;
    let (k, n) = (from.shape[matrix], from.shape[matrix + 1]);
    let (k_stride, n_stride) = (positive(from.strides[matrix])?, positive(from.strides[matrix + 1])?);
    let pack = PackB { taps: 1, k, n, tap_stride: 0, k_stride, n_stride };
    let at = packing(cx, &from, batch, stride, &pack, nr, loc);
    Ok(PackedPlace { at, batch_stride: if one { 0 } else { packed_len(1, k, n, cx.target.isa.lanes()) } })
}

/// Emits the kernel that packs `batch` computed matrices of one tap, `stride` elements apart, `nr` columns in a task.
pub(super) fn packing(
    cx: &mut Cx,
    from: &TensorView,
    batch: usize,
    stride: usize,
    p: &PackB,
    nr: usize,
    loc: &[String],
) -> BufRef {
    let lanes = cx.target.isa.lanes();
    let len = packed_len(1, p.k, p.n, lanes);
    let at = cx.temp(4 * batch * len);
    let kernel = pack_b_kernel(batch, from.span_bytes() / 4, stride, p, nr, lanes);
    let info = StepInfo { loc: loc.to_vec(), bytes: 8.0 * (batch * len) as f64, ..StepInfo::default() };
    cx.kernel(kernel, vec![from.at, at], None, info);
    at
}

fn irregular() -> Declined {
    Declined::new(ReasonCode::Layout, "an operand's batches are not regular")
}

/// Batch and row strides of a view whose dims before and after `split` are one dim each.
pub(super) fn strides(view: &TensorView, split: usize) -> Option<Strides> {
    let last = view.shape.len() - 1;
    Some(Strides { batch: collapse(&dims(view, 0..split))?, row: collapse(&dims(view, split..last))? })
}

/// The view with its last two dims swapped.
pub(super) fn turned(mut view: TensorView) -> TensorView {
    let r = view.shape.len();
    view.shape.swap(r - 2, r - 1);
    view.strides.swap(r - 2, r - 1);
    view
}

/// The view with a dim of extent 1 before dim `at`.
fn inserted(view: &TensorView, at: usize) -> TensorView {
    let mut view = view.clone();
    view.shape.insert(at, 1);
    view.strides.insert(at, 0);
    view
}
