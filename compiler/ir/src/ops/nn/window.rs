//! The geometry of a sliding window, shared by convolution and pooling.

use optc_tensor::for_each_index;

use crate::{Dim, OpError, ensure};

/// The most elements that a window may have.
const MAX_AREA: usize = 1 << 24;

/// Window, strides, dilations and pads over the spatial axes.
#[derive(Clone, Copy)]
pub(crate) struct WindowAxes<'a> {
    pub kernel: &'a [usize],
    pub strides: &'a [i64],
    pub dilations: &'a [i64],
    pub pads: &'a [i64],
    pub ceil: bool,
}

/// Result positions in a row that see one window element: `len` of them from `to`, whose operand positions begin at
/// `from` and are `stride` apart.
pub(crate) struct WindowRun {
    pub to: usize,
    pub from: usize,
    pub len: usize,
    pub stride: usize,
}

impl WindowRun {
    /// Calls `f` with each element of `to` in the run and the element of `from` that it sees. Neighbours are taken as
    /// slices, which the compiler turns into vector code.
    pub fn gather<T: Copy>(&self, to: &mut [T], from: &[T], f: impl Fn(&mut T, T)) {
        let to = &mut to[self.to..self.to + self.len];
        if self.stride == 1 {
            to.iter_mut().zip(&from[self.from..self.from + self.len]).for_each(|(y, &x)| f(y, x));
        } else {
            let from = &from[self.from..=self.from + (self.len - 1) * self.stride];
            to.iter_mut().enumerate().for_each(|(k, y)| f(y, from[k * self.stride]));
        }
    }

    /// Calls `f` with each element of `from` that an element of `to` in the run sees, and that element.
    pub fn scatter<T: Copy>(&self, from: &mut [T], to: &[T], f: impl Fn(&mut T, T)) {
        let to = &to[self.to..self.to + self.len];
        if self.stride == 1 {
            from[self.from..self.from + self.len].iter_mut().zip(to).for_each(|(y, &x)| f(y, x));
        } else {
            let from = &mut from[self.from..=self.from + (self.len - 1) * self.stride];
            to.iter().enumerate().for_each(|(k, &x)| f(&mut from[k * self.stride], x));
        }
    }
}

impl WindowAxes<'_> {
    /// Checks the lists' lengths and ranges.
    pub fn check(&self) -> Result<(), OpError> {
        let n = self.kernel.len();
        let lengths = [self.strides.len(), self.dilations.len(), self.pads.len() / 2];
        ensure!(n > 0, "window", "there is no spatial axis");
        ensure!(self.pads.len().is_multiple_of(2), "window", "pads {:?} are not pairs", self.pads);
        ensure!(lengths.iter().all(|&l| l == 0 || l == n), "window", "strides, dilations and pads do not fit {n} axes");
        let small = |v: &[i64], low: i64| v.iter().all(|&x| (low..1 << 31).contains(&x));
        let fits = small(self.strides, 1) && small(self.dilations, 1) && small(self.pads, 0);
        ensure!(fits, "window", "a stride, dilation or pad is out of range");
        ensure!(self.kernel.iter().all(|&k| k > 0), "window", "kernel {:?} is empty", self.kernel);
        let area = self.kernel.iter().try_fold(1usize, |a, &k| a.checked_mul(k));
        ensure!(area.is_some_and(|a| a <= MAX_AREA), "window", "kernel {:?} is too large", self.kernel);
        Ok(())
    }

    /// Stride, dilation, begin pad and end pad of an axis.
    pub fn axis(&self, d: usize) -> (usize, usize, usize, usize) {
        let or = |v: &[i64], i: usize, default: usize| v.get(i).map_or(default, |&x| x as usize);
        (or(self.strides, d, 1), or(self.dilations, d, 1), or(self.pads, d, 0), or(self.pads, d + self.kernel.len(), 0))
    }

    /// How far the window reaches on an axis.
    pub fn span(&self, d: usize) -> usize {
        self.axis(d).1.saturating_mul(self.kernel[d] - 1).saturating_add(1)
    }

    /// The result's extent on an axis whose operand has extent `n`.
    pub fn extent(&self, d: usize, n: usize) -> Result<usize, OpError> {
        let (stride, _, begin, end) = self.axis(d);
        let span = self.span(d);
        let padded = n.saturating_add(begin).saturating_add(end);
        if self.ceil && padded < span && span - padded < stride && n.saturating_add(begin) > 0 {
            return Ok(1); // less than a step is missing: the one window reaches over the end
        }
        ensure!(padded >= span, "window", "a window of {span} does not fit the padded extent {padded}");
        let free = padded - span;
        let steps = if self.ceil { free.div_ceil(stride) } else { free / stride };
        // A window that would start in the end pad does not count.
        let late = self.ceil && steps > 0 && steps.saturating_mul(stride) >= n.saturating_add(begin);
        Ok(steps + 1 - late as usize)
    }

    /// [`WindowAxes::extent`] on dims that may be unknown.
    pub fn dims(&self, spatial: &[Dim]) -> Result<Vec<Dim>, OpError> {
        ensure!(
            spatial.len() == self.kernel.len(),
            "window",
            "{} spatial axes, window of {}",
            spatial.len(),
            self.kernel.len()
        );
        let dim = |(d, n): (usize, &Dim)| match n.known() {
            Some(n) => self.extent(d, n).map(Dim::Known),
            None => Ok(Dim::Unknown),
        };
        spatial.iter().enumerate().map(dim).collect()
    }

    /// The result positions that see window element `tap`, for operand extents `from` and result extents `to`, in
    /// row-major order. Positions where the element lies in the padding are left out.
    pub fn runs(&self, tap: &[usize], from: &[usize], to: &[usize]) -> Vec<WindowRun> {
        let last = to.len() - 1;
        let ranges: Vec<(usize, usize)> = (0..to.len()).map(|d| self.inside(d, tap[d], from[d], to[d])).collect();
        let (low, high) = ranges[last];
        let mut runs: Vec<WindowRun> = vec![];
        if ranges.iter().any(|(low, high)| low >= high) {
            return runs;
        }
        let outer: Vec<usize> = ranges[..last].iter().map(|(low, high)| high - low).collect();
        let source = |d: usize, i: usize| {
            let (stride, dilation, begin, _) = self.axis(d);
            i * stride + tap[d] * dilation - begin
        };
        for_each_index(&outer, |index| {
            let (mut row, mut at) = (0, 0);
            for (d, &i) in index.iter().enumerate() {
                let i = i + ranges[d].0;
                (row, at) = (row * to[d] + i, at * from[d] + source(d, i));
            }
            let stride = self.axis(last).0;
            let run = WindowRun {
                to: row * to[last] + low,
                from: at * from[last] + source(last, low),
                len: high - low,
                stride,
            };
            match runs.last_mut() {
                Some(r) if r.stride == 1 && stride == 1 && r.to + r.len == run.to && r.from + r.len == run.from => {
                    r.len += run.len;
                }
                _ => runs.push(run),
            }
        });
        runs
    }

    /// The result indices of axis `d` for which window element `k` lies inside an operand of extent `n`.
    fn inside(&self, d: usize, k: usize, n: usize, to: usize) -> (usize, usize) {
        let (stride, dilation, begin, _) = self.axis(d);
        let offset = k.saturating_mul(dilation);
        let low = begin.saturating_sub(offset).div_ceil(stride);
        let high = (n + begin).saturating_sub(offset).div_ceil(stride).min(to);
        (low, high)
    }
}
