//! What was asked for a VM, and the rules about it. No I/O.
