//! What becomes of scores: transforms, and the labels that they choose.

use optc_ir::Value;
use optc_ir::ops::math::{self, Extreme, ReduceKind};
use optc_ir::ops::{nn, tensor};
use optc_tensor::{DType, Tensor};

use super::{invalid, scalar};
use crate::mapping::{MapError, NodeCx};

/// The `post_transform` of an op.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transform {
    None,
    Softmax,
    Logistic,
    SoftmaxZero,
    Probit,
}

impl Transform {
    const WORDS: [(&'static str, Transform); 5] = [
        ("NONE", Transform::None),
        ("SOFTMAX", Transform::Softmax),
        ("LOGISTIC", Transform::Logistic),
        ("SOFTMAX_ZERO", Transform::SoftmaxZero),
        ("PROBIT", Transform::Probit),
    ];

    /// The transform that an attribute says as a word.
    pub(super) fn of(cx: &NodeCx) -> Result<Transform, MapError> {
        Ok(cx.attrs.word_or("post_transform", &Self::WORDS, Transform::None)?)
    }

    /// The transform that an attribute says as a number.
    pub(super) fn of_number(cx: &NodeCx) -> Result<Transform, MapError> {
        let number = cx.attrs.int_or("post_transform", 0)?;
        let found = usize::try_from(number).ok().and_then(|i| Self::WORDS.get(i));
        found.map(|&(_, t)| t).ok_or_else(|| invalid(format!("`post_transform` is {number}, expected 0 to 4")))
    }
}

/// Rows of `columns` scores after a transform. One score alone is changed by none but `PROBIT`.
pub(super) fn transformed(cx: &mut NodeCx, x: Value, columns: usize, by: Transform) -> Result<Value, MapError> {
    match by {
        Transform::Probit => probit(cx, x),
        _ if columns < 2 => Ok(x),
        Transform::None => Ok(x),
        Transform::Logistic => cx.emit1(math::Sigmoid {}, &[x]),
        Transform::Softmax => cx.emit1(nn::Softmax { axis: -1, log: false }, &[x]),
        Transform::SoftmaxZero => softmax_zero(cx, x),
    }
}

/// Two columns for two classes out of one score: those of a class and of what it is not.
pub(super) fn two_columns(cx: &mut NodeCx, x: Value, signed: bool, by: Transform) -> Result<Value, MapError> {
    let other = match signed || by == Transform::Logistic {
        true => cx.emit1(math::Neg {}, &[x])?,
        false => {
            let one = scalar(cx, cx.dtype(x)?, 1.0)?;
            cx.emit1(math::Sub {}, &[one, x])?
        }
    };
    let both = beside(cx, &[other, x])?;
    match by {
        Transform::Logistic => cx.emit1(math::Sigmoid {}, &[both]),
        Transform::Probit => probit(cx, both),
        Transform::None | Transform::Softmax | Transform::SoftmaxZero => Ok(both),
    }
}

/// Columns side by side.
pub(super) fn beside(cx: &mut NodeCx, columns: &[Value]) -> Result<Value, MapError> {
    cx.emit1(tensor::Concat { axis: 1 }, columns)
}

/// One column, which stays a matrix.
pub(super) fn column(cx: &mut NodeCx, x: Value, at: usize) -> Result<Value, MapError> {
    let at = cx.constant(Tensor::from_slice(&[1], &[at as i64])?);
    cx.emit1(tensor::Gather { axis: 1 }, &[x, at])
}

/// A column as a vector.
pub(super) fn flat(cx: &mut NodeCx, x: Value) -> Result<Value, MapError> {
    let axes = cx.constant(Tensor::from_slice(&[1], &[1i64])?);
    cx.emit1(tensor::Squeeze {}, &[x, axes])
}

/// The softmax of the scores that are not 0, for the others what they are.
fn softmax_zero(cx: &mut NodeCx, x: Value) -> Result<Value, MapError> {
    let dtype = cx.dtype(x)?;
    let (tiny, zero) = (scalar(cx, dtype, 1e-7)?, scalar(cx, dtype, 0.0)?);
    let size = cx.emit1(math::Abs {}, &[x])?;
    let counts = cx.emit1(math::Greater {}, &[size, tiny])?;
    let along = |kind| math::Reduce { all_if_empty: false, kind, axes: vec![-1], keep_dims: true };
    let top = cx.emit1(along(ReduceKind::Max), &[x])?;
    let below = cx.emit1(math::Sub {}, &[x, top])?;
    let exp = cx.emit1(math::Exp {}, &[below])?;
    let counted = cx.emit1(math::Where {}, &[counts, exp, zero])?;
    let sum = cx.emit1(along(ReduceKind::Sum), &[counted])?;
    let lowered = cx.emit1(math::Neg {}, &[top])?;
    let factor = cx.emit1(math::Exp {}, &[lowered])?;
    let kept = cx.emit1(math::Mul {}, &[x, factor])?;
    let all = cx.emit1(math::Where {}, &[counts, exp, kept])?;
    cx.emit1(math::Div {}, &[all, sum])
}

/// `√2 · erf⁻¹(2 x − 1)`, where the inverse of the error function is the approximation of the standard's reference:
/// Winitzki's, of two digits.
fn probit(cx: &mut NodeCx, x: Value) -> Result<Value, MapError> {
    const A: f64 = 0.147;
    let dtype = cx.dtype(x)?;
    let [zero, one, minus, two] = [0.0, 1.0, -1.0, 2.0].map(|v| scalar(cx, dtype, v));
    let (zero, one, minus, two) = (zero?, one?, minus?, two?);
    let [half, shift, slope, root] =
        [0.5, 2.0 / (std::f64::consts::PI * A), 1.0 / A, std::f64::consts::SQRT_2].map(|v| scalar(cx, dtype, v));
    let (half, shift, slope, root) = (half?, shift?, slope?, root?);
    let doubled = cx.emit1(math::Mul {}, &[x, two])?;
    let x = cx.emit1(math::Sub {}, &[doubled, one])?;
    let negative = cx.emit1(math::Less {}, &[x, zero])?;
    let sign = cx.emit1(math::Where {}, &[negative, minus, one])?;
    let (below, above) = (cx.emit1(math::Sub {}, &[one, x])?, cx.emit1(math::Add {}, &[one, x])?);
    let rest = cx.emit1(math::Mul {}, &[below, above])?;
    let log = cx.emit1(math::Log {}, &[rest])?;
    let halved = cx.emit1(math::Mul {}, &[log, half])?;
    let v = cx.emit1(math::Add {}, &[halved, shift])?;
    let square = cx.emit1(math::Mul {}, &[v, v])?;
    let scaled = cx.emit1(math::Mul {}, &[log, slope])?;
    let inner = cx.emit1(math::Sub {}, &[square, scaled])?;
    let inner = cx.emit1(math::Sqrt {}, &[inner])?;
    let outer = cx.emit1(math::Sub {}, &[inner, v])?;
    let outer = cx.emit1(math::Sqrt {}, &[outer])?;
    let signed = cx.emit1(math::Mul {}, &[sign, outer])?;
    cx.emit1(math::Mul {}, &[signed, root])
}

/// The labels of classes: integers or strings.
pub(super) struct Labels(Tensor);

impl Labels {
    /// The labels that a node has; `ints` is what its integers are called.
    ///
    /// # Errors
    /// There are none, or both kinds.
    pub(super) fn of(cx: &NodeCx, ints: &str) -> Result<Labels, MapError> {
        let strings = cx.attrs.strings("classlabels_strings")?.filter(|v| !v.is_empty());
        match (cx.attrs.ints(ints)?.filter(|v| !v.is_empty()), strings) {
            (Some(v), None) => Ok(Labels(Tensor::from_slice(&[v.len()], &v)?)),
            (None, Some(v)) => Ok(Labels(Tensor::from_strings(&[v.len()], v)?)),
            (Some(_), Some(_)) => Err(invalid("the classes have labels of both kinds")),
            (None, None) => Err(invalid(format!("expected one of `{ints}` and `classlabels_strings`"))),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The labels of class indices.
    pub(super) fn at(&self, cx: &mut NodeCx, indices: Value) -> Result<Value, MapError> {
        let labels = cx.constant(self.0.clone());
        cx.emit1(tensor::Gather { axis: 0 }, &[labels, indices])
    }

    /// The label of the greatest score in each row.
    pub(super) fn of_greatest(&self, cx: &mut NodeCx, scores: Value) -> Result<Value, MapError> {
        let index = greatest(cx, scores)?;
        self.at(cx, index)
    }

    /// The second label where the condition holds, the first elsewhere. One label alone says nothing of either: they
    /// are then 1 and 0.
    pub(super) fn by(&self, cx: &mut NodeCx, second: Value) -> Result<Value, MapError> {
        let second = flat(cx, second)?;
        let labels = match (self.len(), self.0.dtype()) {
            (2, _) => self.0.clone(),
            (_, DType::Str) => Tensor::from_strings(&[2], vec!["0".to_owned(), "1".to_owned()])?,
            _ => Tensor::from_slice(&[2], &[0i64, 1])?,
        };
        let index = cx.emit1(math::Cast { to: DType::I64 }, &[second])?;
        Labels(labels).at(cx, index)
    }
}

/// The place of the first greatest score in each row.
pub(super) fn greatest(cx: &mut NodeCx, scores: Value) -> Result<Value, MapError> {
    cx.emit1(math::ArgReduce { axis: 1, keep_dims: false, kind: Extreme::Max, last: false }, &[scores])
}

/// Whether each score is more than a number.
pub(super) fn above(cx: &mut NodeCx, x: Value, number: f64) -> Result<Value, MapError> {
    let number = scalar(cx, cx.dtype(x)?, number)?;
    cx.emit1(math::Greater {}, &[x, number])
}
