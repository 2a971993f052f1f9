//! The geometry of a sliding window, shared by convolution and pooling.

use crate::{Dim, OpError, ensure};

/// Window, strides, dilations and pads over the spatial axes.
pub(crate) struct Window<'a> {
    pub kernel: &'a [usize],
    pub strides: &'a [i64],
    pub dilations: &'a [i64],
    pub pads: &'a [i64],
    pub ceil: bool,
}

impl Window<'_> {
    /// Checks the lists' lengths and ranges.
    pub fn check(&self) -> Result<(), OpError> {
        let n = self.kernel.len();
        let lengths = [self.strides.len(), self.dilations.len(), self.pads.len() / 2];
        ensure!(self.pads.len().is_multiple_of(2), "window", "pads {:?} are not pairs", self.pads);
        ensure!(lengths.iter().all(|&l| l == 0 || l == n), "window", "strides, dilations and pads do not fit {n} axes");
        let small = |v: &[i64], low: i64| v.iter().all(|&x| (low..1 << 31).contains(&x));
        let fits = small(self.strides, 1) && small(self.dilations, 1) && small(self.pads, 0);
        ensure!(fits, "window", "a stride, dilation or pad is out of range");
        ensure!(self.kernel.iter().all(|&k| (1..1 << 31).contains(&k)), "window", "kernel {:?} is empty", self.kernel);
        Ok(())
    }

    /// Stride, dilation, begin pad and end pad of an axis.
    pub fn axis(&self, d: usize) -> (usize, usize, usize, usize) {
        let or = |v: &[i64], i: usize, default: usize| v.get(i).map_or(default, |&x| x as usize);
        (or(self.strides, d, 1), or(self.dilations, d, 1), or(self.pads, d, 0), or(self.pads, d + self.kernel.len(), 0))
    }

    /// The result's extent on an axis whose operand has extent `n`.
    pub fn extent(&self, d: usize, n: usize) -> Result<usize, OpError> {
        let (stride, dilation, begin, end) = self.axis(d);
        let span = dilation.saturating_mul(self.kernel[d] - 1).saturating_add(1);
        let padded = n.saturating_add(begin).saturating_add(end);
        ensure!(padded >= span, "window", "a window of {span} does not fit the padded extent {padded}");
        let free = padded - span;
        let steps = if self.ceil { free.div_ceil(stride) } else { free / stride };
        // A window that would start in the end pad does not count.
        let late = self.ceil && steps > 0 && steps * stride >= n + begin;
        Ok(steps + 1 - late as usize)
    }

    /// [`Window::extent`] on dims that may be unknown.
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

    /// The operand index under window position `k` for result index `i`; `None` in the padding.
    pub fn source(&self, d: usize, i: usize, k: usize, n: usize) -> Option<usize> {
        let (stride, dilation, begin, _) = self.axis(d);
        (i * stride + k * dilation).checked_sub(begin).filter(|&x| x < n)
    }
}
