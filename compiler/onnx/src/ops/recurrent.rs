//! Recurrent layers.

use optc_ir::ops::nn::{self, RecurrentActivation, RecurrentDirection};
use optc_ir::ops::tensor;
use optc_ir::{Real, TextEnum, Value};

use super::{Mapped, Table};
use crate::AttributeError;
use crate::attributes::meaning;
use crate::mapping::{MapError, NodeCx};

pub(crate) const TABLE: Table = &[("", "RNN", rnn), ("", "GRU", gru), ("", "LSTM", lstm)];

/// What ONNX calls an activation; in models its letters may be in any case.
pub(crate) fn onnx_activation(activation: RecurrentActivation) -> &'static str {
    match activation {
        RecurrentActivation::Sigmoid => "Sigmoid",
        RecurrentActivation::Tanh => "Tanh",
        RecurrentActivation::Relu => "Relu",
        RecurrentActivation::Affine => "Affine",
        RecurrentActivation::LeakyRelu => "LeakyRelu",
        RecurrentActivation::ThresholdedRelu => "ThresholdedRelu",
        RecurrentActivation::ScaledTanh => "ScaledTanh",
        RecurrentActivation::HardSigmoid => "HardSigmoid",
        RecurrentActivation::Elu => "Elu",
        RecurrentActivation::Softsign => "Softsign",
        RecurrentActivation::Softplus => "Softplus",
    }
}

/// The activation that ONNX calls by this name.
fn activation_of(name: &str) -> Result<RecurrentActivation, AttributeError> {
    let words: Vec<_> = RecurrentActivation::ALL.iter().map(|&a| (onnx_activation(a), a)).collect();
    meaning("activations", name, &words, str::eq_ignore_ascii_case)
}

/// The attributes that all recurrent layers have.
pub(super) struct Common {
    pub direction: RecurrentDirection,
    pub activations: Vec<RecurrentActivation>,
    pub alpha: Vec<Real>,
    pub beta: Vec<Real>,
    pub clip: Real,
    /// Whether the batch is the first axis.
    pub batch_first: bool,
}

/// Reads what all recurrent layers have; the activations are left empty where they are the `defaults`.
pub(super) fn common(cx: &NodeCx, defaults: &[RecurrentActivation]) -> Result<Common, MapError> {
    cx.attrs.ignore(&["hidden_size"]); // the weights' shapes say it
    let direction = cx.attrs.text_or("direction", RecurrentDirection::Forward)?;
    let clip = cx.attrs.float("clip")?.unwrap_or(0.0);
    let names = cx.attrs.strings("activations")?.unwrap_or_default();
    let (alphas, betas) = (cx.attrs.floats("activation_alpha")?, cx.attrs.floats("activation_beta")?);
    let (mut alphas, mut betas) = (alphas.unwrap_or_default().into_iter(), betas.unwrap_or_default().into_iter());
    let (mut activations, mut alpha, mut beta) = (vec![], vec![], vec![]);
    for name in &names {
        let activation = activation_of(name)?;
        activations.push(activation);
        let parameters = activation.defaults();
        // The parameters are handed out in order to the functions that take them.
        alpha.push(Real(parameters.0.map_or(0.0, |default| alphas.next().unwrap_or(default as f32))));
        beta.push(Real(parameters.1.map_or(0.0, |default| betas.next().unwrap_or(default as f32))));
    }
    let plain = activations.iter().zip(defaults.iter().cycle()).all(|(a, b)| a == b);
    if plain {
        (activations, alpha, beta) = (vec![], vec![], vec![]);
    }
    let batch_first = cx.attrs.flag("layout", false)?;
    Ok(Common { direction, activations, alpha, beta, clip: Real(clip), batch_first })
}

/// Swaps the first two axes of `v`, or moves the axes as `perm` says, where the batch comes first.
fn transposed(cx: &mut NodeCx, v: Option<Value>, perm: &[i64], needed: bool) -> Result<Option<Value>, MapError> {
    match v {
        Some(v) if needed => Ok(Some(cx.emit1(tensor::Transpose { perm: perm.to_vec() }, &[v])?)),
        v => Ok(v),
    }
}

/// The node's `count` operands with time first; the states among them are those in `states`.
pub(super) fn operands(
    cx: &mut NodeCx,
    count: usize,
    states: &[usize],
    batch_first: bool,
) -> Result<Vec<Option<Value>>, MapError> {
    cx.input(0)?;
    let mut operands: Vec<_> = (0..count).map(|i| cx.optional(i)).collect();
    for &i in states.iter().chain(&[0]) {
        operands[i] = transposed(cx, operands[i], &[1, 0, 2], batch_first)?;
    }
    Ok(operands)
}

/// The results, all states first, in the node's layout.
pub(super) fn results(cx: &mut NodeCx, results: Vec<Value>, batch_first: bool) -> Mapped {
    let mut moved = vec![];
    for (i, v) in results.into_iter().enumerate() {
        let perm: &[i64] = if i == 0 { &[2, 0, 1, 3] } else { &[1, 0, 2] };
        moved.extend(transposed(cx, Some(v), perm, batch_first)?);
    }
    Ok(moved)
}

fn rnn(cx: &mut NodeCx) -> Mapped {
    let Common { direction, activations, alpha, beta, clip, batch_first } = common(cx, &[RecurrentActivation::Tanh])?;
    let operands = operands(cx, 6, &[5], batch_first)?;
    let op = nn::Rnn { activation_alpha: alpha, activation_beta: beta, activations, clip, direction };
    let values = cx.emit(op, &operands)?;
    results(cx, values, batch_first)
}

fn gru(cx: &mut NodeCx) -> Mapped {
    let Common { direction, activations, alpha, beta, clip, batch_first } =
        common(cx, &[RecurrentActivation::Sigmoid, RecurrentActivation::Tanh])?;
    let linear_before_reset = cx.attrs.flag("linear_before_reset", false)?;
    let operands = operands(cx, 6, &[5], batch_first)?;
    let (activation_alpha, activation_beta) = (alpha, beta);
    let op = nn::Gru { activation_alpha, activation_beta, activations, clip, direction, linear_before_reset };
    let values = cx.emit(op, &operands)?;
    results(cx, values, batch_first)
}

/// The attributes of an LSTM, and whether the batch is the first axis.
pub(super) fn lstm_attrs(cx: &NodeCx) -> Result<(nn::Lstm, bool), MapError> {
    let (gate, tanh) = (RecurrentActivation::Sigmoid, RecurrentActivation::Tanh);
    let Common { direction, activations, alpha, beta, clip, batch_first } = common(cx, &[gate, tanh, tanh])?;
    let input_forget = cx.attrs.flag("input_forget", false)?;
    let (activation_alpha, activation_beta) = (alpha, beta);
    Ok((nn::Lstm { activation_alpha, activation_beta, activations, clip, direction, input_forget }, batch_first))
}

fn lstm(cx: &mut NodeCx) -> Mapped {
    let (op, batch_first) = lstm_attrs(cx)?;
    let operands = operands(cx, 8, &[5, 6], batch_first)?;
    let values = cx.emit(op, &operands)?;
    results(cx, values, batch_first)
}
