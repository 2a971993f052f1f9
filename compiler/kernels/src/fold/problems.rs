//! The folds of reductions, softmax and normalisations.
//!
//! Each function is told where the folds stand among the operands (`first`, the number of operands) and gives the folds
//! and the expression for what they compute of operand 0.

use optc_kernel::expr::Expr;
use optc_kernel::tile::{Binary, Cmp};

use super::{Fold, FoldOp};

/// What a reduction computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// The sum.
    Sum,
    /// The arithmetic mean.
    Mean,
    /// The largest element; NaN if one is.
    Max,
    /// The smallest element; NaN if one is.
    Min,
    /// The product.
    Product,
    /// The sum of squares.
    SumSquare,
    /// The sum of absolute values.
    L1,
    /// The root of the sum of squares.
    L2,
    /// The logarithm of the sum.
    LogSum,
    /// The logarithm of the sum of exponentials, without overflow.
    LogSumExp,
}

fn fold(op: FoldOp, element: Expr, finish: Expr) -> Fold {
    Fold { op, element, finish, keep: false }
}

impl Reduction {
    /// The reduction of `n` elements.
    pub fn folds(self, n: usize, first: usize) -> (Vec<Fold>, Expr) {
        let (x, own) = (Expr::Operand(0), Expr::Operand(first));
        let square = x.clone().times(x.clone());
        let one = |op, element, finish| (vec![fold(op, element, finish)], Expr::Operand(first));
        match self {
            Reduction::Sum => one(FoldOp::Sum, x, own),
            Reduction::Mean => one(FoldOp::Sum, x, own.over(Expr::Const(n as f32))),
            Reduction::Max => one(FoldOp::Max, x, own),
            Reduction::Min => one(FoldOp::Min, x, own),
            Reduction::Product => one(FoldOp::Product, x, own),
            Reduction::SumSquare => one(FoldOp::Sum, square, own),
            Reduction::L1 => one(FoldOp::Sum, x.abs(), own),
            Reduction::L2 => one(FoldOp::Sum, square, own.sqrt()),
            Reduction::LogSum => one(FoldOp::Sum, x, own.log()),
            Reduction::LogSumExp => {
                // An infinite maximum would give NaN as the difference.
                let finite = own.clone().abs().cmp(Cmp::Lt, Expr::Const(f32::INFINITY));
                let top = fold(FoldOp::Max, x.clone(), finite.select(own.clone(), Expr::Const(0.0)));
                let sum = Expr::Operand(first + 1);
                let rest = fold(FoldOp::Sum, x.minus(own.clone()).exp(), sum.clone().log().plus(own));
                (vec![top, rest], sum)
            }
        }
    }
}

/// `exp(x) / sum(exp(x))`, the largest element subtracted before. The exponentials are computed once, in the result's
/// place.
pub fn softmax(first: usize) -> (Vec<Fold>, Expr) {
    let (x, top, sum) = (Expr::Operand(0), Expr::Operand(first), Expr::Operand(first + 1));
    let exp = x.clone().minus(top.clone()).exp();
    let mut exps = fold(FoldOp::Sum, exp.clone(), sum.clone().reciprocal());
    exps.keep = true;
    (vec![fold(FoldOp::Max, x, top), exps], exp.times(sum))
}

/// The first or last of the indices in operand 1 where operand 0, of `n` elements, is extreme. NaN is the largest.
pub fn place_of_extreme(n: usize, largest: bool, last: bool) -> Vec<Fold> {
    let (x, place) = (Expr::Operand(0), Expr::Operand(1));
    let (top, found) = (Expr::Operand(2), Expr::Operand(3));
    let nan = x.clone().cmp(Cmp::Ne, x.clone());
    let same = x.clone().cmp(Cmp::Eq, top.clone());
    let (extreme, hit) = if largest {
        (fold(FoldOp::Max, x, top), same.binary(Binary::Or, nan))
    } else {
        // Below NaN are all others; where there are none, nothing is hit.
        (fold(FoldOp::Min, nan.select(Expr::Const(f32::INFINITY), x), top), same)
    };
    let (op, miss, only_nan) = if last { (FoldOp::Max, -1.0, n as f32 - 1.0) } else { (FoldOp::Min, n as f32, 0.0) };
    let missed = found.clone().cmp(Cmp::Eq, Expr::Const(miss));
    let element = hit.select(place, Expr::Const(miss));
    vec![extreme, fold(op, element, missed.select(Expr::Const(only_nan), found))]
}

/// [`softmax`], but zeros where every element is minus infinity.
pub fn softmax_of_seen(first: usize) -> (Vec<Fold>, Expr) {
    let (mut folds, expr) = softmax(first);
    let (top, sum) = (Expr::Operand(first), Expr::Operand(first + 1));
    let none = top.clone().cmp(Cmp::Eq, Expr::Const(f32::NEG_INFINITY));
    folds[0].finish = none.select(Expr::Const(0.0), top);
    let empty = sum.clone().cmp(Cmp::Eq, Expr::Const(0.0));
    folds[1].finish = empty.select(Expr::Const(0.0), sum.reciprocal());
    (folds, expr)
}

/// The logarithm of the softmax.
pub fn log_softmax(first: usize) -> (Vec<Fold>, Expr) {
    let (x, top, sum) = (Expr::Operand(0), Expr::Operand(first), Expr::Operand(first + 1));
    let below = x.clone().minus(top.clone());
    let exps = fold(FoldOp::Sum, below.clone().exp(), sum.clone().log());
    (vec![fold(FoldOp::Max, x, top), exps], below.minus(sum))
}

/// `(x - mean) / sqrt(variance + epsilon)` of `n` elements; the variance from the differences to the mean.
pub fn normalised(n: usize, epsilon: f32, first: usize) -> (Vec<Fold>, Expr) {
    let (x, mean, scale) = (Expr::Operand(0), Expr::Operand(first), Expr::Operand(first + 1));
    let n = || Expr::Const(n as f32);
    let centred = x.clone().minus(mean.clone());
    let square = centred.clone().times(centred.clone());
    let inverse = scale.clone().over(n()).plus(Expr::Const(epsilon)).sqrt().reciprocal();
    let folds = vec![fold(FoldOp::Sum, x, mean.over(n())), fold(FoldOp::Sum, square, inverse)];
    (folds, centred.times(scale))
}

/// `x / sqrt(mean(x * x) + epsilon)` of `n` elements.
pub fn root_mean_square(n: usize, epsilon: f32, first: usize) -> (Vec<Fold>, Expr) {
    let (x, scale) = (Expr::Operand(0), Expr::Operand(first));
    let mean = scale.clone().over(Expr::Const(n as f32));
    let inverse = mean.plus(Expr::Const(epsilon)).sqrt().reciprocal();
    (vec![fold(FoldOp::Sum, x.clone().times(x.clone()), inverse)], x.times(scale))
}
