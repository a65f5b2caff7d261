//! Flags about a process's streams, and what a shell at a terminal has without being asked.

use crate::detach::DetachKeys;
use crate::error::Failure;
use crate::terminal;
use clap::Args;

/// `-d`, `-i`, `-t` and `--detach-keys`.
#[derive(Debug, Default, Args)]
pub(crate) struct StreamArgs {
    /// Carry standard input
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Keys that leave it alone: characters and ctrl-CHARACTER, separated by commas
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Leave it in the background
    #[arg(short, long)]
    pub(crate) detach: bool,
}

/// Programs that people want to type into.
const SHELLS: [&str; 9] = ["ash", "bash", "csh", "dash", "fish", "ksh", "sh", "tcsh", "zsh"];

/// What a process has for streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Streams {
    /// Standard input is carried.
    pub(crate) interactive: bool,
    /// They are a terminal.
    pub(crate) tty: bool,
    /// What leaves the process alone, where it has a terminal.
    pub(crate) keys: DetachKeys,
}

impl StreamArgs {
    /// What was asked for. A shell alone that nothing was asked for is at our terminal, if there is one.
    pub(crate) fn streams(&self, command: &[String]) -> Result<Streams, Failure> {
        let keys = self.detach_keys.as_deref().map(str::parse).transpose()?.unwrap_or_default();
        let (interactive, tty) = self.interactive_and_tty(command, !self.detach && terminal::is_there());
        Ok(Streams { interactive, tty, keys })
    }

    fn interactive_and_tty(&self, command: &[String], is_there: bool) -> (bool, bool) {
        let is_shell = |program: &String| SHELLS.contains(&program.rsplit('/').next().unwrap_or_default());
        let typed = is_there && !self.interactive && !self.tty && matches!(command, [program] if is_shell(program));
        (self.interactive || typed, self.tty || typed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_alone_is_at_the_terminal_unless_something_else_was_said() {
        let asked = |interactive, tty, command: &[&str], is_there| {
            let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
            StreamArgs { interactive, tty, ..StreamArgs::default() }.interactive_and_tty(&command, is_there)
        };
        assert_eq!(asked(false, false, &["/bin/bash"], true), (true, true));
        assert_eq!(asked(false, false, &["sh"], false), (false, false));
        assert_eq!(asked(false, false, &["sh", "-c", "ls"], true), (false, false));
        assert_eq!(asked(true, false, &["sh"], true), (true, false));
        assert_eq!(asked(false, false, &["top"], true), (false, false));
        assert_eq!(asked(true, true, &["top"], false), (true, true));
    }
}
