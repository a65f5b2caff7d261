//! What every place has to work with: the program that does the work, this machine's git with its libraries, and an archive
//! of a repository.

use super::super::which;
use super::output;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Files in one directory of the repository.
const SIBLINGS: usize = 100;

/// Gathers them in a directory, which it makes; returns it.
pub(super) fn gather(dir: &Path, files: usize) -> Result<PathBuf> {
    fs::create_dir(dir)?;
    fs::copy(program()?, dir.join("volume-work"))?;
    git(dir)?;
    let repository = dir.with_file_name("repository");
    repository_of(&repository, files)?;
    output(Command::new("tar").arg("-cf").arg(dir.join("repository.tar")).arg("-C").arg(&repository).arg("."))?;
    Ok(dir.to_owned())
}

/// Builds the program that does the work, static, so that it runs in any guest.
fn program() -> Result<PathBuf> {
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "--locked", "--quiet", "--package", "volume-work", "--target", &target]);
    output(build.current_dir(&root))?;
    let dir = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(dir.join(target).join("release/volume-work"))
}

/// Copies git, the libraries that it names, and what loads them.
fn git(dir: &Path) -> Result<()> {
    let git = which("git").context("there is no git on this machine")?;
    fs::copy(&git, dir.join("git"))?;
    let said = output(Command::new("ldd").arg(&git))?;
    for library in said.split_whitespace().filter(|word| word.starts_with('/')) {
        let name = Path::new(library).file_name().context("a library without a name")?.to_string_lossy().into_owned();
        let name = if name.starts_with("ld-linux") { "loader".to_owned() } else { name };
        fs::copy(library, dir.join(name))?;
    }
    Ok(())
}

/// Many files of the same few bytes, so that git keeps one object of them.
fn repository_of(dir: &Path, files: usize) -> Result<()> {
    for number in 0..files {
        let below = dir.join(format!("dir-{:03}", number / SIBLINGS));
        fs::create_dir_all(&below)?;
        fs::write(below.join(format!("file-{number:05}")), "a line of text\n")?;
    }
    let git = |arguments: &[&str]| output(Command::new("git").arg("-C").arg(dir).args(arguments));
    git(&["init", "-q"])?;
    git(&["add", "."])?;
    git(&["-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "-q", "-m", "all"])?;
    Ok(())
}
