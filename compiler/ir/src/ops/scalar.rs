//! Elements inside a kernel's expression: what the expression of an op is made of.
//!
//! Registers hold `f32`, `i32` or masks: a bool is a mask inside an expression and a byte in memory; halves and
//! bfloat16 are `f32` inside. Integers that are narrower or wider than 32 bits are only converted and compared; an
//! `i64` is two operands of 32 bits, its halves.

use optc_kernel::expr::{Expr, Func};
use optc_tensor::{DType, Tensor};

/// Why an op has no expression for its operands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoExpression {
    /// No kernel computes it on these dtypes.
    #[error("it has no elementwise kernel for these dtypes")]
    DTypes,
    /// An operand that the expression names is not there.
    #[error("an operand is absent")]
    Absent,
    /// An operand would have to be a constant, or another one.
    #[error("{0}")]
    Constant(String),
    /// Kernels do not do this with these dtypes.
    #[error("{0}")]
    Conversion(String),
    /// Its attributes ask for what kernels do not do.
    #[error("{0}")]
    Attributes(&'static str),
}

/// An element inside an expression.
#[derive(Clone, Debug)]
pub struct Scalar {
    /// What computes it.
    pub expr: Expr,
    /// What it is in the graph.
    pub dtype: DType,
    /// The upper half of an `i64`.
    pub high: Option<Expr>,
}

impl Scalar {
    /// What an expression gives.
    pub fn new(expr: Expr, dtype: DType) -> Scalar {
        Scalar { expr, dtype, high: None }
    }

    /// Operand `i` of the kernel; for an `i64` its lower half, where operand `i + 1` is the upper one.
    pub fn operand(i: usize, dtype: DType) -> Scalar {
        let expr = Expr::Operand(i);
        let high = (dtype == DType::I64).then_some(Expr::Operand(i + 1));
        Scalar { expr: if dtype == DType::Bool { expr.mask() } else { expr }, dtype, high }
    }

    /// A constant of one element.
    pub fn constant(t: &Tensor) -> Option<Scalar> {
        let int = || t.to_i64_vec().first().copied().unwrap_or(0);
        let expr = match (t.len(), t.dtype()) {
            (1, DType::F32 | DType::F16 | DType::BF16) => Expr::Const(t.to_f64_vec()[0] as f32),
            (1, DType::I32 | DType::U16 | DType::I16 | DType::U8 | DType::I8 | DType::I64) => Expr::Int(int() as i32),
            (1, DType::Bool) => Expr::Int(-i32::from(t.bytes()[0] != 0)),
            _ => return None,
        };
        let high = (t.dtype() == DType::I64).then(|| Expr::Int((int() >> 32) as i32));
        Some(Scalar { expr, dtype: t.dtype(), high })
    }

    /// What is stored for it.
    pub fn stored(self) -> Expr {
        match (self.dtype, self.expr) {
            (DType::Bool, expr) => expr.bit(),
            // The store rounds.
            (DType::BF16, Expr::Func(Func::Bf16, x)) | (DType::F16, Expr::Func(Func::F16, x)) => Expr::clone(&x),
            (_, expr) => expr,
        }
    }
}

/// An element of each operand, and what the op gives.
pub struct Scalars<'a> {
    /// The operands; `None` for absent ones.
    pub args: &'a [Option<Scalar>],
    /// The dtype of the result.
    pub result: DType,
}

impl<'a> Scalars<'a> {
    /// The element of operand `i`.
    ///
    /// # Errors
    /// The operand is absent.
    pub fn given(&self, i: usize) -> Result<&'a Scalar, NoExpression> {
        self.args.get(i).and_then(Option::as_ref).ok_or(NoExpression::Absent)
    }

    /// The expression of operand `i`, if it is there.
    pub fn optional(&self, i: usize) -> Option<Expr> {
        Some(self.args.get(i)?.as_ref()?.expr.clone())
    }

    /// The expression of operand `i`, which must be of this dtype.
    ///
    /// # Errors
    /// The operand is absent or of another dtype.
    pub fn only(&self, i: usize, dtype: DType) -> Result<Expr, NoExpression> {
        let arg = self.given(i)?;
        if arg.dtype != dtype {
            return Err(NoExpression::Conversion(format!("{} where {dtype} is expected", arg.dtype)));
        }
        Ok(arg.expr.clone())
    }

    /// The first operand, for an op that kernels compute on `f32` alone.
    ///
    /// # Errors
    /// It is absent or of another dtype.
    pub fn float(&self) -> Result<Expr, NoExpression> {
        let x = self.given(0)?;
        if x.dtype == DType::F32 { Ok(x.expr.clone()) } else { Err(NoExpression::DTypes) }
    }

    /// What the first two operands give by the function for their dtype: `f32`, `i32`, narrower integers.
    ///
    /// # Errors
    /// There is no function for it.
    pub fn pair(&self, [float, int, narrow]: [Option<PairFn>; 3]) -> Result<Expr, NoExpression> {
        let x = self.given(0)?;
        let function = match x.dtype {
            DType::F32 => float,
            DType::I32 => int,
            DType::U16 | DType::I16 | DType::U8 | DType::I8 => narrow,
            _ => None,
        };
        let function = function.ok_or(NoExpression::DTypes)?;
        Ok(function(x.expr.clone(), self.given(1)?.expr.clone()))
    }
}

/// What an op gives for an element of each of its two operands.
pub type PairFn = fn(Expr, Expr) -> Expr;
