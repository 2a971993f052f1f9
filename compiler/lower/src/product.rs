//! Products of quantized integers as integer contractions, those of bfloat16, which take the same path, and sums as
//! folds in `f32` where that is exact.

use optc_ir::ops::quant::{QuantMatMul, QuantSum};
use optc_ir::{Encoding, TensorType, Value};
use optc_kernel::expr::{Expr, Func};
use optc_kernel::tile::{MemType, Unary};
use optc_kernels::int8::{Int8Form, Int8Schedule, NarrowProduct, Pack, pack, pack_pairs_kernel, product};
use optc_kernels::window::{self, Axis};
use optc_tensor::{DType, Tensor};
use optc_types::steps::{BufRef, StepInfo};
use optc_types::{Numbers, Product, ReasonCode};

use super::cx::Cx;
use super::integers::{QuantizedWeights, ZeroOf};
use super::moves::plain_copy;
use super::operands::{collapse, dims, epilogue, image, mem_of};
use super::sparse::{Matrix, SparseFilters, block_of, columns, sparse_matmul, weigh};
use super::{Declined, Epilogue, Lowered, Site, TensorView, room};

/// Integers of a larger magnitude are not all `f32`.
pub(super) const EXACT: i64 = 1 << 24;

/// A zero point that is one constant.
pub(super) fn zero_point(cx: &Cx, value: Option<Value>) -> Result<i32, Declined> {
    let Some(value) = value else { return Ok(0) };
    match cx.constant(value) {
        Some(t) if t.len() == 1 => Ok(t.to_i64_vec()[0] as i32),
        _ => Err(Declined::new(ReasonCode::NotConstant, "a zero point that is not one constant")),
    }
}

/// An epilogue whose operand 0, an integer, is in an `f32` that holds it exactly.
pub(super) fn of_float(expr: &Expr) -> Expr {
    let integer = Expr::Operand(0).to_int();
    match expr {
        Expr::Func(Func::Lane(Unary::ToFloat), x) if **x == Expr::Operand(0) => Expr::Operand(0),
        Expr::Operand(0) => integer,
        Expr::Operand(_) | Expr::Const(_) | Expr::Int(_) => expr.clone(),
        Expr::Func(f, x) => of_float(x).func(*f),
        Expr::Binary(op, of) => of_float(&of[0]).binary(*op, of_float(&of[1])),
        Expr::Cmp(cmp, of) => of_float(&of[0]).cmp(*cmp, of_float(&of[1])),
        Expr::Select(of) => of_float(&of[0]).select(of_float(&of[1]), of_float(&of[2])),
    }
}

/// An epilogue that takes a multiple of each sum of weights, `i32` that broadcast to `shape`, off the result first:
/// what a computed zero point of the other operand has added.
pub(super) fn without_zero(
    mut epilogue: Epilogue,
    zero: &TensorView,
    sums: &TensorView,
    shape: &[usize],
) -> Result<Epilogue, Declined> {
    if zero.len() != 1 {
        return Err(Declined::new(ReasonCode::NotConstant, "a computed zero point of several values"));
    }
    let one = TensorView { shape: vec![], strides: vec![], ..zero.clone() };
    let wide = |v: &TensorView| {
        v.broadcast(shape).ok_or_else(|| Declined::new(ReasonCode::Shape, "sums of weights do not broadcast"))
    };
    epilogue.operands.extend([wide(&one)?, wide(sums)?]);
    let last = epilogue.operands.len();
    let correction = Expr::Operand(last - 1).times(Expr::Operand(last));
    epilogue.expr = epilogue.expr.with_operand(0, &Expr::Operand(0).minus(correction));
    Ok(epilogue)
}

/// A packed right operand.
pub(super) struct PackedRight {
    pub at: BufRef,
    /// Whether each batch has its own.
    pub own: bool,
    pub form: Int8Form,
}

/// `dst = epilogue(a · right)` over the last two dims.
pub(super) struct MatrixStack {
    pub a: TensorView,
    pub right: PackedRight,
    pub dst: TensorView,
    pub epilogue: Epilogue,
    /// The zero point of A.
    pub src_zero: i32,
}

/// A convolution over two axes whose constant weights are narrower than `f32`.
pub(super) struct NarrowConv<'a> {
    pub site: &'a Site,
    /// The operand that is the bias.
    pub bias: usize,
    /// The images, channels last.
    pub x: &'a TensorView,
    /// The zero point of the images.
    pub src_zero: i32,
    pub axes: [Axis; 2],
    pub groups: usize,
    /// The weights' shape, as in ONNX.
    pub shape: &'a [usize],
}

/// Packs the weights of a convolution, which `weights` gives of the constants `of` in ONNX's order, in the form that
/// `form` chooses for the problem, and emits its kernels.
pub(super) fn narrow_conv(
    cx: &mut Cx,
    c: NarrowConv,
    of: &[&Tensor],
    weights: impl FnOnce() -> Vec<i16>,
    form: impl Fn(&NarrowProduct) -> Int8Form,
) -> Lowered {
    let dst = c.site.result()?.clone();
    let fused = epilogue(cx, c.site, c.bias, &dst)?;
    let problem = NarrowProduct {
        images: c.x.shape[0],
        groups: c.groups,
        channels: c.shape[1],
        filters: c.shape[0] / c.groups,
        axes: c.axes,
        src: image(c.x)?,
        src_zero: c.src_zero,
        dst: image(&dst)?,
        operands: fused.operands,
        epilogue: fused.expr,
        own_weights: false,
        form: Int8Form::Widened,
    };
    let mut problem = stepped(problem).merged();
    problem.form = form(&problem);
    let (packing, nr) = (problem.pack(), narrow_nr(cx, problem.form));
    let (channels, [rows, columns]) = (c.shape[1], c.axes.map(|a| a.kernel));
    // Elements of k are the channels of one column after the other.
    let of_k: Vec<usize> = (0..packing.k).map(|k| k % channels * rows * columns + k / channels).collect();
    let filter = channels * rows * columns;
    let b = add_packed(cx, of, "", (c.groups, &packing, nr), || {
        let w = weights();
        let all = (0..c.groups).flat_map(|g| {
            let w = &w[g * problem.filters * filter..];
            pack(&packing, nr, |row, tap, k, n| w[n * filter + of_k[k] + row * columns + tap])
        });
        all.collect()
    })?;
    narrow_product(cx, problem, c.x.at, b, fused.places, dst.at, &c.site.loc)
}

/// `quant.sum`: the fold of a plain sum in `f32`.
pub(super) fn quant_sum(cx: &mut Cx, op: &QuantSum, site: &Site) -> Lowered {
    let x = cx.view(site.operand(0)?)?;
    if x.is_empty() {
        return Err(Declined::new(ReasonCode::Empty, "there is nothing to fold"));
    }
    let zero = zero_point(cx, site.optional(1))?;
    let rank = x.shape.len() as i64;
    let reduced = |d: usize| op.axes.is_empty() || op.axes.iter().any(|&a| (a + rank) % rank == d as i64);
    let n: usize = (0..x.shape.len()).filter(|&d| reduced(d)).map(|d| x.shape[d]).product();
    if n as i64 * 255 >= EXACT {
        return Err(Declined::new(ReasonCode::Numbers, "the sum is not exact in f32"));
    }
    let mut epilogue = site.epilogue.clone();
    epilogue.expr = of_float(&epilogue.expr);
    let site =
        Site { epilogue, operands: site.operands[..1].to_vec(), results: site.results.clone(), loc: site.loc.clone() };
    super::fold::integer_sum(cx, &op.axes, op.keep_dims, &site, x, zero)
}

pub(super) fn quant_matmul(cx: &mut Cx, _: &QuantMatMul, site: &Site) -> Lowered {
    let dst = site.result()?.clone();
    let mut a = cx.view(site.operand(0)?)?;
    let b = site.operand(1)?;
    let b_shape = cx.ty(b)?.static_shape().unwrap_or_default();
    let rank = dst.shape.len();
    if a.shape.len() < 2 || b_shape.len() < 2 || !dst.is(Encoding::Plain) {
        return Err(Declined::new(
            ReasonCode::Layout,
            "an operand of rank 1, or a result that is not laid out plainly",
        ));
    }
    if a.strides[a.shape.len() - 1] != 1 && a.shape[a.shape.len() - 1] != 1 {
        a = plain_copy(cx, &a, &site.loc)?;
    }
    let (k, m, n) = (a.shape[a.shape.len() - 1], dst.shape[rank - 2], dst.shape[rank - 1]);
    let batch: usize = dst.shape[..rank - 2].iter().product();
    if batch * m * n * k == 0 {
        return Err(Declined::new(ReasonCode::Empty, "an empty product"));
    }
    let mut lead = dst.shape[..rank - 2].to_vec();
    lead.extend([m, k]);
    let a = a.broadcast(&lead).ok_or_else(|| Declined::new(ReasonCode::Shape, "batches do not broadcast"))?;
    let (src_zero, mut epilogue) = a_zero(cx, site, b, k, n)?;
    let mut weights = None;
    if cx.constant(b).is_some() {
        weights = Some(QuantizedWeights::of(cx, b, site.optional(3), ZeroOf::Column(n))?);
    }
    if let (2, Some(w)) = (b_shape.len(), &weights) {
        if let Some(block) = block_of(cx, b) {
            let matrix = Matrix::Integers(columns(&w.values(), k, n), src_zero);
            return sparse_matmul(cx, &a, &SparseFilters { matrix, shape: vec![n, k], block }, site, epilogue);
        }
        let pixels = batch * m;
        let transposed = if pixels > 1 { pixels * k * Numbers::Bytes.transposed_bytes() } else { 0 };
        let product = weighed(n, k, pixels, transposed);
        weigh(cx, w.share_of_zeros(cx), || columns(&w.values(), k, n), product);
        if cx.target.isa.needs.sums_bytes()
            && (k as i64) < EXACT / 255
            && let Some((less, shifts)) = w.less_128(cx, n)
        {
            epilogue = with_shifts(cx, epilogue, (&a, src_zero), shifts, &dst.shape, &site.loc)?;
            weights = Some(less);
        }
    }
    let staged = (mem_of(a.dtype)?, src_zero, m);
    let right = packed_right(cx, (b, site.optional(3)), weights, staged, &dst.shape[..rank - 2], &site.loc)?;
    matrix_product(cx, MatrixStack { a, right, dst, epilogue, src_zero }, &site.loc)
}

/// An epilogue that adds a multiple of each row's sum, without its zero point, to the product first: one for each
/// column, by which weights were too small.
fn with_shifts(
    cx: &mut Cx,
    mut epilogue: Epilogue,
    (a, zero): (&TensorView, i32),
    shifts: Vec<i32>,
    shape: &[usize],
    loc: &[String],
) -> Result<Epilogue, Declined> {
    let (mut rows, n) = (shape.to_vec(), shifts.len());
    rows[shape.len() - 1] = 1;
    let sums = cx.dense(&TensorType::fixed(DType::F32, &rows))?;
    let (operands, results, loc) = (vec![], vec![sums.clone()], loc.to_vec());
    let site = Site { operands, results, epilogue: Epilogue::default(), loc };
    super::fold::integer_sum(cx, &[-1], true, &site, a.clone(), zero)?;
    let at = cx.add_constant("operand 1, what was taken off columns", Tensor::from_slice(&[n], &shifts)?);
    let shifts = TensorView { at, dtype: DType::I32, shape: vec![n], strides: vec![1] };
    for view in [&sums, &shifts] {
        let wide = view.broadcast(shape);
        epilogue.operands.push(wide.ok_or_else(|| Declined::new(ReasonCode::Shape, "sums of rows do not broadcast"))?);
    }
    let last = epilogue.operands.len();
    let shift = Expr::Operand(last - 1).to_int().times(Expr::Operand(last));
    epilogue.expr = epilogue.expr.with_operand(0, &Expr::Operand(0).plus(shift));
    Ok(epilogue)
}

/// Emits the product of matrices: A is `[batches…, m, k]`, its last dim side by side.
pub(super) fn matrix_product(cx: &mut Cx, p: MatrixStack, loc: &[String]) -> Lowered {
    let MatrixStack { a, right, dst, epilogue, src_zero } = p;
    let (rank, own) = (dst.shape.len(), right.own);
    let [m, n] = [dst.shape[rank - 2], dst.shape[rank - 1]];
    let (batch, k): (usize, usize) = (dst.shape[..rank - 2].iter().product(), a.shape[rank - 1]);
    let merges = |v: &TensorView| collapse(&dims(v, 0..rank - 1)).is_some();
    let merged = !own && merges(&a) && epilogue.operands.iter().all(merges);
    let split = if merged { 0 } else { rank - 2 };
    let fits = |v: &TensorView| collapse(&dims(v, 0..split)).is_some() && collapse(&dims(v, split..rank - 1)).is_some();
    let place = |v: &TensorView| -> Result<window::ImageView, Declined> {
        let width = v.width() as i64;
        let irregular = || Declined::new(ReasonCode::Layout, "an operand's batches are not regular");
        let batch = collapse(&dims(v, 0..split)).ok_or_else(irregular)?;
        let row = collapse(&dims(v, split..rank - 1)).ok_or_else(irregular)?;
        let column = if v.shape[rank - 1] == 1 { 0 } else { v.strides[rank - 1] };
        let strides = [batch, 0, 0, row, column].map(|s| s * width);
        Ok(window::ImageView { mem: mem_of(v.dtype)?, bytes: v.span_bytes(), offset: 0, strides })
    };
    let a = if fits(&a) { a } else { plain_copy(cx, &a, loc)? };
    let (mut operands, mut places) = (vec![], vec![]);
    for view in &epilogue.operands {
        let view = if fits(view) { view.clone() } else { plain_copy(cx, view, loc)? };
        operands.push(place(&view)?);
        places.push(view.at);
    }
    let (images, m) = if merged { (1, batch * m) } else { (batch, m) };
    let src = place(&a)?;
    let src = window::ImageView { strides: [src.strides[0], 0, 0, src.strides[3], src.mem.bytes()], ..src };
    let problem = NarrowProduct {
        images,
        groups: 1,
        channels: k,
        filters: n,
        axes: [Axis::NONE, Axis { size: m, out: m, ..Axis::NONE }],
        src,
        src_zero,
        dst: place(&dst)?,
        operands,
        epilogue: epilogue.expr,
        own_weights: own,
        form: right.form,
    };
    narrow_product(cx, problem, a.at, right.at, places, dst.at, loc)
}

/// The zero point of A, and the epilogue. A computed one takes a multiple of each column's sum off the result.
fn a_zero(cx: &mut Cx, site: &Site, b: Value, k: usize, n: usize) -> Result<(i32, Epilogue), Declined> {
    let epilogue = site.epilogue.clone();
    let zero = match site.optional(2) {
        Some(zero) if cx.constant(zero).is_none() => zero,
        zero => return Ok((zero_point(cx, zero)?, epilogue)),
    };
    let zero = cx.view(zero)?;
    let w = QuantizedWeights::of(cx, b, site.optional(3), ZeroOf::Column(n))?;
    if w.len() != k * n {
        return Err(Declined::new(ReasonCode::NotConstant, "a computed zero point with weights of several batches"));
    }
    let at = cx.packed(&w.sources(), "operand 1, sums of columns", || {
        let mut sums = vec![0; n];
        w.values().chunks(n).for_each(|row| sums.iter_mut().zip(row).for_each(|(sum, &v)| *sum += i32::from(v)));
        Ok(Tensor::from_slice(&[n], &sums)?)
    })?;
    let sums = TensorView { at, dtype: DType::I32, shape: vec![n], strides: vec![1] };
    Ok((0, without_zero(epilogue, &zero, &sums, &site.result()?.shape)?))
}

/// B in panels, a value with a zero point, whose `weights` these are where it is constant; `staged` is what A is in
/// memory, its zero point, and how many rows it has.
fn packed_right(
    cx: &mut Cx,
    (b, zero): (Value, Option<Value>),
    weights: Option<QuantizedWeights>,
    (mem, zero_of_a, pixels): (MemType, i32, usize),
    lead: &[usize],
    loc: &[String],
) -> Result<PackedRight, Declined> {
    let batch: usize = lead.iter().product();
    let shape = cx.ty(b)?.static_shape().unwrap_or_default();
    let r = shape.len();
    let (k, n) = (shape[r - 2], shape[r - 1]);
    let own: usize = shape[..r - 2].iter().product();
    let packing = Pack { form: Int8Form::Pairs, rows: 1, taps: 1, k, n, zero: 0 };
    if let Some(w) = weights {
        if own != 1 && own != batch {
            return Err(Declined::new(ReasonCode::NotConstant, "a constant operand broadcasts some of its batches"));
        }
        let form = w.form(cx, pixels);
        let packing = Pack { form, zero: form.staged_zero(mem, zero_of_a), ..packing };
        let nr = narrow_nr(cx, form);
        let at = add_packed(cx, &w.sources(), w.how, (own, &packing, nr), || {
            let all = w.values();
            all.chunks((k * n).max(1)).flat_map(|w| pack(&packing, nr, |_, _, k, col| w[k * n + col])).collect()
        })?;
        return Ok(PackedRight { at, own: own != 1, form });
    }
    let zero = zero_point(cx, zero)?;
    let view = cx.view(b)?;
    let mut wide = if own == 1 { vec![1; lead.len()] } else { lead.to_vec() };
    wide.extend([k, n]);
    let flat = TensorView { shape: shape[r - 2..].to_vec(), strides: view.strides[r - 2..].to_vec(), ..view.clone() };
    let from = if own == 1 { flat } else { view };
    let from = from.broadcast(&wide).ok_or_else(|| Declined::new(ReasonCode::Shape, "batches do not broadcast"))?;
    let r = from.shape.len();
    let from = if collapse(&dims(&from, 0..r - 2)).is_some() { from } else { plain_copy(cx, &from, loc)? };
    let stride = collapse(&dims(&from, 0..r - 2)).unwrap_or(0);
    let count: usize = from.shape[..r - 2].iter().product();
    let strides = [stride, 0, 0, from.strides[r - 2], from.strides[r - 1]];
    let src = window::ImageView { mem: mem_of(from.dtype)?, bytes: from.span_bytes(), offset: 0, strides };
    let nr = narrow_nr(cx, Int8Form::Pairs);
    let kernel = pack_pairs_kernel(count, &packing, &src, zero, nr, cx.target.isa.lanes());
    let at = cx.temp(count * packing.bytes(nr));
    let bytes = 3.0 * (count * k * n) as f64;
    cx.kernel(kernel, vec![from.at, at], None, StepInfo { loc: loc.to_vec(), bytes, ..StepInfo::default() });
    Ok(PackedRight { at, own: own != 1, form: Int8Form::Pairs })
}

/// A buffer with so many packed weights of narrow products, which `make` packs of constants; `how` says what else it
/// goes by.
pub(super) fn add_packed(
    cx: &mut Cx,
    of: &[&Tensor],
    how: &str,
    (count, pack, nr): (usize, &Pack, usize),
    make: impl FnOnce() -> Vec<u8>,
) -> Result<BufRef, Declined> {
    let Pack { form, rows, taps, k, n, zero } = pack;
    let recipe =
        format!("operand 1{how}, {form:?} {count} x {rows} x {taps} x {k} x {n} around {zero} in panels of {nr}");
    cx.packed(of, recipe, || {
        let _packing = room(count * pack.bytes(nr))?;
        let packed = make();
        Ok(Tensor::from_slice(&[packed.len()], &packed)?)
    })
}

/// Emits the kernel of a product.
pub(super) fn narrow_product(
    cx: &mut Cx,
    problem: NarrowProduct,
    a: BufRef,
    b: BufRef,
    places: Vec<BufRef>,
    dst: BufRef,
    loc: &[String],
) -> Lowered {
    let options = Int8Schedule::options(&problem, cx.target.isa, &cx.target.caches);
    let (schedule, point) = cx.pick(problem.key(), options);
    let kernel = product(&problem, cx.target.isa, schedule);
    let taps = problem.axes[0].kernel * problem.axes[1].kernel;
    let pixels = problem.images * problem.axes[0].out * problem.axes[1].out;
    let area: usize = problem.axes.iter().map(|a| a.size).product();
    let inputs = problem.images * problem.groups * problem.channels * area;
    let (batch, k) = (problem.groups, taps * problem.channels);
    let simple = batch == 1 && problem.axes.iter().all(|a| a.is_simple(3));
    let three_by_three = simple.then_some([problem.images, problem.axes[0].out, problem.axes[1].out]);
    let numbers = if problem.form.is_float() { Numbers::Halves } else { Numbers::Bytes };
    let dense = Product::new(pixels, k, problem.filters, numbers);
    cx.notes.product = Some(Product { batch, inputs, three_by_three, ..dense });
    let flops = 2.0 * (problem.groups * problem.filters * problem.channels) as f64 * (taps * pixels) as f64;
    let bytes = kernel.bufs.iter().map(|b| b.bytes as f64).sum();
    let mut args = vec![a, b];
    args.extend(places);
    args.push(dst);
    let schedule = schedule.to_string();
    cx.kernel(kernel, args, None, StepInfo { loc: loc.to_vec(), flops, bytes, schedule, ..StepInfo::default() });
    cx.close(point);
    Ok(())
}

/// Columns of a panel.
pub(super) fn narrow_nr(cx: &Cx, form: Int8Form) -> usize {
    form.tile(cx.target.isa).1 * cx.target.isa.lanes()
}

/// A product of integers as costs see it.
pub(super) fn weighed(m: usize, k: usize, n: usize, staged_bytes: usize) -> Product {
    Product { staged_bytes, ..Product::new(n, k, m, Numbers::Bytes) }
}

/// Windows of one element that step over pixels read only those: the source's strides are longer instead. Not where one
/// lies in the padding: there is no pixel for it, however long the strides are.
fn stepped(mut p: NarrowProduct) -> NarrowProduct {
    for (d, axis) in p.axes.iter_mut().enumerate() {
        if axis.kernel == 1 && axis.stride > 1 && axis.inside() {
            p.src.strides[d + 2] *= axis.stride as i64;
            *axis = Axis { size: axis.out, stride: 1, pads: [0, 0], ..*axis };
        }
    }
    p
}
