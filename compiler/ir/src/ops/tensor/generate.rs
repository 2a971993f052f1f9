//! Tensors made from a few numbers, and the mask of triangles.

use std::ops;

use optc_tensor::{DType, Tensor, TensorMut, strides_of};

use super::Canvas;
use crate::ops::eval::eval_new;
use crate::ops::message::{shown, type_of};
use crate::ops::native::{NativeElement, by_native, by_width};
use crate::ops::number::{Number, countable};
use crate::ops::{axis_of, bad_dtype};
use crate::{Args, Dim, Facts, InferCx, OpError, Operands, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// `start`, `start + delta`, … up to but without `limit`.
    ///
    /// - (C1) The three are scalars of one numeric dtype, and `delta` is not 0.
    "tensor.range" = Range(start, limit, delta) {}
}

/// The number of elements of a range.
fn range_len(start: &Tensor, limit: &Tensor, delta: &Tensor) -> Result<usize, OpError> {
    let one = [start, limit, delta].iter().all(|t| t.len() == 1 && t.dtype() == start.dtype());
    let [a, b, c] = [start, limit, delta].map(type_of);
    ensure!(one, "C1", "the operands are {a}, {b} and {c}, expected scalars of one dtype");
    let len = if start.dtype().is_float() {
        let (a, b, d) = (start.to_f64_vec()[0], limit.to_f64_vec()[0], delta.to_f64_vec()[0]);
        let n = ((b - a) / d).ceil();
        ensure!(d != 0.0 && n.is_finite(), "C1", "a range from {a} to {b} by {d}");
        n.max(0.0) as usize
    } else if start.dtype().is_int() {
        let wide = |t: &Tensor| match t.dtype() {
            DType::U64 => i128::from(t.to_i64_vec()[0] as u64),
            _ => i128::from(t.to_i64_vec()[0]),
        };
        let (a, b, d) = (wide(start), wide(limit), wide(delta));
        ensure!(d != 0, "C1", "a range from {a} to {b} by 0");
        let n = ((b - a) / d + i128::from((b - a) % d != 0 && ((b - a) < 0) == (d < 0))).max(0);
        usize::try_from(n).unwrap_or(usize::MAX)
    } else {
        return bad_dtype("tensor.range", start.dtype());
    };
    Ok(countable(start.dtype(), &[len])?)
}

fn ramp<N: Number>(start: &Tensor, delta: &Tensor) -> Result<impl Fn(usize) -> N + use<N>, OpError> {
    let (Some(&first), Some(&step)) = (N::all(start).first(), N::all(delta).first()) else {
        return Err(OpError::Operand { slot: 0 });
    };
    Ok(move |i: usize| first.plus(N::from_i128(i as i128).unwrap_or(N::ZERO).times(step)))
}

/// The elements of a range of less than a byte.
fn narrow_ramp(start: &Tensor, delta: &Tensor, len: usize) -> Result<Tensor, OpError> {
    let at = ramp::<i64>(start, delta)?;
    Ok(Tensor::from_i64(start.dtype(), &[len], &(0..len).map(at).collect::<Vec<_>>())?)
}

/// The elements of a range of numbers that fill bytes.
fn native_ramp<T: NativeElement>(start: &Tensor, delta: &Tensor, len: usize) -> Result<Tensor, OpError> {
    let at = ramp::<T::Wide>(start, delta)?;
    let mut y = Tensor::zeros(T::DTYPE, &[len])?;
    y.as_mut_slice::<T>()?.iter_mut().enumerate().for_each(|(i, y)| *y = T::narrow(at(i)));
    Ok(y)
}

impl Semantics for Range {
    const FACTS: Facts<Range> = Facts::host("it computes a constant unless shapes depend on data").with_strings();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let dtype = cx.tensor(0)?.dtype;
        let len = match (cx.constant(0), cx.constant(1), cx.constant(2)) {
            (Some(a), Some(b), Some(d)) => Dim::Known(range_len(a, b, d)?),
            _ => Dim::Unknown,
        };
        Ok(vec![TensorType::new(dtype, vec![len]).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (start, limit, delta) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
        let len = range_len(start, limit, delta)?;
        let y =
            by_native!(start.dtype(), T => native_ramp::<T>(start, delta, len), else narrow_ramp(start, delta, len));
        Ok(vec![y?.into()])
    }
}

op! {
    /// A matrix of `x`'s shape with ones on the `k`-th diagonal above the main one, and zeros elsewhere.
    ///
    /// - (C1) `x` is a matrix.
    "tensor.eye" = Eye(x) {
        /// The result's dtype.
        dtype: DType,
        /// Which diagonal; negative ones lie below.
        k: i64 = 0,
    }
}

impl Semantics for Eye {
    const FACTS: Facts<Eye> = Facts::host("it computes a constant unless shapes depend on data").with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        ensure!(x.rank().is_none_or(|r| r == 2), "C1", "`x` is {x}, expected a matrix");
        Ok(vec![TensorType::of(self.dtype, x.shape.clone().or(Some(vec![Dim::Unknown; 2]))).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let &[rows, cols] = args.tensor(0)?.shape() else {
            return Err(OpError::Constraint { constraint: "C1", reason: "`x` is not a matrix".to_owned() });
        };
        if self.dtype == DType::Str {
            return bad_dtype("tensor.eye", self.dtype);
        }
        if let Some(results) = eval_new(self, args, &[(self.dtype, &[rows, cols])])? {
            return Ok(results);
        }
        // Elements of less than a byte.
        let one = Tensor::from_i64(self.dtype, &[], &[1])?;
        let mut y = Canvas::zeroed(self.dtype, &[rows, cols])?;
        self.places(rows, cols).for_each(|at| y.put(at, &one, 0, 1));
        Ok(vec![y.finish()?.into()])
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let &[rows, cols] = operands.tensor(0)?.shape() else { return Ok(false) };
        let y = &mut results[0];
        if self.dtype.bits() < 8 {
            return Ok(false);
        }
        y.bytes_mut().fill(0);
        if self.dtype == DType::Bool {
            let y = y.as_mut_slice::<u8>()?;
            self.places(rows, cols).for_each(|at| y[at] = 1);
            return Ok(true);
        }
        by_native!(self.dtype, T => {
            let y = y.as_mut_slice::<T>()?;
            self.places(rows, cols).for_each(|at| y[at] = T::of_int(1));
            Ok(true)
        }, else Ok(false))
    }
}

impl Eye {
    /// Where the ones are.
    fn places(&self, rows: usize, cols: usize) -> impl Iterator<Item = usize> + use<> {
        let k = self.k;
        (0..rows).filter_map(move |row| {
            let col = usize::try_from((row as i64).saturating_add(k)).ok().filter(|&c| c < cols);
            col.map(|col| row * cols + col)
        })
    }
}

op! {
    /// `x` with zeros below (or above) the `k`-th diagonal of each matrix in its last two dims; without `k` the main
    /// one.
    ///
    /// - (C1) `x` has at least two dims, and `k` one element.
    "tensor.triangle" = Triangle(x, k: optional) {
        /// Whether the upper triangle stays, else the lower one.
        upper: bool = true,
    }
}

impl Semantics for Triangle {
    const FACTS: Facts<Triangle> = Facts::host("there is no kernel that moves elements so").with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        ensure!(x.rank().is_none_or(|r| r >= 2), "C1", "`x` is {x}, expected two dims or more");
        Ok(vec![x.clone().into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        ensure!(x.rank() >= 2, "C1", "`x` has shape {:?}, expected two dims or more", x.shape());
        let k = args.optional(1).map_or_else(|| vec![0], |t| t.to_i64_vec());
        ensure!(k.len() == 1, "C1", "`k` has {} elements, expected 1", k.len());
        if let Some(results) = eval_new(self, args, &[(x.dtype(), x.shape())])? {
            return Ok(results);
        }
        // Strings, and elements of less than a byte.
        let mut y = Canvas::zeroed(x.dtype(), x.shape())?;
        self.kept(x.shape(), k[0]).for_each(|kept| y.put(kept.start, x, kept.start, kept.len()));
        Ok(vec![y.finish()?.into()])
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let x = operands.tensor(0)?;
        let k = operands.optional(1).map_or_else(|| vec![0], |t| t.to_i64_vec());
        ensure!(k.len() == 1, "C1", "`k` has {} elements, expected 1", k.len());
        by_width!(x.dtype(), T => {
            let (x, y, shape) = (x.as_bits::<T>()?, results[0].as_mut_bits::<T>()?, x.shape());
            let mut done = 0;
            for kept in self.kept(shape, k[0]) {
                y[done..kept.start].fill(0);
                y[kept.clone()].copy_from_slice(&x[kept.clone()]);
                done = kept.end;
            }
            y[done..].fill(0);
            Ok(true)
        }, else Ok(false))
    }
}

impl Triangle {
    /// The elements of each row that stay, for the `k`-th diagonal of matrices in a tensor of this shape, in order.
    fn kept(&self, shape: &[usize], k: i64) -> impl Iterator<Item = ops::Range<usize>> + use<> {
        let (rows, cols, upper) = (shape[shape.len() - 2], shape[shape.len() - 1], self.upper);
        let all = if cols == 0 { 0 } else { shape[..shape.len() - 1].iter().product() };
        (0..all).map(move |row| {
            // The diagonal's column in this row: it stays in either triangle.
            let at = ((row % rows) as i64).saturating_add(k);
            let clamp = |c: i64| c.clamp(0, cols as i64) as usize;
            let kept = if upper { clamp(at)..cols } else { 0..clamp(at.saturating_add(1)) };
            row * cols + kept.start..row * cols + kept.end
        })
    }
}

op! {
    /// For each index a vector of `depth` elements along a new axis: `values[1]` at the index (negative ones from the
    /// end), else `values[0]`; an index out of range has none.
    ///
    /// - (C1) `depth` is a scalar that is not negative, and `values` has two elements.
    /// - (C2) `axis` lies within the result's rank.
    "tensor.one_hot" = OneHot(indices, depth, values) {
        /// Where the new axis stands in the result; negative from the end.
        axis: i64 = -1,
    }
}

fn depth_of(depth: &Tensor) -> Result<usize, OpError> {
    let n = depth.to_i64_vec();
    ensure!(n.len() == 1 && n[0] >= 0, "C1", "`depth` is {}, expected one number that is not negative", shown(depth));
    Ok(n[0] as usize)
}

/// Where the hot elements are in a result with an axis of extent `depth`, whose elements are `stride` apart.
fn hot_places(indices: Vec<i64>, depth: usize, stride: usize) -> impl Iterator<Item = usize> {
    indices.into_iter().enumerate().filter_map(move |(i, index)| {
        let hot = if index < 0 { index.saturating_add(depth as i64) } else { index };
        let inside = (0..depth as i64).contains(&hot);
        inside.then(|| (i / stride * depth + hot as usize) * stride + i % stride)
    })
}

impl OneHot {
    /// Where the new axis stands in the result for indices of this rank.
    fn place(&self, rank: usize) -> Result<usize, OpError> {
        axis_of(self.axis, rank + 1).map_err(|e| e.numbered("C2"))
    }
}

impl Semantics for OneHot {
    const FACTS: Facts<OneHot> = Facts::host("there is no kernel that moves elements so").with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let (indices, values) = (cx.tensor(0)?, cx.tensor(2)?);
        let Some(mut dims) = indices.shape.clone() else { return Ok(vec![TensorType::unranked(values.dtype).into()]) };
        let axis = self.place(dims.len())?;
        let depth = cx.constant(1).map(depth_of).transpose()?;
        dims.insert(axis, depth.map_or(Dim::Unknown, Dim::Known));
        Ok(vec![TensorType::new(values.dtype, dims).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (indices, values) = (args.tensor(0)?, args.tensor(2)?);
        let depth = depth_of(args.tensor(1)?)?;
        ensure!(values.len() == 2, "C1", "there are {} values, expected 2", values.len());
        let axis = self.place(indices.rank())?;
        let mut shape = indices.shape().to_vec();
        shape.insert(axis, depth);
        if let Some(results) = eval_new(self, args, &[(values.dtype(), &shape)])? {
            return Ok(results);
        }
        // Strings, and elements of less than a byte.
        let mut y = Canvas::filled(values, &shape)?;
        let stride = strides_of(&shape)[axis];
        hot_places(indices.to_i64_vec(), depth, stride).for_each(|at| y.put(at, values, 1, 1));
        Ok(vec![y.finish()?.into()])
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let (indices, values, y) = (operands.tensor(0)?, operands.tensor(2)?, &mut results[0]);
        ensure!(values.len() == 2, "C1", "there are {} values, expected 2", values.len());
        let axis = self.place(indices.rank())?;
        let (depth, stride) = (y.shape()[axis], strides_of(y.shape())[axis]);
        by_width!(values.dtype(), T => {
            let (values, y) = (values.as_bits::<T>()?, y.as_mut_bits::<T>()?);
            y.fill(values[0]);
            hot_places(indices.to_i64_vec(), depth, stride).for_each(|at| y[at] = values[1]);
            Ok(true)
        }, else Ok(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eval(op: impl Into<crate::Op>, operands: Vec<Tensor>) -> Result<Tensor, OpError> {
        let values: Vec<Option<Val>> = operands.into_iter().map(|t| Some(t.into())).collect();
        Ok(op.into().eval(&Args::plain(&values))?[0].as_tensor().unwrap().clone())
    }

    fn range(a: i64, b: i64, d: i64) -> Result<Vec<i64>, OpError> {
        Ok(eval(Range {}, [a, b, d].map(Tensor::scalar).to_vec())?.to_i64_vec())
    }

    #[test]
    fn ranges_end_before_their_limit() {
        assert_eq!(range(0, 5, 2).unwrap(), [0, 2, 4]);
        assert_eq!(range(5, 0, -2).unwrap(), [5, 3, 1]);
        assert_eq!(range(0, -5, 1).unwrap(), []);
        assert_eq!(range(i64::MAX - 1, i64::MAX, 1).unwrap(), [i64::MAX - 1]);
        assert!(range(0, 1, 0).is_err());
        assert!(range(i64::MIN, i64::MAX, 1).is_err());
        let f = |a: f32, b: f32, d: f32| eval(Range {}, [a, b, d].map(Tensor::scalar).to_vec());
        assert_eq!(f(0.0, 1.0, 0.25).unwrap().len(), 4);
        assert!(f(0.0, f32::INFINITY, 1.0).is_err() && f(0.0, 1.0, 0.0).is_err() && f(0.0, f32::NAN, 1.0).is_err());
    }

    #[test]
    fn triangles_with_diagonals_far_outside() {
        let x = || Tensor::from_slice(&[2, 2], &[1i64, 2, 3, 4]).unwrap();
        let tri = |upper, k: i64| eval(Triangle { upper }, vec![x(), Tensor::scalar(k)]).unwrap().to_i64_vec();
        assert_eq!(tri(true, 0), [1, 2, 0, 4]);
        assert_eq!(tri(false, 0), [1, 0, 3, 4]);
        assert_eq!(tri(true, i64::MIN), [1, 2, 3, 4]);
        assert_eq!(tri(true, i64::MAX), [0; 4]);
        assert_eq!(tri(false, i64::MAX), [1, 2, 3, 4]);
        assert_eq!(tri(false, i64::MIN), [0; 4]);
        let empty = Tensor::zeros(DType::F32, &[2, 0]).unwrap();
        assert_eq!(eval(Triangle { upper: true }, vec![empty]).unwrap().shape(), [2, 0]);
    }

    #[test]
    fn indices_out_of_range_are_cold() {
        let values = || Tensor::from_slice(&[2], &[0i64, 1]).unwrap();
        let hot = |depth: i64| {
            let indices = Tensor::from_slice(&[3], &[0i64, -1, i64::MAX]).unwrap();
            eval(OneHot { axis: 0 }, vec![indices, Tensor::scalar(depth), values()])
        };
        assert_eq!(hot(2).unwrap().to_i64_vec(), [1, 0, 0, 0, 1, 0]);
        assert_eq!(hot(0).unwrap().shape(), [0, 3]);
        assert!(hot(-1).is_err() && hot(i64::MAX).is_err());
    }

    #[test]
    fn the_eye_may_look_past_the_matrix() {
        let x = || Tensor::zeros(DType::F32, &[2, 3]).unwrap();
        let eye = |k| eval(Eye { dtype: DType::I4, k }, vec![x()]).unwrap().to_i64_vec();
        assert_eq!(eye(1), [0, 1, 0, 0, 0, 1]);
        assert_eq!(eye(i64::MAX), [0; 6]);
        assert_eq!(eye(i64::MIN), [0; 6]);
    }
}
