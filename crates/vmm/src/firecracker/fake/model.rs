//! What Firecracker answers to each call, as far as we make it: seen of 1.17.0-dev.

use super::{LARGEST_BODY, Request};
use crate::firecracker::workspace::PLACE;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// An answer and what follows it.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: String,
    pub(super) then: Then,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// It waits for the next request.
    GoOn,
    /// It never answers.
    Silence,
    /// The process ends once it has answered.
    Exit(i32),
    /// The process ends and answers nothing.
    Crash(i32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    NotStarted,
    Running,
    Paused,
}

/// A Firecracker's state.
pub(super) struct Model {
    directory: PathBuf,
    state: State,
    has_kernel: bool,
    /// Whether anything was configured that belongs to a boot.
    boots: bool,
    /// What goes wrong at which call.
    fates: Vec<(&'static str, Then)>,
    pub(super) exit: Option<i32>,
}

/// The fields of a body: those that must be there, and all that may.
struct Fields {
    needed: &'static [&'static str],
    known: &'static [&'static str],
}

const fn fields(needed: &'static [&'static str], known: &'static [&'static str]) -> Fields {
    Fields { needed, known }
}

fn fields_of(resource: &str) -> Option<Fields> {
    Some(match resource {
        "boot-source" => fields(&["kernel_image_path"], &["kernel_image_path", "initrd_path", "boot_args"]),
        "machine-config" => fields(
            &["vcpu_count", "mem_size_mib"],
            &["vcpu_count", "mem_size_mib", "smt", "cpu_template", "track_dirty_pages", "huge_pages"],
        ),
        "drives" => fields(
            &["drive_id", "is_root_device"],
            &[
                "drive_id",
                "is_root_device",
                "path_on_host",
                "is_read_only",
                "partuuid",
                "cache_type",
                "io_engine",
                "rate_limiter",
                "socket",
            ],
        ),
        "vsock" => fields(&["guest_cid", "uds_path"], &["guest_cid", "uds_path", "vsock_id"]),
        "entropy" => fields(&[], &["rate_limiter"]),
        "balloon" => fields(
            &["amount_mib", "deflate_on_oom"],
            &["amount_mib", "deflate_on_oom", "stats_polling_interval_s", "free_page_hinting", "free_page_reporting"],
        ),
        "metrics" => fields(&["metrics_path"], &["metrics_path", "emit_id", "properties"]),
        "actions" => fields(&["action_type"], &["action_type"]),
        "vm" => fields(&["state"], &["state"]),
        "snapshot/create" => {
            fields(&["snapshot_path", "mem_file_path"], &["snapshot_path", "mem_file_path", "snapshot_type"])
        }
        "snapshot/load" => fields(
            &["snapshot_path"],
            &[
                "snapshot_path",
                "mem_file_path",
                "mem_backend",
                "enable_diff_snapshots",
                "track_dirty_pages",
                "resume_vm",
                "network_overrides",
                "vsock_override",
                "clock_realtime",
                "huge_pages",
            ],
        ),
        _ => return None,
    })
}

const BEFORE: &str = "The requested operation is not supported before starting the microVM.";
const AFTER: &str = "The requested operation is not supported after starting the microVM.";

/// An answer that is a fault's sentence, or the end of the process too.
enum Fault {
    Said(String),
    Ends(String),
}

impl From<String> for Fault {
    fn from(sentence: String) -> Self {
        Self::Said(sentence)
    }
}

impl From<&str> for Fault {
    fn from(sentence: &str) -> Self {
        Self::Said(sentence.to_owned())
    }
}

impl Model {
    pub(super) fn new(directory: &Path, fates: Vec<(&'static str, Then)>) -> Self {
        let directory = directory.to_owned();
        Self { directory, state: State::NotStarted, has_kernel: false, boots: false, fates, exit: None }
    }

    /// Where a path leads: its workspace is a directory of the test's.
    fn place(&self, path: &str) -> PathBuf {
        self.directory.join(path.strip_prefix(PLACE).map_or(path, |below| below.trim_start_matches('/')))
    }

    pub(super) fn reply(&mut self, request: &Request) -> Reply {
        let Request { method, path, body } = request;
        if !["GET", "PUT", "PATCH", "DELETE"].contains(&method.as_str()) {
            return doubt("Invalid HTTP Method: Unsupported HTTP method.");
        }
        if body.len() > LARGEST_BODY {
            let size = body.len();
            return doubt(&format!(
                "Request payload with size {size} is larger than the limit of {LARGEST_BODY} allowed by server."
            ));
        }
        if let Some((_, fate)) = self.fates.iter().find(|(call, _)| *call == format!("{method} {path}")) {
            return Reply { status: 204, body: String::new(), then: *fate };
        }
        let resource = path.trim_start_matches('/');
        let answer = match (method.as_str(), resource) {
            ("GET", "version") => Ok(Some(json!({ "firecracker_version": "1.17.0-dev" }))),
            ("GET", "") => Ok(Some(json!({ "id": "anonymous-instance", "state": self.state_name(),
                "vmm_version": "1.17.0-dev", "app_name": "Firecracker" }))),
            ("PUT" | "PATCH", _) => self.change(method, resource, body).map(|()| None),
            _ => Err(Fault::Said(format!("Invalid request method and/or path: {method} {resource}."))),
        };
        match answer {
            Ok(None) => Reply { status: 204, body: String::new(), then: Then::GoOn },
            Ok(Some(value)) => Reply { status: 200, body: value.to_string(), then: Then::GoOn },
            Err(Fault::Said(sentence)) => fault(&sentence, Then::GoOn),
            Err(Fault::Ends(sentence)) => fault(&sentence, Then::Exit(1)),
        }
    }

    fn change(&mut self, method: &str, path: &str, body: &[u8]) -> Result<(), Fault> {
        let (resource, id) = match path.split_once('/') {
            Some(("drives", id)) => ("drives", Some(id)),
            _ => (path, None),
        };
        if id.is_some_and(|id| !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')) {
            return Err("API Resource IDs can only contain alphanumeric characters and underscores.".into());
        }
        let allowed = fields_of(resource).filter(|_| (method == "PATCH") == (resource == "vm"));
        let Some(Fields { needed, known }) = allowed else {
            return Err(format!("Invalid request method and/or path: {method} {path}.").into());
        };
        let body = parse(body, needed, known)?;
        if id.is_some_and(|id| body["drive_id"] != id) {
            return Err("The id from the path does not match the id from the body!".into());
        }
        match resource {
            "vm" => self.switch(&body),
            "snapshot/create" => self.create(&body),
            "snapshot/load" => self.load(&body),
            _ if self.state != State::NotStarted => Err(AFTER.into()),
            "actions" => self.start(&body),
            "metrics" => Ok(()),
            _ => self.configure(resource, &body),
        }
    }

    fn configure(&mut self, resource: &str, body: &Map<String, Value>) -> Result<(), Fault> {
        let model = &*self;
        let opens = |name: &str| match body.get(name).and_then(Value::as_str) {
            Some(path) => std::fs::metadata(model.place(path)).map(drop),
            None => Ok(()),
        };
        if resource == "boot-source" {
            opens("kernel_image_path")
                .map_err(|error| format!("Boot source error: The kernel file cannot be opened: {error}"))?;
            opens("initrd_path")
                .map_err(|error| format!("Boot source error: The initrd file cannot be opened: {error}"))?;
        }
        if resource == "drives" {
            opens("path_on_host").map_err(|error| {
                let file = body["path_on_host"].as_str().unwrap_or_default();
                let what = "Unable to create the virtio block device: Virtio backend error: Error manipulating the backing file";
                format!("Drive config error: {what}: {error} {file}")
            })?;
        }
        if resource == "machine-config" && !(1..=32).contains(&body["vcpu_count"].as_u64().unwrap_or(0)) {
            let rule = "The number of vCPUs must be greater than 0, less than 32 and must be 1 or an even number if SMT is enabled.";
            return Err(format!("Machine config error: {rule}").into());
        }
        self.boots = true;
        self.has_kernel |= resource == "boot-source";
        Ok(())
    }

    fn start(&mut self, body: &Map<String, Value>) -> Result<(), Fault> {
        match body["action_type"].as_str() {
            Some("InstanceStart") if self.has_kernel => {
                self.state = State::Running;
                Ok(())
            }
            Some("InstanceStart") => {
                Err("Start microvm error: Cannot start microvm without kernel configuration.".into())
            }
            _ => Err("An error occurred when deserializing the json body of a request: unknown variant".into()),
        }
    }

    fn switch(&mut self, body: &Map<String, Value>) -> Result<(), Fault> {
        if self.state == State::NotStarted {
            return Err(BEFORE.into());
        }
        self.state = if body["state"] == "Paused" { State::Paused } else { State::Running };
        Ok(())
    }

    /// Devices first, memory after that.
    fn create(&mut self, body: &Map<String, Value>) -> Result<(), Fault> {
        let (write, words) = (
            |name: &str| {
                let path = self.place(body[name].as_str().unwrap_or_default());
                std::fs::write(path, "saved")
            },
            "Create snapshot error: Cannot",
        );
        match self.state {
            State::NotStarted => return Err(BEFORE.into()),
            State::Running => {
                return Err(format!("{words} save the microVM state: save/restore unavailable while running").into());
            }
            State::Paused => {}
        }
        write("snapshot_path").map_err(|error| format!("{words} write the microVM state: {error}"))?;
        write("mem_file_path").map_err(|error| format!("{words} create the memory file: {error}"))?;
        Ok(())
    }

    /// What fails after the body was understood ends the process.
    fn load(&mut self, body: &Map<String, Value>) -> Result<(), Fault> {
        if self.state != State::NotStarted {
            return Err(AFTER.into());
        }
        let wrong =
            |what| format!("An error occurred when deserializing the json body of a request: {what} is required.");
        match (body.contains_key("mem_backend"), body.contains_key("mem_file_path")) {
            (false, false) => Err(wrong("missing field: either `mem_backend` or `mem_file_path`"))?,
            (true, true) => Err(wrong("too many fields: either `mem_backend` or `mem_file_path` exclusively"))?,
            _ => {}
        }
        if self.boots {
            return Err("Load snapshot error: Loading a microVM snapshot not allowed after configuring boot-specific resources.".into());
        }
        let ends = |error: std::io::Error| {
            let what =
                "Failed to restore from snapshot: Failed to get snapshot state from file: Failed to open snapshot file";
            Fault::Ends(format!("Load snapshot error: {what}: {error}"))
        };
        let path = self.place(body["snapshot_path"].as_str().unwrap_or_default());
        std::fs::metadata(path).map_err(ends)?;
        self.state = if body.get("resume_vm") == Some(&Value::Bool(true)) { State::Running } else { State::Paused };
        Ok(())
    }

    fn state_name(&self) -> &'static str {
        match self.state {
            State::NotStarted => "Not started",
            State::Running => "Running",
            State::Paused => "Paused",
        }
    }
}

fn parse(body: &[u8], needed: &[&str], known: &[&str]) -> Result<Map<String, Value>, String> {
    let wrong = |reason: String| format!("An error occurred when deserializing the json body of a request: {reason}");
    let body: Map<String, Value> = serde_json::from_slice(body).map_err(|error| wrong(error.to_string()))?;
    if let Some(field) = body.keys().find(|field| !known.contains(&field.as_str())) {
        let expected = known.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", ");
        return Err(wrong(format!("unknown field `{field}`, expected one of {expected}")));
    }
    match needed.iter().find(|field| !body.contains_key(**field)) {
        Some(field) => Err(wrong(format!("missing field `{field}`"))),
        None => Ok(body),
    }
}

fn fault(sentence: &str, then: Then) -> Reply {
    Reply { status: 400, body: json!({ "fault_message": sentence }).to_string(), then }
}

/// Not JSON: the line feed is raw.
fn doubt(sentence: &str) -> Reply {
    let body = format!("{{ \"error\": \"{sentence}\nAll previous unanswered requests will be dropped.\" }}");
    Reply { status: 400, body, then: Then::GoOn }
}
