//! A kernel with buffers of its own, to be timed: what measurements of the machine are made of.

use std::time::Instant;

use optc_emit::{Code, EmitError};
use optc_kernel::nest::Kernel;

/// Alignment of the buffers, which kernels rely on.
const ALIGN: usize = 64;

/// A compiled kernel, its buffers and its scratch.
#[derive(Debug)]
pub(crate) struct Timed {
    code: Code,
    buffers: Vec<Vec<u8>>,
    scratch: Vec<u8>,
    tasks: u64,
}

impl Timed {
    /// Compiles a kernel.
    ///
    /// # Errors
    /// The host cannot be compiled for.
    pub fn new(kernel: &Kernel) -> Result<Timed, EmitError> {
        let code = Code::compile(&[kernel], 1)?;
        // Not zeros: fresh pages of zeros are all the same memory, which slows the loads down.
        let buffers = kernel.bufs.iter().map(|b| vec![0x11; b.bytes + ALIGN]).collect();
        Ok(Timed { code, buffers, scratch: vec![0; kernel.scratch_bytes + ALIGN], tasks: kernel.tasks })
    }

    /// Puts bytes into a buffer.
    pub fn fill(&mut self, buffer: usize, bytes: &[u8]) {
        let buffer = &mut self.buffers[buffer];
        let skip = buffer.as_ptr().align_offset(ALIGN);
        buffer[skip..][..bytes.len()].copy_from_slice(bytes);
    }

    /// Seconds of a run of all tasks on this thread.
    pub fn seconds(&mut self) -> f64 {
        let aligned = |b: &mut Vec<u8>| {
            let skip = b.as_ptr().align_offset(ALIGN);
            b[skip..].as_mut_ptr()
        };
        let args: Vec<*mut u8> = self.buffers.iter_mut().map(aligned).collect();
        let scratch = aligned(&mut self.scratch);
        let start = Instant::now();
        // SAFETY: each buffer, and the scratch, holds the declared bytes from its aligned start on; the tasks are all
        // those of the kernel.
        unsafe { self.code.entry(0)(args.as_ptr(), scratch, 0, self.tasks) };
        start.elapsed().as_secs_f64()
    }
}
