//! Machines that are saved while they run, and machines that start from that.

use crate::guest::{Guest, block_on, entrance};
use fcvm_vmm::memory::MemoryCopy;
use fcvm_vmm::{Error, Exit, Line, Machine, MachineSpec, Origin, Saved, boot};
use std::error::Error as _;
use std::fs::File;
use std::path::Path;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

pub(crate) const TESTS: &[crate::Test] = &[
    ("a_machine_is_saved_and_goes_on_and_clones_start_where_it_was", clones),
    ("a_clone_is_saved_by_its_own_pages", clone_of_a_clone),
    ("a_state_of_another_version_or_a_damaged_one_is_refused_with_a_reason", damaged),
];

/// A guest that remembers one word in its memory and counts what it is asked.
fn spec(guest: &Guest, directory: &Path) -> MachineSpec {
    let script = format!(
        "while read verb rest <&3; do echo >> /asked\n\
        case $verb in set) echo $rest > /word; echo set >&3;; get) echo $(cat /word) $(wc -l < /asked) >&3;; off) {};; esac\n\
        done\n",
        guest.power_off()
    );
    guest.linked(directory, &script)
}

struct Talk {
    line: Line,
    connection: BufReader<UnixStream>,
}

impl Talk {
    async fn with(machine: &mut Machine) -> Self {
        let mut line = machine.take_line().unwrap();
        let connection = BufReader::new(line.connect().await.unwrap());
        Self { line, connection }
    }

    /// Goes on after the machine was saved, which ends a connection that the guest has dialled. Its monitor does not say so.
    async fn after_a_save(&mut self, guest: &Guest) {
        if guest.dials() {
            self.connection = BufReader::new(self.line.connect().await.unwrap());
        }
    }

    async fn heard(&mut self) -> String {
        let mut line = String::new();
        self.connection.read_line(&mut line).await.unwrap();
        line.trim().to_owned()
    }

    async fn ask(&mut self, line: &str) -> String {
        self.connection.get_mut().write_all(format!("{line}\n").as_bytes()).await.unwrap();
        self.heard().await
    }
}

/// Saves a machine that runs into files below a directory, and lets it go on.
async fn save(machine: &Machine, base: Option<&Saved>, directory: &Path) -> Saved {
    let file = |name: &str| directory.join(name);
    let copy = machine.copy_memory().unwrap();
    let memory = base.map_or_else(|| file("memory"), |base| base.memory.clone());
    let into = base.is_none().then(|| File::options().read(true).write(true).create_new(true).open(&memory).unwrap());
    if let (MemoryCopy::Whole(whole), Some(into)) = (&copy, &into) {
        whole.ahead(into).unwrap();
    }
    machine.pause().await.unwrap();
    let devices = machine.save_devices().await.unwrap();
    let mut pages = None;
    match copy {
        MemoryCopy::Whole(whole) => whole.finish(&into.unwrap()).unwrap(),
        MemoryCopy::Pages(copy) => {
            copy.take().unwrap().write(&mut File::create(file("pages")).unwrap()).unwrap();
            pages = Some(file("pages"));
        }
        MemoryCopy::Monitors { .. } => machine.saved_memory().unwrap().ahead(&into.unwrap()).unwrap(),
    }
    machine.resume().await.unwrap();
    std::fs::write(file("devices"), devices).unwrap();
    Saved { memory, pages, devices: file("devices"), version: machine.version(), server: None }
}

async fn restore(spec: &MachineSpec, saved: &Saved, directory: &Path) -> (Machine, Talk) {
    let spec = MachineSpec { origin: Origin::Saved(saved.clone()), run_dir: directory.to_owned(), ..spec.clone() };
    let mut machine = boot(&spec, &entrance()).await.unwrap();
    let talk = Talk::with(&mut machine).await;
    (machine, talk)
}

fn clones(guest: &Guest) {
    block_on(async {
        let directories = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let [first, second, third] = directories.each_ref().map(tempfile::TempDir::path);
        let spec = spec(guest, first);
        let mut source = boot(&spec, &entrance()).await.unwrap();
        let mut talk = Talk::with(&mut source).await;
        assert_eq!(talk.ask("set alpha").await, "set");
        let saved = save(&source, None, first).await;
        talk.after_a_save(guest).await;
        assert_eq!(talk.ask("set beta").await, "set");
        let (mut one, mut to_one) = restore(&spec, &saved, second).await;
        let (_other, mut to_other) = restore(&spec, &saved, third).await;
        assert_eq!(to_one.ask("get").await, "alpha 2");
        assert_eq!(to_one.ask("set gamma").await, "set");
        assert_eq!(to_other.ask("get").await, "alpha 2");
        assert_eq!(to_one.ask("get").await, "gamma 4");
        assert_eq!(talk.ask("get").await, "beta 3");
        to_one.connection.get_mut().write_all(b"off\n").await.unwrap();
        assert_eq!(one.wait().await, Exit::PoweredOff);
    });
}

fn clone_of_a_clone(guest: &Guest) {
    block_on(async {
        let directories = [(); 4].map(|()| tempfile::tempdir().unwrap());
        let [first, second, third, fourth] = directories.each_ref().map(tempfile::TempDir::path);
        let spec = spec(guest, first);
        let mut source = boot(&spec, &entrance()).await.unwrap();
        let mut talk = Talk::with(&mut source).await;
        assert_eq!(talk.ask("set none").await, "set");
        let saved = save(&source, None, first).await;
        let (child, mut to_child) = restore(&spec, &saved, second).await;
        assert_eq!(to_child.ask("set one").await, "set");
        let of_child = save(&child, Some(&saved), second).await;
        to_child.after_a_save(guest).await;
        assert_eq!(to_child.ask("set later").await, "set");
        let (grandchild, mut to_grandchild) = restore(&spec, &of_child, third).await;
        assert_eq!(to_grandchild.ask("get").await, "one 3");
        assert_eq!(to_grandchild.ask("set two").await, "set");
        let of_grandchild = save(&grandchild, Some(&of_child), third).await;
        let (_last, mut to_last) = restore(&spec, &of_grandchild, fourth).await;
        assert_eq!(to_last.ask("get").await, "two 5");
        assert_eq!(to_child.ask("get").await, "later 4");
    });
}

fn damaged(guest: &Guest) {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let spec = spec(guest, directory.path());
        let mut source = boot(&spec, &entrance()).await.unwrap();
        let mut talk = Talk::with(&mut source).await;
        assert_eq!(talk.ask("set none").await, "set");
        let saved = save(&source, None, directory.path()).await;
        let devices = std::fs::read(&saved.devices).unwrap();
        std::fs::write(&saved.devices, &devices[..devices.len() / 2]).unwrap();
        let other = Saved { version: "1.0.0".to_owned(), ..saved.clone() };
        let spec = MachineSpec { origin: Origin::Saved(other), ..spec };
        assert!(matches!(boot(&spec, &entrance()).await, Err(Error::Unsupported { .. })));
        let spec = MachineSpec { origin: Origin::Saved(saved), ..spec };
        let reason = match boot(&spec, &entrance()).await {
            Err(error) => format!("{error}: {}", error.source().map(ToString::to_string).unwrap_or_default()),
            Ok(mut machine) => machine.wait().await.to_string(),
        };
        let said = if guest.dials() { "cannot load the machine" } else { "load of migration failed" };
        assert!(reason.contains(said), "{reason}");
    });
}
