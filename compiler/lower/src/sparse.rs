//! Ops whose weights are encoded as blocks: convolutions without groups, and products with constant weights, of floats
//! and of quantized integers.

use optc_ir::{Encoding, Value};
use optc_kernel::program::Choice;
use optc_kernels::movement::movement;
use optc_kernels::spmm::{self, Bcsr, MatrixPlace, Operand, SparseForm, Spmm, Weights, count_blocks};
use optc_kernels::window::Axis;
use optc_tensor::{DType, Tensor, count};
use optc_types::steps::{BufRef, StepInfo};
use optc_types::{Form, Nanos, Numbers, Product, ReasonCode};

use super::cx::Cx;
use super::moves::{plain_copy, view_in};
use super::operands::{axes, biased, collapse, dims, image, mem_of};
use super::{Declined, Epilogue, Lowered, Site, TensorView};

/// Rows and columns of a block.
pub(super) type BlockSize = (usize, usize);

/// The attributes of a convolution.
pub(super) struct Geometry<'a> {
    pub dilations: &'a [i64],
    pub groups: i64,
    pub pads: &'a [i64],
    pub strides: &'a [i64],
}

/// Constant weights: a row for each output channel.
pub(super) enum Matrix {
    /// Floats.
    Floats(Vec<f32>),
    /// Integers without their zero points, and that of the activations.
    Integers(Vec<i16>, i32),
}

/// The weights of a convolution `[filters, channels, rows, columns]` or of a matrix product `[filters, channels]`.
pub(super) struct SparseFilters {
    pub matrix: Matrix,
    /// The extents.
    pub shape: Vec<usize>,
    pub block: BlockSize,
}

/// Bytes from one image, row (channel) and pixel of a view to the next.
type Strides = dyn Fn(&TensorView) -> Option<(i64, i64, i64)>;

/// A product whose kernel is to be emitted.
struct Sparse<'a> {
    weights: Weights,
    form: SparseForm,
    /// The activations, and where the columns of blocks are in them.
    x: (BufRef, MatrixPlace),
    x_rows: Vec<i64>,
    macs: usize,
    epilogue: Epilogue,
    loc: &'a [String],
}

impl SparseFilters {
    fn rows(&self) -> usize {
        self.shape[0]
    }

    fn cols(&self) -> usize {
        self.shape[1..].iter().product()
    }

    fn numbers(&self) -> Numbers {
        if let Matrix::Floats(_) = self.matrix { Numbers::Floats } else { Numbers::Bytes }
    }

    /// The form that reads these blocks of activations of a dtype.
    fn form(&self, dtype: DType) -> Result<SparseForm, Declined> {
        match (&self.matrix, dtype, self.block.1) {
            (Matrix::Floats(_), DType::F32, 1) => Ok(SparseForm::Float),
            (Matrix::Integers(..), DType::U8 | DType::I8, width) => Ok(SparseForm::of_bytes(width, dtype == DType::I8)),
            _ => Err(Declined::new(ReasonCode::Block, "no sparse kernel for these blocks and activations")),
        }
    }

    /// The blocks. Those of four columns have four channels under one tap.
    fn blocks(&self) -> Weights {
        fn of<T: Copy + Default + PartialEq>(m: &[T], f: &SparseFilters) -> Bcsr<T> {
            let taps: usize = f.shape[2..].iter().product();
            let quads = (f.block.1 > 1 && taps > 1).then(|| spmm::quads_of_taps(m, f.shape[1], taps));
            Bcsr::with_blocks(quads.as_deref().unwrap_or(m), (f.rows(), f.cols()), f.block)
        }
        match &self.matrix {
            Matrix::Floats(m) => Weights::Floats(of(m, self)),
            Matrix::Integers(m, zero) => Weights::Integers { weights: of(m, self), zero: *zero },
        }
    }

    /// What stands in the padding: the zero point.
    fn fill(&self) -> [u8; 8] {
        if let Matrix::Integers(_, zero) = self.matrix { [zero as u8; 8] } else { [0; 8] }
    }
}

/// The blocks in which a constant is to be read, where there are kernels for them.
pub(super) fn block_of(cx: &Cx, weights: Value) -> Option<BlockSize> {
    cx.constant(weights)?;
    match cx.ty(weights).ok()?.encoding {
        Encoding::Bcsr { rows, cols } if spmm::BLOCKS.contains(&usize::from(rows)) && matches!(cols, 1 | 4) => {
            Some((rows.into(), cols.into()))
        }
        _ => None,
    }
}

/// A convolution with weights in blocks; its bias is operand `bias`.
pub(super) fn sparse_conv(cx: &mut Cx, op: &Geometry, site: &Site, filters: &SparseFilters, bias: usize) -> Lowered {
    let dst = site.result()?.clone();
    if dst.is_empty() || op.groups != 1 {
        return Err(Declined::new(ReasonCode::Empty, "an empty or grouped sparse convolution"));
    }
    let quads = filters.block.1 > 1;
    let x = view_in(cx, site.operand(0)?, if quads { Encoding::Nhwc } else { Encoding::Plain })?;
    let form = filters.form(x.dtype)?;
    let shape = &filters.shape;
    let axes = axes(&x.shape[2..], &dst.shape[2..], &shape[2..], op.strides, op.dilations, op.pads)?;
    let [Axis::NONE, h, w] = axes else {
        return Err(Declined::new(ReasonCode::Shape, "a sparse convolution over three axes"));
    };
    let conv = sparse_conv_of(&x, filters, [h, w], form)?;
    let epilogue = biased(cx, site, bias, &dst)?;
    let n = dst.len() / filters.rows();
    let staged_bytes = conv.batch * conv.staged_bytes();
    let pixels = [conv.batch, h.out, w.out];
    let three_by_three = (h.is_simple(3) && w.is_simple(3)).then_some(pixels);
    let numbers = filters.numbers();
    let product = Product { staged_bytes, three_by_three, ..Product::new(n, filters.cols(), filters.rows(), numbers) };
    weigh_filters(cx, filters, product);
    let from = staged(cx, &conv, &x, &site.loc)?;
    let image_rows = |v: &TensorView| {
        let strides = v.byte_strides();
        let pixels = collapse(&dims(v, 2..v.shape.len()));
        pixels.map(|p| (strides[0], strides[1], p * v.width() as i64))
    };
    let sparse = Sparse {
        weights: filters.blocks(),
        form,
        x: from,
        x_rows: conv.x_rows(x.byte_strides()[1]),
        macs: dst.len() * filters.cols(),
        epilogue,
        loc: &site.loc,
    };
    sparse_product(cx, sparse, &dst, &image_rows)
}

/// The activations of a convolution with the taps laid out, if they must be.
fn staged(
    cx: &mut Cx,
    conv: &spmm::SparseConv,
    x: &TensorView,
    loc: &[String],
) -> Result<(BufRef, MatrixPlace), Declined> {
    let image_bytes = x.byte_strides()[0];
    if conv.is_direct() {
        return Ok((x.at, MatrixPlace { bytes: x.span_bytes(), offset: 0, batch_stride: image_bytes }));
    }
    let mut from = image(x)?;
    if conv.width != x.width() {
        from.strides[4] = conv.width as i64;
    }
    let staged = conv.stage(&from);
    let at = cx.temp(staged.bytes);
    let info = StepInfo { loc: loc.to_vec(), bytes: (x.span_bytes() + staged.bytes) as f64, ..StepInfo::default() };
    cx.kernel(movement(&staged.movement, cx.target.isa), vec![x.at, at], None, info);
    Ok((at, MatrixPlace { bytes: staged.bytes, offset: 0, batch_stride: staged.image_bytes as i64 }))
}

/// `result = epilogue(a · b)` for constant `b` in blocks: the transposed product of `bᵀ` and `aᵀ`.
pub(super) fn sparse_matmul(
    cx: &mut Cx,
    a: &TensorView,
    filters: &SparseFilters,
    site: &Site,
    epilogue: Epilogue,
) -> Lowered {
    let dst = site.result()?.clone();
    let form = filters.form(a.dtype)?;
    let (rows, k) = (filters.rows(), filters.cols());
    if a.is_empty() || dst.is_empty() {
        return Err(Declined::new(ReasonCode::Empty, "an empty product"));
    }
    let rank = a.shape.len();
    let pixels: usize = a.shape[..rank - 1].iter().product();
    let quads = filters.block.1 > 1;
    let numbers = filters.numbers();
    let staged_bytes = if pixels > 1 { pixels * k * numbers.transposed_bytes() } else { 0 };
    let product = Product { staged_bytes, ..Product::new(pixels, k, rows, numbers) };
    weigh_filters(cx, filters, product);
    let flat =
        a.reshaped(&[pixels, k]).ok_or_else(|| Declined::new(ReasonCode::Layout, "rows that are not regular"))?;
    let flat = if quads { words(cx, &flat, &site.loc)? } else { flat };
    let swapped =
        TensorView { shape: vec![flat.shape[1], pixels], strides: vec![flat.strides[1], flat.strides[0]], ..flat };
    let x = if pixels == 1 || swapped.strides[1] == 1 { swapped } else { plain_copy(cx, &swapped, &site.loc)? };
    let x_rows = (0..x.shape[0] as i64).map(|k| k * x.byte_strides()[0]).collect();
    let place = MatrixPlace { bytes: x.span_bytes(), offset: 0, batch_stride: 0 };
    let sparse = Sparse {
        weights: filters.blocks(),
        form,
        x: (x.at, place),
        x_rows,
        macs: dst.len() * k,
        epilogue,
        loc: &site.loc,
    };
    sparse_product(cx, sparse, &dst, &|v| {
        let rank = v.shape.len();
        let pixels = collapse(&dims(v, 0..rank - 1))? * v.width() as i64;
        let column = if v.shape[rank - 1] == 1 { 0 } else { v.byte_strides()[rank - 1] };
        Some((0, column, pixels))
    })
}

/// A matrix of bytes as one of words of four bytes of a row.
fn words(cx: &mut Cx, v: &TensorView, loc: &[String]) -> Result<TensorView, Declined> {
    if !v.shape[1].is_multiple_of(4) {
        return Err(Declined::new(ReasonCode::Layout, "rows that are no multiple of four bytes"));
    }
    let v = if v.strides[1] == 1 && v.strides[0] % 4 == 0 { v.clone() } else { plain_copy(cx, v, loc)? };
    let (shape, strides) = (vec![v.shape[0], v.shape[1] / 4], vec![v.strides[0] / 4, 1]);
    Ok(TensorView { dtype: DType::I32, shape, strides, ..v })
}

/// Emits the kernel; `strides` says how images, rows (channels) and pixels of a view of the result's shape lie.
fn sparse_product(cx: &mut Cx, sparse: Sparse, dst: &TensorView, strides: &Strides) -> Lowered {
    let irregular = || Declined::new(ReasonCode::Layout, "pixels that are not regular");
    let (c_batch, c_row, c_col) = strides(dst).ok_or_else(irregular)?;
    let batch = if c_batch == 0 { 1 } else { dst.shape[0] };
    let (mut operands, mut places) = (Vec::new(), Vec::new());
    for view in &sparse.epilogue.operands {
        let mem = mem_of(view.dtype)?;
        let view = if strides(view).is_some() { view.clone() } else { plain_copy(cx, view, sparse.loc)? };
        let (batch_stride, row_stride, col_stride) = strides(&view).ok_or_else(irregular)?;
        operands.push(Operand { mem, bytes: view.span_bytes(), offset: 0, batch_stride, row_stride, col_stride });
        places.push(view.at);
    }
    let extents = sparse.weights.extents();
    let problem = Spmm {
        batch,
        n: dst.len() / batch / extents.rows,
        x: sparse.x.1,
        form: sparse.form,
        x_rows: sparse.x_rows,
        c: MatrixPlace { bytes: dst.span_bytes(), offset: 0, batch_stride: c_batch },
        c_mem: mem_of(dst.dtype)?,
        c_row_stride: c_row,
        c_col_stride: c_col,
        operands,
        epilogue: sparse.epilogue.expr,
    };
    let built = spmm::spmm(&problem, &sparse.weights, cx.target.isa)
        .map_err(|e| Declined::new(ReasonCode::Shape, e.to_string()))?;
    let recipe = format!("operand 1, {:?} blocks of {} x {}", sparse.form, extents.block, extents.width);
    let stream = Tensor::from_bytes(DType::U8, &[built.stream.len()], &built.stream);
    let stream = cx.add_constant(recipe, stream.expect("a stream of bytes fits its length"));
    let mut args = vec![stream, sparse.x.0];
    args.extend(places);
    args.push(dst.at);
    let info = StepInfo {
        loc: sparse.loc.to_vec(),
        // What is multiplied: the zeros that were left out do not count.
        flops: 2.0 * sparse.macs as f64 * extents.density(),
        bytes: (problem.x.bytes + built.stream.len() + problem.c.bytes) as f64,
        ..StepInfo::default()
    };
    cx.kernel(built.kernel, args, None, info);
    Ok(())
}

/// The columns of a row-major matrix of `rows` by `cols`, one after the other.
pub(super) fn columns<T: Copy>(matrix: &[T], rows: usize, cols: usize) -> Vec<T> {
    let mut columns = Vec::with_capacity(matrix.len());
    for column in 0..cols {
        columns.extend((0..rows).map(|row| matrix[row * cols + column]));
    }
    columns
}

/// A convolution as the kernel sees it: quads are channels of one word.
fn sparse_conv_of(
    x: &TensorView,
    filters: &SparseFilters,
    axes: [Axis; 2],
    form: SparseForm,
) -> Result<spmm::SparseConv, Declined> {
    let (batch, channels, fill) = (x.shape[0], filters.shape[1], filters.fill());
    if filters.block.1 == 1 {
        return Ok(spmm::SparseConv { batch, channels, axes, width: form.pixel(), planes: true, fill });
    }
    if !channels.is_multiple_of(4) {
        return Err(Declined::new(ReasonCode::Layout, "channels that are no multiple of four"));
    }
    Ok(spmm::SparseConv { batch, channels: channels / 4, axes, width: form.pixel(), planes: channels == 4, fill })
}

/// Bytes that laying out the taps of a convolution of planes writes.
pub(super) fn staged_bytes(x: &TensorView, axes: [Axis; 2]) -> usize {
    let (batch, channels, width) = (x.shape[0], x.shape[1], x.width());
    batch * spmm::SparseConv { batch, channels, axes, width, planes: true, fill: [0; 8] }.staged_bytes()
}

/// Weights with fewer zeros than this are not worth a look.
const SOME_ZEROS: f64 = 0.05;

/// The share of weights that are zero.
pub(super) fn share_of_zeros<T: Default + PartialEq>(weights: &[T]) -> f64 {
    count(weights, &T::default()) as f64 / weights.len().max(1) as f64
}

/// Notes what the forms of a layer that runs dense would cost, where a share of its weights is zero with which blocks
/// may pay: `matrix` gives a row for each of `m` output channels.
pub(super) fn weigh<T: Copy + Default + PartialEq>(
    cx: &mut Cx,
    zeros: f64,
    matrix: impl FnOnce() -> Vec<T>,
    product: Product,
) {
    if zeros >= SOME_ZEROS {
        let (matrix, candidates) = (matrix(), spmm::BLOCKS.map(|rows| (rows, 1)));
        note(cx, zeros, product, &candidates, |block| count_blocks(&matrix, product.depth, block));
    }
}

/// The share of zeros in a constant of floats.
pub(super) fn zeros_of(cx: &Cx, t: &Tensor) -> f64 {
    cx.facts.number(&[t], "share of zeros", || t.as_slice::<f32>().map_or(0.0, share_of_zeros))
}

/// Notes what the forms of a layer that runs sparse would cost.
fn weigh_filters(cx: &mut Cx, filters: &SparseFilters, product: Product) {
    let zeros = match &filters.matrix {
        Matrix::Floats(m) => share_of_zeros(m),
        Matrix::Integers(m, _) => share_of_zeros(m),
    };
    let blocks = filters.blocks().extents().blocks;
    note(cx, zeros, product, &[filters.block], |_| blocks);
    cx.notes.choice.iter_mut().for_each(|c| c.sparse = true);
}

fn note(cx: &mut Cx, zeros: f64, product: Product, candidates: &[BlockSize], blocks: impl Fn(BlockSize) -> usize) {
    let form = |block: BlockSize| Form::Sparse { block, blocks: blocks(block) };
    let time = |&block: &BlockSize| (block, cx.machine.time(&product, form(block)));
    let best = candidates.iter().map(time).min_by(|a, b| a.1.total_cmp(&b.1));
    let dense_ns = cx.machine.densest(&product).1.0;
    cx.notes.choice = best.map(|(block, Nanos(sparse_ns))| Choice { zeros, block, sparse: false, dense_ns, sparse_ns });
}
