//! Images on disk: one directory for each, an index of names, and what is under way.
//!
//! ```text
//! <root>/                0711: an unprivileged monitor reaches its disk through it
//!   <64 hex digits>/     0711: an image by the digest of its configuration
//!     disk.erofs         0644: its files, read-only
//!     image.json         0600: configuration, manifest, layers, size
//!     lock               held (shared) by every VM that runs on the disk
//!   names.json           which image a name means
//!   lock                 held while names change and images go
//!   locks/, new/         images in the making
//!   partial/             blobs in the fetching
//! ```
//! An image appears by one rename and is never changed. Fetching is the business of `transport`, layers of `layer`.

mod building;
pub(crate) mod lock;
mod names;
mod record;
mod remove;

pub(crate) use building::{Building, Claim, Scratch};
pub(crate) use names::{Meaning, Origin};
pub use remove::{Prune, Removed};

use crate::{Digest, Error, Image};
use names::NamesFile;
use record::ImageRecord;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

const DISK: &str = "disk.erofs";
const RECORD: &str = "image.json";
const LOCK: &str = "lock";
/// What was half fetched is kept for going on with it, but not for ever.
const PARTIAL_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Fewer digits of an id are not looked for: every short word of hexadecimal letters would be one.
const SHORT_ID_MIN: usize = 3;

/// The directory of images.
#[derive(Clone, Debug)]
pub struct ImageStore {
    root: PathBuf,
    names: NamesFile,
}

/// Keeps an image from being removed for as long as it lives.
#[derive(Debug)]
pub struct ImageLock {
    _file: File,
}

impl ImageStore {
    /// Opens the directory and makes it if it is not there.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let root = std::path::absolute(root).map_err(Error::file("resolve", root))?;
        let store = Self { names: NamesFile::new(&root), root };
        make_dir(&store.root, 0o711)?;
        for dir in [store.locks_dir(), store.new_dir(), store.partial_dir()] {
            make_dir(&dir, 0o700)?;
        }
        // Whatever this cannot clear (the directory may be read-only) does no harm.
        if let Err(error) = store.sweep(PARTIAL_AGE) {
            tracing::debug!(%error, "left-overs stay");
        }
        Ok(store)
    }

    /// Returns all images, the newest first.
    pub fn list(&self) -> Result<Vec<Image>, Error> {
        let mut images = Vec::new();
        for id in self.ids()? {
            images.extend(self.image(&id)?);
        }
        images.sort_by(|one, other| (other.made, &other.digest).cmp(&(one.made, &one.digest)));
        Ok(images)
    }

    /// Returns the image with this name, id, or unambiguous beginning of an id.
    pub fn lookup(&self, name: &str) -> Result<Image, Error> {
        self.find(name).map(|(image, _)| image)
    }

    /// Returns the same, and the whole name if it was one by which the image was found.
    pub fn find(&self, name: &str) -> Result<(Image, Option<String>), Error> {
        let names = self.names.read()?;
        let (found, whole) = match names.resolve(name) {
            Some((whole, meaning)) => (self.image(&meaning.image)?, Some(whole.to_owned())),
            None => (self.by_id(name)?, None),
        };
        let missing = || Error::NotFound { reference: name.into(), reason: "it is not here".into() };
        found.map(|image| (image, whole)).ok_or_else(missing)
    }

    /// Returns an image's configuration as it came, with what this program knows nothing of.
    pub fn configuration(&self, image: &Image) -> Result<String, Error> {
        let gone = || Error::NotFound { reference: image.digest.clone(), reason: "it was removed".into() };
        let id: Digest = image.digest.parse().map_err(|_| gone())?;
        Ok(ImageRecord::read(&self.image_dir(&id).join(RECORD))?.0.config)
    }

    /// Returns the image with this id, if it is here.
    pub(crate) fn image(&self, id: &Digest) -> Result<Option<Image>, Error> {
        let dir = self.image_dir(id);
        let (record, config, health) = match ImageRecord::read(&dir.join(RECORD)) {
            Ok(read) => read,
            Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(Image {
            digest: id.to_string(),
            names: self.names.read()?.of(id),
            manifest: record.manifest.map(|digest| digest.to_string()),
            config,
            health,
            disk: dir.join(DISK),
            size: record.size,
            made: record.made,
        }))
    }

    /// Keeps an image from being removed.
    pub fn hold(&self, image: &Image) -> Result<ImageLock, Error> {
        let gone = || Error::NotFound { reference: image.digest.clone(), reason: "it was removed".into() };
        let id: Digest = image.digest.parse().map_err(|_| gone())?;
        let path = self.image_dir(&id).join(LOCK);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(gone()),
            opened => opened.map_err(Error::file("open", &path))?,
        };
        file.lock_shared().map_err(Error::file("lock", &path))?;
        if lock::is_at(&file, &path)? { Ok(ImageLock { _file: file }) } else { Err(gone()) }
    }

    /// Returns what a whole name means, by tag or by digest.
    pub(crate) fn meaning_of(&self, name: &crate::reference::Name) -> Result<Option<Meaning>, Error> {
        Ok(self.names.read()?.find(name).map(|(_, meaning)| meaning.clone()))
    }

    /// Gives an image more names; they no longer mean what they meant before.
    pub(crate) fn tag(&self, image: Image, names: &[String], meaning: &Meaning) -> Result<Image, Error> {
        let id = meaning.image;
        if names.is_empty() {
            return Ok(image);
        }
        let _lock = self.names.lock()?;
        let mut index = self.names.read()?;
        if !self.image_dir(&id).is_dir() {
            return Err(Error::NotFound { reference: image.digest, reason: "it was removed meanwhile".into() });
        }
        if names.iter().any(|name| index.get(name) != Some(meaning)) {
            names.iter().for_each(|name| index.insert(name.clone(), meaning.clone()));
            self.names.write(&index)?;
        }
        Ok(Image { names: index.of(&id), ..image })
    }

    /// Where blobs are kept while they are fetched.
    pub(crate) fn partial_dir(&self) -> PathBuf {
        self.root.join("partial")
    }

    /// Returns the image whose id begins so.
    pub(crate) fn by_id(&self, text: &str) -> Result<Option<Image>, Error> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !hex || digits.len() < SHORT_ID_MIN {
            return Ok(None);
        }
        let ids: Vec<Digest> = self.ids()?.into_iter().filter(|id| id.hex().starts_with(digits)).collect();
        match ids.as_slice() {
            [] => Ok(None),
            [id] => self.image(id),
            _ => Err(Error::Ambiguous(text.into())),
        }
    }

    fn ids(&self) -> Result<Vec<Digest>, Error> {
        let entries = fs::read_dir(&self.root).map_err(Error::file("read directory", &self.root))?;
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        Ok(names.filter_map(|name| Digest::from_hex(&name).ok()).collect())
    }

    fn image_dir(&self, id: &Digest) -> PathBuf {
        self.root.join(id.hex())
    }

    fn locks_dir(&self) -> PathBuf {
        self.root.join("locks")
    }

    fn new_dir(&self) -> PathBuf {
        self.root.join("new")
    }
}

fn make_dir(path: &Path, mode: u32) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(Error::file("create directory", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Error::file("set the mode of", path))
}

/// Writes a file so that a reader sees the old or the new contents, never a part.
fn write_atomic(path: &Path, contents: &[u8], mode: u32) -> Result<(), Error> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.new", std::process::id()));
    let temporary = Path::new(&temporary);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(temporary)?;
        file.write_all(contents)?;
        file.sync_data()?;
        fs::rename(temporary, path)
    })();
    written.map_err(|error| {
        let _ = fs::remove_file(temporary);
        Error::file("write", path)(error)
    })
}

/// Removes a directory and all below it; that it is gone already is success.
fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
