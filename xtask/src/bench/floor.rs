//! What a restore costs the emulator alone: QEMU driven directly with the files of one of our snapshots, and the guest's
//! own answers. No command line of ours, no owner, no jail, no records, no checks: what is above this is our share.

use super::{Samples, which};
use anyhow::{Context, Result, ensure};
use fcvm_e2e::Host;
use fcvm_link::{Role, greeting};
use fcvm_proto::message::{Exec, HostRequest, Verdict};
use fcvm_proto::restore::Delta;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::net::{UnixListener, UnixStream};

/// The time from just before QEMU is spawned, in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Floor {
    /// Until the guest's greeting has come.
    pub(super) greeted: Samples,
    /// Until a command in the container has ended.
    pub(super) answered: Samples,
}

/// A machine that ends with this.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Measures; none where there is no QEMU of the name for this processor.
pub(super) fn measure(host: &Host, snapshot: &str, runs: usize) -> Result<Option<Floor>> {
    let Some(qemu) = which(&format!("qemu-system-{}", std::env::consts::ARCH)) else { return Ok(None) };
    let dir = host.data().join("snapshots").join(snapshot);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut floor = Floor::default();
    for _ in 0..runs {
        runtime.block_on(one(&qemu, &dir, &mut floor))?;
    }
    Ok(Some(floor))
}

async fn one(qemu: &Path, snapshot: &Path, floor: &mut Floor) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let socket = dir.path().join("link");
    let listener = UnixListener::bind(&socket)?;
    let scratch = dir.path().join("scratch");
    let copied = Command::new("cp").arg("--sparse=always").arg(snapshot.join("scratch.ext4")).arg(&scratch).status()?;
    ensure!(copied.success(), "the scratch disk was not copied");
    let mut command = command(qemu, snapshot, &socket, &scratch)?;
    let started = Instant::now();
    let millis = |since: Instant| since.elapsed().as_secs_f64() * 1e3;
    let _machine = Machine(command.spawn()?);
    let (link, _) = listener.accept().await?;
    let (mut reader, mut writer) = UnixStream::into_split(link);
    greeting::knock(&mut writer).await?;
    let verdict = |_: &_| Verdict::Restored(Box::new(delta()));
    let greeted = greeting::host_greeting(&mut reader, &mut writer, verdict).await;
    greeted.map_err(|error| anyhow::anyhow!("the guest did not greet: {error}"))?;
    floor.greeted.push(millis(started));
    let report = greeting::hear_report(&mut reader).await;
    report.map_err(|error| anyhow::anyhow!("the guest did not report: {error}"))?;
    let (session, _incoming, driver) = fcvm_link::start(reader, writer, Role::Host);
    let exec = HostRequest::Exec(Exec { command: vec!["true".to_owned()], ..Exec::default() });
    let (_sender, mut receiver) = session.open(&exec).context("open a stream")?.split();
    let answer = async { while receiver.recv().await.is_ok_and(|item| item.is_some()) {} };
    tokio::select! {
        () = answer => floor.answered.push(millis(started)),
        ended = driver.run() => anyhow::bail!("the session ended: {ended:?}"),
    }
    Ok(())
}

fn command(qemu: &Path, snapshot: &Path, link: &Path, scratch: &Path) -> Result<Command> {
    let file = |name: &str| snapshot.join(name).display().to_string();
    let size = File::open(snapshot.join("memory"))?.metadata()?.len();
    let mut command = Command::new(qemu);
    let mut line = |name: &str, value: String| {
        command.arg(name).arg(value);
    };
    line("-M", "microvm,acpi=on,rtc=on,pit=on,pic=on,pcie=off,isa-serial=on,memory-backend=memory".to_owned());
    line("-accel", "tcg,thread=multi,tb-size=64".to_owned());
    line("-cpu", "qemu64,+rdrand,+arat".to_owned());
    line("-m", format!("{}M", size >> 20));
    line("-object", format!("memory-backend-file,id=memory,size={size},mem-path={},share=off", file("memory")));
    line("-display", "none".to_owned());
    line("-global", "virtio-mmio.force-legacy=false".to_owned());
    line("-global", "migration.send-configuration=off".to_owned());
    line("-incoming", "fd:0".to_owned());
    line("-chardev", "null,id=console".to_owned());
    line("-serial", "chardev:console".to_owned());
    line("-chardev", format!("socket,id=link,path={}", link.display()));
    line("-device", "virtio-serial-device,max_ports=2".to_owned());
    line("-device", "virtserialport,chardev=link,nr=1,name=fcvm.link".to_owned());
    let disks: [(PathBuf, &str); 3] =
        [(snapshot.join("system.erofs"), "on"), (snapshot.join("image.erofs"), "on"), (scratch.to_owned(), "off")];
    for (index, (path, read_only)) in disks.iter().enumerate() {
        let path = path.display();
        line("-drive", format!("if=none,id=disk{index},format=raw,read-only={read_only},file.locking=off,file={path}"));
        line("-device", format!("virtio-blk-device,drive=disk{index}"));
    }
    line("-object", "rng-builtin,id=entropy".to_owned());
    line("-device", "virtio-rng-device,rng=entropy".to_owned());
    command.args(["-nodefaults", "-no-user-config", "-no-reboot"]);
    command.stdin(File::open(snapshot.join("devices"))?).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command)
}

fn delta() -> Delta {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let text = |text: &str| text.to_owned();
    Delta {
        epoch: text("00000000-0000-4000-8000-000000000000"),
        time_ns: i64::try_from(now.as_nanos()).unwrap_or(i64::MAX),
        entropy: "00".repeat(32),
        hostname: text("floor"),
        machine_id: "0".repeat(32),
        hosts: String::new(),
        resolv_conf: String::new(),
        env: Vec::new(),
        container: None,
    }
}
