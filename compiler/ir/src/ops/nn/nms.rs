//! Non-maximum suppression.

use optc_tensor::{DType, Tensor};

use crate::{Args, Dim, Facts, InferCx, OpError, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// The indices (batch, class, box) of the boxes that stay when, for each batch and class in the order of their
    /// scores, boxes that overlap with a chosen one by more than `iou` are dropped. `boxes: [B, N, 4]`, `scores: [B, C,
    /// N]`; scalars: at most `limit` boxes for each class (none where it is absent), only those whose score is above
    /// `score`.
    ///
    /// - (C1) The shapes are those above, and `boxes` and `scores` are floats.
    "nn.non_max_suppression" = NonMaxSuppression(boxes, scores, limit: optional, iou: optional, score: optional) {
        /// Whether a box is its centre and size (x first) rather than two corners (y first).
        centred: bool = false,
    }
}

/// A box: its two corners in order.
type Corners = [f32; 4];

impl NonMaxSuppression {
    fn corners(&self, b: &[f32]) -> Corners {
        if self.centred {
            let (w, h) = (b[2] / 2.0, b[3] / 2.0);
            [b[0] - w, b[1] - h, b[0] + w, b[1] + h]
        } else {
            [b[0].min(b[2]), b[1].min(b[3]), b[0].max(b[2]), b[1].max(b[3])]
        }
    }
}

/// How much two boxes overlap: the ratio of their intersection to their union; 0 where one is empty.
fn overlap(a: &Corners, b: &Corners) -> f32 {
    let length = |d: usize| (a[d + 2].min(b[d + 2]) - a[d].max(b[d])).max(0.0);
    let area = |c: &Corners| (c[2] - c[0]) * (c[3] - c[1]);
    let common = length(0) * length(1);
    let whole = area(a) + area(b) - common;
    if area(a) <= 0.0 || area(b) <= 0.0 || whole <= 0.0 { 0.0 } else { common / whole }
}

impl Semantics for NonMaxSuppression {
    const FACTS: Facts<NonMaxSuppression> = Facts::host("how much it finds depends on data");

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let (boxes, scores) = (cx.tensor(0)?, cx.tensor(1)?);
        let fits = |t: &TensorType| t.dtype.is_float() && t.rank().is_none_or(|r| r == 3);
        ensure!(fits(boxes) && fits(scores), "C1", "`boxes` is {boxes}, `scores` is {scores}");
        Ok(vec![TensorType::new(DType::I64, vec![Dim::Unknown, Dim::Known(3)]).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (boxes, scores) = (args.tensor(0)?, args.tensor(1)?);
        let (b, s) = (boxes.shape(), scores.shape());
        let fits = b.len() == 3 && s.len() == 3 && b[2] == 4 && b[0] == s[0] && b[1] == s[2];
        ensure!(fits, "C1", "`boxes` has shape {b:?}, `scores` {s:?}");
        let scalar = |slot: usize| args.optional(slot).and_then(|t| t.to_f64_vec().first().copied());
        let limit = scalar(2).map_or(0, |v| v.clamp(0.0, b[1] as f64) as usize);
        let iou = scalar(3).unwrap_or(0.0) as f32;
        let least = scalar(4).map(|v| v as f32);
        let narrow = |t: &Tensor| t.to_f64_vec().into_iter().map(|v| v as f32).collect::<Vec<f32>>();
        let (bv, sv) = (narrow(boxes), narrow(scores));
        let corners: Vec<Corners> = bv.chunks_exact(4).map(|b| self.corners(b)).collect();
        let mut chosen: Vec<i64> = vec![];
        for (row, scores) in sv.chunks(b[1].max(1)).enumerate() {
            let (batch, class) = (row / s[1], row % s[1]);
            let corners = &corners[batch * b[1]..][..b[1]];
            let mut order: Vec<usize> = (0..scores.len()).filter(|&i| least.is_none_or(|l| scores[i] > l)).collect();
            order.sort_by(|&i, &j| scores[j].total_cmp(&scores[i]));
            let mut kept: Vec<usize> = vec![];
            for i in order {
                if kept.len() == limit {
                    break;
                }
                if kept.iter().all(|&k| overlap(&corners[k], &corners[i]) <= iou) {
                    kept.push(i);
                }
            }
            chosen.extend(kept.iter().flat_map(|&i| [batch as i64, class as i64, i as i64]));
        }
        Ok(vec![Tensor::from_slice(&[chosen.len() / 3, 3], &chosen)?.into()])
    }
}
