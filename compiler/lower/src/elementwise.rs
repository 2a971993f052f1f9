//! Elementwise ops: one expression, one kernel.
//!
//! Registers hold `f32`, `i32` or masks: a bool is a mask inside an expression and a byte in memory. Integers that are
//! narrower or wider than 32 bits are only converted and compared; an `i64` is two operands of 32 bits, its halves.

use optc_ir::Op;
use optc_ir::ops::nn::BatchNorm;
use optc_kernel::expr::{Expr, Func};
use optc_kernel::tile::{Binary, Cmp};
use optc_kernels::elementwise::{self as kernels, Elementwise};
use optc_tensor::DType;
use optc_types::steps::{BufRef, StepInfo};

use super::arg::Arg;
use super::cx::Cx;
use super::operands::kernel_view;
use super::{Declined, Lowered, Site, TensorView, quantize};

/// The views of an operand: one, or for an `i64` those of its lower and its upper halves.
pub(super) fn halves(view: TensorView) -> Vec<TensorView> {
    if view.dtype != DType::I64 {
        return vec![view];
    }
    let strides = view.strides.iter().map(|s| 2 * s).collect();
    let low = TensorView { dtype: DType::I32, strides, ..view };
    // Where there is no element, there is no byte of an upper half either.
    let above = if low.is_empty() { 0 } else { 4 };
    let high = TensorView { at: BufRef { offset: low.at.offset + above, ..low.at }, ..low.clone() };
    vec![low, high]
}

/// Whether [`expr_of`] knows the op, for operands of the dtypes that it does know.
pub(super) fn is_elementwise(op: &Op) -> bool {
    if matches!(op, Op::Quantize(_) | Op::Dequantize(_) | Op::Requantize(_) | Op::FakeQuant(_)) {
        return true;
    }
    let args = [0, 1, 2].map(|i| Some(Arg::new(Expr::Const(i as f32), DType::F32)));
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
    if let Some(expr) = quantize::expr_of(op, args, result)? {
        return Ok(expr);
    }
    if let Op::Cast(_) = op {
        return cast(first, result);
    }
    if dtype == DType::F32 {
        if let Some(expr) = float_function(op, x.clone()) {
            return Ok(expr);
        }
        if let Some(expr) = float_operation(op, args, x)? {
            return Ok(expr);
        }
    } else if matches!(dtype, DType::U8 | DType::I8) {
        let second = || given(1).map(|arg| arg.expr.clone());
        return Ok(match op {
            Op::Min(_) => x.binary(Binary::Min, second()?),
            Op::Max(_) => x.binary(Binary::Max, second()?),
            _ => return Err(none()),
        });
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
    let compare = |cmp: Cmp| compare(cmp, given(0)?, given(1)?).map(Some);
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
        Op::IsNan(_) if given(0)?.dtype == DType::F32 => Ok(Some(x.clone().cmp(Cmp::Ne, x.clone()))),
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

fn compare(cmp: Cmp, a: &Arg, b: &Arg) -> Result<Expr, Declined> {
    let (x, y) = (a.expr.clone(), b.expr.clone());
    match (a.dtype, &a.high, &b.high) {
        (DType::F32 | DType::I32 | DType::U8 | DType::I8, _, _) => Ok(x.cmp(cmp, y)),
        (DType::Bool, _, _) if cmp == Cmp::Eq => Ok(x.cmp(cmp, y)),
        (DType::I64, Some(p), Some(q)) => {
            // The lower halves are unsigned: with the sign bit turned they compare as signed ones do.
            let turned = |half: Expr| half.binary(Binary::Xor, Expr::Int(i32::MIN));
            let low = turned(x).cmp(cmp, turned(y));
            let same = p.clone().cmp(Cmp::Eq, q.clone()).binary(Binary::And, low);
            let strict = match cmp {
                Cmp::Eq => return Ok(same),
                Cmp::Lt | Cmp::Le => Cmp::Lt,
                Cmp::Gt | Cmp::Ge => Cmp::Gt,
                Cmp::Ne => return Err(Declined::new("i64 is not compared so by kernels")),
            };
            Ok(p.clone().cmp(strict, q.clone()).binary(Binary::Or, same))
        }
        (other, _, _) => Err(Declined::new(format!("{other} is not compared by kernels"))),
    }
}

fn cast(arg: &Arg, to: DType) -> Result<Expr, Declined> {
    use DType::{BF16, Bool, F32, I8, I32, I64, U8};
    let (x, from) = (arg.expr.clone(), arg.dtype);
    if let Some(high) = &arg.high {
        return Ok(match to {
            // The lower half as a signed number, which makes the upper one greater by one where it is negative.
            F32 => {
                let carry = x.clone().cmp(Cmp::Lt, Expr::Int(0)).to_float();
                let upper = high.clone().to_float().minus(carry);
                upper.times(Expr::Const(4_294_967_296.0)).plus(x.to_float())
            }
            Bool => x.binary(Binary::Or, high.clone()).mask(),
            I32 => x,
            U8 | I8 => narrow(x, to),
            _ => return Err(Declined::new(format!("kernels do not convert {from} to {to}"))),
        });
    }
    Ok(match (from, to) {
        _ if from == to => x,
        (F32, Bool) => x.cmp(Cmp::Ne, Expr::Const(0.0)),
        (F32, BF16) => x.func(Func::Bf16),
        (BF16, F32) => x,
        (F32, I32) => x.to_int(),
        (F32, U8 | I8) => narrow(x.to_int(), to),
        (Bool, F32) => x.select(Expr::Const(1.0), Expr::Const(0.0)),
        (Bool, I32 | I64 | U8 | I8) => x.bit(),
        (I32 | U8 | I8, F32) => x.to_float(),
        (I32 | U8 | I8, Bool) => x.mask(),
        (U8 | I8, I32 | I64) | (I32, I64) => x,
        (I32 | U8 | I8, U8 | I8) => narrow(x, to),
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
        Op::Selu(op) => x.selu(op.alpha.0, op.gamma.0),
        Op::Celu(op) => x.celu(op.alpha.0),
        Op::Gelu(op) if op.approximate => x.gelu_tanh(),
        Op::Gelu(_) => x.gelu(),
        Op::Swish(op) if op.alpha.0 == 1.0 => x.clone().times(x.func(Func::Sigmoid)),
        Op::Swish(op) => x.clone().times(x.times(Expr::Const(op.alpha.0)).func(Func::Sigmoid)),
        Op::ThresholdedRelu(op) => x.clone().cmp(Cmp::Le, Expr::Const(op.alpha.0)).select(Expr::Const(0.0), x),
        Op::Tan(_) => x.clone().func(Func::Sin).over(x.func(Func::Cos)),
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
        Op::PRelu(_) => x.clone().cmp(Cmp::Lt, Expr::Const(0.0)).select(x.clone().times(second()?), x),
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

/// Lowers one elementwise op.
pub(super) fn op(cx: &mut Cx, op: &Op, site: &Site) -> Lowered {
    site.without_epilogue()?;
    let result = site.result()?.clone();
    let (mut views, mut args) = (Vec::new(), Vec::new());
    for (slot, value) in site.operands.iter().enumerate() {
        let Some(value) = *value else {
            args.push(None);
            continue;
        };
        if let Some(scalar) = cx.constant(value).and_then(Arg::scalar) {
            args.push(Some(scalar));
            continue;
        }
        let view = quantize::along_axis(op, slot, cx.view(value)?, result.shape.len());
        let wide = view.broadcast(&result.shape);
        args.push(Some(Arg::operand(views.len(), view.dtype)));
        views.extend(halves(wide.ok_or_else(|| Declined::new("an operand does not broadcast to the result"))?));
    }
    let expr = expr_of(op, &args, result.dtype)?;
    elementwise(cx, &Arg::new(expr, result.dtype).stored(), &views, &result, &site.loc)
}

/// `scale * (x - mean) / sqrt(var + epsilon) + bias` with a value of each for a channel (axis 1).
pub(super) fn batch_norm(cx: &mut Cx, op: &BatchNorm, site: &Site) -> Lowered {
    let x = cx.view(site.operand(0)?)?;
    let result = site.result()?.clone();
    let mut views = vec![x];
    for slot in 1..5 {
        let vector = cx.view(site.operand(slot)?)?;
        let mut strides = vec![0; result.shape.len()];
        match (&vector.shape[..], result.shape.get(1)) {
            ([n], Some(channels)) if n == channels => strides[1] = vector.strides[0],
            _ => return Err(Declined::new("the statistics are not one for each channel")),
        }
        views.push(TensorView { strides, shape: result.shape.clone(), ..vector });
    }
    if views.iter().chain([&result]).any(|view| view.dtype != DType::F32) {
        return Err(Declined::new("kernels normalise f32 only"));
    }
    let [x, scale, bias, mean, var] = [0, 1, 2, 3, 4].map(Expr::Operand);
    let factor = scale.over(var.plus(Expr::Const(op.epsilon.0)).sqrt());
    let value = x.minus(mean).times(factor).plus(bias);
    views.extend(site.epilogue.operands.iter().cloned());
    let expr = site.epilogue.expr.with_operands(&|i| if i == 0 { value.clone() } else { Expr::Operand(4 + i) });
    elementwise(cx, &expr, &views, &result, &site.loc)
}

/// `dst = expr(operands)`, element by element; the operands have the shape of the result.
pub(super) fn elementwise(
    cx: &mut Cx,
    expr: &Expr,
    operands: &[TensorView],
    dst: &TensorView,
    loc: &[String],
) -> Lowered {
    let views = operands.iter().map(kernel_view).collect::<Result<Vec<_>, _>>()?;
    let results = vec![(kernel_view(dst)?, expr.clone())];
    let problem = Elementwise { shape: dst.shape.clone(), operands: views, results };
    let kernel = kernels::elementwise(&problem, cx.target.isa);
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
    cx.kernel(kernel, args, in_place, StepInfo { loc: loc.to_vec(), flops, bytes, ..StepInfo::default() });
    Ok(())
}
