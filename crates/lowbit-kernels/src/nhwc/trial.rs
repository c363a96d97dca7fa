//! Choices that depend on the CPU, made by trying both ways once in a process. Either way gives the same bits.

use std::time::Instant;

/// How often both ways are run; each should take some 20 us, longer than the clock's step and less than the scheduler's.
const ROUNDS: usize = 4;

/// The least seconds of each of two ways, which take turns.
pub(crate) fn least_seconds(ways: [&dyn Fn(); 2]) -> [f64; 2] {
    let mut least = [f64::MAX; 2];
    for _ in 0..ROUNDS {
        for (way, least) in ways.iter().zip(&mut least) {
            let started = Instant::now();
            way();
            *least = least.min(started.elapsed().as_secs_f64());
        }
    }
    least
}
