//! Scaled dot-product attention (Vaswani et al. 2017).

use optc_tensor::{DType, Tensor, broadcast_shapes};

use crate::ops::eval::result_shapes;
use crate::ops::math::{broadcast_indices, product};
use crate::ops::message::shown;
use crate::{
    Args, Dim, Facts, InferCx, ItemCx, OpError, Real, Semantics, TensorType, Type, Val, ensure, op, text_enum,
};

text_enum! {
    /// The point at which the scores of an attention become a result.
    pub enum AttentionScores {
        /// At none: they are not a result.
        Absent = "",
        /// When they are scaled products.
        Raw = "raw",
        /// After the bound of `softcap`.
        Capped = "capped",
        /// After the mask.
        Masked = "masked",
        /// After the softmax.
        Probabilities = "probabilities",
    }
}

op! {
    /// `softmax(cap(scale · q·kᵀ) + mask) · v` for `q: [B, Hq, Sq, E]`, `k: [B, Hk, Sk, E]`, `v: [B, Hk, Sk, F]`;
    /// result `[B, Hq, Sq, F]`, and with `scores` a second one, `[B, Hq, Sq, Sk]`. `Hq / Hk` heads of `q` share one of
    /// `k`. `mask` is added, or where it is boolean says which keys a query sees; its last extent may be short, further
    /// keys are not seen. `lengths: [B]` says how many keys count. Query `i` stands at `p = i + offset`, or at `i +
    /// lengths − Sq` without an `offset`; it sees keys from `p − left` to `p + right`, and none after `p` with
    /// `causal`. The score of a key that is not seen is the sum with minus infinity. A query that sees no key gives
    /// zeros, unless this is the formula.
    ///
    /// - (C1) `q`, `k` and `v` have rank 4 and the shapes above; `q` and `k` have one float dtype, `v` has any.
    /// - (C2) `mask` broadcasts to `[B, Hq, Sq, Sk]` and is boolean or a float.
    /// - (C3) `scores` is empty, `raw`, `capped`, `masked` or `probabilities`.
    /// - (C4) `lengths` and `offset` are integers; `offset` has one element.
    "nn.attention" = Attention(q, k, v, mask: optional, lengths: optional, offset: optional) {
        /// Whether a query sees no key after its own position.
        causal: bool = false,
        /// Whether a query that sees no key gives NaN, as the softmax of its scores is.
        formula: bool = false,
        /// How many keys before its position a query sees; negative for all.
        left: i64 = -1,
        /// How many keys after its position a query sees; negative for all.
        right: i64 = -1,
        /// Factor of the products; 0 for `1/√E`.
        scale: Real = Real(0.0),
        /// At which point the scores become a second result; empty for none.
        scores: AttentionScores = AttentionScores::Absent,
        /// Bound of the scores, `softcap · tanh(score / softcap)`; 0 for none.
        softcap: Real = Real(0.0),
    }
}

impl Semantics for Attention {
    const FACTS: Facts<Attention> = Facts::family();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let (q, k, v) = (cx.tensor(0)?, cx.tensor(1)?, cx.tensor(2)?);
        let one = q.dtype.is_float() && k.dtype == q.dtype && v.dtype.is_float();
        ensure!(one, "C1", "`q` is {q}, `k` is {k}, `v` is {v}");
        ensure!([q, k, v].iter().all(|t| t.rank().is_none_or(|r| r == 4)), "C1", "`q` is {q}, `k` is {k}, `v` is {v}");
        let at = |t: &TensorType, d: usize| t.shape.as_ref().map_or(Dim::Unknown, |s| s[d].clone());
        for (a, b, d) in [(q, k, 0), (q, v, 0), (k, v, 1), (k, v, 2), (q, k, 3)] {
            if let (Some(x), Some(y)) = (at(a, d).known(), at(b, d).known()) {
                ensure!(x == y, "C1", "`q` is {q}, `k` is {k}, `v` is {v}");
            }
        }
        if let (Some(hq), Some(hk)) = (at(q, 1).known(), at(k, 1).known()) {
            ensure!(hk > 0 && hq.is_multiple_of(hk), "C1", "{hq} heads do not share {hk}");
        }
        if cx.has(3) {
            let mask = cx.tensor(3)?;
            ensure!(mask.dtype == DType::Bool || mask.dtype.is_float(), "C2", "`mask` is {mask}");
        }
        let y = TensorType::new(q.dtype, vec![at(q, 0), at(q, 1), at(q, 2), at(v, 3)]);
        let scores = TensorType::new(q.dtype, vec![at(q, 0), at(q, 1), at(q, 2), at(k, 2)]);
        let absent = self.scores == AttentionScores::Absent;
        Ok(if absent { vec![y.into()] } else { vec![y.into(), scores.into()] })
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        let whole = |slot: usize| !cx.infer.has(slot) || cx.is_batched(slot);
        // All three have the items first, and so has a mask that is a batch.
        (0..3).all(whole) && cx.only(&[0, 1, 2, 3]) && (!cx.is_batched(3) || cx.rank(3) == Some(4))
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (q, k, v) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
        let shapes = result_shapes(self, args)?;
        let (heads, queries, keys) = (q.shape()[1], q.shape()[2], k.shape()[2]);
        let (size, width) = (q.shape()[3], v.shape()[3]);
        let full = [q.shape()[0], heads, queries, keys];
        let mask = args.optional(3).map(|m| self.mask(m, full)).transpose()?;
        let lengths = self.integers(args.optional(4), full[0])?;
        let offset = self.integers(args.optional(5), 1)?.map(|o| o[0]);
        let scale = if self.scale.0 == 0.0 { 1.0 / (size as f64).sqrt() } else { self.scale.0 as f64 };
        let (qv, kv, vv) = (q.to_f64_vec(), k.to_f64_vec(), v.to_f64_vec());
        let (mut y, mut kept) = (vec![], vec![]);
        for head in 0..full[0] * heads {
            let (b, shared) = (head / heads, head / heads * k.shape()[1] + head % heads / (heads / k.shape()[1]));
            let transposed = transpose(&kv[shared * keys * size..][..keys * size], keys, size);
            let mut scores = product(&qv[head * queries * size..][..queries * size], &transposed, queries, size, keys);
            scores.iter_mut().for_each(|s| *s *= scale);
            self.keep(&mut kept, AttentionScores::Raw, &scores);
            if self.softcap.0 != 0.0 {
                let cap = self.softcap.0 as f64;
                scores.iter_mut().for_each(|s| *s = cap * (*s / cap).tanh());
            }
            self.keep(&mut kept, AttentionScores::Capped, &scores);
            let length = lengths.as_ref().map_or(keys as i64, |l| l[b]);
            let first = offset.unwrap_or(if lengths.is_some() { length - queries as i64 } else { 0 });
            for (i, row) in scores.chunks_mut(keys.max(1)).enumerate() {
                for (j, s) in row.iter_mut().enumerate() {
                    let bias = mask.as_ref().map_or(0.0, |m| m[(head * queries + i) * keys + j]);
                    let seen = (j as i64) < length && self.sees(first + i as i64, j as i64);
                    *s += if seen { bias } else { f64::NEG_INFINITY };
                }
            }
            self.keep(&mut kept, AttentionScores::Masked, &scores);
            scores.chunks_mut(keys.max(1)).for_each(|row| softmax(row, self.formula));
            self.keep(&mut kept, AttentionScores::Probabilities, &scores);
            let values = &vv[shared * keys * width..][..keys * width];
            y.extend(product(&scores, values, queries, keys, width));
        }
        let mut results = vec![Tensor::from_f64(q.dtype(), &shapes[0], &y)?.into()];
        if let Some(shape) = shapes.get(1) {
            results.push(Tensor::from_f64(q.dtype(), shape, &kept)?.into());
        }
        Ok(results)
    }
}

impl Attention {
    /// Whether a query at position `p` sees key `j`.
    pub fn sees(&self, p: i64, j: i64) -> bool {
        (!self.causal || j <= p)
            && (self.left < 0 || j >= p.saturating_sub(self.left))
            && (self.right < 0 || j <= p.saturating_add(self.right))
    }

    /// Keeps the scores where they are asked for at this point.
    fn keep(&self, kept: &mut Vec<f64>, point: AttentionScores, scores: &[f64]) {
        if self.scores == point {
            kept.extend(scores);
        }
    }

    fn integers(&self, t: Option<&Tensor>, count: usize) -> Result<Option<Vec<i64>>, OpError> {
        let Some(t) = t else { return Ok(None) };
        let small = |v: &i64| (-(1 << 40)..1 << 40).contains(v);
        let v = t.to_i64_vec();
        let fits = t.dtype().is_int() && v.len() == count && v.iter().all(small);
        ensure!(fits, "C4", "lengths or offset are {}, expected {count} integers", shown(t));
        Ok(Some(v))
    }

    /// What is added to each score.
    fn mask(&self, mask: &Tensor, full: [usize; 4]) -> Result<Vec<f64>, OpError> {
        let keys = full[3];
        let given = mask.shape().last().copied().filter(|&n| n != 1).unwrap_or(keys).min(keys);
        let part = [full[0], full[1], full[2], given];
        let fits = broadcast_shapes(mask.shape(), &part).is_some_and(|s| s == part);
        ensure!(fits, "C2", "`mask` has shape {:?}, the scores {full:?}", mask.shape());
        let value = |v: f64| match mask.dtype() {
            DType::Bool if v == 0.0 => f64::NEG_INFINITY,
            DType::Bool => 0.0,
            _ => v,
        };
        let v: Vec<f64> = mask.to_f64_vec().into_iter().map(value).collect();
        let mut bias = vec![f64::NEG_INFINITY; full.iter().product()];
        for (at, i) in broadcast_indices(mask.shape(), &part).into_iter().enumerate() {
            bias[at / given * keys + at % given] = v[i];
        }
        Ok(bias)
    }
}

/// The transpose of a matrix.
fn transpose(m: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    (0..rows * columns).map(|i| m[i % rows * columns + i / rows]).collect()
}

/// The softmax of one row; zeros where nothing is seen, unless it is to be the formula.
fn softmax(row: &mut [f64], formula: bool) {
    let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !formula && top == f64::NEG_INFINITY && !row.iter().any(|s| s.is_nan()) {
        return row.fill(0.0);
    }
    let sum: f64 = row.iter().map(|s| (s - top).exp()).sum();
    row.iter_mut().for_each(|s| *s = (*s - top).exp() / sum);
}
