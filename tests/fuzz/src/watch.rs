//! The limit on the time of one input, and the time that the process has had.
//!
//! An input that takes longer ends the process; it stays where it was written.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The longest that an input may take of a CPU, whatever else the machine does.
const SECONDS: u64 = 10;
/// The longest that it may wait for something that does not come.
const WAIT: u64 = 300;

/// Inputs begun and done; odd while one runs.
static TURN: AtomicU64 = AtomicU64::new(0);

/// Starts the thread that watches the time.
pub fn start() {
    std::thread::spawn(|| {
        let (mut turn, mut since) = (0, (cpu_time(), Instant::now()));
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let now = TURN.load(Ordering::Relaxed);
            if now != turn || now.is_multiple_of(2) {
                (turn, since) = (now, (cpu_time(), Instant::now()));
            } else if cpu_time() - since.0 > Duration::from_secs(SECONDS) {
                eprintln!("an input takes more than {SECONDS} seconds of a CPU");
                std::process::abort();
            } else if since.1.elapsed() > Duration::from_secs(WAIT) {
                eprintln!("an input waits for more than {WAIT} seconds");
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

/// The CPU time of the process.
pub fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock is one that every process has, and `time` is there to be written.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
