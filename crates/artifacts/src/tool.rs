//! Programs of the host: found in the search path, run with an empty environment, their complaints kept.

use crate::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where programs are looked for.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    search_path: Vec<PathBuf>,
}

impl Tools {
    pub(crate) fn new(search_path: &[PathBuf]) -> Self {
        Self { search_path: search_path.to_vec() }
    }

    /// Finds a program.
    pub(crate) fn find(&self, program: &'static str, package: &'static str) -> Result<PathBuf, Error> {
        let candidates = self.search_path.iter().map(|dir| dir.join(program));
        candidates.into_iter().find(|path| path.is_file()).ok_or(Error::NoTool { program, package })
    }

    /// The command of a program with an environment that does not depend on the user's.
    pub(crate) fn command(&self, program: &'static str, package: &'static str) -> Result<Command, Error> {
        let mut command = Command::new(self.find(program, package)?);
        let path = std::env::join_paths(&self.search_path).unwrap_or_default();
        command.env_clear().env("PATH", path).env("LC_ALL", "C").stdin(Stdio::null());
        Ok(command)
    }
}

/// Runs a command to its end and returns what it wrote.
pub(crate) fn run(command: &mut Command) -> Result<Vec<u8>, Error> {
    let program = PathBuf::from(command.get_program());
    let output = command.output().map_err(Error::file("run", &program))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(Error::Tool { command: line(&program, command), complaint: complaint(&output.stderr) })
}

/// The last line of a program's standard error.
pub(crate) fn complaint(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it gave no reason").trim().to_owned()
}

/// A command line for people.
pub(crate) fn line(program: &Path, command: &Command) -> String {
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy();
    let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy()).collect();
    format!("{name} {}", args.join(" "))
}
