//! Container images: references, transports, registries, layers, and one read-only disk per image.
//!
//! [`Images`] is the door: [`Images::ensure`] turns a reference into an [`Image`] with a disk. On the way:
//!
//! ```text
//! reference ─► registries ─► transport ─► convert ─► layer ─► erofs ─► store
//! (what is     (where it     (manifest,   (fetch and  (tar to   (disk)   (published once,
//!  written)     may be)       blobs)       merge)      tree)              named, locked)
//! ```
//! Everything blocks; run it on a thread for such work. The room prints nothing and reads no environment. Disks are written
//! by the `erofs` room; running them is the engine's business.

mod arch;
mod bundle;
pub mod changes;
mod convert;
mod credentials;
mod digest;
mod directory;
#[cfg(test)]
mod disk_reader;
mod error;
mod health;
mod images;
mod layer;
mod manifest;
mod options;
mod progress;
pub mod reference;
mod registries;
mod save;
mod store;
mod transport;

pub use bundle::{ArchiveFormat, Bundle, Layer, LayerWriter, whole_name};
pub use digest::{Digest, NotADigest};
pub use directory::{directory_key, disk_of_directory};
pub use error::Error;
pub use health::HealthCheck;
pub use images::{Archive, Image, Images};
pub use layer::Limits;
pub use layer::decompress_archive;
pub use options::{Credentials, Platform, PullOptions, PullPolicy, RegistrySettings, Tls};
pub use progress::{Phase, Progress, Silent, Update};
pub use store::{ImageLock, ImageStore, Prune, Removed};
