//! Attention: two products with a softmax between them.
//!
//! ```text
//! scores = cap(scale · q·kᵀ) + mask; probabilities = softmax(scores); y = probabilities · v
//! ```
//!
//! Scale, cap and mask are the epilogue of the first product. Heads of `q` that share one of `k` are more rows of its matrix.
//! The products' tasks are heads, and blocks of rows of them.

use optc_ir::Encoding;
use optc_ir::ops::nn::Attention;
use optc_tensor::{DType, Tensor};

use super::contract::only_f32;
use super::matmul::{Product, Right, turned};
use super::{Declined, Epilogue, Lowered, Lowering, Site, View, elementwise, fold, strides_in};
use crate::expr::{Expr, Func};

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

impl Lowering {
    pub(super) fn attention(&mut self, op: &Attention, site: &Site) -> Lowered {
        site.without_epilogue()?;
        if !op.scores.is_empty() {
            return Err(Declined::new("its kernels do not give the scores"));
        }
        if site.optional(4).or(site.optional(5)).is_some() {
            return Err(Declined::new("lengths and offsets depend on data"));
        }
        let [q, k, v] = [0, 1, 2].map(|slot| site.operand(slot).and_then(|value| self.view(value)));
        let (q, k, v, dst) = (q?, k?, v?, site.result()?.clone());
        [&q, &k, &v, &dst].into_iter().try_for_each(only_f32)?;
        let sizes =
            Sizes { batch: q.shape[0], heads: q.shape[1], shared: k.shape[1], queries: q.shape[2], keys: k.shape[2] };
        if [&q, &k, &v].into_iter().any(View::is_empty) || !dst.is(Encoding::Plain) {
            return Err(Declined::new("it is empty, or the result is not laid out plainly"));
        }
        let loc = &site.loc;
        let scale = if op.scale.0 == 0.0 { 1.0 / (q.shape[3] as f32).sqrt() } else { op.scale.0 };
        let epilogue = self.score(op, scale, &sizes, site)?;
        let size = q.shape[3];
        let a = self.grouped(q, &sizes, size, loc)?;
        let scores = self.scores(&sizes);
        let precision = DType::F32;
        self.product(Product { a, b: Right::View(turned(k)), dst: scores.clone(), epilogue, precision, loc })?;
        let probabilities = self.scores(&sizes);
        fold::attention_softmax(self, scores, probabilities.clone(), loc)?;
        let width = v.shape[3];
        let dst = dst.reshaped(&sizes.matrices(width)).ok_or_else(|| Declined::new("the heads are not regular"))?;
        let epilogue = Epilogue::default();
        self.product(Product { a: probabilities, b: Right::View(v), dst, epilogue, precision, loc })
    }

    /// A buffer for a score of each query and key.
    fn scores(&mut self, sizes: &Sizes) -> View {
        let shape = sizes.matrices(sizes.keys).to_vec();
        let at = self.temp(4 * shape.iter().product::<usize>());
        View { at, dtype: DType::F32, strides: strides_in(&shape, Encoding::Plain), shape }
    }

    /// `[batch, heads, queries, columns]` with the heads that share one of `k` as rows of one matrix.
    fn grouped(&mut self, view: View, sizes: &Sizes, columns: usize, loc: &[String]) -> Result<View, Declined> {
        let shape = sizes.matrices(columns);
        if sizes.heads == sizes.shared {
            return Ok(view);
        }
        if let Some(view) = view.reshaped(&shape) {
            return Ok(view);
        }
        let copy = self.plain_copy(&view, loc)?;
        copy.reshaped(&shape).ok_or_else(|| Declined::new("the heads are not regular"))
    }

    /// What becomes of a product of `q` and `k`.
    fn score(&mut self, op: &Attention, scale: f32, sizes: &Sizes, site: &Site) -> Result<Epilogue, Declined> {
        let mut expr = Expr::Operand(0).times(Expr::Const(scale));
        if op.softcap.0 != 0.0 {
            let cap = || Expr::Const(op.softcap.0);
            expr = expr.over(cap()).func(Func::Tanh).times(cap());
        }
        let mut biases = Vec::new();
        if let Some(mask) = site.optional(3) {
            let mask = self.view(mask)?;
            biases.push(if mask.dtype == DType::Bool { self.bias_of(&mask, &site.loc)? } else { mask });
        }
        if op.causal || op.left >= 0 || op.right >= 0 {
            biases.push(self.positions(op, sizes));
        }
        let mut operands = Vec::new();
        for bias in biases {
            only_f32(&bias)?;
            let wide = bias.broadcast(&[sizes.batch, sizes.heads, sizes.queries, sizes.keys]);
            let wide = wide.ok_or_else(|| Declined::new("the mask is shorter than the keys"))?;
            operands.push(self.grouped(wide, sizes, sizes.keys, &site.loc)?);
            expr = expr.plus(Expr::Operand(operands.len()));
        }
        Ok(Epilogue { expr, operands })
    }

    /// What a boolean mask adds: nothing, or minus infinity.
    fn bias_of(&mut self, mask: &View, loc: &[String]) -> Result<View, Declined> {
        let strides = strides_in(&mask.shape, Encoding::Plain);
        let bias = View { at: self.temp(4 * mask.len()), dtype: DType::F32, shape: mask.shape.clone(), strides };
        let expr = Expr::Operand(0).mask().select(Expr::Const(0.0), Expr::Const(f32::NEG_INFINITY));
        elementwise::elementwise(self, &expr, std::slice::from_ref(mask), &bias, loc)?;
        Ok(bias)
    }

    /// What the positions of queries and keys add.
    fn positions(&mut self, op: &Attention, sizes: &Sizes) -> View {
        let shape = vec![sizes.queries, sizes.keys];
        let bias = |i: usize, j: usize| if op.sees(i as i64, j as i64) { 0.0 } else { f32::NEG_INFINITY };
        let all: Vec<f32> = (0..sizes.queries).flat_map(|i| (0..sizes.keys).map(move |j| bias(i, j))).collect();
        let at = self.add_constant(Tensor::from_slice(&shape, &all).expect("as many elements as its shape"));
        View { at, dtype: DType::F32, strides: strides_in(&shape, Encoding::Plain), shape }
    }
}
