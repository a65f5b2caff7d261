//! Connecting a guest: published ports, egress.
