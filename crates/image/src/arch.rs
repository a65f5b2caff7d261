//! What differs by architecture: how images name this one.

/// The architecture in the words of image indexes (Go's GOARCH).
#[cfg(target_arch = "x86_64")]
pub(crate) const ARCHITECTURE: &str = "amd64";
/// The architecture in the words of image indexes (Go's GOARCH).
#[cfg(target_arch = "aarch64")]
pub(crate) const ARCHITECTURE: &str = "arm64";

/// Variants that this machine runs, the best first; an image without a variant always fits.
#[cfg(target_arch = "x86_64")]
pub(crate) const VARIANTS: &[&str] = &["v1"];
/// Variants that this machine runs, the best first; an image without a variant always fits.
#[cfg(target_arch = "aarch64")]
pub(crate) const VARIANTS: &[&str] = &["v8"];
