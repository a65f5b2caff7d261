//! Every flag of podman 4.3, and what it is here: as there, different, or refused. `docs/podman.md` is made of this.
//!
//! That a flag is here is what the command line itself says; how it differs is in [`DIFFERENT`], why it is not here in
//! [`super::unsupported`].

use super::unsupported;
use std::fmt::Write;

/// Podman's verbs and their flags, as `podman VERB --help` of 4.3 lists them.
#[rustfmt::skip]
const PODMAN: &[(&str, &[&str])] = &[
    ("run", &[
        "--add-host", "--annotation", "--arch", "-a, --attach", "--authfile", "--blkio-weight",
        "--blkio-weight-device", "--cap-add", "--cap-drop", "--cgroup-conf", "--cgroup-parent", "--cgroupns",
        "--cgroups", "--chrootdirs", "--cidfile", "--conmon-pidfile", "--cpu-period", "--cpu-quota",
        "--cpu-rt-period", "--cpu-rt-runtime", "-c, --cpu-shares", "--cpus", "--cpuset-cpus", "--cpuset-mems",
        "-d, --detach", "--detach-keys", "--device", "--device-cgroup-rule", "--device-read-bps",
        "--device-read-iops", "--device-write-bps", "--device-write-iops", "--disable-content-trust", "--dns",
        "--dns-option", "--dns-search", "--entrypoint", "-e, --env", "--env-file", "--env-host", "--env-merge",
        "--expose", "--gidmap", "--group-add", "--health-cmd", "--health-interval", "--health-on-failure",
        "--health-retries", "--health-start-period", "--health-timeout", "-h, --hostname", "--hostuser",
        "--http-proxy", "--image-volume", "--init", "--init-path", "-i, --interactive", "--ip", "--ip6", "--ipc",
        "-l, --label", "--label-file", "--log-driver", "--log-opt", "--mac-address", "-m, --memory",
        "--memory-reservation", "--memory-swap", "--memory-swappiness", "--mount", "--name", "--network",
        "--network-alias", "--no-healthcheck", "--no-hosts", "--oom-kill-disable", "--oom-score-adj", "--os",
        "--passwd", "--passwd-entry", "--personality", "--pid", "--pidfile", "--pids-limit", "--platform", "--pod",
        "--pod-id-file", "--preserve-fds", "--privileged", "-p, --publish", "-P, --publish-all", "--pull",
        "-q, --quiet", "--read-only", "--read-only-tmpfs", "--replace", "--requires", "--restart", "--rm", "--rmi",
        "--rootfs", "--sdnotify", "--seccomp-policy", "--secret", "--security-opt", "--shm-size", "--sig-proxy",
        "--stop-signal", "--stop-timeout", "--subgidname", "--subuidname", "--sysctl", "--systemd", "--timeout",
        "--tls-verify", "--tmpfs", "-t, --tty", "--tz", "--uidmap", "--ulimit", "--umask", "--unsetenv",
        "--unsetenv-all", "-u, --user", "--userns", "--uts", "--variant", "-v, --volume", "--volumes-from",
        "-w, --workdir",
    ]),
    ("exec", &[
        "-d, --detach", "--detach-keys", "-e, --env", "--env-file", "-i, --interactive", "-l, --latest",
        "--preserve-fds", "--privileged", "-t, --tty", "-u, --user", "-w, --workdir",
    ]),
    ("attach", &[
        "--detach-keys", "-l, --latest", "--no-stdin", "--sig-proxy",
    ]),
    ("ps", &[
        "-a, --all", "--external", "-f, --filter", "--format", "-n, --last", "-l, --latest", "--no-trunc",
        "--noheading", "--ns", "-p, --pod", "-q, --quiet", "-s, --size", "--sort", "--sync", "-w, --watch",
    ]),
    ("logs", &[
        "--color", "-f, --follow", "-l, --latest", "-n, --names", "--since", "--tail", "-t, --timestamps",
        "--until",
    ]),
    ("stop", &[
        "-a, --all", "--cidfile", "-f, --filter", "-i, --ignore", "-l, --latest", "-t, --time",
    ]),
    ("start", &[
        "--all", "-a, --attach", "--detach-keys", "-f, --filter", "-i, --interactive", "-l, --latest",
        "--sig-proxy",
    ]),
    ("restart", &[
        "-a, --all", "--cidfile", "-f, --filter", "-l, --latest", "--running", "-t, --time",
    ]),
    ("kill", &[
        "-a, --all", "--cidfile", "-l, --latest", "-s, --signal",
    ]),
    ("pause", &[
        "-a, --all", "--cidfile", "-f, --filter", "-l, --latest",
    ]),
    ("unpause", &[
        "-a, --all", "--cidfile", "-f, --filter", "-l, --latest",
    ]),
    ("rm", &[
        "-a, --all", "--cidfile", "--depend", "--filter", "-f, --force", "-i, --ignore", "-l, --latest",
        "-t, --time", "-v, --volumes",
    ]),
    ("wait", &[
        "--condition", "-i, --interval", "-l, --latest",
    ]),
    ("inspect", &[
        "-f, --format", "-l, --latest", "-s, --size", "-t, --type",
    ]),
    ("port", &[
        "-a, --all", "-l, --latest",
    ]),
    ("top", &[
        "-l, --latest",
    ]),
    ("cp", &[
        "-a, --archive", "--overwrite",
    ]),
    ("diff", &[
        "--format", "-l, --latest",
    ]),
    ("commit", &[
        "-a, --author", "-c, --change", "-f, --format", "--iidfile", "--include-volumes", "-m, --message",
        "-p, --pause", "-q, --quiet", "-s, --squash",
    ]),
    ("stats", &[
        "-a, --all", "--format", "-i, --interval", "-l, --latest", "--no-reset", "--no-stream", "--no-trunc",
    ]),
    ("events", &[
        "-f, --filter", "--format", "--no-trunc", "--since", "--until",
    ]),
    ("rename", &[]),
    ("update", &[
        "--blkio-weight", "--blkio-weight-device", "--cpu-period", "--cpu-quota", "--cpu-rt-period",
        "--cpu-rt-runtime", "-c, --cpu-shares", "--cpus", "--cpuset-cpus", "--cpuset-mems", "--device-read-bps",
        "--device-read-iops", "--device-write-bps", "--device-write-iops", "-m, --memory", "--memory-reservation",
        "--memory-swap", "--memory-swappiness",
    ]),
    ("images", &[
        "-a, --all", "--digests", "-f, --filter", "--format", "--history", "--no-trunc", "-n, --noheading",
        "-q, --quiet", "--sort",
    ]),
    ("pull", &[
        "-a, --all-tags", "--arch", "--authfile", "--cert-dir", "--creds", "--disable-content-trust", "--os",
        "--platform", "-q, --quiet", "--tls-verify", "--variant",
    ]),
    ("load", &[
        "-i, --input", "-q, --quiet",
    ]),
    ("save", &[
        "--compress", "--format", "-m, --multi-image-archive", "-o, --output", "-q, --quiet", "--uncompressed",
    ]),
    ("rmi", &[
        "-a, --all", "-f, --force", "-i, --ignore", "--no-prune",
    ]),
    ("volume create", &[
        "--driver", "-l, --label", "-o, --opt",
    ]),
    ("volume ls", &[
        "-f, --filter", "--format", "--noheading", "-q, --quiet",
    ]),
    ("volume inspect", &[
        "-a, --all", "-f, --format",
    ]),
    ("volume rm", &[
        "-a, --all", "-f, --force", "-t, --time",
    ]),
    ("volume prune", &[
        "--filter", "-f, --force",
    ]),
    ("volume exists", &[]),
    ("volume export", &["-o, --output"]),
    ("volume import", &[]),
    ("volume mount", &[]),
    ("volume reload", &[]),
    ("volume unmount", &[]),
    ("version", &[
        "-f, --format",
    ]),
    ("info", &[
        "-f, --format",
    ]),
];

/// Flags that are here and differ from podman's, for these verbs or (none named) for all.
const DIFFERENT: &[(&[&str], &str, &str)] = &[
    (&["run"], "--attach", "chooses outputs; standard input is carried with `-i`, as in podman"),
    (&["run"], "--add-host", "`host-gateway` is the guest's gateway"),
    (&["run"], "--cgroup-parent", "of the VM's processes; there is a cgroup only where one is asked for"),
    (&["run"], "--cgroup-conf", "also with the first version of cgroups, in whose files it is written"),
    (&["run"], "--cpus", "the machine has as many processors, rounded up"),
    (&["run"], "--detach-keys", "looked for only where the container has a terminal: a pipe may carry any bytes"),
    (&["exec"], "--detach-keys", "looked for only where the command has a terminal"),
    (&["attach"], "--detach-keys", "looked for only where the container has a terminal"),
    (&["run", "exec"], "--tty", "a shell alone that is run at a terminal has `-it` by itself"),
    (&["run", "exec"], "--interactive", "a shell alone that is run at a terminal has `-it` by itself"),
    (&["run"], "--log-opt", "`max-size` only; the log has two files of that size"),
    (&["run"], "--memory", "the machine has as much, and what its kernel needs"),
    (&["run"], "--network", "`rootless` or `none`: every VM has a network of its own"),
    (&["run", "exec"], "--privileged", "all capabilities, and the guest's devices; none of the host"),
    (&["run"], "--platform", "only one that the host's processor runs by itself"),
    (&["run"], "--rootfs", "the directory is copied into a disk, not shared"),
    (&["run"], "--ulimit", "the defaults are the guest's own"),
    (&["ps"], "--format", "`{{.State}}` is the bare state; podman 4.3 gives what `{{.Status}}` gives"),
    (&["exec"], "--user", "one that the image does not have ends it with 126, in podman with 255"),
    (&["rm"], "--volumes", "says nothing new: anonymous volumes are on a VM's disk, which goes with it"),
    (&["run"], "--volume", "also `fork`, `events`; a volume without a source is on the VM's disk; see volumes.md"),
    (&["volume create"], "--opt", "refused with a sentence: a volume is a directory of this host"),
    (
        &["commit"],
        "--format",
        "`oci` or `docker`, and the same image here: it is for either, and keeps its health check",
    ),
    (&["commit"], "--squash", "says nothing new: an image that is made here always has one layer"),
    (&["save"], "--format", "not `docker-dir`; an image has one layer in what is saved, and so perhaps another id"),
    (&["images"], "--all", "says nothing new: no image is hidden"),
];

/// What a flag of podman is here.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    Same,
    Different(String),
    Refused(&'static str),
}

/// Writes the table of all flags.
pub(crate) fn document(command: &clap::Command) -> String {
    let mut text = HEAD.to_owned();
    for (verb, flags) in PODMAN {
        let _to_a_string = write!(text, "\n## {verb}\n\n");
        let Some(here) = find(command, verb) else {
            let _to_a_string =
                writeln!(text, "Not here: {}.", unsupported::command(verb).unwrap_or("it is not supported"));
            continue;
        };
        if flags.is_empty() {
            text.push_str("It has no flags.\n");
            continue;
        }
        text.push_str("| flag | here |\n| --- | --- |\n");
        for flag in *flags {
            let standing = match standing(verb, here, flag) {
                Standing::Same => "same".to_owned(),
                Standing::Different(how) => format!("differs: {how}"),
                Standing::Refused(why) => format!("refused: {why}"),
            };
            let _to_a_string = writeln!(text, "| `{}` | {standing} |", flag.replace(", ", "`, `"));
        }
    }
    text
}

/// A verb of one or two words.
fn find<'c>(command: &'c clap::Command, verb: &str) -> Option<&'c clap::Command> {
    verb.split(' ').try_fold(command, |command, word| command.find_subcommand(word))
}

const HEAD: &str = "\
# Podman's flags

What every flag of podman 4.3 is in `fcvm` and `fcvm podman`: the same, different, or refused by its name with exit code 125.
Flags of our own are in `fcvm VERB --help`. This page is made by `fcvm flags`; do not edit it.

What podman ends with 255 (an `exec` that could not begin) ends with 125 here, as every failure of `fcvm` itself.
`attach` writes no empty line at the end, and its exit code is podman's: 0, however the container ends. A client that dies
takes its `exec` with it; one that leaves it by the detach keys does not.
";

fn standing(verb: &str, here: &clap::Command, flag: &str) -> Standing {
    let (short, long) = match flag.split_once(", ") {
        Some((short, long)) => (Some(short), long),
        None => (None, flag),
    };
    let names =
        |arg: &&clap::Arg| arg.get_long_and_visible_aliases().into_iter().flatten().any(|name| long[2..] == *name);
    let Some(arg) = here.get_arguments().find(names) else {
        let reason = unsupported::reason(verb, long).or_else(|| unsupported::reason(verb, short?));
        return Standing::Refused(reason.unwrap_or("it is not supported"));
    };
    let known =
        |(verbs, name, _): &&(&[&str], &str, &str)| *name == long && (verbs.is_empty() || verbs.contains(&verb));
    let mut how: Vec<String> = DIFFERENT.iter().filter(known).map(|(.., how)| (*how).to_owned()).collect();
    if let Some(letter) = short.and_then(|short| short.chars().nth(1))
        && arg.get_short() != Some(letter)
    {
        how.push(format!("not by `-{letter}`"));
    }
    if how.is_empty() { Standing::Same } else { Standing::Different(how.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn differences_are_told_of_flags_that_are_here() {
        let command = crate::args::command();
        for (verbs, flag, _) in DIFFERENT {
            for verb in *verbs {
                let (_, flags) = PODMAN.iter().find(|(name, _)| name == verb).expect("a verb of podman");
                assert!(flags.iter().any(|known| known.ends_with(flag)), "podman {verb} has no {flag}");
                let here = find(&command, verb).expect("a verb of ours");
                let long = |arg: &clap::Arg| arg.get_long() == Some(&flag[2..]);
                assert!(here.get_arguments().any(long), "{verb} has no {flag}");
            }
        }
    }

    #[test]
    fn a_flag_is_the_same_different_or_refused() {
        let command = crate::args::command();
        let run = |flag| standing("run", command.find_subcommand("run").unwrap(), flag);
        assert_eq!(run("-d, --detach"), Standing::Same);
        assert!(matches!(run("--network"), Standing::Different(how) if how.contains("rootless")));
        assert!(matches!(run("--device"), Standing::Refused(why) if why.contains("kernel of its own")));
        assert_eq!(run("--sdnotify"), Standing::Refused("it is not supported"));
    }

    #[test]
    fn the_table_lists_what_podman_has() {
        let version = Command::new("podman").arg("--version").output();
        let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        if !version.contains(" 4.3.") {
            eprintln!("no podman 4.3 is here: its flags are not compared");
            return;
        }
        for (verb, flags) in PODMAN {
            let help = Command::new("podman").args(verb.split(' ')).arg("--help").output().unwrap();
            let help = String::from_utf8(help.stdout).unwrap();
            let flag =
                |line: &str| line.split_whitespace().take(2).find(|word| word.starts_with("--")).map(str::to_owned);
            let theirs: Vec<String> =
                help.lines().map(str::trim).filter(|line| line.starts_with('-')).filter_map(flag).collect();
            let theirs: Vec<&str> = theirs.iter().map(String::as_str).filter(|flag| *flag != "--help").collect();
            let ours: Vec<&str> = flags.iter().map(|flag| flag.rsplit(' ').next().unwrap_or(flag)).collect();
            assert_eq!(ours, theirs, "podman {verb}");
        }
    }
}
