//! Rotary position embedding (Su et al. 2021).

use optc_tensor::{Tensor, for_each_index};

use crate::{Args, Facts, InferCx, OpError, Semantics, Type, Val, ensure, op};

op! {
    /// Rotates pairs of elements of each row of `x: [B, H, S, E]` by the angles whose cosines and sines are given: `[B,
    /// S, R/2]`, or `[P, R/2]` from which `positions: [B, S]` pick. Only the first `R` elements are rotated; pairs are
    /// neighbours with `interleaved`, else the halves of the `R`.
    ///
    /// - (C1) `x` is a float of rank 4, `dims` is even and at most `E`; 0 stands for `E`.
    /// - (C2) `cos`, `sin` and `positions` have the shapes above, and positions lie in `0..P`.
    "nn.rotary_embedding" = RotaryEmbedding(x, cos, sin, positions: optional) {
        /// The elements that are rotated, `R`; 0 for all.
        dims: i64 = 0,
        /// Whether pairs are neighbours.
        interleaved: bool = false,
    }
}

impl RotaryEmbedding {
    /// How many elements of a row of `size` are rotated.
    ///
    /// # Errors
    /// They are not pairs, or more than there are (C1).
    pub fn rotated(&self, size: usize) -> Result<usize, OpError> {
        let rotated = if self.dims == 0 { size as i64 } else { self.dims };
        ensure!(rotated % 2 == 0 && (0..=size as i64).contains(&rotated), "C1", "{rotated} of {size} elements rotate");
        Ok(rotated as usize)
    }
}

impl Semantics for RotaryEmbedding {
    const FACTS: Facts<RotaryEmbedding> = Facts::family();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        ensure!(x.dtype.is_float() && x.rank().is_none_or(|r| r == 4), "C1", "`x` is {x}");
        if let Some(size) = x.shape.as_ref().and_then(|s| s[3].known()) {
            self.rotated(size)?;
        }
        Ok(vec![x.clone().into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, cos, sin) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
        ensure!(x.rank() == 4, "C1", "`x` has shape {:?}", x.shape());
        let (batch, heads, steps, size) = (x.shape()[0], x.shape()[1], x.shape()[2], x.shape()[3]);
        let rotated = self.rotated(size)?;
        let half = rotated / 2;
        let positions = args.optional(3).map(Tensor::to_i64_vec);
        let rows = match &positions {
            Some(p) => {
                let rows = cos.shape().first().copied().unwrap_or(0);
                let fits = p.len() == batch * steps && p.iter().all(|p| (0..rows as i64).contains(p));
                ensure!(fits, "C2", "positions {p:?} for {batch} sequences of {steps} steps out of {rows}");
                rows
            }
            None => batch * steps,
        };
        let fits = cos.shape() == sin.shape() && cos.len() == rows * half;
        ensure!(fits, "C2", "cosines have shape {:?}, sines {:?}", cos.shape(), sin.shape());
        let (cos, sin, mut y) = (cos.to_f64_vec(), sin.to_f64_vec(), x.to_f64_vec());
        for_each_index(&[batch, heads, steps], |i| {
            let at = i[0] * steps + i[2];
            let row = positions.as_ref().map_or(at, |p| p[at] as usize) * half;
            let y = &mut y[((i[0] * heads + i[1]) * steps + i[2]) * size..][..rotated];
            for k in 0..half {
                let (first, second) = if self.interleaved { (2 * k, 2 * k + 1) } else { (k, k + half) };
                let (c, s, re, im) = (cos[row + k], sin[row + k], y[first], y[second]);
                (y[first], y[second]) = (c * re - s * im, s * re + c * im);
            }
        });
        Ok(vec![Tensor::from_f64(x.dtype(), x.shape(), &y)?.into()])
    }
}
