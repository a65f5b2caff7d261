//! Stories of what a container has made and what it uses: diff, export, commit, top, stats, and the room that all takes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fcvm_e2e::{BUSYBOX, Finished, Host, Started};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::Command;

fn json(finished: Finished) -> Value {
    serde_json::from_slice(&finished.ok().stdout).unwrap()
}

/// The names in a tar archive.
fn names(archive: &[u8]) -> BTreeSet<String> {
    let mut archive = tar::Archive::new(archive);
    archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
}

#[test]
fn what_a_container_has_made_is_told_and_can_be_taken_along() {
    let host = Host::new();
    let vm = host.start("box", &["-e", "GIVEN=1", "--label", "a=b", BUSYBOX, "sleep", "1000"]);
    assert_eq!(host.fcvm(["diff", "box"]).ok().text(), "");
    let script = "echo new > /var/new; mkdir /made; echo x > /made/x; echo changed > /www/index.html; rm /etc/noexec; \
                  rm -r /home; mkdir /home";
    vm.exec(&["sh", "-c", script]).ok();
    let expected = "C /etc\nD /etc/noexec\nC /home\nA /made\nA /made/x\nC /var\nA /var/new\nC /www\nC /www/index.html";
    // Made anew a directory is another only where it is not as it was.
    let told = |text: String| text.lines().filter(|line| *line != "C /home").collect::<Vec<_>>().join("\n");
    assert_eq!(told(host.fcvm(["diff", "box"]).ok().text()), told(expected.to_owned()));
    let lists = json(host.fcvm(["diff", "--format", "json", "box"]));
    assert_eq!(lists["deleted"], serde_json::json!(["/etc/noexec"]));

    let archive = host.path().join("export.tar");
    host.fcvm(["export", "-o", archive.to_str().unwrap(), "box"]).ok();
    let found = names(&std::fs::read(&archive).unwrap());
    assert!(found.contains("bin/busybox") && found.contains("made/x") && !found.contains("etc/noexec"), "{found:?}");

    let change = ["--change", "CMD [\"cat\",\"/made/x\"]", "--author", "me", "--message", "why"];
    let id = host.fcvm(["commit"].iter().chain(&change).chain(&["box", "made"])).ok().text();
    assert_eq!(host.fcvm(["images", "-q", "--no-trunc", "localhost/made:latest"]).ok().text(), format!("sha256:{id}"));
    assert_eq!(host.fcvm(["run", "--rm", "localhost/made"]).ok().text(), "x");
    let file = host.path().join("made.tar");
    let target = format!("oci-archive:{}:localhost/made:v1", file.display());
    host.fcvm(["commit", "box", &target]).ok();
    let inspected = Command::new("skopeo").args(["inspect", "--config"]).arg(&target).output().unwrap();
    assert!(inspected.status.success(), "{}", String::from_utf8_lossy(&inspected.stderr));
    let config: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(config["config"]["Cmd"], serde_json::json!(["sleep", "1000"]));
    assert_eq!(config["config"]["Labels"]["a"], "b");
    assert!(config["config"]["Env"].as_array().unwrap().contains(&"GIVEN=1".into()));
    host.fcvm(["commit", "--change", "RUN x", "box"]).failed(125, "RUN x");

    host.fcvm(["stop", "-t", "0", "box"]).ok();
    assert_eq!(told(host.fcvm(["diff", "box"]).ok().text()), told(expected.to_owned()));
    let found = names(&host.fcvm(["export", "box"]).ok().stdout);
    assert!(found.contains("made/x") && !found.contains("etc/noexec"), "{found:?}");
}

#[test]
fn an_image_can_be_of_one_moment() {
    let host = Host::new();
    let count = "for n in 1 2 3 4 5 6; do dd if=/dev/zero of=/var/b$n bs=1M count=3 2> /dev/null; done; echo counts; \
                 while :; do for n in 1 2 3 4 5 6; do echo x >> /var/c$n; done; done";
    let vm = host.start("box", &["-v", "/cache", BUSYBOX, "sh", "-c", count]);
    let counts = "until test -e /var/c6; do :; done";
    vm.exec(&["sh", "-c", counts]).ok();
    let file = host.path().join("id");
    let flags = ["--pause", "--squash", "--include-volumes", "-f", "docker", "--iidfile", file.to_str().unwrap()];
    let id = host.fcvm(["commit"].iter().chain(&flags).chain(&["box", "moment"])).ok().text();
    assert_eq!(std::fs::read_to_string(file).unwrap(), id);
    // It goes on, and nothing of what was read came between two of its writes.
    vm.exec(&["true"]).ok();
    let lines =
        host.fcvm(["run", "--rm", "moment", "sh", "-c", "for n in 1 2 3 4 5 6; do wc -l < /var/c$n; done"]).ok();
    let lines: Vec<u64> = lines.text().lines().map(|line| line.trim().parse().unwrap()).collect();
    assert!(lines.len() == 6 && lines.iter().max().unwrap() - lines.iter().min().unwrap() <= 1, "{lines:?}");
    let image = json(host.fcvm(["inspect", "--type", "image", "moment"]));
    assert_eq!(image[0]["Config"]["Volumes"], serde_json::json!({ "/cache": {} }));
    let target = format!("oci-archive:{}", host.path().join("x.tar").display());
    host.fcvm(["commit", "-f", "docker", "box", &target]).failed(125, "has OCI's format");
    host.fcvm(["rm", "-f", "-t", "0", "box"]).ok();
    host.assert_clean();
}

#[test]
fn what_runs_and_what_it_takes_is_told() {
    let host = Host::new();
    let script = "busybox sleep 1234 & exec sleep 1000";
    let vm = host.start("box", &["--user", "alice", BUSYBOX, "sh", "-c", script]);
    vm.exec(&["sh", "-c", "until grep -q sleep /proc/1/comm; do sleep 0.1; done"]).ok();
    let top = host.fcvm(["top", "box"]).ok().text();
    let mut lines = top.lines();
    let title: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(title, ["USER", "PID", "PPID", "%CPU", "ELAPSED", "TTY", "TIME", "COMMAND"]);
    let first: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!((&first[..3], &first[7..]), (&["alice", "1", "0"][..], &["sleep", "1000"][..]));
    assert_eq!(host.fcvm(["top", "box", "pid", "comm"]).ok().text().lines().count(), 3);
    assert!(host.fcvm(["top", "box", "-o", "pid,args"]).ok().text().contains("sleep 1234"));
    host.fcvm(["top", "box", "nope"]).failed(125, "nope");

    host.start("other", &[BUSYBOX, "sleep", "1000"]);
    let stats = json(host.fcvm(["stats", "--no-stream", "--format", "json"]));
    let names: BTreeSet<&str> = stats.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["box", "other"].into());
    let stats = json(host.fcvm(["stats", "--no-stream", "--format", "json", "box"]));
    let row = &stats[0];
    assert_eq!(row["pids"], 2);
    assert!(row["vm"]["HostMemory"].as_u64().unwrap() > 1 << 20, "{row}");
    assert!(row["vm"]["HostCpuNs"].as_u64().unwrap() > 0 && row["vm"]["HostDisk"].as_u64().unwrap() > 0, "{row}");
    assert_ne!(row["cpu_time"], "0.000000s");
    assert_eq!(host.fcvm(["stats", "--no-stream", "--format", "{{.Name}} {{.PIDS}}", "box"]).ok().text(), "box 2");
    host.fcvm(["stats", "--no-stream", "nobody"]).failed(125, "nobody");
    let (again, stdout) = Started::streaming(host.command(["stats", "-i", "1", "--format", "{{.Name}}", "box"]));
    let lines: Vec<String> = BufReader::new(stdout).lines().take(3).map(Result::unwrap).collect();
    assert_eq!(lines, ["box"; 3]);
    again.signal(2);
    again.finish();

    // What is used is counted, and goes only when it is not.
    host.fcvm(["stop", "-t", "0", "other"]).ok();
    let kinds = json(host.fcvm(["system", "df", "--format", "json"]));
    let kind = |name: &str| kinds.as_array().unwrap().iter().find(|kind| kind["Type"] == name).unwrap().clone();
    assert_eq!((&kind("Images")["Total"], &kind("Images")["Active"]), (&1.into(), &1.into()));
    assert_eq!((&kind("Containers")["Total"], &kind("Containers")["Active"]), (&2.into(), &1.into()));
    assert!(host.fcvm(["system", "df", "-v"]).ok().text().contains("localhost/busybox:test"));
    host.fcvm(["system", "prune"]).failed(125, "--force");
    host.fcvm(["system", "prune", "--force", "--filter", "label=none"]).ok();
    assert_eq!(host.fcvm(["ps", "-a", "-q"]).ok().text().lines().count(), 2);
    host.fcvm(["system", "prune", "--force", "--all"]).ok();
    assert_eq!(host.fcvm(["ps", "-a", "--format", "{{.Names}}"]).ok().text(), "box");
    assert_eq!(host.fcvm(["images", "-q"]).ok().text().lines().count(), 1);
    host.fcvm(["rm", "-f", "-t", "0", "box"]).ok();
    host.fcvm(["system", "prune", "--force", "--all"]).ok();
    assert_eq!(host.fcvm(["images", "-q"]).ok().text(), "");
    assert_eq!(host.fcvm(["snapshot", "ls", "-q"]).ok().text(), "");
    host.assert_clean();
}
