//! Elementwise ops and copies.

use optc_ir::Op;
use optc_runtime::plan::Info;

use super::{Declined, Lowered, Lowering, View};
use crate::expr::{Expr, Func};
use crate::nest::{Access, Ix, Kernel, Stmt, call, for_loop};
use crate::tile::{Binary, Count, Mem, TileBuilder, Unary};

/// Whether [`expr_of`] knows the op.
pub(super) fn is_elementwise(op: &Op) -> bool {
    let args = [Some(Expr::Operand(0)), Some(Expr::Operand(1)), Some(Expr::Operand(2))];
    expr_of(op, &args).is_ok()
}

/// An elementwise op as an expression on its operands.
///
/// # Errors
/// The op has no expression.
pub(super) fn expr_of(op: &Op, args: &[Option<Expr>]) -> Result<Expr, Declined> {
    let arg = |i: usize| args.get(i).cloned().flatten().ok_or_else(|| Declined::new("an operand is absent"));
    let binary = |b: Binary| Ok(arg(0)?.binary(b, arg(1)?));
    let func = |f: Func| Ok(arg(0)?.func(f));
    match op {
        Op::Add(_) => binary(Binary::Add),
        Op::Sub(_) => binary(Binary::Sub),
        Op::Mul(_) => binary(Binary::Mul),
        Op::Div(_) => binary(Binary::Div),
        Op::Relu(_) => Ok(arg(0)?.relu()),
        Op::Sigmoid(_) => func(Func::Sigmoid),
        Op::Tanh(_) => func(Func::Tanh),
        Op::Exp(_) => func(Func::Exp),
        Op::Erf(_) => func(Func::Erf),
        Op::Sqrt(_) => func(Func::Lane(Unary::Sqrt)),
        Op::Abs(_) => func(Func::Lane(Unary::Abs)),
        Op::Neg(_) => func(Func::Lane(Unary::Neg)),
        _ => Err(Declined::new(format!("`{}` has no elementwise kernel", op.name()))),
    }
}

/// `dst = expr(operands)`, element by element.
pub(super) fn elementwise(_: &mut Lowering, _: &Expr, _: &[View], _: &View, _: &[String]) -> Lowered {
    Err(Declined::new("there is no elementwise kernel"))
}

/// Copies a view into a dense one.
pub(super) fn copy(lw: &mut Lowering, src: &View, dst: &View, loc: &[String]) -> Lowered {
    let (mem, parts) = match src.width() {
        1 => (Mem::U8, 1),
        4 => (Mem::I32, 1),
        8 => (Mem::I32, 2),
        w => return Err(Declined::new(format!("elements of {w} bytes are not copied by kernels"))),
    };
    let mut dims: Vec<(usize, i64, i64)> = (0..src.shape.len())
        .map(|d| (src.shape[d], src.byte_strides()[d], dst.byte_strides()[d]))
        .filter(|d| d.0 != 1)
        .collect();
    if parts == 2 {
        dims.push((2, 4, 4));
    }
    dims.sort_by_key(|d| std::cmp::Reverse(d.2));
    let (n, from, to) = dims.pop().unwrap_or((1, mem.bytes(), mem.bytes()));
    let empty = src.is_empty();
    let mut kernel = Kernel::new("copy", u64::from(!empty));
    let (s, d) =
        (kernel.buf("src", src.span_bytes(), Access::Read), kernel.buf("dst", dst.span_bytes(), Access::Write));
    let lanes = lw.target.isa.lanes();
    let mut b = TileBuilder::new("copy", lanes);
    let (ps, pd) = (b.ptr(), b.ptr());
    let (full, tail) = (n / lanes, n % lanes);
    let move_n = |b: &mut TileBuilder, ps, pd, n: usize| {
        let x = b.load_strided(mem, ps, 0, n, from);
        b.store_strided(mem, pd, 0, n, to, x);
    };
    if full > 0 {
        b.for_each(
            Count::Static(full as u32),
            &[(ps, from * lanes as i64), (pd, to * lanes as i64)],
            &[],
            |b, p, _| {
                move_n(b, p[0], p[1], lanes);
                vec![]
            },
        );
    }
    if tail > 0 {
        let (ps, pd) = (b.offset(ps, from * (full * lanes) as i64), b.offset(pd, to * (full * lanes) as i64));
        move_n(&mut b, ps, pd, tail);
    }
    let tile = kernel.tile(b.finish());
    let vars: Vec<_> = dims.iter().map(|_| kernel.var()).collect();
    let (mut si, mut di) = (Ix::from(0), Ix::from(0));
    for (var, dim) in vars.iter().zip(&dims) {
        si = si + Ix::var(*var) * dim.1;
        di = di + Ix::var(*var) * dim.2;
    }
    let mut body: Vec<Stmt> = vec![call(tile, [s.at(si), d.at(di)])];
    for (var, dim) in vars.iter().zip(&dims).rev() {
        body = vec![for_loop(*var, 0, dim.0, body)];
    }
    kernel.body = body;
    let bytes = 2.0 * (src.len() * src.width()) as f64;
    let info = Info { loc: loc.to_vec(), bytes, ..Info::default() };
    lw.kernel(kernel, vec![src.at, dst.at], None, info);
    Ok(())
}
