//! Scalar expressions over loaded operands: the epilogues of contractions and the bodies of elementwise kernels.
//!
//! An [`Expr`] is a tree whose subtrees may be shared, so that a region of the graph in which values have several uses
//! stays as small as it is; [`Expr::emit`] and [`RegisterScope`] write it into a tile, with every leaf supplied by the
//! kernel's builder (which knows strides and broadcasts) and equal subtrees computed once.
//!
//! Values are `f32` or `i32` ([`Elem`](crate::tile::Elem)). An operand has the element type that its memory loads as:
//! `f32` stays, integers and bool become `i32`, and [`Expr::to_float`] converts. A *mask* is an `i32` of all ones or
//! all zeros, what comparisons give; [`Expr::mask`] makes one from a stored bool, [`Expr::bit`] makes a bool to store.

mod functions;

use crate::tile::{Binary, Cmp, Reg, TileBuilder, Unary};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A function of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Func {
    /// A lane operation.
    Lane(Unary),
    /// `exp(x)`.
    Exp,
    /// `exp(x) - 1`, accurate near zero.
    ExpM1,
    /// The natural logarithm.
    Log,
    /// `log(1 + x)` for `x` in `0..=1`, accurate near zero.
    Log1p,
    /// `tanh(x)`.
    Tanh,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `erf(x)`.
    Erf,
    /// `sin(x)`.
    Sin,
    /// `cos(x)`.
    Cos,
    /// `asin(x)`.
    Asin,
    /// `acos(x)`.
    Acos,
    /// `atan(x)`.
    Atan,
    /// The nearest bfloat16, ties to even.
    Bf16,
    /// The nearest half, ties to even.
    F16,
}

/// A scalar expression.
#[derive(Clone, Debug)]
pub enum Expr {
    /// The i-th operand; in the epilogue of a contraction, 0 is the accumulator and `i + 1` its i-th operand.
    Operand(usize),
    /// A constant.
    Const(f32),
    /// An integer constant.
    Int(i32),
    /// A function.
    Func(Func, Arc<Expr>),
    /// `a op b`.
    Binary(Binary, Arc<[Expr; 2]>),
    /// The mask of `a cmp b`.
    Cmp(Cmp, Arc<[Expr; 2]>),
    /// `mask ? x : y`.
    Select(Arc<[Expr; 3]>),
}

/// Structural, constants by their bits; shared subtrees are equal without a look into them.
impl PartialEq for Expr {
    fn eq(&self, other: &Expr) -> bool {
        match (self, other) {
            (Expr::Operand(i), Expr::Operand(j)) => i == j,
            (Expr::Const(a), Expr::Const(b)) => a.to_bits() == b.to_bits(),
            (Expr::Int(a), Expr::Int(b)) => a == b,
            (Expr::Func(f, x), Expr::Func(g, y)) => f == g && (Arc::ptr_eq(x, y) || x == y),
            (Expr::Binary(f, x), Expr::Binary(g, y)) => f == g && (Arc::ptr_eq(x, y) || x == y),
            (Expr::Cmp(f, x), Expr::Cmp(g, y)) => f == g && (Arc::ptr_eq(x, y) || x == y),
            (Expr::Select(x), Expr::Select(y)) => Arc::ptr_eq(x, y) || x == y,
            _ => false,
        }
    }
}

impl Eq for Expr {}

impl Expr {
    /// `f(self)`.
    pub fn func(self, f: Func) -> Expr {
        Expr::Func(f, Arc::new(self))
    }

    /// `self op b`.
    pub fn binary(self, op: Binary, b: Expr) -> Expr {
        Expr::Binary(op, Arc::new([self, b]))
    }

    /// `self + b`.
    pub fn plus(self, b: Expr) -> Expr {
        self.binary(Binary::Add, b)
    }

    /// `self - b`.
    pub fn minus(self, b: Expr) -> Expr {
        self.binary(Binary::Sub, b)
    }

    /// `self * b`.
    pub fn times(self, b: Expr) -> Expr {
        self.binary(Binary::Mul, b)
    }

    /// `self / b`.
    pub fn over(self, b: Expr) -> Expr {
        self.binary(Binary::Div, b)
    }

    /// The mask of `self cmp b`.
    pub fn cmp(self, cmp: Cmp, b: Expr) -> Expr {
        Expr::Cmp(cmp, Arc::new([self, b]))
    }

    /// `self ? x : y` for a mask.
    pub fn select(self, x: Expr, y: Expr) -> Expr {
        Expr::Select(Arc::new([self, x, y]))
    }

    /// An integer as `f32`.
    pub fn to_float(self) -> Expr {
        self.func(Func::Lane(Unary::ToFloat))
    }

    /// An `f32` as an integer: towards zero, saturating, 0 for NaN.
    pub fn to_int(self) -> Expr {
        self.func(Func::Lane(Unary::ToInt))
    }

    /// The mask of a stored bool.
    pub fn mask(self) -> Expr {
        self.cmp(Cmp::Ne, Expr::Int(0))
    }

    /// The stored bool, 0 or 1, of a mask.
    pub fn bit(self) -> Expr {
        self.binary(Binary::And, Expr::Int(1))
    }

    fn children(&self) -> &[Expr] {
        match self {
            Expr::Operand(_) | Expr::Const(_) | Expr::Int(_) => &[],
            Expr::Func(_, x) => std::slice::from_ref(x),
            Expr::Binary(_, of) | Expr::Cmp(_, of) => &of[..],
            Expr::Select(of) => &of[..],
        }
    }

    /// The distinct subtrees, each after its own subtrees; the last one is the expression itself.
    fn subtrees(&self) -> Vec<Subtree<'_>> {
        let mut found = Vec::new();
        self.collect(&mut found);
        found
    }

    /// Adds what is not in `found` yet; returns where the expression is in it.
    fn collect<'a>(&'a self, found: &mut Vec<Subtree<'a>>) -> usize {
        if let Some(known) = found.iter().position(|s| s.expr == self) {
            return known;
        }
        let children = self.children().iter().map(|child| child.collect(found)).collect();
        found.push(Subtree { expr: self, children });
        found.len() - 1
    }

    /// The operands that it names.
    pub fn operands(&self) -> BTreeSet<usize> {
        let operand = |s: &Subtree| if let Expr::Operand(i) = s.expr { Some(*i) } else { None };
        self.subtrees().iter().filter_map(operand).collect()
    }

    /// How many distinct leaves and operators it has.
    pub fn size(&self) -> usize {
        self.subtrees().len()
    }

    /// About how many instructions the expression takes for one vector, loads left aside.
    pub fn cost(&self) -> usize {
        let cost = |expr: &Expr| match expr {
            Expr::Operand(_) | Expr::Const(_) | Expr::Int(_) => 0,
            Expr::Func(Func::Bf16, _) => 9,
            Expr::Func(Func::F16, _) => 18,
            Expr::Func(Func::Lane(_), _) | Expr::Binary(..) | Expr::Cmp(..) | Expr::Select(_) => 1,
            Expr::Func(Func::Exp | Func::ExpM1 | Func::Sigmoid | Func::Tanh | Func::Erf, _) => 18,
            Expr::Func(Func::Asin | Func::Acos | Func::Atan, _) => 24,
            Expr::Func(Func::Sin | Func::Cos, _) => 95,
            Expr::Func(_, _) => 30,
        };
        self.subtrees().iter().map(|s| cost(s.expr)).sum()
    }

    /// The expression with another one in place of operand `i`.
    pub fn with_operand(&self, i: usize, new: &Expr) -> Expr {
        self.with_operands(&|j| if i == j { new.clone() } else { Expr::Operand(j) })
    }

    /// The expression with `new(i)` in place of each operand `i`; what was shared stays shared.
    pub fn with_operands(&self, new: &impl Fn(usize) -> Expr) -> Expr {
        let mut made: Vec<Expr> = Vec::new();
        for Subtree { expr, children } in self.subtrees() {
            let child = |i: usize| made[children[i]].clone();
            made.push(match expr {
                Expr::Operand(i) => new(*i),
                Expr::Const(_) | Expr::Int(_) => expr.clone(),
                Expr::Func(f, _) => Expr::Func(*f, Arc::new(child(0))),
                Expr::Binary(op, _) => Expr::Binary(*op, Arc::new([child(0), child(1)])),
                Expr::Cmp(cmp, _) => Expr::Cmp(*cmp, Arc::new([child(0), child(1)])),
                Expr::Select(_) => Expr::Select(Arc::new([child(0), child(1), child(2)])),
            });
        }
        made.pop().unwrap_or_else(|| self.clone())
    }

    /// Writes the expression into a tile; `leaf` gives the register of an operand. Equal subtrees are computed once.
    pub fn emit(&self, b: &mut TileBuilder, leaf: &mut impl FnMut(&mut TileBuilder, usize) -> Reg) -> Reg {
        RegisterScope::default().emit(self, b, leaf)
    }
}

/// A subtree, and where its children are in the list of all.
struct Subtree<'a> {
    expr: &'a Expr,
    children: Vec<usize>,
}

/// The subtrees whose registers are known where the tile builder stands. Clone it to enter the body of a loop, where
/// the clone may learn what is not visible after the loop.
#[derive(Clone, Default)]
pub struct RegisterScope<'a> {
    known: Vec<(&'a Expr, Reg)>,
}

impl<'a> RegisterScope<'a> {
    /// Notes that the value of `expr` is in `reg`.
    pub fn tell(&mut self, expr: &'a Expr, reg: Reg) {
        self.known.push((expr, reg));
    }

    /// Writes what is not known yet of an expression.
    pub fn emit(
        &mut self,
        expr: &'a Expr,
        b: &mut TileBuilder,
        leaf: &mut impl FnMut(&mut TileBuilder, usize) -> Reg,
    ) -> Reg {
        if let Some((_, reg)) = self.known.iter().find(|(known, _)| *known == expr) {
            return *reg;
        }
        let reg = match expr {
            Expr::Operand(i) => leaf(b, *i),
            Expr::Const(c) => b.f32(*c),
            Expr::Int(c) => b.i32(*c),
            Expr::Func(f, x) => {
                let x = self.emit(x, b, leaf);
                f.emit(b, x)
            }
            Expr::Binary(op, of) => {
                let [x, y] = of.each_ref().map(|x| self.emit(x, b, leaf));
                b.binary(*op, x, y)
            }
            Expr::Cmp(cmp, of) => {
                let [x, y] = of.each_ref().map(|x| self.emit(x, b, leaf));
                b.cmp(*cmp, x, y)
            }
            Expr::Select(of) => {
                let [mask, x, y] = of.each_ref().map(|x| self.emit(x, b, leaf));
                b.select(mask, x, y)
            }
        };
        self.known.push((expr, reg));
        reg
    }

    /// Writes every subtree that names operands, but only those that `fixed` holds for: what a loop over the other
    /// operands need not repeat.
    pub fn hoist(
        &mut self,
        expr: &'a Expr,
        b: &mut TileBuilder,
        leaf: &mut impl FnMut(&mut TileBuilder, usize) -> Reg,
        fixed: &impl Fn(usize) -> bool,
    ) {
        // Of each subtree: whether it names operands, and whether all of them are fixed.
        let mut names: Vec<(bool, bool)> = Vec::new();
        for Subtree { expr, children } in expr.subtrees() {
            let of = match expr {
                Expr::Operand(i) => (true, fixed(*i)),
                _ => children.iter().fold((false, true), |(some, all), &c| (some | names[c].0, all & names[c].1)),
            };
            names.push(of);
            if of == (true, true) {
                self.emit(expr, b, leaf);
            }
        }
    }
}

impl Func {
    fn emit(self, b: &mut TileBuilder, x: Reg) -> Reg {
        match self {
            Func::Lane(op) => b.unary(op, x),
            Func::Exp => b.exp(x),
            Func::ExpM1 => b.exp_m1(x),
            Func::Log => b.log(x),
            Func::Log1p => b.log_1p(x),
            Func::Tanh => b.tanh(x),
            Func::Sigmoid => b.sigmoid(x),
            Func::Erf => b.erf(x),
            Func::Sin => b.sin(x),
            Func::Cos => b.cos(x),
            Func::F16 => b.round_f16(x),
            Func::Asin => b.asin(x),
            Func::Acos => b.acos(x),
            Func::Atan => b.atan(x),
            Func::Bf16 => {
                let bits = b.round_bf16(x);
                b.unary(Unary::AsFloat, bits)
            }
        }
    }
}
