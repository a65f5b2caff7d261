//! The program in the guest: PID 1.

fn main() {}
