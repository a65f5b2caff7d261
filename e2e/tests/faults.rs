//! Stories of runs that are cut off: at every point a phase fails or its process is killed, and after the next command
//! nothing is left but what was asked to stay. The points are in `crates/store/src/fault.rs`.

use fcvm_e2e::{BUSYBOX, Host, Started};
use fcvm_store::FailPoint;
use rustix::process::{Pid, Signal, kill_process};
use std::io::Read;

/// How a VM is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// In the foreground, and removed at its end.
    Removed,
    /// In the foreground.
    Kept,
    /// In the background.
    Background,
}

const MODES: [Mode; 3] = [Mode::Removed, Mode::Kept, Mode::Background];

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Error,
    Kill,
}

const FATES: [Fate; 2] = [Fate::Error, Fate::Kill];

/// Where a machine comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Cold,
    /// From the cache, which is quick.
    Cached,
}

/// One way to cut a run off.
#[derive(Clone, Copy, Debug)]
struct Cut {
    mode: Mode,
    point: FailPoint,
    fate: Fate,
}

impl Cut {
    /// All cuts at these points that a run comes by.
    fn all(points: &[FailPoint]) -> impl Iterator<Item = Self> {
        let fates = |mode, point| FATES.map(|fate| Self { mode, point, fate });
        let modes = move |point| MODES.into_iter().flat_map(move |mode| fates(mode, point));
        points.iter().copied().flat_map(modes).filter(|cut| cut.is_reached())
    }

    fn is_reached(self) -> bool {
        match self.point {
            FailPoint::OwnerTold => self.mode == Mode::Background,
            FailPoint::Taken | FailPoint::Renewed => false,
            FailPoint::NameFreed | FailPoint::RecordRemoved => self.mode == Mode::Removed,
            FailPoint::Retiring => self.mode != Mode::Removed,
            _ => true,
        }
    }

    /// Whether the process of the command line comes by the point itself.
    fn is_the_clients(self) -> bool {
        self.mode != Mode::Background || matches!(self.point, FailPoint::Fetched | FailPoint::OwnerTold)
    }

    /// What the command line ends with, and what it says.
    fn expected(self) -> (i32, String) {
        let sentence = format!("Error: the run failed at the point {}, as it was told to\n", self.point);
        match self.fate {
            _ if self.mode == Mode::Background && is_after(self.point, FailPoint::StartRecorded) => (0, String::new()),
            Fate::Error => (125, sentence),
            Fate::Kill if self.is_the_clients() => (137, String::new()),
            Fate::Kill => (125, "Error: the VM's owner ended without a word (signal: 9 (SIGKILL))\n".to_owned()),
        }
    }

    /// A container that has run is to be seen afterwards, unless `--rm` was asked.
    fn leaves_a_record(self) -> bool {
        self.mode != Mode::Removed && is_after(self.point, FailPoint::Started)
    }

    /// Cuts a run off and looks at what is left.
    fn make(self, host: &Host, start: Start) {
        let flags: &[&str] = match self.mode {
            Mode::Removed => &["--rm"],
            Mode::Kept => &[],
            Mode::Background => &["-d"],
        };
        let cold: &[&str] = if start == Start::Cold { &["--no-snapshot"] } else { &[] };
        let mut command = host.command(["run", "-q", "--name", "box"].iter().chain(flags).chain(cold));
        let fate = if self.fate == Fate::Error { "error" } else { "kill" };
        command.args([BUSYBOX, "true"]).env("FCVM_FAIL_POINT", format!("{}={fate}", self.point));
        let finished = Started::new(command, Vec::new()).finish();
        assert_eq!((finished.code, finished.stderr), self.expected(), "{self:?}");
        host.await_silence();
        let expected = if self.leaves_a_record() { "exited" } else { "" };
        assert_eq!(host.fcvm(["ps", "-a", "--format", "{{.State}}"]).ok().text(), expected, "{self:?}");
        if self.leaves_a_record() {
            host.fcvm(["rm", "box"]).ok();
        }
        host.assert_clean();
    }
}

fn position(point: FailPoint) -> usize {
    FailPoint::ALL.iter().position(|other| *other == point).expect("all points are in the list")
}

fn is_after(point: FailPoint, other: FailPoint) -> bool {
    position(point) > position(other)
}

/// The points from one to another, both included.
fn points(from: FailPoint, to: FailPoint) -> &'static [FailPoint] {
    &FailPoint::ALL[position(from)..=position(to)]
}

#[test]
fn a_run_that_is_cut_off_before_its_machine_leaves_nothing() {
    let host = Host::new();
    for cut in Cut::all(points(FailPoint::Fetched, FailPoint::MonitorRecorded)) {
        cut.make(&host, Start::Cold);
    }
}

#[test]
fn a_run_that_is_cut_off_while_its_machine_starts_leaves_nothing() {
    let host = Host::new();
    host.fcvm(["run", "--rm", BUSYBOX, "true"]).ok();
    for cut in Cut::all(points(FailPoint::Greeted, FailPoint::StartRecorded)) {
        // A cached machine that fails to wake up is given up for a cold one; that is not what is looked at here.
        let falls_back = cut.point == FailPoint::Greeted && cut.fate == Fate::Error;
        cut.make(&host, if falls_back { Start::Cold } else { Start::Cached });
    }
}

#[test]
fn a_run_that_is_cut_off_at_its_end_leaves_a_record_at_most() {
    let host = Host::new();
    host.fcvm(["run", "--rm", BUSYBOX, "true"]).ok();
    for cut in Cut::all(points(FailPoint::Running, FailPoint::Retiring)) {
        cut.make(&host, Start::Cached);
    }
}

/// The number that a VM's record has at this place, for example `State.Pid`.
fn pid(host: &Host, field: &str) -> i32 {
    let text = host.fcvm(["inspect", "--format", &format!("{{{{.{field}}}}}"), "box"]).ok().text();
    text.parse().expect("a number")
}

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).expect("a process"), signal).expect("the process is there");
}

#[test]
fn a_client_that_is_killed_before_it_was_told_of_its_vm_takes_it_along() {
    let host = Host::new();
    let points =
        [FailPoint::Directory, FailPoint::Named, FailPoint::Ports, FailPoint::Monitor, FailPoint::MonitorRecorded];
    for point in points {
        let mut command = host.command(["run", "-d", "--no-snapshot", "--name", "box", BUSYBOX, "true"]);
        command.env("FCVM_FAIL_POINT", format!("{point}=stop"));
        let client = Started::new(command, Vec::new());
        host.await_stopped();
        client.signal(9);
        assert_eq!(client.finish().text(), "");
        host.await_silence();
        host.assert_clean();
    }
}

#[test]
fn a_monitor_that_is_killed_at_every_boot_ends_the_run_with_a_reason() {
    let host = Host::new();
    let mut command = host.command(["run", "-q", "--rm", "--no-snapshot", "--name", "box", BUSYBOX, "true"]);
    command.env("FCVM_FAIL_POINT", format!("{}=stop", FailPoint::MonitorRecorded));
    let run = Started::new(command, Vec::new());
    for _attempt in 0..2 {
        let owner = host.await_stopped();
        signal(pid(&host, "Vm.MonitorPid"), Signal::KILL);
        signal(owner.pid, Signal::CONT);
    }
    run.finish().failed(125, "monitor");
    host.assert_clean();
}

#[test]
fn a_command_whose_owner_or_monitor_is_killed_ends_with_a_sentence() {
    let host = Host::new();
    for victim in ["State.Pid", "Vm.MonitorPid"] {
        host.start("box", &[BUSYBOX, "sleep", "1000"]);
        let command = host.command(["exec", "box", "sh", "-c", "echo here; exec sleep 2000"]);
        let (exec, mut stdout) = Started::streaming(command);
        stdout.read_exact(&mut [0; 5]).expect("the command runs");
        signal(pid(&host, victim), Signal::KILL);
        exec.finish().failed(125, "Error: ");
        host.await_silence();
        assert_eq!(host.fcvm(["ps", "-a", "--format", "{{.State}}"]).ok().text(), "exited", "{victim}");
        host.fcvm(["exec", "box", "true"]).failed(125, "not running");
        host.fcvm(["rm", "box"]).ok();
        host.assert_clean();
    }
}

/// The points that the start of a VM that has ended comes by, up to where its container runs.
const START: &[FailPoint] = &[
    FailPoint::Taken,
    FailPoint::Control,
    FailPoint::Planned,
    FailPoint::RunDirectory,
    FailPoint::Monitor,
    FailPoint::MonitorRecorded,
    FailPoint::Greeted,
    FailPoint::Started,
];

#[test]
fn a_start_that_is_cut_off_leaves_the_vm_and_its_disk() {
    let host = Host::new();
    host.fcvm(["run", "--name", "box", BUSYBOX, "sh", "-c", "cat /kept || echo mine > /kept"]).ok();
    for (point, fate) in START.iter().flat_map(|point| [(point, "error"), (point, "kill")]) {
        let mut command = host.command(["start", "box"]);
        command.env("FCVM_FAIL_POINT", format!("{point}={fate}"));
        let finished = Started::new(command, Vec::new()).finish();
        assert_eq!(finished.code, 125, "{point}={fate}: {}", finished.stderr);
        host.await_silence();
        let row = host.fcvm(["ps", "-a", "--format", "{{.Names}} {{.State}}"]).ok().text();
        assert_eq!(row, "box exited", "{point}={fate}");
    }
    host.fcvm(["start", "box"]).ok();
    host.fcvm(["wait", "box"]).ok();
    assert!(host.fcvm(["logs", "box"]).ok().text().ends_with("mine"));
    host.fcvm(["rm", "box"]).ok();
    host.assert_clean();
}

#[test]
fn a_vm_is_removed_by_force_in_every_phase_of_its_start() {
    let host = Host::new();
    let new = [FailPoint::Named, FailPoint::Control, FailPoint::Image, FailPoint::Scratch, FailPoint::Running];
    let again = [FailPoint::Taken, FailPoint::Monitor, FailPoint::Greeted, FailPoint::StartRecorded];
    let cuts = new.map(|point| (point, false)).into_iter().chain(again.map(|point| (point, true)));
    for (point, has_ended) in cuts {
        let mut command = match has_ended {
            false => host.command(["run", "-d", "--no-snapshot", "--name", "box", BUSYBOX, "sleep", "1000"]),
            true => {
                host.fcvm(["run", "--name", "box", BUSYBOX, "true"]).ok();
                host.command(["start", "box"])
            }
        };
        command.env("FCVM_FAIL_POINT", format!("{point}=stop"));
        let client = Started::new(command, Vec::new());
        let owner = host.await_stopped();
        let remove = Started::new(host.command(["rm", "-f", "-t", "0", "box"]), Vec::new());
        signal(owner.pid, Signal::CONT);
        remove.finish().ok();
        client.finish();
        host.await_silence();
        host.assert_clean();
    }
}

#[test]
fn a_vm_is_stopped_in_every_phase_of_its_start() {
    let host = Host::new();
    host.fcvm(["run", "--name", "box", BUSYBOX, "true"]).ok();
    for point in START {
        let mut command = host.command(["start", "box"]);
        command.env("FCVM_FAIL_POINT", format!("{point}=stop"));
        let client = Started::new(command, Vec::new());
        let owner = host.await_stopped();
        let stop = Started::new(host.command(["stop", "-t", "0", "box"]), Vec::new());
        signal(owner.pid, Signal::CONT);
        stop.finish().ok();
        client.finish();
        host.await_silence();
        assert_eq!(host.fcvm(["ps", "-a", "--format", "{{.Names}} {{.State}}"]).ok().text(), "box exited", "{point}");
    }
    host.fcvm(["rm", "box"]).ok();
    host.assert_clean();
}

#[test]
fn a_guest_that_never_starts_its_container_is_stopped_all_the_same() {
    let host = Host::new();
    let mut command = host.command(["run", "--no-snapshot", "--name", "box", BUSYBOX, "sleep", "1000"]);
    command.env("FCVM_FAIL_POINT", format!("{}=stop", FailPoint::Greeted));
    let run = Started::new(command, Vec::new());
    let owner = host.await_stopped();
    signal(pid(&host, "Vm.MonitorPid"), Signal::STOP);
    signal(owner.pid, Signal::CONT);
    host.fcvm(["stop", "box"]).ok();
    assert_eq!(run.finish().code, 143);
    host.await_silence();
    host.assert_clean();
}

#[test]
fn a_restart_that_is_cut_off_leaves_the_vm_and_its_disk() {
    let host = Host::new();
    let mut command =
        host.command(["run", "-d", "--name", "box", BUSYBOX, "sh", "-c", "echo life >> /lives; sleep 1000"]);
    command.env("FCVM_FAIL_POINT", format!("{}=kill", FailPoint::Renewed));
    Started::new(command, Vec::new()).finish().ok();
    host.fcvm(["restart", "-t", "0", "box"]).failed(125, "the VM ended");
    host.await_silence();
    assert_eq!(host.fcvm(["ps", "-a", "--format", "{{.State}}"]).ok().text(), "exited");
    host.fcvm(["start", "box"]).ok();
    let second = "until [ $(wc -l < /lives) -ge 2 ]; do :; done; cat /lives";
    assert_eq!(host.vm("box").exec(&["sh", "-c", second]).ok().text(), "life\nlife");
    let waiting = Started::new(host.command(["wait", "box"]), Vec::new());
    host.fcvm(["stop", "-t", "0", "box"]).ok();
    assert_eq!(waiting.finish().ok().text(), "137");
    host.fcvm(["rm", "box"]).ok();
    host.assert_clean();
}
