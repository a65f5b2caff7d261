//! The small files that every container is given: `/etc/hosts` and `/etc/resolv.conf`.

use fcvm_proto::plan::Network;
use fcvm_spec::VmSpec;
use std::fmt::Write;

pub(super) fn hosts(spec: &VmSpec, network: &Network, hostname: &str) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost localhost.localdomain\n::1\tlocalhost localhost.localdomain\n");
    let mut line = |address: &dyn std::fmt::Display, names: &str| {
        writeln!(text, "{address}\t{names}").expect("a string takes all that is written");
    };
    let gateway = match network {
        Network::Link { gateway, .. } => Some(std::net::IpAddr::V4(*gateway)),
        Network::None => None,
    };
    for entry in &spec.container.add_host {
        if let Some(address) = entry.address.or(gateway) {
            line(&address, &entry.name);
        }
    }
    if let Network::Link { address, gateway, .. } = network {
        line(gateway, "host.containers.internal");
        line(address, &format!("{hostname} {}", spec.name));
    }
    text
}

pub(super) fn resolv_conf(spec: &VmSpec, network: &Network) -> String {
    let Network::Link { resolver, .. } = network else { return String::new() };
    match spec.container.dns.as_slice() {
        [] => format!("nameserver {resolver}\n"),
        servers => servers.iter().map(|server| format!("nameserver {server}\n")).collect(),
    }
}
