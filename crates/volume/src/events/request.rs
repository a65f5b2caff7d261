//! What a request says about names, and what its answer tells of them: as far as events are concerned. Whatever is cut
//! short says nothing; virtiofsd answers it with an error.

use super::known::{ROOT, TYPE, Told};
use super::own::{Kinds, Place};
use crate::message::{ANSWER_HEADER, REQUEST_HEADER, opcode};

/// What stands before the names of a request fits in here with them.
pub(crate) const BEGINNING: usize = 1024;

/// What a name leads to (`fuse_entry_out`), and where in it the attributes say the number and the mode of the file.
const ENTRY: usize = 128;
const ENTRY_INODE: usize = 40;
const ENTRY_MODE: usize = 100;
/// What stands before the name of an entry of a directory (`fuse_direntplus`).
const ENTRY_OF_DIRECTORY: usize = ENTRY + 24;

const O_ACCMODE: u32 = 3;
const O_TRUNC: u32 = 0o1000;
const RENAME_EXCHANGE: u32 = 2;

/// A request, or the part of it in which names are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'r>(pub(crate) &'r [u8]);

/// What a request is about to do to a name, or to a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Named(Place, Kinds),
    /// To a file of which the number is known.
    File(u64, Kinds),
}

/// What a request that succeeded has told the guest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lesson {
    /// What a name in a directory leads to.
    Found(u64, Vec<u8>, Told),
    Gone(u64, Vec<u8>),
    Renamed(Place, Place),
    Exchanged(Place, Place),
    /// The guest has forgotten a file so often.
    Forgot(u64, u64),
}

/// Whether a request changes something, or what the guest knows.
pub(crate) fn concerns(opcode: u32) -> bool {
    use opcode::{COPY_FILE_RANGE, FALLOCATE, REMOVEXATTR, SETXATTR, WRITE};
    use opcode::{CREATE, FORGET, LINK, LOOKUP, MKDIR, MKNOD, OPEN, READDIRPLUS, RELEASE};
    use opcode::{RENAME, RENAME2, RMDIR, SETATTR, SYMLINK, UNLINK};
    matches!(opcode, CREATE | FORGET | LINK | LOOKUP | MKDIR | MKNOD | OPEN | READDIRPLUS | RELEASE)
        || matches!(opcode, RENAME | RENAME2 | RMDIR | SETATTR | SYMLINK | UNLINK | opcode::BATCH_FORGET)
        || matches!(opcode, COPY_FILE_RANGE | FALLOCATE | REMOVEXATTR | SETXATTR | WRITE)
}

impl Request<'_> {
    /// What it does, if it succeeds.
    pub(crate) fn deeds(self) -> Vec<Deed> {
        self.parse_deeds().unwrap_or_default()
    }

    fn parse_deeds(self) -> Option<Vec<Deed>> {
        let node = self.long(16)?;
        let changed = |node| vec![Deed::File(node, Kinds::CHANGED)];
        let named = |name: &[u8], kinds| Deed::Named((node, name.into()), kinds);
        let made = Kinds::CREATED.and(Kinds::CHANGED);
        Some(match self.opcode()? {
            opcode::SETATTR | opcode::WRITE | opcode::SETXATTR | opcode::REMOVEXATTR | opcode::FALLOCATE => {
                changed(node)
            }
            opcode::OPEN if self.body_word(0)? & O_TRUNC != 0 => changed(node),
            opcode::RELEASE if self.body_word(8)? & O_ACCMODE != 0 => changed(node),
            opcode::COPY_FILE_RANGE => changed(self.long(REQUEST_HEADER as usize + 16)?),
            opcode::SYMLINK => vec![named(self.name(0)?, made)],
            opcode::MKDIR => vec![named(self.name(8)?, made)],
            opcode::MKNOD | opcode::CREATE => vec![named(self.name(16)?, made)],
            opcode::LINK => {
                let linked = self.long(REQUEST_HEADER as usize)?;
                vec![named(self.name(8)?, made), Deed::File(linked, Kinds::CHANGED)]
            }
            opcode::UNLINK | opcode::RMDIR => vec![named(self.name(0)?, Kinds::DELETED.and(Kinds::CHANGED))],
            opcode::RENAME | opcode::RENAME2 => {
                let (from, to, _) = self.renamed()?;
                let both = Kinds::LEFT.and(Kinds::CAME).and(Kinds::CHANGED);
                vec![Deed::Named(from, both), Deed::Named(to, both)]
            }
            _ => return None,
        })
    }

    /// What its answer has told the guest.
    pub(crate) fn lessons(self, answer: &[u8]) -> Vec<Lesson> {
        self.parse_lessons(answer).unwrap_or_default()
    }

    fn parse_lessons(self, answer: &[u8]) -> Option<Vec<Lesson>> {
        let (opcode, node) = (self.opcode()?, self.long(16)?);
        let body = REQUEST_HEADER as usize;
        match opcode {
            opcode::FORGET => return Some(vec![Lesson::Forgot(node, self.long(body)?)]),
            opcode::BATCH_FORGET => {
                let all = self.0.get(body + 8..)?.chunks_exact(16);
                return Some(all.filter_map(|one| Some(Lesson::Forgot(long(one, 0)?, long(one, 8)?))).collect());
            }
            _ => {}
        }
        let told = answer.get(ANSWER_HEADER as usize..).filter(|_| answer[4..8] == [0; 4])?;
        let found = |name: &[u8]| entry(told).map(|told| vec![Lesson::Found(node, name.to_vec(), told)]);
        match opcode {
            opcode::LOOKUP => found(self.name(0).filter(|name| !matches!(*name, b"." | b".."))?),
            opcode::SYMLINK => found(self.name(0)?),
            opcode::MKDIR | opcode::LINK => found(self.name(8)?),
            opcode::MKNOD | opcode::CREATE => found(self.name(16)?),
            opcode::READDIRPLUS => Some(entries(node, told)),
            opcode::UNLINK | opcode::RMDIR => Some(vec![Lesson::Gone(node, self.name(0)?.to_vec())]),
            opcode::RENAME | opcode::RENAME2 => {
                let (from, to, flags) = self.renamed()?;
                let exchanged = flags & RENAME_EXCHANGE != 0;
                Some(vec![if exchanged { Lesson::Exchanged(from, to) } else { Lesson::Renamed(from, to) }])
            }
            _ => None,
        }
    }

    fn renamed(self) -> Option<(Place, Place, u32)> {
        let (head, flags) = if self.opcode()? == opcode::RENAME { (8, 0) } else { (16, self.body_word(8)?) };
        let (old, to) = (self.name(head)?, self.long(REQUEST_HEADER as usize)?);
        let new = self.name(head + old.len() + 1)?;
        Some(((self.long(16)?, old.into()), (to, new.into()), flags))
    }

    fn opcode(self) -> Option<u32> {
        word(self.0, 4)
    }

    fn long(self, at: usize) -> Option<u64> {
        long(self.0, at)
    }

    fn body_word(self, at: usize) -> Option<u32> {
        word(self.0, REQUEST_HEADER as usize + at)
    }

    /// The name that begins so far behind the header.
    fn name<'r>(self, at: usize) -> Option<&'r [u8]>
    where
        Self: 'r,
    {
        let rest = self.0.get(REQUEST_HEADER as usize + at..)?;
        rest.split(|byte| *byte == 0).next().filter(|name| !name.is_empty() && name.len() < rest.len())
    }
}

/// What an entry says (`fuse_entry_out`); none if the name leads nowhere. The root is known without being told of.
fn entry(bytes: &[u8]) -> Option<Told> {
    let kind = (word(bytes.get(..ENTRY)?, ENTRY_MODE)? & TYPE) as u16;
    let told = Told { node: long(bytes, 0)?, inode: long(bytes, ENTRY_INODE)?, kind };
    (told.node != 0 && told.node != ROOT).then_some(told)
}

/// The entries of a directory of which the guest was told what they are.
fn entries(directory: u64, mut bytes: &[u8]) -> Vec<Lesson> {
    let mut lessons = Vec::new();
    while let Some(length) = word(bytes, ENTRY + 16) {
        let whole = ENTRY_OF_DIRECTORY + length as usize;
        let Some(name) = bytes.get(ENTRY_OF_DIRECTORY..whole) else { break };
        lessons.extend(entry(bytes).map(|told| Lesson::Found(directory, name.to_vec(), told)));
        bytes = bytes.get(whole.next_multiple_of(8)..).unwrap_or_default();
    }
    lessons
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(opcode: u32, node: u64, body: &[u8]) -> Vec<u8> {
        let head = [&0_u32.to_ne_bytes()[..], &opcode.to_ne_bytes(), &[0; 8], &node.to_ne_bytes(), &[0; 16]];
        [&head.concat()[..], body].concat()
    }

    fn found(node: u64, inode: u64, mode: u32) -> Vec<u8> {
        let mut entry = vec![0; ENTRY];
        entry[..8].copy_from_slice(&node.to_ne_bytes());
        entry[ENTRY_INODE..ENTRY_INODE + 8].copy_from_slice(&inode.to_ne_bytes());
        entry[ENTRY_MODE..ENTRY_MODE + 4].copy_from_slice(&mode.to_ne_bytes());
        entry
    }

    fn answered(body: &[u8]) -> Vec<u8> {
        [&[0; 16], body].concat()
    }

    fn place(node: u64, name: &str) -> Place {
        (node, name.as_bytes().into())
    }

    #[test]
    fn names_are_found_where_each_request_has_them() {
        let made = Kinds::CREATED.and(Kinds::CHANGED);
        for (opcode, head) in [(opcode::SYMLINK, 0), (opcode::MKDIR, 8), (opcode::MKNOD, 16), (opcode::CREATE, 16)] {
            let request = request(opcode, 5, &[&vec![0; head][..], b"name\0rest\0"].concat());
            assert_eq!(Request(&request).deeds(), [Deed::Named(place(5, "name"), made)], "{opcode}");
            let told = Told { node: 9, inode: 77, kind: 0o100_000 };
            let lesson = Lesson::Found(5, b"name".to_vec(), told);
            assert_eq!(Request(&request).lessons(&answered(&found(9, 77, 0o100_644))), [lesson], "{opcode}");
        }
        let to = &6_u64.to_ne_bytes()[..];
        let flags = &[RENAME_EXCHANGE, 0].map(u32::to_ne_bytes).concat()[..];
        let plain = request(opcode::RENAME, 5, &[to, b"old\0new\0"].concat());
        let exchange = request(opcode::RENAME2, 5, &[to, flags, b"old\0new\0"].concat());
        let (from, to) = (|| place(5, "old"), || place(6, "new"));
        assert_eq!(Request(&plain).lessons(&answered(&[])), [Lesson::Renamed(from(), to())]);
        assert_eq!(Request(&exchange).lessons(&answered(&[])), [Lesson::Exchanged(from(), to())]);
        assert_eq!(Request(&plain).deeds().len(), 2);
    }

    #[test]
    fn only_who_could_write_changes_a_file_by_closing_it() {
        let release = |flags: u32| request(opcode::RELEASE, 5, &[&[0; 8][..], &flags.to_ne_bytes(), &[0; 12]].concat());
        assert_eq!(Request(&release(0)).deeds(), []);
        assert_eq!(Request(&release(1)).deeds(), [Deed::File(5, Kinds::CHANGED)]);
        let open = |flags: u32| request(opcode::OPEN, 5, &[flags.to_ne_bytes(), [0; 4]].concat());
        assert_eq!(Request(&open(1)).deeds(), []);
        assert_eq!(Request(&open(1 | O_TRUNC)).deeds(), [Deed::File(5, Kinds::CHANGED)]);
    }

    #[test]
    fn what_failed_teaches_nothing_and_forgetting_never_fails() {
        let lookup = request(opcode::LOOKUP, 1, b"name\0");
        let mut refused = answered(&found(9, 77, 0o100_644));
        refused[4] = 1;
        assert_eq!(Request(&lookup).lessons(&refused), []);
        assert_eq!(Request(&lookup).lessons(&answered(&found(0, 0, 0))), []);
        let several = [2_u64, 3, 1, 4, 2].map(u64::to_ne_bytes).concat();
        let batch = request(opcode::BATCH_FORGET, 0, &several);
        assert_eq!(Request(&batch).lessons(&[]), [Lesson::Forgot(3, 1), Lesson::Forgot(4, 2)]);
        let one = request(opcode::FORGET, 7, &3_u64.to_ne_bytes());
        assert_eq!(Request(&one).lessons(&[]), [Lesson::Forgot(7, 3)]);
    }

    #[test]
    fn a_listing_tells_of_all_that_have_numbers() {
        let one = |node: u64, name: &str| {
            let mut entry = [&found(node, 50 + node, 0o040_755)[..], &[0; 24]].concat();
            entry[ENTRY + 16..ENTRY + 20].copy_from_slice(&(name.len() as u32).to_ne_bytes());
            entry.extend_from_slice(name.as_bytes());
            entry.resize(entry.len().next_multiple_of(8), 0);
            entry
        };
        let listing = answered(&[one(0, "."), one(3, "dir"), one(0, "unknown"), one(4, "other-dir")].concat());
        let request = request(opcode::READDIRPLUS, 1, &[0; 40]);
        let told = |node| Told { node, inode: 50 + node, kind: 0o040_000 };
        let expected = [Lesson::Found(1, b"dir".to_vec(), told(3)), Lesson::Found(1, b"other-dir".to_vec(), told(4))];
        assert_eq!(Request(&request).lessons(&listing), expected);
        for length in 0..listing.len() {
            let _any = Request(&request).lessons(&listing[..length]);
        }
    }

    #[test]
    fn a_request_that_is_cut_anywhere_does_nothing_and_is_no_panic() {
        for opcode in 0..60 {
            let whole = request(opcode, 5, &[&[1; 16][..], b"name\0other\0"].concat());
            for length in 0..whole.len() {
                let _any = (Request(&whole[..length]).deeds(), Request(&whole[..length]).lessons(&[0; 20]));
            }
        }
    }
}
