//! Who may use whom, as ARCHITECTURE.md says it: held against what cargo knows.

use std::collections::BTreeMap;
use std::process::Command;

/// Each room and the rooms of ours that it may use.
const TABLE: &[(&str, &[&str])] = &[
    ("spec", &[]),
    ("proto", &[]),
    ("sys", &[]),
    ("archive", &[]),
    ("erofs", &[]),
    ("store", &["spec", "sys"]),
    ("link", &["proto"]),
    ("image", &["archive", "erofs", "spec", "store", "sys"]),
    ("artifacts", &["erofs", "spec", "store", "sys"]),
    ("pager", &["sys"]),
    ("vmm", &["pager", "spec", "sys"]),
    ("net", &["link", "proto", "spec", "sys"]),
    ("volume", &["proto", "sys"]),
    (
        "engine",
        &["archive", "artifacts", "image", "link", "net", "pager", "proto", "spec", "store", "sys", "vmm", "volume"],
    ),
    ("cli", &["archive", "artifacts", "engine", "image", "pager", "proto", "spec", "store", "sys", "vmm", "volume"]),
    ("agent", &["archive", "link", "proto", "sys"]),
];

#[test]
fn rooms_use_only_the_rooms_that_they_may() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1", "--offline", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let table: BTreeMap<&str, &[&str]> = TABLE.iter().copied().collect();
    let mut seen = 0;
    for package in metadata["packages"].as_array().unwrap() {
        let Some(room) = package["name"].as_str().and_then(|name| name.strip_prefix("fcvm-")) else { continue };
        let Some(allowed) = table.get(room) else {
            assert_eq!(room, "e2e", "the room {room} is not in the table");
            continue;
        };
        seen += 1;
        for dependency in package["dependencies"].as_array().unwrap() {
            // What only tests use is not part of the house.
            if dependency["kind"] == "dev" {
                continue;
            }
            if let Some(used) = dependency["name"].as_str().and_then(|name| name.strip_prefix("fcvm-")) {
                assert!(allowed.contains(&used), "{room} may not use {used}");
            }
        }
    }
    assert_eq!(seen, TABLE.len(), "a room of the table is gone");
}
