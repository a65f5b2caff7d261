//! The messages of a session: greeting, verdict, and the requests that open streams.
//!
//! All are JSON. Unknown fields are ignored and optional ones have defaults, because a snapshot that is restored
//! years from now holds the agent of its day. What a stream carries after its request is said at each request.

use crate::files::{Pack, Unpack};
use crate::plan::Plan;
use crate::restore::Delta;
use serde::{Deserialize, Serialize};

/// The version that this build speaks. A peer with another one is refused with a sentence.
pub const PROTOCOL: u32 = 1;

/// The first message of a guest on a fresh link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol that the guest speaks.
    pub protocol: u32,
    /// The agent's version, for people.
    pub agent: String,
    /// The guest kernel's boot id: equal as long as this is the same machine (or a clone of it).
    pub boot_id: String,
    /// How many links this agent has opened before.
    pub generation: u64,
}

/// The host's answer to [`Hello`]: what this guest is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// A machine that has just booted, and what it is to do.
    Boot(Box<Plan>),
    /// The same machine as before: only the link broke. Streams go on from these offsets.
    Continue {
        /// What the host has received on each stream.
        streams: Vec<StreamPosition>,
    },
    /// A machine that was restored from a snapshot: a new life with an old memory. Its streams are over.
    Restored(Box<Delta>),
    /// The host cannot use this guest; the reason is for people.
    Refused {
        /// One sentence.
        reason: String,
    },
}

/// The guest's answer to [`Verdict::Continue`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continued {
    /// What the guest has received on each stream.
    pub streams: Vec<StreamPosition>,
}

/// A message of a running session outside of its streams.
///
/// `Park` is the last that the host sends on a link before the machine is saved, `Parked` the last that the guest sends.
/// The guest then waits for any byte of the host's, drops it, and greets anew: in the machine that was saved and in
/// every machine that starts from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionMessage {
    /// The host has said all and waits for the guest to have done so too.
    Park,
    /// The guest has said all.
    Parked,
}

/// How far one side has received a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamPosition {
    /// The stream's number.
    pub stream: u32,
    /// Bytes received so far in this direction; a received end counts as one.
    pub received: u64,
}

/// A stream's lanes. Bytes of all lanes of one direction share that direction's numbering and window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Lane {
    /// The request that opens the stream (JSON), then messages of the opener and of the answerer (JSON).
    Message = 0,
    /// Standard input or output, or the bytes of a carried connection. On a datagram stream each frame is a datagram.
    Data = 1,
    /// Standard error.
    Error = 2,
}

/// A stream that the host opens in the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostRequest {
    /// Starts the container of the plan. Carries its stdin in, its stdout and stderr out, [`ProcessMessage`]s in,
    /// [`ProcessEvent`]s out. Exactly once per boot.
    Start,
    /// Takes over the streams of the container that runs in a restored machine. Carries the same as
    /// [`HostRequest::Start`].
    Attach,
    /// Writes back what the scratch disk's file systems hold in memory, so that the disk alone is consistent. The guest
    /// answers with [`Done`].
    Quiesce,
    /// Writes back what the file systems of the disks hold and lets nobody write to them; the guest answers with
    /// [`Done`].
    Freeze,
    /// Ends that. The guest answers with [`Done`].
    Thaw,
    /// Asks what runs in the container. The guest answers with [`crate::census::Census`] messages until it finishes.
    Census,
    /// Mounts a volume, or takes over one that is mounted in a restored machine. The guest answers with one [`Done`], then
    /// requests of its kernel flow on the data lane, and their answers the other way: FUSE messages, unchanged, which
    /// frame themselves. The volume stays mounted when the stream is over, and waits for another one.
    Volume(Volume),
    /// Asks whether all volumes answer. The guest says so with [`Done`].
    Volumes,
    /// Lets the requests of all volumes be answered and begins no others as long as the stream lives. The guest says with
    /// [`Done`] that none is left.
    Hold,
    /// Runs a command. Carries the same as [`HostRequest::Start`].
    Exec(Exec),
    /// Asks what the container uses. The guest answers with one [`crate::usage::Usage`].
    Usage,
    /// Asks for the container's processes. The guest answers with [`crate::usage::Processes`] messages until it finishes.
    Processes,
    /// Asks what the container has written. The guest answers with [`crate::usage::Changes`] messages until it finishes.
    Changes,
    /// Asks what was written to the view of a volume. The guest answers as to [`HostRequest::Changes`]; what is below the
    /// view is what it remembers of the volume.
    ViewChanges {
        /// The volume's number.
        number: u32,
    },
    /// Asks for files of the container. The guest answers with one [`crate::files::Found`], a tar stream on [`Lane::Data`],
    /// and [`Done`].
    Pack(Pack),
    /// Gives files to the container: a tar stream on [`Lane::Data`], then the end of the direction. The guest answers with
    /// [`Done`], which may come early if it is a failure.
    Unpack(Unpack),
    /// Connects to a port of the container; the guest answers with one [`Dialled`], then bytes flow.
    Dial(Dial),
    /// Sends a signal to the container's first process, or to all of its processes. The guest answers with [`Done`].
    Kill {
        /// The signal's number.
        signal: i32,
        /// Every process of the container, not only its first.
        #[serde(default)]
        all: bool,
    },
    /// Moves the guest's clock by so many nanoseconds; the guest answers with the [`Time`] that it has then. Being
    /// relative, it is right however long it travels.
    Clock {
        /// 0: only asks.
        #[serde(default)]
        shift_ns: i64,
    },
    /// Changes what the container may use; the guest answers with [`Done`].
    Limit {
        /// Bytes of memory; as it is if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        memory: Option<u64>,
        /// Thousandths of processors; as it is if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cpu_milli: Option<u32>,
    },
    /// The scratch disk has become so many bytes large; the guest answers with [`Done`] when its file system has, too.
    Grow {
        /// Bytes.
        bytes: u64,
    },
    /// Syncs, unmounts and powers the machine off. The guest answers with [`Done`] when file systems are clean.
    PowerOff,
}

/// A volume, as a guest mounts it at `/run/fcvm/volumes/NUMBER`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its number among those of the VM.
    pub number: u32,
    /// What its root is.
    pub root: VolumeRoot,
    /// Nothing is written to it.
    #[serde(default)]
    pub read_only: bool,
}

/// What the root of a volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeRoot {
    /// A directory.
    Directory,
    /// A file.
    File,
}

/// A stream that the guest opens on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestRequest {
    /// Connects from the host on behalf of a program in the guest; the host answers with one [`Dialled`].
    Connect(Dial),
    /// Sends ICMP echo requests to an address on behalf of a program in the guest; the host answers with one
    /// [`Dialled`]. From then on a frame is an echo's sequence number, two bytes, the greater first, and its data; what
    /// comes back has the same shape.
    Echo {
        /// Who is to answer.
        address: std::net::IpAddr,
    },
    /// Somebody in the guest system wants the machine to end or to start anew. The host answers with [`Done`] and does it as
    /// if it had been asked from outside.
    Power(Power),
}

/// What is wanted of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    /// That it ends.
    Off,
    /// That it starts anew.
    Restart,
}

/// Where to connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dial {
    /// TCP, or UDP with one datagram per frame.
    pub protocol: Transport,
    /// The destination address. For [`HostRequest::Dial`] absent: the container itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<std::net::IpAddr>,
    /// The destination port.
    pub port: u16,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// A connection of bytes.
    Tcp,
    /// Datagrams.
    Udp,
}

/// The outcome of a [`Dial`] or of [`GuestRequest::Echo`]; on a stream of datagrams also, later, why it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialled {
    /// Bytes may flow.
    Connected,
    /// The Linux error number of the failed connect.
    Failed(i32),
}

/// The outcome of a request that carries nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Done {
    /// It was done.
    Ok,
    /// It was not; the reason is for people.
    Failed(String),
}

/// What a guest's clock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Time {
    /// Nanoseconds since 1970.
    pub now_ns: i64,
}

/// A command to run in the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// Program and arguments. Bytes that are not UTF-8 do not cross (refused at the door).
    pub command: Vec<String>,
    /// In the container, or in the guest system around it.
    #[serde(default)]
    pub place: Place,
    /// `KEY=VALUE`, over the container's own environment.
    #[serde(default)]
    pub env: Vec<String>,
    /// The working directory; the container's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// `USER[:GROUP]` by name or number; the container's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// All capabilities.
    #[serde(default)]
    pub privileged: bool,
    /// Whether stdin is carried; if not the command reads from `/dev/null`.
    #[serde(default)]
    pub interactive: bool,
    /// The command outlives the stream; its output goes nowhere.
    #[serde(default)]
    pub detach: bool,
    /// It has a terminal of this size, and no standard error apart from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<TerminalSize>,
}

/// How large a terminal is, in characters; nothing is known of one that is 0 by 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// Where a command runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// In the container's namespaces.
    #[default]
    Container,
    /// In the guest system.
    System,
}

/// A message to a running process, on [`Lane::Message`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessMessage {
    /// Sends a signal to the process.
    Signal(i32),
    /// Its stdin ends here; signals may still follow. The end of the direction ends its stdin too.
    EndOfInput,
    /// Its terminal has this size from now on.
    Resize(TerminalSize),
    /// A command of [`Exec`] goes on with nobody at it; answered with [`ProcessEvent::Detached`].
    Detach,
}

/// What happened to a process, on [`Lane::Message`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessEvent {
    /// It runs.
    Started {
        /// Its number in the guest.
        pid: i32,
    },
    /// It could not be started.
    Failed {
        /// Why, as an exit code: 126 cannot execute, 127 not found, 125 anything else.
        code: u8,
        /// Why, in a sentence.
        reason: String,
    },
    /// The kernel killed one of the container's processes for want of memory. At most once, just before the end.
    OutOfMemory,
    /// It ended; all of its output has been sent. The last message of the stream.
    Exited(Exit),
    /// It goes on without this stream, of which this is the last message.
    Detached,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// By its own will.
    Code(u8),
    /// By a signal.
    Signal(i32),
}

impl Exit {
    /// The exit code that a shell shows: 128+N for a signal.
    pub fn code(self) -> u8 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => u8::try_from(128 + (signal & 0x7f)).unwrap_or(u8::MAX),
        }
    }
}
