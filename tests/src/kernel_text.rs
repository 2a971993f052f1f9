//! Kernels as filetests spell them, called like `@sum(f32[1, 2], f32[3, 4], f32[0, 0]) == f32[4, 6] ~ 1e-6`: bytes of
//! all buffers before, and of those that are written after.

use iced_x86::{Code, Decoder, DecoderOptions, FastFormatter};
use optc_kernel::nest::{Access, Kernel, parse_kernel};
use optc_kernel::target::Isa;
use optc_kernel::tile::Tile;
use optc_tensor::{DType, Difference, Tensor};

use crate::TestFailure;
use crate::literal::{Parts, code, numbers, parts, run_lines};

/// Checks each `// run:` line of a kernel's text: by the interpreter, and compiled on every row of this machine that
/// has its vectors, between inaccessible pages.
///
/// # Errors
/// The text is not a kernel, a line is malformed, or a call gives something else.
pub fn check_runs(text: &str) -> Result<(), TestFailure> {
    let kernel = parse_kernel(&code(text)).map_err(|e| e.to_string())?;
    for line in run_lines(text)? {
        check_run(&kernel, line).map_err(|e| format!("`{line}`: {e}"))?;
    }
    Ok(())
}

fn check_run(kernel: &Kernel, line: &str) -> Result<(), TestFailure> {
    let Parts { arguments, results, tolerance } = parts(line, &kernel.name)?;
    let arguments = tensors(arguments)?;
    let before: Vec<Vec<u8>> = arguments.iter().map(|t| t.bytes().to_vec()).collect();
    let lengths: Vec<usize> = kernel.bufs.iter().map(|b| b.bytes).collect();
    if before.iter().map(Vec::len).ne(lengths.iter().copied()) {
        return Err(format!("the buffers have {lengths:?} bytes").into());
    }
    let expected = tensors(results)?;
    let mut interpreted = before.clone();
    kernel.interpret(&mut interpreted)?;
    compare(kernel, &interpreted, &expected, tolerance).map_err(|e| format!("interpreter: {e}"))?;
    let mut compiled = before;
    optc_testing::run_here(kernel, &mut compiled)?;
    compare(kernel, &compiled, &expected, tolerance).map_err(|e| format!("compiled: {e}").into())
}

/// Compares the buffers that a kernel writes.
fn compare(kernel: &Kernel, found: &[Vec<u8>], expected: &[Tensor], tolerance: f64) -> Result<(), TestFailure> {
    let written: Vec<_> = kernel.bufs.iter().zip(found).filter(|(b, _)| b.access != Access::Read).collect();
    if written.len() != expected.len() {
        return Err(format!("{} buffers are written, {} expected", written.len(), expected.len()).into());
    }
    for ((buf, bytes), expected) in written.into_iter().zip(expected) {
        let found = Tensor::from_bytes(expected.dtype(), expected.shape(), bytes)?;
        let near = Difference::between(&found, expected, tolerance, tolerance);
        if !near.is_some_and(|d| d.within_tolerance()) {
            return Err(format!("`{}` is {found:?}, expected {expected:?}", buf.name).into());
        }
    }
    Ok(())
}

/// `f32[1, 2], i32[3]` as tensors of one dim.
fn tensors(text: &str) -> Result<Vec<Tensor>, TestFailure> {
    let items = text.split(']').map(|item| item.trim().trim_start_matches(',').trim()).filter(|item| !item.is_empty());
    items
        .map(|item| {
            let (dtype, values) = item.split_once('[').ok_or_else(|| format!("expected `dtype[...]`, not `{item}`"))?;
            let dtype = DType::parse(dtype.trim()).ok_or_else(|| format!("`{dtype}` is no dtype"))?;
            let values = numbers(values)?;
            Ok(Tensor::from_f64(dtype, &[values.len()], &values)?)
        })
        .collect()
}

/// The machine code of a kernel's tiles for a row of the target table that has an encoder of its own, disassembled.
///
/// # Errors
/// The text is not a kernel, there is no such row, or its vectors are others.
pub fn disassembled(text: &str, row: &str) -> Result<String, TestFailure> {
    let kernel = parse_kernel(&code(text)).map_err(|e| e.to_string())?;
    let isa = Isa::by_name(row).ok_or_else(|| format!("there is no target `{row}`"))?;
    kernel.tiles.iter().map(|tile| listing(tile, isa)).collect()
}

/// The machine code of a tile for a row of the target table that has an encoder of its own, disassembled.
///
/// # Errors
/// The row's vectors are others.
pub fn listing(tile: &Tile, isa: &Isa) -> Result<String, TestFailure> {
    if !isa.runs(tile.lanes, tile.features) {
        return Err(format!("tile `{}` has other vectors than {}", tile.name, isa.name).into());
    }
    let bytes = optc_emit::tile_code(tile).map_err(|e| e.to_string())?;
    let mut printed = format!("{}:\n", tile.name);
    let mut formatter = FastFormatter::new();
    // Padding and constants follow the code.
    let code = Decoder::with_ip(64, &bytes, 0, DecoderOptions::NONE).into_iter().take_while(|i| i.code() != Code::Int3);
    for instruction in code {
        printed.push_str("  ");
        formatter.format(&instruction, &mut printed);
        printed.push('\n');
    }
    Ok(printed)
}
