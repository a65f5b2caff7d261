//! One volume whose host's side is followed: from what inotify says to what its guest is told.

use super::known::{DIRECTORY, Known, ROOT, TYPE, Told};
use super::own::{Kinds, Own, Place};
use super::queue::{Queue, changed};
use super::request::{Deed, Lesson};
use fcvm_proto::events::{Changes, Event, What};
use rustix::fs::inotify::ReadFlags;
use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, openat2};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What is followed of one volume.
#[derive(Debug)]
pub(crate) struct Follow {
    root: OwnedFd,
    pub(crate) known: Known,
    pub(crate) own: Own,
    pub(crate) queue: Queue,
    /// The guest waits for events. What comes before it asks is kept: a clone first does what its source was about.
    pub(crate) is_asked: bool,
    /// Files that have left a directory, and of which it is not known yet where they came to.
    left: Vec<Left>,
}

#[derive(Debug)]
struct Left {
    cookie: u32,
    place: Place,
    kind: u16,
    is_old: bool,
}

/// What inotify says of a name in a directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard<'h> {
    pub(crate) directory: u64,
    pub(crate) name: &'h [u8],
    pub(crate) flags: ReadFlags,
    pub(crate) cookie: u32,
}

impl Heard<'_> {
    fn is(&self, flag: ReadFlags) -> bool {
        self.flags.contains(flag)
    }

    fn event(&self, kind: u16, what: What) -> Event {
        Event { directory: self.directory, name: self.name.into(), kind, what }
    }
}

impl Follow {
    pub(crate) fn new(root: OwnedFd) -> rustix::io::Result<Self> {
        let kind = (fstat(&root)?.st_mode & TYPE) as u16;
        Ok(Self {
            root,
            known: Known::new(kind),
            own: Own::default(),
            queue: Queue::default(),
            is_asked: false,
            left: Vec::new(),
        })
    }

    /// Opens a directory of which the guest knows, or the root whatever it is.
    pub(crate) fn open(&self, number: u64) -> Option<OwnedFd> {
        if number == ROOT {
            return self.root.try_clone().ok();
        }
        let file = self.open_at(&self.known.path(number)?, OFlags::DIRECTORY)?;
        let expected = self.known.inode(number);
        // Another one may have its name by now.
        (expected == 0 || fstat(&file).ok()?.st_ino == expected).then_some(file)
    }

    /// Notes what is about to be done for the guest, and returns the places where it is noted.
    pub(crate) fn begin(&mut self, deeds: Vec<Deed>) -> Vec<Place> {
        let mut places = Vec::new();
        for deed in deeds {
            let (place, kinds) = match deed {
                Deed::Named(place, kinds) => (Some(place), kinds),
                Deed::File(number, kinds) => {
                    let place = self.known.place_of(number);
                    (place.map(|(directory, name)| (directory, Box::from(&name[..]))), kinds)
                }
            };
            if let Some(place) = place {
                self.own.begin(&place, kinds);
                places.push(place);
            }
        }
        places
    }

    /// Learns from what the guest was told, and returns the directories that are to be watched from now on, and the watches
    /// that are not needed any more.
    pub(crate) fn learn(&mut self, lessons: Vec<Lesson>) -> (Vec<u64>, Vec<i32>) {
        let (mut fresh, mut useless) = (Vec::new(), Vec::new());
        for lesson in lessons {
            match lesson {
                Lesson::Found(directory, name, told) => {
                    if self.known.tell((directory, &name), told) {
                        fresh.push(told.node);
                    }
                }
                Lesson::Gone(directory, name) => drop(self.known.remove(directory, &name)),
                Lesson::Renamed(from, to) => drop(self.known.rename((from.0, &from.1), (to.0, &to.1))),
                Lesson::Exchanged(from, to) => {
                    let (_, other) = self.known.rename((from.0, &from.1), (to.0, &to.1));
                    if let Some(other) = other {
                        self.known.settle(other.node, (from.0, &from.1));
                    }
                }
                Lesson::Forgot(number, times) => useless.extend(self.known.forget(number, times)),
            }
        }
        (fresh, useless)
    }

    /// Takes in an event of the host.
    pub(crate) fn hear(&mut self, heard: Heard<'_>) {
        if heard.is(ReadFlags::CREATE) {
            if !self.own.did(heard.directory, heard.name, Kinds::CREATED) {
                self.appear(heard);
            }
        } else if heard.is(ReadFlags::DELETE) {
            if !self.own.did(heard.directory, heard.name, Kinds::DELETED) {
                self.disappear(heard.directory, heard.name, kind_of(heard));
            }
        } else if heard.is(ReadFlags::MOVED_FROM) {
            if !self.own.did(heard.directory, heard.name, Kinds::LEFT) {
                let place = (heard.directory, heard.name.into());
                self.left.push(Left { cookie: heard.cookie, place, kind: kind_of(heard), is_old: false });
            }
        } else if heard.is(ReadFlags::MOVED_TO) {
            if !self.own.did(heard.directory, heard.name, Kinds::CAME) {
                self.arrive(heard);
            }
        } else {
            self.change(heard);
        }
    }

    /// All events that were there have been heard. What has left and not come to a directory that is watched is gone.
    /// True: of something that is not known yet, and soon is.
    pub(crate) fn pause(&mut self) -> bool {
        let (old, new) = std::mem::take(&mut self.left).into_iter().partition(|left| left.is_old);
        self.left = new;
        self.left.iter_mut().for_each(|left| left.is_old = true);
        let old: Vec<Left> = old;
        for Left { place, kind, .. } in old {
            self.disappear(place.0, &place.1, kind);
        }
        !self.left.is_empty()
    }

    /// Takes what is to be told now, at most so many bytes.
    ///
    /// A directory that the guest has found by itself meanwhile is not said to be new: to make it so, its kernel would have
    /// to give up what is mounted there.
    pub(crate) fn take(&mut self, room: usize) -> Vec<u8> {
        let known = &self.known;
        self.queue.take(room, |event| {
            let is_new = matches!(event.what, What::Created(_)) && event.kind == DIRECTORY;
            is_new && known.at(event.directory, &event.name).is_some_and(|known| known.kind == DIRECTORY)
        })
    }

    fn appear(&mut self, heard: Heard<'_>) {
        // It may be gone again: then somebody says so, and nobody has seen it.
        let Some((kind, inode)) = self.look(heard.directory, heard.name) else { return };
        let known = self.known.at(heard.directory, heard.name);
        if let Some(other) = known.filter(|other| other.inode != 0 && other.inode != inode) {
            self.known.remove(heard.directory, heard.name);
            self.queue.push(heard.event(other.kind, What::Deleted { node: other.node }));
        }
        self.queue.push(heard.event(kind, What::Created(Changes::default())));
    }

    fn disappear(&mut self, directory: u64, name: &[u8], kind: u16) {
        let known = self.known.at(directory, name);
        // What the guest knows by that name may be what has it now.
        let is_another = |known: &Told| self.look(directory, name).is_some_and(|(_, inode)| inode == known.inode);
        if known.as_ref().is_some_and(is_another) {
            return;
        }
        self.known.remove(directory, name);
        let node = known.map_or(0, |known| known.node);
        let kind = known.map(|known| known.kind).filter(|kind| *kind != 0).unwrap_or(kind);
        self.queue.push(Event { directory, name: name.into(), kind, what: What::Deleted { node } });
    }

    fn arrive(&mut self, heard: Heard<'_>) {
        let Some(index) = self.left.iter().position(|left| left.cookie == heard.cookie) else {
            return self.appear(heard);
        };
        let Left { place, kind, .. } = self.left.swap_remove(index);
        let (moved, replaced) = self.known.rename((place.0, &place.1), (heard.directory, heard.name));
        let kind = moved.map(|moved| moved.kind).filter(|kind| *kind != 0).unwrap_or(kind);
        let replaced = replaced.filter(|replaced| moved.is_none_or(|moved| moved.node != replaced.node));
        self.queue.push(Event {
            directory: place.0,
            name: place.1.into(),
            kind,
            what: What::Moved {
                node: moved.map_or(0, |moved| moved.node),
                directory: heard.directory,
                name: heard.name.into(),
                replaced: replaced.map_or((0, 0), |replaced| (replaced.node, replaced.kind)),
            },
        });
    }

    fn change(&mut self, heard: Heard<'_>) {
        let kinds = [
            (ReadFlags::MODIFY, Changes::CONTENT),
            (ReadFlags::CLOSE_WRITE, Changes::CLOSED),
            (ReadFlags::ATTRIB, Changes::ATTRIBUTES),
        ];
        // Of a directory itself its own directory tells; the root has none.
        if heard.name.is_empty() && heard.directory != ROOT {
            return;
        }
        let is_own = self.own.did(heard.directory, heard.name, Kinds::CHANGED);
        for (_, changes) in kinds.into_iter().filter(|(flag, _)| heard.is(*flag) && !is_own) {
            self.queue.push(changed(heard.directory, heard.name, kind_of(heard), changes));
        }
    }

    /// The type of what has a name on the host, and its number there.
    fn look(&self, directory: u64, name: &[u8]) -> Option<(u16, u64)> {
        let path = self.known.path(directory)?.join(OsStr::from_bytes(name));
        let found = fstat(self.open_at(&path, OFlags::empty())?).ok()?;
        Some(((found.st_mode & TYPE) as u16, found.st_ino))
    }

    /// Opens without following any link: nothing but what is in the volume.
    fn open_at(&self, path: &Path, flags: OFlags) -> Option<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC | flags;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.root, path, flags, Mode::empty(), resolve).ok()
    }
}

/// What inotify says of a file's type: whether it is a directory. Zero: something else.
fn kind_of(heard: Heard<'_>) -> u16 {
    if heard.is(ReadFlags::ISDIR) { DIRECTORY } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fcvm_proto::events::{answer, answered};
    use std::fs;
    use tempfile::TempDir;

    fn follow(dir: &TempDir) -> Follow {
        let root = rustix::fs::open(dir.path(), OFlags::PATH, Mode::empty()).unwrap();
        Follow::new(root).unwrap()
    }

    fn heard(name: &str, flags: ReadFlags, cookie: u32) -> Heard<'_> {
        Heard { directory: ROOT, name: name.as_bytes(), flags, cookie }
    }

    fn told(follow: &mut Follow) -> Vec<(Vec<u8>, What)> {
        let events = answered(&answer(&follow.take(usize::MAX))).unwrap();
        events.into_iter().map(|event| (event.name, event.what)).collect()
    }

    fn moved(node: u64, name: &str, replaced: (u64, u16)) -> What {
        What::Moved { node, directory: ROOT, name: name.into(), replaced }
    }

    #[test]
    fn the_halves_of_a_move_find_each_other_from_one_turn_to_the_next_and_no_longer() {
        let dir = tempfile::tempdir().unwrap();
        let mut follow = follow(&dir);
        follow.hear(heard("a", ReadFlags::MOVED_FROM, 1));
        assert!(follow.pause());
        follow.hear(heard("b", ReadFlags::MOVED_TO, 1));
        assert!(!follow.pause());
        assert_eq!(told(&mut follow), [(b"a".to_vec(), moved(0, "b", (0, 0)))]);
        // What came to where nobody watches is gone, and what came from there is new.
        follow.hear(heard("a", ReadFlags::MOVED_FROM, 2));
        assert!(follow.pause() && !follow.pause());
        fs::write(dir.path().join("c"), "").unwrap();
        follow.hear(heard("c", ReadFlags::MOVED_TO, 3));
        let new = What::Created(Changes::default());
        assert_eq!(told(&mut follow), [(b"a".to_vec(), What::Deleted { node: 0 }), (b"c".to_vec(), new)]);
    }

    #[test]
    fn what_the_guest_knows_by_a_name_is_told_by_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let mut follow = follow(&dir);
        let file = |node| Told { node, inode: u64::MAX, kind: 0o100_000 };
        for (node, name) in [(5, "a"), (6, "b")] {
            follow.known.tell((ROOT, name.as_bytes()), file(node));
        }
        follow.hear(heard("a", ReadFlags::MOVED_FROM, 1));
        follow.hear(heard("b", ReadFlags::MOVED_TO, 1));
        assert_eq!(told(&mut follow), [(b"a".to_vec(), moved(5, "b", (6, 0o100_000)))]);
        // One took its place before anybody said that it is gone: that is said first.
        fs::write(dir.path().join("b"), "").unwrap();
        follow.hear(heard("b", ReadFlags::CREATE, 0));
        let new = What::Created(Changes::default());
        assert_eq!(told(&mut follow), [(b"b".to_vec(), What::Deleted { node: 5 }), (b"b".to_vec(), new)]);
    }

    #[test]
    fn that_a_file_is_gone_is_not_said_of_the_one_that_has_its_name_now() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let mut follow = follow(&dir);
        fs::write(dir.path().join("a"), "").unwrap();
        let inode = fs::metadata(dir.path().join("a")).unwrap().ino();
        follow.known.tell((ROOT, b"a"), Told { node: 5, inode, kind: 0o100_000 });
        follow.hear(heard("a", ReadFlags::DELETE, 0));
        assert_eq!(told(&mut follow), []);
        fs::remove_file(dir.path().join("a")).unwrap();
        follow.hear(heard("a", ReadFlags::DELETE, 0));
        assert_eq!(told(&mut follow), [(b"a".to_vec(), What::Deleted { node: 5 })]);
    }

    #[test]
    fn a_directory_that_the_guest_found_by_itself_is_not_said_to_be_new() {
        let dir = tempfile::tempdir().unwrap();
        let mut follow = follow(&dir);
        for name in ["found", "new"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            follow.hear(heard(name, ReadFlags::CREATE | ReadFlags::ISDIR, 0));
        }
        let inode = follow.look(ROOT, b"found").unwrap().1;
        follow.known.tell((ROOT, b"found"), Told { node: 5, inode, kind: DIRECTORY });
        assert_eq!(told(&mut follow), [(b"new".to_vec(), What::Created(Changes::default()))]);
        assert!(follow.queue.is_empty());
    }
}
