//! A directory in which work is done: of the host, of our guest, or of a machine of QEMU's alone.

use super::machine::Link;
use super::{Scale, output};
use anyhow::{Context, Result};
use fcvm_e2e::Host;
use std::cell::RefCell;
use std::path::Path;
use std::process::Command;

/// The name of our VM.
pub(super) const VM: &str = "files";
/// Where guests have the tools: in memory, so that nobody's files are read for them.
pub(super) const TOOLS: &str = "/tools";

/// Where work is done.
pub(super) struct Place<'a> {
    /// Its name in the table.
    pub(super) name: &'static str,
    /// The directory and the tools, as they are seen there.
    dir: String,
    tools: String,
    way: Way<'a>,
}

/// How it is told.
enum Way<'a> {
    Native,
    Guest(&'a Host),
    Machine(&'a RefCell<Link>),
}

impl<'a> Place<'a> {
    pub(super) fn native(name: &'static str, dir: &Path, tools: &Path) -> Self {
        Self { name, dir: dir.display().to_string(), tools: tools.display().to_string(), way: Way::Native }
    }

    pub(super) fn guest(name: &'static str, host: &'a Host, dir: &str) -> Self {
        Self { name, dir: dir.to_owned(), tools: TOOLS.to_owned(), way: Way::Guest(host) }
    }

    pub(super) fn machine(name: &'static str, link: &'a RefCell<Link>, dir: &str) -> Self {
        Self { name, dir: dir.to_owned(), tools: TOOLS.to_owned(), way: Way::Machine(link) }
    }

    pub(super) fn is_native(&self) -> bool {
        matches!(self.way, Way::Native)
    }

    /// Does it; returns the nanoseconds of each.
    pub(super) fn work(&self, work: &str, scale: &Scale) -> Result<f64> {
        let words = self.words(work, scale);
        let said = match &self.way {
            Way::Native => output(Command::new(&words[0]).args(&words[1..]))?,
            Way::Guest(host) => {
                output(&mut host.command(["exec", VM].iter().copied().chain(words.iter().map(|it| &**it))))?
            }
            Way::Machine(link) => link.borrow_mut().ask(&words.join(" "))?,
        };
        said.trim().parse().with_context(|| format!("{words:?} said {said}"))
    }

    fn words(&self, work: &str, scale: &Scale) -> Vec<String> {
        let git = "{tools}/loader --library-path {tools} {tools}/git";
        let mut line = format!("{{tools}}/volume-work {} {}", self.dir, work.replace("{git}", git));
        let numbers =
            [("{files}", scale.files), ("{mib}", scale.mib), ("{random}", scale.random), ("{synced}", scale.synced)];
        for (name, number) in numbers {
            line = line.replace(name, &number.to_string());
        }
        line.replace("{tools}", &self.tools).split(' ').map(str::to_owned).collect()
    }
}
