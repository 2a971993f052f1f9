//! Bytes aligned to a cache line, either owned or borrowed from a shared owner such as a memory map.

use std::sync::Arc;

/// The alignment of every owned buffer in bytes: one cache line, and the widest vector.
pub const ALIGN: usize = 64;

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; ALIGN]);

/// A run of bytes. Owned ones are aligned to [`ALIGN`]; borrowed ones keep their owner alive.
#[derive(Clone)]
pub enum Buffer {
    /// Aligned bytes of our own; only the first `len` count.
    #[doc(hidden)]
    Owned { lines: Vec<LineBox>, len: usize },
    /// `start..start + len` of another owner's bytes.
    #[doc(hidden)]
    Shared { owner: Arc<dyn AsRef<[u8]> + Send + Sync>, start: usize, len: usize },
}

/// One aligned cache line; opaque outside this module.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
#[doc(hidden)]
pub struct LineBox(Line);

impl Buffer {
    /// `len` zero bytes.
    pub fn zeroed(len: usize) -> Buffer {
        Buffer::Owned { lines: bytemuck::allocation::zeroed_vec(len.div_ceil(ALIGN)), len }
    }

    /// A copy of `bytes`.
    pub fn from_slice(bytes: &[u8]) -> Buffer {
        let mut buffer = Buffer::zeroed(bytes.len());
        buffer.make_mut().copy_from_slice(bytes);
        buffer
    }

    /// `len` bytes at `start` of `owner`, without a copy. `None` when they lie outside of it.
    pub fn shared(owner: Arc<dyn AsRef<[u8]> + Send + Sync>, start: usize, len: usize) -> Option<Buffer> {
        let end = start.checked_add(len)?;
        (end <= (*owner).as_ref().len()).then_some(Buffer::Shared { owner, start, len })
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Buffer::Owned { lines, len } => &bytemuck::cast_slice(lines)[..*len],
            Buffer::Shared { owner, start, len } => &(**owner).as_ref()[*start..*start + *len],
        }
    }

    /// The bytes, writable; borrowed bytes are copied first.
    pub fn make_mut(&mut self) -> &mut [u8] {
        if let Buffer::Shared { .. } = self {
            *self = Buffer::from_slice(self.as_slice());
        }
        match self {
            Buffer::Owned { lines, len } => &mut bytemuck::cast_slice_mut(lines)[..*len],
            Buffer::Shared { .. } => unreachable!("shared bytes were copied above"),
        }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.as_slice().len())
    }
}
