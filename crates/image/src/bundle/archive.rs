//! Bundles as what other tools load. The same bundle gives the same bytes.

use super::Bundle;
use crate::{Digest, Error};
use fcvm_archive::{Attributes, Entry, EntryKind, Writer};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const BUFFER: usize = 256 << 10;
/// For everyone, as far as the umask says.
const READABLE: u32 = 0o666;

/// What an archive of images is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// What `docker save` writes: as many images as one likes.
    Docker,
    /// An OCI layout in a file.
    Oci,
}

impl Bundle {
    /// Writes an archive to a stream; `shown` names that in errors. Blocks.
    pub fn write(&self, format: ArchiveFormat, to: impl Write, shown: &Path) -> Result<(), Error> {
        let mut members = Members { writer: Writer::new(BufWriter::with_capacity(BUFFER, to)), shown };
        match format {
            ArchiveFormat::Docker => self.write_docker(&mut members)?,
            ArchiveFormat::Oci => self.write_oci(&mut members)?,
        }
        members.writer.finish().map(drop).map_err(Error::file("write", shown))
    }

    /// Writes an archive to a file, which appears when it is whole, in the place of one that is there. What is no file, as a
    /// pipe, is written to. Blocks.
    pub fn write_file(&self, format: ArchiveFormat, path: &Path) -> Result<(), Error> {
        if fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir()) {
            let file = File::options().write(true).open(path).map_err(Error::file("open", path))?;
            return self.write(format, file, path);
        }
        let dir = directory_of(path);
        let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
        match rustix::fs::open(dir, flags, Mode::from_raw_mode(READABLE)) {
            Ok(nameless) => {
                let file = File::from(nameless);
                self.write(format, &file, path)?;
                publish(&file, dir, path).map_err(Error::file("create", path))
            }
            // Not every file system has files without a name.
            Err(_) => {
                let new = aside().tempfile_in(dir).map_err(Error::file("create", path))?;
                self.write(format, new.as_file(), path)?;
                new.persist(path).map(drop).map_err(|error| Error::file("create", path)(error.error))
            }
        }
    }

    /// Makes a directory with an OCI layout; it may be there if nothing is in it. Blocks.
    pub fn write_layout(&self, dir: &Path) -> Result<(), Error> {
        let mut aside = aside();
        let new = aside.permissions(Permissions::from_mode(0o777)).tempdir_in(directory_of(dir));
        let new = new.map_err(Error::file("create directory", dir))?;
        let blobs = new.path().join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(Error::file("create directory", &blobs))?;
        for name in self.layout_files() {
            let to = new.path().join(&name);
            fs::copy(self.scratch.path().join(name), &to).map_err(Error::file("write", &to))?;
        }
        fs::rename(new.path(), dir).map_err(Error::file("create directory", dir))
    }

    fn write_oci(&self, members: &mut Members<'_, impl Write>) -> Result<(), Error> {
        for name in self.layout_files() {
            members.copy(&name, &self.scratch.path().join(&name))?;
        }
        Ok(())
    }

    fn write_docker(&self, members: &mut Members<'_, impl Write>) -> Result<(), Error> {
        let mut manifest = Vec::new();
        let mut written: Vec<Digest> = Vec::new();
        for image in &self.images {
            let (config, _) = image.config;
            let layer = image.layer.digest;
            let names = [format!("{}.json", config.hex()), format!("{}.tar", layer.hex())];
            for (name, digest) in names.iter().zip([config, layer]) {
                if !written.contains(&digest) {
                    members.copy(name, &self.blobs().join(digest.hex()))?;
                    written.push(digest);
                }
            }
            let [config, layer] = names;
            let tags = if image.names.is_empty() { Value::Null } else { json!(image.names) };
            manifest.push(json!({ "Config": config, "RepoTags": tags, "Layers": [layer] }));
        }
        let manifest = json!(manifest).to_string();
        members.add("manifest.json", manifest.len() as u64, manifest.as_bytes())
    }

    /// The files of the layout, in an order that is always the same.
    fn layout_files(&self) -> Vec<String> {
        let of_image = |image: &super::Bundled| [image.config.0, image.manifest.0, image.layer.digest];
        let blobs: BTreeSet<Digest> = self.images.iter().flat_map(of_image).collect();
        let blobs = blobs.into_iter().map(|digest| format!("blobs/sha256/{}", digest.hex()));
        ["oci-layout".to_owned(), "index.json".to_owned()].into_iter().chain(blobs).collect()
    }
}

/// Gives a file its name. Until then who is killed leaves nothing.
fn publish(nameless: &File, dir: &Path, path: &Path) -> io::Result<()> {
    let file = format!("/proc/self/fd/{}", nameless.as_raw_fd());
    let link = |to: &Path| rustix::fs::linkat(CWD, &file, CWD, to, AtFlags::SYMLINK_FOLLOW);
    match link(path) {
        Err(Errno::EXIST) => {
            let new = aside().make_in(dir, |to| Ok(link(to)?))?;
            new.persist(path).map(drop).map_err(|error| error.error)
        }
        linked => Ok(linked?),
    }
}

/// A name for what is not whole yet, readable as far as the umask says.
fn aside() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".fcvm-save-").permissions(Permissions::from_mode(READABLE));
    builder
}

/// The directory that a path is in.
fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The members of an archive under way.
struct Members<'a, W: Write> {
    writer: Writer<BufWriter<W>>,
    shown: &'a Path,
}

impl<W: Write> Members<'_, W> {
    fn copy(&mut self, name: &str, from: &Path) -> Result<(), Error> {
        let file = File::open(from).map_err(Error::file("read", from))?;
        let size = file.metadata().map_err(Error::file("read", from))?.len();
        self.add(name, size, file)
    }

    fn add(&mut self, name: &str, size: u64, bytes: impl Read) -> Result<(), Error> {
        let attributes = Attributes { mode: 0o644, ..Attributes::default() };
        let mut entry = Entry::of(EntryKind::File, name.as_bytes().to_vec(), attributes);
        entry.size = size;
        let written: io::Result<()> = self.writer.file(&entry, bytes);
        written.map_err(Error::file("write", self.shown))
    }
}
