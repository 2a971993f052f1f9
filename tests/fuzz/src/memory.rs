//! The allocator: a limit on memory, and buffers that end where no page is.
//!
//! What is aligned like the buffers of tensors gets pages of its own, and the page after them cannot be accessed: a
//! kernel that reads or writes a vector past the end of its buffer ends the process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most memory that may be allocated at once.
const BYTES: usize = 2 << 30;
/// A multiple of the size of a page on every machine that is fuzzed on.
const PAGE: usize = 4096;
/// Alignments of the buffers of tensors.
const BUFFERS: std::ops::RangeInclusive<usize> = optc_tensor::ALIGN..=PAGE;

/// Counts what is allocated, and refuses beyond the limit; a refused allocation of Rust's collections aborts.
struct Capped;

static USED: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Capped = Capped;

impl Capped {
    /// Takes `size` bytes from what is left, if there are that many.
    fn take(size: usize) -> bool {
        let fits = USED.fetch_add(size, Ordering::Relaxed) <= BYTES - size.min(BYTES);
        if !fits {
            USED.fetch_sub(size, Ordering::Relaxed);
        }
        fits
    }
}

// SAFETY: a buffer is mapped and unmapped by `guarded` and `release`, which agree on its pages by its layout;
// everything else is passed on to `System`. A null pointer is how an allocator refuses.
unsafe impl GlobalAlloc for Capped {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match Capped::take(layout.size()) {
            false => std::ptr::null_mut(),
            true if BUFFERS.contains(&layout.align()) => guarded(layout),
            // SAFETY: the caller's layout, as it came.
            true => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match Capped::take(layout.size()) {
            false => std::ptr::null_mut(),
            true if BUFFERS.contains(&layout.align()) => guarded(layout),
            // SAFETY: the caller's layout, as it came.
            true => unsafe { System.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
        if BUFFERS.contains(&layout.align()) {
            // SAFETY: the pointer came from `guarded` with this layout.
            unsafe { release(pointer, layout) };
        } else {
            // SAFETY: the pointer came from `System` with this layout.
            unsafe { System.dealloc(pointer, layout) };
        }
    }
}

/// The bytes of whole pages that hold a buffer, and where in them it begins, so that it ends at their end.
fn pages(layout: Layout) -> (usize, usize) {
    let bytes = layout.size().next_multiple_of(layout.align());
    let pages = bytes.next_multiple_of(PAGE);
    (pages, pages - bytes)
}

/// Zeroed pages before one that cannot be accessed.
fn guarded(layout: Layout) -> *mut u8 {
    let (pages, start) = pages(layout);
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, at an address that the system chooses; the protected page and `start` lie within it.
    unsafe {
        let base = libc::mmap(std::ptr::null_mut(), pages + PAGE, protection, flags, -1, 0);
        if base == libc::MAP_FAILED {
            return std::ptr::null_mut();
        }
        libc::mprotect(base.byte_add(pages), PAGE, libc::PROT_NONE);
        base.byte_add(start).cast()
    }
}

/// Gives the pages of a buffer back.
///
/// # Safety
/// The pointer came from [`guarded`] with the same layout, and is not used again.
unsafe fn release(pointer: *mut u8, layout: Layout) {
    let (pages, start) = pages(layout);
    // SAFETY: `start` bytes before the buffer its mapping begins, as `guarded` made it.
    unsafe { libc::munmap(pointer.sub(start).cast(), pages + PAGE) };
}
