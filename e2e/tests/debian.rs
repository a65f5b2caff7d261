//! Stories of a whole Debian: a system of many kinds of files, and nginx in it as everybody runs it.

use fcvm_e2e::{DEBIAN, Host, free_port, get};
use serde_json::{Value, json};

#[test]
fn a_debian_is_what_mmdebstrap_made() {
    let host = Host::debian();
    let script = "
        . /etc/os-release; echo $ID
        apt-get --version | head -n 1 | cut -d ' ' -f 1
        su -s /bin/sh nobody -c 'id -un; id-of-root -un; cat /etc/shadow >/dev/null 2>&1 || echo denied'
        su -s /bin/sh nobody -c '/opt/cat /etc/shadow' | head -n 1 | cut -d : -f 1
        stat -c '%h %a %U:%G' /srv/one; [ /srv/one -ef /srv/two ] && cat /srv/two
        stat -c '%F %t:%T %a' /srv/null; stat -c '%a %U:%G' /etc/shadow /tmp /usr/bin/passwd
        ls /srv";
    let made = host.fcvm(["run", "--rm", DEBIAN, "sh", "-c", script]).ok();
    let expected = [
        "debian",
        "apt",
        "nobody",
        "root",
        "denied",
        "root",
        "2 644 root:root",
        "linked",
        "character special file 1:3 666",
        "640 root:shadow",
        "1777 root:root",
        "4755 root:root",
        "null",
        "one",
        "two",
    ];
    assert_eq!(made.text().lines().collect::<Vec<_>>(), expected, "{}", made.stderr);
    host.assert_clean();
}

#[test]
fn nginx_serves_a_page_and_stops_as_its_image_says() {
    let host = Host::debian();
    let port = free_port();
    let vm = host.start("web", &["-p", &format!("127.0.0.1:{port}:80"), "--label", "tier=front", DEBIAN]);
    vm.exec(&["sh", "-c", "until [ -s /run/nginx.pid ]; do :; done"]).ok();
    assert!(get(port, "/").ends_with("a page of Debian\n"));
    let say = |args: &[&str]| host.fcvm(args).ok().text();
    assert_eq!(say(&["port", "web"]), format!("80/tcp -> 127.0.0.1:{port}"));
    let row = say(&["ps", "--format", "{{.Names}}|{{.Image}}|{{.Ports}}|{{.State}}|{{json .Labels}}"]);
    assert_eq!(row, format!("web|{DEBIAN}|127.0.0.1:{port}->80/tcp|running|{{\"tier\":\"front\"}}"));
    assert!(say(&["logs", "web"]).contains("GET / HTTP/1.0"), "{}", say(&["logs", "web"]));
    let inspected: Value = serde_json::from_str(&say(&["inspect", "web"])).unwrap();
    let web = &inspected[0];
    assert_eq!(
        (&web["Name"], &web["ImageName"], &web["State"]["Running"]),
        (&json!("web"), &json!(DEBIAN), &json!(true))
    );
    assert_eq!(web["Config"]["Cmd"], json!(["nginx", "-g", "daemon off;"]));
    assert_eq!(web["Config"]["StopSignal"], 3);
    let bound = json!([{ "HostIp": "127.0.0.1", "HostPort": port.to_string() }]);
    assert_eq!(web["NetworkSettings"]["Ports"]["80/tcp"], bound);
    // SIGQUIT lets nginx end by itself, long before SIGKILL.
    host.fcvm(["rmi", DEBIAN]).failed(2, "in use");
    assert_eq!(say(&["stop", "-t", "60", "web"]), "web");
    assert_eq!(say(&["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "web"]), "exited 0");
    assert!(host.fcvm(["logs", "web"]).ok().stderr.contains("(SIGQUIT) received, shutting down"));
    say(&["rm", "web"]);
    assert_eq!(say(&["images", "--format", "{{.Repository}}:{{.Tag}}"]), DEBIAN);
    say(&["rmi", DEBIAN]);
    assert_eq!(say(&["images", "-q"]), "");
    host.assert_clean();
}
