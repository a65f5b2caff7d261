//! A machine of QEMU's alone that has what ours does not: virtio-9p and virtiofs. Debian's cloud kernel, which our guests
//! have, knows no 9p, so this one has Debian's other kernel of the same version, and a disk of its own to compare with. Its
//! kernel is told what our guest's was. It boots to a shell that does what it reads on its serial line.

use super::super::which;
use super::output;
use super::place::{Place, TOOLS, VM};
use anyhow::{Context, Result, bail};
use fcvm_e2e::Host;
use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The names of its places.
pub(super) const DISK: &str = "a QEMU guest's disk";
pub(super) const NINE: &str = "virtio-9p";
pub(super) const VIRTIOFS: &str = "virtiofs";

/// The modules that it needs, each after what it needs; what a kernel has built in is not there.
const MODULES: &[&str] = &[
    "virtio_ring",
    "virtio",
    "virtio_mmio",
    "virtio_blk",
    "crc16",
    "mbcache",
    "jbd2",
    "crc32c_generic",
    "libcrc32c",
    "ext4",
    "netfs",
    "fscache",
    "9pnet",
    "9pnet_virtio",
    "9p",
    "fuse",
    "virtiofs",
];

/// Where Debian has the file server of QEMU 7.2, which is told where to listen by a descriptor.
const SERVER: &str = "/usr/lib/qemu/virtiofsd";

/// A machine and its file server, which end with this.
pub(super) struct Machine {
    link: RefCell<Link>,
    _monitor: Process,
    server: Option<Process>,
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Its serial line.
pub(super) struct Link {
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Machine {
    /// Boots it with these directories of the host; none where there is no kernel for it.
    pub(super) fn start(host: &Host, tools: &Path, shown: (&Path, &Path), memory: usize) -> Result<Option<Self>> {
        let guest = |command: &[&str]| output(&mut host.command(["exec", "--vm", VM].iter().chain(command)));
        let release = guest(&["uname", "-r"])?.trim().replace("-cloud", "");
        let package = match package(&release) {
            Ok(package) if cfg!(target_arch = "x86_64") => package,
            refused => {
                eprintln!("no kernel with 9p, {:?}: virtio-9p and virtiofs are left out", refused.err());
                return Ok(None);
            }
        };
        let dir = host.path().join("machine");
        initramfs(&dir, &package.join("lib/modules").join(&release), tools)?;
        disk(&host.data().join("artifacts"), &dir)?;
        let (server, socket) = serve(&dir, shown.1)?;
        let mut qemu = command(&dir, &package.join("boot").join(format!("vmlinuz-{release}")), shown.0, memory);
        qemu.arg("-append").arg(parameters(&guest(&["cat", "/proc/cmdline"])?));
        if server.is_some() {
            qemu.arg("-chardev").arg(format!("socket,id=files,path={}", socket.display()));
            qemu.args(["-device", "vhost-user-fs-device,chardev=files,tag=shared"]);
        }
        let log = File::create(dir.join("log"))?;
        let monitor = qemu.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn();
        let mut monitor = Process(monitor.context("start QEMU")?);
        let to = monitor.0.stdin.take().context("stdin is piped")?;
        let from = BufReader::new(monitor.0.stdout.take().context("stdout is piped")?);
        let machine = Self { link: RefCell::new(Link { to, from }), _monitor: monitor, server };
        machine.link.borrow_mut().answer().with_context(|| format!("see {}", dir.join("log").display()))?;
        Ok(Some(machine))
    }

    pub(super) fn places(&self) -> Vec<Place<'_>> {
        let place = |name, dir| Place::machine(name, &self.link, dir);
        let mut places = vec![place(DISK, "/own"), place(NINE, "/nine")];
        places.extend(self.server.is_some().then(|| place(VIRTIOFS, "/virtiofs")));
        places
    }
}

impl Link {
    /// Has a command run; returns what it wrote.
    pub(super) fn ask(&mut self, line: &str) -> Result<String> {
        writeln!(self.to, "{line}")?;
        self.answer().with_context(|| format!("in the machine of QEMU: {line}"))
    }

    fn answer(&mut self) -> Result<String> {
        let mut said = String::new();
        loop {
            let mut line = String::new();
            if self.from.read_line(&mut line)? == 0 {
                bail!("the machine ended: {said}");
            }
            match line.trim().strip_prefix("ended ") {
                Some("0") => return Ok(said),
                Some(code) => bail!("exit code {code}: {said}"),
                None => said.push_str(&line),
            }
        }
    }
}

/// Fetches and unpacks Debian's kernel of this release, once per checkout.
fn package(release: &str) -> Result<PathBuf> {
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench/kernels");
    let made = kernels.join(release);
    if !made.is_dir() {
        fs::create_dir_all(&kernels)?;
        let dir = tempfile::tempdir_in(&kernels)?;
        output(Command::new("apt-get").args(["download", &format!("linux-image-{release}")]).current_dir(&dir))?;
        let file = fs::read_dir(&dir)?.next().context("apt-get fetched nothing")??.path();
        output(Command::new("dpkg-deb").arg("-x").arg(file).arg(dir.path().join("package")))?;
        fs::rename(dir.path().join("package"), &made)?;
    }
    Ok(made)
}

/// A root file system of busybox, modules and tools, and a script that begins it.
fn initramfs(dir: &Path, modules: &Path, tools: &Path) -> Result<()> {
    let root = dir.join("root");
    for below in ["bin", "dev", "proc", "sys", "own", "nine", "virtiofs", "modules"] {
        fs::create_dir_all(root.join(below))?;
    }
    fs::copy(which("busybox").context("there is no busybox on this machine")?, root.join("bin/busybox"))?;
    output(Command::new("cp").arg("-r").arg(tools).arg(root.join(&TOOLS[1..])))?;
    for name in MODULES {
        let found = output(Command::new("find").arg(modules).args(["-name", &format!("{name}.ko")]))?;
        if let Some(file) = found.lines().next() {
            fs::copy(file, root.join("modules").join(format!("{name}.ko")))?;
        }
    }
    fs::write(root.join("init"), INIT.replace("MODULES", &MODULES.join(" ")))?;
    output(Command::new("chmod").arg("755").arg(root.join("init")))?;
    let pack = "find . | busybox cpio -o -H newc > ../initramfs";
    output(Command::new("sh").args(["-c", pack]).current_dir(&root)).map(drop)
}

/// A copy of the empty disk that our guests get.
fn disk(artifacts: &Path, dir: &Path) -> Result<()> {
    let mut made = fs::read_dir(artifacts.join("scratch"))?.flatten().map(|entry| entry.path());
    let empty = made.find(|path| path.extension().is_some_and(|kind| kind == "ext4"));
    let empty = empty.context("`fcvm setup` has made no disk")?;
    output(Command::new("cp").arg("--sparse=always").arg(empty).arg(dir.join("disk"))).map(drop)
}

const INIT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
exec < /dev/ttyS0 > /dev/ttyS0 2>&1
stty raw -echo
for module in MODULES; do [ ! -e /modules/$module.ko ] || insmod /modules/$module.ko; done
mount -t ext4 -o noatime,discard /dev/vda /own && mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 nine /nine
mounted=$?
[ ! -d /sys/bus/virtio/drivers/virtiofs/virtio* ] || mount -t virtiofs shared /virtiofs || mounted=1
echo ended $mounted
while read -r line; do
  # Not on a terminal, where git would tell of its progress.
  $line 2> /errors; code=$?
  [ $code = 0 ] || cat /errors
  echo ended $code
done
poweroff -f
";

/// Starts the file server on a socket that is there before QEMU looks for it; none where this machine has none.
fn serve(dir: &Path, shown: &Path) -> Result<(Option<Process>, PathBuf)> {
    let socket = dir.join("virtiofs");
    if !Path::new(SERVER).is_file() {
        eprintln!("{SERVER} is absent: virtiofs is left out");
        return Ok((None, socket));
    }
    let listener = OwnedFd::from(UnixListener::bind(&socket)?);
    let mut server = Command::new(SERVER);
    // It keeps a descriptor of each file that the guest knows, and asks for more than a host may allow.
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(1 << 20).min(1 << 20);
    server
        .args(["-f", "--fd=0", &format!("--rlimit-nofile={most}"), "-o", "cache=auto", "-o", "xattr", "-o"])
        .arg(format!("source={}", shown.display()));
    let log = File::create(dir.join("server.log"))?;
    let server = server.stdin(listener).stdout(Stdio::null()).stderr(log).spawn().context("start the file server")?;
    Ok((Some(Process(server)), socket))
}

/// The command line but for what the kernel is told and virtiofs: as our monitor's.
fn command(dir: &Path, kernel: &Path, nine: &Path, memory: usize) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    let mut line = |name: &str, value: String| {
        command.arg(name).arg(value);
    };
    line("-M", "microvm,acpi=on,rtc=on,pit=on,pic=on,pcie=off,isa-serial=on,memory-backend=memory".to_owned());
    line("-accel", "tcg,thread=multi,tb-size=64".to_owned());
    line("-cpu", "qemu64,+rdrand,+arat".to_owned());
    line("-m", format!("{memory}M"));
    line("-object", format!("memory-backend-memfd,id=memory,size={memory}M,share=on"));
    line("-display", "none".to_owned());
    line("-global", "virtio-mmio.force-legacy=false".to_owned());
    line("-kernel", kernel.display().to_string());
    line("-initrd", dir.join("initramfs").display().to_string());
    line("-chardev", "stdio,id=console,signal=off".to_owned());
    line("-serial", "chardev:console".to_owned());
    let options = "read-only=off,cache.no-flush=on,discard=unmap";
    let disk = dir.join("disk");
    line("-blockdev", format!("driver=file,node-name=file,filename={},locking=off,{options}", disk.display()));
    line("-blockdev", format!("driver=raw,node-name=disk,file=file,{options},detect-zeroes=unmap"));
    line("-device", "virtio-blk-device,drive=disk".to_owned());
    line("-fsdev", format!("local,id=nine,path={},security_model=none", nine.display()));
    line("-device", "virtio-9p-device,fsdev=nine,mount_tag=nine".to_owned());
    command.args(["-nodefaults", "-no-user-config", "-no-reboot"]);
    command
}

/// What our guest's kernel was told, with its serial line left to the shell, and memory in which the tools lie.
fn parameters(ours: &str) -> String {
    let ours = ours.split_whitespace().filter(|word| !word.starts_with("loglevel=") && !word.starts_with("console="));
    ours.chain(["loglevel=0", "console=ttynull"]).collect::<Vec<_>>().join(" ")
}
