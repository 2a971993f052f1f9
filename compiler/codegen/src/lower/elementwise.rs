//! Elementwise ops: one expression, one kernel.
//!
//! Registers hold `f32`, `i32` or masks: a bool is a mask inside an expression and a byte in memory. Integers that are
//! narrower or wider than 32 bits are only converted. `i64` is read by its lower half, so that it only becomes another integer.

use optc_ir::Op;
use optc_ir::ops::nn::BatchNorm;
use optc_runtime::plan::{BufRef, Info};
use optc_tensor::DType;

use super::{Declined, Lowered, Lowering, Site, View};
use crate::elementwise::{self as kernels, Elementwise};
use crate::expr::{Expr, Func};
use crate::space;
use crate::tile::{Binary, Cmp, Mem};

/// A value inside an expression.
#[derive(Clone, Debug)]
pub(super) struct Arg {
    /// What computes it.
    pub(super) expr: Expr,
    /// What it is in the graph.
    pub(super) dtype: DType,
}

impl Arg {
    /// Operand `i` of the kernel.
    pub(super) fn operand(i: usize, dtype: DType) -> Arg {
        let expr = Expr::Operand(i);
        Arg { expr: if dtype == DType::Bool { expr.mask() } else { expr }, dtype }
    }

    /// A constant of one element.
    pub(super) fn scalar(t: &optc_tensor::Tensor) -> Option<Arg> {
        let expr = match (t.len(), t.dtype()) {
            (1, DType::F32) => Expr::Const(t.to_f64_vec()[0] as f32),
            (1, DType::I32 | DType::U8 | DType::I8) => Expr::Int(t.to_i64_vec()[0] as i32),
            (1, DType::Bool) => Expr::Int(-i32::from(t.bytes()[0] != 0)),
            _ => return None,
        };
        Some(Arg { expr, dtype: t.dtype() })
    }

    /// What is stored for it.
    pub(super) fn stored(self) -> Expr {
        if self.dtype == DType::Bool { self.expr.bit() } else { self.expr }
    }
}

/// Whether [`expr_of`] knows the op, for operands of the dtypes that it does know.
pub(super) fn is_elementwise(op: &Op) -> bool {
    let args = [0, 1, 2].map(|i| Some(Arg { expr: Expr::Const(i as f32), dtype: DType::F32 }));
    expr_of(op, &args, DType::F32).is_ok()
}

/// An elementwise op as an expression on its operands.
///
/// # Errors
/// The op has no expression for these dtypes.
pub(super) fn expr_of(op: &Op, args: &[Option<Arg>], result: DType) -> Result<Expr, Declined> {
    let none = || Declined::new(format!("`{}` has no elementwise kernel", op.name()));
    let given = |i: usize| args.get(i).and_then(Option::as_ref).ok_or_else(|| Declined::new("an operand is absent"));
    let first = given(0)?;
    let (x, dtype) = (first.expr.clone(), first.dtype);
    if let Some(expr) = logic(op, args, &x)? {
        return Ok(expr);
    }
    if let Op::Cast(_) = op {
        return cast(x, dtype, result);
    }
    if dtype == DType::F32 {
        if let Some(expr) = float_function(op, x.clone()) {
            return Ok(expr);
        }
        if let Some(expr) = float_operation(op, args, x)? {
            return Ok(expr);
        }
    } else if dtype == DType::I32 {
        let second = || given(1).map(|arg| arg.expr.clone());
        return Ok(match op {
            Op::Add(_) => x.plus(second()?),
            Op::Sub(_) => x.minus(second()?),
            Op::Mul(_) => x.times(second()?),
            Op::Min(_) => x.binary(Binary::Min, second()?),
            Op::Max(_) => x.binary(Binary::Max, second()?),
            Op::Neg(_) => x.negated(),
            Op::Abs(_) => x.abs(),
            _ => return Err(none()),
        });
    }
    Err(none())
}

/// Comparisons, choices and operations on masks.
fn logic(op: &Op, args: &[Option<Arg>], x: &Expr) -> Result<Option<Expr>, Declined> {
    let given = |i: usize| args.get(i).and_then(Option::as_ref).ok_or_else(|| Declined::new("an operand is absent"));
    let compare = |cmp: Cmp| {
        let (a, b) = (given(0)?, given(1)?);
        match a.dtype {
            DType::F32 | DType::I32 | DType::U8 | DType::I8 => Ok(Some(x.clone().cmp(cmp, b.expr.clone()))),
            DType::Bool if cmp == Cmp::Eq => Ok(Some(x.clone().cmp(cmp, b.expr.clone()))),
            other => Err(Declined::new(format!("{other} is not compared by kernels"))),
        }
    };
    let masks = |op: Binary| Ok(Some(x.clone().binary(op, given(1)?.expr.clone())));
    match op {
        Op::Equal(_) => compare(Cmp::Eq),
        Op::Less(_) => compare(Cmp::Lt),
        Op::Greater(_) => compare(Cmp::Gt),
        Op::LessEqual(_) => compare(Cmp::Le),
        Op::GreaterEqual(_) => compare(Cmp::Ge),
        Op::And(_) => masks(Binary::And),
        Op::Or(_) => masks(Binary::Or),
        Op::Xor(_) => masks(Binary::Xor),
        Op::Not(_) => Ok(Some(x.clone().binary(Binary::Xor, Expr::Int(-1)))),
        Op::Where(_) => {
            let (a, b) = (given(1)?, given(2)?);
            if a.dtype == DType::I64 {
                return Err(Declined::new("i64 is not chosen from by kernels"));
            }
            Ok(Some(x.clone().select(a.expr.clone(), b.expr.clone())))
        }
        _ => Ok(None),
    }
}

fn cast(x: Expr, from: DType, to: DType) -> Result<Expr, Declined> {
    use DType::{Bool, F32, I8, I32, I64, U8};
    Ok(match (from, to) {
        _ if from == to => x,
        (F32, Bool) => x.cmp(Cmp::Ne, Expr::Const(0.0)),
        (F32, I32) => x.to_int(),
        (F32, U8 | I8) => narrow(x.to_int(), to),
        (Bool, F32) => x.select(Expr::Const(1.0), Expr::Const(0.0)),
        (Bool, I32 | I64 | U8 | I8) => x.bit(),
        (I32 | U8 | I8, F32) => x.to_float(),
        (I32 | U8 | I8, Bool) => x.mask(),
        (U8 | I8, I32 | I64) | (I32, I64) | (I64, I32) => x,
        (I32 | I64 | U8 | I8, U8 | I8) => narrow(x, to),
        _ => return Err(Declined::new(format!("kernels do not convert {from} to {to}"))),
    })
}

/// The value that the lowest byte has as `u8` or `i8`.
fn narrow(x: Expr, to: DType) -> Expr {
    let byte = x.binary(Binary::And, Expr::Int(255));
    if to == DType::U8 { byte } else { byte.binary(Binary::Xor, Expr::Int(128)).minus(Expr::Int(128)) }
}

/// Functions of one `f32`.
fn float_function(op: &Op, x: Expr) -> Option<Expr> {
    Some(match op {
        Op::Relu(_) => x.relu(),
        Op::Sigmoid(_) => x.func(Func::Sigmoid),
        Op::Tanh(_) => x.func(Func::Tanh),
        Op::Exp(_) => x.exp(),
        Op::Log(_) => x.log(),
        Op::Erf(_) => x.func(Func::Erf),
        Op::Sqrt(_) => x.sqrt(),
        Op::Reciprocal(_) => x.reciprocal(),
        Op::Abs(_) => x.abs(),
        Op::Neg(_) => x.negated(),
        Op::Floor(_) => x.floor(),
        Op::Ceil(_) => x.ceil(),
        Op::Round(_) => x.round(),
        Op::Sign(_) => x.sign(),
        Op::Sin(_) => x.func(Func::Sin),
        Op::Cos(_) => x.func(Func::Cos),
        Op::Softplus(_) => x.softplus(),
        Op::Softsign(_) => x.softsign(),
        Op::HardSwish(_) => x.hard_swish(),
        Op::Mish(_) => x.mish(),
        Op::LeakyRelu(op) => x.leaky_relu(op.alpha.0),
        Op::Elu(op) => x.elu(op.alpha.0),
        Op::HardSigmoid(op) => x.hard_sigmoid(op.alpha.0, op.beta.0),
        _ => return None,
    })
}

/// Operations on several `f32`.
fn float_operation(op: &Op, args: &[Option<Arg>], x: Expr) -> Result<Option<Expr>, Declined> {
    let arg = |i: usize| args.get(i).and_then(Option::as_ref).map(|arg| arg.expr.clone());
    let second = || arg(1).ok_or_else(|| Declined::new("an operand is absent"));
    Ok(Some(match op {
        Op::Add(_) => x.plus(second()?),
        Op::Sub(_) => x.minus(second()?),
        Op::Mul(_) => x.times(second()?),
        Op::Div(_) => x.over(second()?),
        Op::Min(_) => x.minimum(second()?),
        Op::Max(_) => x.maximum(second()?),
        Op::Clip(_) => {
            let lower = arg(1).map_or(x.clone(), |low| x.maximum(low));
            arg(2).map_or(lower.clone(), |high| lower.minimum(high))
        }
        Op::Pow(_) => match second()? {
            Expr::Const(exponent) => x
                .power(exponent)
                .ok_or_else(|| Declined::new(format!("kernels do not raise to the power {exponent}")))?,
            _ => return Err(Declined::new("kernels raise to constant powers only")),
        },
        _ => return Ok(None),
    }))
}

/// A view as kernels see it: from the place that it is given.
///
/// # Errors
/// Kernels do not compute with the dtype.
pub(super) fn kernel_view(view: &View) -> Result<space::View, Declined> {
    let mem = match view.dtype {
        DType::F32 => Mem::F32,
        DType::I32 => Mem::I32,
        DType::I64 => Mem::I64,
        DType::U8 | DType::Bool => Mem::U8,
        DType::I8 => Mem::I8,
        other => return Err(Declined::new(format!("kernels do not compute with {other}"))),
    };
    Ok(space::View { mem, bytes: view.span_bytes(), offset: 0, strides: view.byte_strides() })
}

/// Lowers one elementwise op.
pub(super) fn op(lw: &mut Lowering, op: &Op, site: &Site) -> Lowered {
    site.without_epilogue()?;
    let result = site.result()?.clone();
    let (mut views, mut args) = (Vec::new(), Vec::new());
    for value in &site.operands {
        let Some(value) = *value else {
            args.push(None);
            continue;
        };
        if let Some(scalar) = lw.constant(value).and_then(Arg::scalar) {
            args.push(Some(scalar));
            continue;
        }
        let view = lw.view(value)?;
        let wide = view.broadcast(&result.shape);
        args.push(Some(Arg::operand(views.len(), view.dtype)));
        views.push(wide.ok_or_else(|| Declined::new("an operand does not broadcast to the result"))?);
    }
    let expr = expr_of(op, &args, result.dtype)?;
    elementwise(lw, &Arg { expr, dtype: result.dtype }.stored(), &views, &result, &site.loc)
}

/// `scale * (x - mean) / sqrt(var + epsilon) + bias` with a value of each for a channel (axis 1).
pub(super) fn batch_norm(lw: &mut Lowering, op: &BatchNorm, site: &Site) -> Lowered {
    let x = lw.view(site.operand(0)?)?;
    let result = site.result()?.clone();
    let mut views = vec![x];
    for slot in 1..5 {
        let vector = lw.view(site.operand(slot)?)?;
        let mut strides = vec![0; result.shape.len()];
        match (&vector.shape[..], result.shape.get(1)) {
            ([n], Some(channels)) if n == channels => strides[1] = vector.strides[0],
            _ => return Err(Declined::new("the statistics are not one for each channel")),
        }
        views.push(View { strides, shape: result.shape.clone(), ..vector });
    }
    if views.iter().chain([&result]).any(|view| view.dtype != DType::F32) {
        return Err(Declined::new("kernels normalise f32 only"));
    }
    let [x, scale, bias, mean, var] = [0, 1, 2, 3, 4].map(Expr::Operand);
    let factor = scale.over(var.plus(Expr::Const(op.epsilon.0)).sqrt());
    let value = x.minus(mean).times(factor).plus(bias);
    views.extend(site.epilogue.operands.iter().cloned());
    let expr = site.epilogue.expr.with_operands(&|i| if i == 0 { value.clone() } else { Expr::Operand(4 + i) });
    elementwise(lw, &expr, &views, &result, &site.loc)
}

/// `dst = expr(operands)`, element by element; the operands have the shape of the result.
pub(super) fn elementwise(lw: &mut Lowering, expr: &Expr, operands: &[View], dst: &View, loc: &[String]) -> Lowered {
    let views = operands.iter().map(kernel_view).collect::<Result<Vec<_>, _>>()?;
    let results = vec![(kernel_view(dst)?, expr.clone())];
    let problem = Elementwise { shape: dst.shape.clone(), operands: views, results };
    let kernel = kernels::elementwise(&problem, lw.target.isa);
    // Another operand in the same bytes must not see what is stored there.
    let alone = |i: usize| {
        operands.iter().enumerate().all(|(j, v)| v.at.buf != operands[i].at.buf || *v == operands[i] || i == j)
    };
    let in_place = (0..operands.len()).find(|&i| kernels::in_place(&problem, i) && alone(i));
    let mut args: Vec<BufRef> = operands.iter().map(|view| view.at).collect();
    args.push(dst.at);
    let bytes = kernel.bufs.iter().map(|b| b.bytes as f64).sum();
    // A vector of four is an instruction or two.
    let flops = (dst.len() * expr.cost().max(1)) as f64;
    lw.kernel(kernel, args, in_place, Info { loc: loc.to_vec(), flops, bytes, ..Info::default() });
    Ok(())
}
