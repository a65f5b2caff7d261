//! Writes tar streams: headers as POSIX has them, and extended headers only where an entry needs one.

use crate::sparse::Sparse;
use crate::{Entry, EntryKind, Timestamp};
use std::io::{self, Read, Write};
use tar::Header;

const RECORD: usize = 512;
/// What the fields of a header hold.
const NAME_MAX: usize = 100;
const SIZE_MAX: u64 = 0o77_777_777_777;
const ID_MAX: u32 = 0o7_777_777;

/// Writes entries one after the other.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    /// Writes to a stream.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// Writes an entry's headers. The bytes of a file follow by [`Writer::data`], then its [`Writer::pad`].
    pub fn head(&mut self, entry: &Entry) -> io::Result<()> {
        let map = entry.sparse.as_ref().map(map_of);
        let stored = match (&entry.sparse, &map) {
            (Some(sparse), Some(map)) => map.len() as u64 + sparse.stored(),
            _ if entry.kind == EntryKind::File => entry.size,
            _ => 0,
        };
        let extended = extended(entry, stored);
        if !extended.is_empty() {
            let mut header = header(entry, extended.len() as u64);
            header.as_old_mut().linkflag = *b"x";
            self.record(&mut header)?;
            self.out.write_all(&extended)?;
            self.pad(extended.len() as u64)?;
        }
        self.record(&mut header(entry, stored))?;
        map.map_or(Ok(()), |map| self.out.write_all(&map))
    }

    /// Writes an entry whole: its headers and as many bytes as it has.
    pub fn file(&mut self, entry: &Entry, bytes: impl Read) -> io::Result<()> {
        self.head(entry)?;
        let written = io::copy(&mut bytes.take(entry.size), &mut self.out)?;
        if written < entry.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.pad(written)
    }

    /// Writes bytes of the file whose head was written.
    pub fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// Fills the last record of so many bytes.
    pub fn pad(&mut self, written: u64) -> io::Result<()> {
        let filling = written.next_multiple_of(RECORD as u64) - written;
        self.out.write_all(&[0; RECORD][..filling as usize])
    }

    /// Marks the archive's end, and returns the stream.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * RECORD])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn record(&mut self, header: &mut Header) -> io::Result<()> {
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }
}

/// The header proper. What does not fit is cut: the extended header before it says the whole.
fn header(entry: &Entry, size: u64) -> Header {
    let mut header = Header::new_ustar();
    let attributes = &entry.attributes;
    header.set_mode(attributes.mode.into());
    header.set_uid(attributes.uid.min(ID_MAX).into());
    header.set_gid(attributes.gid.min(ID_MAX).into());
    header.set_size(size.min(SIZE_MAX));
    header.set_mtime(u64::try_from(attributes.mtime.seconds).unwrap_or(0).min(SIZE_MAX));
    let old = header.as_old_mut();
    old.linkflag = [match entry.kind {
        EntryKind::File => b'0',
        EntryKind::HardLink => b'1',
        EntryKind::Symlink => b'2',
        EntryKind::CharDevice => b'3',
        EntryKind::BlockDevice => b'4',
        EntryKind::Directory => b'5',
        EntryKind::Fifo => b'6',
    }];
    fill(&mut old.name, &entry.name);
    fill(&mut old.linkname, &entry.target);
    if let Some(ustar) = header.as_ustar_mut() {
        let (major, minor) = entry.device;
        ustar.set_device_major(major);
        ustar.set_device_minor(minor);
    }
    header
}

fn fill(field: &mut [u8; NAME_MAX], bytes: &[u8]) {
    let length = bytes.len().min(NAME_MAX);
    field[..length].copy_from_slice(&bytes[..length]);
}

/// What the header proper cannot say, as records of an extended one.
fn extended(entry: &Entry, stored: u64) -> Vec<u8> {
    let attributes = &entry.attributes;
    let mut records = Vec::new();
    let mut say = |key: &str, value: &[u8]| record(&mut records, key.as_bytes(), value);
    let number = |value: u64| value.to_string().into_bytes();
    if entry.name.len() > NAME_MAX {
        say("path", &entry.name);
    }
    if entry.target.len() > NAME_MAX {
        say("linkpath", &entry.target);
    }
    if stored > SIZE_MAX {
        say("size", &number(stored));
    }
    for (key, id) in [("uid", attributes.uid), ("gid", attributes.gid)] {
        if id > ID_MAX {
            say(key, &number(id.into()));
        }
    }
    let Timestamp { seconds, nanoseconds } = attributes.mtime;
    if nanoseconds > 0 || !(0..=SIZE_MAX as i64).contains(&seconds) {
        say("mtime", decimal(attributes.mtime).as_bytes());
    }
    if entry.sparse.is_some() {
        say("GNU.sparse.major", b"1");
        say("GNU.sparse.minor", b"0");
        say("GNU.sparse.name", &entry.name);
        say("GNU.sparse.realsize", &number(entry.size));
    }
    for (name, value) in &attributes.xattrs {
        record(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    records
}

/// Appends `LENGTH KEY=VALUE\n`, where the length counts itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let digits = |length: usize| length.to_string().len();
    let mut length = rest + digits(rest);
    length = rest + digits(length);
    records.extend_from_slice(length.to_string().as_bytes());
    for part in [b" ", key, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}

/// Seconds with a fraction, also before 1970.
fn decimal(time: Timestamp) -> String {
    let Timestamp { seconds, nanoseconds } = time;
    if seconds < 0 && nanoseconds > 0 {
        // -1.75 is two seconds before, and a quarter after that.
        let whole = (seconds + 1).unsigned_abs();
        return format!("-{whole}.{:09}", 1_000_000_000 - nanoseconds);
    }
    format!("{seconds}.{nanoseconds:09}")
}

/// The map that stands before a sparse file's bytes: decimal lines in whole records.
fn map_of(sparse: &Sparse) -> Vec<u8> {
    let pieces = sparse.pieces();
    let mut text = format!("{}\n", pieces.len());
    for (offset, length) in pieces {
        text.push_str(&format!("{offset}\n{length}\n"));
    }
    let mut map = text.into_bytes();
    map.resize(map.len().next_multiple_of(RECORD), 0);
    map
}
