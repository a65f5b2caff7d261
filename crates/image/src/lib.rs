//! Container images: references, transports, registries, layers, and one read-only disk per image.
//!
//! [`Images`] is the door. Disks are written by the `erofs` room; running them is the engine's business.

mod arch;
mod digest;
mod error;
mod images;
mod options;
mod progress;
mod store;

pub use digest::{Digest, NotADigest};
pub use error::Error;
pub use images::{Archive, Image, ImageLock, Images};
pub use options::{Credentials, Platform, PullOptions, PullPolicy, RegistrySettings, Tls};
pub use progress::{Phase, Progress, Silent, Update};
pub use store::ImageStore;
