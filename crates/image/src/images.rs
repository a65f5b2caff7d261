//! The façade: an image for a reference, whatever it takes. What it takes is in the neighbours.

use crate::convert::Conversion;
use crate::health::HealthCheck;
use crate::reference::{Name, Reference, ShortName};
use crate::registries::Registries;
use crate::store::{Claim, Meaning, Origin};
use crate::transport::{
    ArchiveFile, BlobDir, DockerArchive, HostStorage, OciArchive, OciLayout, Registry, Resolved, Transport,
};
use crate::{Error, ImageLock, ImageStore, Phase, Progress, PullOptions, PullPolicy, Update, directory, manifest};
use oci_spec::image::ImageConfiguration;
use std::io::Read;
use std::path::{Path, PathBuf};

/// An image that is here.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Its id: the digest of its configuration, `sha256:…`.
    pub digest: String,
    /// Names that mean it, whole (`docker.io/library/busybox:latest`).
    pub names: Vec<String>,
    /// The digest of the manifest it came by, `sha256:…`; images from docker's archives have none.
    pub manifest: Option<String>,
    /// What its author says about running it.
    pub config: ImageConfiguration,
    /// How its author says that it can be told whether it is well: Docker's `HEALTHCHECK`.
    pub health: Option<HealthCheck>,
    /// The read-only EROFS disk with its files.
    pub disk: PathBuf,
    /// The disk's size in bytes, without holes.
    pub size: u64,
    /// When the disk was made here, in seconds since 1970.
    pub made: u64,
}

/// The images of one data directory.
#[derive(Clone, Debug)]
pub struct Images {
    store: ImageStore,
}

/// An archive to load images from.
pub enum Archive<'a> {
    /// A file.
    File(&'a Path),
    /// A stream, for example stdin; it is spooled to disk first.
    Stream(&'a mut dyn Read),
}

impl Images {
    /// Opens the image room's directory (`<data>/images`) and makes it if it is not there.
    pub fn open(root: &Path) -> Result<Self, Error> {
        Ok(Self { store: ImageStore::open(root)? })
    }

    /// The images on disk: listing, looking up, removing, pruning.
    pub fn store(&self) -> &ImageStore {
        &self.store
    }

    /// Keeps an image from being removed.
    pub fn hold(&self, image: &Image) -> Result<ImageLock, Error> {
        self.store.hold(image)
    }

    /// Returns the image that a reference means, fetching and converting it as the policy says. Blocks.
    pub fn ensure(&self, reference: &str, options: &PullOptions, progress: &dyn Progress) -> Result<Image, Error> {
        progress.update(&Update { phase: Phase::Resolve, item: reference, done: 0, total: 1 });
        let image = match Reference::parse(reference) {
            Ok(Reference::Short(_)) if reference.starts_with("sha256:") => self.store.lookup(reference),
            Ok(Reference::Short(short)) => self.short(reference, &short, options, progress),
            Ok(Reference::Registry(name)) if name.is_local() => self.local(&name, options, progress),
            Ok(Reference::Registry(name)) => {
                let here = self.here(&name, options)?;
                self.by_policy((reference, here), &[name], options, progress)
            }
            Ok(other) => self.read_source(&other, options, progress),
            Err(error) => self.store.by_id(reference)?.ok_or(error),
        }?;
        progress.update(&Update { phase: Phase::Resolve, item: reference, done: 1, total: 1 });
        Ok(image)
    }

    /// Loads every image of an OCI or docker archive (`fcvm load`), each returned with the names that it has there. Blocks.
    pub fn load(
        &self,
        archive: Archive<'_>,
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<Vec<Image>, Error> {
        let (spool, limit) = (self.store.partial_dir(), options.limits.unpacked);
        let archive = match archive {
            Archive::File(path) if path.is_dir() => {
                let layout = OciLayout::new(path);
                let resolved = layout.resolve(None, &options.platform)?;
                return Ok(vec![self.load_one(&layout, resolved, options, progress)?]);
            }
            Archive::File(path) => ArchiveFile::open(path, &spool, limit)?,
            Archive::Stream(stream) => ArchiveFile::spooled(stream, "stdin".into(), &spool, limit)?,
        };
        let mut images = Vec::new();
        if archive.has(DockerArchive::MANIFEST) {
            let (archive, all) = DockerArchive::resolve_all(archive)?;
            for resolved in all {
                images.push(self.load_one(&archive, resolved, options, progress)?);
            }
        } else {
            let archive = OciArchive(archive);
            for resolved in archive.resolve_all(&options.platform)? {
                images.push(self.load_one(&archive, resolved, options, progress)?);
            }
        }
        Ok(images)
    }

    fn load_one(
        &self,
        transport: &dyn Transport,
        resolved: Resolved,
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<Image, Error> {
        let image = self.make_local(transport, &resolved, options, progress)?;
        Ok(Image { names: resolved.names, ..image })
    }

    /// Makes a disk of a directory (`--rootfs`); `key` is its identity: the same key gives the same disk again. Blocks.
    pub fn import_directory(&self, dir: &Path, key: &str, options: &PullOptions) -> Result<Image, Error> {
        directory::import(&self.store, dir, key, &options.limits)
    }

    /// A name without a registry, or the beginning of an id: of what is here, of what the host's podman has built, of what
    /// registries have.
    fn short(
        &self,
        reference: &str,
        short: &ShortName,
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<Image, Error> {
        let own = short.at("localhost");
        if options.policy != PullPolicy::Always && self.store.meaning_of(&own)?.is_some() {
            return self.local(&own, options, progress);
        }
        let names = Registries::read(&options.registries)?.candidates(short);
        let mut here = None;
        for name in names.as_deref().unwrap_or_default() {
            here = here.or(self.here(name, options)?);
        }
        if here.is_none() && short.bare {
            here = self.store.by_id(reference)?;
        }
        match (here, options.policy) {
            (Some(image), PullPolicy::Missing | PullPolicy::Never) => Ok(image),
            // Asked last: starting podman takes longer than all of the above.
            (None, PullPolicy::Missing) if self.host(options).id(&own.to_string()).is_some() => {
                self.local(&own, options, progress)
            }
            (here, _) => self.by_policy((reference, here), &names?, options, progress),
        }
    }

    /// What is here or what the first of these names gives that has it, as the policy says.
    fn by_policy(
        &self,
        (reference, here): (&str, Option<Image>),
        names: &[Name],
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<Image, Error> {
        match (options.policy, here) {
            (PullPolicy::Missing | PullPolicy::Never, Some(image)) => Ok(image),
            (PullPolicy::Never, None) => Err(never(reference)),
            (PullPolicy::Newer, Some(image)) => {
                Ok(self.pull(reference, names, options, progress).unwrap_or_else(|error| {
                    tracing::warn!(%error, reference, "the image here is used as it is");
                    image
                }))
            }
            _ => self.pull(reference, names, options, progress),
        }
    }

    fn host(&self, options: &PullOptions) -> HostStorage {
        HostStorage::new(&options.registries.search_path)
    }

    fn pull(
        &self,
        reference: &str,
        names: &[Name],
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<Image, Error> {
        let mut missing = Vec::new();
        for name in names {
            let registry = Registry::new(name.clone(), options, self.store.partial_dir())?;
            match registry.resolve(&options.platform) {
                Ok(resolved) => return self.make(&registry, &resolved, (Origin::Registry, options), progress),
                Err(Error::NotFound { reason, .. }) => missing.push(reason),
                Err(error) if names.len() == 1 => return Err(error),
                Err(error) => missing.push(error.to_string()),
            }
        }
        Err(Error::NotFound { reference: reference.into(), reason: missing.join("; ") })
    }

    /// `localhost/…`: what was loaded here, or what the host's podman has by that name now.
    fn local(&self, name: &Name, options: &PullOptions, progress: &dyn Progress) -> Result<Image, Error> {
        let text = name.to_string();
        let here = self.here(name, options)?;
        let meaning = self.store.meaning_of(name)?;
        let ours = meaning.is_some_and(|meaning| meaning.origin != Origin::Host) || options.policy == PullPolicy::Never;
        match here {
            Some(image) if ours => Ok(image),
            None if options.policy == PullPolicy::Never => Err(never(&text)),
            here => self.export(&text, here, options, progress),
        }
    }

    /// An image of the host's podman. What is here is good enough where there is no podman any more.
    fn export(
        &self,
        name: &str,
        here: Option<Image>,
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<Image, Error> {
        let host = self.host(options);
        if let Some(id) = host.id(name)
            && let Some(image) = self.store.image(&id)?
        {
            let names: Vec<String> = image.names.clone();
            let meaning = Meaning { image: id, manifest: None, origin: Origin::Host };
            let new = Resolved::local_names(name).into_iter().filter(|name| !names.contains(name)).collect::<Vec<_>>();
            return self.store.tag(image, &new, &meaning);
        }
        match (host.export(name, self.store.scratch()?), here) {
            (Ok((exported, resolved)), _) => self.make(&exported, &resolved, (Origin::Host, options), progress),
            (Err(_), Some(image)) => Ok(image),
            (Err(error), None) => Err(error),
        }
    }

    fn read_source(
        &self,
        reference: &Reference,
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<Image, Error> {
        let (platform, origin) = (&options.platform, (Origin::Local, options));
        let (spool, limit) = (self.store.partial_dir(), options.limits.unpacked);
        match reference {
            Reference::OciLayout { dir, tag } => {
                let layout = OciLayout::new(dir);
                self.make(&layout, &layout.resolve(tag.as_deref(), platform)?, origin, progress)
            }
            Reference::OciArchive { file, tag } => {
                let archive = OciArchive(ArchiveFile::open(file, &spool, limit)?);
                self.make(&archive, &archive.resolve(tag.as_deref(), platform)?, origin, progress)
            }
            Reference::DockerArchive { file, name } => {
                let (archive, all) = DockerArchive::resolve_all(ArchiveFile::open(file, &spool, limit)?)?;
                let resolved = archive.choose(all, name.as_deref())?;
                self.make(&archive, &resolved, origin, progress)
            }
            Reference::Directory(dir) => {
                let blobs = BlobDir::new(dir);
                self.make(&blobs, &blobs.resolve()?, origin, progress)
            }
            Reference::HostStorage(name) => self.export(name, None, options, progress),
            Reference::Registry(_) | Reference::Short(_) => unreachable!("names have a way of their own"),
        }
    }

    /// Returns what a name means here, if it fits the platform.
    fn here(&self, name: &Name, options: &PullOptions) -> Result<Option<Image>, Error> {
        let Some(meaning) = self.store.meaning_of(name)? else { return Ok(None) };
        let Some(image) = self.store.image(&meaning.image)? else { return Ok(None) };
        let (os, architecture) = (image.config.os().to_string(), image.config.architecture().to_string());
        let fits = options.platform.rank(&os, &architecture, image.config.variant().as_deref()).is_some();
        Ok(fits.then_some(image))
    }

    /// Makes an image of what a source on this machine resolved.
    pub(crate) fn make_local(
        &self,
        transport: &dyn Transport,
        resolved: &Resolved,
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<Image, Error> {
        self.make(transport, resolved, (Origin::Local, options), progress)
    }

    /// Makes an image of what a source resolved, unless it is here, and names it.
    fn make(
        &self,
        transport: &dyn Transport,
        resolved: &Resolved,
        (origin, options): (Origin, &PullOptions),
        progress: &dyn Progress,
    ) -> Result<Image, Error> {
        let (config, layers) = (&resolved.config, resolved.layers.len());
        let parsed = manifest::configuration(config, layers, &options.platform, &resolved.reference)?;
        let diff_ids = manifest::diff_ids(&parsed)?;
        let id = crate::Digest::of(config);
        let image = match self.store.image(&id)? {
            Some(image) => image,
            None => match self.store.claim(&id)? {
                Claim::Present(image) => *image,
                Claim::Absent(building) => {
                    let (limits, diff_ids) = (&options.limits, &diff_ids[..]);
                    let made = Conversion { transport, resolved, diff_ids, limits, progress }.run(building);
                    // On a full disk, what was fetched would keep it full.
                    if matches!(made, Ok(_) | Err(Error::DiskFull { .. })) {
                        transport.forget(&resolved.layers);
                    }
                    made?
                }
            },
        };
        let meaning = Meaning { image: id, manifest: resolved.manifest, origin };
        self.store.tag(image, &resolved.names, &meaning)
    }
}

fn never(reference: &str) -> Error {
    Error::NotFound { reference: reference.into(), reason: "it is not here, and --pull is never".into() }
}

#[cfg(test)]
mod tests;
