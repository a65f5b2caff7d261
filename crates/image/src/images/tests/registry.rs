use super::fixture::{Place, Sample, layer, noise, options};
use super::server::{Mood, Server};
use crate::{
    Credentials, Digest, Error, Image, Phase, Progress, PullOptions, PullPolicy, Silent, Tls, Update, disk_reader,
};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Debian's registry on a free port of this machine, ended with the test.
struct DockerRegistry {
    child: Child,
    host: String,
}

impl DockerRegistry {
    /// Starts it with or without a password; nothing if it is not installed.
    fn start(place: &Path, user: Option<&str>) -> Option<Self> {
        let mut config = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n",
            place.join("registry").display()
        );
        if let Some(user) = user {
            let file = place.join("htpasswd");
            let output = Command::new("htpasswd").args(["-Bbn", user, "secret"]).output().ok().or_else(skipped)?;
            fs::write(&file, output.stdout).unwrap();
            config += &format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", file.display());
        }
        fs::write(place.join("config.yml"), config).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(place.join("config.yml")).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().ok().or_else(skipped)?;
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.find(|line| line.as_ref().unwrap().contains("listening on")).unwrap().unwrap();
        let host = line.split("listening on ").nth(1).unwrap().split(['"', ' ', ',']).next().unwrap().to_owned();
        // Nobody reads on; the registry must not wait for that.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { child, host })
    }

    fn push(&self, place: &Place, sample: &Sample, name: &str, user: Option<&str>) -> Option<String> {
        let dir = place.path("push");
        sample.write_layout(&dir, "x");
        let reference = format!("{}/{name}", self.host);
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]);
        command.args(user.map(|user| format!("--dest-creds={user}:secret")));
        command.args([format!("oci:{}:x", dir.display()), format!("docker://{reference}")]);
        let output = command.output().ok().or_else(skipped)?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(reference)
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn skipped<T>() -> Option<T> {
    eprintln!("SKIPPED: docker-registry, skopeo or htpasswd (apache2-utils) is not installed");
    None
}

/// An image with a layer that takes many reads.
fn large() -> Sample {
    Sample::new(vec![layer(&[("big", &noise(300_000))]), layer(&[("small", b"x")])])
}

fn pull(place: &Place, server: &Server) -> Result<Image, Error> {
    place.images.ensure(&format!("{}/a/b:1", server.host), &options(), &Silent)
}

#[test]
fn a_real_registry_gives_images_by_tag_and_by_digest() {
    let place = Place::new();
    let Some(registry) = DockerRegistry::start(place.dir.path(), None) else { return };
    let sample = Sample::small();
    let Some(reference) = registry.push(&place, &sample, "team/app:v1", None) else { return };
    let image = place.images.ensure(&reference, &options(), &Silent).unwrap();
    assert_eq!((image.digest.clone(), image.names.clone()), (sample.id(), vec![reference]));
    assert_eq!(disk_reader::read(&image.disk).len(), 5);
    let by_digest = format!("{}/team/app@{}", registry.host, sample.manifest_digest());
    // The tag's pull answers for the digest; after its removal the registry does.
    for _ in 0..2 {
        assert_eq!(place.images.ensure(&by_digest, &options(), &Silent).unwrap().digest, sample.id());
        place.images.store().remove(&sample.id()).unwrap();
    }
    let absent = format!("{}/team/app:v2", registry.host);
    let error = place.images.ensure(&absent, &options(), &Silent).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    place.assert_clean();
}

#[test]
fn a_registry_with_a_password_wants_it() {
    let place = Place::new();
    let Some(registry) = DockerRegistry::start(place.dir.path(), Some("me")) else { return };
    let sample = Sample::small();
    let Some(reference) = registry.push(&place, &sample, "app", Some("me")) else { return };
    let error = place.images.ensure(&reference, &options(), &Silent).unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
    let wrong = Credentials { user: "me".into(), password: "wrong".into() };
    let error = place.images.ensure(&reference, &PullOptions { credentials: Some(wrong), ..options() }, &Silent);
    assert!(matches!(error, Err(Error::Unauthorized { .. })));
    let path = place.path("auth.json");
    let auth = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, "me:secret");
    fs::write(&path, serde_json::json!({ "auths": { &registry.host: { "auth": auth } } }).to_string()).unwrap();
    let mut with_file = options();
    with_file.registries.auth_files = vec![path];
    assert_eq!(place.images.ensure(&reference, &with_file, &Silent).unwrap().digest, sample.id());
}

#[test]
fn a_token_is_fetched_where_the_registry_wants_one() {
    let (place, sample) = (Place::new(), Sample::small());
    let server = Server::new(&sample, Mood::Token);
    assert!(matches!(pull(&place, &server), Err(Error::Unauthorized { .. })));
    let credentials = Some(Credentials { user: "user".into(), password: "password".into() });
    let with_password = PullOptions { credentials, ..options() };
    let image = place.images.ensure(&format!("{}/a/b:1", server.host), &with_password, &Silent).unwrap();
    assert_eq!(image.digest, sample.id());
    let asked = "/token?scope=repository%3Aa%2Fb%3Apull&service=s None".to_owned();
    assert!(server.requests.lock().unwrap().contains(&asked), "{:?}", server.requests.lock().unwrap());
}

#[test]
fn a_download_that_breaks_is_resumed_by_range() {
    let (place, sample) = (Place::new(), large());
    let server = Server::new(&sample, Mood::BreakAfter(100_000));
    let image = pull(&place, &server).unwrap();
    assert_eq!(disk_reader::read(&image.disk)["/big"].data, noise(300_000));
    let requests = server.layer_requests();
    let digest = Digest::of(&sample.layers[0]);
    for range in ["None", "Some(100000)", "Some(200000)", "Some(300000)"] {
        assert!(requests.contains(&format!("/v2/a/b/blobs/{digest} {range}")), "{range}: {requests:?}");
    }
    place.assert_clean();
}

#[test]
fn what_an_earlier_pull_left_is_gone_on_with() {
    let (place, sample) = (Place::new(), large());
    let digest = Digest::of(&sample.layers[0]);
    fs::write(place.path("images/partial").join(digest.hex()), &sample.layers[0][..250_000]).unwrap();
    let server = Server::new(&sample, Mood::Good);
    pull(&place, &server).unwrap();
    assert!(server.layer_requests().contains(&format!("/v2/a/b/blobs/{digest} Some(250000)")));
}

#[test]
fn a_wrong_beginning_is_found_out_and_fetched_anew() {
    let (place, sample) = (Place::new(), large());
    let path = place.path("images/partial").join(Digest::of(&sample.layers[0]).hex());
    fs::write(&path, vec![7; sample.layers[0].len()]).unwrap();
    let server = Server::new(&sample, Mood::Good);
    assert_eq!(pull(&place, &server).unwrap().digest, sample.id());
    fs::write(path, vec![7; sample.layers[0].len() + 1]).unwrap();
    place.images.store().remove(&sample.id()).unwrap();
    assert_eq!(pull(&place, &server).unwrap().digest, sample.id());
}

#[test]
fn a_registry_without_ranges_is_asked_for_the_whole_again() {
    let (place, sample) = (Place::new(), Sample::new(vec![layer(&[("big", &noise(300_000))])]));
    let server = Server::new(&sample, Mood::WithoutRanges(100_000));
    assert_eq!(pull(&place, &server).unwrap().digest, sample.id());
}

#[test]
fn wrong_bytes_and_too_many_are_refused_and_leave_no_image() {
    for mood in [Mood::Corrupt, Mood::TooLong] {
        let (place, sample) = (Place::new(), large());
        let server = Server::new(&sample, mood);
        let error = pull(&place, &server).unwrap_err();
        assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
        assert_eq!(place.images.store().list().unwrap(), []);
        assert_eq!(place.listing("new"), Vec::<String>::new());
    }
}

#[test]
fn a_manifest_that_is_not_the_wanted_one_is_refused() {
    let (place, sample) = (Place::new(), Sample::small());
    let server = Server::new(&sample, Mood::Good);
    let other = Digest::of(b"other");
    let error = place.images.ensure(&format!("{}/a@{other}", server.host), &options(), &Silent).unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
}

#[test]
fn a_mirror_is_asked_first_and_the_registry_where_it_fails() {
    let (place, sample) = (Place::new(), Sample::small());
    let server = Server::new(&sample, Mood::Good);
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let path = place.path("registries.conf");
    let text = format!(
        "[[registry]]\nprefix = 'example.com'\nlocation = '{gone}/dead'\n[[registry.mirror]]\nlocation = '{}/mirrored'\n",
        server.host
    );
    fs::write(&path, text).unwrap();
    let mut configured = options();
    configured.registries.registries_conf = vec![path.clone()];
    let image = place.images.ensure("example.com/a", &configured, &Silent).unwrap();
    assert_eq!(image.names, ["example.com/a:latest"]);
    assert!(server.layer_requests().iter().all(|request| request.starts_with("/v2/mirrored/a/")));
    let text = format!(
        "[[registry]]\nprefix = 'example.com'\nlocation = '{}/x'\n[[registry.mirror]]\nlocation = '{gone}'\n",
        server.host
    );
    fs::write(&path, text).unwrap();
    assert_eq!(place.images.ensure("example.com/b", &configured, &Silent).unwrap().digest, sample.id());
}

#[test]
fn policies_decide_when_the_registry_is_asked() {
    let (place, sample) = (Place::new(), Sample::small());
    let server = Server::new(&sample, Mood::Good);
    let reference = format!("{}/a", server.host);
    let ensure = |policy| place.images.ensure(&reference, &PullOptions { policy, ..options() }, &Silent);
    let asked = || server.requests.lock().unwrap().len();
    assert!(matches!(ensure(PullPolicy::Never), Err(Error::NotFound { .. })));
    assert_eq!(asked(), 0);
    ensure(PullPolicy::Missing).unwrap();
    let first = asked();
    ensure(PullPolicy::Missing).unwrap();
    ensure(PullPolicy::Never).unwrap();
    assert_eq!(asked(), first);
    ensure(PullPolicy::Always).unwrap();
    assert_eq!(asked(), first + 2, "the manifest and the configuration only");
    drop(server);
    assert!(matches!(ensure(PullPolicy::Always), Err(Error::Registry { .. })));
    assert_eq!(ensure(PullPolicy::Newer).unwrap().digest, sample.id());
}

#[test]
fn plain_http_is_for_loopback_and_where_it_is_allowed() {
    let (place, sample) = (Place::new(), Sample::small());
    let server = Server::new(&sample, Mood::Good);
    let strict = PullOptions { tls: Tls::Verify, ..options() };
    let error = place.images.ensure(&format!("{}/a", server.host), &strict, &Silent).unwrap_err();
    assert!(matches!(error, Error::Registry { .. }), "{error}");
    assert_eq!(*server.requests.lock().unwrap(), Vec::<String>::new());
}

#[test]
fn progress_ends_with_everything_done() {
    #[derive(Default)]
    struct Heard(std::sync::Mutex<Vec<(Phase, String, u64, u64)>>);
    impl Progress for Heard {
        fn update(&self, update: &Update<'_>) {
            assert!(update.done <= update.total, "{update:?}");
            self.0.lock().unwrap().push((update.phase, update.item.to_owned(), update.done, update.total));
        }
    }
    let (place, sample) = (Place::new(), large());
    let server = Server::new(&sample, Mood::Good);
    let heard = Heard::default();
    place.images.ensure(&format!("{}/a", server.host), &options(), &heard).unwrap();
    let heard = heard.0.into_inner().unwrap();
    for layer in &sample.layers {
        let (item, size) = (Digest::of(layer).to_string(), layer.len() as u64);
        for phase in [Phase::Download, Phase::Merge] {
            assert!(heard.contains(&(phase, item.clone(), size, size)), "{phase:?} {item}");
        }
    }
}

/// A small file system of its own for a data directory, gone with its child.
struct SmallDisk {
    child: Child,
    root: std::path::PathBuf,
}

impl SmallDisk {
    fn mount(point: &Path) -> Option<Self> {
        let script = r#"mount -t tmpfs -o size=200k tmpfs "$1" && echo done || exit
            while read line; do mount -o remount,"$line" "$1" && echo done; done"#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(point).stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.stderr(Stdio::null()).spawn().ok()?;
        let root = format!("/proc/{}/root{}", child.id(), point.display()).into();
        let mut this = Self { child, root };
        if !this.is_done() {
            eprintln!("SKIPPED: this host does not let us mount");
            return None;
        }
        Some(this)
    }

    fn is_done(&mut self) -> bool {
        let mut said = [0; 5];
        std::io::Read::read_exact(self.child.stdout.as_mut().unwrap(), &mut said).is_ok_and(|()| &said == b"done\n")
    }

    fn remount(&mut self, option: &str) {
        use std::io::Write;
        writeln!(self.child.stdin.as_mut().unwrap(), "{option}").unwrap();
        assert!(self.is_done());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let (place, sample) = (Place::new(), large());
    let Some(disk) = SmallDisk::mount(&place.path("images")) else { return };
    let images = crate::Images::open(&disk.root).unwrap();
    let server = Server::new(&sample, Mood::Good);
    let error = images.ensure(&format!("{}/a", server.host), &options(), &Silent).unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    for dir in ["new", "partial", "locks"] {
        assert_eq!(fs::read_dir(disk.root.join(dir)).unwrap().count(), 0, "{dir}");
    }
    assert!(!disk.root.join("names.json").exists());
}

#[test]
fn a_read_only_store_gives_what_it_has_and_says_why_it_takes_nothing() {
    let (place, sample) = (Place::new(), Sample::small());
    let Some(mut disk) = SmallDisk::mount(&place.path("images")) else { return };
    let server = Server::new(&sample, Mood::Good);
    let reference = format!("{}/a", server.host);
    crate::Images::open(&disk.root).unwrap().ensure(&reference, &options(), &Silent).unwrap();
    disk.remount("ro");
    let images = crate::Images::open(&disk.root).unwrap();
    let image = images.ensure(&reference, &options(), &Silent).unwrap();
    images.hold(&image).unwrap();
    let other = Server::new(&large(), Mood::Good);
    let error = images.ensure(&format!("{}/b", other.host), &options(), &Silent).unwrap_err();
    assert!(matches!(error, Error::ReadOnly { .. }), "{error}");
    assert!(matches!(images.store().remove(&reference), Err(Error::ReadOnly { .. })));
}
