//! Products and sums, taken apart.

use optc_ir::{Graph, NodeId, Op, Value};

use crate::matching::{has_one_use, operands2, result, same_shape, splat_of};

/// How many factors a formula may have.
const MAX_FACTORS: usize = 6;

/// A constant times some values, each as often as it is a factor.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Monomial {
    /// The constant.
    pub factor: f64,
    /// The values.
    pub values: Vec<Value>,
}

impl Monomial {
    /// The product that `v` is: at least `1 · v`.
    pub fn of(g: &Graph, v: Value) -> Monomial {
        let mut product = Monomial { factor: 1.0, values: vec![] };
        product.multiply(g, v, v);
        product
    }

    fn multiply(&mut self, g: &Graph, root: Value, v: Value) {
        let open = v.result == 0 && (v == root || (has_one_use(g, v) && same_shape(g, v, root)));
        let parts = operands2(g, v.node).filter(|_| open && self.values.len() < MAX_FACTORS);
        match (&g.node(v.node).op, parts) {
            (Op::Mul(_), Some((a, b))) => match splat_of(g, b) {
                Some(c) => {
                    self.factor *= c;
                    self.multiply(g, root, a);
                }
                None => [a, b].into_iter().for_each(|x| self.multiply(g, root, x)),
            },
            (Op::Div(_), Some((a, b))) if splat_of(g, b).is_some() => {
                self.factor /= splat_of(g, b).unwrap_or(1.0);
                self.multiply(g, root, a);
            }
            // The power's constant is one of the formula, not one that only this op uses.
            (Op::Pow(_), Some((a, b))) if matches!(splat_of(g, b), Some(2.0 | 3.0)) => {
                let times = if splat_of(g, b) == Some(2.0) { 2 } else { 3 };
                self.values.extend(std::iter::repeat_n(a, times));
            }
            _ => self.values.push(v),
        }
    }

    /// The factor, where the product is a constant times `x`, `n` times.
    pub fn power_of(&self, x: Value, n: usize) -> Option<f64> {
        (self.values.len() == n && self.values.iter().all(|&v| v == x)).then_some(self.factor)
    }

    /// The two values of a product of two, either way around.
    pub fn pairs(&self) -> Vec<(Value, Value)> {
        match self.values[..] {
            [a, b] => vec![(a, b), (b, a)],
            _ => vec![],
        }
    }
}

/// The op that computes `v`, if only one op reads it.
pub(super) fn inner(g: &Graph, v: Value) -> Option<(NodeId, &Op)> {
    (v.result == 0 && has_one_use(g, v)).then(|| (v.node, &g.node(v.node).op))
}

/// `x` where `v` is `x + c` with this constant, and nothing else reads it.
pub(super) fn plus_constant(g: &Graph, v: Value, c: f64) -> Option<Value> {
    let (node, Op::Add(_)) = inner(g, v)? else { return None };
    let (x, constant) = operands2(g, node)?;
    near(splat_of(g, constant)?, c).then_some(x)
}

/// Whether a constant is the one of a formula, as it comes out of `f32` arithmetic and short decimal fractions.
pub(super) fn near(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= 3e-5 * expected.abs()
}

/// Whether a float op on `x` takes the place of `node` without a change of shape.
pub(super) fn stands_for(g: &Graph, x: Value, node: NodeId) -> bool {
    same_shape(g, x, result(node)) && crate::matching::dtype(g, x).is_some_and(optc_tensor::DType::is_float)
}
