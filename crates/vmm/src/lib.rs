//! Starting and steering a monitor: qemu.
