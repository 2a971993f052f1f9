//! Weighted sums along one axis: the inner loops of resampling.

use crate::ops::native::NativeElement;

/// The resampling of one axis, ready to be done: the elements that each element of the result sees.
pub(super) struct Resampling {
    /// The axis.
    pub axis: usize,
    /// Its extent before.
    pub from: usize,
    /// The elements that those of the result see, with their weights.
    pub taps: Vec<(usize, f64)>,
    /// Where in the list those of each element end: as many as the extent after.
    pub ends: Vec<usize>,
}

impl Resampling {
    /// `x`, whose extents from the axis on are `from` and `inner`, resampled to `y`.
    pub fn run<T: NativeElement>(&self, x: &[T], inner: usize, y: &mut [f64]) {
        let to = self.ends.len();
        for (x, y) in x.chunks_exact((self.from * inner).max(1)).zip(y.chunks_exact_mut((to * inner).max(1))) {
            match inner {
                1 => self.run_row(x, y),
                _ => self.run_rows(x, inner, y),
            }
        }
    }

    /// Along the innermost axis.
    fn run_row<T: NativeElement>(&self, x: &[T], y: &mut [f64]) {
        let mut begin = 0;
        for (y, &end) in y.iter_mut().zip(&self.ends) {
            *y = match &self.taps[begin..end] {
                // The two elements around, as in most cases.
                [a, b] => 0.0 + a.1 * x[a.0].to_f64() + b.1 * x[b.0].to_f64(),
                taps => taps.iter().fold(0.0, |sum, (i, weight)| sum + weight * x[*i].to_f64()),
            };
            begin = end;
        }
    }

    /// Along another axis: sums of whole rows.
    fn run_rows<T: NativeElement>(&self, x: &[T], inner: usize, y: &mut [f64]) {
        let (mut begin, row) = (0, |i: usize| &x[i * inner..][..inner]);
        for (y, &end) in y.chunks_exact_mut(inner).zip(&self.ends) {
            match &self.taps[begin..end] {
                &[(i, a), (j, b)] => {
                    let pairs = row(i).iter().zip(row(j));
                    y.iter_mut().zip(pairs).for_each(|(y, (v, w))| *y = 0.0 + a * v.to_f64() + b * w.to_f64());
                }
                taps => {
                    y.fill(0.0);
                    for &(i, weight) in taps {
                        y.iter_mut().zip(row(i)).for_each(|(y, v)| *y += weight * v.to_f64());
                    }
                }
            }
            begin = end;
        }
    }
}
