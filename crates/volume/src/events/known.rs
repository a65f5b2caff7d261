//! What a guest knows of a volume: which number is which file, and which directories are watched for it.
//!
//! virtiofsd keeps numbers and no names, and inotify tells names and no numbers. This table has both, for as long as the
//! guest remembers a file: it follows the answers to LOOKUP and its like, and FORGET. A file is known by the name that it
//! was last seen by. Nothing here asks the host.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

/// The number of a volume's root.
pub(crate) const ROOT: u64 = 1;
/// The type of a file among the bits of its mode (`S_IFMT`), and that of a directory.
pub(crate) const TYPE: u32 = 0o170_000;
pub(crate) const DIRECTORY: u16 = 0o040_000;

/// Files that are known at the same time. Of more than that a deletion is not told to who watches the file itself.
const FILES_MAX: usize = 1 << 18;
/// Directories in each other; the kernel's longest path has no more.
const DEPTH_MAX: usize = 2048;

pub(crate) type Name = Arc<[u8]>;

/// The files of one volume that its guest knows.
#[derive(Debug, Default)]
pub(crate) struct Known {
    nodes: HashMap<u64, Node>,
    watched: HashMap<i32, u64>,
}

#[derive(Debug, Default)]
struct Node {
    /// How often the guest was told of it.
    count: u64,
    /// Its number on the host; zero: unknown.
    inode: u64,
    kind: u16,
    place: Option<(u64, Name)>,
    children: HashMap<Name, u64>,
    watch: Option<i32>,
}

/// What an answer told of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) node: u64,
    pub(crate) inode: u64,
    pub(crate) kind: u16,
}

impl Known {
    pub(crate) fn new(kind: u16) -> Self {
        let mut known = Self::default();
        known.nodes.insert(ROOT, Node { count: u64::MAX, kind, ..Node::default() });
        known
    }

    /// The guest was told of a file once more. True: it is a directory that is not watched.
    pub(crate) fn tell(&mut self, (directory, name): (u64, &[u8]), told: Told) -> bool {
        let is_directory = told.kind == DIRECTORY;
        if !self.nodes.contains_key(&told.node) && !is_directory && self.nodes.len() >= FILES_MAX {
            return false;
        }
        let node = self.nodes.entry(told.node).or_default();
        node.count = node.count.saturating_add(1);
        (node.inode, node.kind) = (told.inode, told.kind);
        let is_unwatched = is_directory && node.watch.is_none();
        self.place(told.node, directory, name);
        is_unwatched
    }

    /// What a server that begins with the tables of another knows of files: their numbers, how often the guest was told of
    /// them, and where they are.
    pub(crate) fn remember<'t>(&mut self, files: impl Iterator<Item = (u64, u64, Option<(u64, &'t [u8])>)> + Clone) {
        for (number, count, _) in files.clone() {
            self.nodes.entry(number).or_default().count = count;
        }
        // A directory may come after what is in it.
        for (number, _, place) in files {
            if let Some((directory, name)) = place {
                self.place(number, directory, name);
            }
        }
    }

    /// The guest has forgotten a file so often. Returns its watch if it does not know it any more.
    pub(crate) fn forget(&mut self, number: u64, times: u64) -> Option<i32> {
        let node = self.nodes.get_mut(&number).filter(|_| number != ROOT)?;
        node.count = node.count.saturating_sub(times);
        if node.count > 0 {
            return None;
        }
        let node = self.nodes.remove(&number)?;
        if let Some((directory, name)) = node.place {
            self.leave(number, directory, &name);
        }
        self.watched.remove(&node.watch?);
        node.watch
    }

    /// A name is gone. Returns what it led to.
    pub(crate) fn remove(&mut self, directory: u64, name: &[u8]) -> Option<Told> {
        let told = self.at(directory, name);
        if let Some(parent) = self.nodes.get_mut(&directory) {
            parent.children.remove(name);
        }
        if let Some(node) = told.and_then(|told| self.nodes.get_mut(&told.node)) {
            node.place = None;
        }
        told
    }

    /// A file has another name. Returns what it is, and what had that name before.
    pub(crate) fn rename(&mut self, from: (u64, &[u8]), to: (u64, &[u8])) -> (Option<Told>, Option<Told>) {
        let moved = self.remove(from.0, from.1);
        let replaced = self.remove(to.0, to.1);
        if let Some(moved) = moved {
            self.place(moved.node, to.0, to.1);
        }
        (moved, replaced)
    }

    /// A file that has no name any more has this one.
    pub(crate) fn settle(&mut self, number: u64, (directory, name): (u64, &[u8])) {
        self.place(number, directory, name);
    }

    /// What a name leads to, as far as the guest knows.
    pub(crate) fn at(&self, directory: u64, name: &[u8]) -> Option<Told> {
        let number = *self.nodes.get(&directory)?.children.get(name)?;
        let node = self.nodes.get(&number)?;
        Some(Told { node: number, inode: node.inode, kind: node.kind })
    }

    /// Where a file is: its directory, and its name there.
    pub(crate) fn place_of(&self, number: u64) -> Option<(u64, Name)> {
        match &self.nodes.get(&number)?.place {
            Some(place) => Some(place.clone()),
            // The root of a volume that is a file has no name.
            None => (number == ROOT).then(|| (ROOT, Name::from([]))),
        }
    }

    /// The path from the root.
    pub(crate) fn path(&self, number: u64) -> Option<PathBuf> {
        let (mut parts, mut number) = (Vec::new(), number);
        while number != ROOT {
            let (directory, name) = self.nodes.get(&number)?.place.as_ref()?;
            parts.push(name);
            number = *directory;
            if parts.len() > DEPTH_MAX {
                return None;
            }
        }
        Some(parts.iter().rev().map(|name| OsStr::from_bytes(name)).collect())
    }

    /// A directory is watched from now on, if it is known.
    pub(crate) fn watch(&mut self, number: u64, watch: i32) -> bool {
        let Some(node) = self.nodes.get_mut(&number) else { return false };
        node.watch = Some(watch);
        self.watched.insert(watch, number);
        true
    }

    /// What is watched by this number.
    pub(crate) fn watched(&self, watch: i32) -> Option<u64> {
        self.watched.get(&watch).copied()
    }

    /// The kernel has ended a watch.
    pub(crate) fn unwatch(&mut self, watch: i32) {
        if let Some(node) = self.watched.remove(&watch).and_then(|number| self.nodes.get_mut(&number)) {
            node.watch = None;
        }
    }

    /// The number on the host of what is to be watched; zero: whatever is there.
    pub(crate) fn inode(&self, number: u64) -> u64 {
        self.nodes.get(&number).map_or(0, |node| node.inode)
    }

    /// All but the root.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.nodes.keys().copied().filter(|number| *number != ROOT).collect()
    }

    fn place(&mut self, number: u64, directory: u64, name: &[u8]) {
        let is_there = |place: &Option<(u64, Name)>| {
            place.as_ref().is_some_and(|(known, called)| *known == directory && &called[..] == name)
        };
        let led = self.nodes.get(&directory).and_then(|parent| parent.children.get(name)).copied();
        let Some(node) = self.nodes.get_mut(&number) else { return };
        if is_there(&node.place) && led == Some(number) {
            return;
        }
        let name = Name::from(name);
        let before = node.place.replace((directory, name.clone()));
        // Of a directory that was moved the old name leads nowhere; a file may have several.
        if let Some((directory, name)) = before.filter(|_| node.kind == DIRECTORY) {
            self.leave(number, directory, &name);
        }
        if let Some(parent) = self.nodes.get_mut(&directory) {
            parent.children.insert(name, number);
        }
    }

    fn leave(&mut self, number: u64, directory: u64, name: &[u8]) {
        if let Some(parent) = self.nodes.get_mut(&directory)
            && parent.children.get(name) == Some(&number)
        {
            parent.children.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: u16 = 0o100_000;

    fn told(node: u64, kind: u16) -> Told {
        Told { node, inode: node + 100, kind }
    }

    fn known() -> Known {
        let mut known = Known::new(DIRECTORY);
        assert!(known.tell((ROOT, b"dir"), told(2, DIRECTORY)));
        assert!(!known.tell((2, b"file"), told(3, FILE)));
        assert!(known.watch(2, 7));
        known
    }

    #[test]
    fn a_file_is_known_by_name_and_number_as_long_as_the_guest_knows_it() {
        let mut known = known();
        assert_eq!(known.path(3).unwrap(), PathBuf::from("dir/file"));
        assert_eq!(known.at(2, b"file"), Some(told(3, FILE)));
        assert!(!known.tell((ROOT, b"dir"), told(2, DIRECTORY)));
        assert_eq!(known.forget(2, 1), None);
        assert_eq!(known.forget(3, 1), None);
        assert_eq!(known.at(2, b"file"), None);
        assert_eq!(known.forget(2, 5), Some(7));
        assert_eq!((known.watched(7), known.at(ROOT, b"dir")), (None, None));
        assert_eq!(known.forget(ROOT, u64::MAX), None);
        assert_eq!(known.path(ROOT).unwrap(), PathBuf::new());
    }

    #[test]
    fn what_moves_is_found_where_it_is_with_all_that_is_in_it() {
        let mut known = known();
        known.tell((ROOT, b"other"), told(4, DIRECTORY));
        let (moved, replaced) = known.rename((ROOT, b"dir"), (4, b"inner"));
        assert_eq!((moved, replaced), (Some(told(2, DIRECTORY)), None));
        assert_eq!(known.path(3).unwrap(), PathBuf::from("other/inner/file"));
        known.tell((2, b"new"), told(5, FILE));
        assert_eq!(known.rename((2, b"new"), (2, b"file")).1, Some(told(3, FILE)));
        assert_eq!((known.at(2, b"file"), known.path(3)), (Some(told(5, FILE)), None));
        // Seen elsewhere without having been seen to move.
        known.tell((ROOT, b"back"), told(2, DIRECTORY));
        assert_eq!((known.at(4, b"inner"), known.path(5).unwrap()), (None, PathBuf::from("back/file")));
    }

    #[test]
    fn tables_of_another_are_taken_over_in_any_order() {
        let mut known = Known::new(DIRECTORY);
        known.remember([(3, 1, Some((2, &b"file"[..]))), (4, 2, None), (2, 5, Some((ROOT, &b"dir"[..])))].into_iter());
        assert_eq!(known.at(2, b"file").map(|told| told.node), Some(3));
        assert_eq!((known.path(3).unwrap(), known.path(4)), (PathBuf::from("dir/file"), None));
        assert_eq!((known.forget(4, 1), known.numbers().len()), (None, 3));
    }

    #[test]
    fn directories_that_are_in_each_other_have_no_path() {
        let mut known = known();
        known.tell((2, b"inner"), told(4, DIRECTORY));
        known.tell((4, b"outer"), told(2, DIRECTORY));
        assert_eq!(known.path(2), None);
    }

    #[test]
    fn a_watch_that_the_kernel_has_ended_can_be_set_anew() {
        let mut known = known();
        known.unwatch(7);
        assert!(known.tell((ROOT, b"dir"), told(2, DIRECTORY)));
        assert!(!known.watch(99, 8));
    }
}
