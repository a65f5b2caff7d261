//! Safe Linux: namespaces, processes, devices. The only unsafe code.

pub mod cgroup;
pub mod descriptor;
pub mod guest;
pub mod jail;
pub mod kvm;
pub mod mapping;
pub mod memfd;
pub mod process;
pub mod socket;
pub mod stamp;
pub mod thread;
pub mod tsc;
pub mod userfaultfd;
