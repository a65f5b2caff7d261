//! One volume as it is served: its file system, the channel of its messages, and the threads that take turns on it.
//!
//! A thread receives one whole request, lets the next one receive, and answers. So a request that waits for a disk holds
//! up no other, and there are never more of them than threads.

use crate::control::{Cache, Owners, Served, State};
use crate::events::{Followed, Outlet, Watcher, concerns};
use crate::kept::{Kept, Seen};
use crate::message::{Message, Tables, opcode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;
use std::time::Duration;
use virtiofsd::filesystem::SerializableFileSystem;
use virtiofsd::passthrough::{
    CachePolicy, Config, InodeFileHandlesMode, MigrationMode, MigrationOnError, NegotiationMode, PassthroughFs,
};
use virtiofsd::server::Server;
use virtiofsd::soft_idmap::cmdline::IdMap;

/// Requests of one volume that are answered at the same time.
const THREADS: usize = 4;

/// How long a guest believes a name or an attribute: as long as the host's changes may stay unseen.
const BELIEVED: Duration = Duration::from_secs(1);
/// The same of what is to stay as it was: longer than any guest remembers.
const STILL: Duration = Duration::from_secs(1 << 30);

/// A volume that is served.
pub(crate) struct Channel {
    files: Server<PassthroughFs>,
    receiving: Mutex<()>,
    socket: File,
    /// The same socket, for whoever sends.
    outlet: Outlet,
    /// What changes on the host is told to the guest.
    events: Option<Followed>,
    /// Held while a request is answered; whoever holds it alone sees the tables at rest.
    busy: RwLock<()>,
    /// The request with which the guest began.
    hello: Mutex<Option<Vec<u8>>>,
    tables: Tables,
    /// How long a guest believes a name or an attribute.
    believed: Duration,
    kept: Kept,
}

impl Channel {
    /// Opens the volume and puts it into its state, if it has one.
    pub(crate) fn open(
        served: &Served,
        socket: OwnedFd,
        descriptors: u64,
        watcher: Option<&Arc<Watcher>>,
    ) -> io::Result<Self> {
        let socket = File::from(socket);
        let outlet = Outlet::new(Mutex::new(socket.try_clone()?));
        let mut channel = Self {
            files: Server::new(PassthroughFs::new(configuration(served, descriptors))?),
            receiving: Mutex::default(),
            socket,
            outlet: outlet.clone(),
            events: None,
            busy: RwLock::default(),
            hello: Mutex::default(),
            believed: believed(served),
            kept: Kept::of(served.cache),
            tables: if served.state.is_some() { Tables::Restored } else { Tables::Grown },
        };
        let mut tables = None;
        if let Some(state) = &served.state {
            channel.restore(state)?;
            tables = Some(state.tables()?);
        }
        if let Some(watcher) = watcher {
            channel.events = Some(watcher.follow(&served.root, outlet, tables.as_ref())?);
        }
        Ok(channel)
    }

    /// Starts the threads. One that fails ends the process, and with it every volume: a guest is told so by its owner.
    pub(crate) fn start(self: Arc<Self>) -> io::Result<()> {
        for _ in 0..THREADS {
            let channel = self.clone();
            thread::Builder::new().name("volume".to_owned()).spawn(move || channel.answer_all())?;
        }
        Ok(())
    }

    /// Tells the state. Waits for what is being answered.
    pub(crate) fn save(&self) -> io::Result<State> {
        let _at_rest = self.busy.write().unwrap_or_else(PoisonError::into_inner);
        self.files.prepare_serialization(Arc::new(AtomicBool::new(false)));
        let mut file = File::from(fcvm_sys::memfd::growing("state")?);
        self.files.serialize(file.try_clone()?)?;
        let mut tables = Vec::new();
        file.rewind()?;
        io::Read::read_to_end(&mut file, &mut tables)?;
        let hello =
            self.hello.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|hello| BASE64.encode(hello));
        Ok(State::new(hello, BASE64.encode(tables)))
    }

    /// What was agreed on with the guest is not in the tables: its first message is answered once more.
    fn restore(&self, state: &State) -> io::Result<()> {
        if !state.is_known() {
            return Err(io::Error::other("its state is of another version of fcvm"));
        }
        let Some(hello) = &state.hello else { return Ok(()) };
        let hello = BASE64.decode(hello).map_err(io::Error::other)?;
        let mut message = Message::new()?;
        message.load(&hello)?;
        self.answer(&mut message)?;
        let mut file = File::from(fcvm_sys::memfd::growing("state")?);
        file.write_all(&BASE64.decode(&state.tables).map_err(io::Error::other)?)?;
        file.rewind()?;
        self.files.deserialize_and_apply(file)
    }

    fn answer_all(&self) {
        if let Err(error) = fcvm_sys::thread::own_directory().and_then(|()| self.take_turns()) {
            eprintln!("volume: {error}");
            std::process::exit(1);
        }
    }

    fn take_turns(&self) -> io::Result<()> {
        let mut message = Message::new()?;
        loop {
            {
                let _turn = self.receiving.lock().unwrap_or_else(PoisonError::into_inner);
                if !message.receive(&self.socket)? {
                    return Ok(());
                }
            }
            let length = self.answer(&mut message)?;
            if length > 0 {
                let outlet = self.outlet.lock().unwrap_or_else(PoisonError::into_inner);
                message.send(&outlet, length)?;
            }
        }
    }

    pub(crate) fn answer(&self, message: &mut Message) -> io::Result<u32> {
        let _busy = self.busy.read().unwrap_or_else(PoisonError::into_inner);
        let opcode = message.opcode()?;
        match opcode {
            opcode::INIT => {
                *self.hello.lock().unwrap_or_else(PoisonError::into_inner) = Some(message.request()?);
            }
            // Asked at every close. A local file system does nothing then; refused once, it is asked no more.
            opcode::FLUSH => return message.refuse(Errno::NOSYS),
            fcvm_proto::events::OPCODE => return self.tell_events(message),
            _ => {}
        }
        let followed = self.events.as_ref().filter(|_| concerns(opcode));
        let followed = followed.map(|events| Ok::<_, io::Error>((events, events.begin(message)?))).transpose()?;
        let length = if opcode == opcode::OPEN { self.open_file(message)? } else { self.act(message)? };
        if let Some((events, under_way)) = followed {
            events.end(&under_way, &message.answered(length)?);
        }
        if opcode == opcode::LOOKUP && !self.believed.is_zero() {
            return message.believe_absent(length, self.believed);
        }
        Ok(length)
    }

    /// Opens a file, and leaves the guest what it has of its content if nobody has changed it since the last time.
    fn open_file(&self, message: &mut Message) -> io::Result<u32> {
        let keeps = match &self.kept {
            Kept::AsItIs => false,
            Kept::All => true,
            Kept::Unchanged(seen) => self.is_unchanged(message, seen)?,
        };
        let opened = self.act(message)?;
        if keeps { message.keep_content(opened) } else { Ok(opened) }
    }

    fn is_unchanged(&self, message: &mut Message, seen: &Seen) -> io::Result<bool> {
        let (request, node) = (message.request()?, message.node()?);
        // Before the file is looked at: what changes it later has this time or a later one.
        let now_ns = fcvm_sys::stamp::now_ns()?;
        message.ask_attributes()?;
        let length = self.ask(message)?;
        let stamp = message.stamp(length)?;
        message.load(&request)?;
        Ok(stamp.is_some_and(|stamp| seen.is_unchanged(node, stamp, now_ns)))
    }

    fn act(&self, message: &mut Message) -> io::Result<u32> {
        // The library would do that by itself, but finds in the jail no `/proc` that tells it its capabilities.
        if message.kills_identity_bits()? {
            return fcvm_sys::thread::without_keeping_identity_bits(|| self.ask(message))?;
        }
        self.ask(message)
    }

    /// Answers the agent's own request for events: now, later, or that there are none.
    fn tell_events(&self, message: &Message) -> io::Result<u32> {
        let Some(events) = &self.events else { return message.refuse(Errno::NOSYS) };
        match events.ask(&message.beginning(usize::MAX)?) {
            Some(answer) => message.reply(&answer),
            None => message.refuse(Errno::NOSYS),
        }
    }

    fn ask(&self, message: &mut Message) -> io::Result<u32> {
        message.answer(self.tables, |reader, writer| self.files.handle_message(reader, writer, None::<&mut ()>))
    }
}

fn believed(served: &Served) -> Duration {
    match served.cache {
        Cache::None => Duration::ZERO,
        Cache::Auto | Cache::Writeback => BELIEVED,
        Cache::Still => STILL,
    }
}

/// The same for a volume and for what is restored of it.
fn configuration(served: &Served, descriptors: u64) -> Config {
    let believed = believed(served);
    let policy = match served.cache {
        Cache::None => CachePolicy::Never,
        Cache::Auto | Cache::Writeback => CachePolicy::Auto,
        Cache::Still => CachePolicy::Always,
    };
    let map = match served.owners {
        Owners::Asking => None,
        Owners::One => Some(vec![IdMap::SquashGuest { from_guest: 0, to_host: 0, count: u32::MAX }]),
    };
    Config {
        root_dir: served.root.clone(),
        entry_timeout: believed,
        attr_timeout: believed,
        cache_policy: policy,
        writeback: served.cache == Cache::Writeback,
        xattr: true,
        posix_acl: NegotiationMode::Auto,
        killpriv_v2: true,
        // Files are kept by handles where root serves a file system that has them: a descriptor for each would be too many.
        // One that is replaced on the host is kept by a descriptor alone.
        inode_file_handles: match (served.owners, served.cache) {
            (Owners::Asking, Cache::Auto | Cache::None | Cache::Writeback) => InodeFileHandlesMode::Prefer,
            (Owners::One, _) | (_, Cache::Still) => InodeFileHandlesMode::Never,
        },
        // A file that vanished is an error of that file. One that became another is told by its handle.
        migration_on_error: MigrationOnError::GuestError,
        migration_mode: MigrationMode::FindPaths,
        migration_verify_handles: true,
        uid_map: map.clone(),
        gid_map: map,
        guest_fd_limit: descriptors,
        ..Config::default()
    }
}

/// For the tests of this crate.
#[cfg(test)]
impl Channel {
    /// The answer to a request of a user and a group, as a guest would have it.
    pub(crate) fn asked(
        &self,
        message: &mut Message,
        (opcode, node): (u32, u64),
        (uid, gid): (u32, u32),
        body: &[u8],
    ) -> Vec<u8> {
        let length = crate::message::REQUEST_HEADER + u32::try_from(body.len()).unwrap();
        let head = [length, opcode].map(u32::to_ne_bytes).concat();
        let who = [uid, gid, 1, 0].map(u32::to_ne_bytes).concat();
        let request = [&head[..], &Self::UNIQUE.to_ne_bytes(), &node.to_ne_bytes(), &who, body].concat();
        message.load(&request).unwrap();
        let length = self.answer(message).unwrap();
        message.answered(length).unwrap()
    }

    /// The number of these requests.
    pub(crate) const UNIQUE: u64 = 0x1234_5678_9abc;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Events;
    use std::fs;
    use std::os::unix::net::UnixStream;
    use std::path::Path;

    struct Guest {
        channel: Channel,
        message: Message,
        _socket: UnixStream,
    }

    impl Guest {
        fn new(root: &Path, cache: Cache) -> Self {
            let owners = if fcvm_sys::process::runs_as_root() { Owners::Asking } else { Owners::One };
            let root = root.to_str().unwrap().to_owned();
            let served = Served { root, cache, owners, events: Events::Untold, state: None };
            let (socket, ours) = UnixStream::pair().unwrap();
            let channel = Channel::open(&served, ours.into(), 1000, None).unwrap();
            let mut guest = Self { channel, message: Message::new().unwrap(), _socket: socket };
            guest.ask(opcode::INIT, 0, &[7, 31, 1 << 20, !(1 << 30)].map(u32::to_ne_bytes).concat());
            guest
        }

        fn ask(&mut self, opcode: u32, node: u64, body: &[u8]) -> Vec<u8> {
            let answer = self.channel.asked(&mut self.message, (opcode, node), (0, 0), body);
            assert_eq!(answer[4..8], [0; 4], "opcode {opcode} failed");
            answer[16..].to_vec()
        }

        /// Whether an open leaves the content as it is.
        fn keeps(&mut self, node: u64) -> bool {
            let opened = self.ask(opcode::OPEN, node, &[0; 8]);
            self.ask(opcode::RELEASE, node, &[&opened[..8], &[0; 16]].concat());
            opened[8] & 2 != 0
        }
    }

    #[test]
    fn the_content_of_a_file_is_kept_until_somebody_changes_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "one").unwrap();
        let look_up = |guest: &mut Guest| {
            let told = guest.ask(opcode::LOOKUP, 1, b"file\0");
            u64::from_ne_bytes(*told.first_chunk().unwrap())
        };
        let mut guest = Guest::new(dir.path(), Cache::Auto);
        let node = look_up(&mut guest);
        assert!(!guest.keeps(node), "it was never opened");
        // Once its change is a tick ago, and from then on.
        while !guest.keeps(node) {}
        assert!(guest.keeps(node));
        fs::write(&path, "two").unwrap();
        assert!(!guest.keeps(node));

        let mut without = Guest::new(dir.path(), Cache::None);
        let node = look_up(&mut without);
        assert!(!without.keeps(node) && !without.keeps(node));
        let mut alone = Guest::new(dir.path(), Cache::Writeback);
        let node = look_up(&mut alone);
        assert!(alone.keeps(node));
    }
}
