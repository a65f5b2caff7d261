//! `--env` and `--env-file`: variables for a process in the guest.

use crate::error::Failure;
use std::path::{Path, PathBuf};

/// Variables of files, then of flags: `KEY=VALUE`, or `KEY` for its value here (nothing if it has none).
pub(crate) fn environment(files: &[PathBuf], flags: &[String]) -> Result<Vec<String>, Failure> {
    let mut env = Vec::new();
    for file in files {
        env.extend(environment_file(file)?);
    }
    for flag in flags {
        env.extend(variable(flag)?);
    }
    Ok(env)
}

fn environment_file(path: &Path) -> Result<Vec<String>, Failure> {
    let failed = |why: &dyn std::fmt::Display| Failure::new(format!("read the variables of {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
    let mut env = Vec::new();
    for line in text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        env.extend(variable(line)?);
    }
    Ok(env)
}

fn variable(text: &str) -> Result<Option<String>, Failure> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    if name.is_empty() || text.contains('\0') {
        return Err(Failure::new("invalid variable: KEY=VALUE or KEY is expected"));
    }
    let value = match value {
        Some(value) => Some(value),
        None => std::env::var_os(name)
            .map(|value| {
                value
                    .into_string()
                    .map_err(|_| Failure::new(format!("the value of {name} is not UTF-8; it cannot be passed on")))
            })
            .transpose()?,
    };
    Ok(value.map(|value| format!("{name}={value}")))
}
