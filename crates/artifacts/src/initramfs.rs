//! The initramfs: the agent as `/init`, and the modules that it loads. The same inputs give the same bytes.

use crate::{Error, kernel, program};
use cpio::newc::Builder;
use fcvm_store::file::open_lock;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const DIRECTORY: u32 = 0o040_755;
const CHARACTER_DEVICE: u32 = 0o020_600;
const FILE: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;

/// Returns the initramfs for an agent and a kernel's modules, and makes it if it is not there.
///
/// It is named by the agent's file (its size, its time and its place on disk) and the kernel's key: reading the agent at
/// every start would cost more than a start may.
pub(crate) fn ensure(dir: &Path, agent: &Path, kernel: Option<&Path>) -> Result<PathBuf, Error> {
    let metadata = fs::metadata(agent).map_err(Error::file("find the agent", agent))?;
    let identity = format!(
        "v1 {} {} {} {} {}",
        kernel.and_then(Path::file_name).unwrap_or_default().to_string_lossy(),
        metadata.size(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ino(),
    );
    let key: String = Sha256::digest(identity).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let path = dir.join(format!("{key}.cpio"));
    if path.is_file() {
        return Ok(path);
    }
    let lock = open_lock(&dir.join("lock"))?;
    lock.lock().map_err(Error::file("lock", dir))?;
    if !path.is_file() {
        let init = fs::read(agent).map_err(Error::file("read the agent", agent))?;
        program::check(&init).map_err(|source| Error::NotAnAgent { path: agent.to_owned(), source })?;
        let temporary = dir.join(format!("{key}.new"));
        let packed = pack(&temporary, &init, kernel).and_then(|()| fs::rename(&temporary, &path));
        packed.map_err(|error| {
            let _ = fs::remove_file(&temporary);
            Error::file("write", &path)(error)
        })?;
        remove_others(dir, &path);
    }
    Ok(path)
}

/// Removes initramfs files of agents that are gone. A running VM has read its own long ago.
fn remove_others(dir: &Path, kept: &Path) {
    const KEPT: usize = 4;
    let age = |path: &PathBuf| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut old: Vec<PathBuf> =
        entries.filter(|path| path != kept && path.extension().is_some_and(|extension| extension == "cpio")).collect();
    old.sort_by_key(age);
    for path in old.iter().rev().skip(KEPT) {
        let _ = fs::remove_file(path);
    }
}

fn pack(to: &Path, init: &[u8], kernel: Option<&Path>) -> io::Result<()> {
    let mut archive = BufWriter::new(File::create(to)?);
    let mut number = 1;
    let mut entry = |archive: &mut BufWriter<File>, name: &str, mode: u32, contents: &[u8]| -> io::Result<()> {
        number += 1;
        let builder = Builder::new(name).ino(number).mode(mode).nlink(if mode == DIRECTORY { 2 } else { 1 });
        let mut writer = builder.write(&mut *archive, contents.len() as u32);
        writer.write_all(contents)?;
        writer.finish().map(drop)
    };
    for name in ["dev", "modules", "newroot", "proc", "run", "sys"] {
        entry(&mut archive, name, DIRECTORY, b"")?;
    }
    for (name, mode, contents) in modules(kernel)? {
        entry(&mut archive, &name, mode, &contents)?;
    }
    entry(&mut archive, "init", PROGRAM, init)?;
    for (name, minor) in [("dev/console", 1), ("dev/null", 3)] {
        let major = if minor == 1 { 5 } else { 1 };
        let builder = Builder::new(name).mode(CHARACTER_DEVICE).rdev_major(major).rdev_minor(minor);
        builder.write(&mut archive, 0).finish().map(drop)?;
    }
    cpio::newc::trailer(&mut archive)?;
    archive.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

type Entry = (String, u32, Vec<u8>);

fn modules(kernel: Option<&Path>) -> io::Result<Vec<Entry>> {
    let Some(kernel) = kernel else {
        // All that the agent needs is built into a kernel of the user's own.
        let empty = |name: &str| (format!("modules/{name}"), FILE, Vec::new());
        return Ok(vec![empty("boot.list"), empty("later.list")]);
    };
    let mut paths: Vec<_> = fs::read_dir(kernel.join(kernel::MODULES))?.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let entry = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((format!("modules/{name}"), FILE, fs::read(path)?))
    };
    paths.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &Path) -> Vec<String> {
        let mut file = File::open(path).unwrap();
        let mut names = Vec::new();
        loop {
            let reader = cpio::newc::Reader::new(file).unwrap();
            if reader.entry().is_trailer() {
                return names;
            }
            names.push(reader.entry().name().to_owned());
            file = reader.finish().unwrap();
        }
    }

    fn program(rest: &[u8]) -> Vec<u8> {
        program::sample(crate::arch::ELF_MACHINE, 1, rest)
    }

    #[test]
    fn what_cannot_start_in_a_guest_is_refused_and_not_packed() {
        let dir = tempfile::tempdir().unwrap();
        let agent = dir.path().join("agent");
        fs::write(&agent, program::sample(crate::arch::ELF_MACHINE, 3, b"")).unwrap();
        let error = ensure(dir.path(), &agent, None).unwrap_err();
        assert!(matches!(error, Error::NotAnAgent { source: program::Unfit::Dynamic, .. }), "{error}");
        let names = fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.file_name());
        assert!(names.into_iter().all(|name| name == "agent" || name == "lock"));
    }

    #[test]
    fn the_agent_is_init_and_a_new_agent_makes_a_new_initramfs() {
        let dir = tempfile::tempdir().unwrap();
        let (agent, kernel) = (dir.path().join("agent"), dir.path().join("kernel"));
        fs::create_dir_all(kernel.join("modules")).unwrap();
        fs::write(kernel.join("modules/boot.list"), "a.ko\n").unwrap();
        fs::write(&agent, program(b"one")).unwrap();
        let first = ensure(dir.path(), &agent, Some(&kernel)).unwrap();
        assert_eq!(ensure(dir.path(), &agent, Some(&kernel)).unwrap(), first);
        assert!(
            ["init", "modules/boot.list", "dev/console"].iter().all(|name| names(&first).contains(&(*name).to_owned()))
        );
        fs::write(&agent, program(b"another")).unwrap();
        assert_ne!(ensure(dir.path(), &agent, Some(&kernel)).unwrap(), first);
    }
}
