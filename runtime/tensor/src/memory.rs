//! One account of memory: how much may be in use at once, and how much is.
//!
//! Every [`Buffer`](crate::Buffer) claims its bytes before they are allocated and gives them back when it is dropped;
//! what works in lists of its own claims them for as long as it has them. What does not fit is an error, where an
//! allocation that fails would end the process. Which account a thread charges is a matter of scope
//! ([`Memory::enter`]), so that code that makes tensors need not know of it; without a scope it is the [account of the
//! process](Memory::default), whose limit is what the machine has to give.
//!
//! The limit bounds the large things (tensors, packed weights, arenas, evaluations), not each list and string.

use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Claims below this are granted whatever is in use: they are what errors and small models are made of.
const SMALL: usize = 64 << 10;

/// An account. Clones are the same account.
#[derive(Clone)]
pub struct Memory(Arc<Account>);

#[derive(Debug)]
struct Account {
    limit: usize,
    used: AtomicUsize,
    peak: AtomicUsize,
}

/// More memory was asked for than there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} do not fit: {} of the memory limit of {} are in use",
    Bytes(*.asked), Bytes(*.used), Bytes(*.limit)
)]
pub struct OutOfMemory {
    /// Bytes that were asked for.
    pub asked: usize,
    /// Bytes that are in use.
    pub used: usize,
    /// Bytes that may be in use.
    pub limit: usize,
}

/// Bytes that are in use until this is dropped.
#[derive(Debug)]
pub struct Claim {
    memory: Memory,
    bytes: usize,
}

thread_local! {
    static CURRENT: RefCell<Option<Memory>> = const { RefCell::new(None) };
}

impl Memory {
    /// An account of `limit` bytes.
    pub fn with_limit(limit: usize) -> Memory {
        Memory(Arc::new(Account { limit, used: AtomicUsize::new(0), peak: AtomicUsize::new(0) }))
    }

    /// The account that this thread charges.
    pub fn current() -> Memory {
        CURRENT.with_borrow(Clone::clone).unwrap_or_default()
    }

    /// Makes this the account that this thread charges, until the result is dropped.
    pub fn enter(&self) -> Entered {
        Entered { before: CURRENT.replace(Some(self.clone())), not_send: std::marker::PhantomData }
    }

    /// Claims bytes.
    ///
    /// # Errors
    /// They do not fit.
    pub fn claim(&self, bytes: usize) -> Result<Claim, OutOfMemory> {
        let account = &*self.0;
        let fits = |used: usize| used.checked_add(bytes).filter(|&sum| bytes < SMALL || sum <= account.limit);
        match account.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(used) => {
                account.peak.fetch_max(used + bytes, Ordering::Relaxed);
                Ok(Claim { memory: self.clone(), bytes })
            }
            Err(used) => Err(OutOfMemory { asked: bytes, used, limit: account.limit }),
        }
    }

    /// Counts bytes that are there already, whether they fit or not.
    pub fn count(&self, bytes: usize) -> Claim {
        let used = self.0.used.fetch_add(bytes, Ordering::Relaxed);
        self.0.peak.fetch_max(used.saturating_add(bytes), Ordering::Relaxed);
        Claim { memory: self.clone(), bytes }
    }

    /// Bytes that may be in use at once.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Bytes that are in use.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// The most bytes that have been in use at once.
    pub fn peak(&self) -> usize {
        self.0.peak.load(Ordering::Relaxed)
    }
}

impl Default for Memory {
    /// The account of this process: of all accounts the one that is charged where no other is entered.
    fn default() -> Memory {
        static PROCESS: OnceLock<Memory> = OnceLock::new();
        PROCESS.get_or_init(|| Memory::with_limit(machine_limit())).clone()
    }
}

impl PartialEq for Memory {
    /// Whether they are the same account.
    fn eq(&self, other: &Memory) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Memory {}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({} of {})", Bytes(self.used()), Bytes(self.limit()))
    }
}

impl Clone for Claim {
    /// As many bytes again, counted whether they fit or not.
    fn clone(&self) -> Claim {
        self.memory.count(self.bytes)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.memory.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The scope of an account: see [`Memory::enter`].
#[must_use = "the account is left when this is dropped"]
#[derive(Debug)]
pub struct Entered {
    before: Option<Memory>,
    /// It must be dropped on the thread that made it.
    not_send: std::marker::PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.replace(self.before.take());
    }
}

/// A number of bytes as people read it: `3.2 GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(f, "{} bytes", self.0);
        }
        let step = (self.0.ilog2() as usize / 10).min(UNITS.len());
        write!(f, "{:.1} {}", self.0 as f64 / (1u64 << (10 * step)) as f64, UNITS[step - 1])
    }
}

/// What this process can have: the least of the memory that is free now, of the control group's limit and of the
/// address space that `ulimit -v` leaves. Where the system says nothing, all that an address space holds.
fn machine_limit() -> usize {
    let control_group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let file = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<usize>().ok();
    let limits = control_group.iter().filter_map(|path| file(path)).chain(free_memory()).chain(address_space());
    limits.min().unwrap_or(isize::MAX as usize)
}

/// `MemAvailable` of Linux.
fn free_memory() -> Option<usize> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

/// What is left of a limited address space.
fn address_space() -> Option<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` may be written, and the call keeps no pointer to it.
    let asked = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) };
    let limited = asked == 0 && limit.rlim_cur != libc::RLIM_INFINITY;
    let pages = || std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').next()?.parse::<usize>().ok();
    limited.then(|| usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX).saturating_sub(pages().unwrap_or(0) * 4096))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_what_is_dropped_fits_again() {
        let memory = Memory::with_limit(10 << 20);
        let first = memory.claim(6 << 20).unwrap();
        let refused = memory.claim(5 << 20).unwrap_err();
        assert_eq!(refused, OutOfMemory { asked: 5 << 20, used: 6 << 20, limit: 10 << 20 });
        assert_eq!(refused.to_string(), "5.0 MiB do not fit: 6.0 MiB of the memory limit of 10.0 MiB are in use");
        drop(first);
        assert!(memory.claim(5 << 20).is_ok() && memory.claim(usize::MAX).is_err());
        assert_eq!((memory.used(), memory.peak()), (0, 6 << 20));
    }

    #[test]
    fn small_claims_are_granted_whatever_is_in_use() {
        let memory = Memory::with_limit(0);
        let _small = memory.claim(SMALL - 1).unwrap();
        assert!(memory.claim(SMALL).is_err());
    }

    #[test]
    fn scopes_nest_and_belong_to_a_thread() {
        let (outer, inner) = (Memory::with_limit(1), Memory::with_limit(2));
        let scope = outer.enter();
        {
            let _scope = inner.enter();
            assert_eq!(Memory::current(), inner);
            std::thread::spawn(|| assert_eq!(Memory::current(), Memory::default())).join().unwrap();
        }
        assert_eq!(Memory::current(), outer);
        drop(scope);
        assert_eq!(Memory::current(), Memory::default());
    }

    #[test]
    fn the_machine_has_some_memory() {
        assert!(Memory::default().limit() > 1 << 20);
        assert_eq!(
            [0, 1023, 1024, 3 << 30, usize::MAX].map(|n| Bytes(n).to_string())[1..4],
            ["1023 bytes", "1.0 KiB", "3.0 GiB"]
        );
    }
}
