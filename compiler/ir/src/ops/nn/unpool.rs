//! The partial inverse of max pooling.

use optc_tensor::{TensorMut, strides_of};

use super::pool::kernel_of;
use super::window::WindowAxes;
use crate::ops::bad_dtype;
use crate::ops::eval::{eval_new, result_shapes};
use crate::ops::native::{NativeElement, by_native};
use crate::{Args, Dim, Facts, InferCx, OpError, Operands, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// Puts the elements of `x: [N, C, D…]` where `indices` say, in a tensor of zeros. The indices are flat ones in the
    /// tensor that was pooled, whose extents are `stride · (D − 1) + kernel − pads`; `extents`, a shape, gives larger
    /// ones.
    ///
    /// - (C1) The rank is two more than the kernel's, and `indices` have the shape of `x`.
    /// - (C2) The indices lie in the pooled tensor.
    /// - (C3) `extents` have the rank of `x`, its first two dims, and none that is smaller than the pooled one.
    "nn.max_unpool" = MaxUnpool(x, indices, extents: optional) {
        /// The window's extents.
        kernel: Vec<i64>,
        /// Padding: begins, then ends; empty for none.
        pads: Vec<i64> = vec![],
        /// Steps of the window; empty for 1.
        strides: Vec<i64> = vec![],
    }
}

impl MaxUnpool {
    /// The shape of the tensor that was pooled.
    fn pooled(&self, shape: &[Dim]) -> Result<Vec<Dim>, OpError> {
        let kernel = kernel_of(&self.kernel).map_err(|e| e.numbered("C1"))?;
        ensure!(shape.len() == kernel.len() + 2, "C1", "rank {}, kernel {kernel:?}", shape.len());
        let window =
            WindowAxes { kernel: &kernel, strides: &self.strides, dilations: &[], pads: &self.pads, ceil: false };
        window.check()?;
        let extent = |(d, n): (usize, &Dim)| {
            let Some(n) = n.known() else { return Ok(Dim::Unknown) };
            let (stride, _, begin, end) = window.axis(d);
            let reach = (n.max(1) - 1).saturating_mul(stride).saturating_add(kernel[d]);
            ensure!(reach >= begin + end, "C1", "pads {:?} cut more than there is", self.pads);
            Ok(Dim::Known(if n == 0 { 0 } else { reach - begin - end }))
        };
        let spatial = shape[2..].iter().enumerate().map(extent).collect::<Result<Vec<_>, _>>()?;
        Ok([&shape[..2], &spatial].concat())
    }
}

impl Semantics for MaxUnpool {
    const FACTS: Facts<MaxUnpool> = Facts::host("there is no kernel that scatters");

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let (x, indices) = (cx.tensor(0)?, cx.tensor(1)?);
        ensure!(x.dtype.is_float(), "C1", "`x` is {}, expected a float", x.dtype);
        ensure!(indices.dtype.is_int(), "C1", "`indices` are {}", indices.dtype);
        let Some(shape) = &x.shape else { return Ok(vec![x.clone().into()]) };
        let dims = self.pooled(shape)?;
        if !cx.has(2) {
            return Ok(vec![TensorType::new(x.dtype, dims).into()]);
        }
        let Some(extents) = cx.constant(2) else {
            let unknown = shape[2..].iter().map(|_| Dim::Unknown).collect();
            return Ok(vec![TensorType::new(x.dtype, [shape[..2].to_vec(), unknown].concat()).into()]);
        };
        let extents = extents.to_i64_vec();
        let larger = |(d, &e): (usize, &i64)| match dims[d].known() {
            Some(n) if d < 2 => e == n as i64,
            Some(n) => e >= n as i64,
            None => e >= 0,
        };
        let fits = extents.len() == dims.len() && extents.iter().enumerate().all(larger);
        ensure!(fits, "C3", "`extents` are {extents:?} for {}", TensorType::new(x.dtype, dims.clone()));
        Ok(vec![TensorType::new(x.dtype, extents.iter().map(|&e| Dim::Known(e as usize)).collect()).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, indices) = (args.tensor(0)?, args.tensor(1)?);
        ensure!(x.shape() == indices.shape(), "C1", "`indices` have shape {:?}, `x` {:?}", indices.shape(), x.shape());
        let shape = &result_shapes(self, args)?[0];
        match eval_new(self, args, &[(x.dtype(), shape)])? {
            Some(results) => Ok(results),
            None => bad_dtype("nn.max_unpool", x.dtype()),
        }
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let (x, indices, y) = (operands.tensor(0)?, operands.tensor(1)?, &mut results[0]);
        if x.shape() != indices.shape() {
            return Ok(false);
        }
        let dims: Vec<Dim> = x.shape().iter().map(|&n| Dim::Known(n)).collect();
        let pooled: Vec<usize> = self.pooled(&dims)?.iter().filter_map(Dim::known).collect();
        let (inner, outer, whole) = (strides_of(&pooled), strides_of(y.shape()), y.shape() == pooled);
        let size: usize = pooled.iter().product();
        let place = |i: usize| match whole {
            true => i,
            false => (0..pooled.len()).map(|d| i / inner[d] % pooled[d] * outer[d]).sum(),
        };
        by_native!(x.dtype(), T => {
            let y = y.as_mut_slice::<T>()?;
            y.fill(T::of_int(0));
            for (v, i) in x.as_slice::<T>()?.iter().zip(indices.to_i64_vec()) {
                ensure!((0..size as i64).contains(&i), "C2", "index {i} is outside of 0..{size}");
                y[place(i as usize)] = *v;
            }
            Ok(true)
        }, else Ok(false))
    }
}
