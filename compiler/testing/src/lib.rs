//! Helpers for tests of kernels: run one through machine code, or a plan of them, with inaccessible pages around every
//! buffer.
//!
//! The environment variable `OPTC_TEST_ISAS` names the rows of the target table that tests take, with spaces between
//! them; all of them without it. Under valgrind, which knows no AVX-512, that is `OPTC_TEST_ISAS="portable avx2"`.
//!
//! In: a kernel or a program, and bytes. Out: the bytes after it, or a process that ends where an access leaves its
//! buffer. Cases can also be written for an emulated CPU (`tools/emulate`). It is for tests alone; start below, in this
//! file, then in `rooms.rs`.

mod cases;
mod emulate;
mod plans;
mod rooms;

use std::path::Path;

pub use cases::{NamedCase, name_case};
use optc_emit::{Code, EmitError};
use optc_kernel::nest::{Access, Kernel};
use optc_kernel::target::{ISAS, Isa};
use optc_kernel::tile::Tile;
pub use plans::{GuardedError, loaded, resolve, run_guarded};
use rooms::{Rooms, SIDES, Side};

/// The rows of the target table that this machine can run and tests take; says which ones it cannot run.
///
/// # Panics
///
/// When tests take none of them.
pub fn isas() -> Vec<&'static Isa> {
    let (here, missing): (Vec<_>, Vec<_>) = all_isas().into_iter().partition(|isa| optc_emit::host::has(isa));
    missing.iter().for_each(|isa| eprintln!("skipped: this machine has no {}", isa.name));
    assert!(!here.is_empty(), "this machine has none of the instruction sets that `OPTC_TEST_ISAS` names");
    here
}

/// All rows that tests take: kernels for those that this machine cannot run go through the interpreter ([`run_here`]).
///
/// # Panics
///
/// When `OPTC_TEST_ISAS` names one that does not exist.
pub fn all_isas() -> Vec<&'static Isa> {
    let Ok(names) = std::env::var("OPTC_TEST_ISAS") else { return ISAS.iter().collect() };
    for name in names.split_whitespace() {
        assert!(Isa::by_name(name).is_some(), "`OPTC_TEST_ISAS`: there is no instruction set `{name}`");
    }
    ISAS.iter().filter(|isa| names.split_whitespace().any(|name| name == isa.name)).collect()
}

/// [`run_jit`] where this machine has the kernel's vectors, else the interpreter; if the environment variable
/// `OPTC_EMULATE` names a file, the case is then also written for an emulator of a machine that has them
/// (`tools/emulate`): of the rows that `OPTC_EMULATE_ROWS` lists, or of all.
///
/// # Errors
///
/// What the compiler refuses, an access out of bounds, or a file that cannot be written.
///
/// # Panics
///
/// As [`run_jit`] does.
pub fn run_here(kernel: &Kernel, buffers: &mut [Vec<u8>]) -> Result<(), Box<dyn std::error::Error>> {
    let here = |tile: &Tile| ISAS.iter().any(|isa| isa.runs(tile.lanes, tile.features) && optc_emit::host::has(isa));
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
    rows.is_empty() || listed.any(|isa| kernel.tiles.iter().all(|tile| isa.runs(tile.lanes, tile.features)))
}

/// The row whose kernels snapshots show: every machine has it.
pub fn portable() -> &'static Isa {
    &ISAS[ISAS.len() - 1]
}

/// Compiles a kernel and runs all its tasks, half of them by a second call: once with each buffer, and the scratch,
/// right before an inaccessible page and once right after one. An access outside of them ends the process, with the
/// kernel's name.
///
/// # Errors
///
/// What the compiler refuses.
///
/// # Panics
///
/// When a buffer's length is not the declared one, the kernel is not proven to stay within its buffers, wrote outside
/// its buffers or into a read-only one, or where they lie makes a difference.
pub fn run_jit(kernel: &Kernel, buffers: &mut [Vec<u8>]) -> Result<(), EmitError> {
    assert_eq!(buffers.len(), kernel.bufs.len(), "one buffer for each that kernel `{}` declares", kernel.name);
    for (buffer, declared) in buffers.iter().zip(&kernel.bufs) {
        assert_eq!(buffer.len(), declared.bytes, "length of buffer `{}`", declared.name);
    }
    let contents: Vec<_> =
        kernel.bufs.iter().zip(&*buffers).map(|(b, bytes)| (b.access == Access::Read).then_some(&bytes[..])).collect();
    if let Err(unproven) = kernel.prove(&contents) {
        panic!("{unproven}");
    }
    let code = Code::compile(&[kernel], 1)?;
    let _named = name_case(&described(kernel));
    let [first, second] = SIDES.map(|side| run_between_pages(kernel, &code, buffers, side));
    for (i, declared) in kernel.bufs.iter().enumerate() {
        let same = first.bytes(i) == second.bytes(i);
        assert!(same, "kernel `{}`: where buffer `{}` lies makes a difference", kernel.name, declared.name);
        buffers[i].copy_from_slice(first.bytes(i));
    }
    Ok(())
}

/// The kernel's name, its buffers, and the test that runs it.
fn described(kernel: &Kernel) -> String {
    let thread = std::thread::current();
    let bufs: Vec<_> = kernel.bufs.iter().map(|b| format!("{} of {}", b.name, b.bytes)).collect();
    let (test, bufs) = (thread.name().unwrap_or_default(), bufs.join(", "));
    format!("kernel `{}` in `{test}`: {} tasks, bytes: {bufs}", kernel.name, kernel.tasks)
}

/// Runs a kernel on copies of buffers; gives them.
fn run_between_pages(kernel: &Kernel, code: &Code, buffers: &[Vec<u8>], side: Side) -> Rooms {
    let lengths: Vec<usize> = buffers.iter().map(Vec::len).collect();
    let mut rooms = Rooms::new(&lengths, side);
    for (i, (buffer, declared)) in buffers.iter().zip(&kernel.bufs).enumerate() {
        rooms.fill(i, buffer);
        if declared.access == Access::Read {
            rooms.close(i);
        }
    }
    let scratch = Rooms::new(&[kernel.scratch_bytes], side);
    let args: Vec<*mut u8> = (0..lengths.len()).map(|i| rooms.address(i)).collect();
    for (begin, end) in [(kernel.tasks / 2, kernel.tasks), (0, kernel.tasks / 2)] {
        // SAFETY: buffers and scratch have the declared lengths (the caller has checked), are distinct, and live as
        // `code` does until the end of this function; no kernel needs them aligned to more than their elements; the
        // task range is within bounds.
        unsafe { code.entry(0)(args.as_ptr(), scratch.address(0), begin, end) };
    }
    assert!(scratch.intact(0), "kernel `{}` wrote outside of its scratch", kernel.name);
    for (i, declared) in kernel.bufs.iter().enumerate() {
        assert!(rooms.intact(i), "kernel `{}` wrote outside of buffer `{}`", kernel.name, declared.name);
    }
    rooms
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
