//! From what was asked and what the image says to what the guest is told. Pure: one function, no I/O.

mod files;
mod mounts;
mod oci;
mod process;

use crate::health;
use fcvm_proto::message::TerminalSize;
use fcvm_proto::plan::{self, Container, Disks, ExtraDisk, Network, Plan};
use fcvm_spec::{Engine, NetworkMode, Stdin, VmSpec};
use oci_spec::image::ImageConfiguration;

pub use process::NoCommand;

/// What the host contributes to a plan.
#[derive(Clone, Debug)]
pub struct HostFacts {
    /// Nanoseconds since 1970.
    pub time_ns: i64,
    /// Random bytes for the guest's pool.
    pub entropy: [u8; 32],
    /// How large the terminal is that someone waits at, for a container with one.
    pub terminal: TerminalSize,
}

/// Where the agent finds its disks: the order in which the engine hands them to the monitor.
fn disks(spec: &VmSpec) -> Disks {
    let extra = (b'd'..).zip(&spec.machine.disks).map(|(letter, disk)| ExtraDisk {
        device: format!("/dev/vd{}", char::from(letter)),
        target: disk.target.clone(),
        read_only: disk.read_only,
    });
    let [system, image, scratch] = ["/dev/vda", "/dev/vdb", "/dev/vdc"].map(str::to_owned);
    Disks { system, image, scratch, extra: extra.collect() }
}

impl HostFacts {
    /// The random bytes as they travel.
    pub(crate) fn entropy_text(&self) -> String {
        self.entropy.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Who a guest is, for itself and for others: what a clone does not share with its snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct World {
    pub(crate) hostname: String,
    pub(crate) machine_id: String,
    pub(crate) hosts: String,
    pub(crate) resolv_conf: String,
}

/// Computes who a VM's guest is.
pub(crate) fn world(spec: &VmSpec) -> World {
    let hostname = spec.container.hostname.clone().unwrap_or_else(|| spec.id.short().to_owned());
    let network = network(spec);
    World {
        hosts: files::hosts(spec, &network, &hostname),
        resolv_conf: files::resolv_conf(spec, &network),
        machine_id: machine_id(spec),
        hostname,
    }
}

fn network(spec: &VmSpec) -> Network {
    match spec.network {
        NetworkMode::None => Network::None,
        NetworkMode::Default | NetworkMode::Rootless { .. } => Network::Link {
            address: fcvm_net::address::GUEST,
            prefix: fcvm_net::address::PREFIX,
            gateway: fcvm_net::address::GATEWAY,
            resolver: fcvm_net::address::RESOLVER,
        },
    }
}

/// Computes the boot plan.
pub fn compute(spec: &VmSpec, image: &ImageConfiguration, host: &HostFacts) -> Result<Plan, NoCommand> {
    let process = process::merge(spec, image)?;
    let World { hostname, machine_id, hosts, resolv_conf } = world(spec);
    Ok(Plan {
        time_ns: host.time_ns,
        entropy: host.entropy_text(),
        disks: disks(spec),
        container: Container {
            hosts,
            resolv_conf,
            user: process.user.clone(),
            interactive: spec.stdin == Stdin::Carried,
            init: spec.container.init,
            memory_limit: spec.container.memory,
            engine: match spec.container.engine {
                Engine::Crun => plan::Engine::Crun,
                Engine::Podman => plan::Engine::Podman,
            },
            health: health::for_podman(spec),
            places: mounts::places(&spec.container),
            oci: oci::configuration(spec, process, &hostname, host.terminal),
        },
        machine_id,
        hostname,
        network: network(spec),
    })
}

/// Returns a VM's machine id: 32 hexadecimal digits, as `machine-id(5)` wants them.
fn machine_id(spec: &VmSpec) -> String {
    spec.id.as_str().chars().take(32).collect()
}

/// Returns the command that a plan runs, for `ps` and `inspect`.
pub fn command(plan: &Plan) -> Vec<String> {
    let args = plan.container.oci["process"]["args"].as_array();
    args.into_iter().flatten().filter_map(|arg| arg.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests;
