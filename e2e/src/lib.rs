//! Stories against real VMs.
