//! What a VM boots from: kernel, initramfs with the agent, guest system, scratch disk.
