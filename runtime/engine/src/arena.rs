//! The memory of intermediate values and of the workers.

use optc_tensor::{ALIGN, DType, Tensor, TensorError};

use crate::RunError;

/// Bytes aligned to a cache line that grow and never shrink: arenas and scratch.
#[derive(Debug, Default)]
pub struct Arena {
    tensor: Option<Tensor>,
    /// The address of bytes that somebody else keeps, and how many they are: these, and no others.
    given: Option<(usize, usize)>,
}

impl Arena {
    /// An arena over `bytes` bytes from `at` on that the caller keeps, which runs that need more of them refuse: for
    /// hosts that place memory themselves, and tests that put inaccessible pages between buffers.
    ///
    /// # Safety
    /// The bytes live as long as any run in the arena, and nobody else uses them meanwhile. Those that a plan's buffers
    /// have, or for an executor's scratch all of them, can be read, and written where the plan writes.
    pub unsafe fn over(at: *mut u8, bytes: usize) -> Arena {
        Arena { tensor: None, given: Some((at.expose_provenance(), bytes)) }
    }

    /// The address of at least `bytes` bytes.
    pub(crate) fn reserve(&mut self, bytes: usize) -> Result<*mut u8, RunError> {
        if let Some((at, have)) = self.given {
            let enough = bytes <= have;
            return enough
                .then(|| std::ptr::with_exposed_provenance_mut(at))
                .ok_or(TensorError::TooLarge(vec![bytes]).into());
        }
        if self.tensor.as_ref().is_none_or(|t| t.len() < bytes) {
            self.tensor = None;
            self.tensor = Some(Tensor::zeros(DType::U8, &[bytes.next_multiple_of(ALIGN)])?);
        }
        match &mut self.tensor {
            Some(tensor) => Ok(tensor.bytes_mut()?.as_mut_ptr()),
            None => Ok(std::ptr::null_mut()),
        }
    }
}
