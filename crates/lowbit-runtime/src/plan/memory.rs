//! Places values in one block of memory: largest first, each at the lowest place where no value of the same time lies.

use std::ops::Range;

/// Where places of plans begin is a multiple of this: whole vectors for bytes, and for floats no less.
pub(crate) const VECTOR: usize = 64;

/// How long a value is needed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetime {
    /// Elements.
    pub(crate) len: usize,
    /// The step that makes it.
    pub(crate) first: usize,
    /// The last step that reads it.
    pub(crate) last: usize,
}

/// Where each value lies; each place begins at a multiple of `align`.
pub(crate) fn place(lifetimes: &[Lifetime], align: usize) -> Vec<Range<usize>> {
    let mut order: Vec<usize> = (0..lifetimes.len()).filter(|&i| lifetimes[i].len > 0).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(lifetimes[i].len), lifetimes[i].first));
    let mut places = vec![0..0; lifetimes.len()];
    let mut placed: Vec<usize> = vec![];
    for i in order {
        let own = lifetimes[i];
        let meets = |&&j: &&usize| lifetimes[j].first <= own.last && own.first <= lifetimes[j].last;
        let mut taken: Vec<Range<usize>> =
            placed.iter().filter(meets).map(|&j| places[j].clone()).collect();
        taken.sort_by_key(|range| range.start);
        let mut start = 0;
        for range in taken {
            if start + own.len <= range.start {
                break;
            }
            start = start.max(range.end.next_multiple_of(align));
        }
        places[i] = start..start + own.len;
        placed.push(i);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::{Lifetime, VECTOR, place};

    #[test]
    fn values_of_the_same_time_do_not_overlap() {
        let mut state = 7u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from((state >> 33) % below).unwrap()
        };
        for _ in 0..100 {
            let lifetimes: Vec<Lifetime> = (0..20)
                .map(|_| {
                    let first = next(30);
                    Lifetime { len: next(1000), first, last: first + next(10) }
                })
                .collect();
            let places = place(&lifetimes, VECTOR);
            for (i, a) in lifetimes.iter().enumerate() {
                assert_eq!(places[i].len(), a.len);
                for (j, b) in lifetimes.iter().enumerate().take(i) {
                    let same_time = a.first <= b.last && b.first <= a.last;
                    let apart =
                        places[i].end <= places[j].start || places[j].end <= places[i].start;
                    assert!(!same_time || apart || a.len == 0 || b.len == 0);
                }
            }
        }
    }

    #[test]
    fn a_chain_takes_two_neighbours() {
        let chain: Vec<Lifetime> =
            (0..10).map(|i| Lifetime { len: 64, first: i, last: i + 1 }).collect();
        assert_eq!(place(&chain, VECTOR).iter().map(|range| range.end).max(), Some(128));
    }
}
