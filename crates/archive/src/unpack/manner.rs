//! How a stream is unpacked: what its reader decides, not the stream.

/// How a stream is unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// Who owns what comes.
    pub owner: Owner,
    /// What becomes of a directory in the place of a file, and of a file in that of a directory.
    pub conflict: Conflict,
    /// Where it comes from.
    pub trust: Trust,
    /// How much may come.
    pub limits: Limits,
    /// How large files are written.
    pub writing: Writing,
}

/// How large files are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    /// Through the page cache, as everything.
    Cached,
    /// Past it, where the file system can: in an emulated machine the cache costs more than all else.
    Direct,
}

/// Who owns what is unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Whom the stream says.
    Told,
    /// This user and group.
    Given(u32, u32),
    /// Who unpacks it.
    Own,
}

/// What becomes of a directory in the place of a file, and of a file in that of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// It is refused.
    Refused,
    /// The new takes the place.
    Replaced,
}

/// Whether a stream may make what has rights of its own: devices, programs that run as their owner or with capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It may.
    Full,
    /// It may not: devices are left out, and so are those bits.
    None,
}

/// How much a stream may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries.
    pub entries: u64,
    /// Bytes of files, holes not counted.
    pub bytes: u64,
}
