//! Losses of classification.

use optc_tensor::Tensor;

use crate::ops::eval::bounded;
use crate::{Args, Facts, InferCx, OpError, Semantics, TensorType, Type, Val, ensure, op, text_enum};

text_enum! {
    /// What becomes of the losses of single targets.
    pub enum LossReduction {
        /// They are the result.
        None = "none",
        /// Their sum.
        Sum = "sum",
        /// Their mean: their sum divided by the sum of the weights.
        Mean = "mean",
    }
}

op! {
    /// The negative log likelihood of the classes `target: [N, D…]` under the log-probabilities `x: [N, C, D…]`:
    /// `−weight[t] · x[n, t, d]`, summed or averaged (by the sum of the weights) on request.
    ///
    /// - (C1) `reduction` is `none`, `sum` or `mean`.
    /// - (C2) The shapes are those above; `weight` has `C` elements; `x` is a float.
    /// - (C3) Targets lie in `0..C`, or are in `ignore`, which makes their loss and weight zero.
    "nn.nll_loss" = NllLoss(x, target, weight: optional) {
        /// Targets that do not count.
        ignore: Vec<i64> = vec![],
        /// What becomes of the single losses.
        reduction: LossReduction = LossReduction::Mean,
    }
}

impl Semantics for NllLoss {
    const FACTS: Facts<NllLoss> = Facts::host("there is no kernel for it");

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let (x, target) = (cx.tensor(0)?, cx.tensor(1)?);
        ensure!(x.dtype.is_float() && target.dtype.is_int(), "C2", "`x` is {x}, `target` is {target}");
        Ok(vec![match self.reduction {
            LossReduction::None => TensorType::of(x.dtype, target.shape.clone()).into(),
            LossReduction::Sum | LossReduction::Mean => TensorType::fixed(x.dtype, &[]).into(),
        }])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, target) = (args.tensor(0)?, args.tensor(1)?);
        let (from, to) = (x.shape(), target.shape());
        let fits = x.rank() >= 2 && to.len() + 1 == from.len() && from[0] == to[0] && from[2..] == to[1..];
        ensure!(fits, "C2", "`x` has shape {:?}, `target` {:?}", x.shape(), target.shape());
        let classes = x.shape()[1];
        let weight = args.optional(2).map_or_else(|| vec![1.0; classes], Tensor::to_f64_vec);
        ensure!(weight.len() == classes, "C2", "`weight` has {} elements, expected {classes}", weight.len());
        let plane: usize = x.shape()[2..].iter().product();
        let xv = x.to_f64_vec();
        let (mut losses, mut total) = (Vec::with_capacity(bounded(target.shape())?), 0.0);
        for (i, t) in target.to_i64_vec().into_iter().enumerate() {
            if self.ignore.contains(&t) {
                losses.push(0.0);
                continue;
            }
            ensure!((0..classes as i64).contains(&t), "C3", "target {t} is outside of 0..{classes}");
            let w = weight[t as usize];
            total += w;
            losses.push(-w * xv[(i / plane * classes + t as usize) * plane + i % plane]);
        }
        let sum = || losses.iter().sum::<f64>();
        let y = match self.reduction {
            LossReduction::None => Tensor::from_f64(x.dtype(), target.shape(), &losses)?,
            LossReduction::Sum => Tensor::from_f64(x.dtype(), &[], &[sum()])?,
            LossReduction::Mean => Tensor::from_f64(x.dtype(), &[], &[sum() / total])?,
        };
        Ok(vec![y.into()])
    }
}
