//! Commands and flags of podman that are not here: refused by name, with the reason where there is one.

use crate::error::Failure;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Flags of podman and why they are refused, for these verbs or (none named) for all; the rest is "not supported".
const FLAGS: &[(&[&str], &[&str], &str)] = &[
    (RUNNING, &["--volumes-from"], "give the same --volume to each"),
    (
        RUNNING,
        &["--device", "--device-cgroup-rule"],
        "devices of the host are not the guest's; it has a kernel of its own",
    ),
    (RUNNING, &["--gpus"], "no monitor here passes GPUs through"),
    (RUNNING, &["--pid"], "a VM has a kernel of its own, and its own processes only"),
    (
        RUNNING,
        &["--userns", "--uidmap", "--gidmap", "--subuidname", "--subgidname"],
        "a VM has a kernel of its own, and so its own users",
    ),
    (RUNNING, &["--ipc", "--uts", "--cgroupns", "--cgroups"], "a VM has a kernel of its own"),
    (
        RUNNING,
        &["--security-opt", "--seccomp-policy"],
        "the machine is the boundary; the guest has no seccomp, SELinux or AppArmor profile",
    ),
    (RUNNING, &["--pod", "--pod-id-file", "--infra"], "pods are not there yet"),
    (
        RUNNING,
        &["--health-on-failure", "--health-log-destination", "--health-max-log-count", "--health-startup-cmd"],
        "what is found is in inspect, and nothing is done about it",
    ),
    (
        RUNNING,
        &["--ip", "--ip6", "--mac-address", "--network-alias"],
        "every VM has the same address in a network of its own; publish ports with -p",
    ),
    (RUNNING, &["--memory-swap", "--memory-swappiness"], "a VM has no swap"),
    (RUNNING, &["-l", "--latest"], "name the VM, for example $(fcvm ps -lq)"),
    (&["wait", "logs", "inspect", "port"], &["-l", "--latest"], "name the VM, for example $(fcvm ps -lq)"),
    (&["ps"], &["-p", "--pod"], "pods are not there yet"),
    (&["ps", "ls", "inspect"], &["-s", "--size"], "the disk of a VM is a file; du tells its size"),
    (&["save"], &["--compress", "--uncompressed"], "layers are written as they are, without compression"),
    (&[], &["--log-level"], "set FCVM_LOG, for example FCVM_LOG=debug"),
    (&[], &["--root", "--runroot"], "use --data-dir"),
];

/// Verbs that start something in a VM.
const RUNNING: &[&str] = &["run", "exec"];

/// Podman's commands that are not here, and what to do instead.
const COMMANDS: &[(&[&str], &str)] = &[
    (&["init"], "a VM boots with its container; use start"),
    (
        &["build", "push", "import", "tag", "untag", "manifest", "history"],
        "images are only run here; make them with podman or buildah, and run them as containers-storage:NAME",
    ),
    (&["image"], "use the verb alone, for example images or rmi"),
    (&["login", "logout"], "podman, docker or skopeo log in; their auth files are read here"),
    (&["pod", "kube", "play", "spec"], "pods are not there yet"),
    (
        &["volume export", "volume import", "volume mount", "volume unmount", "volume reload"],
        "a volume is a directory of this host; volume inspect tells where",
    ),
    (&["network"], "every VM has a network of its own; see --network and --publish of run"),
    (&["machine"], "every container has a machine of its own here"),
];

/// Turns clap's error into ours. Help and version are no errors: they are printed, and the program ends well.
pub(super) fn refuse(error: &clap::Error, args: &[String]) -> Failure {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            Failure::with_code(0, "")
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Failure::with_code(125, "")
        }
        ErrorKind::InvalidSubcommand => unknown_command(error),
        ErrorKind::UnknownArgument => unknown_argument(error, args),
        _ => rendered(error),
    }
}

/// Why a command of podman is not here, and what to do instead.
pub(super) fn command(name: &str) -> Option<&'static str> {
    COMMANDS.iter().find(|(names, _)| names.contains(&name)).map(|(_, reason)| *reason)
}

fn unknown_command(error: &clap::Error) -> Failure {
    let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidSubcommand) else { return rendered(error) };
    Failure::new(format!("unknown command {name}: {}", command(name).unwrap_or("fcvm help lists those that there are")))
}

fn unknown_argument(error: &clap::Error, args: &[String]) -> Failure {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return rendered(error) };
    if !flag.starts_with('-') {
        return Failure::new(format!("unexpected argument {flag}"));
    }
    // clap names one letter of a cluster; people look for what they typed.
    let cluster = |arg: &&String| arg.starts_with('-') && !arg.starts_with("--") && arg.contains(&flag[1..]);
    let exact = args.iter().find(|arg| arg.split('=').next() == Some(flag));
    let typed = exact.or_else(|| args.iter().find(cluster).filter(|_| !flag.starts_with("--"))).unwrap_or(flag);
    let name = typed.split('=').next().unwrap_or(typed);
    let reason = reason(verb(args), name).or_else(|| reason(verb(args), flag));
    Failure::new(format!("unknown flag {name}: {}", reason.unwrap_or("it is not supported")))
}

/// Why a flag of a verb is not here, where there is more to say than that.
pub(super) fn reason(verb: &str, flag: &str) -> Option<&'static str> {
    let row =
        FLAGS.iter().find(|(verbs, flags, _)| flags.contains(&flag) && (verbs.is_empty() || verbs.contains(&verb)));
    row.map(|(.., reason)| *reason)
}

/// The verb of a command line that may name a data directory before it.
fn verb(args: &[String]) -> &str {
    let mut words = args.iter().skip(1).map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--data-dir" => drop(words.next()),
            "podman" => {}
            flag if flag.starts_with('-') => {}
            verb => return verb,
        }
    }
    ""
}

/// Clap's own words in one line, without its usage.
fn rendered(error: &clap::Error) -> Failure {
    let text = error.to_string();
    let sentence = text.split("\n\nUsage:").next().unwrap_or(&text).split("\n\nFor more").next().unwrap_or(&text);
    let words: Vec<&str> = sentence.split_whitespace().collect();
    Failure::new(words.join(" ").trim_start_matches("error: ").to_owned())
}
