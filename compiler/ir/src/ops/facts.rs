//! The facts of an op: what other layers ask of it, said where the op is declared.
//!
//! Fusion, the choice of layouts, common subexpressions, the check of strings and lowering ask for them, and keep no
//! lists of ops. A derivative will stand here as well, where training needs one.

use optc_kernel::expr::Expr;

use super::scalar::{NoExpression, Scalars};

/// What computes an op in a compiled model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComputedBy {
    /// An expression on elements: the op is pointwise, and operands broadcast to the result.
    Expression,
    /// A kernel family of its own: `optc-lower` has a row for it.
    Family,
    /// Nothing: the result is a view of the operand, or else the host copies it.
    View,
    /// The host, which evaluates the op, for this reason.
    Host(&'static str),
}

/// How an op takes part in the expression of a fused kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FusionRole {
    /// `f32` operands, `f32` result.
    Float,
    /// `f32` operands, a mask that only ops in the expression read.
    Compare,
    /// A mask from the expression, `f32` operands and result.
    Select,
    /// An integer, a mask or a half (of either kind) becomes `f32`, or `f32` becomes a half.
    Convert,
    /// Between reals and integers of 8 or 16 bits, or on the integers themselves.
    Quantized,
}

/// Which expressions the kernels of an op can apply to each element of its result, before it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// Those of `f32`, where all operands are `f32`.
    Float,
    /// Those of `f32`; the first operand may be rounded to bfloat16.
    Product,
    /// Those that turn a sum of integers into another number.
    Integers,
}

/// How the layouts of an op's operands and results depend on each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayoutRule {
    /// All have the same layout, whichever it is: the op works on elements or whole axes wherever these lie.
    Follows,
    /// The op has layouts of its own, plain ones if nothing else is said.
    Own,
}

/// What an op does besides giving its results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effects {
    /// Nothing: the same operands give the same results.
    Pure,
    /// It draws numbers: each evaluation gives others, so that two equal ops are not one.
    Random,
}

/// The facts of any op, without its expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpFacts {
    /// What computes it.
    pub computed_by: ComputedBy,
    /// How it takes part in a fused expression; `None` where it does not.
    pub fusion: Option<FusionRole>,
    /// Which expressions can follow it in its kernel; `None` where none can.
    pub anchor: Option<Anchor>,
    /// How its layouts depend on each other.
    pub layout: LayoutRule,
    /// Whether operands may hold strings.
    pub strings: bool,
    /// What it does besides.
    pub effects: Effects,
}

/// The kernel expression of a pointwise op.
pub enum Expression<O> {
    /// Of one operand, on `f32` alone.
    OfFloat(fn(&O, Expr) -> Expr),
    /// Of any operands.
    OfScalars(fn(&O, &Scalars) -> Result<Expr, NoExpression>),
}

/// The facts of the op `O`. Made by one of the functions that say what computes it, so that none is forgotten:
/// [`Facts::float`], [`Facts::expression`], [`Facts::family`], [`Facts::anchor`], [`Facts::view`] or [`Facts::host`].
pub struct Facts<O> {
    /// What every op has.
    pub op: OpFacts,
    expression: Option<Expression<O>>,
}

impl<O> Facts<O> {
    const fn new(computed_by: ComputedBy, layout: LayoutRule) -> Facts<O> {
        let op = OpFacts { computed_by, fusion: None, anchor: None, layout, strings: false, effects: Effects::Pure };
        Facts { op, expression: None }
    }

    /// A function of one `f32`, which fuses.
    pub const fn float(f: fn(&O, Expr) -> Expr) -> Facts<O> {
        let op = Facts::<O>::new(ComputedBy::Expression, LayoutRule::Follows).op;
        Facts { op: OpFacts { fusion: Some(FusionRole::Float), ..op }, expression: Some(Expression::OfFloat(f)) }
    }

    /// A function of an element of each operand; it fuses where a role is given.
    pub const fn expression(fusion: Option<FusionRole>, f: fn(&O, &Scalars) -> Result<Expr, NoExpression>) -> Facts<O> {
        let op = Facts::<O>::new(ComputedBy::Expression, LayoutRule::Follows).op;
        Facts { op: OpFacts { fusion, ..op }, expression: Some(Expression::OfScalars(f)) }
    }

    /// Lowered by a family of kernels.
    pub const fn family() -> Facts<O> {
        Facts::new(ComputedBy::Family, LayoutRule::Own)
    }

    /// Lowered by a family of kernels that apply expressions to their results.
    pub const fn anchor(anchor: Anchor) -> Facts<O> {
        let op = Facts::<O>::family().op;
        Facts { op: OpFacts { anchor: Some(anchor), ..op }, expression: None }
    }

    /// A view of its operand.
    pub const fn view() -> Facts<O> {
        Facts::new(ComputedBy::View, LayoutRule::Own)
    }

    /// Without a kernel: the host evaluates it.
    pub const fn host(reason: &'static str) -> Facts<O> {
        Facts::new(ComputedBy::Host(reason), LayoutRule::Own)
    }

    /// A pointwise op without a kernel.
    pub const fn no_expression() -> Facts<O> {
        Facts::host("there is no elementwise kernel for it")
    }

    /// With one layout for all operands and results.
    pub const fn following(self) -> Facts<O> {
        Facts { op: OpFacts { layout: LayoutRule::Follows, ..self.op }, ..self }
    }

    /// With operands that may hold strings.
    pub const fn with_strings(self) -> Facts<O> {
        Facts { op: OpFacts { strings: true, ..self.op }, ..self }
    }

    /// Of an op that draws numbers.
    pub const fn random(self) -> Facts<O> {
        Facts { op: OpFacts { effects: Effects::Random, ..self.op }, ..self }
    }

    /// The expression of `op` on these elements.
    ///
    /// # Errors
    /// It has none, or none for these dtypes.
    pub fn expression_of(&self, op: &O, scalars: &Scalars) -> Result<Expr, NoExpression> {
        match &self.expression {
            Some(Expression::OfFloat(f)) => Ok(f(op, scalars.float()?)),
            Some(Expression::OfScalars(f)) => f(op, scalars),
            None => Err(NoExpression::DTypes),
        }
    }
}
