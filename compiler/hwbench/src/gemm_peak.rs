//! A square matrix product of compiled code, to be timed next to [`Peak`](crate::peak::Peak).

use optc_emit::EmitError;
use optc_kernel::target::{Caches, Isa};
use optc_kernels::contract::{Contract, ContractSchedule, contract};

use crate::timed::Timed;

/// A compiled product of two square matrices; [`GemmPeak::measure`] may be called between runs of another kernel.
#[derive(Debug)]
pub struct GemmPeak {
    timed: Timed,
    operations: f64,
}

impl GemmPeak {
    /// Compiles the product of two `size` × `size` matrices.
    ///
    /// # Errors
    ///
    /// When the host cannot be compiled for.
    pub fn new(size: usize, isa: &Isa, caches: &Caches) -> Result<GemmPeak, EmitError> {
        let product = Contract::matmul(1, size, size, size);
        let built = contract(&product, isa, ContractSchedule::choose(&product, isa, caches));
        let built = built.expect("rows a stride apart need no table, whose offsets could be too large");
        let timed = Timed::new(&built.kernel)?;
        let operations = 2.0 * (size as f64).powi(3);
        Ok(GemmPeak { timed, operations })
    }

    /// One run on this thread: 10^9 operations a second, a multiply-add counting as two.
    pub fn measure(&mut self) -> f64 {
        self.operations / self.timed.seconds() / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_product_runs() {
        let mut gemm = GemmPeak::new(20, optc_emit::host::isa(), &Caches::default()).unwrap();
        assert!(gemm.measure() > 0.0 && gemm.measure().is_finite());
    }
}
