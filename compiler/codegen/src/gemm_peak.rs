//! A square matrix product of compiled code, to be timed beside [`Peak`](crate::peak::Peak).

use std::time::Instant;

use crate::contract::{Contract, Schedule, contract};
use crate::emit::{Code, EmitError};
use crate::target::{Isa, Machine};

/// Alignment of the buffers, which kernels rely on.
const ALIGN: usize = 64;

/// A compiled product of two square matrices; [`GemmPeak::measure`] may be called between runs of another kernel.
#[derive(Debug)]
pub struct GemmPeak {
    code: Code,
    buffers: Vec<Vec<u8>>,
    tasks: u64,
    operations: f64,
}

impl GemmPeak {
    /// Compiles the product of two `size` × `size` matrices.
    ///
    /// # Errors
    ///
    /// When the host cannot be compiled for.
    pub fn new(size: usize, isa: &Isa, machine: &Machine) -> Result<GemmPeak, EmitError> {
        let product = Contract::matmul(1, size, size, size);
        let built = contract(&product, isa, Schedule::choose(&product, isa, machine));
        let built = built.expect("rows a stride apart need no table, whose offsets could be too large");
        let code = Code::compile(&[&built.kernel], 1)?;
        // Not zeros: fresh pages of zeros are all the same memory, which slows the loads down.
        let buffers = built.kernel.bufs.iter().map(|b| vec![0x11; b.bytes + ALIGN]).collect();
        let operations = 2.0 * (size as f64).powi(3);
        Ok(GemmPeak { code, buffers, tasks: built.kernel.tasks, operations })
    }

    /// One run on this thread: 10^9 operations a second, a multiply-add counting as two.
    pub fn measure(&mut self) -> f64 {
        let align = |b: &mut Vec<u8>| {
            let skip = b.as_ptr().align_offset(ALIGN);
            b[skip..].as_mut_ptr()
        };
        let args: Vec<*mut u8> = self.buffers.iter_mut().map(align).collect();
        let start = Instant::now();
        // SAFETY: each buffer holds the declared bytes behind its aligned start; contractions declare no scratch; the
        // tasks are all those of the kernel.
        unsafe { self.code.entry(0)(args.as_ptr(), std::ptr::null_mut(), 0, self.tasks) };
        self.operations / start.elapsed().as_secs_f64() / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_product_runs() {
        let mut gemm = GemmPeak::new(20, Isa::host(), &Machine::default()).unwrap();
        assert!(gemm.measure() > 0.0 && gemm.measure().is_finite());
    }
}
