//! Flags of podman that are not here: refused by name, with the reason where there is one.

use crate::error::Failure;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Flags of podman and why they are refused; the rest of podman's are "not supported yet".
const REASONS: &[(&str, &str)] = &[
    ("-t", "terminals are not there yet; use -i for input without one"),
    ("--tty", "terminals are not there yet; use -i for input without one"),
    ("-it", "terminals are not there yet; use -i for input without one"),
    ("-ti", "terminals are not there yet; use -i for input without one"),
    ("-v", "volumes are not there yet"),
    ("--volume", "volumes are not there yet"),
    ("--mount", "volumes are not there yet"),
    ("--map", "volumes are not there yet"),
    ("--device", "devices of the host are not the guest's; it has a kernel of its own"),
    ("--pid", "a VM has a kernel of its own, and its own processes only"),
    ("--ipc", "a VM has a kernel of its own"),
    ("--uts", "a VM has a kernel of its own"),
    ("--userns", "a VM has a kernel of its own, and so its own users"),
    ("--cgroupns", "a VM has a kernel of its own"),
    ("--cgroups", "a VM has a kernel of its own"),
    ("--cgroup-parent", "a VM has a kernel of its own"),
    ("--security-opt", "the machine is the boundary; the guest has no seccomp, SELinux or AppArmor profile"),
    ("--pod", "pods are not there yet"),
    ("--health-cmd", "health checks are not there yet"),
    ("--health-interval", "health checks are not there yet"),
    ("--gpus", "no monitor here passes GPUs through"),
];

/// Turns clap's error into ours. Help and version are no errors: they are printed, and the program ends well.
pub(super) fn refuse(error: clap::Error, args: &[String]) -> Failure {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return Failure::with_code(0, "");
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return Failure::with_code(125, "");
    }
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return rendered(&error) };
    if error.kind() != ErrorKind::UnknownArgument {
        return rendered(&error);
    }
    // clap names one letter of a cluster; people look for what they typed.
    let cluster = |arg: &&String| arg.starts_with('-') && !arg.starts_with("--") && arg.contains(&flag[1..]);
    let exact = args.iter().find(|arg| arg.split('=').next() == Some(flag));
    let typed = exact.or_else(|| args.iter().find(cluster).filter(|_| !flag.starts_with("--"))).unwrap_or(flag);
    let name = typed.split('=').next().unwrap_or(typed);
    let reason = REASONS.iter().find(|(known, _)| *known == name).map_or("it is not supported", |(_, reason)| reason);
    Failure::new(format!("unknown flag {name}: {reason}"))
}

/// Clap's own words in one line, without its usage.
fn rendered(error: &clap::Error) -> Failure {
    let text = error.to_string();
    let sentence = text.split("\n\nUsage:").next().unwrap_or(&text).split("\n\nFor more").next().unwrap_or(&text);
    let words: Vec<&str> = sentence.split_whitespace().collect();
    Failure::new(words.join(" ").trim_start_matches("error: ").to_owned())
}
