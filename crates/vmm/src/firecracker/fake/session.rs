//! One session, played to the fake and to the real one where there is one: the answers are alike, and so are the ends.

use super::Fake;
use crate::firecracker::api::{Api, ApiError, Call, Method};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What a call came to, in as far as two Firecrackers have to agree.
#[derive(Debug, PartialEq)]
enum Heard {
    Done,
    Answer(Value),
    /// The sentence up to where a field's place in the text, or the list of its siblings, is told.
    Refused(String),
    Closed,
}

fn heard(outcome: Result<Value, ApiError>) -> Heard {
    match outcome {
        Ok(Value::Null) => Heard::Done,
        Ok(value) => Heard::Answer(value),
        Err(ApiError::Refused { reason, .. }) => {
            let end =
                ["expected", " at line"].iter().filter_map(|word| reason.find(word)).min().unwrap_or(reason.len());
            Heard::Refused(reason[..end].to_owned())
        }
        Err(ApiError::Closed) => Heard::Closed,
        Err(other) => panic!("{other}"),
    }
}

fn put(path: &str, body: Value) -> Call {
    Call::new(Method::Put, path, body)
}

/// What goes wrong before a machine runs, and what goes well; nothing of it needs KVM.
fn before_a_boot() -> Vec<Call> {
    let drive = |path: &str, body: Value| put(&format!("/drives/{path}"), body);
    let file = |name: &str| json!({ "drive_id": name, "path_on_host": "disk", "is_root_device": false });
    let state = || Call::new(Method::Patch, "/vm", json!({ "state": "Paused" }));
    vec![
        Call::get("/"),
        state(),
        put("/snapshot/create", json!({ "snapshot_path": "x", "mem_file_path": "y" })),
        put("/boot-source", json!({ "kernel_image_path": "missing" })),
        put("/boot-source", json!({ "kernel_image_path": "missing", "nonsense": 1 })),
        put("/boot-source", json!({})),
        put("/actions", json!({ "action_type": "InstanceStart" })),
        put("/machine-config", json!({ "vcpu_count": 0, "mem_size_mib": 128 })),
        put("/machine-config", json!({ "vcpu_count": 33, "mem_size_mib": 128 })),
        put("/machine-config", json!({ "vcpu_count": 32, "mem_size_mib": 128 })),
        drive("disk-0", file("disk-0")),
        drive("disk0", file("disk1")),
        drive("disk0", json!({ "drive_id": "disk0", "path_on_host": "missing", "is_root_device": false })),
        drive("disk0", file("disk0")),
        put("/vsock", json!({ "guest_cid": 3, "uds_path": "link" })),
        put("/vsock", json!({ "guest_cid": 3, "uds_path": "link", "nonsense": 1 })),
        put("/entropy", json!({})),
        put("/balloon", json!({ "amount_mib": 0, "deflate_on_oom": true, "free_page_reporting": true })),
        put("/nonsense", json!({})),
        put("/entropy", Value::String("x".repeat(60_000))),
        Call::get("/"),
        put("/snapshot/load", load("missing")),
        Call::get("/"),
    ]
}

/// A load that cannot succeed ends the process.
fn a_load() -> Vec<Call> {
    let both = json!({ "snapshot_path": "x", "mem_file_path": "y", "mem_backend": { "backend_type": "File", "backend_path": "y" } });
    vec![
        put("/snapshot/load", json!({ "snapshot_path": "x" })),
        put("/snapshot/load", both),
        put("/snapshot/load", load("missing")),
        Call::get("/"),
    ]
}

fn load(state: &str) -> Value {
    json!({ "snapshot_path": state, "mem_backend": { "backend_type": "File", "backend_path": "memory" } })
}

async fn play(api: &Api, calls: &[Call]) -> Vec<(String, Heard)> {
    api.wait().await.unwrap();
    let mut all = Vec::new();
    for call in calls {
        all.push((call.to_string(), heard(api.call(call).await)));
    }
    all
}

/// The real one, killed when it is dropped.
struct Real(Child);

impl Drop for Real {
    fn drop(&mut self) {
        let _has_ended_already = self.0.kill();
        let _its_code_was_taken = self.0.wait();
    }
}

fn start(program: &Path, directory: &Path) -> Real {
    let mut command = Command::new(program);
    command.args(["--api-sock", "api.sock"]).current_dir(directory);
    Real(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

async fn compare(calls: &[Call], exits: Option<i32>) {
    let mut fake = Fake::start();
    std::fs::write(fake.directory().join("disk"), [0; 4096]).unwrap();
    let answers = play(&fake.api(), calls).await;
    if let Some(code) = exits {
        assert_eq!(fake.ended().await, code);
    }
    let Some(program) = std::env::var_os("FCVM_FIRECRACKER_BIN") else {
        eprintln!("SKIPPED: the comparison with the real Firecracker, because FCVM_FIRECRACKER_BIN does not name it");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("disk"), [0; 4096]).unwrap();
    let mut real = start(Path::new(&program), directory.path());
    let real_answers = play(&Api::new(&directory.path().join("api.sock")), calls).await;
    for (of_fake, of_real) in answers.iter().zip(&real_answers) {
        assert_eq!(of_fake, of_real);
    }
    if let Some(code) = exits {
        assert_eq!(real.0.wait().unwrap().code(), Some(code));
        assert!(directory.path().join("api.sock").exists(), "its socket stays");
    }
}

#[tokio::test]
async fn the_fake_answers_as_the_real_one_before_a_machine_runs() {
    compare(&before_a_boot(), None).await;
}

#[tokio::test]
async fn the_fake_ends_as_the_real_one_when_a_load_fails() {
    compare(&a_load(), Some(1)).await;
}
