//! Stories of images: whence they come, what of them arrives, and what becomes of them.

use fcvm_e2e::{
    Access, BUSYBOX, Host, PASSWORD, Registry, Started, USER, busybox_archive, copy_image, edition_archive,
};
use std::fs;
use std::path::Path;

/// The read-only disk of an image.
fn disk(host: &Host, image: &str) -> Vec<u8> {
    fs::read(host.fcvm(["inspect", "--format", "{{.Disk}}", image]).ok().text()).expect("read the disk")
}

/// Runs an image with these flags and says which edition it is.
fn edition(host: &Host, flags: &[&str], image: &str) -> String {
    let flags = ["run", "--rm", "-q"].iter().chain(flags);
    host.fcvm(flags.chain(&[image, "sh", "-c", "echo $EDITION"])).ok().text()
}

/// What is in the directory of images besides images: nothing, unless something was left.
fn left_overs(host: &Host) -> Vec<String> {
    let names = |dir: &str| fs::read_dir(host.data().join("images").join(dir)).expect("list the images").flatten();
    let text = |entry: fs::DirEntry| entry.path().display().to_string();
    ["new", "locks", "partial"].into_iter().flat_map(names).map(text).collect()
}

#[test]
fn an_image_is_the_same_from_every_place_on_this_machine() {
    let host = Host::empty();
    let archive = busybox_archive(host.path());
    let docker = format!("docker-archive:{}", archive.display());
    let place = |kind: &str, rest: &str| format!("{kind}:{}/{kind}{rest}", host.path().display());
    let layout = place("oci", ":test");
    for copy in [&layout, &place("oci-archive", ":test"), &place("dir", "")] {
        copy_image(&docker, copy);
    }
    let page = |image: &str| host.fcvm(["run", "--rm", image, "cat", "/www/index.html"]).ok().text();
    assert_eq!(page(&docker), "hello from a microVM");
    let of_docker = disk(&host, BUSYBOX);
    host.fcvm(["rmi", "-a"]).ok();
    assert_eq!(page(&layout), "hello from a microVM");
    let of_oci = disk(&host, &host.fcvm(["images", "-q"]).ok().text());
    // One kind of configuration, one image: the same bytes again, whatever they came in.
    for (place, same) in [(place("oci-archive", ":test"), of_oci), (place("dir", ""), of_docker)] {
        host.fcvm(["rmi", "-a"]).ok();
        let id = host.fcvm(["pull", "-q", &place]).ok().text();
        assert!(disk(&host, &id) == same, "{place}");
    }
    host.fcvm(["rmi", "-a"]).ok();
    assert_eq!((host.fcvm(["images", "-q"]).ok().text(), left_overs(&host)), (String::new(), vec![]));
    host.assert_clean();
}

#[test]
fn a_registry_gives_images_by_tag_and_by_digest() {
    let host = Host::empty();
    let registry = Registry::start(host.path(), Access::Open);
    let name = format!("{}/team/busybox", registry.address());
    let one = registry.push(&edition_archive(host.path(), "one"), "team/busybox:1");
    registry.push(&edition_archive(host.path(), "two"), "team/busybox:latest");
    assert_eq!(edition(&host, &[], &name), "two");
    assert_eq!(edition(&host, &[], &format!("{name}@{one}")), "one");
    let known = host.fcvm(["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok().text();
    assert!(known.lines().any(|line| line == format!("{name}:latest")), "{known}");
    let absent = format!("{name}@sha256:{}", "0".repeat(64));
    host.fcvm(["run", "--rm", &absent, "true"]).failed(125, "not known");
    host.fcvm(["pull", "-q", &format!("{name}:3")]).failed(125, "not known");
    assert_eq!(left_overs(&host), Vec::<String>::new());
    host.assert_clean();
}

#[test]
fn the_pull_policy_says_whether_the_registry_is_asked() {
    let host = Host::empty();
    let registry = Registry::start(host.path(), Access::Open);
    let name = format!("{}/busybox:test", registry.address());
    let push = |edition: &str| registry.push(&edition_archive(host.path(), edition), "busybox:test");
    push("one");
    host.fcvm(["run", "--rm", "--pull=never", &name, "true"]).failed(125, "--pull is never");
    assert_eq!(edition(&host, &["--pull=missing"], &name), "one");
    push("two");
    assert_eq!(edition(&host, &["--pull=missing"], &name), "one");
    assert_eq!(edition(&host, &["--pull=always"], &name), "two");
    push("three");
    assert_eq!(edition(&host, &["--pull=newer"], &name), "three");
    drop(registry);
    host.fcvm(["run", "--rm", "--pull=always", &name, "true"]).failed(125, "fetch the manifest");
    assert_eq!(edition(&host, &["--pull=newer"], &name), "three");
    host.assert_clean();
}

#[test]
fn a_registry_with_a_password_wants_the_right_one() {
    let host = Host::empty();
    let registry = Registry::start(host.path(), Access::Password);
    registry.push(&edition_archive(host.path(), "secret"), "busybox:test");
    let name = format!("{}/busybox:test", registry.address());
    let run = |auth_file: &Path| {
        let mut command = host.command(["run", "--rm", "-q", &name, "sh", "-c", "echo $EDITION"]);
        command.env("REGISTRY_AUTH_FILE", auth_file);
        Started::new(command, Vec::new()).finish()
    };
    run(&host.path().join("none.json")).failed(125, "denied access");
    host.fcvm(["pull", "-q", "--creds", "alice:wrong", &name]).failed(125, "denied access");
    assert_eq!(run(&registry.log_in()).ok().text(), "secret");
    host.fcvm(["rmi", &name]).ok();
    let auth_file = registry.log_in();
    let auth_file = ["--authfile", auth_file.to_str().unwrap()];
    host.fcvm([&["create", "--name", "box", "--tls-verify=true"], &auth_file[..], &[&name]].concat()).failed(125, "");
    host.fcvm(["create", "--name", "box", "--authfile", "/no/such/file", &name]).failed(125, "read --authfile");
    host.fcvm(["create", "--platform", "linux/s390x", &name]).failed(125, "a VM has its host's processor");
    let platform = format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" });
    host.fcvm([&["create", "--name", "box", "-q", "--platform", &platform], &auth_file[..], &[&name]].concat()).ok();
    host.fcvm(["rm", "box"]).ok();
    host.fcvm(["rmi", &name]).ok();
    host.fcvm(["pull", "-q", "--creds", &format!("{USER}:{PASSWORD}"), &name]).ok();
    host.assert_clean();
}
