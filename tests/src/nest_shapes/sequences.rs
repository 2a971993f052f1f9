//! Recurrent layers and attention.

use optc_ir::ops::nn::{Attention, AttentionScores, Gru, Lstm, RecurrentDirection, Rnn, RotaryEmbedding};
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
    let lengths = m.once_in(2).then(|| {
        let dtype = m.random.pick(&[DType::I32, DType::I32, DType::I64]);
        let lengths: Vec<i64> = (0..batch).map(|_| m.random.below(steps + 1) as i64).collect();
        let t = Tensor::from_i64(dtype, &[batch], &lengths).expect("a length for each sequence");
        if m.once_in(3) { m.constant_of(t) } else { m.input_of(t) }
    });
    let operands = [Some(x), Some(w), Some(r), bias, lengths, h0];
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
    let (lengths, offset) = (m.once_in(4).then_some(keys), m.once_in(3).then(|| m.random.below(keys)));
    let lengths = lengths.map(|n| integers(m, batch, 1, n));
    let offset = offset.map(|n| integers(m, 1, n, n));
    let (before, after) = (m.random.below(keys) as i64, m.random.below(keys) as i64);
    use AttentionScores::{Absent, Capped, Masked, Probabilities, Raw};
    let op = Attention {
        causal: m.once_in(3),
        formula: m.once_in(3),
        left: if m.once_in(4) { before } else { -1 },
        right: if m.once_in(4) { after } else { -1 },
        scale,
        scores: m.random.pick(&[Absent, Absent, Absent, Absent, Raw, Capped, Masked, Probabilities]),
        softcap: Real(if m.once_in(4) { 2.0 } else { 0.0 }),
    };
    // What depends on data, and scores, are taken apart before.
    m.passes = Some(m.random.pick(&["decompose", "O2"]));
    m.op(op, &[Some(q), Some(k), Some(v), mask, lengths, offset])
}

/// Integers between `low` and `high`, given or constant.
fn integers(m: &mut Maker, count: usize, low: usize, high: usize) -> Value {
    let values: Vec<i64> = (0..count).map(|_| (low + m.random.below(high - low + 1)) as i64).collect();
    let dtype = m.random.pick(&[DType::I32, DType::I64]);
    let t = Tensor::from_i64(dtype, &[count], &values).expect("as many values as are asked for");
    if m.once_in(2) { m.constant_of(t) } else { m.input_of(t) }
}

/// Rotary embeddings of halves and neighbours, with positions or without.
pub(super) fn rotary(m: &mut Maker) -> Option<NodeId> {
    let (batch, heads, steps, size) = (m.few(2), m.few(3), m.extent(), m.extent());
    let x = m.input(&[batch, heads, steps, size]);
    let half = if m.once_in(2) { size / 2 } else { m.few(size) / 2 };
    if half == 0 {
        return None;
    }
    let (interleaved, rows) = (m.once_in(2), m.extent());
    let (table, positions) = match m.once_in(2) {
        true => {
            let positions: Vec<i64> = (0..batch * steps).map(|_| m.random.below(rows) as i64).collect();
            let positions = m.input_of(Tensor::from_slice(&[batch, steps], &positions).ok()?);
            (vec![rows, half], Some(positions))
        }
        false => (vec![batch, steps, half], None),
    };
    let (cos, sin) = (m.either(&table), m.either(&table));
    m.passes = Some(m.random.pick(&["decompose", "O2"]));
    m.op(RotaryEmbedding { dims: 2 * half as i64, interleaved }, &[Some(x), Some(cos), Some(sin), positions])
}
