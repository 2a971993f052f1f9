//! Linear attention: a recurrence over a matrix state (Katharopoulos et al. 2020; gated and delta rules, Yang et al.
//! 2024).

use optc_tensor::Tensor;

use crate::ops::eval::result_shapes;
use crate::{Args, Dim, Facts, InferCx, OpError, Real, Semantics, TensorType, Type, Val, ensure, op, text_enum};

text_enum! {
    /// How linear attention updates its state.
    pub enum UpdateRule {
        /// By adding what is new.
        Linear = "linear",
        /// As `linear`, after the state has decayed.
        Gated = "gated",
        /// By adding the difference to what the state holds for the key.
        Delta = "delta",
        /// As `delta`, after the state has decayed.
        GatedDelta = "gated_delta",
    }
}

impl UpdateRule {
    /// Whether the state decays.
    fn is_gated(self) -> bool {
        match self {
            UpdateRule::Gated | UpdateRule::GatedDelta => true,
            UpdateRule::Linear | UpdateRule::Delta => false,
        }
    }

    /// Whether a difference is added.
    fn is_delta(self) -> bool {
        match self {
            UpdateRule::Delta | UpdateRule::GatedDelta => true,
            UpdateRule::Linear | UpdateRule::Gated => false,
        }
    }
}

op! {
    /// For each step and head: `S ← exp(decay)·S`, `S ← S + k ⊗ u`, `y = scale · qᵀ S`, where `u` is `v`, or `beta · (v
    /// − Sᵀ k)` for the delta rules. `q: [B, T, Hq·E]`, `k: [B, T, Hk·E]`, `v: [B, T, Hk·F]`, `state: [B, Hk, E, F]`
    /// (zeros where it is absent), `decay: [B, T, Hk·E]` or `[B, T, Hk]`, `beta: [B, T, Hk]` or `[B, T, 1]`; results
    /// `y: [B, T, Hq·F]` and the last state. `Hq / Hk` heads of `q` share a state.
    ///
    /// - (C1) `rule` is `linear`, `gated`, `delta` or `gated_delta`; gated rules have a `decay`, delta rules a `beta`.
    /// - (C2) The shapes are those above and the dtypes floats.
    "nn.linear_attention" = LinearAttention(q, k, v, state: optional, decay: optional, beta: optional) {
        /// Heads of `k` and `v`.
        kv_heads: i64,
        /// Heads of `q`.
        q_heads: i64,
        /// How the state is updated.
        rule: UpdateRule = UpdateRule::GatedDelta,
        /// Factor of the result; 0 for `1/√E`.
        scale: Real = Real(0.0),
    }
}

impl LinearAttention {
    fn heads(&self) -> Result<(usize, usize), OpError> {
        let fits = self.kv_heads > 0 && self.q_heads > 0 && self.q_heads % self.kv_heads == 0;
        ensure!(fits, "C2", "{} heads do not share {}", self.q_heads, self.kv_heads);
        Ok((self.q_heads as usize, self.kv_heads as usize))
    }
}

impl Semantics for LinearAttention {
    const FACTS: Facts<LinearAttention> = Facts::host("there is no kernel for it");

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let (q, k, v) = (cx.tensor(0)?, cx.tensor(1)?, cx.tensor(2)?);
        let fits = [q, k, v].iter().all(|t| t.dtype.is_float() && t.rank().is_none_or(|r| r == 3));
        ensure!(fits, "C2", "`q` is {q}, `k` is {k}, `v` is {v}");
        for slot in (3..6).filter(|&slot| cx.has(slot)) {
            let t = cx.tensor(slot)?;
            ensure!(t.dtype.is_float(), "C2", "operand {slot} is {t}, expected floats");
        }
        let complete = (!self.rule.is_gated() || cx.has(4)) && (!self.rule.is_delta() || cx.has(5));
        ensure!(complete, "C1", "`{}` lacks `decay` or `beta`", self.rule);
        let (hq, hk) = self.heads()?;
        let at = |t: &TensorType, d: usize| t.shape.as_ref().map_or(Dim::Unknown, |s| s[d].clone());
        let per =
            |t: &TensorType, heads: usize| at(t, 2).known().filter(|n| n.is_multiple_of(heads)).map(|n| n / heads);
        let dim = |n: Option<usize>| n.map_or(Dim::Unknown, Dim::Known);
        let width = per(v, hk);
        let y = vec![at(q, 0), at(q, 1), dim(width.and_then(|n| n.checked_mul(hq)))];
        let state = vec![at(q, 0), Dim::Known(hk), dim(per(k, hk)), dim(width)];
        let dtype = if cx.has(3) { cx.tensor(3)?.dtype } else { q.dtype };
        Ok(vec![TensorType::new(q.dtype, y).into(), TensorType::new(dtype, state).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (q, k, v) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
        let shapes = result_shapes(self, args)?;
        let (hq, hk) = self.heads()?;
        let [batch, _, e, f] = shapes[1][..] else { return Err(OpError::Operand { slot: 1 }) };
        let steps = shapes[0][1];
        let has = |t: &Tensor, n: usize| t.shape() == [batch, steps, n];
        ensure!(has(q, hq * e) && has(k, hk * e) && has(v, hk * f), "C2", "`q`, `k` and `v` differ in shape");
        let state = args.optional(3);
        ensure!(state.is_none_or(|s| s.shape() == shapes[1]), "C2", "`state` has another shape than {:?}", shapes[1]);
        let (decay, beta) = (args.optional(4), args.optional(5));
        ensure!(decay.is_none_or(|t| has(t, hk * e) || has(t, hk)), "C2", "`decay` has another shape");
        ensure!(beta.is_none_or(|t| has(t, hk) || has(t, 1)), "C2", "`beta` has another shape");
        let mut state = state.map_or_else(|| vec![0.0; batch * hk * e * f], Tensor::to_f64_vec);
        let scale = if self.scale.0 == 0.0 { 1.0 / (e as f64).sqrt() } else { self.scale.0 as f64 };
        let (qv, kv, vv) = (q.to_f64_vec(), k.to_f64_vec(), v.to_f64_vec());
        let decay = decay.filter(|_| self.rule.is_gated()).map(|t| (t.to_f64_vec(), t.shape()[2]));
        let beta = beta.filter(|_| self.rule.is_delta()).map(|t| (t.to_f64_vec(), t.shape()[2]));
        let mut y = vec![0.0; batch * steps * hq * f];
        for (head, state) in state.chunks_mut((e * f).max(1)).enumerate() {
            let (b, h) = (head / hk, head % hk);
            for t in b * steps..(b + 1) * steps {
                let key = &kv[(t * hk + h) * e..][..e];
                if let Some((decay, n)) = &decay {
                    for (i, row) in state.chunks_mut(f.max(1)).enumerate() {
                        let gate = decay[t * n + if *n == hk { h } else { h * e + i }].exp();
                        row.iter_mut().for_each(|s| *s *= gate);
                    }
                }
                let mut update = vv[(t * hk + h) * f..][..f].to_vec();
                if let Some((beta, n)) = &beta {
                    let rate = beta[t * n + if *n == 1 { 0 } else { h }];
                    let known = read(state, key, f);
                    update.iter_mut().zip(known).for_each(|(u, s)| *u = rate * (*u - s));
                }
                for (row, k) in state.chunks_mut(f.max(1)).zip(key) {
                    row.iter_mut().zip(&update).for_each(|(s, u)| *s += k * u);
                }
                for g in h * (hq / hk)..(h + 1) * (hq / hk) {
                    let row = read(state, &qv[(t * hq + g) * e..][..e], f);
                    y[(t * hq + g) * f..][..f].iter_mut().zip(row).for_each(|(y, v)| *y = scale * v);
                }
            }
        }
        let dtype = args.optional(3).map_or(q.dtype(), Tensor::dtype);
        let y = Tensor::from_f64(q.dtype(), &shapes[0], &y)?;
        Ok(vec![y.into(), Tensor::from_f64(dtype, &shapes[1], &state)?.into()])
    }
}

/// `Sᵀ x` for a state of rows of `width`.
fn read(state: &[f64], x: &[f64], width: usize) -> Vec<f64> {
    let mut y = vec![0.0; width];
    for (row, x) in state.chunks(width.max(1)).zip(x) {
        y.iter_mut().zip(row).for_each(|(y, s)| *y += x * s);
    }
    y
}
