//! Recurrent layers: one product for the operands of all steps, then the kernel of the steps.

use optc_ir::ops::nn::{Gru, Lstm, RecurrentActivation, RecurrentDirection, Rnn};
use optc_ir::{Decl, Encoding, Real, Value};
use optc_kernel::expr::{Expr, Func};
use optc_kernel::tile::{Cmp, MemType};
use optc_kernels::contract::{Contract, Operand, PackB};
use optc_kernels::recurrent::{self, Direction, RecurrentNest};
use optc_tensor::{DType, Tensor};
use optc_types::ReasonCode;
use optc_types::steps::{BufRef, Step, StepInfo};

use super::contract::{ContractCall, contraction, pack_constant, strip_mem};
use super::cx::Cx;
use super::moves::view_in;
use super::operands::{Placed, floats, only_f32};
use super::places::stored;
use super::{Declined, Lowered, Site, TensorView, elementwise};

/// The attributes that all layers have.
pub(super) struct Attrs<'a> {
    names: &'a [RecurrentActivation],
    alpha: &'a [Real],
    beta: &'a [Real],
    clip: f32,
    direction: RecurrentDirection,
}

impl<'a> Attrs<'a> {
    /// The attributes of an op of this family.
    pub fn new(
        names: &'a [RecurrentActivation],
        [alpha, beta]: [&'a [Real]; 2],
        clip: Real,
        direction: RecurrentDirection,
    ) -> Attrs<'a> {
        Attrs { names, alpha, beta, clip: clip.0, direction }
    }

    /// The activations of one direction as expressions on operand 0; for each its default, and whether `clip` bounds
    /// it.
    pub(super) fn activations<const N: usize>(
        &self,
        direction: usize,
        defaults: [(RecurrentActivation, bool); N],
    ) -> [Expr; N] {
        std::array::from_fn(|i| {
            let ((default, bounded), at) = (defaults[i], direction * N + i);
            let activation = self.names.get(at).copied().unwrap_or(default);
            let or = |list: &[Real], default: Option<f64>| list.get(at).map_or(default.unwrap_or(0.0) as f32, |v| v.0);
            let (alpha, beta) = activation.defaults();
            let (alpha, beta) = (or(self.alpha, alpha), or(self.beta, beta));
            let x = Expr::Operand(0);
            let x = if bounded && self.clip > 0.0 { x.clip(-self.clip, self.clip) } else { x };
            match activation {
                RecurrentActivation::Sigmoid => x.func(Func::Sigmoid),
                RecurrentActivation::Tanh => x.func(Func::Tanh),
                RecurrentActivation::Relu => x.relu(),
                RecurrentActivation::Affine => x.times(Expr::Const(alpha)).plus(Expr::Const(beta)),
                RecurrentActivation::LeakyRelu => x.leaky_relu(alpha),
                RecurrentActivation::ThresholdedRelu => {
                    x.clone().cmp(Cmp::Gt, Expr::Const(alpha)).select(x, Expr::Const(0.0))
                }
                RecurrentActivation::ScaledTanh => {
                    x.times(Expr::Const(beta)).func(Func::Tanh).times(Expr::Const(alpha))
                }
                RecurrentActivation::HardSigmoid => x.hard_sigmoid(alpha, beta),
                RecurrentActivation::Elu => x.elu(alpha),
                RecurrentActivation::Softsign => x.softsign(),
                RecurrentActivation::Softplus => x.softplus(),
            }
        })
    }
}

/// The activations of an LSTM's gates, candidate and cell, where none are named; and whether `clip` bounds them.
pub(super) const LSTM_ACTIVATIONS: [(RecurrentActivation, bool); 3] =
    [(RecurrentActivation::Sigmoid, true), (RecurrentActivation::Tanh, true), (RecurrentActivation::Tanh, false)];

/// What is to be computed, with the biases of a direction as rows of `hidden`: those of the operands' gates, then those
/// of the state's.
pub(super) struct RecurrentLayer {
    /// The op's name, for errors.
    pub op: &'static str,
    pub problem: RecurrentNest,
    /// For each gate, whether the state's bias is added with the operand's.
    pub merged: Vec<bool>,
    /// The rows of constants of each direction, one after the other.
    pub constants: Vec<f32>,
}

pub(super) fn lstm(cx: &mut Cx, op: &Lstm, site: &Site) -> Lowered {
    let attrs = Attrs::new(&op.activations, [&op.activation_alpha, &op.activation_beta], op.clip, op.direction);
    let constants = values(cx, site, 7)?.unwrap_or_default();
    let rows = if constants.is_empty() { 0 } else { 3 };
    let cell = |d: usize| recurrent::lstm(&attrs.activations(d, LSTM_ACTIVATIONS), rows > 0, op.input_forget);
    let problem = layer(cx, site, hidden(cx, site)?, &attrs, 4, rows, cell)?;
    float_recurrent(cx, site, RecurrentLayer { op: Lstm::NAME, problem, merged: vec![true; 4], constants }, Some(6))
}

pub(super) fn gru(cx: &mut Cx, op: &Gru, site: &Site) -> Lowered {
    let attrs = Attrs::new(&op.activations, [&op.activation_alpha, &op.activation_beta], op.clip, op.direction);
    let after = op.linear_before_reset;
    let defaults = [(RecurrentActivation::Sigmoid, true), (RecurrentActivation::Tanh, true)];
    let cell = |d: usize| recurrent::gru(&attrs.activations(d, defaults), after);
    let problem = layer(cx, site, hidden(cx, site)?, &attrs, 3, usize::from(after), cell)?;
    let h = problem.hidden;
    let constants = match (after, values(cx, site, 3)?) {
        (false, _) => vec![],
        (true, None) => vec![0.0; problem.directions.len() * h],
        (true, Some(bias)) => bias.chunks(6 * h).flat_map(|b| b[5 * h..].to_vec()).collect(),
    };
    float_recurrent(
        cx,
        site,
        RecurrentLayer { op: Gru::NAME, problem, merged: vec![true, true, !after], constants },
        None,
    )
}

pub(super) fn rnn(cx: &mut Cx, op: &Rnn, site: &Site) -> Lowered {
    let attrs = Attrs::new(&op.activations, [&op.activation_alpha, &op.activation_beta], op.clip, op.direction);
    let cell = |d: usize| recurrent::rnn(&attrs.activations(d, [(RecurrentActivation::Tanh, true)])[0]);
    let problem = layer(cx, site, hidden(cx, site)?, &attrs, 1, 0, cell)?;
    float_recurrent(cx, site, RecurrentLayer { op: Rnn::NAME, problem, merged: vec![true], constants: vec![] }, None)
}

/// A constant operand of floats; an error if it is there and not constant.
fn weights(cx: &Cx, site: &Site, slot: usize) -> Result<Option<Tensor>, Declined> {
    let Some(value) = site.optional(slot) else { return Ok(None) };
    let t = cx.constant(value).ok_or_else(|| Declined::new(ReasonCode::NotConstant, "the weights are not constant"))?;
    t.as_slice::<f32>()?;
    Ok(Some(t.clone()))
}

/// The values of such an operand.
pub(super) fn values(cx: &Cx, site: &Site, slot: usize) -> Result<Option<Vec<f32>>, Declined> {
    Ok(weights(cx, site, slot)?.map(|t| t.as_slice().map(<[f32]>::to_vec)).transpose()?)
}

/// The units of a layer whose recurrent weights are `[directions, gates * hidden, hidden]`.
fn hidden(cx: &Cx, site: &Site) -> Result<usize, Declined> {
    let r = cx.ty(site.operand(2)?)?.static_shape().unwrap_or_default();
    r.last().copied().ok_or_else(|| Declined::new(ReasonCode::Shape, "the weights are a scalar"))
}

pub(super) fn layer(
    cx: &Cx,
    site: &Site,
    hidden: usize,
    attrs: &Attrs,
    gates: usize,
    constants: usize,
    cell: impl Fn(usize) -> Vec<recurrent::Phase>,
) -> Result<RecurrentNest, Declined> {
    let shape = cx.ty(site.operand(0)?)?.static_shape().unwrap_or_default();
    let &[steps, batch, inputs] = &shape[..] else {
        return Err(Declined::new(ReasonCode::Shape, "an operand that is not of rank 3"));
    };
    if steps * batch * inputs * hidden == 0 {
        return Err(Declined::new(ReasonCode::Empty, "an empty layer"));
    }
    if site.epilogue != Default::default() {
        return Err(Declined::new(ReasonCode::Region, "a recurrent layer has no epilogue"));
    }
    let bounded = lengths(cx, site, steps)?.is_some();
    let cell = |i: usize| if bounded { recurrent::bounded(cell(i)) } else { cell(i) };
    let direction = |(i, &reverse): (usize, &bool)| Direction { reverse, phases: cell(i) };
    let directions = attrs.direction.reversed().iter().enumerate().map(direction).collect();
    Ok(RecurrentNest { steps, batch, hidden, gates, constants, weights: MemType::F32, directions })
}

/// The lengths of the sequences, where they are not all as long as there are steps.
pub(super) fn lengths(cx: &Cx, site: &Site, steps: usize) -> Result<Option<Value>, Declined> {
    let all = |t: &Tensor| t.to_i64_vec().iter().all(|&l| l == steps as i64);
    let lengths = site.optional(4).filter(|&value| !cx.constant(value).is_some_and(all));
    // A kernel compares steps as floats.
    if lengths.is_some() && steps >= 1 << 24 {
        return Err(Declined::new(ReasonCode::Numbers, format!("there are {steps} steps")));
    }
    Ok(lengths)
}

/// Emits the kernel that says which sequences run at which steps, `[steps, batch]`, after a check of their lengths.
fn running(cx: &mut Cx, site: &Site, op: &str, lengths: Value, r: &RecurrentNest) -> Result<BufRef, Declined> {
    let view = view_in(cx, lengths, Encoding::Plain)?;
    if ![DType::I32, DType::I64].contains(&view.dtype) || view.shape != [r.batch] {
        return Err(Declined::new(ReasonCode::Numbers, format!("lengths are {} {:?}", view.dtype, view.shape)));
    }
    let (op, loc) = (op.to_owned(), site.loc.join(", "));
    cx.out.step(Step::CheckLengths { lengths: stored(&view), most: r.steps, op, loc });
    let shape = vec![r.steps, r.batch];
    let numbers: Vec<f32> = (0..r.steps).map(|step| step as f32).collect();
    let steps = cx.add_constant("the numbers of steps", floats(&numbers)?);
    let steps = TensorView { at: steps, dtype: DType::F32, shape: shape.clone(), strides: vec![1, 0] };
    let wide = view.broadcast(&shape).ok_or_else(|| Declined::new(ReasonCode::Shape, "lengths do not broadcast"))?;
    // Lengths that passed the check fit the lower half.
    let wide = elementwise::halves(wide).swap_remove(0);
    let dst = TensorView { at: cx.temp(4 * r.steps * r.batch), strides: vec![r.batch as i64, 1], ..steps.clone() };
    let runs = Expr::Operand(1).to_float().cmp(Cmp::Gt, Expr::Operand(0));
    let expr = runs.select(Expr::Const(1.0), Expr::Const(0.0));
    elementwise::elementwise(cx, &expr, &[steps, wide], &dst, &site.loc)?;
    Ok(dst.at)
}

/// Emits the kernels of a layer of floats; `c0` is the slot of the first cell state.
fn float_recurrent(cx: &mut Cx, site: &Site, layer: RecurrentLayer, c0: Option<usize>) -> Lowered {
    let weights = weights(cx, site, 2)?.ok_or_else(|| Declined::new(ReasonCode::Absent, "the weights are absent"))?;
    let input = products(cx, site, &layer.problem, &layer.merged)?;
    let take = || weights.as_slice().map(<[f32]>::to_vec).unwrap_or_default();
    recurrent(cx, site, layer, c0, StateWeights { of: &[&weights], words: "", take: &take }, input)
}

/// The recurrent weights `[directions, gates * hidden, hidden]`.
pub(super) struct StateWeights<'a> {
    /// The constants that they are made from.
    pub of: &'a [&'a Tensor],
    /// How, where they are not the first of these as it is.
    pub words: &'a str,
    /// Gives them.
    pub take: &'a dyn Fn() -> Vec<f32>,
}

/// Emits the kernel of the steps, with the recurrent weights and the products of the operands.
pub(super) fn recurrent(
    cx: &mut Cx,
    site: &Site,
    layer: RecurrentLayer,
    c0: Option<usize>,
    weights: StateWeights,
    input: BufRef,
) -> Lowered {
    let RecurrentLayer { op, problem: r, constants, .. } = layer;
    let (count, h) = (r.directions.len(), r.hidden);
    let lanes = cx.target.isa.lanes();
    let gates: Vec<_> = r.directions.iter().flat_map(|d| &d.phases).map(|phase| &phase.gates).collect();
    let as_bytes = if r.weights == MemType::I8 { " as bytes" } else { "" };
    let recipe = format!("weights of the state{}{as_bytes}, gates {gates:?} in vectors of {lanes}", weights.words);
    let state = cx.packed(weights.of, recipe, || {
        let packed = r.pack(&(weights.take)(), lanes);
        Ok(match r.weights {
            MemType::I8 => Tensor::from_slice(&[packed.len()], &packed.iter().map(|&w| w as i8).collect::<Vec<_>>())?,
            _ => floats(&packed)?,
        })
    })?;
    let mut args = vec![input, state];
    if r.constants > 0 {
        args.push(cx.add_constant("biases and peepholes", floats(&constants)?));
    }
    if let Some(lengths) = lengths(cx, site, r.steps)? {
        args.push(running(cx, site, op, lengths, &r)?);
    }
    for slot in std::iter::once(5).chain(c0) {
        args.push(match site.optional(slot) {
            Some(value) => {
                let view = view_in(cx, value, Encoding::Plain)?;
                only_f32(&view)?;
                view.at
            }
            None => cx.add_constant("zeros", floats(&vec![0.0; count * r.batch * h])?),
        });
    }
    for result in &site.results {
        only_f32(result)?;
        if !result.is(Encoding::Plain) {
            return Err(Declined::new(ReasonCode::Layout, "the result of a recurrent layer is not laid out plainly"));
        }
        args.push(result.at);
    }
    let kernel = recurrent::recurrent(&r, cx.target.isa);
    let flops = 2.0 * (r.steps * r.batch * count * r.gates * h * h) as f64;
    let bytes = r.weights.bytes() as f64 * r.packed_len(lanes) as f64;
    let info = StepInfo { loc: site.loc.clone(), flops, bytes, ..StepInfo::default() };
    cx.kernel(kernel, args, None, info);
    Ok(())
}

/// The products of the operands of all steps: `[steps * batch, directions * gates * hidden]`.
fn products(cx: &mut Cx, site: &Site, r: &RecurrentNest, merged: &[bool]) -> Result<BufRef, Declined> {
    let x = view_in(cx, site.operand(0)?, Encoding::Plain)?;
    only_f32(&x)?;
    let w = weights(cx, site, 1)?.ok_or_else(|| Declined::new(ReasonCode::Absent, "the weights are absent"))?;
    let (h, gates) = (r.hidden, r.gates);
    let (m, n, k) = (r.steps * r.batch, r.directions.len() * gates * h, x.shape[2]);
    if x.dtype != DType::F32 || w.len() != n * k {
        return Err(Declined::new(ReasonCode::Shape, "weights that do not fit the operand"));
    }
    let pack = PackB { taps: 1, k, n, tap_stride: 0, k_stride: 1, n_stride: k };
    let contract = Contract { b_mem: strip_mem(cx, &w)?, ..Contract::matmul(1, m, n, k) };
    let (schedule, point) = cx.schedule(&contract);
    let b = pack_constant(cx, &w, (1, 0), &pack, contract.b_mem)?;
    let mut operands = Vec::new();
    let mut epilogue = Expr::Operand(0);
    if let Some(bias) = values(cx, site, 3)? {
        let sum = |i: usize| {
            let (dir, unit) = (&bias[i / (gates * h) * 2 * gates * h..], i % (gates * h));
            dir[unit] + if merged[unit / h] { dir[gates * h + unit] } else { 0.0 }
        };
        let at = cx.add_constant("operand 3, biases added", floats(&(0..n).map(sum).collect::<Vec<_>>())?);
        operands.push(Placed { operand: Operand::per_column(n), at });
        epilogue = epilogue.plus(Expr::Operand(1));
    }
    let dst = cx.temp(4 * m * n);
    contraction(cx, ContractCall { contract, a: x.at, b, dst, operands, epilogue, schedule, loc: site.loc.clone() })?;
    cx.close(point);
    Ok(dst)
}
