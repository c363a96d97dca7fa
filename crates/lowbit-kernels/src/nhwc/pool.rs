//! A few threads that wait for short jobs.
//!
//! A layer takes some tens of microseconds, about as long as waking a thread. So workers spin for a while before they
//! sleep, and a job waits only for workers that came in time: one that wakes up late finds the job closed.
//!
//! ```text
//! state = (number of the job, open?, workers inside)
//! caller: publish the job; open; take parts; close; wait until nobody is inside
//! worker: see an open job that is new; enter, if it is still open; take parts; leave
//! ```

use std::cell::UnsafeCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::conv::share;
use super::layout::ImageLayout;

/// How long a worker looks for the next job before it sleeps.
const SPIN: Duration = Duration::from_micros(50);

/// Looks at the state between two looks at the clock, or before the core is yielded.
const LOOKS: u32 = 64;

/// The bit of the state that is set while workers may enter.
const OPEN: u64 = 1 << 31;

/// What is added to the state for each job.
const NEXT: u64 = 1 << 32;

/// Threads that run the parts of one job at a time.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    /// Held while a job runs, so that jobs of several callers take turns.
    turn: Mutex<()>,
    workers: Vec<JoinHandle<()>>,
}

/// What workers see.
struct Shared {
    state: AtomicU64,
    job: UnsafeCell<Job>,
    next: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
    sleepers: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
}

/// A borrowed closure and how many parts it has. Valid while the job is open or a worker is inside.
#[derive(Clone, Copy)]
struct Job {
    run: *const (dyn Fn(usize) + Sync),
    parts: usize,
}

// SAFETY: `job` is written only while the state is closed and nobody is inside, and read only by those inside; the
// closure behind it is `Sync`. All else is atomics and locks.
unsafe impl Send for Shared {}
// SAFETY: as for `Send`.
unsafe impl Sync for Shared {}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool of `threads`, the caller of [`Pool::run`] being one of them.
    /// # Panics
    /// When `threads` is 0, or the system gives no thread.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        assert!(threads > 0, "a pool has a thread");
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(Job { run: &|_: usize| (), parts: 0 }),
            next: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
        });
        let workers = (1..threads)
            .map(|_| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || shared.work())
            })
            .collect();
        Self { shared, turn: Mutex::new(()), workers }
    }

    /// Threads, the caller included.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `run` once for each part below `parts`, in any order, on any thread, and returns when all are done.
    /// `run` must not call this pool again.
    /// # Panics
    /// When a part panicked.
    pub fn run(&self, parts: usize, run: &(dyn Fn(usize) + Sync)) {
        if parts <= 1 || self.workers.is_empty() {
            (0..parts).for_each(run);
            return;
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        // SAFETY: only the lifetime is erased; `Closed` keeps this frame until nobody can call the closure.
        let run = unsafe {
            std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(run)
        };
        // SAFETY: the last job was closed and left by all, and `turn` keeps other callers out.
        unsafe { *shared.job.get() = Job { run, parts } };
        shared.next.store(0, Ordering::Relaxed);
        let closed = Closed(shared);
        shared.open();
        shared.take_parts(Job { run, parts });
        drop(closed);
        assert!(!shared.panicked.swap(false, Ordering::Relaxed), "a part of a job panicked");
    }
}

/// What [`Pool::run_rows`] does with rows: their numbers, their bytes, and how they lie there.
type OnRows<'a> = dyn Fn(Range<usize>, &mut [u8], &ImageLayout) + Sync + 'a;

/// Bytes of an image below which its rows stay on one thread: waking another takes as long as they do.
const FEW_BYTES: usize = 16 << 10;

impl Pool {
    /// Calls `run` with stretches of rows that together are all those of an image: with their numbers, their bytes, and how they lie there.
    /// # Panics
    /// When the image is shorter than its layout says, or a part panicked.
    pub fn run_rows(&self, (image, layout): (&mut [u8], &ImageLayout), run: &OnRows<'_>) {
        assert!(image.len() >= layout.len(), "an image has the length of its layout");
        let parts = if layout.len() < FEW_BYTES { 1 } else { self.threads().min(layout.height) };
        let image = Shareable(image.as_mut_ptr());
        self.run(parts, &|part| {
            let rows = share(layout.height, part, parts);
            let (bytes, own) = layout.rows(rows.clone());
            // SAFETY: the rows lie in the image, which is borrowed here, and parts have no row in common.
            let image =
                unsafe { std::slice::from_raw_parts_mut(image.at(bytes.start), bytes.len()) };
            run(rows, image, &own);
        });
    }
}

/// The image whose rows threads write.
struct Shareable(*mut u8);

// SAFETY: threads make slices of different rows of it.
unsafe impl Sync for Shareable {}

impl Shareable {
    /// Byte `offset`.
    fn at(&self, offset: usize) -> *mut u8 {
        self.0.wrapping_add(offset)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(self.shared.sleep.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its parts, so it can only end well.
            drop(worker.join());
        }
    }
}

/// Closes the job when dropped, also by a panic, and waits until nobody is inside.
struct Closed<'a>(&'a Shared);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.fetch_and(!OPEN, Ordering::AcqRel) & !OPEN;
        let mut looks = 0;
        while state & (OPEN - 1) != 0 {
            looks += 1;
            if looks % LOOKS == 0 {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
            state = self.0.state.load(Ordering::Acquire);
        }
    }
}

impl Shared {
    fn open(&self) {
        let state = self.state.load(Ordering::Relaxed);
        self.state.store((state & !(NEXT - 1)).wrapping_add(NEXT) | OPEN, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(self.sleep.lock().unwrap_or_else(PoisonError::into_inner));
            self.wake.notify_all();
        }
    }

    fn take_parts(&self, job: Job) {
        loop {
            let part = self.next.fetch_add(1, Ordering::Relaxed);
            if part >= job.parts {
                return;
            }
            // SAFETY: the caller is inside the job, so its closure is alive.
            unsafe { (*job.run)(part) };
        }
    }

    fn work(&self) {
        let mut done = 0;
        while let Some(state) = self.wait_for_job(done) {
            done = state / NEXT;
            let entered =
                self.state.compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed);
            if entered.is_err() {
                // Another worker entered or left, or the job was closed: look again.
                done = done.wrapping_sub(1);
                continue;
            }
            // SAFETY: inside an open job, `job` is not written.
            let job = unsafe { *self.job.get() };
            if catch_unwind(AssertUnwindSafe(|| self.take_parts(job))).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.state.fetch_sub(1, Ordering::Release);
        }
    }

    /// The state of an open job other than `done`; none when the pool ends.
    fn wait_for_job(&self, done: u64) -> Option<u64> {
        let is_new = |state: u64| state & OPEN != 0 && state / NEXT != done;
        let begin = Instant::now();
        loop {
            for _ in 0..LOOKS {
                let state = self.state.load(Ordering::Acquire);
                if is_new(state) {
                    return Some(state);
                }
                std::hint::spin_loop();
            }
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            if begin.elapsed() > SPIN {
                break;
            }
        }
        let mut guard = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let found = loop {
            let state = self.state.load(Ordering::SeqCst);
            if is_new(state) || self.stop.load(Ordering::SeqCst) {
                break is_new(state).then_some(state);
            }
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        found
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::Pool;

    #[test]
    fn every_part_runs_once() {
        for threads in 1..=4 {
            let pool = Pool::new(threads);
            for parts in (0..40).chain([0, 1, 1000]) {
                let counts: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
                pool.run(parts, &|part| {
                    counts[part].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
                if parts % 16 == 7 {
                    std::thread::sleep(std::time::Duration::from_micros(200));
                }
            }
        }
    }

    #[test]
    fn callers_take_turns() {
        let (pool, sum) = (Pool::new(3), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        pool.run(5, &|part| {
                            sum.fetch_add(part, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(sum.into_inner(), 3 * 200 * 10);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2);
        for _ in 0..20 {
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                pool.run(8, &|part| assert!(part != 5, "part 5"));
            }));
            assert!(caught.is_err());
            pool.run(8, &|_| ());
        }
    }
}
