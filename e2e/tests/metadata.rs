//! Stories of `metadata`: what a guest may know of itself, at the address where programs of clouds look.

use fcvm_e2e::{BUSYBOX, Host, Run};

/// Asks for a value as the protocol wants it: first for a token, then with it.
const ASK: &str = "ask() { printf '%s HTTP/1.1\\r\\nHost: x\\r\\n%s\\r\\nConnection: close\\r\\n\\r\\n' \"$1\" \"$2\" | nc 169.254.169.254 80; }; \
    token=$(ask 'PUT /latest/api/token' 'X-metadata-token-ttl-seconds: 60' | tail -n 1); \
    ask \"GET /latest/meta-data/$1\" \"X-metadata-token: $token\" | tail -n 1";

fn known(vm: &Run<'_>, key: &str) -> String {
    vm.exec(&["sh", "-c", ASK, "sh", key]).ok().text().trim().to_owned()
}

#[test]
fn a_guest_knows_what_it_was_told_and_a_copy_that_it_is_another() {
    let host = Host::new();
    let source = host.start("source", &["--metadata", "role=web", "--metadata", "tags/a=1", BUSYBOX, "sleep", "1000"]);
    assert_eq!(known(&source, "role"), "web");
    let id = host.fcvm(["inspect", "--format", "{{.Id}}", "source"]).ok().text();
    assert_eq!(known(&source, "instance-id"), id);
    let without = source.exec(&["sh", "-c", "printf 'GET /latest HTTP/1.0\\r\\n\\r\\n' | nc 169.254.169.254 80"]).ok();
    assert!(without.text().starts_with("HTTP/1.0 401 "), "{}", without.text());
    host.fcvm(["metadata", "set", "source", "role=db"]).ok();
    assert_eq!(known(&source, "role"), "db");
    assert_eq!(host.fcvm(["metadata", "get", "source", "tags/a"]).ok().text(), "1");
    host.fcvm(["metadata", "set", "source", "instance-id=x"]).failed(125, "instance-id");
    host.fcvm(["snapshot", "create", "source", "--tag", "told"]).ok();
    host.fcvm(["snapshot", "run", "told", "-d", "--name", "copy"]).ok();
    let copy = host.vm("copy");
    assert_eq!(known(&copy, "role"), "db");
    assert_eq!(known(&copy, "instance-id"), host.fcvm(["inspect", "--format", "{{.Id}}", "copy"]).ok().text());
    let epoch = host.fcvm(["inspect", "--format", "{{.Vm.Receipt.epoch}}", "copy"]).ok().text();
    assert_eq!(known(&copy, "restore-epoch"), epoch);
    assert_ne!(known(&source, "restore-epoch"), epoch);
    for vm in ["copy", "source"] {
        host.fcvm(["rm", "-f", "-t", "0", vm]).ok();
    }
    host.fcvm(["snapshot", "rm", "told"]).ok();
    host.assert_clean();
}

#[test]
fn metadata_that_cannot_be_is_refused_before_there_is_a_machine() {
    let host = Host::new();
    for (text, words) in [("role", "KEY=VALUE"), ("instance-id=x", "fcvm's own"), ("a b=1", "letters")] {
        host.fcvm(["run", "--rm", "--metadata", text, BUSYBOX, "true"]).failed(125, words);
    }
    host.assert_clean();
}
