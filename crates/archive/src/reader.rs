//! The entries of a tar archive, one after the other, from a stream. What they mean is decided by others.
//!
//! The tar crate reads the fields of headers; the iteration is ours because its own keeps extension headers of any size in
//! memory.

use crate::pax::Pax;
use crate::sparse::{self, Expanded, Sparse};
use crate::{Attributes, Entry, EntryKind, Error, Timestamp};
use std::io::{self, Read};
use tar::Header;

/// Extension headers (long names, pax) are at most this long, as in Go's reader, which writes most images.
const EXTENSION_MAX: u64 = 1 << 20;
const RECORD: u64 = 512;

/// A stream of which parts may be skipped.
pub trait Source: Read {
    /// Skips bytes; fewer are there is an error at the next read.
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.take(count), &mut io::sink())?;
        if skipped == count { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// A stream that can only be read.
#[derive(Debug)]
pub struct Stream<R>(pub R);

impl<R: Read> Read for Stream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> Source for Stream<R> {}

/// Reads entries one after the other.
#[derive(Debug)]
pub struct Entries<S> {
    source: S,
    /// Of the current entry's stored data: what was not read, and what fills its last record.
    unread: u64,
    padding: u64,
    /// The stream's position in bytes.
    position: u64,
}

#[derive(Default)]
struct Extensions {
    pax: Pax,
    long_name: Option<Vec<u8>>,
    long_target: Option<Vec<u8>>,
}

impl<S: Source> Entries<S> {
    /// Reads from a stream's beginning.
    pub fn new(source: S) -> Self {
        Self { source, unread: 0, padding: 0, position: 0 }
    }

    /// Returns the next entry; nothing at the end.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        let mut extensions = Extensions::default();
        loop {
            let skip = self.unread + self.padding;
            self.source.skip(skip)?;
            self.position += skip;
            (self.unread, self.padding) = (0, 0);
            let Some(header) = self.header()? else { return Ok(None) };
            let size = field(&header.as_old().size, "size")?;
            match header.as_old().linkflag[0] {
                b'x' => {
                    let bytes = self.extension(size)?;
                    extensions.pax = Pax::parse(&bytes).ok_or(Error::Malformed("a pax header"))?;
                }
                b'L' => extensions.long_name = Some(until_zero(self.extension(size)?)),
                b'K' => extensions.long_target = Some(until_zero(self.extension(size)?)),
                // Global headers are ignored, as podman does.
                b'g' => self.set_data(size)?,
                _ => return self.entry(&header, size, extensions).map(Some),
            }
        }
    }

    /// Returns where in the stream the current entry's stored data begins.
    pub fn data_position(&self) -> u64 {
        self.position
    }

    /// Returns the current entry's bytes.
    pub fn contents(&mut self, entry: &Entry) -> Box<dyn Read + '_> {
        let stored = Stored { entries: self };
        match &entry.sparse {
            Some(sparse) => Box::new(Expanded::new(stored, sparse.clone())),
            None => Box::new(stored),
        }
    }

    /// Returns the current entry's stored bytes: of a sparse file only those of its pieces.
    pub(crate) fn stored(&mut self) -> impl Read + '_ {
        Stored { entries: self }
    }

    /// Reads the stream to its end: what follows the archive's end counts for its digest too.
    pub fn drain(&mut self) -> Result<(), Error> {
        Ok(io::copy(&mut self.source, &mut io::sink()).map(drop)?)
    }

    /// Reads a header; nothing at the end of the archive, which two zero records mark or the stream's end.
    fn header(&mut self) -> Result<Option<Header>, Error> {
        let mut header = Header::new_old();
        if !self.record(header.as_mut_bytes())? {
            return Ok(None);
        }
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            let second = self.record(header.as_mut_bytes())?;
            if second && header.as_bytes().iter().any(|byte| *byte != 0) {
                return Err(Error::Malformed("a lone zero record"));
            }
            return Ok(None);
        }
        let sum = header.as_bytes().iter().enumerate().map(|(at, byte)| match at {
            148..156 => u64::from(b' '),
            _ => u64::from(*byte),
        });
        if sum.sum::<u64>() != field(&header.as_old().cksum, "checksum")? {
            return Err(Error::Malformed("a header's checksum"));
        }
        Ok(Some(header))
    }

    /// Fills a record; false at the stream's end.
    fn record(&mut self, record: &mut [u8; RECORD as usize]) -> Result<bool, Error> {
        let mut filled = 0;
        while filled < record.len() {
            match self.source.read(&mut record[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(Error::Ended),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.position += RECORD;
        Ok(true)
    }

    fn set_data(&mut self, size: u64) -> Result<(), Error> {
        // So that no sum below overflows.
        if size > i64::MAX as u64 - RECORD {
            return Err(Error::Malformed("an entry's size"));
        }
        (self.unread, self.padding) = (size, size.next_multiple_of(RECORD) - size);
        Ok(())
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        if size > EXTENSION_MAX {
            return Err(Error::hostile(b"", format!("an extension header of {size} bytes")));
        }
        self.set_data(size)?;
        let mut bytes = vec![0; size as usize];
        Stored { entries: self }.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn entry(&mut self, header: &Header, size: u64, extensions: Extensions) -> Result<Entry, Error> {
        let Extensions { pax, long_name, long_target } = extensions;
        let wrong = |what: &'static str| move |()| Error::Malformed(what);
        let from_pax = |key: &str| pax.get(key).map(<[u8]>::to_vec);
        let name = from_pax("GNU.sparse.name").or_else(|| from_pax("path")).or(long_name);
        let name = name.unwrap_or_else(|| header.path_bytes().into_owned());
        let target = from_pax("linkpath").or(long_target);
        let target = target.or_else(|| header.link_name_bytes().map(|bytes| bytes.into_owned())).unwrap_or_default();
        let kind = kind(header, &name)?;
        let old = header.as_old();
        let has_data = kind == EntryKind::File;
        let stored = pax.number("size").map_err(wrong("a size"))?.unwrap_or(size);
        self.set_data(if has_data { stored } else { 0 })?;
        let id = |key: &str, bytes: &[u8]| match pax.number(key) {
            Ok(Some(number)) => Ok(number),
            Ok(None) => field(bytes, "owner"),
            Err(()) => Err(Error::Malformed("an owner")),
        };
        let owner = |number: u64| match u32::try_from(number) {
            Ok(number) if number != u32::MAX => Ok(number),
            _ => Err(Error::hostile(&name, format!("the owner {number}"))),
        };
        let mtime = match pax.mtime().map_err(wrong("a time"))? {
            Some(mtime) => mtime,
            None => Timestamp { seconds: number(&old.mtime).ok_or(Error::Malformed("a time"))?, nanoseconds: 0 },
        };
        let attributes = Attributes {
            mode: (field(&old.mode, "mode")? & 0o7777) as u16,
            uid: owner(id("uid", &old.uid)?)?,
            gid: owner(id("gid", &old.gid)?)?,
            mtime,
            xattrs: pax.xattrs(),
        };
        let device = device(header, kind, &name)?;
        let sparse = if has_data { self.sparse(header, &pax)? } else { None };
        let size = sparse.as_ref().map_or(self.unread, |sparse| sparse.size);
        Ok(Entry { kind, name, target, size, attributes, device, sparse })
    }

    fn sparse(&mut self, header: &Header, pax: &Pax) -> Result<Option<Sparse>, Error> {
        let wrong = || Error::Malformed("a sparse map");
        let (size, pieces) = if header.as_old().linkflag[0] == b'S' {
            self.old_sparse(header)?
        } else if pax.get("GNU.sparse.major") == Some(b"1") {
            let (pieces, _) = sparse::read_map(&mut Stored { entries: self })?;
            (pax.number("GNU.sparse.realsize").map_err(|()| wrong())?.ok_or_else(wrong)?, pieces)
        } else if let Some(pieces) = Sparse::pieces_of(pax) {
            (pax.number("GNU.sparse.size").map_err(|()| wrong())?.ok_or_else(wrong)?, pieces)
        } else {
            return Ok(None);
        };
        Sparse::new(size, pieces, self.unread).map(Some).ok_or_else(wrong)
    }

    fn old_sparse(&mut self, header: &Header) -> Result<(u64, Vec<(u64, u64)>), Error> {
        let wrong = |()| Error::Malformed("a sparse map");
        let gnu = header.as_gnu().ok_or(()).map_err(wrong)?;
        let mut pieces = Vec::new();
        sparse::old_pieces(&gnu.sparse, &mut pieces).map_err(wrong)?;
        let mut more = gnu.is_extended();
        while more && pieces.len() < sparse::PIECES_MAX {
            // These records are not counted in the entry's size.
            let extension = sparse::read_extension(&mut self.source)?;
            self.position += RECORD;
            sparse::old_pieces(&extension.sparse, &mut pieces).map_err(wrong)?;
            more = extension.is_extended();
        }
        let size = gnu.real_size().map_err(|_| wrong(()))?;
        Ok((size, pieces))
    }
}

/// The stored bytes of the current entry.
struct Stored<'a, S> {
    entries: &'a mut Entries<S>,
}

impl<S: Source> Read for Stored<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = self.entries.unread.min(buffer.len() as u64) as usize;
        let count = self.entries.source.read(&mut buffer[..wanted])?;
        if count == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.entries.unread -= count as u64;
        self.entries.position += count as u64;
        Ok(count)
    }
}

fn kind(header: &Header, name: &[u8]) -> Result<EntryKind, Error> {
    Ok(match header.as_old().linkflag[0] {
        // Archives older than POSIX mark directories by a slash.
        0 | b'0' if name.ends_with(b"/") => EntryKind::Directory,
        0 | b'0' | b'7' | b'S' => EntryKind::File,
        b'1' => EntryKind::HardLink,
        b'2' => EntryKind::Symlink,
        b'3' => EntryKind::CharDevice,
        b'4' => EntryKind::BlockDevice,
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        other => return Err(Error::hostile(name, format!("the unknown entry type {:?}", char::from(other)))),
    })
}

fn device(header: &Header, kind: EntryKind, name: &[u8]) -> Result<(u32, u32), Error> {
    if !matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice) {
        return Ok((0, 0));
    }
    let bytes = header.as_bytes();
    let (major, minor) = (field(&bytes[329..337], "device number")?, field(&bytes[337..345], "device number")?);
    // The kernel has 12 bits for one and 20 for the other.
    if major > 0xfff || minor > 0xf_ffff {
        return Err(Error::hostile(name, format!("the device number {major}:{minor}")));
    }
    Ok((major as u32, minor as u32))
}

/// Reads a header's number that cannot be negative.
fn field(bytes: &[u8], what: &'static str) -> Result<u64, Error> {
    number(bytes).and_then(|number| u64::try_from(number).ok()).ok_or(Error::Malformed(what))
}

/// Reads octal digits between spaces and zero bytes (none of them are 0), or GNU's big-endian binary.
fn number(bytes: &[u8]) -> Option<i64> {
    if bytes.first()? & 0x80 != 0 {
        // The first bit is the mark, the second the sign.
        let first = i128::from(bytes[0] & 0x7f) - if bytes[0] & 0x40 != 0 { 0x80 } else { 0 };
        let value =
            bytes[1..].iter().try_fold(first, |value, byte| value.checked_mul(256)?.checked_add(i128::from(*byte)));
        return i64::try_from(value?).ok();
    }
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let text = std::str::from_utf8(&bytes[..end]).ok()?.trim_matches(' ');
    if text.is_empty() { Some(0) } else { i64::from_str_radix(text, 8).ok() }
}

fn until_zero(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
    bytes
}
