//! Cases for `tools/emulate`: the machine code of a kernel's tiles, the calls that its nest makes, and memory before
//! and after.
//!
//! A case is a header of 64-bit words (length of the case, of the code, of the memory, number of calls), padded to 64
//! bytes as each of the parts after it is: the code, the memory before, the memory after, and the calls. A call is 24
//! words: where its code begins, how many arguments it has, and the arguments. Pointers are those of memory that begins
//! at [`MEMORY`].

use std::error::Error;
use std::io::Write as _;
use std::path::Path;

use optc_emit::tile_code;
use optc_kernel::nest::Kernel;
use optc_kernel::tile::interp::Address;

/// Where the runner has the memory of a case.
const MEMORY: u64 = 0x1000_0000;
/// Bytes before, between and after the buffers.
const GUARD: usize = 128;
/// Arguments of a call at most.
const ARGUMENTS: usize = 22;
const ALIGN: usize = 64;

/// Interprets a kernel, and appends what it did to the file. Kernels with tiles of 128 bits, which Cranelift compiles,
/// are only interpreted.
pub(super) fn record(path: &Path, kernel: &Kernel, buffers: &mut [Vec<u8>]) -> Result<(), Box<dyn Error>> {
    let (mut code, mut starts) = (Vec::new(), Vec::new());
    for tile in &kernel.tiles {
        if tile.lanes == super::portable().lanes() {
            return Ok(kernel.interpret(buffers)?);
        }
        starts.push(code.len() as u64);
        code.extend(tile_code(tile)?);
        pad(&mut code);
    }
    let mut calls = Vec::new();
    let places = places(buffers);
    let before = image(buffers, &vec![0xa5; kernel.scratch_bytes]);
    let mut watch = |tile: usize, ptrs: &[Address], counts: &[i64]| {
        let pointer = |p: &Address| (MEMORY + places[p.buffer]).wrapping_add(p.offset as u64);
        let arguments: Vec<u64> = ptrs.iter().map(pointer).chain(counts.iter().map(|&c| c as u64)).collect();
        calls.push((starts[tile], arguments));
    };
    let scratch = kernel.interpret_with(buffers, &mut watch)?;
    let after = image(buffers, &scratch);
    let mut bytes = vec![0; ALIGN];
    bytes.extend(&code);
    bytes.extend(&before);
    bytes.extend(&after);
    for (start, arguments) in &calls {
        let mut words = vec![*start, arguments.len() as u64];
        words.extend(arguments);
        if arguments.len() > ARGUMENTS {
            return Err("a tile has more arguments than the runner passes".into());
        }
        words.resize(2 + ARGUMENTS, 0);
        bytes.extend(words.iter().flat_map(|w| w.to_le_bytes()));
    }
    for (i, word) in [bytes.len(), code.len(), before.len(), calls.len()].into_iter().enumerate() {
        bytes[8 * i..][..8].copy_from_slice(&(word as u64).to_le_bytes());
    }
    Ok(std::fs::OpenOptions::new().create(true).append(true).open(path)?.write_all(&bytes)?)
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(ALIGN), 0xcc);
}

/// Where each buffer is in the image; the last place is that of the scratch.
fn places(buffers: &[Vec<u8>]) -> Vec<u64> {
    let mut at = GUARD;
    let mut places = vec![at as u64];
    for buffer in buffers {
        at = (at + buffer.len()).next_multiple_of(ALIGN) + GUARD;
        places.push(at as u64);
    }
    places
}

/// The memory of a case: buffers and scratch between guards.
fn image(buffers: &[Vec<u8>], scratch: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for buffer in buffers.iter().map(Vec::as_slice).chain([scratch]) {
        bytes.resize(bytes.len() + GUARD, 0xc3);
        bytes.extend(buffer);
        bytes.resize(bytes.len().next_multiple_of(ALIGN), 0xc3);
    }
    bytes.resize(bytes.len() + GUARD, 0xc3);
    bytes
}
