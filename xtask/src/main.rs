//! Builds, generated papers, benchmarks.

fn main() {}
