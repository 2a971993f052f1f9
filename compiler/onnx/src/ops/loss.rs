//! Losses of classification.

use optc_ir::Value;
use optc_ir::ops::nn::{self, LossReduction};

use super::Table;
use crate::mapping::{MapError, NodeCx};

pub(crate) const TABLE: Table = &[
    ("", "NegativeLogLikelihoodLoss", |cx| {
        let x = cx.input(0)?;
        nll_loss(cx, x)
    }),
    ("", "SoftmaxCrossEntropyLoss", |cx| {
        let x = cx.input(0)?;
        let log = cx.emit1(nn::Softmax { axis: 1, log: true }, &[x])?;
        let mut results = nll_loss(cx, log)?;
        results.push(log);
        Ok(results)
    }),
];

/// The loss of the node's targets under the log-probabilities `x`.
fn nll_loss(cx: &mut NodeCx, x: Value) -> Result<Vec<Value>, MapError> {
    let reduction = cx.attrs.text_or("reduction", LossReduction::Mean)?;
    let ignore = cx.attrs.int("ignore_index")?.into_iter().collect();
    let operands = [Some(x), Some(cx.input(1)?), cx.optional(2)];
    cx.emit(nn::NllLoss { ignore, reduction }, &operands)
}
