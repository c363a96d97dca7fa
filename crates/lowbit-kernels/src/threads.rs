//! Who runs the parts of one call: the caller, rayon's current pool, or a [`Pool`] of spinning threads. Knows no kernel.

use std::marker::PhantomData;

use rayon::prelude::*;

use crate::geometry::Parallel;
use crate::nhwc::Pool;

/// The threads of a call.
#[derive(Clone, Copy)]
pub(crate) enum Threads<'a> {
    One,
    Rayon,
    Pool(&'a Pool),
}

/// Multiply-accumulates below which waking a rayon thread costs more than it saves: some 50 us of work.
const WORTH_A_THREAD: usize = 1 << 22;
/// The same for a thread that spins: some 2 us of work.
const WORTH_A_SPINNER: usize = 1 << 16;

impl Threads<'_> {
    /// As asked, or one thread for work of so few multiplications that others would not help.
    pub(crate) fn for_work(self, macs: usize) -> Self {
        match self {
            Self::Rayon if macs < WORTH_A_THREAD => Self::One,
            Self::Pool(pool) if macs < WORTH_A_SPINNER || pool.threads() == 1 => Self::One,
            threads => threads,
        }
    }

    /// Parts that work is cut in at best.
    pub(crate) fn parts(self) -> usize {
        match self {
            Self::One => 1,
            Self::Rayon => 4 * rayon::current_num_threads(),
            Self::Pool(pool) => pool.threads(),
        }
    }

    /// Calls `run` once for each part.
    pub(crate) fn run(self, parts: usize, run: impl Fn(usize) + Send + Sync) {
        match self {
            Self::One => (0..parts).for_each(run),
            Self::Rayon => (0..parts).into_par_iter().for_each(run),
            Self::Pool(pool) => pool.run(parts, &run),
        }
    }

    /// Calls `run` with each stretch of `each` items, the last one perhaps shorter, and its number.
    pub(crate) fn chunks<T: Send>(
        self,
        items: &mut [T],
        each: usize,
        run: impl Fn(usize, &mut [T]) + Send + Sync,
    ) {
        let stretches = Stretches::new(items, each);
        self.run(stretches.count(), |part| {
            // SAFETY: `run` calls each part once.
            run(part, unsafe { stretches.take(part) });
        });
    }

    /// As [`Threads::chunks`], with an item of `own` for each stretch.
    pub(crate) fn chunks_with<T: Send, U: Send>(
        self,
        (items, each): (&mut [T], usize),
        own: &mut [U],
        run: impl Fn(usize, &mut [T], &mut U) + Send + Sync,
    ) {
        let own = Stretches::new(own, 1);
        self.chunks(items, each, |part, items| {
            // SAFETY: `chunks` calls each part once.
            run(part, items, unsafe { &mut own.take(part)[0] });
        });
    }
}

impl From<Parallel> for Threads<'_> {
    fn from(parallel: Parallel) -> Self {
        match parallel {
            Parallel::Serial => Self::One,
            Parallel::Rayon => Self::Rayon,
        }
    }
}

/// A slice that several threads write, each its own stretches.
struct Stretches<'a, T> {
    start: *mut T,
    len: usize,
    each: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: the pointer stems from an exclusive borrow of items that may be sent; `take` demands that each stretch has one user.
unsafe impl<T: Send> Send for Stretches<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Stretches<'_, T> {}

impl<'a, T> Stretches<'a, T> {
    fn new(items: &'a mut [T], each: usize) -> Self {
        assert!(each > 0, "a stretch has items");
        Self { start: items.as_mut_ptr(), len: items.len(), each, borrow: PhantomData }
    }

    fn count(&self) -> usize {
        self.len.div_ceil(self.each)
    }

    /// # Safety
    /// No stretch is taken twice.
    #[expect(clippy::mut_from_ref, reason = "the caller promises that there is one of each")]
    unsafe fn take(&self, part: usize) -> &mut [T] {
        let first = part * self.each;
        assert!(first < self.len, "the stretch lies inside");
        // SAFETY: `first < len` of the borrowed slice.
        let start = unsafe { self.start.add(first) };
        // SAFETY: the items up to `len` were borrowed exclusively, and the caller takes none twice.
        unsafe { std::slice::from_raw_parts_mut(start, self.each.min(self.len - first)) }
    }
}

#[cfg(test)]
mod tests {
    use super::Threads;
    use crate::nhwc::Pool;

    #[test]
    fn each_item_is_in_one_stretch_on_any_threads() {
        let pool = Pool::new(3);
        for threads in [Threads::One, Threads::Rayon, Threads::Pool(&pool)] {
            for (len, each) in [(0, 1), (1, 1), (7, 3), (9, 3), (100, 7)] {
                let (mut items, mut own) = (vec![0; len], vec![0; len]);
                threads.chunks_with((&mut items, each), &mut own, |part, items, own| {
                    *own += items.len();
                    items.iter_mut().for_each(|item| *item += part + 1);
                });
                let expected: Vec<usize> = (0..len).map(|at| at / each + 1).collect();
                assert_eq!(items, expected);
                assert_eq!(own.iter().sum::<usize>(), len);
            }
        }
    }
}
