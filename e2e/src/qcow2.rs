//! A disk in QEMU's format, made of a plain one: the host need not have `qemu-img`.

use std::fs;
use std::path::Path;

const CLUSTER: usize = 64 << 10;

/// Writes all of a small disk, at most 512 MiB, as version 2 of the format: header, refcounts, two levels of tables, data.
pub fn write_qcow2(from: &Path, to: &Path) {
    let mut data = fs::read(from).expect("read the disk");
    let size = data.len();
    data.resize(size.next_multiple_of(CLUSTER), 0);
    let (refcount_table, refcounts, first, second, begin) = (1, 2, 3, 4, 5);
    let count = data.len() / CLUSTER;
    assert!(count <= CLUSTER / 8, "one table is enough");
    let mut file = vec![0; begin * CLUSTER];
    let mut put = |place: usize, bytes: &[u8]| file[place..place + bytes.len()].copy_from_slice(bytes);
    let place = |cluster: usize| ((cluster * CLUSTER) as u64).to_be_bytes();
    let copied = |cluster: usize| ((cluster * CLUSTER) as u64 | 1 << 63).to_be_bytes();
    put(0, b"QFI\xfb");
    put(4, &2_u32.to_be_bytes());
    put(20, &16_u32.to_be_bytes());
    put(24, &(size as u64).to_be_bytes());
    put(36, &1_u32.to_be_bytes());
    put(40, &place(first));
    put(48, &place(refcount_table));
    put(56, &1_u32.to_be_bytes());
    put(refcount_table * CLUSTER, &place(refcounts));
    (0..begin + count).for_each(|cluster| put(refcounts * CLUSTER + cluster * 2, &1_u16.to_be_bytes()));
    put(first * CLUSTER, &copied(second));
    (0..count).for_each(|index| put(second * CLUSTER + index * 8, &copied(begin + index)));
    file.extend(data);
    fs::write(to, file).expect("write the disk");
}
