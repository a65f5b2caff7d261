//! Stories of the network: ports that lead in, connections that lead out.

use fcvm_e2e::{BUSYBOX, DEBIAN, Host, Started, free_port, get};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::process::Command;

#[test]
fn a_published_port_leads_into_the_container() {
    let host = Host::new();
    let port = free_port();
    let publish = format!("{port}:80");
    let vm = host.start("web", &["-p", &publish, BUSYBOX, "httpd", "-f", "-p", "80", "-h", "/www"]);
    // The server listens some time after its process runs; inside, that can be seen without asking it.
    let listening = "while ! grep -q ':0050 .* 0A ' /proc/net/tcp /proc/net/tcp6; do :; done";
    vm.exec(&["sh", "-c", listening]).ok();
    assert!(get(port, "/index.html").ends_with("hello from a microVM\n"));
    assert_eq!(host.fcvm(["port", "web", "80"]).ok().text(), format!("127.0.0.1:{port}"));
    let answers = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..100).map(|_| scope.spawn(|| get(port, "/index.html"))).collect();
        asked.into_iter().map(|answer| answer.join().unwrap()).filter(|text| text.contains("microVM")).count()
    });
    assert_eq!(answers, 100);
    host.fcvm(["rm", "-f", "-t", "0", "web"]).ok();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    host.assert_clean();
}

#[test]
fn both_halves_of_a_published_connection_close_on_their_own() {
    let host = Host::new();
    let port = free_port();
    let vm = host.start("echo", &["-p", &format!("{port}:7"), BUSYBOX, "nc", "-ll", "-p", "7", "-e", "cat"]);
    vm.exec(&["sh", "-c", "while ! grep -q ':0007 .* 0A ' /proc/net/tcp /proc/net/tcp6; do :; done"]).ok();
    let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let bytes = vec![0x5a; 3 << 20];
    let mut reader = connection.try_clone().unwrap();
    let echoed = std::thread::spawn(move || {
        let mut echoed = Vec::new();
        reader.read_to_end(&mut echoed).unwrap();
        echoed
    });
    connection.write_all(&bytes).unwrap();
    connection.shutdown(Shutdown::Write).unwrap();
    assert_eq!(echoed.join().unwrap().len(), bytes.len());
}

#[test]
fn a_thousand_connections_and_datagrams_share_a_machine() {
    allow_descriptors();
    let host = Host::debian();
    let [first, page] = free_ports();
    let datagrams = free_port();
    // A shell's usual limit is too low for this; the owner raises its own.
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -S -n 256 && exec \"$@\"", "sh"]);
    let run =
        ["run", "-d", "--name", "web", "-p", &format!("{first}-{page}:79-80"), "-p", &format!("{datagrams}:7/udp")];
    let fcvm = host.command(run.iter().chain(&[DEBIAN]));
    command
        .arg(fcvm.get_program())
        .args(fcvm.get_args())
        .envs(fcvm.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Started::new(command, Vec::new()).finish().ok();
    let web = host.vm("web");
    web.exec(&["sh", "-c", "until [ -s /run/nginx.pid ]; do :; done"]).ok();

    let mut connections: Vec<_> = (0..1000).map(|_| TcpStream::connect(("127.0.0.1", page)).unwrap()).collect();
    for connection in &mut connections {
        connection.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    // Each is kept open by both sides after its answer, so all of them live at one time.
    for connection in &mut connections {
        let mut answer = Vec::new();
        while !answer.ends_with(b"a page of Debian\n") {
            let mut bytes = [0; 1024];
            let count = connection.read(&mut bytes).unwrap();
            assert_ne!(count, 0, "{}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&bytes[..count]);
        }
    }
    drop(connections);
    // Nobody listens behind the range's other port.
    let mut refused = TcpStream::connect(("127.0.0.1", first)).unwrap();
    assert!(!matches!(refused.read(&mut [0]), Ok(count) if count > 0));

    let echo =
        "use IO::Socket; my $s = IO::Socket::INET->new(Proto => 'udp', LocalPort => 7) or die; $| = 1; print qq(up\\n);
        while (defined $s->recv(my $text, 65536)) { $s->send(uc $text) }";
    let (server, stdout) = Started::streaming(host.command(["exec", "web", "perl", "-e", echo]));
    assert_eq!(BufReader::new(stdout).lines().next().unwrap().unwrap(), "up");
    let clients: Vec<_> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    for (index, client) in clients.iter().enumerate() {
        client.connect(("127.0.0.1", datagrams)).unwrap();
        client.send(format!("datagram {index}").as_bytes()).unwrap();
    }
    for (index, client) in clients.iter().enumerate() {
        let mut answer = [0; 64];
        let length = client.recv(&mut answer).unwrap();
        assert_eq!(String::from_utf8_lossy(&answer[..length]), format!("DATAGRAM {index}"));
    }
    server.signal(9);
    host.fcvm(["rm", "-f", "-t", "0", "web"]).ok();
    server.finish();
    host.assert_clean();
}

/// Two free ports side by side.
fn free_ports() -> [u16; 2] {
    loop {
        let (first, second) = (free_port(), free_port());
        for port in [first, second] {
            if let Some(next) = port.checked_add(1)
                && TcpListener::bind(("127.0.0.1", next)).is_ok()
            {
                return [port, next];
            }
        }
    }
}

/// Lets this test have a thousand connections.
fn allow_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("a limit may be raised to its maximum");
}

#[test]
fn connections_and_datagrams_leave_the_guest() {
    let host = Host::new();
    let vm = host.start(
        "out",
        &["--network", "rootless:allow_host_loopback=true", "--cap-add=NET_RAW", BUSYBOX, "sleep", "1000"],
    );
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let mut text = String::new();
        connection.read_to_string(&mut text).unwrap();
        connection.write_all(text.to_uppercase().as_bytes()).unwrap();
    });
    assert_eq!(vm.exec(&["sh", "-c", &format!("echo hello | nc 10.0.2.2 {port}")]).ok().text(), "HELLO");
    server.join().unwrap();
    const REQUEST: [u8; 2] = [0, 1];
    // TFTP is the one protocol over datagrams that busybox speaks to any port: a request, one block of data, its receipt.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    let server = std::thread::spawn(move || {
        let mut buffer = [0; 600];
        loop {
            let (length, client) = socket.recv_from(&mut buffer).unwrap();
            // A request that is not answered within 50 ms is sent again.
            if buffer[..2] != REQUEST {
                return buffer[..length].to_vec();
            }
            socket.send_to(b"\0\x03\0\x01ping", client).unwrap();
        }
    });
    assert_eq!(vm.exec(&["tftp", "-g", "-r", "file", "-l", "-", "10.0.2.2", &port]).ok().text(), "ping");
    assert_eq!(server.join().unwrap(), b"\0\x04\0\x01");
    let refused = vm.exec(&["sh", "-c", &format!("nc 10.0.2.2 {} 2>&1", free_port())]);
    assert!(refused.code != 0 && refused.text().contains("refused"), "{refused:?}");
    let answered = vm.exec(&["ping", "-c", "2", "-s", "1000", "10.0.2.2"]).ok();
    assert!(answered.text().contains("2 packets received"), "{answered:?}");
    // A datagram to where nobody listens is refused as a connection is.
    let refused = vm.exec(&["nslookup", "a.test", &format!("10.0.2.2:{}", free_port())]);
    assert!(refused.code != 0 && refused.stderr.contains("refused"), "{refused:?}");
    host.fcvm(["rm", "-f", "-t", "0", "out"]).ok();
    host.assert_clean();
}

#[test]
fn what_cannot_be_reached_fails_at_once_and_nothing_leads_to_the_hosts_loopback() {
    let host = Host::new();
    let vm = host.start("closed", &[BUSYBOX, "sleep", "1000"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listener.local_addr().unwrap().port();
    for (place, words) in [
        (format!("10.0.2.2 {open}"), "refused"),
        ("10.0.2.7 80".to_owned(), "nreachable"),
        // One above the metadata, which the owner answers itself.
        ("169.254.169.253 80".to_owned(), "No route"),
        ("255.255.255.255 80".to_owned(), "nreachable"),
    ] {
        let failed = vm.exec(&["sh", "-c", &format!("nc {place} 2>&1")]);
        assert!(failed.code != 0 && failed.text().contains(words), "{place}: {failed:?}");
    }
}

#[test]
fn a_vm_without_a_network_has_no_way_out_but_can_be_entered() {
    let host = Host::new();
    let vm = host.start("none", &["--network=none", BUSYBOX, "sleep", "1000"]);
    assert_eq!(vm.exec(&["sh", "-c", "echo in | cat"]).ok().text(), "in");
    assert_eq!(vm.exec(&["ls", "/sys/class/net"]).ok().text(), "lo");
    for place in ["192.0.2.1", "10.0.2.2"] {
        let failed = vm.exec(&["sh", "-c", &format!("nc {place} 80 2>&1")]);
        assert!(failed.code != 0 && failed.text().contains("nreachable"), "{place}: {failed:?}");
    }
}
