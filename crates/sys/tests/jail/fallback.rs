//! Jails on hosts that allow no user namespaces.
//!
//! Such a host is a user namespace with all of its users in which no further one may be made.

use crate::program::{entrance, run, shell};
use fcvm_sys::jail;
use rustix::thread::UnshareFlags;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, ExitCode, Stdio};

pub(crate) const TESTS: &[crate::Test] = &[
    ("without_user_namespaces_root_makes_the_others", as_root),
    ("without_namespaces_the_rest_of_the_jail_still_holds", as_user),
];

const SCRIPT: &str = "id -u; setpriv -d; echo $$; touch /touched || echo closed";

fn as_root() {
    let text = restricted("0");
    assert!(text.contains("no user namespace (this host allows no more of them)"), "{text}");
    for line in ["65534\n", "no_new_privs: 1", "Capability bounding set: [none]", "\n1\n", "closed"] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

fn as_user() {
    let text = restricted("65533");
    assert!(text.contains("no namespaces (this host allows no more of them)"), "{text}");
    for line in ["65533\n", "no_new_privs: 1", "closed"] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

/// Runs an owner with this user's number on a restricted host; returns what it says.
fn restricted(user: &str) -> String {
    let mut owner = Command::new("/proc/self/exe")
        .args([crate::RESTRICTED, user])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(owner.stdout.take().unwrap());
    let mut text = String::new();
    output.read_line(&mut text).unwrap();
    for map in ["uid_map", "gid_map"] {
        std::fs::write(format!("/proc/{}/{map}", owner.id()), "0 0 65536").unwrap();
    }
    owner.stdin.take().unwrap().write_all(b"\n").unwrap();
    output.read_to_string(&mut text).unwrap();
    assert!(owner.wait().unwrap().success());
    text
}

/// Becomes the owner on a restricted host, and says what isolation its jail has and what a program sees there.
pub(crate) fn own_a_jail(user: &str) -> ExitCode {
    // SAFETY: this process has one thread.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER) }.unwrap();
    println!("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    std::fs::write("/proc/sys/user/max_user_namespaces", "0").unwrap();
    if user != "0" {
        let (uid, gid) = (rustix::fs::Uid::from_raw(user.parse().unwrap()), rustix::fs::Gid::from_raw(65533));
        rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
        rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
    }
    println!("{}", jail::probe(&entrance()).unwrap());
    println!("{}", run(shell(SCRIPT)).0);
    ExitCode::SUCCESS
}
