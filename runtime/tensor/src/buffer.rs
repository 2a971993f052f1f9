//! Bytes aligned to a cache line, either owned or borrowed from a shared owner such as a memory map.

use std::sync::Arc;

/// The alignment of every owned buffer in bytes: one cache line, and the widest vector.
pub const ALIGN: usize = 64;

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; ALIGN]);

/// From this size on, owned bytes are pages of their own. Huge pages are asked for: a model's weights are then not found
/// missing 4 KiB at a time while they are packed, and kernels miss fewer translations.
const PAGES: usize = 1 << 20;

/// A run of bytes. Owned ones are aligned to [`ALIGN`]; borrowed ones keep their owner alive.
pub enum Buffer {
    /// Aligned bytes of our own; only the first `len` count.
    #[doc(hidden)]
    Owned { lines: Vec<LineBox>, len: usize },
    /// Pages of our own, all of whose bytes count.
    #[doc(hidden)]
    Pages(memmap2::MmapMut),
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
        if len >= PAGES
            && let Ok(pages) = memmap2::MmapMut::map_anon(len)
        {
            #[cfg(target_os = "linux")]
            let _ = pages.advise(memmap2::Advice::HugePage); // a hint: small pages do as well
            return Buffer::Pages(pages);
        }
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
            Buffer::Pages(pages) => pages,
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
            Buffer::Pages(pages) => pages,
            Buffer::Shared { .. } => unreachable!("shared bytes were copied above"),
        }
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Buffer {
        match self {
            Buffer::Owned { lines, len } => Buffer::Owned { lines: lines.clone(), len: *len },
            Buffer::Pages(pages) => Buffer::from_slice(pages),
            Buffer::Shared { owner, start, len } => Buffer::Shared { owner: owner.clone(), start: *start, len: *len },
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
            let mut buffer = Buffer::zeroed(len);
            assert!(buffer.as_slice().len() == len && buffer.as_slice().iter().all(|&b| b == 0));
            assert_eq!(buffer.as_slice().as_ptr() as usize % ALIGN, 0);
            buffer.make_mut().iter_mut().enumerate().for_each(|(i, b)| *b = i as u8);
            let copy = buffer.clone();
            buffer.make_mut().fill(7);
            assert!(copy.as_slice().iter().enumerate().all(|(i, &b)| b == i as u8));
        }
    }
}
