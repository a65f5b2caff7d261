//! `version` and `info`: what this installation is, and what it holds.

use crate::args::FormatArgs;
use crate::error::Failure;
use crate::ui::template::Template;
use crate::{settings, ui};
use fcvm_spec::Phase;
use serde_json::{Value, json};
use std::path::Path;

pub(super) fn version(args: &FormatArgs) -> Result<(), Failure> {
    let client = json!({
        "Client": {
            "Version": env!("CARGO_PKG_VERSION"),
            "Protocol": fcvm_proto::message::PROTOCOL,
            "OsArch": os_arch(),
        },
    });
    match args.format.as_deref() {
        None => {
            let text = |field: &str| {
                client["Client"][field].as_str().map_or_else(|| client["Client"][field].to_string(), str::to_owned)
            };
            ui::say(&format!(
                "Version:   {}\nProtocol:  {}\nOS/Arch:   {}",
                text("Version"),
                text("Protocol"),
                text("OsArch")
            ));
        }
        Some(format) => show(&client, format)?,
    }
    Ok(())
}

pub(super) fn info(args: &FormatArgs, data_dir: &Path) -> Result<(), Failure> {
    let engine = settings::engine(data_dir)?;
    let vms = engine.store().vms()?;
    let phases: Vec<Phase> = vms.iter().filter_map(|vm| vm.record().ok()).map(|record| record.phase).collect();
    let running = phases.iter().filter(|phase| phase.is_live()).count();
    let info = json!({
        "host": {
            "arch": std::env::consts::ARCH,
            "os": std::env::consts::OS,
            "kernel": rustix::system::uname().release().to_string_lossy(),
            "cpus": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            "hostname": rustix::system::uname().nodename().to_string_lossy(),
        },
        "store": {
            "graphRoot": engine.store().root(),
            "containerStore": { "number": phases.len(), "running": running, "stopped": phases.len() - running },
            "imageStore": { "number": engine.images().store().list()?.len() },
        },
        "guest": { "kernel": engine.artifacts().kernel_release().ok() },
        "version": { "Version": env!("CARGO_PKG_VERSION"), "OsArch": os_arch() },
    });
    match args.format.as_deref() {
        None => ui::say(outline(&info, 0).trim_end()),
        Some(format) => show(&info, format)?,
    }
    Ok(())
}

fn show(value: &Value, format: &str) -> Result<(), Failure> {
    let text = match format {
        "json" => serde_json::to_string_pretty(value)?,
        template => Template::parse(template)?.render(std::slice::from_ref(value))?,
    };
    ui::say(&text);
    Ok(())
}

fn os_arch() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}/{arch}", std::env::consts::OS)
}

/// The YAML of nested objects.
fn outline(value: &Value, depth: usize) -> String {
    let line = |(name, value): (&String, &Value)| {
        let indent = "  ".repeat(depth);
        match value {
            Value::Object(_) => format!("{indent}{name}:\n{}", outline(value, depth + 1)),
            Value::String(text) => format!("{indent}{name}: {text}\n"),
            other => format!("{indent}{name}: {other}\n"),
        }
    };
    value.as_object().into_iter().flatten().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outline_is_yaml() {
        let value = json!({ "a": { "b": 1, "c": null }, "d": "x" });
        assert_eq!(outline(&value, 0), "a:\n  b: 1\n  c: null\nd: x\n");
    }
}
