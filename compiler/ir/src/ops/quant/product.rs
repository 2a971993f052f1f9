//! Products of quantized integers in `i32`.

use std::num::Wrapping;

use optc_tensor::{DType, Tensor, broadcast_shapes, element_count};

use crate::ops::eval::{bounded, result_shapes};
use crate::ops::math::{MatMul, broadcast_indices, product};
use crate::ops::nn::{Conv, bias_planes};
use crate::{Anchor, Args, Facts, InferCx, ItemCx, OpError, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// `(a − a_zero) · (b − b_zero)` as NumPy's `matmul`, summed in `i32`, which wraps. A zero point is a scalar, a
    /// vector (one for each row of `a`, or column of `b`), or broadcasts to its operand.
    ///
    /// - (C1) The inner extents are equal.
    /// - (C2) `a` and `b` are 8-bit integers, and each zero point has the dtype of its operand.
    /// - (C3) A zero point fits its operand.
    "quant.matmul" = QuantMatMul(a, b, a_zero: optional, b_zero: optional) {}
}

op! {
    /// The convolution of `x − x_zero` with `w − w_zero`, summed in `i32`, which wraps; see `nn.conv`. Padding is
    /// `x_zero`.
    ///
    /// - (C1) `x` and `w` have one rank of 3 or more.
    /// - (C2) `C = groups · w[1]`, and `groups` divides `M`.
    /// - (C3) The window fits the padded extents.
    /// - (C4) `x` and `w` are 8-bit integers, each zero point has the dtype of its operand, `bias` is `i32`.
    /// - (C5) `x_zero` has one element, `w_zero` one or one for each row of `w`.
    "quant.conv" = QuantConv(x, w, x_zero: optional, w_zero: optional, bias: optional) {
        /// Steps of the window's elements, one an axis; empty for 1.
        dilations: Vec<i64> = vec![],
        /// Groups of channels that are convolved apart.
        groups: i64 = 1,
        /// Zero points around `x`: begins, then ends; empty for none.
        pads: Vec<i64> = vec![],
        /// Steps of the window, one an axis; empty for 1.
        strides: Vec<i64> = vec![],
    }
}

/// Checks that operand `slot` holds 8-bit integers and that its zero point, at `zero`, has the same dtype.
fn check_dtype(cx: &InferCx, slot: usize, zero: usize) -> Result<(), OpError> {
    let dtype = cx.tensor(slot)?.dtype;
    ensure!(matches!(dtype, DType::I8 | DType::U8), "C2", "operand {slot} is {dtype}, expected i8 or u8");
    if cx.has(zero) {
        let found = cx.tensor(zero)?.dtype;
        ensure!(found == dtype, "C2", "operand {zero} is {found}, expected {dtype}");
    }
    Ok(())
}

/// Whether a zero point of shape `zero` broadcasts to an operand of shape `shape`.
fn shares(zero: &[usize], shape: &[usize]) -> bool {
    broadcast_shapes(zero, shape).is_some_and(|s| s == shape)
}

/// The shape that a zero point of shape `zero` has next to operand `slot` of a product, which has this rank. One of `a`
/// is a column; but where `a` is one row, a vector of zero points has no meaning but one for each element.
fn beside(slot: usize, zero: &[usize], rank: usize) -> Vec<usize> {
    match zero {
        &[n] if slot == 0 && rank > 1 && n > 1 => vec![n, 1],
        zero => zero.to_vec(),
    }
}

/// The elements of `t` without their zero points, which broadcast.
fn centred(t: &Tensor, zero: Option<&Tensor>, zero_shape: &[usize]) -> Result<Vec<Wrapping<i32>>, OpError> {
    let v = t.to_i64_vec();
    let Some(zero) = zero else { return Ok(v.into_iter().map(|v| Wrapping(v as i32)).collect()) };
    ensure!(
        shares(zero_shape, t.shape()),
        "C3",
        "a zero point of shape {:?} does not fit {:?}",
        zero.shape(),
        t.shape()
    );
    let zeros = zero.to_i64_vec();
    let places = broadcast_indices(zero_shape, t.shape());
    Ok(v.into_iter().zip(places).map(|(v, i)| Wrapping((v - zeros[i]) as i32)).collect())
}

/// The `i32` tensor of these values.
fn integers(shape: &[usize], v: &[Wrapping<i32>]) -> Result<Vec<Val>, OpError> {
    let v: Vec<i32> = v.iter().map(|v| v.0).collect();
    Ok(vec![Tensor::from_slice(shape, &v)?.into()])
}

impl Semantics for QuantMatMul {
    const FACTS: Facts<QuantMatMul> = Facts::anchor(Anchor::Integers);

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        for slot in [0, 1] {
            check_dtype(cx, slot, slot + 2)?;
            let zero = if cx.has(slot + 2) { cx.tensor(slot + 2)?.static_shape() } else { None };
            if let (Some(shape), Some(zero)) = (cx.tensor(slot)?.static_shape(), zero) {
                let fits = shares(&beside(slot, &zero, shape.len()), &shape);
                ensure!(fits, "C3", "a zero point of shape {zero:?} does not fit {shape:?}");
            }
        }
        // The shapes are those of a product of one dtype.
        let types =
            [0, 1].map(|slot| cx.tensor(slot).map(|t| Type::Tensor(TensorType::of(DType::I32, t.shape.clone()))));
        let [a, b] = types;
        let (a, b) = (a?, b?);
        let product = InferCx { types: &[Some(&a), Some(&b)], consts: &[], regions: &[] };
        MatMul::default().infer(&product).map_err(|e| e.numbered("C1"))
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        let rank = |slot: usize| cx.rank(slot).unwrap_or(0);
        cx.only(&[0]) && rank(0) >= 2 && rank(1) <= 2 && rank(2) == 0
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (a, b) = (args.tensor(0)?, args.tensor(1)?);
        let shape = &result_shapes(self, args)?[0];
        let factor = |slot: usize, t: &Tensor| {
            let zero = args.optional(slot + 2);
            let shape = zero.map(|z| beside(slot, z.shape(), t.rank())).unwrap_or_default();
            centred(t, zero, &shape)
        };
        let (av, bv) = (factor(0, a)?, factor(1, b)?);
        let (x, y) = (a.shape(), b.shape());
        let (m, k) = (if x.len() > 1 { x[x.len() - 2] } else { 1 }, x[x.len() - 1]);
        let n = if y.len() > 1 { y[y.len() - 1] } else { 1 };
        let (la, lb) = (&x[..x.len().saturating_sub(2)], &y[..y.len().saturating_sub(2)]);
        let batch = broadcast_shapes(la, lb).unwrap_or_default();
        bounded(&batch)?;
        let pairs = broadcast_indices(la, &batch).into_iter().zip(broadcast_indices(lb, &batch));
        let out: Vec<_> = pairs.flat_map(|(i, j)| product(&av[i * m * k..], &bv[j * k * n..], m, k, n)).collect();
        integers(shape, &out)
    }
}

impl QuantConv {
    /// The convolution of the differences.
    fn conv(&self) -> Conv {
        let (dilations, pads, strides) = (self.dilations.clone(), self.pads.clone(), self.strides.clone());
        Conv { dilations, groups: self.groups, pads, strides, ..Conv::default() }
    }
}

impl Semantics for QuantConv {
    const FACTS: Facts<QuantConv> = Facts::anchor(Anchor::Integers);

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        for slot in [0, 1] {
            check_dtype(cx, slot, slot + 2).map_err(|e| e.numbered("C4"))?;
        }
        if cx.has(4) {
            ensure!(cx.tensor(4)?.dtype == DType::I32, "C4", "`bias` is {}, expected i32", cx.tensor(4)?);
        }
        let elements = |slot: usize| cx.tensor(slot).ok()?.static_shape().and_then(|s| element_count(&s));
        let rows = cx.tensor(1)?.shape.as_ref().and_then(|s| s.first()?.known());
        let (x_zero, w_zero) = (elements(2).unwrap_or(1), elements(3).unwrap_or(1));
        ensure!(x_zero == 1, "C5", "`x_zero` has {x_zero} elements, expected one");
        let fits = w_zero == 1 || rows.is_none_or(|rows| w_zero == rows);
        ensure!(fits, "C5", "`w_zero` has {w_zero} elements, expected one, or one for each row of {}", cx.tensor(1)?);
        Ok(vec![TensorType::of(DType::I32, self.conv().dims(cx.tensor(0)?, cx.tensor(1)?)?).into()])
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        cx.only(&[0])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, w) = (args.tensor(0)?, args.tensor(1)?);
        let shape = &result_shapes(self, args)?[0];
        let (x_zero, w_zero) = (args.optional(2), args.optional(3));
        ensure!(x_zero.is_none_or(|t| t.len() == 1), "C5", "`x_zero` has more than one element");
        let mut rows = vec![1; w.rank()];
        rows[0] = w_zero.map_or(1, Tensor::len);
        let wv = centred(w, w_zero, &rows).map_err(|e| e.numbered("C5"))?;
        let xv = centred(x, x_zero, &[])?;
        let bias = args.optional(4).map(|t| t.to_i64_vec().into_iter().map(|v| Wrapping(v as i32)).collect());
        let start = bias_planes(bias, Wrapping(0), shape)?;
        integers(shape, &self.conv().correlate((&xv, x.shape()), (&wv, w.shape()), shape, start))
    }
}
