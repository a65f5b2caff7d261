//! One container of each, and every way to run a command in it.

use fcvm_e2e::podman::{FLAGS, Podman};
use fcvm_e2e::{BUSYBOX, Finished, Host};

/// A command, as it is typed behind `exec`.
struct Case {
    flags: &'static [&'static str],
    command: &'static [&'static str],
    stdin: &'static [u8],
    said: Said,
}

/// Whose words are on standard error.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    /// The command's own.
    ByCommand,
    /// Those of podman, or of `fcvm`: each has its own.
    ByClient,
}

const fn case(flags: &'static [&'static str], command: &'static [&'static str]) -> Case {
    Case { flags, command, stdin: b"", said: Said::ByCommand }
}

/// A command that is not executed.
const fn refused(flags: &'static [&'static str], command: &'static [&'static str]) -> Case {
    Case { said: Said::ByClient, ..case(flags, command) }
}

const fn fed(flags: &'static [&'static str], command: &'static [&'static str], stdin: &'static [u8]) -> Case {
    Case { stdin, ..case(flags, command) }
}

/// A script of a shell.
macro_rules! sh {
    ($script:literal) => {
        case(&[], &["sh", "-c", $script])
    };
    ($flags:expr, $script:literal) => {
        case(&$flags, &["sh", "-c", $script])
    };
    ($flags:expr, $script:literal, $stdin:expr) => {
        fed(&$flags, &["sh", "-c", $script], $stdin)
    };
}

const ALL: &[u8] = &{
    let mut all = [0; 256];
    let mut index = 0;
    while index < 256 {
        all[index] = index as u8;
        index += 1;
    }
    all
};
const MEBIBYTE: &[u8] = &[b'm'; 1 << 20];

#[rustfmt::skip]
const CASES: &[Case] = &[
    // What is written.
    sh!("i=0; while [ $i -lt 256 ]; do printf \"\\\\$(printf %03o $i)\"; i=$((i+1)); done"),
    fed(&["-i"], &["cat"], ALL),
    sh!("printf 'a\\r\\nb\\r\\n'"),
    sh!("printf 'a\\0b\\0'"),
    sh!("printf 'no line feed'"),
    sh!(":"),
    sh!("printf '\\n\\n\\n'"),
    sh!("printf '\\377\\376\\200 is not UTF-8\\n'"),
    sh!("printf 'ein Wörtlein, 漢字, 🦀\\n'"),
    sh!("printf '\\033[31mred\\033[0m\\007\\t|\\v|\\f|\\b\\n'"),
    sh!("head -c 100000 /dev/zero | tr '\\0' x"),
    sh!("yes | head -c 1048576"),
    sh!("dd if=/dev/zero bs=1M count=8 2>/dev/null"),
    sh!("echo out; echo err >&2"),
    sh!("head -c 262144 /dev/zero | tr '\\0' e >&2"),
    sh!("for i in 1 2 3; do echo out $i; echo err $i >&2; done"),
    sh!("seq 1 20000"),
    // How it ends.
    case(&[], &["true"]), case(&[], &["false"]),
    sh!("exit 2"), sh!("exit 42"), sh!("exit 125"), sh!("exit 126"), sh!("exit 127"), sh!("exit 128"), sh!("exit 255"),
    sh!("exit 256"),
    sh!("kill -HUP $$"), sh!("kill -INT $$"), sh!("kill -KILL $$"), sh!("kill -USR1 $$"), sh!("kill -SEGV $$"),
    sh!("kill -PIPE $$"), sh!("kill -TERM $$"),
    sh!("false | true"), sh!("echo before; exit 9"), sh!("trap 'echo bye; exit 3' EXIT; echo hi"),
    sh!("yes | head -n 1; echo $?"),
    // What cannot be run.
    refused(&[], &["no-such-program"]), refused(&[], &["/no/such/program"]), refused(&[], &["/etc/noexec"]),
    refused(&[], &["/bin"]), refused(&[], &[""]), refused(&["-w", "/no/such/place"], &["pwd"]),
    refused(&["-e", "PATH=/none"], &["ls"]),
    sh!("exec no-such-program 2>/dev/null"),
    // Where, and as whom.
    case(&["-w", "/tmp"], &["pwd"]), case(&["--workdir=/"], &["pwd"]), case(&[], &["pwd"]),
    case(&["-u", "alice"], &["id"]), case(&["-u", "1000"], &["id"]), case(&["-u", "1000:50"], &["id"]),
    case(&["-u", "alice:staff"], &["id"]), case(&["-u", "4242"], &["id"]), case(&["-u", "0"], &["id"]),
    case(&["-u", "root:alice"], &["id"]), case(&["--user=alice", "-w", "/www"], &["sh", "-c", "whoami; pwd; echo $HOME"]),
    sh!(["-u", "4242"], "echo $HOME"), sh!("umask"), sh!("id -G"),
    // With what variables.
    sh!(["-e", "A=1"], "echo $A"), sh!(["-e", "A=1", "-e", "A=2"], "echo $A"), sh!(["-e", "A="], "echo \"[$A]\""),
    sh!(["-e", "NEVER_SET_ANYWHERE"], "echo \"[$NEVER_SET_ANYWHERE]\""), sh!(["--env=A=b c = d"], "echo \"$A\""),
    sh!(["-e", "A=line\nline"], "echo \"$A\""), sh!(["-e", "HOME=/x"], "echo $HOME"), sh!("echo $PATH $HOME $TERM"),
    sh!(["-u", "alice"], "echo $HOME"), sh!("echo $OF_THE_CONTAINER"), sh!(["-e", "OF_THE_CONTAINER=no"], "echo $OF_THE_CONTAINER"),
    // What is read.
    case(&[], &["cat"]), fed(&["-i"], &["cat"], b""), fed(&["-i"], &["wc", "-c"], MEBIBYTE),
    // Podman sometimes loses what a program writes that ends before it has read all.
    fed(&["-i"], &["true"], MEBIBYTE), fed(&[], &["cat"], b"not carried"),
    sh!(["-i"], "read one; echo \"$one\"; cat", b"first\nsecond\nthird"),
    sh!(["-i"], "cat >/dev/null; echo after the end; exit 4", b"x"), fed(&["-i"], &["od", "-c"], b"\r\n\x1a\x04\x03"),
    // Who holds what.
    sh!("sleep 3 & echo early"), sh!("sleep 3 >/dev/null 2>&1 & echo early"), sh!("exec >&-; echo lost; echo err >&2"),
    // Words.
    case(&[], &["printf", "%s|", "a b", "", "*", "$HOME", "'", "\"", "\\", "-x", "--", "ö", "two\nlines"]),
    case(&[], &["echo", "-e", "-w", "--user"]), case(&[], &["sh", "-c", "echo $0 $1 $#", "zero", "one", "two"]),
    // At a terminal of unknown size.
    sh!(["-t"], "test -t 0 && test -t 1 && test -t 2 && echo all"), sh!(["-t"], "printf 'a\\nb\\n'"),
    sh!(["-t"], "echo out; echo err >&2"), sh!(["-t"], "exit 5"), sh!(["-t"], "kill -TERM $$"), sh!(["-t"], "echo $TERM"),
    sh!(["-t"], "seq 1 20000"), sh!(["-t"], "stty -a 2>/dev/null"), sh!(["-t", "-u", "alice"], "echo here > /dev/tty"),
    sh!(["-t"], "sleep 3 & echo early"), sh!(["-t", "-w", "/tmp", "-e", "A=1"], "pwd; echo $A"),
    refused(&["-t"], &["no-such-program"]),
    fed(&["-i", "-t"], &["cat"], b"typed\n\x04"), sh!(["-i", "-t"], "read line; echo got $line", b"typed\r"),
];

/// Runs every case in both, and says all that differ.
pub(super) fn compare(podman: &Podman) {
    const CONTAINER: [&str; 5] = ["-e", "OF_THE_CONTAINER=yes", BUSYBOX, "sleep", "1000"];
    assert!(CASES.len() >= 66, "{}", CASES.len());
    let host = Host::new();
    host.start("box", &CONTAINER);
    let run = ["run", "-d", "--name", "box"].into_iter().chain(FLAGS).chain(CONTAINER);
    podman.podman(run, Vec::new()).ok();
    let mut wrong = Vec::new();
    for Case { flags, command, stdin, said } in CASES {
        let args: Vec<&str> = ["exec"].iter().chain(*flags).chain(&["box"]).chain(*command).copied().collect();
        let theirs = podman.podman(&args, stdin.to_vec());
        let ours = host.fcvm_with(&args, stdin.to_vec());
        if !alike(&theirs, &ours, *said) {
            wrong.push(format!("{args:?}\n  podman: {}\n  fcvm:   {}", shown(&theirs), shown(&ours)));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
}

fn alike(theirs: &Finished, ours: &Finished, said: Said) -> bool {
    let words = said == Said::ByClient || theirs.stderr == ours.stderr;
    theirs.code == ours.code && theirs.stdout == ours.stdout && words
}

/// The beginnings of what a command gave.
fn shown(finished: &Finished) -> String {
    let start = |bytes: &[u8]| bytes[..bytes.len().min(120)].escape_ascii().to_string();
    let Finished { code, stdout, stderr } = finished;
    format!("{code}, {} bytes {:?}, err {:?}", stdout.len(), start(stdout), start(stderr.as_bytes()))
}
