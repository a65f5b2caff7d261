//! The guest system: a small read-only tree with crun and busybox, made of Debian packages without unpacking them here.

use crate::Error;
use crate::tool::{self, Tools};
use fcvm_erofs::{Attributes, Content, Limits, NodeId, Timestamp, Writer};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;

/// The disk's file in its directory.
pub(crate) const FILE: &str = "system.erofs";
/// Changes when the disk is made in another way.
const RECIPE: &str = "v1";
/// What the guest needs; their dependencies come along.
const WANTED: &[&str] = &["crun", "busybox-static"];
/// Dependencies that are alternatives of others here, or hold nothing but papers.
const UNNEEDED: &[&str] = &["libelogind0", "gcc-12-base"];
/// Mount points, and places that programs look at.
const DIRECTORIES: &[&str] =
    &["proc", "sys", "dev", "run", "tmp", "mnt", "root", "var", "var/tmp", "etc", "bin", "sbin", "usr", "usr/bin"];
const FILES: &[(&str, &str)] = &[
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"),
    ("etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"),
];
const LINKS: &[(&str, &str)] =
    &[("etc/resolv.conf", "/run/resolv.conf"), ("etc/hosts", "/run/hosts"), ("etc/mtab", "/proc/mounts")];
/// Applets of busybox that people use to look around. Its wget crashes when it is static.
const APPLETS: &[&str] = &[
    "ash",
    "awk",
    "basename",
    "cat",
    "chmod",
    "chown",
    "clear",
    "cmp",
    "cp",
    "cut",
    "date",
    "dd",
    "df",
    "diff",
    "dirname",
    "dmesg",
    "du",
    "echo",
    "env",
    "expr",
    "false",
    "find",
    "free",
    "fuser",
    "grep",
    "head",
    "hexdump",
    "hostname",
    "id",
    "ifconfig",
    "ip",
    "kill",
    "killall",
    "less",
    "ln",
    "ls",
    "lsmod",
    "lsof",
    "md5sum",
    "mkdir",
    "mknod",
    "mktemp",
    "more",
    "mount",
    "mountpoint",
    "mv",
    "nc",
    "netstat",
    "nslookup",
    "od",
    "pgrep",
    "pidof",
    "ping",
    "pkill",
    "printenv",
    "printf",
    "ps",
    "pwd",
    "readlink",
    "realpath",
    "rm",
    "rmdir",
    "route",
    "sed",
    "seq",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "strings",
    "stty",
    "sync",
    "sysctl",
    "tail",
    "tar",
    "tee",
    "test",
    "time",
    "timeout",
    "top",
    "touch",
    "tr",
    "true",
    "umount",
    "uname",
    "uniq",
    "uptime",
    "usleep",
    "vi",
    "watch",
    "wc",
    "which",
    "whoami",
    "xargs",
    "xxd",
    "yes",
    "zcat",
];
/// What nobody reads in a guest.
const LEFT_OUT: &[&str] =
    &["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian", "usr/share/bash-completion"];

/// Returns the packages with their versions, which name the disk.
pub(crate) fn packages(tools: &Tools) -> Result<Vec<String>, Error> {
    let mut depends = tools.command("apt-cache", "apt")?;
    let options = ["--recurse", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces"];
    let text = tool::run(depends.arg("depends").args(options).arg("--no-enhances").args(WANTED))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut names: Vec<&str> =
        text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_alphanumeric())).collect();
    names.retain(|name| !UNNEEDED.contains(name));
    names.sort_unstable();
    names.dedup();
    let mut show = tools.command("apt-cache", "apt")?;
    let text = tool::run(show.args(["show", "--no-all-versions"]).args(&names))?;
    let text = String::from_utf8_lossy(&text);
    let mut packages = Vec::new();
    let mut name = "";
    for line in text.lines() {
        if let Some(value) = line.strip_prefix("Package: ") {
            name = value;
        } else if let Some(version) = line.strip_prefix("Version: ") {
            packages.push(format!("{name}={version}"));
        }
    }
    packages.sort_unstable();
    Ok(packages)
}

/// The name of the disk that is made of these packages.
pub(crate) fn key(packages: &[String]) -> String {
    let recipe = format!("{RECIPE}\n{}\n{FILES:?}{LINKS:?}{APPLETS:?}{LEFT_OUT:?}", packages.join("\n"));
    Sha256::digest(recipe).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Writes the disk from the packages' files.
pub(crate) fn make(tools: &Tools, packages: &[PathBuf], key: &str, to: &Path) -> Result<(), Error> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(to);
    let mut tree = Tree { writer: Writer::new(file.map_err(Error::file("write", to))?, Limits::default())? };
    for dir in DIRECTORIES {
        tree.directory(Path::new(dir), if dir.ends_with("tmp") { 0o1777 } else { 0o755 })?;
    }
    for package in packages {
        tree.add_package(tools, package)?;
    }
    for (path, text) in FILES {
        tree.put(
            Path::new(path),
            attributes(0o644),
            Content::File { size: text.len() as u64, data: &mut text.as_bytes() },
        )?;
    }
    for (path, target) in LINKS {
        tree.put(Path::new(path), attributes(0o777), Content::Symlink(target.as_bytes()))?;
    }
    for applet in APPLETS {
        tree.link_applet(applet)?;
    }
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&Sha256::digest(key)[..16]);
    let summary = tree.writer.finish(uuid)?;
    summary.file.sync_all().map_err(Error::file("write", to))
}

fn attributes(mode: u16) -> Attributes {
    Attributes { mode, ..Attributes::default() }
}

/// The disk's tree while it grows. Debian's packages expect `/bin` and its like to be links into `/usr`; here they are
/// directories, and both are looked at by every program.
struct Tree {
    writer: Writer,
}

impl Tree {
    fn add_package(&mut self, tools: &Tools, package: &Path) -> Result<(), Error> {
        let mut command = tools.command("dpkg-deb", "dpkg")?;
        command.arg("--fsys-tarfile").arg(package).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(Error::file("unpack", package))?;
        let pipe = child.stdout.take().expect("stdout is piped");
        let added = self.add_archive(pipe, package);
        let status = child.wait().map_err(Error::file("unpack", package))?;
        added?;
        if status.success() {
            return Ok(());
        }
        let command = tool::line(Path::new("dpkg-deb"), &command);
        Err(Error::Tool { command, complaint: "the package cannot be unpacked".to_owned() })
    }

    fn add_archive(&mut self, archive: impl Read, package: &Path) -> Result<(), Error> {
        let mut archive = tar::Archive::new(archive);
        for entry in archive.entries().map_err(Error::file("read", package))? {
            let mut entry = entry.map_err(Error::file("read", package))?;
            let path = entry.path().map_err(Error::file("read", package))?.into_owned();
            let path: PathBuf = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
            if path.as_os_str().is_empty() || LEFT_OUT.iter().any(|left_out| path.starts_with(left_out)) {
                continue;
            }
            self.add_entry(&mut entry, &path).map_err(|error| match error {
                Failure::Io(error) => Error::file("read", package)(error),
                Failure::Disk(error) => Error::Disk(error),
            })?;
        }
        Ok(())
    }

    fn add_entry<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, path: &Path) -> Result<(), Failure> {
        let header = entry.header().clone();
        let mode = (header.mode()? & 0o7777) as u16;
        let mtime = Timestamp { seconds: header.mtime()? as i64, nanoseconds: 0 };
        let attributes = Attributes { mode, mtime, ..Attributes::default() };
        match header.entry_type() {
            tar::EntryType::Directory => drop(self.directory(path, mode)?),
            tar::EntryType::Symlink => {
                let target = entry.link_name_bytes().ok_or(io::ErrorKind::InvalidData)?.into_owned();
                self.put(path, attributes, Content::Symlink(&target))?;
            }
            tar::EntryType::Regular => {
                let size = entry.size();
                self.put(path, attributes, Content::File { size, data: entry })?;
            }
            other => return Err(io::Error::other(format!("an entry of kind {other:?}")).into()),
        }
        Ok(())
    }

    fn link_applet(&mut self, applet: &str) -> Result<(), Error> {
        for dir in ["bin", "usr/bin", "sbin", "usr/sbin"] {
            let dir = self.directory(Path::new(dir), 0o755)?;
            if self.writer.lookup(dir, applet.as_bytes())?.is_some() {
                return Ok(());
            }
        }
        Ok(self.put(&Path::new("bin").join(applet), attributes(0o777), Content::Symlink(b"/bin/busybox"))?)
    }

    fn put(&mut self, path: &Path, attributes: Attributes, content: Content<'_>) -> Result<(), fcvm_erofs::Error> {
        let dir = self.directory(path.parent().unwrap_or(Path::new("")), 0o755)?;
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        self.writer.remove(dir, name)?;
        self.writer.add(dir, name, attributes, content).map(drop)
    }

    /// Returns a directory and makes what is missing of its path.
    fn directory(&mut self, path: &Path, mode: u16) -> Result<NodeId, fcvm_erofs::Error> {
        let mut dir = self.writer.root();
        for part in path.components() {
            let name = part.as_os_str().as_encoded_bytes();
            dir = match self.writer.lookup(dir, name)? {
                Some(known) => known,
                None => self.writer.add(dir, name, attributes(mode), Content::Directory)?,
            };
        }
        Ok(dir)
    }
}

enum Failure {
    Io(io::Error),
    Disk(fcvm_erofs::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<io::ErrorKind> for Failure {
    fn from(kind: io::ErrorKind) -> Self {
        Self::Io(kind.into())
    }
}

impl From<fcvm_erofs::Error> for Failure {
    fn from(error: fcvm_erofs::Error) -> Self {
        Self::Disk(error)
    }
}
