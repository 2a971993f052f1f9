//! Bytes aligned to a cache line, either owned or borrowed from a shared owner such as a memory map.
//!
//! Owned bytes are charged to the [account](crate::Memory) of the thread that makes them, borrowed ones are their
//! owner's.

use std::sync::Arc;

use crate::memory::{Claim, Memory, OutOfMemory};

/// The alignment of every owned buffer in bytes: one cache line, and the widest vector.
pub const ALIGN: usize = 64;

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; ALIGN]);

/// From this size on, owned bytes are pages of their own. Huge pages are asked for: a model's weights are then not
/// found missing 4 KiB at a time while they are packed, and kernels miss fewer translations.
const PAGES: usize = 1 << 20;

/// A run of bytes. Owned ones are aligned to [`ALIGN`]; borrowed ones keep their owner alive.
pub enum Buffer {
    /// Aligned bytes of our own; only the first `len` count.
    #[doc(hidden)]
    Owned { lines: Vec<LineBox>, len: usize, claim: Claim },
    /// Pages of our own, all of whose bytes count.
    #[doc(hidden)]
    Pages { pages: memmap2::MmapMut, claim: Claim },
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
    ///
    /// # Errors
    /// They do not fit the account, or the system does not give them.
    pub fn zeroed(len: usize) -> Result<Buffer, OutOfMemory> {
        let memory = Memory::current();
        let claim = memory.claim(len)?;
        if len < PAGES {
            let lines = bytemuck::allocation::zeroed_vec(len.div_ceil(ALIGN));
            return Ok(Buffer::Owned { lines, len, claim });
        }
        let refused = |_| OutOfMemory { asked: len, used: memory.used() - len, limit: memory.limit() };
        let pages = memmap2::MmapMut::map_anon(len).map_err(refused)?;
        #[cfg(target_os = "linux")]
        let _ = pages.advise(memmap2::Advice::HugePage); // a hint: small pages do as well
        Ok(Buffer::Pages { pages, claim })
    }

    /// A copy of `bytes`.
    ///
    /// # Errors
    /// As [`Buffer::zeroed`].
    pub fn from_slice(bytes: &[u8]) -> Result<Buffer, OutOfMemory> {
        let mut buffer = Buffer::zeroed(bytes.len())?;
        buffer.own_mut().copy_from_slice(bytes);
        Ok(buffer)
    }

    /// `len` bytes at `start` of `owner`, without a copy. `None` when they lie outside of it.
    pub fn shared(owner: Arc<dyn AsRef<[u8]> + Send + Sync>, start: usize, len: usize) -> Option<Buffer> {
        let end = start.checked_add(len)?;
        (end <= (*owner).as_ref().len()).then_some(Buffer::Shared { owner, start, len })
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Buffer::Owned { lines, len, .. } => &bytemuck::cast_slice(lines)[..*len],
            Buffer::Pages { pages, .. } => pages,
            Buffer::Shared { owner, start, len } => &(**owner).as_ref()[*start..*start + *len],
        }
    }

    /// The bytes, writable; borrowed bytes are copied first.
    ///
    /// # Errors
    /// There is no memory for the copy.
    pub fn make_mut(&mut self) -> Result<&mut [u8], OutOfMemory> {
        if let Buffer::Shared { .. } = self {
            *self = self.copied()?;
        }
        Ok(self.own_mut())
    }

    /// A copy that borrows nothing.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn copied(&self) -> Result<Buffer, OutOfMemory> {
        Buffer::from_slice(self.as_slice())
    }

    /// The bytes of a buffer that owns them, writable; none of one that borrows.
    pub fn own_mut(&mut self) -> &mut [u8] {
        match self {
            Buffer::Owned { lines, len, .. } => &mut bytemuck::cast_slice_mut(lines)[..*len],
            Buffer::Pages { pages, .. } => pages,
            Buffer::Shared { .. } => &mut [],
        }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.as_slice().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_of_every_size_are_zeroed_aligned_and_copied() {
        for len in [0, 1, ALIGN + 1, PAGES - 1, PAGES, 3 * PAGES + 5] {
            let mut buffer = Buffer::zeroed(len).unwrap();
            assert!(buffer.as_slice().len() == len && buffer.as_slice().iter().all(|&b| b == 0));
            assert_eq!(buffer.as_slice().as_ptr() as usize % ALIGN, 0);
            buffer.make_mut().unwrap().iter_mut().enumerate().for_each(|(i, b)| *b = i as u8);
            let copy = buffer.copied().unwrap();
            buffer.make_mut().unwrap().fill(7);
            assert!(copy.as_slice().iter().enumerate().all(|(i, &b)| b == i as u8));
        }
    }
}
