//! Who the program is: its namespaces, its user, its capabilities.

use super::handover::{Failure, Order};
use super::{Device, DeviceNodes, INSIDE_ID, Isolation, Network, Role, room};
use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::process::DumpableBehavior;
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};
use std::io;
use std::os::unix::fs::MetadataExt;

/// Leaves the host's namespaces, as far as the host allows. The pid namespace is that of the next child.
///
/// Root turns into the order's user first, so that the namespaces are an unprivileged user's in either case. What root
/// may is kept for the moment, for hosts where only root may unshare; anyone else's order names that user afterwards.
pub(super) fn unshare(order: &mut Order) -> Result<Isolation, Failure> {
    match order.role {
        Role::Program => unshare_as_nobody(order),
        Role::FileServer(_) => unshare_as_owner(order),
    }
}

/// Leaves the host's namespaces as the user who started this, who is root inside. Without namespaces nothing would keep
/// the server in its volumes, so there is none then.
fn unshare_as_owner(order: &Order) -> Result<Isolation, Failure> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if uid.is_root() {
        leave(namespaces(order.network)).map_err(Failure::at("leave the host's namespaces"))?;
        return Ok(Isolation::WithoutUserNamespace { reason: "files have owners of the host".to_owned() });
    }
    let wanted = namespaces(order.network) | UnshareFlags::NEWUSER;
    leave(wanted).map_err(Failure::at("leave the host's namespaces"))?;
    write_map("setgroups", "deny")?;
    write_map("uid_map", &format!("0 {uid} 1"))?;
    write_map("gid_map", &format!("0 {gid} 1"))?;
    Ok(Isolation::Full)
}

fn unshare_as_nobody(order: &mut Order) -> Result<Isolation, Failure> {
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        become_user(order)?;
    } else {
        order.user = uid.as_raw();
    }
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let wanted = namespaces(order.network);
    let Err(refused) = leave(wanted | UnshareFlags::NEWUSER) else {
        map_ids(uid, gid)?;
        return Ok(Isolation::Full);
    };
    let reason = refusal(refused);
    Ok(match leave(wanted) {
        Ok(()) => Isolation::WithoutUserNamespace { reason },
        Err(_) => Isolation::ProcessOnly { reason },
    })
}

fn leave(namespaces: UnshareFlags) -> Result<(), Errno> {
    // SAFETY: the flags hold no CLONE_FILES or CLONE_FS, so no descriptor and no directory is unshared under a thread's
    // feet; and this process has one thread.
    unsafe { rustix::thread::unshare_unsafe(namespaces) }
}

fn namespaces(network: Network) -> UnshareFlags {
    let always = UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWCGROUP;
    match network {
        Network::Empty => always | UnshareFlags::NEWNET,
        Network::Host => always,
    }
}

fn refusal(error: Errno) -> String {
    match error {
        Errno::PERM | Errno::ACCESS => "this host does not let this user make one".to_owned(),
        Errno::NOSPC | Errno::USERS => "this host allows no more of them".to_owned(),
        Errno::INVAL => "the kernel has none".to_owned(),
        other => io::Error::from(other).to_string(),
    }
}

/// Turns root into the order's user, with root's user id saved and its capabilities kept for the moment.
fn become_user(order: &Order) -> Result<(), Failure> {
    let groups: Vec<Gid> = order.devices.iter().filter_map(|device| device_group(*device)).collect();
    let (uid, gid) = (Uid::from_raw(order.user), Gid::from_raw(order.group));
    rustix::thread::set_thread_groups(&groups).map_err(Failure::at("set the groups"))?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(Failure::at("change the group"))?;
    rustix::thread::set_thread_res_uid(uid, uid, Uid::ROOT).map_err(Failure::at("change the user"))?;
    let held = rustix::thread::capabilities(None).map_err(Failure::at("read the capabilities"))?;
    let raised = CapabilitySets { effective: held.permitted, ..held };
    rustix::thread::set_capabilities(None, raised).map_err(Failure::at("keep the capabilities"))
}

/// Returns the group that may open a device, unless that is root's.
fn device_group(device: Device) -> Option<Gid> {
    let group = std::fs::metadata(room::device_path(device)).ok()?.gid();
    (group != 0).then(|| Gid::from_raw(group))
}

/// Maps this process's user and group, and nobody else, to [`INSIDE_ID`].
fn map_ids(uid: Uid, gid: Gid) -> Result<(), Failure> {
    dumpable()?;
    write_map("setgroups", "deny")?;
    write_map("uid_map", &format!("{INSIDE_ID} {uid} 1"))?;
    write_map("gid_map", &format!("{INSIDE_ID} {gid} 1"))?;
    forbid_further_ones();
    // Root's saved user id goes here.
    let (uid, gid) = (Uid::from_raw(INSIDE_ID), Gid::from_raw(INSIDE_ID));
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(Failure::at("take the group inside"))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(Failure::at("take the user inside"))?;
    dumpable()
}

/// In a further user namespace a program would have every capability again. Where `/proc/sys` is read-only, as in many
/// containers, this is left out: it is one barrier of several.
fn forbid_further_ones() {
    let _is_read_only = std::fs::write("/proc/sys/user/max_user_namespaces", "0");
}

/// A change of user makes the files of `/proc/self` root's; this gives them back.
fn dumpable() -> Result<(), Failure> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(Failure::at("own /proc/self"))
}

fn write_map(file: &str, text: &str) -> Result<(), Failure> {
    std::fs::write(format!("/proc/self/{file}"), text).map_err(Failure::at(format!("write {file}")))
}

/// Gives up every privilege that the role does not take, and the way back to it.
pub(super) fn renounce(order: &Order, isolation: &Isolation) -> Result<(), Failure> {
    match order.role {
        Role::Program => renounce_all(order, isolation),
        Role::FileServer(devices) => keep(of_files(devices)),
    }
}

/// What it takes to act on files as anyone, to find them by their handles, and nothing else.
fn of_files(devices: DeviceNodes) -> CapabilitySet {
    let always = CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::DAC_READ_SEARCH
        | CapabilitySet::FOWNER
        | CapabilitySet::FSETID
        | CapabilitySet::SETGID
        | CapabilitySet::SETUID
        | CapabilitySet::SETFCAP;
    match devices {
        DeviceNodes::Made => always | CapabilitySet::MKNOD,
        DeviceNodes::Refused => always,
    }
}

fn keep(kept: CapabilitySet) -> Result<(), Failure> {
    cut_bounding_set(kept)?;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).map_err(Failure::at("give up capabilities"))?;
    rustix::thread::set_no_new_privs(true).map_err(Failure::at("give up new privileges"))
}

fn renounce_all(order: &Order, isolation: &Isolation) -> Result<(), Failure> {
    cut_bounding_set(CapabilitySet::empty())?;
    if *isolation != Isolation::Full {
        let user = Uid::from_raw(order.user);
        rustix::thread::set_thread_res_uid(user, user, user).map_err(Failure::at("give up root"))?;
    }
    let none = CapabilitySet::empty();
    let nothing = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, nothing).map_err(Failure::at("give up the capabilities"))?;
    rustix::thread::set_no_new_privs(true).map_err(Failure::at("give up new privileges"))
}

fn cut_bounding_set(kept: CapabilitySet) -> Result<(), Failure> {
    let kept = |capability: &CapabilitySet| kept.contains(*capability);
    for capability in (0..u64::BITS).map(|bit| CapabilitySet::from_bits_retain(1 << bit)).filter(|bit| !kept(bit)) {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The kernel has no capability of that number, nor of a greater one.
            Err(Errno::INVAL) => break,
            // Without the privilege to do this there is none to give up.
            Err(Errno::PERM) => break,
            Err(error) => return Err(Failure::at("cut the bounding set")(error)),
        }
    }
    Ok(())
}

/// Forks a process whose parent is this one's parent. Returns its number, or nothing in the new process.
pub(super) fn fork_sibling() -> Result<Option<i32>, Failure> {
    let flags = libc::CLONE_PARENT | libc::SIGCHLD;
    // SAFETY: without CLONE_VM this is a fork: no stack and no pointer is given, and this process has one thread, so
    // no lock can be left held in the new one.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match i32::try_from(pid) {
        Ok(0) => Ok(None),
        Ok(pid) if pid > 0 => Ok(Some(pid)),
        _ => Err(Failure::at("make the program's process")(io::Error::last_os_error())),
    }
}
