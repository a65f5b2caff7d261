//! The guest system: a small read-only tree made of Debian packages without unpacking them here. What is in it is in
//! [`contents`].

mod contents;

pub use contents::System;

use crate::Error;
use crate::tool::{self, Tools};
use contents::{APPLETS, LEFT_OUT, UNNEEDED};
use fcvm_erofs::{Attributes, Content, Limits, NodeId, Timestamp, Writer};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;

/// The disk's file in its directory.
pub(crate) const FILE: &str = "system.erofs";
/// Changes when the disk is made in another way.
const RECIPE: &str = "v2";
/// What ends the machine: PID 1 is this program too.
const SCRIPTS: &[(&str, &str)] = &[
    ("sbin/reboot", "#!/bin/sh\nexec /proc/1/exe reboot\n"),
    ("sbin/poweroff", "#!/bin/sh\nexec /proc/1/exe poweroff\n"),
    ("sbin/halt", "#!/bin/sh\nexec /proc/1/exe poweroff\n"),
];

/// Where a package has authorities, and where programs look for them.
const CERTIFICATES: &str = "usr/share/ca-certificates";
const BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";

/// Returns the packages with their versions, which name the disk: what apt would install where nothing is.
pub(crate) fn packages(tools: &Tools, system: System) -> Result<Vec<String>, Error> {
    let mut install = tools.command("apt-get", "apt")?;
    let options = ["-o", "Dir::State::status=/dev/null", "--simulate", "--no-install-recommends", "install"];
    let wanted = system.contents().iter().flat_map(|contents| contents.packages);
    let text = tool::run(install.args(options).args(wanted))?;
    let mut packages: Vec<String> = String::from_utf8_lossy(&text).lines().filter_map(installed).collect();
    packages.sort_unstable();
    Ok(packages)
}

/// `Inst NAME (VERSION …)` as `NAME=VERSION`; none for other lines, and for what is not needed.
fn installed(line: &str) -> Option<String> {
    let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
    let version = rest.split([' ', ')']).next()?;
    (!UNNEEDED.split_whitespace().any(|unneeded| unneeded == name)).then(|| format!("{name}={version}"))
}

/// The name of the disk that is made of these packages.
pub(crate) fn key(system: System, packages: &[String]) -> String {
    let recipe =
        format!("{RECIPE}\n{}\n{:?}{SCRIPTS:?}{APPLETS:?}{LEFT_OUT:?}", packages.join("\n"), system.contents());
    Sha256::digest(recipe).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Writes the disk from the packages' files.
pub(crate) fn make(tools: &Tools, system: System, packages: &[PathBuf], (key, to): (&str, &Path)) -> Result<(), Error> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(to);
    let mut tree = Tree {
        writer: Writer::new(file.map_err(Error::file("write", to))?, Limits::default())?,
        certificates: Vec::new(),
    };
    let contents = system.contents();
    for dir in contents.iter().flat_map(|contents| contents.directories) {
        tree.directory(Path::new(dir), if dir.ends_with("tmp") { 0o1777 } else { 0o755 })?;
    }
    for package in packages {
        tree.add_package(tools, package)?;
    }
    let files = contents.iter().flat_map(|contents| contents.files).map(|file| (file, 0o644));
    for ((path, text), mode) in files.chain(SCRIPTS.iter().map(|script| (script, 0o755))) {
        tree.put(
            Path::new(path),
            attributes(mode),
            Content::File { size: text.len() as u64, data: &mut text.as_bytes() },
        )?;
    }
    for (path, target) in contents.iter().flat_map(|contents| contents.links) {
        tree.put(Path::new(path), attributes(0o777), Content::Symlink(target.as_bytes()))?;
    }
    for applet in APPLETS.split_whitespace() {
        tree.link_applet(applet)?;
    }
    tree.put_certificates()?;
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
    /// The authorities that the packages brought, one after the other: what their own scripts would make of them.
    certificates: Vec<u8>,
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
            tar::EntryType::Regular if path.starts_with(CERTIFICATES) => {
                entry.read_to_end(&mut self.certificates)?;
            }
            tar::EntryType::Regular => {
                let size = entry.size();
                self.put(path, attributes, Content::File { size, data: entry })?;
            }
            other => return Err(io::Error::other(format!("an entry of kind {other:?}")).into()),
        }
        Ok(())
    }

    fn put_certificates(&mut self) -> Result<(), Error> {
        if self.certificates.is_empty() {
            return Ok(());
        }
        let bundle = std::mem::take(&mut self.certificates);
        let content = Content::File { size: bundle.len() as u64, data: &mut bundle.as_slice() };
        Ok(self.put(Path::new(BUNDLE), attributes(0o644), content)?)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apt_would_install_is_named_with_its_version() {
        assert_eq!(
            installed("Inst crun (1.8.1-1+deb12u1 Debian:12.15/oldstable [amd64])").as_deref(),
            Some("crun=1.8.1-1+deb12u1")
        );
        assert_eq!(installed("Inst perl (5.36.0-7 Debian:12 [amd64]) []"), None);
        assert_eq!(installed("Conf crun (1.8.1-1+deb12u1 Debian:12.15/oldstable [amd64])"), None);
    }

    #[test]
    fn the_systems_differ_and_one_is_in_the_other() {
        let packages = vec!["a=1".to_owned()];
        assert_ne!(key(System::Plain, &packages), key(System::Podman, &packages));
        assert_eq!(System::Plain.contents()[0].packages, System::Podman.contents()[0].packages);
    }
}
