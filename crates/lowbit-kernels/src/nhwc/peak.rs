//! What this CPU can do at most: products of codes or signs, from registers.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::popcount::{self, SignTask, Signs};
use super::{Codes, Pool};
use crate::arch::Arch;
use crate::isa::{Isa, Task};

/// Sums that do not wait for each other.
const CHAINS: usize = 24;
/// Dot products of one chain in one measurement: some 100 us.
const ROUNDS: usize = 5_000;
/// Weights of 8 bits in a word.
const PER_WORD: usize = 4;

/// Multiplications of 8-bit codes a second, in units of 10^9, by all threads of `pool` together: the best of the measurements that fit
/// in `time`, without loads and stores.
#[must_use]
pub fn peak_gmacs(isa: Isa, pool: &Pool, time: Duration) -> f64 {
    (ROUNDS * macs(isa)) as f64 * rate(pool, time, &|| products(isa))
}

/// As [`peak_gmacs`], of signs: the difference of two words, its bits counted and added. Convolutions that add words bit by bit before
/// they count can exceed it.
#[must_use]
pub fn peak_sign_gmacs(isa: Isa, pool: &Pool, time: Duration) -> f64 {
    let macs = ROUNDS * CHAINS * isa.tile().lanes * u32::BITS as usize;
    macs as f64 * rate(pool, time, &|| popcount::dispatch(isa, Differences))
}

/// How often all threads together can `run` in a nanosecond.
fn rate(pool: &Pool, time: Duration, run: &(dyn Fn() + Sync)) -> f64 {
    let (begin, mut best) = (Instant::now(), f64::MAX);
    let threads = pool.threads();
    while best == f64::MAX || begin.elapsed() < time {
        let started = Instant::now();
        pool.run(threads, &|_| run());
        best = best.min(started.elapsed().as_secs_f64());
    }
    threads as f64 / best / 1e9
}

fn products(isa: Isa) {
    #[cfg(target_arch = "x86_64")]
    if let Isa::Amx(amx) = isa {
        return super::amx::peak(amx, ROUNDS);
    }
    isa.dispatch(Dots);
}

/// Multiplications of one round.
fn macs(isa: Isa) -> usize {
    #[cfg(target_arch = "x86_64")]
    if let Isa::Amx(_) = isa {
        return super::amx::PEAK_MACS;
    }
    CHAINS * isa.tile().lanes * PER_WORD
}

struct Dots;

impl Task for Dots {
    type Output = ();

    #[inline(always)]
    fn run<A: Codes>(self, arch: A) {
        let x = arch.spread(black_box(arch.splat(0x0102_0304)));
        let w = arch.weights(black_box(arch.splat(0x0302_0101)));
        let mut sums = [arch.splat(0); CHAINS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = arch.dot(*sum, x, w);
            }
        }
        black_box(sums);
    }
}

struct Differences;

impl SignTask for Differences {
    #[inline(always)]
    fn run<S: Signs>(self, signs: S) {
        let arch = signs.codes();
        let x = black_box(arch.splat(0x0102_0304));
        let mut counts = [arch.splat(0); CHAINS];
        for _ in 0..ROUNDS {
            for count in &mut counts {
                // The weights change, or the compiler would count the bits once.
                *count = signs.add_ones(*count, signs.difference(x, [*count]));
            }
        }
        black_box(counts);
    }
}
