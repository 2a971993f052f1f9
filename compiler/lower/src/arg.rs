//! Values inside expressions.

use optc_kernel::expr::{Expr, Func};
use optc_tensor::{DType, Tensor};

/// A value inside an expression.
#[derive(Clone, Debug)]
pub(super) struct Arg {
    /// What computes it.
    pub(super) expr: Expr,
    /// What it is in the graph.
    pub(super) dtype: DType,
    /// The upper half of an `i64`.
    pub(super) high: Option<Expr>,
}

impl Arg {
    /// What an expression gives.
    pub(super) fn new(expr: Expr, dtype: DType) -> Arg {
        Arg { expr, dtype, high: None }
    }

    /// Operand `i` of the kernel; for an `i64` its lower half, where operand `i + 1` is the upper one (see
    /// `elementwise::halves`).
    pub(super) fn operand(i: usize, dtype: DType) -> Arg {
        let expr = Expr::Operand(i);
        let high = (dtype == DType::I64).then_some(Expr::Operand(i + 1));
        Arg { expr: if dtype == DType::Bool { expr.mask() } else { expr }, dtype, high }
    }

    /// A constant of one element.
    pub(super) fn scalar(t: &Tensor) -> Option<Arg> {
        let int = || t.to_i64_vec().first().copied().unwrap_or(0);
        let expr = match (t.len(), t.dtype()) {
            (1, DType::F32) => Expr::Const(t.to_f64_vec()[0] as f32),
            (1, DType::I32 | DType::U8 | DType::I8 | DType::I64) => Expr::Int(int() as i32),
            (1, DType::Bool) => Expr::Int(-i32::from(t.bytes()[0] != 0)),
            _ => return None,
        };
        let high = (t.dtype() == DType::I64).then(|| Expr::Int((int() >> 32) as i32));
        Some(Arg { expr, dtype: t.dtype(), high })
    }

    /// What is stored for it.
    pub(super) fn stored(self) -> Expr {
        match (self.dtype, self.expr) {
            (DType::Bool, expr) => expr.bit(),
            // The store rounds.
            (DType::BF16, Expr::Func(Func::Bf16, x)) => Expr::clone(&x),
            (_, expr) => expr,
        }
    }
}
