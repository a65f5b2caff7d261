//! What docs/firecracker.md says of the monitors is what the program goes by.

use fcvm_vmm::{Features, firecracker, qemu};

const BEGIN: &str = "<!-- features: held by crates/cli/tests/firecracker.rs -->\n";
const END: &str = "<!-- end of features -->";

/// Every feature is named here, so that a new one gets its row.
fn rows(features: Features) -> [(&'static str, String); 6] {
    let Features { software_emulation, snapshots, huge_pages, qcow2, disks, cpus } = features;
    let word = |is: bool| if is { "yes" } else { "no" }.to_owned();
    [
        ("runs without KVM", word(software_emulation)),
        ("snapshots, clones, forks", word(snapshots)),
        ("memory of huge pages", word(huge_pages)),
        ("disks in files of qcow2", word(qcow2)),
        ("disks of a machine, at most", disks.to_string()),
        ("processors of a machine, at most", cpus.to_string()),
    ]
}

#[test]
fn the_table_of_features_is_that_of_the_monitors() {
    let mut table = "| | Firecracker | QEMU |\n| --- | --- | --- |\n".to_owned();
    for ((name, here), (_, there)) in rows(firecracker::FEATURES).iter().zip(rows(qemu::FEATURES)) {
        table += &format!("| {name} | {here} | {there} |\n");
    }
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/firecracker.md")).unwrap();
    let (_, rest) = text.split_once(BEGIN).expect("the table has its beginning");
    let (written, _) = rest.split_once(END).expect("the table has its end");
    assert_eq!(written, table, "the table between the marks is to be:\n{table}");
}
