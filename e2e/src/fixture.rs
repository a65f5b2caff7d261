//! A small image for tests, made of the busybox that Debian's packages put on this machine. A whole Debian is in `debian`.

mod archive;
mod debian;
mod inotifyd;

pub(crate) use archive::hex;
pub use debian::DEBIAN;
pub(crate) use debian::debian_archive;
pub use inotifyd::inotifyd;

use archive::{append, header};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

/// The reference by which tests run the busybox image once it is loaded.
pub const BUSYBOX: &str = "localhost/busybox:test";

const APPLETS: &[&str] = &[
    "sh",
    "cat",
    "ls",
    "echo",
    "true",
    "false",
    "sleep",
    "env",
    "id",
    "pwd",
    "hostname",
    "uname",
    "head",
    "tail",
    "wc",
    "sha256sum",
    "dd",
    "yes",
    "kill",
    "ping",
    "ps",
    "mount",
    "df",
    "touch",
    "rm",
    "mkdir",
    "stat",
    "nc",
    "httpd",
    "seq",
    "tr",
    "grep",
    "test",
    "ip",
    "nproc",
    "free",
    "date",
    "od",
    "sort",
    "trap",
    "timeout",
    "nslookup",
    "vi",
    "whoami",
    "readlink",
    "tftp",
    "stty",
    "tty",
    "less",
    "clear",
    "tar",
    "printf",
];

/// Writes a `docker-archive:` of busybox and returns its path.
pub fn busybox_archive(dir: &Path) -> PathBuf {
    edition_archive(dir, "test")
}

/// Writes a `docker-archive:` of busybox whose variable `EDITION` tells it from others, and returns its path.
pub fn edition_archive(dir: &Path, edition: &str) -> PathBuf {
    let config = json!({
        "Cmd": ["sh"],
        "Env": ["PATH=/bin", "FROM_IMAGE=yes", format!("EDITION={edition}")],
        "ExposedPorts": { "80/tcp": {} },
    });
    archive::write(&dir.join(format!("busybox-{edition}.tar")), BUSYBOX, &config, &[busybox_layer()])
}

/// The reference of an image with volumes of its own.
pub const VOLUMES: &str = "localhost/volumes:test";

/// Writes a `docker-archive:` of busybox with the volumes `/www`, in which there is a page, and `/cache`, and returns its path.
pub fn volumes_archive(dir: &Path) -> PathBuf {
    let config = json!({ "Cmd": ["sh"], "Env": ["PATH=/bin"], "Volumes": { "/www": {}, "/cache": {} } });
    archive::write(&dir.join("volumes.tar"), VOLUMES, &config, &[busybox_layer()])
}

/// Writes a `docker-archive:` of an image for machines that are not this one, and returns its path.
pub fn foreign_archive(dir: &Path) -> PathBuf {
    archive::write_for("s390x", &dir.join("foreign.tar"), "localhost/foreign:test", &json!({}), &[busybox_layer()])
}

/// Writes a `docker-archive:` whose only layer has files of these names, whatever is in them, and returns its path.
pub fn hostile_archive(dir: &Path, names: &[&str]) -> PathBuf {
    let mut layer = tar::Builder::new(Vec::new());
    for name in names {
        // The name is written by hand: an honest library refuses what is wanted here.
        let mut header = header(0o644, 0);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        layer.append(&header, std::io::empty()).expect("write to memory");
    }
    let layer = layer.into_inner().expect("write to memory");
    archive::write(&dir.join("hostile.tar"), "localhost/hostile:test", &json!({}), &[layer])
}

fn busybox() -> Vec<u8> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| fs::read(path).ok());
    busybox.expect("busybox-static is installed by `make test`")
}

fn busybox_layer() -> Vec<u8> {
    let busybox = busybox();
    let mut layer = tar::Builder::new(Vec::new());
    for dir in ["bin", "etc", "root", "tmp", "var", "www", "home"] {
        let mut header = header(if dir == "tmp" { 0o1777 } else { 0o755 }, 0);
        header.set_entry_type(tar::EntryType::Directory);
        layer.append_data(&mut header, format!("{dir}/"), std::io::empty()).expect("write to memory");
    }
    append(&mut layer, "bin/busybox", 0o755, &busybox);
    for applet in APPLETS {
        let mut header = header(0o777, 0);
        header.set_entry_type(tar::EntryType::Symlink);
        layer.append_link(&mut header, format!("bin/{applet}"), "busybox").expect("write to memory");
    }
    append(&mut layer, "etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home:/bin/sh\n");
    append(&mut layer, "etc/group", 0o644, b"root:x:0:\nalice:x:1000:\nstaff:x:50:alice\n");
    append(&mut layer, "etc/noexec", 0o644, b"not a program\n");
    append(&mut layer, "www/index.html", 0o644, b"hello from a microVM\n");
    layer.into_inner().expect("write to memory")
}
