//! Measures the [figures](Figures) of an instruction set on this machine: what a profile of it is made of. Nothing that
//! compiles a model calls this.

use optc_emit::EmitError;
use optc_kernel::nest::Kernel;
use optc_kernel::target::Isa;
use optc_kernel::tile::MemType;
use optc_kernels::contract::{self, Contract, ConvNest, contract};
use optc_kernels::int8::{Int8Form, Int8Schedule, NarrowProduct, product};
use optc_kernels::movement::{Movement, Piece, PiecePlace, Source, movement};
use optc_kernels::profile::{Figures, SPARSE, SparseFigures};
use optc_kernels::spmm::{self, Bcsr, Spmm, Weights, spmm};
use optc_kernels::window::Axis;
use optc_kernels::winograd::{F4, Winograd};

use crate::peak::load_level;
use crate::timed::Timed;

/// Rows, columns and depth of the products that are timed, and how often they are run: the fastest run counts.
const SIZE: (usize, usize, usize) = (96, 96, 512);
const RUNS: usize = 50;
/// Rows, depth and pixels of the sparse products that are timed: rows of pixels are not a power of two apart, which
/// would put them all into a few lines of the caches.
const SPARSE_SIZE: (usize, usize, usize) = (128, 128, 1152);
/// Rows, columns and channels of the filtered convolution whose transforms are timed.
const FILTERED: (usize, usize) = (28, 128);
/// Bytes of the copy that is timed, and of the memory that weights come from.
const COPIED: usize = 4 << 20;
const DRAM: usize = 64 << 20;
/// Columns of the sparse products that have blocks, in hundredths: two equations for two figures.
const FULL: [usize; 2] = [10, 50];

/// Measures the figures of an instruction set that this machine has, on one thread and in less than a second.
///
/// # Errors
/// The host cannot be compiled for.
pub fn measure(isa: &'static Isa) -> Result<Figures, EmitError> {
    let (m, n, k) = SIZE;
    let float = Contract::matmul(1, m, n, k);
    let schedule = contract::ContractSchedule::choose(&float, isa, &optc_emit::host::caches());
    let built = contract(&float, isa, schedule);
    let built = built.expect("rows a stride apart need no table, whose offsets could be too large");
    let f32 = (m * n * k) as f64 / fastest(&built.kernel)?;
    let (int8, staged) = narrow(isa, Int8Form::choose(isa, m, true))?;
    let (bf16, rounded) = narrow(isa, Int8Form::bf16(isa, m, k, true))?;
    let copied = whole(COPIED as f64 / fastest(&copy(isa))?);
    let filtered = whole(transforms(isa)?);
    let weights = whole(1e3 * load_level("DRAM", DRAM)?.gb_per_s);
    let mut sparse = [SparseFigures { int8: false, rows: 0, cols: 0, call: 0, block: 0 }; SPARSE.len()];
    for (figures, kind) in sparse.iter_mut().zip(SPARSE) {
        *figures = blocks(isa, kind)?;
    }
    let [f32, int8, bf16, staged, rounded] = [f32, int8, bf16, staged, rounded].map(whole);
    Ok(Figures { f32, int8, bf16, staged, rounded, copied, filtered, weights, sparse })
}

/// Multiply-adds in a microsecond of a product of narrow numbers, and the elements that are staged for it.
fn narrow(isa: &Isa, form: Int8Form) -> Result<(f64, f64), EmitError> {
    let ((m, n, k), caches) = (SIZE, optc_emit::host::caches());
    let kernel = |n: usize| {
        let problem = NarrowProduct::points(m, n, k, form);
        product(&problem, isa, Int8Schedule::choose(&problem, isa, &caches))
    };
    // One panel's results for as many rows: what is left of the time is staging.
    let panel = form.tile(isa).1 * isa.lanes();
    let macs = |n: usize| (m * n * k) as f64;
    let (wide, one) = (fastest(&kernel(n))?, fastest(&kernel(panel))?);
    // Two equations: time = macs / rate + staging.
    let rate = (macs(n) - macs(panel)) / (wide - one).max(wide / 4.0);
    let staging = (one - macs(panel) / rate).max(one / 8.0);
    Ok((rate, (m * k) as f64 / staging))
}

/// A copy that makes channels last of channels first.
fn copy(isa: &Isa) -> Kernel {
    let (channels, pixels) = (64, COPIED / 4 / 64);
    let piece = Piece {
        shape: vec![pixels, channels],
        source: Source::Copy(0, PiecePlace { offset: 0, strides: vec![4, 4 * pixels as i64] }),
        dst: PiecePlace { offset: 0, strides: vec![4 * channels as i64, 4] },
    };
    movement(&Movement { width: 4, sources: vec![COPIED], dst_bytes: COPIED, pieces: vec![piece] }, isa)
}

/// Bytes of values that the transforms of a filtered convolution write and read in a microsecond.
fn transforms(isa: &Isa) -> Result<f64, EmitError> {
    let (side, channels) = FILTERED;
    let axis = Axis { size: side, out: side, kernel: 3, pads: [1, 1], ..Axis::NONE };
    let conv = ConvNest::channels_last(1, channels, channels, 1, [Axis::NONE, axis, axis]);
    let winograd = Winograd::of(&conv, &F4).expect("a 3x3 convolution of `f32` without strides");
    let input = winograd.input(isa);
    let mut before = Timed::new(&input.kernel)?;
    if let Some(table) = &input.table {
        before.fill(1, table);
    }
    let time = best(&mut before) + fastest(&winograd.output(isa))?;
    Ok(winograd.bytes().iter().sum::<usize>() as f64 / time)
}

/// A sparse product with two shares of blocks: time = calls · call + blocks of all tiles · block.
fn blocks(isa: &Isa, (int8, rows, cols): (bool, u8, u8)) -> Result<SparseFigures, EmitError> {
    let (m, k, n) = SPARSE_SIZE;
    let (r, c) = (usize::from(rows), usize::from(cols));
    let tiles = n / (spmm::vectors_of(r) * isa.lanes());
    let timed = |percent: usize| -> Result<(f64, f64), EmitError> {
        let full = |row: usize, column: usize| (column / c * 7 + row / r * 3) % 100 < percent;
        let values: Vec<i16> = (0..m * k).map(|i| i16::from(full(i / k, i % k))).collect();
        let (form, width) = if int8 { (spmm::SparseForm::of_bytes(c, false), 1) } else { (spmm::SparseForm::Float, 4) };
        let weights = match int8 {
            true => Weights::Integers { weights: Bcsr::with_blocks(&values, (m, k), (r, c)), zero: 0 },
            false => {
                let floats: Vec<f32> = values.iter().map(|&v| f32::from(v)).collect();
                Weights::Floats(Bcsr::with_blocks(&floats, (m, k), (r, c)))
            }
        };
        let product = Spmm {
            x: spmm::MatrixPlace { bytes: width * k * n, offset: 0, batch_stride: 0 },
            form,
            x_rows: (0..k / c).map(|column| (column * c * n * width) as i64).collect(),
            c_mem: if int8 { MemType::I32 } else { MemType::F32 },
            ..Spmm::product(1, m, n, k)
        };
        let count = weights.extents().blocks;
        let built = spmm(&product, &weights, isa).expect("a few hundred KiB are in reach");
        let mut kernel = Timed::new(&built.kernel)?;
        kernel.fill(0, &built.stream);
        Ok((1e3 * best(&mut kernel), (tiles * count) as f64))
    };
    let [(few, a), (many, b)] = [timed(FULL[0])?, timed(FULL[1])?];
    let block = ((many - few) / (b - a)).max(1e-3);
    let call = ((few - a * block) / (tiles * m / r) as f64).max(0.0);
    Ok(SparseFigures {
        int8,
        rows,
        cols,
        call: (1e3 * call).round() as u32,
        block: (1e3 * block).round().max(1.0) as u32,
    })
}

/// Microseconds of the fastest run of a kernel.
fn fastest(kernel: &Kernel) -> Result<f64, EmitError> {
    Ok(best(&mut Timed::new(kernel)?))
}

fn best(timed: &mut Timed) -> f64 {
    (0..RUNS).map(|_| 1e6 * timed.seconds()).fold(f64::INFINITY, f64::min).max(1e-3)
}

/// A rate as it stands in a profile.
fn whole(rate: f64) -> u32 {
    rate.round().clamp(1.0, f64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use optc_kernel::target::ISAS;

    use super::*;

    #[test]
    fn every_row_of_the_machine_can_be_measured() {
        for isa in ISAS.iter().filter(|isa| optc_emit::host::has(isa)) {
            assert_eq!(measure(isa).unwrap().fault(), None, "{}", isa.name);
        }
    }
}
