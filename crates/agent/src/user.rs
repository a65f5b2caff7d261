//! Who a command runs as: `USER[:GROUP]` looked up in the image's own files, which may hold anything.

use std::path::Path;

/// The numbers of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// A user or group that the image does not have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unable to find {kind} {name}: no matching entries in {file} file")]
pub(crate) struct Unknown {
    kind: &'static str,
    name: String,
    file: &'static str,
}

/// The largest file that is looked at.
const LARGEST: usize = 4 << 20;

/// Looks up `USER[:GROUP]` in the files of the root directory `root`.
pub(crate) fn resolve(root: &Path, text: &str) -> Result<Identity, Unknown> {
    let read = |name| crate::files::read_beneath(root, name, LARGEST).unwrap_or_default();
    lookup(text, &read("etc/passwd"), &read("etc/group"))
}

fn lookup(text: &str, passwd: &str, group: &str) -> Result<Identity, Unknown> {
    let (user, wanted_group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let entry = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() >= 6 && (fields[0] == user || (user.parse::<u32>().is_ok() && fields[2] == user)));
    let (name, uid, mut gid, home) = match (&entry, user.parse::<u32>()) {
        (Some(fields), number) => {
            let uid = fields[2].parse().ok().or(number.ok());
            let uid = uid.ok_or_else(|| Unknown { kind: "user", name: user.to_owned(), file: "passwd" })?;
            (fields[0], uid, fields[3].parse().unwrap_or(0), fields[5])
        }
        (None, Ok(uid)) => ("", uid, 0, if uid == 0 { "/root" } else { "/" }),
        (None, Err(_)) => return Err(Unknown { kind: "user", name: user.to_owned(), file: "passwd" }),
    };
    let mut groups = Vec::new();
    match wanted_group {
        // A group that was named is the only one.
        Some(wanted) => gid = group_number(group, wanted)?,
        None => groups = memberships(group, name),
    }
    Ok(Identity { uid, gid, groups, home: home.to_owned() })
}

fn group_number(group: &str, wanted: &str) -> Result<u32, Unknown> {
    if let Ok(gid) = wanted.parse() {
        return Ok(gid);
    }
    let mut fields = group.lines().map(|line| line.split(':'));
    let found = fields.find_map(|mut fields| (fields.next()? == wanted).then(|| fields.nth(1)?.parse().ok())?);
    found.ok_or_else(|| Unknown { kind: "group", name: wanted.to_owned(), file: "group" })
}

fn memberships(group: &str, name: &str) -> Vec<u32> {
    const MOST: usize = 1024;
    let member = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let listed = fields.get(3)?.split(',').any(|member| !name.is_empty() && member == name);
        listed.then(|| fields[2].parse().ok())?
    };
    group.lines().filter_map(member).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:100::/home/alice:/bin/sh\nbroken\n:::::\n";
    const GROUP: &str = "root:x:0:\nstaff:x:50:bob,alice\nbad:x:zz:alice\nusers:x:100:\n";

    fn numbers(text: &str) -> Option<(u32, u32, Vec<u32>)> {
        lookup(text, PASSWD, GROUP).ok().map(|identity| (identity.uid, identity.gid, identity.groups))
    }

    #[test]
    fn users_and_groups_are_found_by_name_and_number() {
        assert_eq!(numbers(""), Some((0, 0, vec![])));
        assert_eq!(numbers("alice"), Some((1000, 100, vec![50])));
        assert_eq!(numbers("1000"), Some((1000, 100, vec![50])));
        assert_eq!(numbers("alice:staff"), Some((1000, 50, vec![])));
        assert_eq!(numbers("alice:7"), Some((1000, 7, vec![])));
        assert_eq!(numbers("4242"), Some((4242, 0, vec![])));
    }

    #[test]
    fn what_the_image_does_not_have_is_refused() {
        assert_eq!(numbers("nobody"), None);
        assert_eq!(numbers("alice:nogroup"), None);
        assert_eq!(numbers("-1"), None);
    }
}
