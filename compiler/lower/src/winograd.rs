//! Convolutions by Winograd's minimal filtering, where the machine says that it pays.

use std::fmt;

use optc_kernel::expr::Expr;
use optc_kernel::program::Filtered;
use optc_kernels::contract::ConvNest;
use optc_kernels::winograd::{self, F2, F4, Winograd};
use optc_tensor::{DType, Tensor};
use optc_types::steps::{BufRef, StepInfo};
use optc_types::{Form, Numbers, Product};

use super::Lowered;
use super::contract::{ContractCall, contraction};
use super::cx::Cx;
use super::tune::Open;

/// Images, rows and columns of the result of a convolution that [`Winograd`] computes.
pub(super) fn three_by_three(c: &ConvNest) -> Option<[usize; 3]> {
    Winograd::of(c, &F2).map(|_| [c.batch, c.axes[1].out, c.axes[2].out])
}

/// Ways to compute a 3x3 convolution.
const WAYS: [Way; 3] = [Way(None), Way(Some(&F2)), Way(Some(&F4))];

/// A way to compute a 3x3 convolution: filtered in tiles of a form, or as the sum over taps.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Way(pub Option<&'static winograd::WinogradMatrices>);

impl Way {
    /// As a machine knows it.
    fn form(self) -> Form {
        self.0.map_or(Form::Dense, |form| Form::Filtered { outputs: form.outputs })
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("direct"),
            Some(form) => write!(f, "F({0}x{0}, 3x3)", form.outputs),
        }
    }
}

/// What costs see of a 3x3 convolution.
fn product_of(c: &ConvNest, three_by_three: [usize; 3]) -> Product {
    let pixels = three_by_three.iter().product();
    let dense = Product::new(pixels, 9 * c.channels, c.filters, Numbers::Floats);
    Product { inputs: c.src.bytes / 4, three_by_three: Some(three_by_three), ..dense }
}

/// The items that the form of a convolution in a program for a batch is chosen for: all items have one form, whatever
/// their number is, so that they have the same bits.
const ITEMS: usize = 8;

/// The way to compute a convolution with constant weights, where there are several.
pub(super) fn way_of(cx: &mut Cx, c: &ConvNest) -> Option<(Way, Open)> {
    let pixels @ [images, rows, columns] = three_by_three(c)?;
    let product = product_of(c, if cx.batch { [images * ITEMS, rows, columns] } else { pixels });
    let (form, _) = cx.machine.densest(&product);
    let (mut ways, others): (Vec<Way>, Vec<Way>) = WAYS.into_iter().partition(|way| way.form() == form);
    ways.extend(others);
    let key = format!("3x3 convolution {images}x{rows}x{columns}, {} to {} channels", c.channels, c.filters);
    let (way, point) = cx.pick(key, ways);
    let ns = |form: Form| cx.machine.time(&product, form).0;
    let bound = way.0.map(|form| (form.outputs, form.error));
    cx.notes.filtered = bound.map(|(outputs, error)| Filtered {
        outputs,
        error,
        filtered_ns: ns(way.form()),
        direct_ns: ns(Form::Dense),
    });
    Some((way, point))
}

/// Emits the three kernels of a convolution with constant weights.
pub(super) fn filtered(
    cx: &mut Cx,
    w: &Winograd,
    weights: &Tensor,
    x: BufRef,
    places: &[BufRef],
    dst: BufRef,
    loc: &[String],
) -> Lowered {
    let threads = cx.threads;
    let [v_bytes, m_bytes] = w.bytes();
    let [v, m] = [v_bytes, m_bytes].map(|bytes| cx.temp(bytes));
    let ConvNest { src, dst: to, operands, .. } = w.conv();
    let info = |bytes: usize| StepInfo { loc: loc.to_vec(), bytes: bytes as f64, ..StepInfo::default() };
    let input = w.input(cx.target.isa);
    let table = input.table.unwrap_or_default();
    let table = Tensor::from_bytes(DType::U8, &[table.len()], &table)?;
    let table = cx.add_constant("offsets of pixels", table);
    cx.kernel(input.kernel, vec![x, table, v], None, info(src.bytes + v_bytes));
    let contract = w.product();
    let (schedule, point) = cx.schedule(&contract);
    let lanes = cx.target.isa.lanes();
    let recipe = format!("operand 1, filters transformed for {}, in strips of {lanes}", Way(Some(w.form())));
    let (len, filters) = (w.packed_len(lanes), weights.as_slice::<f32>()?);
    let b = cx.packed_floats(&[weights], recipe, len, |packed| w.pack_weights(filters, lanes, threads, packed))?;
    let (none, epilogue) = (Vec::new(), Expr::Operand(0));
    contraction(cx, ContractCall { contract, a: v, b, dst: m, operands: none, epilogue, schedule, loc: loc.to_vec() })?;
    cx.close(point);
    cx.notes.product = three_by_three(w.conv()).map(|pixels| product_of(w.conv(), pixels));
    let read: usize = operands.iter().map(|o| o.bytes).sum();
    let mut args = vec![m];
    args.extend(places);
    args.push(dst);
    cx.kernel(w.output(cx.target.isa), args, None, info(m_bytes + read + to.bytes));
    Ok(())
}
