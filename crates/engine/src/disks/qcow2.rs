//! What is looked at of a file in QEMU's format: that all of the disk is in it. The rest is QEMU's, in its jail.

use super::Unfit;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The part of the header that versions 2 and 3 have, and the first field that only 3 has (docs/interop/qcow2.txt).
const MAGIC: [u8; 4] = *b"QFI\xfb";
const BACKING_FILE: usize = 8;
const ENCRYPTION: usize = 32;
const INCOMPATIBLE: usize = 72;
const HEADER: usize = 80;
/// The bit of an external data file.
const EXTERNAL_DATA: u64 = 1 << 2;

/// Checks a file that is given as a disk in this format.
pub(super) fn check(file: &File) -> Result<(), Unfit> {
    let mut header = [0; HEADER];
    match file.read_exact_at(&mut header, 0) {
        Ok(()) => judge(&header),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Unfit::NotQcow2),
        Err(error) => Err(error.into()),
    }
}

fn judge(header: &[u8; HEADER]) -> Result<(), Unfit> {
    let word = |place: usize| u32::from_be_bytes(header[place..place + 4].try_into().expect("four bytes"));
    let long = |place: usize| u64::from_be_bytes(header[place..place + 8].try_into().expect("eight bytes"));
    if !header.starts_with(&MAGIC) || !matches!(word(4), 2 | 3) {
        return Err(Unfit::NotQcow2);
    }
    if long(BACKING_FILE) != 0 {
        return Err(Unfit::NotWhole("a backing file"));
    }
    if word(ENCRYPTION) != 0 {
        return Err(Unfit::NotWhole("a key"));
    }
    if word(4) == 3 && long(INCOMPATIBLE) & EXTERNAL_DATA != 0 {
        return Err(Unfit::NotWhole("a file of its data"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_not_whole_is_refused() {
        let header = |version: u8, changes: &[(usize, u8)]| {
            let mut header = [0; HEADER];
            header[..4].copy_from_slice(&MAGIC);
            header[7] = version;
            changes.iter().for_each(|(place, byte)| header[*place] = *byte);
            judge(&header)
        };
        assert!(header(2, &[]).is_ok() && header(3, &[(79, 1)]).is_ok());
        // A bit that version 2 does not have.
        assert!(header(2, &[(79, 4)]).is_ok());
        for (version, place, byte) in [(3, 15, 1), (2, 8, 1), (3, 35, 1), (3, 79, 4)] {
            assert!(matches!(header(version, &[(place, byte)]), Err(Unfit::NotWhole(_))), "{version} {place}");
        }
        assert!(matches!(header(1, &[]), Err(Unfit::NotQcow2)) && matches!(header(3, &[(0, 0)]), Err(Unfit::NotQcow2)));
    }
}
