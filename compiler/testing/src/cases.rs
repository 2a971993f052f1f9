//! What runs when a kernel touches an inaccessible page: the process ends there, and a message says which case it was.
//!
//! The handler of the signal writes what the thread at fault had named ([`name_case`]), or all names where that was a
//! worker's thread, and gives the signal back to whoever had it before.

use std::mem::MaybeUninit;
use std::sync::Once;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU8, AtomicUsize};

/// Cases that have names at a time, and bytes of a name, at most.
const CASES: usize = 64;
const BYTES: usize = 600;

/// A name in memory that a signal handler may read.
struct Slot {
    /// The thread that runs the case; 0 where the slot is free.
    thread: AtomicUsize,
    len: AtomicUsize,
    text: [AtomicU8; BYTES],
}

static SLOTS: [Slot; CASES] = [const {
    Slot { thread: AtomicUsize::new(0), len: AtomicUsize::new(0), text: [const { AtomicU8::new(0) }; BYTES] }
}; CASES];

/// A case that has a name as long as this lives.
pub struct NamedCase(Option<&'static Slot>);

/// Names what this thread runs until the result is dropped, for the message that a fault ends with.
pub fn name_case(name: &str) -> NamedCase {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(install);
    let free = SLOTS.iter().find(|s| s.thread.compare_exchange(0, this_thread(), SeqCst, SeqCst).is_ok());
    if let Some(slot) = free {
        let bytes = &name.as_bytes()[..name.len().min(BYTES)];
        bytes.iter().zip(&slot.text).for_each(|(&b, to)| to.store(b, SeqCst));
        slot.len.store(bytes.len(), SeqCst);
    }
    NamedCase(free)
}

impl Drop for NamedCase {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            slot.len.store(0, SeqCst);
            slot.thread.store(0, SeqCst);
        }
    }
}

/// A number of this thread that is never 0.
fn this_thread() -> usize {
    // SAFETY: the call takes nothing, touches no memory of ours, and may be made while a signal is handled.
    (unsafe { libc::pthread_self() }) as usize
}

/// What faults raise: the second one on systems other than Linux.
const SIGNALS: [libc::c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// Who had the signals before.
static BEFORE: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

fn install() {
    for (signal, before) in SIGNALS.into_iter().zip(&BEFORE) {
        let old = Box::leak(Box::new(MaybeUninit::<libc::sigaction>::zeroed()));
        // SAFETY: all zeros are an action without flags and mask. The handler makes only calls that are allowed in one,
        // and `old` lives for good.
        unsafe {
            let mut new = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
            new.sa_sigaction = faulted as extern "C" fn(libc::c_int) as usize;
            new.sa_flags = libc::SA_ONSTACK;
            libc::sigaction(signal, &new, old.as_mut_ptr());
        }
        before.store(old.as_ptr().expose_provenance(), SeqCst);
    }
}

extern "C" fn faulted(signal: libc::c_int) {
    let mine = |slot: &&Slot| slot.thread.load(SeqCst) == this_thread();
    let all = || SLOTS.iter().filter(|slot| slot.thread.load(SeqCst) != 0);
    write(b"\nmemory outside of a buffer was touched by: ");
    match all().any(|slot| mine(&slot)) {
        true => all().filter(mine).for_each(Slot::write),
        false => all().for_each(Slot::write),
    }
    for (of, before) in SIGNALS.into_iter().zip(&BEFORE) {
        let old = std::ptr::with_exposed_provenance::<libc::sigaction>(before.load(SeqCst));
        if of == signal {
            // SAFETY: the action that `install` has stored; with it in place the fault happens again, and ends the
            // process.
            unsafe { libc::sigaction(signal, old, std::ptr::null_mut()) };
        }
    }
}

impl Slot {
    fn write(&self) {
        let mut text = [0; BYTES];
        let len = self.len.load(SeqCst).min(BYTES);
        text.iter_mut().zip(&self.text).for_each(|(to, b)| *to = b.load(SeqCst));
        write(&text[..len]);
        write(b"\n");
    }
}

fn write(bytes: &[u8]) {
    // SAFETY: the bytes live during the call, which may be made while a signal is handled.
    unsafe { libc::write(2, bytes.as_ptr().cast(), bytes.len()) };
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::super::rooms::{Rooms, SIDES, Side};
    use super::*;

    /// Tells the process that is to fault which side of a room it reads beyond.
    const FAULT: &str = "OPTC_TEST_FAULT";

    #[test]
    fn a_read_outside_of_a_room_ends_the_process_and_names_the_case() {
        if let Ok(side) = std::env::var(FAULT) {
            let side = if side == "Begin" { Side::Begin } else { Side::End };
            let rooms = Rooms::new(&[12], side);
            let _named = name_case("a case that faults");
            let outside =
                if side == Side::Begin { rooms.address(0).wrapping_sub(1) } else { rooms.address(0).wrapping_add(12) };
            // SAFETY: none; this process is here to end by it.
            println!("read {}", unsafe { outside.read_volatile() });
            return;
        }
        for side in SIDES {
            let mut again = Command::new(std::env::current_exe().unwrap());
            again.args(["--exact", "cases::tests::a_read_outside_of_a_room_ends_the_process_and_names_the_case"]);
            let ended = again.arg("--nocapture").env(FAULT, format!("{side:?}")).output().unwrap();
            let said = String::from_utf8_lossy(&ended.stderr);
            assert!(SIGNALS.map(Some).contains(&ended.status.signal()), "{:?}: {said}", ended.status);
            assert!(said.contains("memory outside of a buffer was touched by: a case that faults"), "{said}");
        }
    }
}
