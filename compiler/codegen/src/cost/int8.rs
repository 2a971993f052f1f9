//! What a product costs in `f32` and in 8-bit integers on this machine: an estimate that choices and reports share.
//!
//! Three rates are measured once for each instruction set, on first use and in some milliseconds: multiply-adds a second of an `f32` and of an
//! integer product that stay in the caches, and elements a second of the staging of activations. A product takes its multiply-adds,
//! columns rounded up to whole panels, over the rate of its form; integers take the staging of their activations on top. Depthwise
//! convolutions use the same instructions in both forms and load a quarter of the bytes in integers, which counts as a tenth of their time.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Instant;

use super::Costs;
use crate::contract::{self, Contract, contract};
use crate::emit::{Code, EmitError};
use crate::int8::{Form, Product, Schedule, product};
use crate::nest::Kernel;
use crate::target::{Isa, Machine};

/// The extents of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extents {
    /// Independent products: groups, or batches of matrices.
    pub batch: usize,
    /// Rows of each.
    pub m: usize,
    /// Results of a row.
    pub n: usize,
    /// Summed elements.
    pub k: usize,
    /// Elements of the first operand.
    pub inputs: usize,
    /// Whether each channel is convolved by itself.
    pub depthwise: bool,
    /// Images, rows and columns of the result, if it is that of a 3x3 convolution without groups, strides and dilations: there are
    /// faster forms for it.
    pub three_by_three: Option<[usize; 3]>,
}

/// Estimated seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Times {
    /// In `f32`.
    pub f32: f64,
    /// In 8-bit integers.
    pub int8: f64,
}

/// What the machine does in a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Multiply-adds of `f32`.
    pub f32: f64,
    /// Multiply-adds of 8-bit integers.
    pub int8: f64,
    /// Elements that are staged.
    pub staged: f64,
}

impl Rates {
    /// The rates of an instruction set, measured on first use. Where they cannot be measured, integers count as twice as fast.
    pub fn of(isa: &'static Isa) -> Rates {
        static KNOWN: LazyLock<Mutex<HashMap<&'static str, Rates>>> = LazyLock::new(Mutex::default);
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let assumed = Rates { f32: 1e10, int8: 2e10, staged: 4e9 };
        *known.entry(isa.name).or_insert_with(|| measure(isa).unwrap_or(assumed))
    }

    /// The times of a product.
    pub fn times(&self, e: &Extents, isa: &Isa) -> Times {
        let macs = (e.batch * e.m * e.k) as f64;
        let padded = |vectors: usize| e.n.next_multiple_of(vectors * isa.lanes()) as f64;
        if e.depthwise {
            // An FMA for each tap, as well as they are fed.
            let f32 = macs * e.n as f64 / (self.f32 / 2.0);
            return Times { f32, int8: 0.9 * f32 };
        }
        let staged = e.inputs as f64 / self.staged;
        let direct = macs * padded(isa.contract_f32.1) / self.f32;
        let share = e.three_by_three.map_or(1.0, |pixels| Costs::of(isa).filtered_share(pixels, e.k / 9, e.n));
        Times { f32: share * direct, int8: macs * padded(isa.contract_i8.1) / self.int8 + staged }
    }
}

/// Rows, columns and depth of the products that are timed, and how often: the fastest run counts.
const SIZE: (usize, usize, usize) = (96, 96, 512);
const RUNS: usize = 5;

fn measure(isa: &Isa) -> Result<Rates, EmitError> {
    let (m, n, k) = SIZE;
    let machine = Machine::host();
    let float = Contract::matmul(1, m, n, k);
    let built = contract(&float, isa, contract::Schedule::choose(&float, isa, &machine));
    let built = built.expect("rows a stride apart need no table, whose offsets could be too large");
    let form = Form::choose(isa, m, &[]);
    let integer = |n: usize| {
        let problem = Product::points(m, n, k, form);
        product(&problem, isa, Schedule::choose(&problem, isa, &machine))
    };
    // One panel's results for as many rows: what is left of the time is staging.
    let narrow = form.tile(isa).1 * isa.lanes();
    let macs = |n: usize| (m * n * k) as f64;
    let f32 = macs(n) / fastest(&built.kernel)?;
    let (wide, one) = (fastest(&integer(n))?, fastest(&integer(narrow))?);
    // Two equations: time = macs / rate + staging.
    let int8 = (macs(n) - macs(narrow)) / (wide - one).max(wide / 4.0);
    let staging = (one - macs(narrow) / int8).max(one / 8.0);
    Ok(Rates { f32, int8, staged: (m * k) as f64 / staging })
}

/// Seconds of the fastest run of all tasks of a kernel on this thread.
fn fastest(kernel: &Kernel) -> Result<f64, EmitError> {
    const ALIGN: usize = 64;
    let code = Code::compile(&[kernel], 1)?;
    let aligned = |b: &mut Vec<u8>| {
        let skip = b.as_ptr().align_offset(ALIGN);
        b[skip..].as_mut_ptr()
    };
    let mut buffers: Vec<Vec<u8>> = kernel.bufs.iter().map(|b| vec![0x11; b.bytes + ALIGN]).collect();
    let mut scratch = vec![0; kernel.scratch_bytes + ALIGN];
    let args: Vec<*mut u8> = buffers.iter_mut().map(aligned).collect();
    let scratch = aligned(&mut scratch);
    let run = |_| {
        let start = Instant::now();
        // SAFETY: each buffer, and the scratch, holds the declared bytes behind its aligned start; the tasks are all those of the
        // kernel.
        unsafe { code.entry(0)(args.as_ptr(), scratch, 0, kernel.tasks) };
        start.elapsed().as_secs_f64()
    };
    Ok((0..RUNS).map(run).fold(f64::INFINITY, f64::min).max(1e-9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_measured_once_and_times_grow_with_the_work() {
        let isa = Isa::host();
        let rates = Rates::of(isa);
        assert_eq!(rates, Rates::of(isa));
        assert!([rates.f32, rates.int8, rates.staged].iter().all(|r| r.is_finite() && *r > 0.0), "{rates:?}");
        let small = Extents { batch: 1, m: 49, n: 64, k: 64, inputs: 49 * 64, depthwise: false, three_by_three: None };
        let (a, b) = (rates.times(&small, isa), rates.times(&Extents { n: 640, ..small }, isa));
        assert!(a.f32 < b.f32 && a.int8 < b.int8);
    }

    #[test]
    fn one_column_is_not_worth_staging() {
        let isa = Isa::host();
        let rates = Rates { f32: 1e10, int8: 2e10, staged: 1e8 };
        let column = Extents { batch: 1, m: 1000, n: 1, k: 64, inputs: 64_000, depthwise: false, three_by_three: None };
        let times = rates.times(&column, isa);
        assert!(times.int8 > times.f32, "{times:?}");
    }
}
