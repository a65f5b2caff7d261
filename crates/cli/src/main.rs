//! The fcvm command.

fn main() {}
