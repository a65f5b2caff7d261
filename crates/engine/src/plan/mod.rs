//! From what was asked and what the image says to what the guest is told. Pure: one function, no I/O.

mod files;
mod oci;
mod process;

use fcvm_proto::plan::{Container, Disks, Network, Plan};
use fcvm_spec::{NetworkMode, Stdin, VmSpec};
use oci_spec::image::ImageConfiguration;

pub use process::NoCommand;

/// What the host contributes to a plan.
#[derive(Clone, Debug)]
pub struct HostFacts {
    /// Nanoseconds since 1970.
    pub time_ns: i64,
    /// Random bytes for the guest's pool.
    pub entropy: [u8; 32],
}

/// Where the agent finds its disks: the order in which the engine hands them to the monitor.
fn disks() -> Disks {
    Disks { system: "/dev/vda".to_owned(), image: "/dev/vdb".to_owned(), scratch: "/dev/vdc".to_owned() }
}

/// Computes the boot plan.
pub fn compute(spec: &VmSpec, image: &ImageConfiguration, host: &HostFacts) -> Result<Plan, NoCommand> {
    let process = process::merge(spec, image)?;
    let hostname = spec.container.hostname.clone().unwrap_or_else(|| spec.id.short().to_owned());
    let network = match spec.network {
        NetworkMode::None => Network::None,
        NetworkMode::Default | NetworkMode::Rootless { .. } => Network::Link {
            address: fcvm_net::address::GUEST,
            prefix: fcvm_net::address::PREFIX,
            gateway: fcvm_net::address::GATEWAY,
            resolver: fcvm_net::address::RESOLVER,
        },
    };
    Ok(Plan {
        time_ns: host.time_ns,
        entropy: host.entropy.iter().map(|byte| format!("{byte:02x}")).collect(),
        disks: disks(),
        container: Container {
            hosts: files::hosts(spec, &network, &hostname),
            resolv_conf: files::resolv_conf(spec, &network),
            user: process.user.clone(),
            interactive: spec.stdin == Stdin::Carried,
            init: spec.container.init,
            memory_limit: spec.container.memory,
            oci: oci::configuration(spec, process, &hostname),
        },
        machine_id: machine_id(spec),
        hostname,
        network,
    })
}

/// Returns a VM's machine id: 32 hexadecimal digits, as `machine-id(5)` wants them.
pub(crate) fn machine_id(spec: &VmSpec) -> String {
    spec.id.as_str().chars().take(32).collect()
}

/// Returns the command that a plan runs, for `ps` and `inspect`.
pub fn command(plan: &Plan) -> Vec<String> {
    let args = plan.container.oci["process"]["args"].as_array();
    args.into_iter().flatten().filter_map(|arg| arg.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests;
