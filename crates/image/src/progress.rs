//! How the room tells its caller what it is doing. Drawing bars is the command line's business.

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Finding out what a reference means.
    Resolve,
    /// Fetching a blob.
    Download,
    /// Merging a layer into the disk.
    Merge,
}

/// A step forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update<'a> {
    /// What is being done.
    pub phase: Phase,
    /// To what: a reference, or the digest of a layer (`sha256:…`).
    pub item: &'a str,
    /// Bytes done so far; an item is complete when this equals `total`.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// Who wants to know. Called from several threads, often; it must return at once.
pub trait Progress: Send + Sync {
    /// Hears of a step forward.
    fn update(&self, update: &Update<'_>);
}

/// Hears and says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn update(&self, _: &Update<'_>) {}
}
