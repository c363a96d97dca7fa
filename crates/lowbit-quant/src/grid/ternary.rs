//! Three levels, nearest of {-1, 0, 1}. TWN and TTQ choose codes by thresholds of their own: those are scale rules.

use super::Levels;

pub(super) fn levels() -> Levels {
    Levels::nearest(vec![-1.0, 0.0, 1.0])
}
