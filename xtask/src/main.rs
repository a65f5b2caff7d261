//! Chores that are not part of the product: `cargo xtask bench run` and `bench clone`.

mod bench;

use anyhow::{Result, bail};

const USAGE: &str = "usage: cargo xtask bench run|clone [--runs N] [--out FILE]";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["bench", "run", options @ ..] => bench::run(&bench::Options::parse(options)?),
        ["bench", "clone", options @ ..] => bench::clone(&bench::Options::parse(options)?),
        _ => bail!(USAGE),
    }
}
