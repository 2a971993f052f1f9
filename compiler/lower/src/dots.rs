//! Products of one or two columns as dot products: vectors go along what is summed, where a contraction would leave
//! nearly all lanes of a vector of columns empty.
//!
//! Which products these are depends on their extents alone, so that the order of their sums is the same on every
//! target. (Zen 5, a convolution of one channel by 256 taps with stride 2 to 21,922 results: see the measurements.)

use optc_kernel::expr::Expr;
use optc_kernel::space::ByteView;
use optc_kernel::tile::MemType;
use optc_kernels::contract::{Contract, ContractRows, ConvNest, Operand};
use optc_kernels::fold::{DOT_ELEMENTS, Fold, FoldOp, Folding, folding, suits_dots};
use optc_kernels::window::{Axis, ImageView};
use optc_types::steps::{BufRef, StepInfo};
use optc_types::{Numbers, Product, ReasonCode};

use super::cx::Cx;
use super::moves::plain_copy;
use super::operands::{Placed, floats, permuted};
use super::weights::{DenseFilters, Right};
use super::{Declined, Lowered};

/// A product whose operands have a stride for each dim of `kept` and `reduced`.
struct DotNest {
    kept: Vec<usize>,
    reduced: Vec<usize>,
    x: ByteView,
    w: ByteView,
    operands: Vec<ByteView>,
    result: ByteView,
    /// Operand 0 is the sum, operand `i + 1` is `operands[i]`.
    epilogue: Expr,
}

impl DotNest {
    fn folding(self) -> Folding {
        let first = 2 + self.operands.len();
        let product = Expr::Operand(0).times(Expr::Operand(1));
        let sum = Fold { op: FoldOp::Sum, element: product, finish: Expr::Operand(first), keep: false };
        let reduced = self.kept.iter().map(|_| false).chain(self.reduced.iter().map(|_| true)).collect();
        Folding {
            shape: [self.kept, self.reduced].concat(),
            reduced,
            operands: [self.x, self.w].into_iter().chain(self.operands).collect(),
            folds: vec![sum],
            result: self.result,
            every: false,
            store: self.epilogue.with_operands(&|i| Expr::Operand(if i == 0 { first } else { i + 1 })),
        }
    }

    /// Emits the kernel; the places are those of `x`, `w`, the operands and the result.
    fn emit(self, cx: &mut Cx, places: Vec<BufRef>, loc: &[String]) -> Lowered {
        let columns = self.kept.last().copied().unwrap_or(1);
        let [results, elements] = [&self.kept, &self.reduced].map(|dims| dims.iter().product::<usize>());
        let inputs = self.x.bytes;
        let kernel = folding(&self.folding(), cx.target.isa);
        let kernel = kernel.ok_or_else(|| Declined::new(ReasonCode::Shape, "too many separate dims are summed"))?;
        let product = Product::new(results / columns, elements, columns, Numbers::Floats);
        cx.notes.product = Some(Product { inputs: inputs / 4, ..product });
        let bytes = kernel.bufs.iter().map(|b| b.bytes as f64).sum();
        let flops = 2.0 * (results * elements) as f64;
        cx.kernel(kernel, places, None, StepInfo { loc: loc.to_vec(), flops, bytes, ..StepInfo::default() });
        Ok(())
    }
}

/// A convolution as dot products; none where it is not one, or is faster as a contraction.
pub(super) fn conv_dots(
    cx: &mut Cx,
    c: &ConvNest,
    x: BufRef,
    weights: &DenseFilters,
    places: &[BufRef],
    dst: BufRef,
    loc: &[String],
) -> Option<Lowered> {
    let taps = c.axes.map(|a| a.kernel);
    let elements = c.channels * taps.iter().product::<usize>();
    // What lies side by side: the channels, and the taps of a row where these lie so.
    let beside = c.src.strides[3] == 4 * c.channels as i64 && c.axes[2].dilation == 1;
    let run = if beside { c.channels * taps[2] } else { c.channels };
    let inside = |a: &Axis| a.pads[0] == 0 && (a.out - 1) * a.stride + a.reach() <= a.size;
    let contiguous = c.channels == 1 || c.src.strides[4] == 4;
    let suits = suits_dots(c.filters, elements) && run >= DOT_ELEMENTS && contiguous;
    if c.groups != 1 || !suits || !c.axes.iter().all(inside) {
        return None;
    }
    Some(packed(cx, c, weights, loc).and_then(|w| {
        let all: Vec<BufRef> = [x, w].into_iter().chain(places.iter().copied()).chain([dst]).collect();
        nest(c).emit(cx, all, loc)
    }))
}

/// A matrix product as dot products; none where it is not one, or is faster as a contraction. `call` has neither a
/// packed right side nor a schedule yet.
pub(super) fn matmul_dots(cx: &mut Cx, c: &Contract, b: &Right, call: &Undecided) -> Option<Lowered> {
    let (Right::Constant { tensor, pack, .. }, ContractRows::Stride(row)) = (b, &c.rows) else { return None };
    if c.batch != 1 || !suits_dots(c.n, c.k) {
        return None;
    }
    let (k, mem) = (c.k, MemType::F32);
    let view =
        |bytes: usize, offset: i64, strides: [i64; 3]| ByteView { mem, bytes, offset, strides: strides.to_vec() };
    let spread = |placed: &Placed| {
        let Operand { mem, bytes, offset, row_stride, col_stride, .. } = placed.operand;
        ByteView { mem, bytes, offset, strides: vec![row_stride, col_stride, 0] }
    };
    let nest = DotNest {
        kept: vec![c.m, c.n],
        reduced: vec![k],
        x: view(c.a_bytes, 0, [*row, 0, 4]),
        w: view(4 * c.n * k, 0, [0, 4 * k as i64, 4]),
        operands: call.operands.iter().map(spread).collect(),
        result: ByteView {
            mem: c.c_mem,
            bytes: c.c_bytes,
            offset: 0,
            strides: vec![c.c_row_stride, c.c_col_stride, 0],
        },
        epilogue: call.epilogue.clone(),
    };
    let recipe = format!("operand 1, columns of {k}, {} and {} apart", pack.k_stride, pack.n_stride);
    let columns = cx.packed(&[tensor], recipe, || {
        let from = tensor.as_slice::<f32>()?;
        let turned: Vec<f32> = (0..c.n * k).map(|i| from[i / k * pack.n_stride + i % k * pack.k_stride]).collect();
        Ok(floats(&turned)?)
    });
    Some(columns.and_then(|w| {
        let operands = call.operands.iter().map(|placed| placed.at);
        let all: Vec<BufRef> = [call.a, w].into_iter().chain(operands).chain([call.dst]).collect();
        nest.emit(cx, all, call.loc)
    }))
}

/// Where the operands of a matrix product are, and what is applied to its sums.
pub(super) struct Undecided<'a> {
    pub a: BufRef,
    pub dst: BufRef,
    pub operands: &'a [Placed],
    /// Operand 0 is the sum, operand `i + 1` is `operands[i]`.
    pub epilogue: &'a Expr,
    pub loc: &'a [String],
}

/// The views of a convolution: results `[batch, planes, rows, columns, filters]`, sums `[planes, rows, columns,
/// channels]`.
fn nest(c: &ConvNest) -> DotNest {
    let outs = c.axes.map(|a| a.out);
    let taps = c.axes.map(|a| a.kernel);
    let kept = [&[c.batch], &outs[..], &[c.filters]].concat();
    let reduced = [&taps[..], &[c.channels]].concat();
    let source = |scale: fn(&Axis) -> usize| [0, 1, 2].map(|d| c.src.strides[d + 1] * scale(&c.axes[d]) as i64);
    let moves = [&[c.src.strides[0]][..], &source(|a| a.stride), &[0]].concat();
    let steps = [&source(|a| a.dilation)[..], &[4]].concat();
    let x = ByteView { mem: c.src.mem, bytes: c.src.bytes, offset: c.src.offset, strides: [moves, steps].concat() };
    let filters = ByteView::dense(c.src.mem, &[&[c.filters], &reduced[..]].concat());
    let w = ByteView { strides: [&[0; 4][..], &filters.strides].concat(), ..filters };
    let spread = |view: &ImageView| ByteView {
        mem: view.mem,
        bytes: view.bytes,
        offset: view.offset,
        strides: [&view.strides[..], &[0; 4]].concat(),
    };
    let operands = c.operands.iter().map(spread).collect();
    DotNest { kept, reduced, x, w, operands, result: spread(&c.dst), epilogue: c.epilogue.clone() }
}

/// The filters with their channels last.
fn packed(cx: &mut Cx, c: &ConvNest, w: &DenseFilters, loc: &[String]) -> Result<BufRef, Declined> {
    match w {
        DenseFilters::Constant(t) => cx.packed(&[t], "operand 1, filters with their channels last", || {
            Ok(floats(&channels_last(t.as_slice()?, c))?)
        }),
        DenseFilters::Part(part) => {
            let recipe = format!("operand 1, {}, filters with their channels last", part.which);
            cx.packed(&[part.of], recipe, || Ok(floats(&channels_last(&(part.take)(), c))?))
        }
        DenseFilters::Computed(view) => {
            let order: Vec<usize> = [0].into_iter().chain(2..view.shape.len()).chain([1]).collect();
            Ok(plain_copy(cx, &permuted(view, &order), loc)?.at)
        }
    }
}

fn channels_last(w: &[f32], c: &ConvNest) -> Vec<f32> {
    let size = w.len() / c.filters;
    let taps = size / c.channels;
    let at = |i: usize| i % c.channels * taps + i / c.channels;
    w.chunks_exact(size.max(1)).flat_map(|filter| (0..size).map(move |i| filter[at(i)])).collect()
}
