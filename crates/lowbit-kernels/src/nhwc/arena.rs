//! Memory for all images of a plan.

use std::ops::{Deref, DerefMut};

/// Bytes that begin as zeros at a multiple of 64 bytes, so that rows of whole vectors do not cross lines of the cache.
#[derive(Clone)]
pub struct Arena {
    lines: Vec<Line>,
    len: usize,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl Arena {
    /// An arena of `len` zeros.
    #[must_use]
    pub fn new(len: usize) -> Self {
        Self { lines: vec![Line([0; 64]); len.div_ceil(64)], len }
    }
}

/// 32-bit words at a multiple of 64 bytes: a vector of them never crosses a line of the cache.
#[derive(Clone, Debug)]
pub(crate) struct Words(Arena);

impl Words {
    pub(crate) const EMPTY: Self = Self(Arena { lines: Vec::new(), len: 0 });

    pub(crate) fn zeros(len: usize) -> Self {
        Self(Arena::new(4 * len))
    }

    pub(crate) fn new(words: &[u32]) -> Self {
        let mut arena = Arena::new(size_of_val(words));
        for (bytes, word) in arena.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        Self(arena)
    }
}

impl Deref for Words {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        // SAFETY: the arena is aligned, holds `len / 4` initialised words, and is borrowed as long as the result.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() / 4) }
    }
}

impl DerefMut for Words {
    fn deref_mut(&mut self) -> &mut [u32] {
        // SAFETY: as in `deref`, and the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() / 4) }
    }
}

impl Default for Words {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl std::fmt::Debug for Arena {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arena").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Deref for Arena {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `lines` are at least `len` initialised bytes without gaps, borrowed as long as the result.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Arena {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::Arena;

    #[test]
    fn arenas_are_aligned_zeros_of_their_length() {
        for len in [0, 1, 63, 64, 65, 1000] {
            let mut arena = Arena::new(len);
            assert_eq!(arena.len(), len);
            assert!(arena.iter().all(|&byte| byte == 0));
            assert!(len == 0 || arena.as_ptr().addr().is_multiple_of(64));
            arena.fill(7);
            assert!(arena.clone().iter().all(|&byte| byte == 7));
        }
    }
}
