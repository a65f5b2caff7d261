//! What is in a guest system: packages, and the few things that no package has.

/// A guest system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum System {
    /// crun and busybox: all that a container needs.
    #[default]
    Plain,
    /// Podman too, for containers that run under it.
    Podman,
}

/// What one is made of. What stands for [`System::Plain`] is in every one.
#[derive(Debug)]
pub(super) struct Contents {
    /// What the guest needs; their dependencies come along.
    pub(super) packages: &'static [&'static str],
    /// Directories with their modes: mount points, and places that programs look at.
    pub(super) directories: &'static [&'static str],
    pub(super) files: &'static [(&'static str, &'static str)],
    pub(super) links: &'static [(&'static str, &'static str)],
}

impl System {
    pub(super) fn contents(self) -> &'static [Contents] {
        match self {
            Self::Plain => &CONTENTS[..1],
            Self::Podman => &CONTENTS,
        }
    }
}

static CONTENTS: [Contents; 2] = [
    Contents {
        packages: &["crun", "busybox-static"],
        directories: &[
            "proc", "sys", "dev", "run", "tmp", "mnt", "root", "var", "var/tmp", "etc", "bin", "sbin", "usr", "usr/bin",
        ],
        files: &[
            ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"),
            ("etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"),
        ],
        links: &[("etc/resolv.conf", "/run/resolv.conf"), ("etc/hosts", "/run/hosts"), ("etc/mtab", "/proc/mounts")],
    },
    Contents {
        packages: &["podman", "netavark", "catatonit", "ca-certificates", "mount"],
        directories: &["var/lib", "var/cache"],
        files: &[
            ("etc/containers/storage.conf", STORAGE_CONF),
            ("etc/containers/containers.conf", CONTAINERS_CONF),
            ("etc/containers/registries.conf", "unqualified-search-registries = [\"docker.io\"]\n"),
        ],
        links: &[
            ("var/lib/containers", "/run/fcvm/scratch/containers"),
            ("var/cache/containers", "/run/fcvm/scratch/containers/cache"),
        ],
    },
];

/// The system is read-only; what Podman keeps goes where the VM's other writes go.
const STORAGE_CONF: &str = r#"[storage]
driver = "overlay"
graphroot = "/run/fcvm/scratch/containers/storage"
runroot = "/run/containers/storage"
"#;

/// There is no systemd, and the network is the guest's: one machine, one container.
const CONTAINERS_CONF: &str = r#"[containers]
netns = "host"
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
[network]
network_backend = "netavark"
network_config_dir = "/run/containers/networks"
"#;

/// Dependencies whose programs nothing in here starts, or that hold nothing but papers.
pub(super) const UNNEEDED: &str = "
    adduser debconf dirmngr dmsetup dpkg gcc-12-base gnupg gnupg-l10n gnupg-utils gpg gpg-agent gpg-wks-client
    gpg-wks-server gpgconf gpgsm gpgv init-system-helpers libdb5.3 libelogind0 libfile-find-rule-perl
    libgdbm-compat4 libgdbm6 libnumber-compare-perl libpam-modules libpam-modules-bin libperl5.36
    libtext-glob-perl lsb-base openssl passwd perl perl-base perl-modules-5.36 pinentry-curses readline-common
    sysvinit-utils tar usrmerge
";

/// Applets of busybox that people use to look around. Its wget crashes when it is static.
pub(super) const APPLETS: &str = "
    ash awk basename cat chmod chown clear cmp cp cut date dd df diff dirname dmesg du echo env expr false find
    free fuser grep head hexdump hostname id ifconfig ip kill killall less ln ls lsmod lsof md5sum mkdir mknod
    mktemp more mount mountpoint mv nc netstat nslookup od pgrep pidof ping pkill printenv printf ps pwd
    readlink realpath rm rmdir route sed seq sh sha256sum sleep sort stat strings stty sync sysctl tail tar tee
    test time timeout top touch tr true umount uname uniq uptime usleep vi watch wc which whoami xargs xxd yes
    zcat
";

/// What nobody reads in a guest.
pub(super) const LEFT_OUT: &[&str] =
    &["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian", "usr/share/bash-completion"];
