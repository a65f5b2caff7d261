//! Writes read-only file system images without root.
