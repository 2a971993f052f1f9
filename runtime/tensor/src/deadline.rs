//! When work must have ended: a time that long work looks at between its steps.
//!
//! Like the [account of memory](crate::Memory), a deadline belongs to a scope of one thread, so that what runs deep
//! inside of a model (a region of a loop, an op on the host) sees it. Nothing is interrupted: a step that has begun is
//! finished.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// When work must have ended; without one it may take as long as it likes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deadline(Option<(Instant, Duration)>);

/// The time is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the time limit of {limit:?} is over")]
pub struct OutOfTime {
    /// How long the work was given.
    pub limit: Duration,
}

thread_local! {
    static CURRENT: Cell<Deadline> = const { Cell::new(Deadline(None)) };
}

impl Deadline {
    /// This long from now; for ever without a limit, or where the clock cannot tell.
    pub fn after(limit: Option<Duration>) -> Deadline {
        Deadline(limit.and_then(|limit| Some((Instant::now().checked_add(limit)?, limit))))
    }

    /// The deadline of this thread's work.
    pub fn current() -> Deadline {
        CURRENT.get()
    }

    /// Makes this the deadline of this thread's work until the result is dropped, if it is the earlier one.
    pub fn enter(self) -> Until {
        let before = CURRENT.get();
        let earlier = match (self.0, before.0) {
            (Some(new), Some(old)) => new.0 < old.0,
            (new, _) => new.is_some(),
        };
        CURRENT.set(if earlier { self } else { before });
        Until { before, not_send: std::marker::PhantomData }
    }

    /// Whether there is one.
    pub fn is_set(self) -> bool {
        self.0.is_some()
    }

    /// # Errors
    /// The time is up.
    pub fn check(self) -> Result<(), OutOfTime> {
        match self.0 {
            Some((end, limit)) if Instant::now() >= end => Err(OutOfTime { limit }),
            _ => Ok(()),
        }
    }
}

/// The scope of a deadline: see [`Deadline::enter`].
#[must_use = "the deadline holds until this is dropped"]
#[derive(Debug)]
pub struct Until {
    before: Deadline,
    /// It must be dropped on the thread that made it.
    not_send: std::marker::PhantomData<*const ()>,
}

impl Drop for Until {
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_deadline_holds_and_scopes_end() {
        let (over, later) = (Deadline::after(Some(Duration::ZERO)), Deadline::after(Some(Duration::from_secs(3600))));
        assert!(!Deadline::current().is_set() && Deadline::current().check().is_ok());
        let outer = later.enter();
        {
            let _inner = over.enter();
            let refused = Deadline::current().check().unwrap_err();
            assert_eq!(refused.to_string(), "the time limit of 0ns is over");
            let _none = Deadline::default().enter();
            let _late = later.enter();
            assert_eq!(Deadline::current(), over);
        }
        assert_eq!(Deadline::current(), later);
        assert!(Deadline::current().check().is_ok());
        drop(outer);
        assert!(!Deadline::current().is_set() && !Deadline::after(Some(Duration::MAX)).is_set());
    }
}
