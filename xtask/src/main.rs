//! Chores that are not part of the product: `cargo xtask bench run`, `bench clone`, `bench firecracker` and
//! `bench volume`.

mod bench;

use anyhow::{Result, bail, ensure};

const USAGE: &str = "usage: cargo xtask bench run|clone|firecracker|volume [--runs N] [--out FILE] [--full]";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    if words.first() == Some(&"bench") {
        ensure!(std::env::var_os("FCVM_BIN").is_some(), "FCVM_BIN names the fcvm that is measured: use `make bench`");
    }
    match words.as_slice() {
        ["bench", "run", options @ ..] => bench::run(&bench::Options::parse(options)?),
        ["bench", "clone", options @ ..] => bench::clone(&bench::Options::parse(options)?),
        ["bench", "firecracker", options @ ..] => bench::firecracker(&bench::Options::parse(options)?),
        ["bench", "volume", options @ ..] => bench::volume(&bench::Options::parse(options)?),
        // What a bench starts of itself.
        [bench::OWNER, directory] => bench::own(directory.as_ref()),
        _ => bail!(USAGE),
    }
}
