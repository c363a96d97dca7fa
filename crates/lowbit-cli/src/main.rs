//! The binary `lowbit`.

fn main() {}
