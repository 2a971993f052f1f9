//! Recurrent layers and attention.

use optc_ir::ops::nn::{Attention, AttentionScores, Gru, Lstm, RecurrentDirection, Rnn};
use optc_ir::ops::quant::{DynamicLstm, DynamicQuantize};
use optc_ir::{NodeId, Real, Value};
use optc_tensor::{DType, Tensor};

use super::Maker;

const DIRECTIONS: [RecurrentDirection; 3] =
    [RecurrentDirection::Forward, RecurrentDirection::Reverse, RecurrentDirection::Bidirectional];

pub(super) fn recurrent(m: &mut Maker) -> Option<NodeId> {
    let direction = m.random.pick(&DIRECTIONS);
    let directions = direction.reversed().len();
    let (steps, batch, inputs, hidden) = (m.few(6), m.random.pick(&[1, 1, 2, 3, 5, 8]), m.few(20), m.extent());
    let gates = m.random.pick(&[4, 3, 1]);
    let x = m.input(&[steps, batch, inputs]);
    let (w, r) = (m.constant(&[directions, gates * hidden, inputs]), m.constant(&[directions, gates * hidden, hidden]));
    let bias = m.once_in(2).then(|| m.constant(&[directions, 2 * gates * hidden]));
    let h0 = m.once_in(2).then(|| m.input(&[directions, batch, hidden]));
    let clip = Real(0.0);
    let operands = [Some(x), Some(w), Some(r), bias, None, h0];
    let (activation_alpha, activation_beta, activations) = (vec![], vec![], vec![]);
    match gates {
        4 => {
            let c0 = h0.map(|_| m.input(&[directions, batch, hidden]));
            let op = Lstm { activation_alpha, activation_beta, activations, clip, direction, input_forget: false };
            m.op(op, &[&operands[..], &[c0, None]].concat())
        }
        3 => {
            let linear_before_reset = m.once_in(2);
            m.op(
                Gru { activation_alpha, activation_beta, activations, clip, direction, linear_before_reset },
                &operands,
            )
        }
        _ => m.op(Rnn { activation_alpha, activation_beta, activations, clip, direction }, &operands),
    }
}

/// Quantization with the scales that values ask for: of a value, or of an LSTM's operands and first state. (Later
/// states are rounded after they were computed: a step that is half a unit off would be a whole one off.)
pub(super) fn dynamic(m: &mut Maker) -> Option<NodeId> {
    if m.once_in(3) {
        let shape: Vec<usize> = (0..m.few(4)).map(|_| m.extent().min(17)).collect();
        let x = m.input(&shape);
        return m.op(DynamicQuantize {}, &[Some(x)]);
    }
    let direction = m.random.pick(&DIRECTIONS);
    let directions = direction.reversed().len();
    let (batch, inputs, hidden) = (m.random.pick(&[1, 1, 2, 3, 5, 8]), m.few(20), m.extent());
    let x = m.input(&[1, batch, inputs]);
    let weights = |m: &mut Maker, inner: usize| {
        let dtype = m.random.pick(&[DType::I8, DType::U8]);
        let w = m.bytes(dtype, &[directions, inner, 4 * hidden]);
        let scales = if m.once_in(2) { vec![directions] } else { vec![directions, 4 * hidden] };
        let steps: Vec<f32> = (0..scales.iter().product()).map(|_| m.random.real(1e-3, 1e-2) as f32).collect();
        let (zero, w) = (m.bytes(dtype, &scales), m.constant_of(w));
        [w, m.constant_of(Tensor::from_slice(&scales, &steps).expect("as many steps")), m.constant_of(zero)]
    };
    let ([w, w_scale, w_zero], [r, r_scale, r_zero]) = (weights(m, inputs), weights(m, hidden));
    let bias = m.once_in(2).then(|| m.constant(&[directions, 8 * hidden]));
    let h0 = m.once_in(2).then(|| m.input(&[directions, batch, hidden]));
    let c0 = h0.map(|_| m.input(&[directions, batch, hidden]));
    let peephole = m.once_in(4).then(|| m.constant(&[directions, 3 * hidden]));
    let op = DynamicLstm {
        activation_alpha: vec![],
        activation_beta: vec![],
        activations: vec![],
        clip: Real(0.0),
        direction,
        input_forget: m.once_in(4),
    };
    let scales = [Some(w_scale), Some(w_zero), Some(r_scale), Some(r_zero)];
    m.op(op, &[&[Some(x), Some(w), Some(r), bias, None, h0, c0, peephole][..], &scales].concat())
}

pub(super) fn attention(m: &mut Maker) -> Option<NodeId> {
    let (shared, each, batch) = (m.few(3), m.few(2), m.few(2));
    let (queries, keys) = (m.extent().min(33), m.extent().min(33));
    let (depth, width) = (m.extent().min(33), m.extent().min(33));
    let q = m.input(&[batch, shared * each, queries, depth]);
    let (k, v) = (m.input(&[batch, shared, keys, depth]), m.input(&[batch, shared, keys, width]));
    let mask: Option<Value> = match m.random.below(3) {
        0 => None,
        1 => Some(m.either(&[queries, keys])),
        _ => {
            // Each query sees a key at least.
            let seen: Vec<i64> = (0..queries * keys).map(|i| i64::from(i % keys == 0 || m.once_in(2))).collect();
            let t = Tensor::from_i64(DType::Bool, &[queries, keys], &seen).ok()?;
            Some(m.input_of(t))
        }
    };
    let scale = Real(if m.once_in(2) { 0.0 } else { 0.3 });
    let op = Attention {
        causal: m.once_in(3),
        formula: m.once_in(3),
        left: -1,
        right: -1,
        scale,
        scores: AttentionScores::Absent,
        softcap: Real(if m.once_in(4) { 2.0 } else { 0.0 }),
    };
    m.op(op, &[Some(q), Some(k), Some(v), mask])
}
