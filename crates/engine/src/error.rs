//! What can go wrong in a use case. The command line maps these to exit codes and hints in one place.

use fcvm_spec::Signal;

/// A use case that failed. All of these are failures of ours (exit code 125) but where [`Error::exit_code`] says else.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory.
    #[error(transparent)]
    Store(#[from] fcvm_store::Error),
    /// The image.
    #[error(transparent)]
    Image(#[from] fcvm_image::Error),
    /// Files that are copied.
    #[error(transparent)]
    Files(#[from] fcvm_archive::Error),
    /// Kernel, guest system, agent or scratch disk.
    #[error(transparent)]
    Artifacts(#[from] fcvm_artifacts::Error),
    /// The monitor.
    #[error(transparent)]
    Monitor(#[from] fcvm_vmm::Error),
    /// The cgroup of its processes.
    #[error(transparent)]
    Cgroup(#[from] fcvm_store::CgroupError),
    /// No monitor can run what was asked for.
    #[error(transparent)]
    Choice(#[from] fcvm_vmm::ChoiceError),
    /// The file server of the volumes.
    #[error(transparent)]
    FileServer(#[from] fcvm_volume::Error),
    /// What a volume is to show is not there. Podman's words.
    #[error("statfs {}", path.display())]
    NoSource {
        /// Its path.
        path: std::path::PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// What a volume of a snapshot showed is not there.
    #[error("{path} is not there any more; if it lies elsewhere, give --map-from {path}=NEW", path = path.display())]
    NoTree {
        /// Its path.
        path: std::path::PathBuf,
    },
    /// More volumes than a file server has.
    #[error("{count} volumes are too many: a VM can have {most} that show something of the host")]
    ManyVolumes {
        /// How many were wanted.
        count: usize,
        /// The most.
        most: usize,
    },
    /// A view of something that is no directory.
    #[error("{} is a file: a VM can have a directory for itself (`fork`), not a file", path.display())]
    ForkOfFile {
        /// Its path.
        path: std::path::PathBuf,
    },
    /// What was written to a view cannot be told or applied.
    #[error("{what} {}", path.display())]
    View {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: std::path::PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The kernel does not say when a view begins.
    #[error("ask the kernel for the time of files")]
    FileClock(#[source] std::io::Error),
    /// No view is at that place of a VM.
    #[error("VM {vm} has no volume with `fork` at {path}")]
    NoView {
        /// The VM.
        vm: String,
        /// The place.
        path: String,
    },
    /// A file cannot be a disk of the VM.
    #[error("the disk {} cannot be used", path.display())]
    Disk {
        /// The file, or the directory that it is to be made of.
        path: std::path::PathBuf,
        /// Why not.
        source: crate::Unfit,
    },
    /// A monitor takes fewer disks.
    #[error("{monitor} takes {most} disks of the user's, not {disks}")]
    TooManyDisks {
        /// The monitor.
        monitor: String,
        /// How many it takes beside those that every VM has.
        most: usize,
        /// How many were asked for.
        disks: usize,
    },
    /// A VM cannot go back without a disk.
    #[error("this VM writes to {}, which would not go back with it; let a clone start from the snapshot instead", .0.display())]
    DiskStays(std::path::PathBuf),
    /// A disk cannot become smaller.
    #[error("the root file system has {is} MiB already and cannot become smaller")]
    Shrinks {
        /// Its size.
        is: u64,
    },
    /// A disk could not be made larger.
    #[error("make the disk {} larger", path.display())]
    Grow {
        /// Its file.
        path: std::path::PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The guest does not have its volumes.
    #[error("mount the volumes in the guest: {reason}")]
    Volumes {
        /// Why not.
        reason: String,
    },
    /// A published port.
    #[error(transparent)]
    Port(#[from] fcvm_net::BindError),
    /// Metadata at a key that cannot be.
    #[error("metadata cannot be set")]
    Metadata(#[from] fcvm_net::metadata::BadKey),
    /// Metadata that is not the user's to say.
    #[error("the metadata {key:?} is fcvm's own to say")]
    OwnMetadata {
        /// The key.
        key: String,
    },
    /// Too much metadata.
    #[error("metadata of {size} bytes is too much: {most} are possible")]
    LongMetadata {
        /// Keys and values.
        size: usize,
        /// The most.
        most: usize,
    },
    /// Nothing to run.
    #[error(transparent)]
    NoCommand(#[from] crate::plan::NoCommand),
    /// The directory of the monitor.
    #[error("create directory {}", path.display())]
    RunDir {
        /// Which.
        path: std::path::PathBuf,
        /// Why it cannot be made.
        source: std::io::Error,
    },
    /// The guest did not greet in time, twice.
    #[error("the guest did not start: {reason}; {}", end_of(console))]
    NoGuest {
        /// What was seen instead.
        reason: String,
        /// The last lines of its console.
        console: String,
    },
    /// The container's command could not be started.
    #[error("{reason}")]
    Start {
        /// 125, 126 or 127.
        code: u8,
        /// The guest's sentence.
        reason: String,
    },
    /// A signal came before the container ran.
    #[error("interrupted by {0} before the container ran")]
    Interrupted(Signal),
    /// `stop` came before the container ran.
    #[error("stopped before the container ran")]
    Stopped,
    /// The VM's owner cannot be asked.
    #[error("ask the owner of VM {vm}")]
    Control {
        /// The VM's name.
        vm: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The VM's owner answered with a sentence.
    #[error("{0}")]
    Refused(String),
    /// A change of what is said about an image.
    #[error("invalid change {change:?}: {reason}")]
    Change {
        /// The change.
        change: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A path that only a running container has.
    #[error("{path} is in {target}, which is mounted only while the VM runs; start it first")]
    NotThere {
        /// The path.
        path: String,
        /// Where something is mounted.
        target: String,
    },
    /// Neither end of a copy is in a VM.
    #[error("neither the source nor the destination is in a VM: one of them is to be VM:PATH")]
    NoVmToCopy,
    /// The VM has no running container.
    #[error("VM {0} is not running")]
    NotRunning(String),
    /// The VM does something else.
    #[error("VM {vm} is {is}, not {expected}")]
    OtherPhase {
        /// Its name.
        vm: String,
        /// What it does.
        is: fcvm_spec::Phase,
        /// What it would have to do.
        expected: fcvm_spec::Phase,
    },
    /// A machine is too small for a limit.
    #[error(transparent)]
    TooSmall(#[from] fcvm_spec::TooSmall),
    /// The VM runs.
    #[error("VM {0} is running; stop it first or use --force")]
    Running(String),
    /// A page server could not be started.
    #[error("start a page server")]
    Pager(#[source] fcvm_sys::jail::Error),
    /// The guest's memory could not be copied or written.
    #[error("{what} the guest's memory")]
    Memory {
        /// The verb.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A file of a snapshot could not be used.
    #[error("{what} of the snapshot")]
    Snapshot {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Two snapshots have too little in common.
    #[error("one is of {one}, the other of {other} or another version of it: their files cannot be compared")]
    OtherImages {
        /// The image of the one.
        one: String,
        /// That of the other.
        other: String,
    },
    /// A boot needs what only the image tells.
    #[error("the image {0} of this VM was removed, and a machine boots with nothing else")]
    ImageGone(String),
    /// A snapshot is not one of a machine.
    #[error("this snapshot is of a disk: there is no machine in it")]
    OnlyADisk,
    /// The guest did not do in time what it was asked for.
    #[error("the guest did not {what} within {seconds} s; the VM goes on as it was")]
    NotSilent {
        /// What it had to do.
        what: &'static str,
        /// How long it was waited for.
        seconds: u64,
    },
    /// A machine that was wanted with its container well did not become so.
    #[error("the container did not become healthy; its check said: {said:?}")]
    NotWell {
        /// The beginning of what the last check said.
        said: String,
    },
    /// A machine that was wanted with its container well lost it before.
    #[error("the container ended with code {code} before a snapshot of it could be made")]
    EndedFirst {
        /// Its code.
        code: u8,
    },
    /// Another process makes what was wanted.
    #[error("another process is preparing the same snapshot; try again when it is done")]
    BeingPrepared,
    /// Two things went wrong, the second while the first was being mended.
    #[error("{first}; and then: {then}")]
    Twice {
        /// The first.
        first: Box<Error>,
        /// The second.
        then: Box<Error>,
    },
    /// The machine that was saved had something else.
    #[error("the snapshot was made with {what} {saved:?}, here it is {here:?}; make it anew on this host")]
    OtherMachine {
        /// Monitor, accelerator or processor.
        what: &'static str,
        /// What it was.
        saved: String,
        /// What it is here.
        here: String,
    },
    /// A VM cannot go back to a snapshot of something else.
    #[error("this VM cannot go back to that snapshot: it holds {what}")]
    OtherVm {
        /// What is in it.
        what: &'static str,
    },
    /// The guest did not become another machine.
    #[error("the restored guest failed at its {step}: {reason}")]
    NotAwake {
        /// The line of the receipt.
        step: String,
        /// Why.
        reason: String,
    },
    /// The connection to the VM ended in the middle.
    #[error("the VM ended before the command did")]
    Lost,
}

/// An error with all of its causes.
pub(crate) fn in_full(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// What a message says of a console.
fn end_of(console: &str) -> String {
    match console.trim() {
        "" => "its console is empty".to_owned(),
        text => format!("the end of its console:\n{text}"),
    }
}

impl Error {
    /// Returns the exit code of a `run` or `exec` that ends so.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Start { code, .. } => *code,
            Self::Interrupted(signal) => u8::try_from(128 + signal.number()).unwrap_or(u8::MAX),
            Self::Stopped => 143,
            _ => 125,
        }
    }
}
