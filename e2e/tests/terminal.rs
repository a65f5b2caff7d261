//! Stories of people at a terminal.

use fcvm_e2e::{BUSYBOX, Host, Terminal};

#[test]
fn a_shell_has_a_terminal_of_the_right_size_and_keys_are_its_own() {
    let host = Host::new();
    let vm = host.start("box", &[BUSYBOX, "sleep", "1000"]);
    let mut shell = Terminal::new(&host.command(["exec", "-it", "-u", "alice", "box", "sh"]), 33, 101);
    shell.await_words("$");
    shell.type_keys("stty size; tty; test -w /dev/tty && echo mine; echo $TERM\r");
    shell.await_words("33 101");
    shell.await_words("/dev/pts/0");
    shell.await_words("mine\n");
    shell.await_words("xterm");
    shell.resize(20, 70);
    shell.type_keys("until [ \"$(stty size)\" = '20 70' ]; do :; done; echo now $(stty size)\r");
    shell.await_words("now 20 70");
    shell.type_keys("sleep 1000\r");
    let sleeping = "until ps | grep -q '[s]leep 1000$'; do :; done; echo sleeps";
    assert_eq!(vm.exec(&["timeout", "60", "sh", "-c", sleeping]).ok().text(), "sleeps");
    shell.type_keys("\x03");
    shell.type_keys("echo code $?\r");
    shell.await_words("code 130");
    shell.type_keys("exit 7\r");
    assert_eq!(shell.finish().0, 7);
    host.fcvm(["rm", "-f", "-t", "0", "box"]).ok();
    host.assert_clean();
}
