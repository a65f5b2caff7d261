//! What runs in the container, read from `/proc`.

use crate::cgroup;
use fcvm_link::{Stream, StreamError};
use fcvm_proto::census::{Census, Listener, Running};
use fcvm_proto::message::Transport;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use tokio::task::spawn_blocking;

/// Processes and sockets of one message, and characters of a command: together they fit a frame.
const PROCESSES: usize = 32;
const LISTENERS: usize = 256;
const COMMAND: usize = 200;

/// States in `/proc/net`: `TCP_LISTEN`; a UDP socket that is connected to nobody is in `TCP_CLOSE`.
const LISTEN: &str = "0A";
const UNCONNECTED: &str = "07";

/// Answers with what runs in a container, given by its first process.
pub(crate) async fn answer(container: Option<i32>, stream: Stream) {
    let (sender, mut receiver) = stream.split();
    let sent = async {
        let Some(first) = container else { return Ok(()) };
        // Who is looked at may wait for a volume.
        let processes = spawn_blocking(processes).await.unwrap_or_default();
        for processes in processes.chunks(PROCESSES) {
            sender.message(&Census { processes: processes.to_vec(), ..Census::default() }).await?;
        }
        for listeners in listeners(first).chunks(LISTENERS) {
            sender.message(&Census { listeners: listeners.to_vec(), ..Census::default() }).await?;
        }
        Ok::<_, StreamError>(())
    };
    if sent.await.is_ok() {
        sender.finish();
        let _ = receiver.recv().await;
    }
}

fn processes() -> Vec<Running> {
    let all = cgroup::processes_below(Path::new(cgroup::CONTAINER));
    all.into_iter().filter_map(process).collect()
}

/// One that has ended meanwhile is none.
fn process(pid: i32) -> Option<Running> {
    let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).ok();
    let (status, stat) = (read("status")?, read("stat")?);
    let (status, stat) = (String::from_utf8_lossy(&status), String::from_utf8_lossy(&stat));
    let line = read("cmdline")?;
    let words = String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ");
    let command = if words.is_empty() { name_of(&stat)?.to_owned() } else { words };
    Some(Running {
        pid: number_inside(&status)?,
        started: start_of(&stat)?,
        command: command.chars().take(COMMAND).collect(),
    })
}

/// The number in the innermost namespace.
fn number_inside(status: &str) -> Option<i32> {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().next_back()?.parse().ok()
}

/// The name is in brackets and may hold any.
fn name_of(stat: &str) -> Option<&str> {
    Some(&stat[stat.find('(')? + 1..stat.rfind(')')?])
}

fn start_of(stat: &str) -> Option<u64> {
    // Field 22 of proc(5); the state, field 3, is the first behind the name.
    stat[stat.rfind(')')? + 1..].split_whitespace().nth(22 - 3)?.parse().ok()
}

/// The listening sockets of a process's network.
fn listeners(pid: i32) -> Vec<Listener> {
    let tables = [
        ("tcp", Transport::Tcp, LISTEN),
        ("tcp6", Transport::Tcp, LISTEN),
        ("udp", Transport::Udp, UNCONNECTED),
        ("udp6", Transport::Udp, UNCONNECTED),
    ];
    let mut found = Vec::new();
    for (name, protocol, state) in tables {
        let table = fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
        found.extend(table.lines().skip(1).filter_map(|line| listener(line, protocol, state)));
    }
    found.sort_unstable();
    // Several sockets may share a port.
    found.dedup();
    found
}

fn listener(line: &str, protocol: Transport, listening: &str) -> Option<Listener> {
    let mut fields = line.split_whitespace();
    let (local, state) = (fields.nth(1)?, fields.nth(1)?);
    let (address, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    (state == listening).then_some(Listener { protocol, address: address_of(address)?, port })
}

/// Words of 32 bits in hexadecimal, each in the processor's order of bytes.
fn address_of(text: &str) -> Option<IpAddr> {
    let word = |digits: &[u8]| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok().map(u32::to_ne_bytes);
    let words: Vec<[u8; 4]> = text.as_bytes().chunks(8).map(word).collect::<Option<_>>()?;
    match words.as_slice() {
        [word] => Some(Ipv4Addr::from(*word).into()),
        words => Some(Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_read_from_proc() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let own = process(pid).unwrap();
        assert_eq!(own.pid, pid);
        assert!(own.started > 0 && own.command.contains("fcvm"), "{own:?}");
        assert_eq!(process(i32::MAX), None);
    }

    #[test]
    fn names_with_brackets_and_blanks_do_not_confuse() {
        let stat = "7 (a) b ( c)) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4321 1 1";
        assert_eq!((name_of(stat), start_of(stat)), (Some("a) b ( c)"), Some(4321)));
        assert_eq!((name_of("7"), start_of("7 (x) S")), (None, None));
    }

    #[test]
    fn sockets_that_listen_are_told_from_others() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = std::net::UdpSocket::bind("127.0.0.2:0").unwrap();
        let client = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        let found = listeners(std::process::id().cast_signed());
        let has = |port: u16| found.iter().find(|listener| listener.port == port);
        for (protocol, end) in [(Transport::Tcp, tcp.local_addr()), (Transport::Udp, udp.local_addr())] {
            let end = end.unwrap();
            assert_eq!(has(end.port()), Some(&Listener { protocol, address: end.ip(), port: end.port() }));
        }
        assert_eq!(has(client.local_addr().unwrap().port()), None);
        assert_eq!(address_of("00000000000000000000000001000000"), Some(Ipv6Addr::LOCALHOST.into()));
        assert_eq!((address_of("0100007F0100007F"), address_of("x"), address_of("")), (None, None, None));
    }
}
