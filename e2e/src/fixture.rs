//! Images for tests, made of what Debian's packages put on this machine.

use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write;
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
];

/// Writes a `docker-archive:` of busybox and returns its path.
pub fn busybox_archive(dir: &Path) -> PathBuf {
    let layer = busybox_layer();
    let config = config(&layer);
    let manifest = serde_json::json!([{ "Config": "config.json", "RepoTags": [BUSYBOX], "Layers": ["layer.tar"] }]);
    let path = dir.join("busybox.tar");
    let mut archive = tar::Builder::new(fs::File::create(&path).expect("create the archive"));
    for (name, bytes) in
        [("config.json", config.as_bytes()), ("layer.tar", &layer), ("manifest.json", manifest.to_string().as_bytes())]
    {
        append(&mut archive, name, 0o644, bytes);
    }
    archive.into_inner().and_then(|mut file| file.flush()).expect("write the archive");
    path
}

/// Writes an `oci:` layout of busybox with one tag, `test`, and returns its directory.
pub fn busybox_layout(dir: &Path) -> PathBuf {
    let root = dir.join("busybox-oci");
    let blobs = root.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("create the layout");
    let layer = busybox_layer();
    let config = config(&layer);
    let blob = |media: &str, bytes: &[u8]| {
        let hex = hex(bytes);
        fs::write(blobs.join(&hex), bytes).expect("write a blob");
        serde_json::json!({ "mediaType": media, "digest": format!("sha256:{hex}"), "size": bytes.len() })
    };
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("application/vnd.oci.image.config.v1+json", config.as_bytes()),
        "layers": [blob("application/vnd.oci.image.layer.v1.tar", &layer)],
    });
    let mut manifest = blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
    manifest["annotations"] = serde_json::json!({ "org.opencontainers.image.ref.name": "test" });
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(root.join("index.json"), index.to_string()).expect("write the index");
    fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("write the layout's mark");
    root
}

fn busybox_layer() -> Vec<u8> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| fs::read(path).ok());
    let busybox = busybox.expect("busybox-static is installed by `make test`");
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

fn config(layer: &[u8]) -> String {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    serde_json::json!({
        "architecture": architecture,
        "os": "linux",
        "config": { "Cmd": ["sh"], "Env": ["PATH=/bin", "FROM_IMAGE=yes"], "ExposedPorts": { "80/tcp": {} } },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex(layer))] },
        "history": [],
    })
    .to_string()
}

fn header(mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(1_700_000_000);
    header
}

fn append<W: Write>(archive: &mut tar::Builder<W>, name: &str, mode: u32, bytes: &[u8]) {
    archive.append_data(&mut header(mode, bytes.len() as u64), name, bytes).expect("write an entry");
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
