//! Images that are saved here and loaded there, and the other way.

use fcvm_e2e::podman::{FLAGS, Podman};
use fcvm_e2e::{BUSYBOX, Host, Started};
use serde_json::Value;

/// What is said of an image that runs the same everywhere.
const FIELDS: [&str; 8] = ["Cmd", "Entrypoint", "Env", "ExposedPorts", "Labels", "StopSignal", "User", "Volumes"];

pub(super) fn compare(podman: &Podman) {
    let host = Host::new();
    let path = |name: &str| host.path().join(name).to_str().unwrap().to_owned();
    // An image with all that can be said of one, and a file of its own.
    host.fcvm(["create", "--name", "box", BUSYBOX]).ok();
    std::fs::write(path("made"), "made here\n").unwrap();
    host.fcvm(["cp", &path("made"), "box:/www/made"]).ok();
    let changes = [
        "CMD [\"cat\",\"/www/made\"]",
        "ENV GIVEN=\"by us\"",
        "USER alice",
        "WORKDIR /tmp",
        "LABEL tier=front",
        "EXPOSE 8080",
        "VOLUME /cache",
        "STOPSIGNAL SIGINT",
    ];
    let changes = changes.iter().flat_map(|change| ["-c", change]);
    let commit = ["commit", "-q", "-f", "docker"].into_iter().chain(changes).chain(["box", "localhost/said:1"]);
    host.fcvm(commit).ok();
    let inspect = ["inspect", "--type", "image", "localhost/said:1"];
    let ours = said(&host.fcvm(inspect).ok().stdout);
    for (format, name) in [("docker-archive", "one.tar"), ("oci-archive", "two.tar"), ("oci-dir", "three")] {
        host.fcvm(["save", "--format", format, "-o", &path(name), "said:1"]).ok();
        // Podman calls what it loads of a directory by that, as it was typed, which a temporary path would not do for.
        let mut load = podman.command(["load", "-q", "-i", name]);
        load.current_dir(host.path());
        Started::new(load, Vec::new()).finish().ok();
        if format == "oci-dir" {
            podman.podman(["tag", "localhost/three", "localhost/said:1"], Vec::new()).ok();
        }
        assert_eq!(
            said(&podman.podman(["inspect", "--type", "image", "localhost/said:1"], Vec::new()).ok().stdout),
            ours
        );
        let run = [&["run", "--rm"], &FLAGS[..], &["localhost/said:1"]].concat();
        assert_eq!(podman.podman(run, Vec::new()).ok().text(), "made here", "{format}");
        let save = ["save", "-q", "--format", format, "-o", &path(&format!("podmans-{name}")), "localhost/said:1"];
        podman.podman(save, Vec::new()).ok();
        podman.podman(["rmi", "-f", "localhost/said:1"], Vec::new()).ok();
    }
    host.fcvm(["rm", "box"]).ok();
    // What podman saves is the same here.
    for name in ["one.tar", "two.tar", "three"] {
        host.fcvm(["rmi", "said:1"]).ok();
        let loaded = host.fcvm(["load", "-i", &path(&format!("podmans-{name}"))]).ok().text();
        assert_eq!(loaded, "Loaded image: localhost/said:1");
        assert_eq!(said(&host.fcvm(inspect).ok().stdout), ours, "{name}");
    }
    assert_eq!(host.fcvm(["run", "--rm", "said:1"]).ok().text(), "made here");
    host.assert_clean();
}

/// The fields of an image's configuration.
fn said(inspected: &[u8]) -> Vec<(&'static str, Value)> {
    let image: Value = serde_json::from_slice(inspected).unwrap();
    FIELDS.map(|field| (field, image[0]["Config"][field].clone())).into()
}
