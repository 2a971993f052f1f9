//! Fits the weights that stay to what the layer gave before.
//!
//! With `X` the activations that reach the layer now and `Y` what it gave before pruning, the weights are the
//! least-squares solution of `W X = Y` in which pruned weights are zero, slightly damped towards the old ones' scale.
//! It is found for all rows at once by conjugate gradients on the normal equations, whose gradient is masked: rows have
//! different masks, so that no factorisation serves two of them. Products of matrices are left to what runs graphs
//! ([`Evaluate`]).

use optc_ir::ops::math::MatMul;
use optc_ir::ops::nn::Gemm;
use optc_ir::{Graph, Op, OpError, Output, Real, TensorType, Val, Value, infer_node};
use optc_tensor::{DType, Tensor};

use super::{Evaluate, LayerError, RowError};

/// Turns of the solver; each is a product of the weights with the Gram matrix.
const TURNS: usize = 60;
/// Damping, relative to the mean of the Gram matrix's diagonal.
const DAMPING: f64 = 0.003;
/// The gradient's norm at which a row is done, relative to where it began.
const DONE: f64 = 1e-5;

/// A graph of one product of two matrices.
fn product(op: impl Into<Op>, a: [usize; 2], b: [usize; 2]) -> Result<Graph, OpError> {
    let mut g = Graph::new("product");
    let mut input = |name: &str, shape: [usize; 2]| g.add_input(name, TensorType::fixed(DType::F32, &shape).into());
    let operands = [Some(input("a", a)), Some(input("b", b))];
    let node = g.add(op, &operands, vec![TensorType::unranked(DType::F32).into()]);
    let types = infer_node(&g, node)?;
    g.node_mut(node).results[0].ty = types[0].clone();
    g.outputs.push(Output { name: "y".to_owned(), value: Value { node, result: 0 } });
    Ok(g)
}

/// A product that is ready to run.
struct Multiplier<'a, E: Evaluate> {
    evaluate: &'a E,
    product: E::Prepared,
}

impl<'a, E: Evaluate> Multiplier<'a, E> {
    fn new(evaluate: &'a E, product: &Graph) -> Result<Self, LayerError<E::Error>> {
        Ok(Multiplier { evaluate, product: evaluate.prepare(product).map_err(LayerError::Evaluate)? })
    }

    fn multiply(&mut self, a: Tensor, b: Tensor) -> Result<Vec<f32>, LayerError<E::Error>> {
        let operands = [Val::Tensor(a), Val::Tensor(b)];
        let results = self.evaluate.run(&mut self.product, &operands).map_err(LayerError::Evaluate)?;
        let y = results.first().and_then(Val::as_tensor).ok_or(LayerError::NoProduct)?;
        Ok(y.as_slice::<f32>().map_err(RowError::Tensor)?.to_vec())
    }
}

fn matrix(rows: usize, cols: usize, values: &[f32]) -> Result<Tensor, RowError> {
    Ok(Tensor::from_slice(&[rows, cols], values)?)
}

/// `aᵀ b / n` for `a` of `[n, p]` and `b` of `[n, q]`.
pub(super) fn gram<E: Evaluate>(
    evaluate: &E,
    n: usize,
    a: &[f32],
    b: &[f32],
) -> Result<Vec<f32>, LayerError<E::Error>> {
    let (p, q) = (a.len() / n, b.len() / n);
    let op =
        Gemm { alpha: Real(1.0 / n as f32), beta: Real(1.0), trans_a: true, trans_b: false, precision: DType::F32 };
    Multiplier::new(evaluate, &product(op, [n, p], [n, q])?)?.multiply(matrix(n, p, a)?, matrix(n, q, b)?)
}

/// The normal equations of a layer: `W H = G` for the weights that are kept.
pub(super) struct Normal {
    /// `X Xᵀ`, of `[cols, cols]`.
    pub h: Vec<f32>,
    /// `Y Xᵀ`, of `[rows, cols]`.
    pub g: Vec<f32>,
    pub cols: usize,
}

/// Fits `weights`, which are zero where they are not kept.
pub(super) fn fit<E: Evaluate>(
    evaluate: &E,
    n: Normal,
    weights: &mut [f32],
    keep: &[bool],
) -> Result<(), LayerError<E::Error>> {
    let (cols, rows) = (n.cols, weights.len() / n.cols);
    let mut h = n.h;
    let mean = (0..cols).map(|i| f64::from(h[i * cols + i])).sum::<f64>() / cols as f64;
    if mean <= 0.0 || !mean.is_finite() {
        return Ok(());
    }
    let damping = (DAMPING * mean) as f32;
    (0..cols).for_each(|i| h[i * cols + i] += damping);
    let h = matrix(cols, cols, &h)?;
    let mut product = Multiplier::new(evaluate, &product(MatMul::default(), [rows, cols], [cols, cols])?)?;
    let mut times_h = |v: &[f32]| product.multiply(matrix(rows, cols, v)?, h.clone());
    let masked = |v: f32, i: usize| if keep[i] { v } else { 0.0 };
    // The damping pulls towards the weights as they are.
    let start = times_h(weights)?;
    let mut residual: Vec<f32> =
        (0..weights.len()).map(|i| masked(n.g[i] + damping * weights[i] - start[i], i)).collect();
    let mut direction = residual.clone();
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let norms = |r: &[f32]| r.chunks(cols).map(|row| dot(row, row)).collect::<Vec<f64>>();
    let first = norms(&residual);
    let mut norm = first.clone();
    for _ in 0..TURNS {
        let along = times_h(&direction)?;
        for row in 0..rows {
            if norm[row] <= DONE * DONE * first[row] {
                continue;
            }
            let at = row * cols..(row + 1) * cols;
            let curve = dot(&direction[at.clone()], &along[at.clone()]);
            if curve <= 0.0 {
                continue;
            }
            let step = (norm[row] / curve) as f32;
            for i in at.clone() {
                weights[i] += step * direction[i];
                residual[i] -= step * masked(along[i], i);
            }
            let next = dot(&residual[at.clone()], &residual[at.clone()]);
            let turn = (next / norm[row]) as f32;
            at.for_each(|i| direction[i] = residual[i] + turn * direction[i]);
            norm[row] = next;
        }
        if norm.iter().zip(&first).all(|(n, f)| *n <= DONE * DONE * f) {
            break;
        }
    }
    Ok(())
}
