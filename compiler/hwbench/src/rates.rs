//! Measures the [rates](Rates) of an instruction set on this machine: what a profile of it is made of. Nothing that
//! compiles a model calls this.

use optc_emit::EmitError;
use optc_kernel::nest::Kernel;
use optc_kernel::target::Isa;
use optc_kernels::contract::{self, Contract, contract};
use optc_kernels::cost::int8::Rates;
use optc_kernels::int8::{Form, NarrowProduct, Schedule, product};

use crate::timed::Timed;

/// Rows, columns and depth of the products that are timed, and how often: the fastest run counts.
const SIZE: (usize, usize, usize) = (96, 96, 512);
const RUNS: usize = 50;

/// Measures the rates of an instruction set that this machine has, on one thread and in some milliseconds.
///
/// # Errors
/// The host cannot be compiled for.
pub fn measure(isa: &Isa) -> Result<Rates, EmitError> {
    let (m, n, k) = SIZE;
    let caches = optc_emit::host::caches();
    let float = Contract::matmul(1, m, n, k);
    let built = contract(&float, isa, contract::Schedule::choose(&float, isa, &caches));
    let built = built.expect("rows a stride apart need no table, whose offsets could be too large");
    let form = Form::choose(isa, m, &[]);
    let integer = |n: usize| {
        let problem = NarrowProduct::points(m, n, k, form);
        product(&problem, isa, Schedule::choose(&problem, isa, &caches))
    };
    // One panel's results for as many rows: what is left of the time is staging.
    let narrow = form.tile(isa).1 * isa.lanes();
    let macs = |n: usize| (m * n * k) as f64;
    let f32 = macs(n) / fastest(&built.kernel)?;
    let (wide, one) = (fastest(&integer(n))?, fastest(&integer(narrow))?);
    // Two equations: time = macs / rate + staging.
    let int8 = (macs(n) - macs(narrow)) / (wide - one).max(wide / 4.0);
    let staging = (one - macs(narrow) / int8).max(one / 8.0);
    let whole = |rate: f64| rate.round().clamp(1.0, f64::from(u32::MAX)) as u32;
    Ok(Rates { f32: whole(f32), int8: whole(int8), staged: whole((m * k) as f64 / staging) })
}

/// Microseconds of the fastest run of a kernel.
fn fastest(kernel: &Kernel) -> Result<f64, EmitError> {
    let mut timed = Timed::new(kernel)?;
    Ok((0..RUNS).map(|_| 1e6 * timed.seconds()).fold(f64::INFINITY, f64::min).max(1e-3))
}

#[cfg(test)]
mod tests {
    use optc_kernel::target::ISAS;

    use super::*;

    #[test]
    fn every_row_of_the_machine_can_be_measured() {
        for isa in ISAS.iter().filter(|isa| optc_emit::host::has(isa)) {
            assert!(measure(isa).unwrap().are_positive(), "{}", isa.name);
        }
    }
}
