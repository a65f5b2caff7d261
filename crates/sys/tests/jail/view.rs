//! What a jailed program sees and may do.

use crate::program::{entrance, run, shell, spawn};
use fcvm_sys::jail::{self, Access, Bind, Device, Error, Jail, Limit, Network};
use fcvm_sys::process::Ending;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

pub(crate) const TESTS: &[crate::Test] = &[
    ("only_the_binds_are_visible", sees_binds),
    ("a_program_is_alone_in_its_namespaces", is_alone),
    ("a_program_has_no_privileges_and_no_way_to_any", has_no_privileges),
    ("a_read_only_bind_cannot_be_written_and_the_other_can", writes),
    ("descriptors_are_those_handed_over_and_no_others", inherits),
    ("limits_hold", is_limited),
    ("the_environment_is_the_given_one", environment),
    ("the_host_network_is_shared_when_asked", network),
    ("a_missing_program_is_an_error", misses_program),
    ("a_missing_bind_is_an_error_that_names_it", misses_bind),
    ("a_bind_cannot_climb_out", climbs),
    ("a_device_of_roots_can_be_opened_by_its_program_and_no_other_one_can_be_made", opens_device),
];

fn opens_device() {
    let is_there = |path: &str| std::path::Path::new(path).exists();
    if !fcvm_sys::process::runs_as_root() || !is_there("/dev/kvm") {
        eprintln!("SKIPPED: this is not root, or the host has no /dev/kvm");
        return;
    }
    let mut jail = shell("( : <>/dev/kvm ) && echo opened; mknod /dev/x c 1 3 2>&1 || echo refused");
    jail.devices = vec![Device::Kvm];
    let (text, _) = run(jail);
    assert!(text.starts_with("opened\n") && text.ends_with("refused\n"), "{text}");
}

fn sees_binds() {
    let (text, ending) = run(shell("cd /; echo * etc/* dev/*; touch /x || echo closed"));
    let expected = "bin dev etc lib lib64 proc usr etc/ld.so.cache dev/fd dev/full dev/null dev/random dev/urandom \
        dev/zero\n";
    let expected = ["bin", "lib64"].iter().fold(expected.to_owned(), |expected, name| {
        let exists = std::path::Path::new("/").join(name).exists();
        if exists { expected } else { expected.replacen(&format!("{name} "), "", 1) }
    });
    assert!(text.starts_with(&expected), "{text}");
    assert!(text.ends_with("closed\n"), "{text}");
    assert_eq!(ending, Ending::Code(0));
}

fn is_alone() {
    let (text, _) = run(shell("echo $$ $PPID; uname -n; kill -0 2 || echo alone"));
    assert!(text.starts_with("1 0\nfcvm\n") && text.ends_with("alone\n"), "{text}");
    let spawned = spawn(shell("exec sleep 1000"));
    for name in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/{name}")).unwrap();
        assert_ne!(of(&spawned.child.pid().to_string()), of("self"), "{name}");
    }
}

fn has_no_privileges() {
    let (text, _) = run(shell("setpriv -d; id -u; unshare -U true || echo no user namespace"));
    for line in ["no_new_privs: 1", "Capability bounding set: [none]", "no user namespace\n"] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(text.contains(&format!("\n{}\n", jail::INSIDE_ID)), "{text}");
    let spawned = spawn(shell("exec sleep 1000"));
    let status = fs::read_to_string(format!("/proc/{}/status", spawned.child.pid())).unwrap();
    assert!(status.contains("CapEff:\t0000000000000000") && status.contains("CapPrm:\t0000000000000000"), "{status}");
    assert!(!status.contains("Uid:\t0"), "{status}");
}

fn writes() {
    let directory = tempfile::tempdir().unwrap();
    let open = |name: &str| {
        let path = directory.path().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).unwrap();
        path
    };
    let mut jail = shell("echo a > /run/vm/file; echo b > /data/file; [ -e /data/file ] || echo refused");
    jail.binds.push(Bind::new(open("writable"), "/run/vm", Access::ReadWrite));
    jail.binds.push(Bind::new(open("readable"), "/data", Access::ReadOnly));
    let (text, _) = run(jail);
    assert!(text.ends_with("refused\n"), "{text}");
    assert_eq!(fs::read_to_string(directory.path().join("writable/file")).unwrap(), "a\n");
}

fn inherits() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"handed over\n").unwrap();
    drop(writer);
    // One that a careless program left open for its children.
    let stray = fs::File::open("/etc").unwrap();
    rustix::io::fcntl_setfd(&stray, rustix::io::FdFlags::empty()).unwrap();
    let program = fs::File::open(shell("").program).unwrap();
    let script = "echo /proc/self/fd/*; cat <&3; [ /proc/self/fd/4 -ef /bin/sh ] && echo same";
    let (text, _) = run(Jail { descriptors: vec![reader.into(), program.into()], ..shell(script) });
    // 5 is the directory that the shell reads to answer.
    let numbers = [0, 1, 2, 3, 4, 5].map(|number| format!("/proc/self/fd/{number}")).join(" ");
    assert_eq!(text, format!("{numbers}\nhanded over\nsame\n"));
    drop(stray);
}

fn is_limited() {
    let limits = vec![(Limit::CoreSize, 0), (Limit::Descriptors, 100)];
    let (text, _) = run(Jail { limits, ..shell("ulimit -c; ulimit -n; ulimit -Hn") });
    assert_eq!(text, "0\n100\n100\n");
}

fn environment() {
    let environment = vec![("A".into(), "b c".into())];
    let (text, _) = run(Jail { environment, ..shell("env") });
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("PWD=") && !line.starts_with('_')).collect();
    assert_eq!(lines, ["A=b c"]);
}

fn network() {
    let spawned = spawn(Jail { network: Network::Host, ..shell("exec sleep 1000") });
    let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).unwrap();
    assert_eq!(of(&spawned.child.pid().to_string()), of("self"));
}

fn misses_program() {
    match jail::spawn(Jail::new("/nothing"), &entrance()) {
        Err(Error::Execute { program, source }) => {
            assert_eq!(program, std::path::Path::new("/nothing"));
            assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
        }
        other => panic!("{other:?}"),
    }
}

fn misses_bind() {
    let jail = Jail { binds: vec![Bind::read_only("/nothing/here")], ..Jail::new("/x") };
    let error = jail::spawn(jail, &entrance()).unwrap_err();
    assert_eq!(error.to_string(), "cannot open /nothing/here for the jail");
}

fn climbs() {
    for to in ["/../etc", "relative"] {
        let jail = Jail { binds: vec![Bind::new("/etc", to, Access::ReadOnly)], ..Jail::new("/x") };
        assert!(matches!(jail::spawn(jail, &entrance()), Err(Error::Step { .. })), "{to}");
    }
}
