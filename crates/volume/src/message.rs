//! One FUSE message and its answer in memory, as virtiofsd wants them: a queue of two descriptors over an anonymous mapping.
//!
//! ```text
//! 0         4 KiB                     4 KiB + LONGEST            4 KiB + 2 × LONGEST
//! ┌─────────┬─────────────────────────┬──────────────────────────┐
//! │ rings   │ request                 │ answer                   │
//! └─────────┴─────────────────────────┴──────────────────────────┘
//! ```
//! Only [`Message`] writes the rings, so nothing of what a guest says is believed here but the request's own bytes.

use crate::kept::Stamp;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::time::Duration;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use virtiofsd::descriptor_utils::{Reader, Writer};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

type Memory = GuestMemoryMmap<vhost_user_backend::bitmap::BitmapMmapRegion>;

/// The largest message either way: 1 MiB of data, and a page for what stands before it.
pub(crate) const LONGEST: u32 = (1 << 20) + (1 << 12);
/// The header that every request begins with (`fuse_in_header`), and that of every answer (`fuse_out_header`).
pub(crate) const REQUEST_HEADER: u32 = 40;
pub(crate) const ANSWER_HEADER: u32 = 16;
/// What a name leads to (`fuse_entry_out`).
const ENTRY: usize = 128;
/// An answer of a request that does not say how long it may be: an extended attribute is the longest.
const ORDINARY: u32 = 1 << 17;

const DESCRIPTORS: GuestAddress = GuestAddress(0);
const AVAILABLE: GuestAddress = GuestAddress(0x100);
const USED: GuestAddress = GuestAddress(0x200);
const REQUEST: GuestAddress = GuestAddress(0x1000);
const ANSWER: GuestAddress = GuestAddress(0x1000 + LONGEST as u64);

/// `FOPEN_KEEP_CACHE`.
const KEEP_CACHE: u32 = 1 << 1;

/// `VRING_DESC_F_NEXT` and `VRING_DESC_F_WRITE`.
const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// What a request is about, as far as it concerns us (`fuse_opcode`).
pub(crate) mod opcode {
    pub(crate) const LOOKUP: u32 = 1;
    pub(crate) const FORGET: u32 = 2;
    pub(crate) const GETATTR: u32 = 3;
    pub(crate) const SETATTR: u32 = 4;
    pub(crate) const SYMLINK: u32 = 6;
    pub(crate) const MKNOD: u32 = 8;
    pub(crate) const MKDIR: u32 = 9;
    pub(crate) const UNLINK: u32 = 10;
    pub(crate) const RMDIR: u32 = 11;
    pub(crate) const RENAME: u32 = 12;
    pub(crate) const LINK: u32 = 13;
    pub(crate) const OPEN: u32 = 14;
    pub(crate) const READ: u32 = 15;
    pub(crate) const WRITE: u32 = 16;
    pub(crate) const RELEASE: u32 = 18;
    pub(crate) const SETXATTR: u32 = 21;
    pub(crate) const REMOVEXATTR: u32 = 24;
    pub(crate) const FLUSH: u32 = 25;
    pub(crate) const INIT: u32 = 26;
    pub(crate) const READDIR: u32 = 28;
    pub(crate) const CREATE: u32 = 35;
    pub(crate) const BATCH_FORGET: u32 = 42;
    pub(crate) const FALLOCATE: u32 = 43;
    pub(crate) const READDIRPLUS: u32 = 44;
    pub(crate) const RENAME2: u32 = 45;
    pub(crate) const COPY_FILE_RANGE: u32 = 47;
    /// READ, WRITE, RELEASE, FSYNC, FLUSH, READDIR, RELEASEDIR, FSYNCDIR, the locks, IOCTL, POLL, FALLOCATE, READDIRPLUS,
    /// LSEEK and COPY_FILE_RANGE: these are of a file that a program has open.
    pub(crate) const OF_OPEN_FILES: [u32; 17] = [15, 16, 18, 20, 25, 28, 29, 30, 31, 32, 33, 39, 40, 43, 44, 46, 47];
    /// LOOKUP, SYMLINK, MKNOD, MKDIR, LINK, CREATE: these answers begin with the number of a file.
    #[cfg(test)]
    pub(crate) const LEADING: [u32; 6] = [1, 6, 8, 9, 13, 35];
    /// FORGET, INTERRUPT and BATCH_FORGET: these have no answer.
    pub(crate) const UNANSWERED: [u32; 3] = [2, 36, 42];
}

/// Where what a server knows of files comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tables {
    /// From its own guest's requests.
    Grown,
    /// From a snapshot: some of these files may be gone, or have become others.
    Restored,
}

/// Room for one request and its answer.
#[derive(Debug)]
pub(crate) struct Message {
    memory: Memory,
    queue: Queue,
    turn: u16,
    length: u32,
}

impl Message {
    pub(crate) fn new() -> io::Result<Self> {
        let size = 0x1000 + 2 * LONGEST as usize;
        let memory = Memory::from_ranges(&[(GuestAddress(0), size)]).map_err(io::Error::other)?;
        let mut queue = Queue::new(2).map_err(io::Error::other)?;
        queue.try_set_desc_table_address(DESCRIPTORS).map_err(io::Error::other)?;
        queue.try_set_avail_ring_address(AVAILABLE).map_err(io::Error::other)?;
        queue.try_set_used_ring_address(USED).map_err(io::Error::other)?;
        queue.set_ready(true);
        Ok(Self { memory, queue, turn: 0, length: 0 })
    }

    /// Receives a request; false at the end of the channel.
    pub(crate) fn receive(&mut self, mut channel: &File) -> io::Result<bool> {
        let mut head = [0; 4];
        match io::Read::read_exact(&mut channel, &mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            other => other?,
        }
        let length = u32::from_ne_bytes(head);
        if !(REQUEST_HEADER..=LONGEST).contains(&length) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message of no possible length"));
        }
        self.put(REQUEST, &head)?;
        // The library's own way to read all of it gives up after a part.
        let mut done = 4;
        while done < length {
            let (place, rest) = (GuestAddress(REQUEST.0 + u64::from(done)), (length - done) as usize);
            match self.memory.read_volatile_from(place, &mut channel, rest).map_err(io::Error::other)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                some => done += some as u32,
            }
        }
        self.length = length;
        Ok(true)
    }

    /// Takes a request that was received before.
    pub(crate) fn load(&mut self, request: &[u8]) -> io::Result<()> {
        let length = u32::try_from(request.len()).ok().filter(|length| (REQUEST_HEADER..=LONGEST).contains(length));
        self.length = length.ok_or(io::ErrorKind::InvalidData)?;
        self.put(REQUEST, request)
    }

    /// The request's bytes.
    pub(crate) fn request(&self) -> io::Result<Vec<u8>> {
        self.beginning(usize::MAX)
    }

    /// The request's first bytes, so many if it has them.
    pub(crate) fn beginning(&self, most: usize) -> io::Result<Vec<u8>> {
        let mut request = vec![0; most.min(self.length as usize)];
        self.memory.read_slice(&mut request, REQUEST).map_err(io::Error::other)?;
        Ok(request)
    }

    /// The bytes of an answer of this length.
    pub(crate) fn answered(&self, length: u32) -> io::Result<Vec<u8>> {
        let mut answer = vec![0; length as usize];
        self.memory.read_slice(&mut answer, ANSWER).map_err(io::Error::other)?;
        Ok(answer)
    }

    /// The number of the file that it is about.
    pub(crate) fn node(&self) -> io::Result<u64> {
        self.memory.read_obj(GuestAddress(REQUEST.0 + 16)).map_err(io::Error::other)
    }

    /// What the request is about.
    pub(crate) fn opcode(&self) -> io::Result<u32> {
        self.number(4)
    }

    /// Lays the request and the room for its answer before virtiofsd, and returns how long its answer is. Zero: none.
    pub(crate) fn answer(
        &mut self,
        tables: Tables,
        act: impl FnOnce(Reader<'_>, Writer<'_>) -> virtiofsd::Result<usize>,
    ) -> io::Result<u32> {
        let opcode = self.opcode()?;
        let room = self.room(opcode)?;
        self.offer(room)?;
        let chain =
            self.queue.pop_descriptor_chain(&self.memory).ok_or_else(|| io::Error::other("the queue is broken"))?;
        let reader = Reader::new(&self.memory, chain.clone()).map_err(io::Error::other)?;
        let writer = Writer::new(&self.memory, chain).map_err(io::Error::other)?;
        let answered = act(reader, writer);
        let length = answered.ok().and_then(|length| u32::try_from(length).ok()).unwrap_or(0);
        if opcode::UNANSWERED.contains(&opcode) {
            return Ok(length);
        }
        if length >= ANSWER_HEADER {
            self.tell_stale(opcode, tables)?;
            return Ok(length);
        }
        // What is no request at all is answered too, or the guest would wait for ever.
        self.refuse(Errno::IO)
    }

    /// Whether the guest's kernel wants the set-user-ID and set-group-ID bits of the file to go with this request, since its
    /// user may not keep them (`FUSE_WRITE_KILL_SUIDGID`, `FUSE_OPEN_KILL_SUIDGID`, `FATTR_KILL_SUIDGID`).
    pub(crate) fn kills_identity_bits(&self) -> io::Result<bool> {
        let (place, flag) = match self.opcode()? {
            opcode::SETATTR => (0, 1 << 11),
            opcode::OPEN => (4, 1),
            opcode::WRITE => (20, 1 << 2),
            opcode::CREATE => (12, 1),
            _ => return Ok(false),
        };
        let place = REQUEST_HEADER + place;
        Ok(self.length >= place + 4 && self.number(u64::from(place))? & flag != 0)
    }

    /// Answers with an error.
    pub(crate) fn refuse(&self, error: Errno) -> io::Result<u32> {
        self.head(0, -error.raw_os_error())?;
        Ok(ANSWER_HEADER)
    }

    /// Answers with these bytes.
    pub(crate) fn reply(&self, answer: &[u8]) -> io::Result<u32> {
        self.put(ANSWER, answer)?;
        Ok(answer.len() as u32)
    }

    /// Makes of the answer that there is no such name one that the guest's kernel believes for a while: it asks for many
    /// names that are not there, and does so again and again.
    pub(crate) fn believe_absent(&self, length: u32, believed: Duration) -> io::Result<u32> {
        let said = self.memory.read_obj::<i32>(GuestAddress(ANSWER.0 + 4)).map_err(io::Error::other)?;
        if said != -Errno::NOENT.raw_os_error() {
            return Ok(length);
        }
        // A node of number zero, which is none; how long that is so.
        let mut entry = [0; ENTRY];
        entry[16..24].copy_from_slice(&believed.as_secs().to_ne_bytes());
        entry[32..36].copy_from_slice(&believed.subsec_nanos().to_ne_bytes());
        self.head(ENTRY as u32, 0)?;
        self.put(GuestAddress(ANSWER.0 + u64::from(ANSWER_HEADER)), &entry)?;
        Ok(ANSWER_HEADER + ENTRY as u32)
    }

    /// Makes of a request about a file the question for its attributes; the request is to be loaded again.
    pub(crate) fn ask_attributes(&mut self) -> io::Result<()> {
        let head = self.beginning(REQUEST_HEADER as usize)?;
        let length = REQUEST_HEADER + 16;
        let question = [&length.to_ne_bytes()[..], &opcode::GETATTR.to_ne_bytes(), &head[8..], &[0; 16]];
        self.load(&question.concat())
    }

    /// What the answer of such a length to that question says of the file; nothing if it is an error.
    pub(crate) fn stamp(&self, length: u32) -> io::Result<Option<Stamp>> {
        let answer = self.answered(length)?;
        // `fuse_attr_out`: how long it is believed, then `fuse_attr`.
        let long = |at: usize| answer.get(ANSWER_HEADER as usize + 16 + at..).and_then(<[u8]>::first_chunk);
        let (size, seconds) = (long(8).copied().map(u64::from_ne_bytes), long(40).copied().map(i64::from_ne_bytes));
        let nanoseconds = long(56).and_then(|bytes: &[u8; 8]| bytes.first_chunk()).copied().map(u32::from_ne_bytes);
        let (Some(size), Some(seconds), Some(nanoseconds)) = (size, seconds, nanoseconds) else { return Ok(None) };
        let changed_ns = seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds.into());
        Ok(Some(Stamp { changed_ns, size }))
    }

    /// Makes of the answer that a file is open one that leaves the guest what it has of its content (`FOPEN_KEEP_CACHE`).
    pub(crate) fn keep_content(&self, length: u32) -> io::Result<u32> {
        // `fuse_open_out`: the handle, then the flags.
        let flags = GuestAddress(ANSWER.0 + u64::from(ANSWER_HEADER) + 8);
        if length >= ANSWER_HEADER + 16 {
            let said = self.memory.read_obj::<u32>(flags).map_err(io::Error::other)?;
            self.memory.write_obj(said | KEEP_CACHE, flags).map_err(io::Error::other)?;
        }
        Ok(length)
    }

    /// Sends an answer of this length.
    pub(crate) fn send(&self, mut channel: &File, length: u32) -> io::Result<()> {
        let mut done = 0;
        while done < length {
            let (place, rest) = (GuestAddress(ANSWER.0 + u64::from(done)), (length - done) as usize);
            match self.memory.write_volatile_to(place, &mut channel, rest).map_err(io::Error::other)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                some => done += some as u32,
            }
        }
        Ok(())
    }

    /// A file that the server does not know is EBADF to the library, and one that a restore did not find again EIO. Where
    /// no program's descriptor is meant, the guest's kernel is told that it is stale, and looks it up anew: else a name
    /// that it remembers would lead to nothing until it forgets it.
    fn tell_stale(&self, opcode: u32, tables: Tables) -> io::Result<()> {
        let error = GuestAddress(ANSWER.0 + 4);
        let is = |errno: Errno, said: i32| said == -errno.raw_os_error();
        let said = self.memory.read_obj(error).map_err(io::Error::other)?;
        let is_unknown = is(Errno::BADF, said) || (tables == Tables::Restored && is(Errno::IO, said));
        if is_unknown && !opcode::OF_OPEN_FILES.contains(&opcode) {
            self.put(error, &(-Errno::STALE.raw_os_error()).to_ne_bytes())?;
        }
        Ok(())
    }

    /// The header of an answer with so many bytes after it.
    fn head(&self, length: u32, error: i32) -> io::Result<()> {
        let unique = self.memory.read_obj::<u64>(GuestAddress(REQUEST.0 + 8)).map_err(io::Error::other)?;
        let length = ANSWER_HEADER + length;
        self.put(ANSWER, &[&length.to_ne_bytes()[..], &error.to_ne_bytes(), &unique.to_ne_bytes()].concat())
    }

    /// virtiofsd reads as much as there is room for, whatever the request says.
    fn room(&self, opcode: u32) -> io::Result<u32> {
        let sized = matches!(opcode, opcode::READ | opcode::READDIR | opcode::READDIRPLUS);
        if !sized || self.length < REQUEST_HEADER + 20 {
            return Ok(ORDINARY);
        }
        // `fuse_read_in`: handle, offset, size.
        Ok(self.number(u64::from(REQUEST_HEADER) + 16)?.min(LONGEST - ANSWER_HEADER) + ANSWER_HEADER)
    }

    /// Puts the request and room for its answer into the queue.
    fn offer(&mut self, room: u32) -> io::Result<()> {
        let request = Descriptor::new(REQUEST.0, self.length, NEXT, 1);
        let answer = Descriptor::new(ANSWER.0, room, WRITE, 0);
        let written = [(DESCRIPTORS, request), (GuestAddress(DESCRIPTORS.0 + 16), answer)];
        written.into_iter().try_for_each(|(place, it)| self.memory.write_obj(it, place)).map_err(io::Error::other)?;
        // Both entries of the ring lead to the first descriptor, for they are never written: they are zero.
        self.turn = self.turn.wrapping_add(1);
        self.memory.write_obj(self.turn, GuestAddress(AVAILABLE.0 + 2)).map_err(io::Error::other)
    }

    fn number(&self, offset: u64) -> io::Result<u32> {
        self.memory.read_obj(GuestAddress(REQUEST.0 + offset)).map_err(io::Error::other)
    }

    fn put(&self, place: GuestAddress, bytes: &[u8]) -> io::Result<()> {
        self.memory.write_slice(bytes, place).map_err(io::Error::other)
    }
}
