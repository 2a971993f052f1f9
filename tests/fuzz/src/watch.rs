//! Limits on what one input may cost. Beyond them the process aborts, and the input that did it stays where it was written.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The longest that an input may take: generous, since the machine may be busy.
const SECONDS: u64 = 10;
/// The most memory that may be allocated at once.
const BYTES: usize = 2 << 30;

/// Counts what is allocated, and refuses beyond the limit; a refused allocation of Rust's collections aborts.
struct Capped;

static USED: AtomicUsize = AtomicUsize::new(0);
/// Inputs begun and done; odd while one runs.
static TURN: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Capped = Capped;

// SAFETY: everything is passed on to `System`; a null pointer is how an allocator refuses.
unsafe impl GlobalAlloc for Capped {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if USED.fetch_add(layout.size(), Ordering::Relaxed) > BYTES - layout.size().min(BYTES) {
            USED.fetch_sub(layout.size(), Ordering::Relaxed);
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's layout, as it came.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if USED.fetch_add(layout.size(), Ordering::Relaxed) > BYTES - layout.size().min(BYTES) {
            USED.fetch_sub(layout.size(), Ordering::Relaxed);
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's layout, as it came.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the pointer came from `System` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Starts the thread that watches the time.
pub fn start() {
    std::thread::spawn(|| {
        let (mut turn, mut since) = (0, Instant::now());
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let now = TURN.load(Ordering::Relaxed);
            if now != turn || now.is_multiple_of(2) {
                (turn, since) = (now, Instant::now());
            } else if since.elapsed() > Duration::from_secs(SECONDS) {
                eprintln!("an input takes more than {SECONDS} seconds");
                std::process::abort();
            }
        }
    });
}

/// Held while an input runs.
pub struct Limit;

/// The time of an input begins.
pub fn limit() -> Limit {
    TURN.fetch_add(1, Ordering::Relaxed);
    Limit
}

impl Drop for Limit {
    fn drop(&mut self) {
        TURN.fetch_add(1, Ordering::Relaxed);
    }
}
