//! The `muring` program.

fn main() {}
