//! What `doctor` looks at, one function each. Nothing here prints or changes the host, but for the sweep of `--fix`.

use super::Finding;
use fcvm_artifacts::{Artifacts, System};
use fcvm_engine::Settings;
use fcvm_store::{Store, Swept};
use fcvm_sys::jail::Isolation;
use fcvm_sys::kvm::Acceleration;
use fcvm_vmm::{Entrance, Probe};
use std::fs;
use std::path::{Path, PathBuf};

/// The jail's `mount_setattr` is of 5.12; the others that are used (pidfds that do not block, `close_range` that marks)
/// are older.
const LEAST_KERNEL: (u32, u32) = (5, 12);

/// What a VM's writes and a few images may take before anyone should think of it.
const LITTLE_SPACE: u64 = 1 << 30;

/// This host's kernel, by its release.
pub(super) fn kernel(release: &str) -> Finding {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|text| text.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= LEAST_KERNEL {
        return Finding::ok("kernel", format!("Linux {release}"));
    }
    let (major, minor) = LEAST_KERNEL;
    let detail = format!("Linux {release}; the monitor's jail needs {major}.{minor}");
    Finding::missing("kernel", detail, "a newer kernel: Debian 12 has one")
}

/// The programs that are used.
pub(super) fn programs(search_path: &[PathBuf]) -> Vec<Finding> {
    let finding = |wanted: fcvm_artifacts::Requirement| match wanted.found {
        Some(path) => Finding::ok(wanted.program, path.display().to_string()),
        None => {
            let detail = format!("not found; {} needs it", wanted.needed_for);
            Finding::missing(wanted.program, detail, as_root(&format!("apt-get install {}", wanted.package)))
        }
    };
    fcvm_artifacts::requirements(search_path).into_iter().map(finding).collect()
}

/// The guest's agent.
pub(super) fn agent(path: &Path) -> Finding {
    if path.is_file() {
        return Finding::ok("agent", path.display().to_string());
    }
    Finding::missing("agent", format!("{} is not there", path.display()), "make build, or FCVM_AGENT_BIN=FILE")
}

/// The data directory, what was set up in it, and what killed VMs left in it.
pub(super) fn data(settings: &Settings, fix: bool) -> Vec<Finding> {
    let dir = &settings.data_dir;
    let store = match Store::open(dir) {
        Ok(store) => store,
        Err(error) => {
            let mend = "a directory of yours: --data-dir, FCVM_DATA_DIR or data_dir in the settings file";
            return vec![Finding::missing("data directory", crate::error::chain(&error), mend)];
        }
    };
    vec![space(dir), set_up(&store, &settings.agent), left_overs(&store, fix)]
}

fn space(dir: &Path) -> Finding {
    match rustix::fs::statvfs(dir) {
        Ok(stat) if stat.f_bavail.saturating_mul(stat.f_frsize) < LITTLE_SPACE => {
            let free = crate::ui::time::size(stat.f_bavail.saturating_mul(stat.f_frsize));
            Finding::note("data directory", format!("{}, with only {free} free", dir.display()), None)
        }
        _ => Finding::ok("data directory", dir.display().to_string()),
    }
}

fn set_up(store: &Store, agent: &Path) -> Finding {
    let artifacts = Artifacts::open(&store.artifacts_dir());
    let ready = artifacts
        .and_then(|artifacts| artifacts.current(agent, System::Plain).and_then(|_| artifacts.kernel_release()));
    match ready {
        Ok(release) => Finding::ok("set-up", format!("guest kernel {release}")),
        Err(error) => Finding::missing("set-up", crate::error::chain(&error), "fcvm setup"),
    }
}

fn left_overs(store: &Store, fix: bool) -> Finding {
    const WHAT: &str = "left-overs";
    let mend = || Some("fcvm doctor --fix".to_owned());
    if !fix {
        return match store.left_overs() {
            Ok(0) => Finding::ok(WHAT, "none"),
            Ok(left) => Finding::note(WHAT, format!("{left} VMs of killed owners"), mend()),
            Err(error) => Finding::note(WHAT, crate::error::chain(&error), None),
        };
    }
    let name = |swept: &Swept| match swept {
        Swept::Removed(id) => format!("{id} removed"),
        Swept::Retired(id) => format!("{id} marked as ended"),
    };
    match store.sweep() {
        Ok(swept) if swept.is_empty() => Finding::ok(WHAT, "none"),
        Ok(swept) => Finding::ok(WHAT, swept.iter().map(name).collect::<Vec<_>>().join(", ")),
        Err(error) => Finding::note(WHAT, crate::error::chain(&error), None),
    }
}

/// What really stands between guest and host here.
pub(super) fn isolation(host: &Probe) -> Finding {
    judge(&host.acceleration)
}

fn judge(acceleration: &Acceleration) -> Finding {
    const WHAT: &str = "isolation";
    const EMULATION: &str = "software emulation (TCG), a weaker boundary than the processor's, and slower";
    match acceleration {
        Acceleration::Hardware => Finding::ok(WHAT, "hardware virtual machines: KVM runs stock kernels here"),
        Acceleration::Paravirtual { reason } => {
            Finding::note(WHAT, format!("{EMULATION}; there is only a paravirtual KVM: {reason}"), None)
        }
        Acceleration::Unavailable { reason } => {
            Finding::note(WHAT, format!("{EMULATION}; no KVM: {reason}"), may_open_kvm())
        }
    }
}

/// The command that lets this user use a KVM that is there.
fn may_open_kvm() -> Option<String> {
    use rustix::fs::Access;
    let there = rustix::fs::access("/dev/kvm", Access::EXISTS).is_ok();
    let allowed = rustix::fs::access("/dev/kvm", Access::READ_OK | Access::WRITE_OK).is_ok();
    (there && !allowed).then(|| as_root("usermod -aG kvm $USER, then log in again"))
}

/// What stands between the monitor and the host.
pub(super) fn jail(entrance: &Entrance) -> Finding {
    const WHAT: &str = "monitor's jail";
    match fcvm_sys::jail::probe(entrance) {
        Ok(isolation @ Isolation::Full) => Finding::ok(WHAT, isolation.to_string()),
        Ok(isolation) => Finding::note(WHAT, isolation.to_string(), user_namespaces(Path::new("/proc/sys"))),
        Err(error) => Finding::missing(WHAT, crate::error::chain(&error), "FCVM_LOG=debug says more"),
    }
}

/// The command that allows user namespaces, if a setting of the kernel forbids them.
fn user_namespaces(settings: &Path) -> Option<String> {
    let switches = [
        ("user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
        ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"),
    ];
    let forbids =
        |file: &str, value: &str| fs::read_to_string(settings.join(file)).is_ok_and(|text| text.trim() == value);
    let (.., setting) = switches.into_iter().find(|(file, value, _)| forbids(file, value))?;
    Some(as_root(&format!("sysctl -w {setting}")))
}

/// How guests reach the world. There is nothing to be missing: no device and no privilege is needed.
pub(super) fn network() -> Finding {
    let ways = "TCP, UDP and DNS of guests travel over the link and start in the owner's process, as this user; ICMP (ping) does not leave the guest";
    Finding::ok("network", ways)
}

/// A command that root runs.
pub(super) fn as_root(command: &str) -> String {
    if rustix::process::geteuid().is_root() { command.to_owned() } else { format!("sudo {command}") }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn a_host_without_programs_lacks_each_and_is_told_its_package() {
        let findings = programs(&[]);
        assert!(findings.len() >= 3);
        for finding in findings {
            assert_eq!(finding.status, Status::Missing, "{finding:?}");
            assert!(finding.mend.is_some_and(|mend| mend.contains("apt-get install ")));
        }
    }

    #[test]
    fn kernels_are_old_or_new_enough() {
        for (release, status) in [
            ("6.1.0-18-amd64", Status::Ok),
            ("5.12.0", Status::Ok),
            ("5.11.22-rc1", Status::Missing),
            ("4.19", Status::Missing),
            ("nonsense", Status::Missing),
        ] {
            assert_eq!(kernel(release).status, status, "{release}");
        }
    }

    #[test]
    fn a_setting_that_forbids_user_namespaces_is_named_with_its_command() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("kernel")).unwrap();
        assert_eq!(user_namespaces(dir.path()), None);
        fs::write(dir.path().join("kernel/unprivileged_userns_clone"), "0\n").unwrap();
        assert!(user_namespaces(dir.path()).unwrap().ends_with("sysctl -w kernel.unprivileged_userns_clone=1"));
    }

    #[test]
    fn a_verdict_on_isolation_gives_its_reason() {
        assert_eq!(judge(&Acceleration::Hardware).status, Status::Ok);
        let reason = || "it is a test".to_owned();
        for weaker in [Acceleration::Paravirtual { reason: reason() }, Acceleration::Unavailable { reason: reason() }] {
            let finding = judge(&weaker);
            assert_eq!(finding.status, Status::Note);
            assert!(finding.detail.starts_with("software emulation") && finding.detail.contains(&reason()));
        }
    }

    #[test]
    fn a_data_directory_that_cannot_be_is_missing() {
        let settings = Settings {
            data_dir: "/proc/nowhere".into(),
            agent: "/dev/null".into(),
            executable: "/proc/self/exe".into(),
            pager: Vec::new(),
            jail: Vec::new(),
            search_path: Vec::new(),
            firecracker: None,
            registries: Default::default(),
            cache_room: 0,
            faults: Default::default(),
        };
        assert_eq!(data(&settings, false)[0].status, Status::Missing);
    }
}
