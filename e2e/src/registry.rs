//! A registry on this machine's loopback: Debian's `docker-registry`, filled by skopeo.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The user whom a registry with a password knows.
pub const USER: &str = "alice";
/// That user's password.
pub const PASSWORD: &str = "open:sesame";

/// A running registry; it ends when it is dropped.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    dir: PathBuf,
    address: String,
    access: Access,
}

/// Who may use a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Open,
    /// Only [`USER`] with [`PASSWORD`].
    Password,
}

impl Registry {
    /// Starts a registry that keeps its images in a directory, and waits until it listens.
    pub fn start(dir: &Path, access: Access) -> Self {
        let dir = dir.join("registry");
        fs::create_dir_all(&dir).expect("make the registry's directory");
        let storage = dir.join("blobs");
        let mut config = format!(
            "version: 0.1\nlog: {{level: info}}\nhttp: {{addr: '127.0.0.1:0'}}\nstorage: {{filesystem: {{rootdirectory: '{}'}}}}\n",
            storage.display()
        );
        if access == Access::Password {
            let file = dir.join("htpasswd");
            let line = output(Command::new("htpasswd").args(["-Bbn", USER, PASSWORD]));
            fs::write(&file, line).expect("write the passwords");
            config += &format!("auth: {{htpasswd: {{realm: test, path: '{}'}}}}\n", file.display());
        }
        fs::write(dir.join("config.yml"), config).expect("write the registry's configuration");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(dir.join("config.yml")).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("start docker-registry");
        let mut said = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let address = listening(&mut said).expect("docker-registry says where it listens");
        // It must not stall on a full pipe.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self { child, dir, address, access }
    }

    /// Where it listens: `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Puts the image of a `docker-archive:` into the registry, as `NAME:TAG`, and returns its manifest's digest.
    pub fn push(&self, archive: &Path, name: &str) -> String {
        let digest = self.dir.join("digest");
        let mut command = skopeo();
        command.args(["copy", "--quiet", "--dest-tls-verify=false"]).arg("--digestfile").arg(&digest);
        if self.access == Access::Password {
            command.arg(format!("--dest-creds={USER}:{PASSWORD}"));
        }
        command.arg(format!("docker-archive:{}", archive.display()));
        output(command.arg(format!("docker://{}/{name}", self.address)));
        fs::read_to_string(digest).expect("skopeo writes the digest")
    }

    /// Writes credentials as `podman login` does, and returns the file's path.
    pub fn log_in(&self) -> PathBuf {
        let file = self.dir.join("auth.json");
        let mut command = skopeo();
        command.args(["login", "--tls-verify=false", "--username", USER, "--password", PASSWORD]);
        output(command.arg("--authfile").arg(&file).arg(&self.address));
        file
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Copies an image from one of skopeo's places to another.
pub fn copy_image(from: &str, to: &str) {
    output(skopeo().args(["copy", "--quiet", from, to]));
}

fn skopeo() -> Command {
    let mut command = Command::new("skopeo");
    // A user's rules for signatures have no say in tests.
    command.arg("--insecure-policy").env_remove("REGISTRY_AUTH_FILE");
    command
}

fn listening(said: &mut BufReader<impl Read>) -> Option<String> {
    const MARK: &str = "listening on ";
    let lines = said.lines().map_while(Result::ok);
    let mut places = lines.filter_map(|line| {
        let (_, place) = line.split_once(MARK)?;
        Some(place.chars().take_while(|letter| letter.is_ascii_digit() || ".:".contains(*letter)).collect())
    });
    places.next()
}

fn output(command: &mut Command) -> Vec<u8> {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
