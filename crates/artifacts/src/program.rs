//! Whether a file can be the guest's first program: an executable of this architecture that needs no other file to start.
//!
//! The kernel says of one that cannot only that it failed, after a whole boot. The layout is that of elf(5).

use crate::arch::ELF_MACHINE;

const EXECUTABLES: [u16; 2] = [2, 3];
const INTERPRETER: u32 = 3;
const PROGRAM_HEADER: usize = 56;

/// Why a file cannot be the guest's first program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is something else.
    #[error("it is no ELF executable of 64 bits")]
    NotAProgram,
    /// It is for another processor.
    #[error("it is for another architecture")]
    OtherMachine,
    /// There are no libraries in an initramfs.
    #[error("it is dynamically linked; it must be static, as `make agent` builds it")]
    Dynamic,
}

/// Looks at the head of a program.
pub(crate) fn check(bytes: &[u8]) -> Result<(), Unfit> {
    let is_elf = bytes.starts_with(b"\x7fELF\x02\x01");
    let kind = u16_at(bytes, 16).filter(|kind| is_elf && EXECUTABLES.contains(kind));
    kind.ok_or(Unfit::NotAProgram)?;
    if u16_at(bytes, 18) != Some(ELF_MACHINE) {
        return Err(Unfit::OtherMachine);
    }
    let (start, size, count) = program_headers(bytes).ok_or(Unfit::NotAProgram)?;
    for index in 0..count {
        let offset = size.checked_mul(index).and_then(|offset| offset.checked_add(start));
        if offset.and_then(|offset| u32_at(bytes, offset)).ok_or(Unfit::NotAProgram)? == INTERPRETER {
            return Err(Unfit::Dynamic);
        }
    }
    Ok(())
}

/// Where the program headers are, how large one is, and how many there are.
fn program_headers(bytes: &[u8]) -> Option<(usize, usize, usize)> {
    let start = u64::from_le_bytes(bytes.get(32..40)?.try_into().ok()?);
    let (size, count) = (u16_at(bytes, 54)?.into(), u16_at(bytes, 56)?.into());
    (size >= PROGRAM_HEADER && count > 0).then_some((usize::try_from(start).ok()?, size, count))
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(offset..offset.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(offset..offset.checked_add(4)?)?.try_into().ok()?))
}

/// A program of one header, and whatever follows.
#[cfg(test)]
pub(crate) fn sample(machine: u16, header: u32, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(64, 0);
    for (offset, value) in [(16, 3), (18, machine), (32, 64), (54, 56), (56, 1)] {
        bytes[offset..offset + 2].copy_from_slice(&value.to_le_bytes());
    }
    bytes.extend(header.to_le_bytes());
    bytes.resize(64 + PROGRAM_HEADER, 0);
    [&bytes, rest].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: u32 = 1;

    #[test]
    fn only_a_static_program_of_this_architecture_is_fit() {
        assert_eq!(check(&sample(ELF_MACHINE, LOAD, b"")), Ok(()));
        assert_eq!(check(&sample(ELF_MACHINE, INTERPRETER, b"")), Err(Unfit::Dynamic));
        // RISC-V, which nothing here is built for.
        assert_eq!(check(&sample(243, LOAD, b"")), Err(Unfit::OtherMachine));
        assert_eq!(check(b"#!/bin/sh\n"), Err(Unfit::NotAProgram));
    }

    #[test]
    fn this_very_test_is_dynamic_or_static_but_never_something_else() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert!(matches!(check(&own), Ok(()) | Err(Unfit::Dynamic)));
    }

    #[test]
    fn a_damaged_head_is_refused_at_every_length() {
        let whole = sample(ELF_MACHINE, LOAD, b"");
        for length in 0..64 + 4 {
            assert!(check(&whole[..length]).is_err(), "{length}");
        }
        let mut far = whole.clone();
        far[32..40].fill(0xff);
        assert_eq!(check(&far), Err(Unfit::NotAProgram));
    }
}
