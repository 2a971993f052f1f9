//! Ops whose weights are encoded as blocks: convolutions without groups, and products with constant weights.

use optc_ir::ops::nn::Conv;
use optc_ir::{Encoding, Value};
use optc_runtime::plan::{BufRef, Info};
use optc_tensor::{DType, Tensor};

use super::contract::{collapse, dims, only_f32};
use super::conv::{axes, image};
use super::{Choice, Declined, Epilogue, Lowered, Lowering, Site, View};
use crate::cost::{Costs, Product};
use crate::movement::movement;
use crate::spmm::{self, Bcsr, Operand, Place, Spmm};
use crate::tile::Mem;
use crate::window::Axis;

/// The weights of a product, transposed where needed: a row for each output channel.
struct Weights {
    sparse: Bcsr,
    dense_macs: usize,
}

/// Bytes from one image, row (channel) and pixel of a view to the next.
type Strides = dyn Fn(&View) -> Option<(i64, i64, i64)>;

impl Lowering {
    /// Rows of a block, where a value is a constant that is to be read in blocks of one column.
    pub(super) fn block_of(&self, weights: Value) -> Option<usize> {
        self.constant(weights)?;
        match self.ty(weights).ok()?.encoding {
            Encoding::Bcsr { rows, cols: 1 } if spmm::BLOCKS.contains(&usize::from(rows)) => Some(rows.into()),
            _ => None,
        }
    }

    /// A convolution with weights in blocks of `block` rows.
    pub(super) fn sparse_conv(&mut self, op: &Conv, site: &Site, block: usize) -> Lowered {
        let dst = site.result()?.clone();
        only_f32(&dst)?;
        if dst.is_empty() || op.groups != 1 {
            return Err(Declined::new("an empty or grouped sparse convolution"));
        }
        let x = self.view_in(site.operand(0)?, Encoding::Plain)?;
        let weights = self.constant(site.operand(1)?).cloned();
        let weights = weights.ok_or_else(|| Declined::new("the weights are not constant"))?;
        let shape = weights.shape();
        let axes = axes(&x.shape[2..], &dst.shape[2..], &shape[2..], &op.strides, &op.dilations, &op.pads)?;
        let [Axis::NONE, h, w] = axes else {
            return Err(Declined::new("a sparse convolution over three axes"));
        };
        let (batch, channels, filters) = (x.shape[0], shape[1], shape[0]);
        let conv = spmm::Conv { batch, channels, axes: [h, w] };
        let epilogue = self.biased(site, 2, &dst)?;
        let floats = weights.as_slice::<f32>().map_err(|e| Declined::new(e.to_string()))?;
        let taps = channels * h.kernel * w.kernel;
        let n = dst.len() / filters;
        let pixels = [batch, h.out, w.out];
        let three_by_three = (h.is_simple(3) && w.is_simple(3)).then_some(pixels);
        let staged_bytes = batch * conv.staged_bytes();
        self.weigh(floats, Product { m: filters, k: taps, n, staged_bytes, three_by_three }, Some(block));
        let sparse = Bcsr::of(floats, filters, taps, block);
        let from = self.staged(&conv, &x, &site.loc)?;
        let image_rows = |v: &View| {
            let strides = v.byte_strides();
            let pixels = collapse(&dims(v, 2..v.shape.len()));
            pixels.map(|p| (strides[0], strides[1], p * v.width() as i64))
        };
        let weights = Weights { sparse, dense_macs: dst.len() * taps };
        self.sparse_product(weights, from, conv.x_rows(x.byte_strides()[1]), &dst, epilogue, &site.loc, &image_rows)
    }

    /// The activations of a convolution with the taps laid out, if they must be.
    fn staged(&mut self, conv: &spmm::Conv, x: &View, loc: &[String]) -> Result<(BufRef, Place), Declined> {
        let image_bytes = x.byte_strides()[0];
        if conv.is_direct() {
            return Ok((x.at, Place { bytes: x.span_bytes(), offset: 0, batch_stride: image_bytes }));
        }
        let staged = conv.stage(&image(x)?);
        let at = self.temp(staged.bytes);
        let info = Info { loc: loc.to_vec(), bytes: (x.span_bytes() + staged.bytes) as f64, ..Info::default() };
        self.kernel(movement(&staged.movement, self.target.isa), vec![x.at, at], None, info);
        Ok((at, Place { bytes: staged.bytes, offset: 0, batch_stride: staged.image_bytes as i64 }))
    }

    /// `result = epilogue(a · b)` for constant `b` in blocks: the transposed product of `bᵀ` and `aᵀ`.
    pub(super) fn sparse_matmul(
        &mut self,
        a: &View,
        b: (Value, bool),
        block: usize,
        site: &Site,
        epilogue: Epilogue,
    ) -> Lowered {
        let dst = site.result()?.clone();
        only_f32(a)?;
        only_f32(&dst)?;
        let weights = self.constant(b.0).cloned().ok_or_else(|| Declined::new("the weights are not constant"))?;
        let &[first, second] = weights.shape() else {
            return Err(Declined::new("sparse weights of another rank than 2"));
        };
        let floats = weights.as_slice::<f32>().map_err(|e| Declined::new(e.to_string()))?;
        // One row for each column of the result.
        let (rows, k, matrix) = match b.1 {
            true => (first, second, floats.to_vec()),
            false => (second, first, (0..floats.len()).map(|i| floats[i % first * second + i / first]).collect()),
        };
        if a.is_empty() || dst.is_empty() {
            return Err(Declined::new("an empty product"));
        }
        let sparse = Bcsr::of(&matrix, rows, k, block);
        let rank = a.shape.len();
        let pixels: usize = a.shape[..rank - 1].iter().product();
        let staged_bytes = if pixels > 1 { 4 * pixels * k } else { 0 };
        self.weigh(&matrix, Product { m: rows, k, n: pixels, staged_bytes, three_by_three: None }, Some(block));
        let flat = a.reshaped(&[pixels, k]).ok_or_else(|| Declined::new("rows that are not regular"))?;
        let swapped = View { shape: vec![k, pixels], strides: vec![flat.strides[1], flat.strides[0]], ..flat };
        let x = if pixels == 1 || swapped.strides[1] == 1 { swapped } else { self.plain_copy(&swapped, &site.loc)? };
        let x_rows = (0..k as i64).map(|k| k * x.byte_strides()[0]).collect();
        let place = Place { bytes: x.span_bytes(), offset: 0, batch_stride: 0 };
        let weights = Weights { sparse, dense_macs: dst.len() * k };
        self.sparse_product(weights, (x.at, place), x_rows, &dst, epilogue, &site.loc, &|v| {
            let rank = v.shape.len();
            let pixels = collapse(&dims(v, 0..rank - 1))? * v.width() as i64;
            let column = if v.shape[rank - 1] == 1 { 0 } else { v.byte_strides()[rank - 1] };
            Some((0, column, pixels))
        })
    }

    /// Emits the kernel; `strides` says how images, rows (channels) and pixels of a view of the result's shape lie.
    #[expect(clippy::too_many_arguments, reason = "a product, its operands, and where they came from")]
    fn sparse_product(
        &mut self,
        weights: Weights,
        (x, place): (BufRef, Place),
        x_rows: Vec<i64>,
        dst: &View,
        epilogue: Epilogue,
        loc: &[String],
        strides: &Strides,
    ) -> Lowered {
        let irregular = || Declined::new("pixels that are not regular");
        let (c_batch, c_row, c_col) = strides(dst).ok_or_else(irregular)?;
        let batch = if c_batch == 0 { 1 } else { dst.shape[0] };
        let (mut operands, mut places) = (Vec::new(), Vec::new());
        for view in &epilogue.operands {
            only_f32(view)?;
            let view = if strides(view).is_some() { view.clone() } else { self.plain_copy(view, loc)? };
            let (batch_stride, row_stride, col_stride) = strides(&view).ok_or_else(irregular)?;
            let bytes = view.span_bytes();
            operands.push(Operand { mem: Mem::F32, bytes, offset: 0, batch_stride, row_stride, col_stride });
            places.push(view.at);
        }
        let problem = Spmm {
            batch,
            n: dst.len() / batch / weights.sparse.rows,
            x: place,
            x_rows,
            c: Place { bytes: dst.span_bytes(), offset: 0, batch_stride: c_batch },
            c_row_stride: c_row,
            c_col_stride: c_col,
            operands,
            epilogue: epilogue.expr,
        };
        let built = spmm::spmm(&problem, &weights.sparse, self.target.isa).map_err(|e| Declined::new(e.to_string()))?;
        let stream = Tensor::from_bytes(DType::U8, &[built.stream.len()], &built.stream);
        let stream = self.add_constant(stream.expect("a stream of bytes fits its length"));
        let mut args = vec![stream, x];
        args.extend(places);
        args.push(dst.at);
        // What is multiplied: the zeros that were left out do not count.
        let share = (weights.sparse.blocks() * weights.sparse.block) as f64
            / (weights.sparse.rows * weights.sparse.cols).max(1) as f64;
        let info = Info {
            name: String::new(),
            loc: loc.to_vec(),
            flops: 2.0 * weights.dense_macs as f64 * share.min(1.0),
            bytes: (problem.x.bytes + built.stream.len() + problem.c.bytes) as f64,
        };
        self.kernel(built.kernel, args, None, info);
        Ok(())
    }
}

/// Weights with fewer zeros than this are not worth a look.
const SOME_ZEROS: f64 = 0.05;

/// Whether so many weights are zero that blocks may pay.
pub(super) fn some_zeros(weights: &[f32]) -> bool {
    share_of_zeros(weights) >= SOME_ZEROS
}

fn share_of_zeros(weights: &[f32]) -> f64 {
    weights.iter().filter(|&&w| w == 0.0).count() as f64 / weights.len().max(1) as f64
}

impl Lowering {
    /// Notes what the forms of a layer would cost: `matrix` has a row for each of `m` output channels.
    pub(super) fn weigh(&mut self, matrix: &[f32], product: Product, sparse: Option<usize>) {
        let zeros = share_of_zeros(matrix);
        if zeros < SOME_ZEROS {
            return;
        }
        let costs = Costs::of(self.target.isa);
        let time = |block: usize| {
            let blocks = Bcsr::count(matrix, product.k, block);
            (block, costs.sparse(&product, block, blocks))
        };
        let candidates = match sparse {
            Some(block) => vec![time(block)],
            None => spmm::BLOCKS.map(time).to_vec(),
        };
        let best = candidates.into_iter().min_by(|a, b| a.1.total_cmp(&b.1));
        self.choice = best.map(|(block, sparse_ns)| Choice {
            zeros,
            block,
            sparse: sparse.is_some(),
            dense_ns: costs.dense(&product),
            sparse_ns,
        });
    }
}
