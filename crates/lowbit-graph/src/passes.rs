//! Rewrites, one per file, each verified by running graphs before and after.
