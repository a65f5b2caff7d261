//! Where in the tree an entry's name leads. Nothing leads out of it: there is nothing outside.

use crate::Error;
use fcvm_erofs::{Attributes, Content, Kind, NodeId, Writer};

/// More symbolic links on one way than this are a loop, as in the kernel.
const LINKS_MAX: usize = 40;

/// Splits a name as podman does: made relative to the root, `.` dropped, `..` taken away with what is before it.
pub(super) fn components(name: &[u8]) -> Result<Vec<&[u8]>, Error> {
    if name.contains(&0) {
        return Err(Error::hostile(name, "a zero byte in its name"));
    }
    let absolute = name.starts_with(b"/");
    let mut parts = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.pop().is_none() && !absolute => {
                return Err(Error::hostile(name, "it leads out of the image"));
            }
            b".." => {}
            part => parts.push(part),
        }
    }
    Ok(parts)
}

/// What to do about a directory that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// Make it, in place of a file if need be.
    Make,
    /// Give up.
    Leave,
}

/// Follows directories and symbolic links to a directory; nothing if it is not there and is not to be made.
pub(super) fn directory(writer: &mut Writer, parts: &[&[u8]], absent: Absent) -> Result<Option<NodeId>, Error> {
    let (mut dir, mut links) = (writer.root(), 0);
    let mut pending: Vec<Vec<u8>> = parts.iter().rev().map(|part| part.to_vec()).collect();
    let failed = |error| super::disk_error(&parts.join(&b'/'), error);
    while let Some(part) = pending.pop() {
        match part.as_slice() {
            b"" | b"." => continue,
            b".." => {
                dir = writer.parent(dir).map_err(failed)?;
                continue;
            }
            _ => {}
        }
        let found = writer.lookup(dir, &part).map_err(failed)?;
        let kind = found.map(|node| writer.kind(node)).transpose().map_err(failed)?;
        match (found, kind) {
            (Some(node), Some(Kind::Directory)) => dir = node,
            (_, Some(Kind::Symlink(target))) => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Error::hostile(&parts.join(&b'/'), "too many symbolic links on its way"));
                }
                if target.starts_with(b"/") {
                    dir = writer.root();
                }
                pending.extend(target.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec));
            }
            _ if absent == Absent::Leave => return Ok(None),
            _ => {
                writer.remove(dir, &part).map_err(failed)?;
                dir = writer.add(dir, &part, implicit(), Content::Directory).map_err(failed)?;
            }
        }
    }
    Ok(Some(dir))
}

/// Attributes of a directory that is only there because something is in it.
pub(super) fn implicit() -> Attributes {
    Attributes { mode: 0o755, ..Attributes::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_relative_and_cleaned() {
        let clean = |name: &'static str| components(name.as_bytes()).unwrap().join(&b'/');
        for (name, cleaned) in [
            ("/a/b", "a/b"),
            ("./a//b/", "a/b"),
            ("a/../b", "b"),
            ("/../../a", "a"),
            ("/", ""),
            (".", ""),
            ("a/..", ""),
        ] {
            assert_eq!(clean(name), cleaned.as_bytes(), "{name}");
        }
    }

    #[test]
    fn names_that_lead_out_are_refused() {
        for name in [&b".."[..], b"../a", b"a/../../b", b"a\0b"] {
            assert!(matches!(components(name), Err(Error::Hostile { .. })));
        }
    }
}
