//! Helpers for tests of kernels: run one through machine code with guard bytes around every buffer.

mod emulate;

use crate::emit::{Code, EmitError};
use crate::nest::{Access, Kernel};
use crate::target::{ISAS, Isa};
use crate::tile::Tile;
use std::path::Path;

/// Bytes before and after each buffer; a multiple of the alignment of buffers.
const GUARD: usize = 256;
const FILL: u8 = 0xc3;

/// A buffer aligned to 64 bytes between guards.
struct Guarded {
    raw: Vec<u8>,
    start: usize,
    len: usize,
}

impl Guarded {
    fn new(bytes: &[u8]) -> Guarded {
        let mut raw = vec![FILL; bytes.len() + 2 * GUARD + 64];
        let start = GUARD + raw.as_ptr().align_offset(64);
        raw[start..start + bytes.len()].copy_from_slice(bytes);
        Guarded { raw, start, len: bytes.len() }
    }

    fn bytes(&self) -> &[u8] {
        &self.raw[self.start..self.start + self.len]
    }

    fn intact(&self) -> bool {
        let (before, rest) = self.raw.split_at(self.start);
        before.iter().chain(&rest[self.len..]).all(|&b| b == FILL)
    }
}

/// The rows of the target table that this machine can run; says which ones it cannot.
pub fn isas() -> Vec<&'static Isa> {
    let (here, missing): (Vec<_>, Vec<_>) = ISAS.iter().partition(|isa| (isa.detect)());
    missing.iter().for_each(|isa| eprintln!("skipped: this machine has no {}", isa.name));
    here
}

/// All rows: kernels for those that this machine cannot run go through the interpreter ([`run_here`]).
pub fn all_isas() -> Vec<&'static Isa> {
    ISAS.iter().collect()
}

/// [`run_jit`] where this machine has the kernel's vectors, else the interpreter; if the environment variable `OPTC_EMULATE`
/// names a file, the case is then also written for an emulator of a machine that has them (`tools/emulate`): of the rows that
/// `OPTC_EMULATE_ROWS` lists, or of all.
///
/// # Errors
///
/// What the compiler refuses, an access out of bounds, or a file that cannot be written.
///
/// # Panics
///
/// As [`run_jit`] does.
pub fn run_here(kernel: &Kernel, buffers: &mut [Vec<u8>]) -> Result<(), Box<dyn std::error::Error>> {
    let here = |tile: &Tile| ISAS.iter().any(|isa| isa.runs(tile.lanes, tile.level) && (isa.detect)());
    if kernel.tiles.iter().all(here) {
        run_jit(kernel, buffers)?;
    } else {
        match std::env::var_os("OPTC_EMULATE") {
            Some(path) if emulated(kernel) => emulate::record(Path::new(&path), kernel, buffers)?,
            _ => kernel.interpret(buffers)?,
        }
    }
    Ok(())
}

/// Whether a row that `OPTC_EMULATE_ROWS` lists has the kernel's tiles.
fn emulated(kernel: &Kernel) -> bool {
    let rows = std::env::var("OPTC_EMULATE_ROWS").unwrap_or_default();
    let mut listed = rows.split_whitespace().filter_map(Isa::by_name);
    rows.is_empty() || listed.any(|isa| kernel.tiles.iter().all(|tile| isa.runs(tile.lanes, tile.level)))
}

/// The row whose kernels snapshots show: every machine has it.
pub fn portable() -> &'static Isa {
    &ISAS[ISAS.len() - 1]
}

/// Compiles a kernel and runs all its tasks, half of them by a second call.
///
/// # Errors
///
/// What the compiler refuses.
///
/// # Panics
///
/// When a buffer's length is not the declared one, the kernel wrote outside of its buffers, or into a read-only one.
pub fn run_jit(kernel: &Kernel, buffers: &mut [Vec<u8>]) -> Result<(), EmitError> {
    assert_eq!(buffers.len(), kernel.bufs.len(), "one buffer for each that kernel `{}` declares", kernel.name);
    for (buffer, declared) in buffers.iter().zip(&kernel.bufs) {
        assert_eq!(buffer.len(), declared.bytes, "length of buffer `{}`", declared.name);
    }
    let code = Code::compile(&[kernel], 1)?;
    let mut guarded: Vec<_> = buffers.iter().map(|b| Guarded::new(b)).collect();
    let mut scratch = Guarded::new(&vec![0xa5; kernel.scratch_bytes]);
    let args: Vec<*mut u8> = guarded.iter_mut().map(|g| g.raw[g.start..].as_mut_ptr()).collect();
    let scratch_ptr = scratch.raw[scratch.start..].as_mut_ptr();
    for (begin, end) in [(kernel.tasks / 2, kernel.tasks), (0, kernel.tasks / 2)] {
        // SAFETY: buffers and scratch have the declared lengths (checked above) and alignment, are distinct, and live
        // as `code` does until the end of this function; the task range is within bounds.
        unsafe { code.entry(0)(args.as_ptr(), scratch_ptr, begin, end) };
    }
    assert!(scratch.intact(), "kernel `{}` wrote outside of its scratch", kernel.name);
    for ((guarded, buffer), declared) in guarded.iter().zip(buffers).zip(&kernel.bufs) {
        assert!(guarded.intact(), "kernel `{}` wrote outside of buffer `{}`", kernel.name, declared.name);
        if declared.access == Access::Read {
            assert_eq!(guarded.bytes(), &buffer[..], "read-only buffer `{}` was written", declared.name);
        }
        buffer.copy_from_slice(guarded.bytes());
    }
    Ok(())
}

/// The bytes of floats.
pub fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// The floats in bytes.
pub fn floats_of(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|c| f32::from_le_bytes(*c)).collect()
}

/// Deterministic floats in -1..1.
pub fn random_floats(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}
