//! The worker pool: splits the tasks of one kernel over threads.
//!
//! Workers spin for a short while after a job, since the next kernel of a plan follows within microseconds, and then
//! park. The caller works as well and never waits for a worker that has not begun. One job runs at a time; a caller
//! that finds the pool busy does its job alone, so that several sessions on one pool do not oversubscribe the machine.
//!
//! Tasks are claimed in chunks from a counter. Which thread does a task never changes its result.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a worker spins for the next job before it parks.
const SPIN: Duration = Duration::from_micros(100);
/// Chunks that a thread's share is cut into, so that a late thread does not hold up the rest.
const CHUNKS_PER_THREAD: u64 = 4;
/// The bit of [`Shared::state`] that says that workers may join the job.
const OPEN: u64 = 1 << 31;
/// The bits of [`Shared::state`] that count the workers in the job; above them is the number of the job.
const ACTIVE: u64 = OPEN - 1;
/// One job further.
const JOB: u64 = 1 << 32;

/// What is done for a range of tasks: the number of the worker, the first task and the one after the last.
type Work<'a> = dyn Fn(usize, u64, u64) + Sync + 'a;

struct Job {
    work: *const Work<'static>,
    tasks: u64,
    chunk: u64,
}

struct Shared {
    /// Number of the job, [`OPEN`], and the number of workers in it.
    state: AtomicU64,
    next: AtomicU64,
    job: UnsafeCell<Option<Job>>,
    panicked: AtomicBool,
    stop: AtomicBool,
    parked: Vec<AtomicBool>,
}

// SAFETY: `job` is written only by the caller that holds `ThreadPool::busy`, while the state is closed and no worker is
// active; workers read it only between joining an open job and leaving it. The pointer in it is to a `Sync` closure
// that outlives the job, as `ThreadPool::run` does not return before all that joined have left.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl Shared {
    /// Joins the job if it is open and not the one numbered `seen`; returns the job's number.
    fn join(&self, seen: u64) -> Option<u64> {
        let mut state = self.state.load(Ordering::Acquire);
        while state & OPEN != 0 && state / JOB != seen {
            match self.state.compare_exchange_weak(state, state + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(state / JOB),
                Err(now) => state = now,
            }
        }
        None
    }

    /// Claims and does chunks until none is left.
    fn work(&self, worker: usize, job: &Job) {
        // SAFETY: the closure is alive for as long as the job is (see `unsafe impl Sync`).
        let work = unsafe { &*job.work };
        loop {
            let begin = self.next.fetch_add(job.chunk, Ordering::Relaxed);
            if begin >= job.tasks {
                return;
            }
            work(worker, begin, (begin + job.chunk).min(job.tasks));
        }
    }

    fn run_worker(&self, worker: usize) {
        let mut seen = 0;
        let mut idle_since = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            if let Some(job_number) = self.join(seen) {
                seen = job_number;
                // SAFETY: this worker has joined an open job and not left it (see `unsafe impl Sync`).
                let job = unsafe { (*self.job.get()).as_ref() };
                let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    if let Some(job) = job {
                        self.work(worker, job);
                    }
                }));
                if done.is_err() {
                    self.panicked.store(true, Ordering::Relaxed);
                }
                self.state.fetch_sub(1, Ordering::Release);
                idle_since = Instant::now();
            } else if idle_since.elapsed() < SPIN {
                std::hint::spin_loop();
            } else {
                self.park(worker, seen);
                idle_since = Instant::now();
            }
        }
    }

    /// Sleeps until a job comes. The flag is set before the last look, so that no job is missed.
    fn park(&self, worker: usize, seen: u64) {
        self.parked[worker - 1].store(true, Ordering::SeqCst);
        let state = self.state.load(Ordering::SeqCst);
        let waiting = state & OPEN != 0 && state / JOB != seen;
        if !waiting && !self.stop.load(Ordering::SeqCst) {
            std::thread::park();
        }
        self.parked[worker - 1].store(false, Ordering::SeqCst);
    }
}

/// Threads that share the tasks of kernels.
pub struct ThreadPool {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
    threads: Vec<Thread>,
    busy: Mutex<()>,
}

impl std::fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({} threads)", self.threads())
    }
}

impl ThreadPool {
    /// A pool of `threads` threads, the caller of [`ThreadPool::run`] included.
    ///
    /// # Errors
    /// The operating system does not give a thread.
    pub fn new(threads: usize) -> std::io::Result<ThreadPool> {
        let workers = threads.max(1) - 1;
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            next: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            parked: (0..workers).map(|_| AtomicBool::new(false)).collect(),
        });
        let mut pool = ThreadPool { shared, handles: Vec::new(), threads: Vec::new(), busy: Mutex::new(()) };
        for worker in 1..=workers {
            let shared = pool.shared.clone();
            let name = format!("optc-worker-{worker}");
            let handle = std::thread::Builder::new().name(name).spawn(move || shared.run_worker(worker))?;
            pool.threads.push(handle.thread().clone());
            pool.handles.push(handle);
        }
        Ok(pool)
    }

    /// How many threads work, the caller included.
    pub fn threads(&self) -> usize {
        self.threads.len() + 1
    }

    /// Does `work` for all of `0..tasks`, in ranges, on all threads; returns when everything is done. The first
    /// argument of `work` is the worker's number, below [`ThreadPool::threads`]; no two ranges run under one number at
    /// once.
    ///
    /// # Panics
    /// `work` panicked on a worker.
    pub fn run(&self, tasks: u64, work: &Work<'_>) {
        let alone = tasks <= 1 || self.threads.is_empty();
        let Some(_guard) = (if alone { None } else { self.busy.try_lock().ok() }) else {
            if tasks > 0 {
                work(0, 0, tasks);
            }
            return;
        };
        let threads = self.threads() as u64;
        let chunk = (tasks / (threads * CHUNKS_PER_THREAD)).max(1);
        // SAFETY: only the lifetime changes. The pointer is used by workers in the job alone, and `finish` waits for
        // them, also when `work` panics on this thread.
        let work = unsafe { std::mem::transmute::<*const Work<'_>, *const Work<'static>>(work) };
        // SAFETY: the state is closed and has no active worker: `finish` left it so, and this thread holds `busy`.
        unsafe { *self.shared.job.get() = Some(Job { work, tasks, chunk }) };
        self.shared.next.store(0, Ordering::Relaxed);
        self.shared.state.fetch_add(JOB + OPEN, Ordering::SeqCst);
        for (flag, thread) in self.shared.parked.iter().zip(&self.threads) {
            if flag.load(Ordering::SeqCst) {
                thread.unpark();
            }
        }
        let _finish = Finish(&self.shared);
        self.shared.work(0, &Job { work, tasks, chunk });
    }
}

/// Closes the job and waits for the workers in it.
struct Finish<'a>(&'a Shared);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0u32;
        while self.0.state.load(Ordering::Acquire) & ACTIVE != 0 {
            spins += 1;
            // A worker that was preempted needs this core: give it up now and then.
            if spins.is_multiple_of(1 << 12) { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        let panicked = self.0.panicked.swap(false, Ordering::Relaxed);
        if panicked && !std::thread::panicking() {
            std::panic::panic_any("a worker panicked");
        }
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.threads.iter().for_each(Thread::unpark);
        for handle in self.handles.drain(..) {
            // A worker catches panics of its work, so joining cannot fail; if it did, there is nothing to undo.
            let _ = handle.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn every_task_is_done_once() {
        let pool = ThreadPool::new(3).unwrap();
        for tasks in [0, 1, 2, 7, 16, 1000] {
            let done: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
            for _ in 0..50 {
                pool.run(tasks as u64, &|worker, begin, end| {
                    assert!(worker < 3 && begin < end);
                    (begin..end).for_each(|t| {
                        done[t as usize].fetch_add(1, Ordering::Relaxed);
                    });
                });
            }
            assert!(done.iter().all(|d| d.load(Ordering::Relaxed) == 50), "{tasks}");
        }
    }

    #[test]
    fn parked_workers_wake_and_busy_pools_are_not_waited_for() {
        let pool = ThreadPool::new(2).unwrap();
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(2));
            let sum = AtomicU64::new(0);
            pool.run(8, &|_, begin, end| {
                // The pool is busy with the outer job: this one runs here.
                pool.run(1, &|_, _, _| {
                    sum.fetch_add(end - begin, Ordering::Relaxed);
                });
            });
            assert_eq!(sum.into_inner(), 8);
        }
    }

    #[test]
    fn several_threads_share_a_pool() {
        let pool = ThreadPool::new(2).unwrap();
        let sum = AtomicU64::new(0);
        std::thread::scope(|s| {
            for _ in 0..3 {
                s.spawn(|| {
                    for _ in 0..200 {
                        pool.run(16, &|_, begin, end| {
                            sum.fetch_add(end - begin, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(sum.into_inner(), 3 * 200 * 16);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = ThreadPool::new(2).unwrap();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.run(64, &|_, _, _| std::panic::panic_any("on purpose"));
        }));
        assert!(panicked.is_err());
        let sum = AtomicU64::new(0);
        pool.run(64, &|_, begin, end| {
            sum.fetch_add(end - begin, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 64);
    }
}
