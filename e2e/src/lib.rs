//! Stories against real VMs: each test has a data directory of its own and leaves nothing behind.
//!
//! `make test` says where the programs are (`FCVM_BIN`, `FCVM_AGENT_BIN`). What comes from `fcvm setup` is made once for
//! all tests of a checkout and linked into each data directory.

mod fixture;
mod host;
pub mod native;
pub mod podman;
mod program;
mod qcow2;
mod registry;
mod shared;
mod terminal;
mod traces;

pub use fixture::{
    BUSYBOX, DEBIAN, VOLUMES, busybox_archive, edition_archive, foreign_archive, hostile_archive, inotifyd,
    volumes_archive,
};
pub use host::{Host, Run, free_port, get, sha256};
pub use program::{Finished, Started};
pub use qcow2::write_qcow2;
pub use registry::{Access, PASSWORD, Registry, USER, copy_image};
pub use shared::{sh, tree, volume};
pub use terminal::Terminal;
pub use traces::Process;
