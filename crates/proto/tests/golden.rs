//! Samples of every message and frame of protocol 1. They must decode for ever: a snapshot that is restored years from
//! now holds the agent of its day. A sample is never changed; a new message or form gets a new one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::{Bytes, BytesMut};
use fcvm_proto::census::{Census, Listener, Running};
use fcvm_proto::events::{self, Event, What};
use fcvm_proto::files::{Coming, Found, Ownership, Pack, Tree, Unpack};
use fcvm_proto::frame::{Flags, Frame, Header, Kind};
use fcvm_proto::message::*;
use fcvm_proto::plan::{self, Container, Disks, Engine, ExtraDisk, Health, Keeper, Network, Plan};
use fcvm_proto::preamble::{Answering, Calling, Heard};
use fcvm_proto::restore::{Delta, Receipt, RestoreReport};
use fcvm_proto::usage::{Change, Changes, FileChange, Process, Processes, Usage};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::PathBuf;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Decodes samples and notes which were.
#[derive(Default)]
struct Samples(BTreeSet<String>);

impl Samples {
    /// The sample means this value.
    fn means<T: DeserializeOwned + PartialEq + Debug>(&mut self, name: &str, value: T) {
        let text = std::fs::read_to_string(golden("messages").join(format!("{name}.json"))).unwrap();
        assert_eq!(serde_json::from_str::<T>(&text).unwrap(), value, "{name}");
        self.0.insert(name.to_owned());
    }

    /// The sample means this value, and this build still writes it like that.
    fn is<T: Serialize + DeserializeOwned + PartialEq + Debug>(&mut self, name: &str, value: T) {
        let text = std::fs::read_to_string(golden("messages").join(format!("{name}.json"))).unwrap();
        assert_eq!(serde_json::to_string(&value).unwrap(), text.trim_end(), "{name}");
        self.means(name, value);
    }
}

fn plan() -> Plan {
    Plan {
        hostname: "web".into(),
        machine_id: String::new(),
        time_ns: 1_795_000_000_123_456_789,
        entropy: "00ff".into(),
        disks: Disks {
            system: "/dev/vda".into(),
            image: "/dev/vdb".into(),
            scratch: "/dev/vdc".into(),
            extra: Vec::new(),
        },
        network: Network::Link {
            address: [10, 0, 2, 15].into(),
            prefix: 24,
            gateway: [10, 0, 2, 2].into(),
            resolver: [10, 0, 2, 3].into(),
        },
        container: Container {
            oci: serde_json::json!({"ociVersion": "1.0.2", "process": {"args": ["sh"]}}),
            user: "nobody:nogroup".into(),
            interactive: true,
            init: false,
            hosts: "127.0.0.1 localhost\n".into(),
            resolv_conf: "nameserver 10.0.2.3\n".into(),
            memory_limit: Some(268_435_456),
            engine: Engine::Crun,
            health: None,
            places: Vec::new(),
        },
    }
}

fn least_plan() -> Plan {
    let full = plan();
    let container = Container {
        oci: serde_json::json!({}),
        user: String::new(),
        interactive: false,
        init: false,
        hosts: String::new(),
        resolv_conf: String::new(),
        memory_limit: None,
        engine: Engine::Crun,
        health: None,
        places: Vec::new(),
    };
    Plan { time_ns: -1, entropy: String::new(), network: Network::None, container, ..full }
}

fn greetings(samples: &mut Samples) {
    let hello = Hello {
        protocol: 1,
        agent: "0.1.0".into(),
        boot_id: "0e2bdc1c-6a30-4d8e-9a7e-2f1f9e6f0a11".into(),
        generation: 3,
    };
    samples.is("hello", hello);
    let hello = Hello { protocol: 1, agent: "9.9.9".into(), boot_id: "b".into(), generation: 0 };
    samples.means("hello-of-the-future", hello);
    samples.means("verdict-boot", Verdict::Boot(Box::new(plan())));
    samples.means("verdict-boot-least", Verdict::Boot(Box::new(least_plan())));
    let mut podman = least_plan();
    podman.container.engine = Engine::Podman;
    podman.container.health =
        Some(Health { command: vec!["true".into()], retries: 3, start_period_s: 90, timeout_s: 30 });
    samples.means("verdict-boot-podman", Verdict::Boot(Box::new(podman)));
    let mut places = least_plan();
    let place =
        |number, target: &str, keeper, copy, chown| plan::Place { number, target: target.into(), keeper, copy, chown };
    places.container.places = vec![
        place(0, "/a", Keeper::Host, true, true),
        place(1, "/b", Keeper::View, false, false),
        place(2, "/c", Keeper::Scratch, true, false),
    ];
    samples.means("verdict-boot-places", Verdict::Boot(Box::new(places)));
    let mut disks = least_plan();
    let disk =
        |device: &str, target: &str, read_only| ExtraDisk { device: device.into(), target: target.into(), read_only };
    disks.disks.extra = vec![disk("/dev/vdd", "/data", false), disk("/dev/vde", "/models", true)];
    samples.means("verdict-boot-disks", Verdict::Boot(Box::new(disks)));
    let position = |stream, received| StreamPosition { stream, received };
    samples.is("verdict-continue", Verdict::Continue { streams: vec![position(1, 0), position(2, u64::MAX)] });
    samples.is("verdict-refused", Verdict::Refused { reason: "the guest must be made anew".into() });
    samples.is("continued", Continued { streams: vec![position(2, 4097)] });
}

fn delta() -> Delta {
    Delta {
        epoch: "3a1f1a0e-5a0e-4a56-9d3c-0d4f5f6a7b8c".into(),
        time_ns: 1_795_000_000_123_456_789,
        entropy: "00ff".into(),
        hostname: "web-2".into(),
        machine_id: "0123456789abcdef0123456789abcdef".into(),
        hosts: "127.0.0.1 localhost\n".into(),
        resolv_conf: String::new(),
        env: vec!["TOKEN=1".into()],
        container: None,
    }
}

fn restores(samples: &mut Samples) {
    samples.is("verdict-restored", Verdict::Restored(Box::new(delta())));
    let container = Some(plan().container);
    let delta = Delta { env: Vec::new(), container, ..delta() };
    samples.means("verdict-restored-unstarted", Verdict::Restored(Box::new(delta)));
    let receipt = Receipt {
        epoch: "3a1f1a0e-5a0e-4a56-9d3c-0d4f5f6a7b8c".into(),
        clock_before_ns: -5_000_000_000,
        random: "a1b2".into(),
        hostname: "web-2".into(),
        machine_id: "0123456789abcdef0123456789abcdef".into(),
        connections: 3,
        container: Some(42),
    };
    samples.is("restore-restored", RestoreReport::Restored(receipt));
    samples.is("restore-failed", RestoreReport::Failed { step: "clock".into(), reason: "not permitted".into() });
    samples.is("park", SessionMessage::Park);
    samples.is("parked", SessionMessage::Parked);
}

fn requests(samples: &mut Samples) {
    samples.is("start", HostRequest::Start);
    samples.is("attach", HostRequest::Attach);
    samples.is("quiesce", HostRequest::Quiesce);
    samples.is("freeze", HostRequest::Freeze);
    samples.is("thaw", HostRequest::Thaw);
    samples.is("grow", HostRequest::Grow { bytes: 21_474_836_480 });
    samples.is("census", HostRequest::Census);
    samples.is("volumes", HostRequest::Volumes);
    samples.is("hold", HostRequest::Hold);
    let volume = Volume { number: 1, root: VolumeRoot::Directory, read_only: true };
    samples.is("volume", HostRequest::Volume(volume));
    let least = Volume { number: 0, root: VolumeRoot::File, read_only: false };
    samples.means("volume-least", HostRequest::Volume(least));
    samples.is("clock", HostRequest::Clock { shift_ns: -20_000_000 });
    samples.is("time", Time { now_ns: 1_795_000_000_123_456_789 });
    let least = Exec { command: vec!["true".into()], ..Exec::default() };
    samples.means("exec-least", HostRequest::Exec(least));
    let exec = Exec {
        command: vec!["sh".into(), "-c".into(), "exit 3".into()],
        place: Place::System,
        env: vec!["A=1".into()],
        workdir: Some("/srv".into()),
        user: Some("0:0".into()),
        privileged: true,
        interactive: true,
        detach: true,
        terminal: None,
    };
    samples.is("exec", HostRequest::Exec(exec));
    let terminal = Some(TerminalSize { rows: 24, columns: 80 });
    let exec = Exec { command: vec!["sh".into()], interactive: true, terminal, ..Exec::default() };
    samples.is("exec-terminal", HostRequest::Exec(exec));
    samples.is("dial-tcp", HostRequest::Dial(Dial { protocol: Transport::Tcp, address: None, port: 80 }));
    let address = Some("::1".parse().unwrap());
    samples.is("dial-udp", HostRequest::Dial(Dial { protocol: Transport::Udp, address, port: 53 }));
    samples.is("kill", HostRequest::Kill { signal: 15, all: true });
    samples.means("kill-least", HostRequest::Kill { signal: 9, all: false });
    samples.is("power-off", HostRequest::PowerOff);
    samples.is("limit", HostRequest::Limit { memory: Some(64 << 20), cpu_milli: Some(1500) });
    samples.is("limit-least", HostRequest::Limit { memory: None, cpu_milli: None });
    file_requests(samples);
    samples.is("usage", HostRequest::Usage);
    samples.is("processes", HostRequest::Processes);
    samples.is("changes", HostRequest::Changes);
    samples.is("view-changes", HostRequest::ViewChanges { number: 3 });
    let address = Some([192, 0, 2, 7].into());
    samples.is("power-restart", GuestRequest::Power(Power::Restart));
    samples.is("power-off-asked", GuestRequest::Power(Power::Off));
    samples.is("echo", GuestRequest::Echo { address: [192, 0, 2, 1].into() });
    samples.is("connect", GuestRequest::Connect(Dial { protocol: Transport::Tcp, address, port: 443 }));
}

fn usage_answers(samples: &mut Samples) {
    let usage = Usage {
        cpu_ns: 1_500_000_000,
        memory: 4096,
        memory_limit: 1 << 29,
        pids: 3,
        net_in: 1,
        net_out: 2,
        disk_in: 512,
        disk_out: 1024,
    };
    samples.is("usage-answer", usage);
    let process = Process {
        pid: 1,
        ppid: 0,
        system_pid: 77,
        pgid: 77,
        user: "root".into(),
        group: "root".into(),
        state: "S".into(),
        nice: -5,
        cpu: 12,
        started: 321,
        tty: "pts/0".into(),
        virtual_kib: 4000,
        resident_kib: 900,
        name: "sh".into(),
        command: "sh -c x".into(),
    };
    samples.is("processes-answer", Processes { uptime: 400, processes: vec![process] });
    let change = |path: &str, change| FileChange { path: path.into(), change };
    let changes = vec![change("/a", Change::Added), change("/etc", Change::Changed), change("/bin/x", Change::Deleted)];
    samples.is("changes-answer", Changes { changes, failure: None });
    let failure = Some("read /run/fcvm/scratch/upper: Input/output error".into());
    samples.is("changes-failed", Changes { changes: Vec::new(), failure });
}

fn file_requests(samples: &mut Samples) {
    let pack = Pack { path: "/etc/ssl/.".into(), name: ".".into(), tree: Tree::Root, holes: true, still: true };
    samples.is("pack", HostRequest::Pack(pack));
    let view = Pack { path: "/".into(), name: String::new(), tree: Tree::View(3), holes: false, still: false };
    samples.means("pack-view", HostRequest::Pack(view));
    let least = Pack { path: "/x".into(), name: "x".into(), tree: Tree::Container, holes: false, still: false };
    samples.means("pack-least", HostRequest::Pack(least));
    let unpack = |coming, owner, overwrite| Unpack { path: "/srv/".into(), coming, owner, overwrite };
    samples.is("unpack", HostRequest::Unpack(unpack(Coming::File("x".into()), Ownership::Told, true)));
    samples.is(
        "unpack-directory",
        HostRequest::Unpack(unpack(Coming::Directory("d".into()), Ownership::Container, false)),
    );
    samples.is("unpack-contents", HostRequest::Unpack(unpack(Coming::Contents, Ownership::Container, false)));
    samples.means("unpack-least", HostRequest::Unpack(unpack(Coming::Archive, Ownership::Container, false)));
}

fn answers(samples: &mut Samples) {
    samples.is("dialled-connected", Dialled::Connected);
    samples.is("dialled-failed", Dialled::Failed(111));
    let sh = Running { pid: 1, started: 321, command: "sh -c x".into() };
    let web = Listener { protocol: Transport::Tcp, address: [0, 0, 0, 0].into(), port: 80 };
    samples.is("census-answer", Census { processes: vec![sh], listeners: vec![web] });
    samples.means("census-least", Census::default());
    usage_answers(samples);
    samples.is("found-file", Found::File);
    samples.is("found-directory", Found::Directory);
    samples.is("found-failed", Found::Failed("find \"/x\": No such file or directory".into()));
    samples.is("done-ok", Done::Ok);
    samples.is("done-failed", Done::Failed("no such process".into()));
    samples.is("process-signal", ProcessMessage::Signal(2));
    samples.is("process-end-of-input", ProcessMessage::EndOfInput);
    samples.is("process-resize", ProcessMessage::Resize(TerminalSize { rows: 50, columns: 132 }));
    samples.is("process-detach", ProcessMessage::Detach);
    samples.is("process-started", ProcessEvent::Started { pid: 42 });
    samples.is("process-failed", ProcessEvent::Failed { code: 127, reason: "sh: not found".into() });
    samples.is("process-out-of-memory", ProcessEvent::OutOfMemory);
    samples.is("process-exited-code", ProcessEvent::Exited(Exit::Code(3)));
    samples.is("process-exited-signal", ProcessEvent::Exited(Exit::Signal(9)));
    samples.is("process-detached", ProcessEvent::Detached);
}

#[test]
fn every_message_of_protocol_1_decodes() {
    let mut samples = Samples::default();
    greetings(&mut samples);
    requests(&mut samples);
    restores(&mut samples);
    answers(&mut samples);
    let files = std::fs::read_dir(golden("messages")).unwrap();
    let files = files.map(|file| file.unwrap().file_name().into_string().unwrap().replace(".json", ""));
    assert_eq!(samples.0, files.collect::<BTreeSet<_>>(), "each sample is tested");
}

/// Each line: a name, and the bytes as hex.
fn hex_samples(name: &str) -> Vec<(String, Vec<u8>)> {
    let text = std::fs::read_to_string(golden(name)).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (name, hex) = line.split_once(':').unwrap();
            let digits: String = hex.split_whitespace().collect();
            let byte = |index| u8::from_str_radix(&digits[index..index + 2], 16).unwrap();
            (name.to_owned(), (0..digits.len()).step_by(2).map(byte).collect())
        })
        .collect()
}

fn frames() -> Vec<(&'static str, Frame)> {
    let data = |lane, flags, offset, payload: &'static [u8]| Frame {
        header: Header { kind: Kind::Data, lane, flags, stream: 2, length: payload.len() as u32, offset },
        payload: Bytes::from_static(payload),
    };
    let flags = |open, end| Flags { open, end };
    vec![
        ("open", data(Lane::Message, flags(true, false), 0, b"\"start\"")),
        ("open and end", data(Lane::Message, flags(true, true), 0, b"\"power-off\"")),
        ("message", data(Lane::Message, flags(false, false), 7, b"{\"signal\":2}")),
        ("data", data(Lane::Data, flags(false, false), 0x0102_0304_0506_0708, b"hello\n")),
        ("error", data(Lane::Error, flags(false, false), 19, b"oops\n")),
        ("last data", data(Lane::Data, flags(false, true), 24, b"bye")),
        ("end", data(Lane::Message, flags(false, true), 24, b"")),
        ("empty datagram", data(Lane::Data, flags(false, false), 24, b"")),
        ("ack", Frame::ack(2, 65_536)),
        ("reset", Frame::reset(0xffff_ffff, "enough")),
        ("session", Frame::session(&Verdict::Refused { reason: "no".into() }).unwrap()),
    ]
}

#[test]
fn every_frame_of_protocol_1_decodes_and_is_written_the_same() {
    let samples = hex_samples("frames.hex");
    assert_eq!(samples.len(), frames().len());
    for ((name, bytes), (expected_name, frame)) in samples.into_iter().zip(frames()) {
        assert_eq!(name, expected_name);
        assert_eq!([&frame.header.encode()[..], &frame.payload].concat(), bytes, "{name}");
        assert_eq!(Frame::take(&mut BytesMut::from(&bytes[..])), Ok(Some(frame)), "{name}");
    }
}

fn events() -> Vec<(&'static str, Event)> {
    const FILE: u16 = 0o100_000;
    const DIRECTORY: u16 = 0o040_000;
    let event = |directory, name: &str, kind, what| Event { directory, name: name.into(), kind, what };
    let written = events::Changes::CONTENT.and(events::Changes::CLOSED);
    let moved = What::Moved { node: 9, directory: 8, name: b"to".to_vec(), replaced: (10, 0o120_000) };
    vec![
        ("changed", event(1, "a", FILE, What::Changed(written))),
        ("the root changed", event(1, "", DIRECTORY, What::Changed(events::Changes::ATTRIBUTES))),
        ("created", event(7, "new", DIRECTORY, What::Created(events::Changes::default()))),
        ("created and written", event(7, "new", FILE, What::Created(written))),
        ("deleted", event(7, "old", FILE, What::Deleted { node: 0x0102_0304_0506_0708 })),
        ("moved", event(7, "from", FILE, moved)),
    ]
}

#[test]
fn every_file_event_of_version_1_decodes_and_is_written_the_same() {
    let samples = hex_samples("events.hex");
    let ((_, ask), records) = samples.split_first().unwrap();
    // The headers of FUSE's messages are in the byte order of the machine.
    if cfg!(target_endian = "little") {
        assert_eq!(&events::ask(), ask);
    }
    assert_eq!(records.len(), events().len());
    for ((name, record), (expected_name, event)) in records.iter().zip(events()) {
        assert_eq!(name, expected_name);
        assert_eq!(events::answered(&events::answer(record)), Some(vec![event.clone()]), "{name}");
        let mut written = Vec::new();
        event.encode(&mut written);
        assert_eq!((&written, event.length()), (record, record.len()), "{name}");
    }
}

#[test]
fn the_preamble_of_protocol_1_is_understood() {
    let samples = hex_samples("preamble.hex");
    let [(_, call), (_, answer), (_, confirmation)] = &samples[..] else { panic!("three markers") };
    let (mut guest, mut host) = (Calling::new([0xaa; 16]), Answering::new([0xbb; 16]));
    assert_eq!(&guest.call()[..], call);
    assert_eq!(host.feed(call), Heard::Call(answer[..].try_into().unwrap()));
    assert_eq!(&guest.feed(answer).unwrap()[..], confirmation);
    assert_eq!(host.feed(confirmation), Heard::Confirmation(confirmation.len()));
}

/// Does not compile when a message has come that no sample above shows: add the sample, then the name here.
#[expect(dead_code, reason = "only the compiler reads it")]
fn all_messages_have_samples(
    verdict: Verdict,
    host: HostRequest,
    guest: GuestRequest,
    process: ProcessMessage,
    event: ProcessEvent,
    session: SessionMessage,
    report: RestoreReport,
) {
    match verdict {
        Verdict::Boot(_) | Verdict::Continue { .. } | Verdict::Restored(_) | Verdict::Refused { .. } => {}
    }
    match host {
        HostRequest::Start | HostRequest::Exec(_) | HostRequest::Dial(_) | HostRequest::Kill { .. } => {}
        HostRequest::Attach | HostRequest::Quiesce | HostRequest::Clock { .. } | HostRequest::PowerOff => {}
        HostRequest::Census | HostRequest::Freeze | HostRequest::Thaw | HostRequest::Limit { .. } => {}
        HostRequest::Grow { .. } => {}
        HostRequest::Pack(_) | HostRequest::Unpack(_) => {}
        HostRequest::Usage | HostRequest::Processes | HostRequest::Changes => {}
        HostRequest::Volume(_) | HostRequest::Volumes | HostRequest::Hold | HostRequest::ViewChanges { .. } => {}
    }
    match session {
        SessionMessage::Park | SessionMessage::Parked => {}
    }
    match report {
        RestoreReport::Restored(_) | RestoreReport::Failed { .. } => {}
    }
    match guest {
        GuestRequest::Connect(_) | GuestRequest::Echo { .. } | GuestRequest::Power(_) => {}
    }
    match process {
        ProcessMessage::Signal(_) | ProcessMessage::EndOfInput => {}
        ProcessMessage::Resize(_) | ProcessMessage::Detach => {}
    }
    match event {
        ProcessEvent::Started { .. } | ProcessEvent::Failed { .. } | ProcessEvent::Exited(_) => {}
        ProcessEvent::OutOfMemory | ProcessEvent::Detached => {}
    }
}
