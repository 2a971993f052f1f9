//! Machine code as bytes, and as memory that can be called.
//!
//! [`MachineCode`] is a value: position-independent functions, one after the other, that call only each other. It may
//! come from the code generator of this process or from a file. [`Executable`] is a copy of it that the CPU may run:
//! memory is writable or executable, never both, and one piece, so that calls within it always reach.

use crate::kernel::KernelFn;
use crate::plan::KernelCode;

/// Functions of a batch of kernels, linked to each other. See the [module](self).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MachineCode {
    /// The instructions.
    pub text: Vec<u8>,
    /// Where in the text each kernel begins, by its number.
    pub entries: Vec<usize>,
}

/// Machine code in memory of its own, ready to run; it is given back when this is dropped.
#[derive(Debug)]
pub struct Executable {
    /// `None` for no code at all: an empty map is an error on some systems.
    memory: Option<memmap2::Mmap>,
    entries: Vec<usize>,
}

impl Executable {
    /// Copies code to where it may be run.
    ///
    /// # Safety
    /// Each entry must be the first instruction of a function that keeps to the contract of [`KernelFn`] on this CPU,
    /// for the buffers, tasks and scratch of every step that will name it.
    ///
    /// # Errors
    /// The system refuses the memory, or makes none of it executable.
    pub unsafe fn new(code: &MachineCode) -> std::io::Result<Executable> {
        if code.text.is_empty() {
            return Ok(Executable { memory: None, entries: Vec::new() });
        }
        let mut memory = memmap2::MmapMut::map_anon(code.text.len())?;
        memory.copy_from_slice(&code.text);
        // SAFETY: the range is that of the map, which lives; cleaning caches changes no byte of it.
        unsafe { wasmtime_internal_jit_icache_coherence::clear_cache(memory.as_ptr().cast(), memory.len()) }?;
        let memory = memory.make_exec()?;
        wasmtime_internal_jit_icache_coherence::pipeline_flush_mt()?;
        Ok(Executable { memory: Some(memory), entries: code.entries.clone() })
    }
}

// SAFETY: whoever made it has promised that the entries keep to the contract (`Executable::new`); the memory lives as
// long as `self`, and is never written to again.
unsafe impl KernelCode for Executable {
    fn entry(&self, kernel: usize) -> KernelFn {
        let text: &[u8] = self.memory.as_deref().unwrap_or(&[]);
        let function = text[self.entries[kernel]..].as_ptr();
        // SAFETY: a function with this signature begins there (`Executable::new`).
        unsafe { std::mem::transmute::<*const u8, KernelFn>(function) }
    }

    fn pieces(&self) -> Vec<(usize, usize)> {
        self.memory.as_deref().map(|text| (text.as_ptr().addr(), text.len())).into_iter().collect()
    }
}
