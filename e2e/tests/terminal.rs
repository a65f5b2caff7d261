//! Stories of people at a terminal: theirs is as it was before, however they leave it.

use fcvm_e2e::{BUSYBOX, DEBIAN, Host, Started, Terminal, sha256};
use std::io::{BufRead, BufReader, Read, Write};

const DETACH: &str = "\x10\x11";

#[test]
fn a_shell_has_a_terminal_of_the_right_size_and_keys_are_its_own() {
    let host = Host::new();
    let vm = host.start("box", &[BUSYBOX, "sleep", "1000"]);
    let mut shell = Terminal::new(&host.command(["exec", "-it", "-u", "alice", "box", "sh"]), 33, 101);
    shell.await_words("$");
    shell.type_keys("stty size; tty; test -w /dev/tty && echo mine; echo $TERM\r");
    for words in ["33 101", "/dev/pts/0", "mine\n", "xterm"] {
        shell.await_words(words);
    }
    shell.resize(20, 70);
    shell.type_keys("until [ \"$(stty size)\" = '20 70' ]; do :; done; echo now $(stty size)\r");
    shell.await_words("now 20 70");
    shell.type_keys("sleep 1000\r");
    let sleeping = "until ps | grep -q '[s]leep 1000$'; do :; done; echo sleeps";
    assert_eq!(vm.exec(&["timeout", "60", "sh", "-c", sleeping]).ok().text(), "sleeps");
    shell.type_keys("\x03");
    shell.type_keys("echo code $?\r");
    shell.await_words("code 130");

    // Ctrl-Z lets a job stand still, Ctrl-\ ends it.
    shell.type_keys("sleep 3000\r");
    let in_front = "until busybox awk '$2 == \"(sleep)\" && $3 == \"S\" && $5 == $8 { print \"in front\" }' \
                    /proc/[0-9]*/stat 2> /dev/null | grep front; do :; done";
    let in_front = || assert_eq!(vm.exec(&["timeout", "60", "sh", "-c", in_front]).ok().text(), "in front");
    in_front();
    shell.type_keys("\x1a");
    shell.await_words("Stopped");
    shell.type_keys("fg\r");
    in_front();
    shell.type_keys("\x1c");
    shell.type_keys("echo code $?\r");
    shell.await_words("code 131");
    shell.type_keys("exit 7\r");
    assert_eq!(shell.finish().0, 7);

    // Nobody said -it: a shell alone is meant to be typed into.
    let mut shell = Terminal::new(&host.command(["exec", "box", "sh"]), 24, 80);
    shell.await_words("#");
    shell.type_keys("sleep 2000\r");
    let sleeping = "until ps | grep -q '[s]leep 2000$'; do :; done; echo sleeps";
    assert_eq!(vm.exec(&["timeout", "60", "sh", "-c", sleeping]).ok().text(), "sleeps");
    shell.type_keys(DETACH);
    assert_eq!(shell.finish().0, 0);
    assert_eq!(vm.exec(&["sh", "-c", sleeping]).ok().text(), "sleeps", "it was left alone, not ended");

    // A signal ends the client and what it had started, and the terminal is as before.
    for (signal, code) in [(15, 143), (1, 129)] {
        let shell = Terminal::new(&host.command(["exec", "-it", "box", "sh"]), 24, 80);
        shell.await_words("#");
        shell.signal(signal);
        assert_eq!(shell.finish().0, code);
    }
    host.fcvm(["rm", "-f", "-t", "0", "box"]).ok();
    host.assert_clean();
}

#[test]
fn a_shell_that_was_left_alone_is_come_back_to_after_a_snapshot_and_in_its_copies() {
    let host = Host::new();
    let mut first = Terminal::new(&host.command(["run", "-it", "--name", "box", BUSYBOX, "sh"]), 33, 101);
    first.await_words("#");
    first.type_keys("stty size\r");
    first.await_words("33 101");
    // What is typed just before someone leaves is typed.
    first.type_keys(format!("word=kept\r{DETACH}"));
    assert_eq!(first.finish().0, 0);
    host.fcvm(["snapshot", "create", "box", "--tag", "left"]).ok();

    let mut one = Terminal::new(&host.command(["attach", "box"]), 40, 120);
    let two = Terminal::new(&host.command(["attach", "--no-stdin", "box"]), 40, 120);
    one.type_keys("\r");
    two.await_words("#");
    one.type_keys("echo it was $word\r");
    one.await_words("it was kept");
    two.await_words("it was kept");
    two.signal(15);
    one.type_keys("echo still here\r");
    one.await_words("still here");
    two.await_words("still here");
    one.type_keys(DETACH);
    assert_eq!(one.finish().0, 0);

    host.fcvm(["snapshot", "run", "left", "-d", "--name", "copy"]).ok();
    let mut copy = Terminal::new(&host.command(["attach", "--detach-keys", "ctrl-x,x", "copy"]), 24, 80);
    copy.type_keys("\r");
    copy.await_words("#");
    copy.type_keys("echo $word in the copy\r");
    copy.await_words("kept in the copy");
    // The machine dies, the terminal does not.
    let monitor = host.fcvm(["inspect", "--format", "{{.Vm.MonitorPid}}", "copy"]).ok().text();
    let killed = std::process::Command::new("kill").args(["-9", &monitor]).status();
    assert!(killed.unwrap().success());
    let (code, shown) = copy.finish();
    assert_eq!(code, 125, "{shown}");

    host.fcvm(["exec", "box", "kill", "-9", "1"]);
    host.fcvm(["stop", "-t", "0", "box"]).ok();
    assert_eq!(two.finish().0, 0);
    let log = host.fcvm(["logs", "box"]).ok();
    assert!(log.text().contains("it was kept\r\n") && log.stderr.is_empty(), "{log:?}");
    for vm in ["box", "copy"] {
        host.fcvm(["rm", vm]).ok();
    }
    host.fcvm(["snapshot", "rm", "left"]).ok();
    host.assert_clean();
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody_and_goes_on_where_the_container_is() {
    /// More than waits for a client, on the way to it too.
    const BYTES: usize = 4_000_000;
    let host = Host::new();
    let script = format!(
        "while read word && test $word != go; do echo $word; done; \
         yes 0123456789 | head -c {BYTES}; echo; echo all written; read end; echo last words"
    );
    host.start("box", &["-i", BUSYBOX, "sh", "-c", &script]);
    let (slow, slow_shown) = Started::streaming(host.command(["attach", "--no-stdin", "box"]));
    let (mut quick, quick_shown) = Started::streaming(host.command(["attach", "box"]));
    let (mut slow_shown, mut quick_shown) = (BufReader::new(slow_shown), BufReader::new(quick_shown));
    let mut line = String::new();
    // Until both are there.
    std::thread::scope(|scope| {
        let first = scope.spawn(|| slow_shown.read_line(&mut String::new()).unwrap());
        while !first.is_finished() {
            quick.stdin().write_all(b"here\n").unwrap();
            quick_shown.read_line(&mut line).unwrap();
        }
    });
    slow.signal(19);
    assert_eq!(u32::try_from(host.await_stopped().pid), Ok(slow.pid()));
    quick.stdin().write_all(b"go\n").unwrap();
    while !line.ends_with("\nall written\n") {
        assert_ne!(quick_shown.read_line(&mut line).unwrap(), 0, "the other client ended");
    }

    slow.signal(18);
    quick.stdin().write_all(b"end\n").unwrap();
    let mut rest = String::new();
    slow_shown.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("\nall written\nlast words\n"), "{:?}", &rest[rest.len().saturating_sub(200)..]);
    quick.finish().ok();
    let told = slow.finish().ok().stderr;
    let number = |line: &str| line.strip_prefix("[fcvm: ")?.split(' ').next()?.parse::<usize>().ok();
    let left_out: usize = told.lines().filter_map(number).sum();
    assert!(left_out > 0, "{told:?}");
    let log = host.fcvm(["logs", "box"]).ok().stdout.len();
    let least = BYTES + "\nall written\nlast words\n".len();
    assert!((least..=log).contains(&(rest.len() + left_out)), "{} + {left_out} of {log}", rest.len());
    host.fcvm(["rm", "box"]).ok();
    host.assert_clean();
}

#[test]
fn what_is_pasted_arrives_whole() {
    let host = Host::new();
    host.start("box", &[BUSYBOX, "sleep", "1000"]);
    let raw = "stty raw -echo; echo ready; head -c 1048576 | sha256sum";
    let mut shell = Terminal::new(&host.command(["exec", "-it", "--detach-keys", "", "box", "sh", "-c", raw]), 24, 80);
    shell.await_words("ready");
    let bytes: Vec<u8> = (0..1_u32 << 20).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    shell.type_keys(&bytes);
    shell.await_words(&sha256(&bytes)[..64]);
    assert_eq!(shell.finish().0, 0);

    // Line by line, as a shell reads it: 16 KiB, between the marks of a bracketed paste.
    let mut lines =
        Terminal::new(&host.command(["exec", "-it", "box", "sh", "-c", "echo ready; cat > /tmp/pasted"]), 24, 80);
    lines.await_words("ready");
    let text: String = (0..256).map(|number| format!("{number:063}\r")).collect();
    lines.type_keys(format!("\x1b[200~{text}\x1b[201~\r\x04"));
    assert_eq!(lines.finish().0, 0);
    let pasted = format!("\x1b[200~{}\x1b[201~\n", text.replace('\r', "\n"));
    let kept = host.fcvm(["exec", "box", "cat", "/tmp/pasted"]).ok();
    assert_eq!(sha256(&kept.stdout), sha256(pasted.as_bytes()));
}

#[test]
fn archives_are_not_shown_and_not_typed() {
    let host = Host::new();
    for (args, words) in
        [(&["save", BUSYBOX][..], "standard output is a terminal"), (&["load"], "standard input is a terminal")]
    {
        let (code, shown) = Terminal::new(&host.command(args), 24, 200).finish();
        assert!(code == 125 && shown.contains(words), "{code} {shown}");
    }
}

#[test]
fn full_screen_programs_show_what_they_show_elsewhere() {
    let host = Host::debian();
    host.start("box", &[DEBIAN, "sleep", "1000"]);
    let script = "htop; seq 1 300 > /tmp/numbers; less /tmp/numbers; vi -u NONE -N /tmp/text; cat /tmp/text";
    let mut screen = Terminal::new(&host.command(["exec", "-it", "box", "sh", "-c", script]), 10, 40);
    // Processes in a frame, and a line that comes and goes.
    screen.await_screen("processes", |screen| screen.contains("PID") && screen.contains("Mem["));
    screen.type_keys("/");
    screen.await_words("Search:");
    screen.type_keys("\x1b");
    screen.await_screen("no search", |screen| !screen.contains("Search:"));
    screen.type_keys("q");
    screen.await_screen("the first page", |screen| screen.starts_with("1\n2\n") && screen.contains("\n9\n"));
    screen.type_keys(" ");
    screen.await_screen("the second page", |screen| screen.starts_with("10\n11\n") && screen.contains("\n18\n:"));
    screen.resize(6, 40);
    screen.await_screen("a smaller page", |screen| screen.starts_with("10\n") && screen.contains("\n14\n"));
    screen.type_keys("G");
    screen.await_screen("the last page", |screen| screen.starts_with("296\n") && screen.contains("300"));
    screen.type_keys("q");
    screen.await_screen("an empty editor", |screen| screen.contains("~") && !screen.contains("300"));
    screen.type_keys("ihello from an editor\x1b");
    screen.await_words("hello from an editor");
    screen.type_keys(":set lines? columns?\r");
    screen.await_words("lines=6");
    screen.type_keys("\r:wq\r");
    let (code, shown) = screen.finish();
    assert_eq!(code, 0);
    assert!(shown.ends_with("hello from an editor\r\n"), "{shown:?}");
}

#[test]
fn pipes_end_as_pipes_do() {
    let host = Host::new();
    host.start("box", &[BUSYBOX, "sleep", "1000"]);
    assert_eq!(host.fcvm_with(["run", "--rm", "-i", BUSYBOX, "cat"], b"x\n".to_vec()).ok().text(), "x");
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_cksum();
    archive.append_data(&mut header, "tmp/packed", &b"whole"[..]).unwrap();
    host.fcvm_with(["exec", "-i", "box", "tar", "x"], archive.into_inner().unwrap()).ok();
    assert_eq!(host.fcvm(["exec", "box", "cat", "/tmp/packed"]).ok().text(), "whole");
    let head = "read one; echo $one; exec cat";
    let half = host.fcvm_with(["exec", "-i", "box", "sh", "-c", head], b"one\ntwo\n".to_vec()).ok();
    assert_eq!(half.text(), "one\ntwo");
    for args in [&["exec", "box", "yes"][..], &["run", "--rm", BUSYBOX, "yes"]] {
        let (yes, stdout) = Started::streaming(host.command(args));
        drop(stdout);
        assert_eq!(yes.finish().code, 141, "{args:?}");
    }
    // A terminal with nobody at ours: output only, and all of it.
    let piped = host.fcvm(["run", "--rm", "-t", BUSYBOX, "sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!((piped.code, piped.stdout.as_slice()), (3, &b"out\r\nerr\r\n"[..]));
    let only = host.fcvm(["run", "--rm", "-a", "stderr", BUSYBOX, "sh", "-c", "echo out; echo err >&2"]).ok();
    assert_eq!((only.text().as_str(), only.stderr.as_str()), ("", "err\n"));
}
