//! Stories of the network: ports that lead in, connections that lead out.

use fcvm_e2e::{BUSYBOX, Host, free_port};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};

fn get(port: u16) -> String {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).expect("the published port answers");
    connection.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").expect("the published port answers");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("the published port answers");
    answer
}

#[test]
fn a_published_port_leads_into_the_container() {
    let host = Host::new();
    let port = free_port();
    let publish = format!("{port}:80");
    let vm = host.start("web", &["-p", &publish, BUSYBOX, "httpd", "-f", "-p", "80", "-h", "/www"]);
    // The server listens some time after its process runs; inside, that can be seen without asking it.
    let listening = "while ! grep -q ':0050 .* 0A ' /proc/net/tcp /proc/net/tcp6; do :; done";
    vm.exec(&["sh", "-c", listening]).ok();
    assert!(get(port).ends_with("hello from a microVM\n"));
    assert_eq!(host.fcvm(["port", "web", "80"]).ok().text(), format!("127.0.0.1:{port}"));
    let answers = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..100).map(|_| scope.spawn(|| get(port))).collect();
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
fn connections_and_datagrams_leave_the_guest() {
    let host = Host::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let mut text = String::new();
        connection.read_to_string(&mut text).unwrap();
        connection.write_all(text.to_uppercase().as_bytes()).unwrap();
    });
    let flags = ["run", "--rm", "--network", "rootless:allow_host_loopback=true", BUSYBOX];
    let script = format!("echo hello | nc 10.0.2.2 {port}");
    assert_eq!(host.fcvm(flags.iter().copied().chain(["sh", "-c", &script])).ok().text(), "HELLO");
    server.join().unwrap();
    // TFTP is the one protocol over datagrams that busybox speaks to any port: a request, one block of data, its receipt.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let mut buffer = [0; 600];
        let (_, client) = socket.recv_from(&mut buffer).unwrap();
        socket.send_to(b"\0\x03\0\x01ping", client).unwrap();
        let (length, _) = socket.recv_from(&mut buffer).unwrap();
        buffer[..length].to_vec()
    });
    let fetch = ["tftp", "-g", "-r", "file", "-l", "-", "10.0.2.2", &port.to_string()].map(str::to_owned);
    let command = flags.iter().map(|flag| (*flag).to_owned()).chain(fetch);
    assert_eq!(host.fcvm(command).ok().text(), "ping");
    assert_eq!(server.join().unwrap(), b"\0\x04\0\x01");
    host.assert_clean();
}

#[test]
fn a_refused_connection_is_refused_at_once_and_none_leads_to_the_hosts_loopback() {
    let host = Host::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listener.local_addr().unwrap().port();
    let script = format!("nc 10.0.2.2 {open} 2>&1");
    let closed = host.fcvm(["run", "--rm", BUSYBOX, "sh", "-c", &script]);
    assert!(closed.code != 0 && closed.text().contains("refused"), "{closed:?}");
    let script = format!("nc 10.0.2.2 {} 2>&1", free_port());
    let refused =
        host.fcvm(["run", "--rm", "--network=rootless:allow_host_loopback=true", BUSYBOX, "sh", "-c", &script]);
    assert!(refused.code != 0 && refused.text().contains("refused"), "{refused:?}");
    let none = host.fcvm(["run", "--rm", "--network=none", BUSYBOX, "sh", "-c", "nc 192.0.2.1 80 2>&1"]);
    assert!(none.code != 0 && none.text().contains("nreachable"), "{none:?}");
}
