//! Ops that repeat, reverse, centre or fold a tensor.

use multiversion::multiversion;
use optc_tensor::{Tensor, TensorMut, for_each_index, strides_of};

use super::canvas::copy_runs;
use super::constant::{dims_of, shape_arg};
use super::{Canvas, Pad, PadMode, copy_view};
use crate::ops::axis_of;
use crate::ops::eval::{eval_new, room};
use crate::ops::native::{NativeElement, by_native};
use crate::ops::number::{Number, checked_len};
use crate::{Args, Dim, Facts, InferCx, ItemCx, OpError, Operands, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// `x` repeated `repeats[d]` times along each axis.
    ///
    /// - (C1) There is a number for each axis, none of them negative.
    "tensor.tile" = Tile(x, repeats) {}
}

/// How often each axis is repeated.
fn repeats_of(t: &Tensor) -> Result<Vec<usize>, OpError> {
    let repeats = t.to_i64_vec();
    ensure!(repeats.iter().all(|&n| n >= 0), "C1", "repeats {repeats:?} have a negative one");
    Ok(repeats.into_iter().map(|n| n as usize).collect())
}

impl Semantics for Tile {
    const FACTS: Facts<Tile> = Facts::family().with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        let Some(dims) = &x.shape else { return Ok(vec![x.clone().into()]) };
        let repeats = cx.constant(1).map(repeats_of).transpose()?;
        if let Some(repeats) = &repeats {
            ensure!(repeats.len() == dims.len(), "C1", "repeats {repeats:?} for {x}");
        }
        let tiled = |(d, n): (usize, &Dim)| match (n, repeats.as_ref().map(|r| r[d])) {
            (n, Some(1)) => n.clone(),
            (Dim::Known(n), Some(r)) => n.checked_mul(r).map_or(Dim::Unknown, Dim::Known),
            _ => Dim::Unknown,
        };
        Ok(vec![TensorType::new(x.dtype, dims.iter().enumerate().map(tiled).collect()).into()])
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        cx.only(&[0]) && cx.constant(1).is_some_and(|t| t.to_i64_vec().first() == Some(&1))
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let repeats = repeats_of(args.tensor(1)?)?;
        ensure!(repeats.len() == x.rank(), "C1", "there are {} repeats for rank {}", repeats.len(), x.rank());
        let shape: Vec<usize> = x.shape().iter().zip(&repeats).map(|(n, r)| n.saturating_mul(*r)).collect();
        checked_len(x.dtype(), &shape)?;
        // Each axis as two: the repeats, which do not move in `x`, then the extent.
        let (mut dims, mut strides) = (vec![], vec![]);
        for (d, stride) in strides_of(x.shape()).into_iter().enumerate() {
            dims.extend([repeats[d], x.shape()[d]]);
            strides.extend([0, stride as isize]);
        }
        Ok(vec![copy_view(x, 0, &dims, &strides)?.reshaped(&shape)?.into()])
    }
}

op! {
    /// `x` with the first `lengths[b]` steps of batch `b` in reverse order.
    ///
    /// - (C1) The axes are 0 and 1, in either order.
    /// - (C2) There is a length for each batch, from 0 to the number of steps.
    "tensor.reverse_sequence" = ReverseSequence(x, lengths) {
        /// The axis of the batches.
        batch_axis: i64 = 1,
        /// The axis of the steps.
        time_axis: i64 = 0,
    }
}

impl Semantics for ReverseSequence {
    const FACTS: Facts<ReverseSequence> = Facts::host("there is no kernel that moves elements so").with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        let axes = matches!((self.batch_axis, self.time_axis), (0, 1) | (1, 0));
        ensure!(axes && x.rank().is_none_or(|r| r >= 2), "C1", "the axes are wrong for {x}");
        Ok(vec![x.clone().into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, lengths) = (args.tensor(0)?, args.tensor(1)?.to_i64_vec());
        let axes = matches!((self.batch_axis, self.time_axis), (0, 1) | (1, 0));
        ensure!(axes && x.rank() >= 2, "C1", "the axes are wrong for shape {:?}", x.shape());
        let (batches, steps) = (x.shape()[self.batch_axis as usize], x.shape()[self.time_axis as usize]);
        let fits = lengths.len() == batches && lengths.iter().all(|&n| n >= 0 && n <= steps as i64);
        ensure!(fits, "C2", "lengths {lengths:?} for {batches} batches of {steps} steps");
        if let Some(results) = eval_new(self, args, &[(x.dtype(), x.shape())])? {
            return Ok(results);
        }
        // Strings, and elements of less than a byte.
        let run: usize = x.shape()[2..].iter().product();
        let mut y = Canvas::zeroed(x.dtype(), x.shape())?;
        self.rows([batches, steps], &lengths).for_each(|row| y.push(x, row * run, run));
        Ok(vec![y.finish()?.into()])
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let (x, lengths) = (operands.tensor(0)?, operands.tensor(1)?.to_i64_vec());
        let (batches, steps) = (x.shape()[self.batch_axis as usize], x.shape()[self.time_axis as usize]);
        let fits = lengths.len() == batches && lengths.iter().all(|&n| n >= 0 && n <= steps as i64);
        ensure!(fits, "C2", "lengths {lengths:?} for {batches} batches of {steps} steps");
        let run: usize = x.shape()[2..].iter().product();
        let starts = self.rows([batches, steps], &lengths).map(|row| Ok(row * run));
        copy_runs(x, &mut results[0], starts, run)
    }
}

impl ReverseSequence {
    /// For each row of the first two axes of the result, the row that it is.
    fn rows(&self, [batches, steps]: [usize; 2], lengths: &[i64]) -> impl Iterator<Item = usize> {
        let time_first = self.time_axis == 0;
        let (outer, inner) = if time_first { (steps, batches) } else { (batches, steps) };
        (0..outer).flat_map(move |i| (0..inner).map(move |j| (i, j))).map(move |(i, j)| {
            let (b, t) = if time_first { (j, i) } else { (i, j) };
            let from = if t < lengths[b] as usize { lengths[b] as usize - 1 - t } else { t };
            if time_first { from * batches + b } else { b * steps + from }
        })
    }
}

op! {
    /// `x` cropped, or padded with zeros, around its middle to the extents `shape` at `axes`.
    ///
    /// - (C1) There is an extent for each axis; without `axes` these are all.
    "tensor.center_crop_pad" = CenterCropPad(x, shape) {
        /// The axes, negative ones from the end; with none given, all.
        axes: Vec<i64> = vec![],
    }
}

impl CenterCropPad {
    fn axes(&self, rank: usize, given: usize) -> Result<Vec<usize>, OpError> {
        let axes = match self.axes.is_empty() {
            true => (0..rank).collect(),
            false => self.axes.iter().map(|&a| axis_of(a, rank)).collect::<Result<Vec<_>, _>>()?,
        };
        ensure!(axes.len() == given, "C1", "there are {given} extents for {} axes", axes.len());
        Ok(axes)
    }
}

impl CenterCropPad {
    /// The padding, by negative numbers the cropping, that makes a tensor of shape `from` one of the target's extents.
    fn pad(&self, from: &[usize], target: &[usize]) -> Result<Pad, OpError> {
        let (rank, axes) = (from.len(), self.axes(from.len(), target.len())?);
        let mut pads = vec![0i64; 2 * rank];
        for (axis, &to) in axes.into_iter().zip(target) {
            let n = from[axis];
            let (begin, end) = (n.abs_diff(to) / 2, n.abs_diff(to).div_ceil(2));
            let sign = if to >= n { 1 } else { -1 };
            let count = |v: usize| i64::try_from(v).map_or(i64::MAX, |v| sign * v);
            (pads[axis], pads[axis + rank]) = (count(begin), count(end));
        }
        Ok(Pad { mode: PadMode::Constant, pads })
    }
}

impl Semantics for CenterCropPad {
    const FACTS: Facts<CenterCropPad> = Facts::host("there is no kernel that moves elements so").with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        let Some(mut dims) = x.shape.clone() else { return Ok(vec![x.clone().into()]) };
        let Some(target) = dims_of(cx, 1)? else {
            return Ok(vec![TensorType::new(x.dtype, vec![Dim::Unknown; dims.len()]).into()]);
        };
        let axes = self.axes(dims.len(), target.len())?;
        axes.into_iter().zip(target).for_each(|(axis, n)| dims[axis] = n);
        Ok(vec![TensorType::new(x.dtype, dims).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let pad = self.pad(x.shape(), &shape_arg(args.tensor(1)?)?)?;
        pad.eval(&Args::plain(&args.values[..1]))
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let x = operands.tensor(0)?;
        let pad = self.pad(x.shape(), &shape_arg(&operands.tensor(1)?.to_tensor()?)?)?;
        pad.padded(x, &[0; 8], [None, None], &mut results[0])
    }
}

op! {
    /// Sums the columns of `x` (`[N, C · ∏ block, L]`), each a block of an image, into images `[N, C, image…]`: the
    /// opposite of cutting an image into the windows of a convolution.
    ///
    /// - (C1) `image` and `block` have one length, and so have the attributes (twice it for `pads`); absent ones are
    ///   1s, `pads` 0s. Extents, strides and dilations are positive, pads are not negative.
    /// - (C2) `C · ∏ block` and `L` are as blocks and windows say.
    "tensor.col2im" = Col2Im(x, image, block) {
        /// Steps within a block.
        dilations: Vec<i64> = vec![],
        /// Elements around the image: begins, then ends.
        pads: Vec<i64> = vec![],
        /// Steps from block to block.
        strides: Vec<i64> = vec![],
    }
}

/// What a [`Col2Im`] does along one axis.
struct Fold {
    image: usize,
    block: usize,
    windows: usize,
    stride: usize,
    dilation: usize,
    pad: usize,
}

impl Fold {
    /// The first window whose tap `k` lies in the image, how many do, and the place of the first one's.
    fn inside(&self, k: usize) -> (usize, usize, usize) {
        let at = k * self.dilation;
        let first = self.pad.saturating_sub(at).div_ceil(self.stride).min(self.windows);
        let end = (self.image + self.pad).saturating_sub(at).div_ceil(self.stride).clamp(first, self.windows);
        let place = (first * self.stride + at).saturating_sub(self.pad);
        (first, end - first, if end > first { place } else { 0 })
    }
}

impl Col2Im {
    fn folds(&self, image: &[usize], block: &[usize]) -> Result<Vec<Fold>, OpError> {
        let rank = image.len();
        let list = |v: &[i64], len: usize, default: i64| if v.is_empty() { vec![default; len] } else { v.to_vec() };
        let (dilations, strides) = (list(&self.dilations, rank, 1), list(&self.strides, rank, 1));
        let pads = list(&self.pads, 2 * rank, 0);
        let lengths = block.len() == rank && dilations.len() == rank && strides.len() == rank && pads.len() == 2 * rank;
        ensure!(lengths, "C1", "image {image:?} and block {block:?} do not fit the attributes");
        let small = |v: &[i64], low: i64| v.iter().all(|&v| (low..1 << 31).contains(&v));
        let extents = image.iter().chain(block).all(|&n| (1..1 << 31).contains(&n));
        ensure!(
            extents && small(&dilations, 1) && small(&strides, 1) && small(&pads, 0),
            "C1",
            "an attribute is out of range"
        );
        let fold = |d: usize| {
            let (stride, dilation) = (strides[d] as usize, dilations[d] as usize);
            let padded = image[d] + pads[d] as usize + pads[d + rank] as usize;
            let reach = (block[d] - 1) * dilation + 1;
            let windows = padded.checked_sub(reach).map_or(0, |rest| rest / stride + 1);
            Fold { image: image[d], block: block[d], windows, stride, dilation, pad: pads[d] as usize }
        };
        Ok((0..rank).map(fold).collect())
    }
}

/// Calls `f` for each row of windows of one tap that lie in the image of one plane: the first element of the row in the
/// columns and in the plane, the number of windows, and how far apart their places are.
fn for_window_rows(folds: &[Fold], mut f: impl FnMut(usize, usize, usize, usize)) {
    let Some((last, lead)) = folds.split_last() else { return };
    let extents = |of: fn(&Fold) -> usize| folds.iter().map(of).collect::<Vec<_>>();
    let (taps, columns) = (extents(|f| f.block), strides_of(&extents(|f| f.windows)));
    let strides = strides_of(&extents(|f| f.image));
    let all: usize = folds.iter().map(|f| f.windows).product();
    let mut from = 0;
    for_each_index(&taps, |k| {
        // Along each axis the first window whose place lies in the image, how many do, and the first place.
        let ranges: Vec<(usize, usize, usize)> = folds.iter().zip(k).map(|(fold, &k)| fold.inside(k)).collect();
        let counts: Vec<usize> = ranges[..lead.len()].iter().map(|(_, count, _)| *count).collect();
        let (mut row, mut to) = (from, 0);
        for (d, (first, _, place)) in ranges.iter().enumerate() {
            row += first * columns[d];
            to += place * strides[d];
        }
        let n = ranges[lead.len()].1;
        for_each_index(if n == 0 { &[0] } else { &counts }, |w| {
            let moved = |by: &[usize]| w.iter().zip(by).map(|(w, by)| w * by).sum::<usize>();
            let down: usize = w.iter().zip(lead).zip(&strides).map(|((w, fold), by)| w * fold.stride * by).sum();
            f(row + moved(&columns), to + down, n, last.stride);
        });
        from += all;
    });
}

/// The sums of the columns of all planes, on slices.
fn fold_into<T: NativeElement>(x: &[T], y: &mut [T], folds: &[Fold]) -> Result<(), OpError> {
    let plane: usize = folds.iter().map(|f| f.image).product();
    let columns: usize = folds.iter().map(|f| f.block * f.windows).product();
    let _room = room(plane * size_of::<T::Wide>())?;
    let mut sums = vec![T::Wide::ZERO; plane];
    for (i, y) in y.chunks_exact_mut(plane.max(1)).enumerate() {
        let x = &x[i * columns..][..columns];
        sums.fill(T::Wide::ZERO);
        for_window_rows(folds, |from, to, n, stride| add_row(&x[from..][..n], &mut sums[to..], stride));
        y.iter_mut().zip(&sums).for_each(|(y, &sum)| *y = T::narrow(sum));
    }
    Ok(())
}

/// Adds elements to sums that are `stride` apart.
#[multiversion(targets("x86_64+avx2"))]
fn add_row<T: NativeElement>(row: &[T], sums: &mut [T::Wide], stride: usize) {
    match stride {
        1 => sums.iter_mut().zip(row).for_each(|(sum, v)| *sum = sum.plus(v.widen())),
        _ => sums.iter_mut().step_by(stride).zip(row).for_each(|(sum, v)| *sum = sum.plus(v.widen())),
    }
}

impl Semantics for Col2Im {
    const FACTS: Facts<Col2Im> = Facts::host("there is no kernel that moves elements so").with_strings();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        if x.dtype.is_small_float() {
            return crate::ops::bad_dtype("tensor.col2im", x.dtype);
        }
        let Some(image) = dims_of(cx, 1)? else { return Ok(vec![TensorType::unranked(x.dtype).into()]) };
        let dim = |d: usize| x.shape.as_ref().and_then(|s| s.get(d)).cloned().unwrap_or(Dim::Unknown);
        let block = cx
            .constant(2)
            .map(shape_arg)
            .transpose()?
            .and_then(|b| b.iter().try_fold(1usize, |n, &k| n.checked_mul(k)));
        let channels = dim(1).known().zip(block).and_then(|(n, b)| n.checked_div(b)).map_or(Dim::Unknown, Dim::Known);
        Ok(vec![TensorType::new(x.dtype, [vec![dim(0), channels], image].concat()).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let extents = |slot: usize| shape_arg(args.tensor(slot)?).map_err(|e| e.numbered("C1"));
        let (image, block) = (extents(1)?, extents(2)?);
        let folds = self.folds(&image, &block)?;
        let product = |of: fn(&Fold) -> usize| folds.iter().try_fold(1usize, |n, f| n.checked_mul(of(f)));
        let &[n, rows, columns] = x.shape() else {
            return Err(OpError::Constraint { constraint: "C2", reason: format!("`x` has shape {:?}", x.shape()) });
        };
        let (taps, windows) = (product(|f| f.block).unwrap_or(0), product(|f| f.windows));
        let fits = taps > 0 && rows.is_multiple_of(taps) && windows == Some(columns);
        let blocks = windows.map_or("too many".to_owned(), |n| n.to_string());
        ensure!(fits, "C2", "`x` of shape {:?} does not hold {blocks} blocks of {taps}", x.shape());
        let shape = [vec![n, rows / taps], image].concat();
        if let Some(results) = eval_new(self, args, &[(x.dtype(), &shape)])? {
            return Ok(results);
        }
        // `bool`, and elements of less than a byte.
        let mut sums = vec![0i64; checked_len(x.dtype(), &shape)?];
        fold_into(&x.to_i64_vec(), &mut sums, &folds)?;
        Ok(vec![Tensor::from_i64(x.dtype(), &shape, &sums)?.into()])
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let x = operands.tensor(0)?;
        let extents = |slot: usize| shape_arg(&operands.tensor(slot)?.to_tensor()?).map_err(|e| e.numbered("C1"));
        let folds = self.folds(&extents(1)?, &extents(2)?)?;
        let (taps, windows): (usize, usize) =
            (folds.iter().map(|f| f.block).product(), folds.iter().map(|f| f.windows).product());
        let planes: usize = results[0].shape()[..2].iter().product();
        let fits = x.rank() == 3 && x.shape()[2] == windows && planes.checked_mul(taps * windows) == Some(x.len());
        if !fits {
            return Ok(false);
        }
        by_native!(x.dtype(), T => {
            fold_into(x.as_slice::<T>()?, results[0].as_mut_slice::<T>()?, &folds)?;
            Ok(true)
        }, else Ok(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use optc_tensor::DType;

    fn ints(shape: &[usize], values: &[i64]) -> Tensor {
        Tensor::from_slice(shape, values).unwrap()
    }

    fn eval(op: impl Into<crate::Op>, operands: Vec<Tensor>) -> Result<Tensor, OpError> {
        let values: Vec<Option<Val>> = operands.into_iter().map(|t| Some(t.into())).collect();
        Ok(op.into().eval(&Args::plain(&values))?[0].as_tensor().unwrap().clone())
    }

    #[test]
    fn tiles_of_nothing_and_too_many() {
        let x = || ints(&[2], &[1, 2]);
        assert_eq!(eval(Tile {}, vec![x(), ints(&[1], &[2])]).unwrap().to_i64_vec(), [1, 2, 1, 2]);
        assert_eq!(eval(Tile {}, vec![x(), ints(&[1], &[0])]).unwrap().shape(), [0]);
        for repeats in [i64::MAX, -1, 1 << 40] {
            assert!(eval(Tile {}, vec![x(), ints(&[1], &[repeats])]).is_err());
        }
        assert!(eval(Tile {}, vec![x(), ints(&[2], &[1, 1])]).is_err());
    }

    #[test]
    fn lengths_lie_within_the_steps() {
        let op = || ReverseSequence { batch_axis: 0, time_axis: 1 };
        let run = |n: i64| eval(op(), vec![ints(&[1, 3], &[1, 2, 3]), ints(&[1], &[n])]);
        assert_eq!(run(2).unwrap().to_i64_vec(), [2, 1, 3]);
        assert_eq!(run(0).unwrap().to_i64_vec(), [1, 2, 3]);
        assert!(run(4).is_err() && run(-1).is_err());
        let same = ReverseSequence { batch_axis: 0, time_axis: 0 };
        assert!(eval(same, vec![ints(&[1, 1], &[1]), ints(&[1], &[1])]).is_err());
    }

    #[test]
    fn the_odd_element_goes_behind() {
        let op = || CenterCropPad { axes: vec![-1] };
        let run = |n: i64| eval(op(), vec![ints(&[4], &[1, 2, 3, 4]), ints(&[1], &[n])]);
        assert_eq!(run(1).unwrap().to_i64_vec(), [2]);
        assert_eq!(run(7).unwrap().to_i64_vec(), [0, 1, 2, 3, 4, 0, 0]);
        assert_eq!(run(0).unwrap().shape(), [0]);
        assert!(run(-1).is_err() && run(i64::MAX).is_err());
    }

    #[test]
    fn columns_must_fit_their_image() {
        let op = |strides: &[i64]| Col2Im { dilations: vec![], pads: vec![], strides: strides.to_vec() };
        let run = |op, columns: usize| {
            let x = Tensor::from_i64(DType::F32, &[1, 2, columns], &vec![1; 2 * columns]).unwrap();
            eval(op, vec![x, ints(&[1], &[4]), ints(&[1], &[2])])
        };
        assert_eq!(run(op(&[]), 3).unwrap().to_f64_vec(), [1.0, 2.0, 2.0, 1.0]);
        assert_eq!(run(op(&[2]), 2).unwrap().to_f64_vec(), [1.0; 4]);
        assert!(run(op(&[]), 2).is_err() && run(op(&[0]), 3).is_err() && run(op(&[i64::MAX]), 3).is_err());
    }
}
