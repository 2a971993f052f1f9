//! Scalar expressions over loaded operands: the epilogues of contractions and the bodies of elementwise kernels.
//!
//! An [`Expr`] is a tree; [`Expr::emit`] writes it into a tile, with every leaf supplied by the kernel's builder (which
//! knows strides and broadcasts).

use crate::tile::{Binary, Cmp, Reg, TileBuilder, Unary};

/// A function of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Func {
    /// A lane operation.
    Lane(Unary),
    /// `exp(x)`.
    Exp,
    /// `tanh(x)`.
    Tanh,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `erf(x)`.
    Erf,
}

/// A scalar expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// The i-th operand; in the epilogue of a contraction, 0 is the accumulator and `i + 1` its i-th operand.
    Operand(usize),
    /// A constant.
    Const(f32),
    /// A function.
    Func(Func, Box<Expr>),
    /// `a op b`.
    Binary(Binary, Box<Expr>, Box<Expr>),
    /// `a cmp b ? x : y`.
    Select(Cmp, Box<[Expr; 4]>),
}

impl Expr {
    /// `f(self)`.
    pub fn func(self, f: Func) -> Expr {
        Expr::Func(f, Box::new(self))
    }

    /// `self op b`.
    pub fn binary(self, op: Binary, b: Expr) -> Expr {
        Expr::Binary(op, Box::new(self), Box::new(b))
    }

    /// `self + b`.
    pub fn plus(self, b: Expr) -> Expr {
        self.binary(Binary::Add, b)
    }

    /// `self * b`.
    pub fn times(self, b: Expr) -> Expr {
        self.binary(Binary::Mul, b)
    }

    /// `max(self, 0)`; NaN stays NaN.
    pub fn relu(self) -> Expr {
        Expr::Const(0.0).binary(Binary::Max, self)
    }

    /// `min(max(self, lo), hi)`; NaN stays NaN.
    pub fn clip(self, lo: f32, hi: f32) -> Expr {
        Expr::Const(hi).binary(Binary::Min, Expr::Const(lo).binary(Binary::Max, self))
    }

    /// `self < 0 ? slope * self : self`.
    pub fn leaky_relu(self, slope: f32) -> Expr {
        let scaled = self.clone().times(Expr::Const(slope));
        Expr::Select(Cmp::Lt, Box::new([self.clone(), Expr::Const(0.0), scaled, self]))
    }

    /// `self * sigmoid(self)`.
    pub fn silu(self) -> Expr {
        self.clone().times(self.func(Func::Sigmoid))
    }

    /// `clip(alpha * self + beta, 0, 1)`.
    pub fn hard_sigmoid(self, alpha: f32, beta: f32) -> Expr {
        self.times(Expr::Const(alpha)).plus(Expr::Const(beta)).clip(0.0, 1.0)
    }

    /// `self * hard_sigmoid(self, 1/6, 1/2)`.
    pub fn hard_swish(self) -> Expr {
        self.clone().times(self.hard_sigmoid(1.0 / 6.0, 0.5))
    }

    /// `self / 2 * (1 + erf(self / sqrt(2)))`.
    pub fn gelu(self) -> Expr {
        let erf = self.clone().times(Expr::Const(std::f32::consts::FRAC_1_SQRT_2)).func(Func::Erf);
        self.times(Expr::Const(0.5)).times(erf.plus(Expr::Const(1.0)))
    }

    /// Writes the expression into a tile; `leaf` gives the register of an operand. Equal subtrees are computed once.
    pub fn emit(&self, b: &mut TileBuilder, leaf: &mut impl FnMut(&mut TileBuilder, usize) -> Reg) -> Reg {
        let mut known = Vec::new();
        self.emit_known(b, leaf, &mut known)
    }

    fn emit_known<'a>(
        &'a self,
        b: &mut TileBuilder,
        leaf: &mut impl FnMut(&mut TileBuilder, usize) -> Reg,
        known: &mut Vec<(&'a Expr, Reg)>,
    ) -> Reg {
        if let Some((_, reg)) = known.iter().find(|(expr, _)| *expr == self) {
            return *reg;
        }
        let reg = match self {
            Expr::Operand(i) => leaf(b, *i),
            Expr::Const(c) => b.f32(*c),
            Expr::Func(f, x) => {
                let x = x.emit_known(b, leaf, known);
                match f {
                    Func::Lane(op) => b.unary(*op, x),
                    Func::Exp => b.exp(x),
                    Func::Tanh => b.tanh(x),
                    Func::Sigmoid => b.sigmoid(x),
                    Func::Erf => b.erf(x),
                }
            }
            Expr::Binary(op, x, y) => {
                let (x, y) = (x.emit_known(b, leaf, known), y.emit_known(b, leaf, known));
                b.binary(*op, x, y)
            }
            Expr::Select(cmp, of) => {
                let [l, r, x, y] = of.each_ref().map(|e| e.emit_known(b, leaf, known));
                let mask = b.cmp(*cmp, l, r);
                b.select(mask, x, y)
            }
        };
        known.push((self, reg));
        reg
    }
}
