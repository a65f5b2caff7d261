//! Cgroups of this host: where the processes of one VM are counted and limited by whoever administrates the host. Of the
//! second version there is one tree; of the first a tree for each controller, of which one is mounted where it has its name.

use rustix::process::{Pid, PidfdFlags, Signal};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Where every host has its cgroups.
pub const ROOT: &str = "/sys/fs/cgroup";

/// The file of a group by which processes come into it.
pub(crate) const PROCESSES: &str = "cgroup.procs";

/// Trees of the first version in which a group is made if they are there, whatever is set.
const ALWAYS: [&str; 3] = ["cpu", "memory", "pids"];

/// How long processes of a group that is removed may take to end after SIGKILL, in seconds.
const PATIENCE_S: i64 = 5;

/// A group that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The group in which it is made, below the root of each tree.
    pub parent: &'a Path,
    /// Its name.
    pub name: &'a str,
    /// What is written into which of its files, for example `memory.max`.
    pub settings: &'a BTreeMap<String, String>,
}

/// How a group is not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name leads elsewhere.
    #[error("{0:?} is no name of a cgroup or of a file of it")]
    Name(String),
    /// There is no tree for it.
    #[error("no cgroups are mounted at {0}, or none with the controller that is set")]
    Nowhere(PathBuf),
    /// The group cannot be made.
    #[error("cannot make the cgroup {path}")]
    Make {
        /// Its directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {value:?} to {path}")]
    Set {
        /// The file.
        path: PathBuf,
        /// What was to be written.
        value: String,
        /// Why.
        source: io::Error,
    },
}

impl Wanted<'_> {
    /// Returns the group's directory in each tree, whether it is there or not.
    pub fn directories(&self, root: &Path) -> Result<Vec<PathBuf>, Error> {
        self.check()?;
        let parent = self.parent.strip_prefix("/").unwrap_or(self.parent);
        Ok(self.trees(root)?.into_iter().map(|tree| tree.join(parent).join(self.name)).collect())
    }

    /// Makes the group, with all above it, and writes what is set.
    pub fn make(&self, root: &Path) -> Result<(), Error> {
        let directories = self.directories(root)?;
        for directory in &directories {
            if is_unified(root) {
                self.enable(root, directory)?;
            }
            // Whoever has removed the last group beside it may have taken the one above along at this moment.
            let made = fs::create_dir_all(directory).or_else(|_| fs::create_dir_all(directory));
            made.map_err(|source| Error::Make { path: directory.clone(), source })?;
        }
        for (file, value) in self.settings {
            let place = directories.iter().map(|directory| directory.join(file)).find(|place| place.exists());
            let path = place.unwrap_or_else(|| directories[0].join(file));
            set(&path, value)?;
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::RootDir);
        if !self.parent.components().all(is_plain) || self.parent.components().count() == 0 {
            return Err(Error::Name(self.parent.display().to_string()));
        }
        let is_word = |name: &str| {
            let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            name.bytes().all(letter) && name.bytes().any(|byte| byte != b'.')
        };
        let wrong = self.settings.keys().find(|file| !is_word(file) || controller(file).is_none());
        match wrong.map(String::as_str).or((!is_word(self.name)).then_some(self.name)) {
            Some(name) => Err(Error::Name(name.to_owned())),
            None => Ok(()),
        }
    }

    /// The roots of the trees that it is in.
    fn trees(&self, root: &Path) -> Result<Vec<PathBuf>, Error> {
        if is_unified(root) {
            return Ok(vec![root.to_owned()]);
        }
        let set: Vec<_> = self.settings.keys().filter_map(|file| controller(file)).collect();
        let nowhere = || Error::Nowhere(root.to_owned());
        // Two controllers may have one tree, with a link of each name.
        let found = |controller: &&str| {
            fs::canonicalize(root.join(controller)).ok().filter(|tree| tree.join(PROCESSES).exists())
        };
        if set.iter().any(|controller| found(controller).is_none()) {
            return Err(nowhere());
        }
        let trees: BTreeSet<PathBuf> = ALWAYS.iter().chain(&set).filter_map(found).collect();
        if trees.is_empty() { Err(nowhere()) } else { Ok(trees.into_iter().collect()) }
    }

    /// Has the groups above pass on what is set, which the second version wants to be told.
    fn enable(&self, root: &Path, directory: &Path) -> Result<(), Error> {
        let controllers: BTreeSet<_> = self.settings.keys().filter_map(|file| controller(file)).collect();
        let controllers: Vec<_> =
            controllers.into_iter().filter(|name| *name != "cgroup").map(|name| format!("+{name}")).collect();
        let above: Vec<_> = directory.ancestors().skip(1).take_while(|above| above.starts_with(root)).collect();
        for above in above.into_iter().rev() {
            fs::create_dir_all(above).map_err(|source| Error::Make { path: above.to_owned(), source })?;
            if !controllers.is_empty() {
                set(&above.join("cgroup.subtree_control"), &controllers.join(" "))?;
            }
        }
        Ok(())
    }
}

/// Removes a group with all that is left in it. One that is gone is no error.
pub fn remove(directories: &[PathBuf]) -> io::Result<()> {
    directories.iter().try_for_each(|directory| match fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(_) => {
            kill_all(directory)?;
            fs::remove_dir(directory)
        }
        Ok(()) => Ok(()),
    })
}

/// Ends the processes of a group, and waits until they have.
fn kill_all(directory: &Path) -> io::Result<()> {
    let processes = fs::read_to_string(directory.join(PROCESSES))?;
    let members = processes.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?));
    for member in members {
        let Ok(pidfd) = rustix::process::pidfd_open(member, PidfdFlags::empty()) else { continue };
        // Its number may be another's since it was read.
        let is_member = fs::read_to_string(directory.join(PROCESSES))?.lines().any(|line| line == member.to_string());
        if !is_member {
            continue;
        }
        let _it_has_ended = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
        let mut ended = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        let limit = rustix::event::Timespec { tv_sec: PATIENCE_S, tv_nsec: 0 };
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut ended, Some(&limit)))?;
    }
    Ok(())
}

/// Whether the tree is one of the second version.
fn is_unified(root: &Path) -> bool {
    root.join("cgroup.controllers").exists()
}

/// The controller of a file: what is before its first dot.
fn controller(file: &str) -> Option<&str> {
    file.split_once('.').map(|(controller, _)| controller).filter(|controller| !controller.is_empty())
}

/// Writes a file that the kernel has made.
fn set(path: &Path, value: &str) -> Result<(), Error> {
    use std::io::Write;
    let file = fs::OpenOptions::new().write(true).open(path);
    let written = file.and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(|source| Error::Set { path: path.to_owned(), value: value.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(file, value)| ((*file).to_owned(), (*value).to_owned())).collect()
    }

    fn touch(directory: &Path, files: &[&str]) {
        fs::create_dir_all(directory).unwrap();
        files.iter().for_each(|file| fs::write(directory.join(file), "").unwrap());
    }

    #[test]
    fn in_the_second_version_all_above_a_group_pass_on_what_is_set() {
        let root = tempfile::tempdir().unwrap();
        let (root, settings) = (root.path(), settings(&[("memory.max", "1073741824"), ("cpu.max", "50000 100000")]));
        touch(root, &["cgroup.controllers", "cgroup.subtree_control"]);
        touch(&root.join("ci"), &["cgroup.subtree_control"]);
        touch(&root.join("ci/one"), &["memory.max", "cpu.max", "cgroup.procs"]);
        let wanted = Wanted { parent: Path::new("/ci"), name: "one", settings: &settings };
        assert_eq!(wanted.directories(root).unwrap(), [root.join("ci/one")]);
        wanted.make(root).unwrap();
        let read = |file: &str| fs::read_to_string(root.join(file)).unwrap();
        assert_eq!(read("cgroup.subtree_control"), "+cpu +memory");
        assert_eq!(read("ci/cgroup.subtree_control"), "+cpu +memory");
        assert_eq!(
            (read("ci/one/memory.max").as_str(), read("ci/one/cpu.max").as_str()),
            ("1073741824", "50000 100000")
        );
    }

    #[test]
    fn in_the_first_version_a_group_is_in_the_usual_trees_and_in_those_that_are_set() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        for tree in ["cpu,cpuacct", "memory", "blkio", "freezer"] {
            touch(&root.join(tree), &[PROCESSES]);
        }
        std::os::unix::fs::symlink("cpu,cpuacct", root.join("cpu")).unwrap();
        std::os::unix::fs::symlink("cpu,cpuacct", root.join("cpuacct")).unwrap();
        let set = settings(&[("blkio.weight", "500"), ("cpuacct.usage", "0")]);
        touch(&root.join("blkio/fcvm/one"), &["blkio.weight"]);
        touch(&root.join("cpu,cpuacct/fcvm/one"), &["cpuacct.usage"]);
        let wanted = Wanted { parent: Path::new("fcvm"), name: "one", settings: &set };
        let trees = ["blkio/fcvm/one", "cpu,cpuacct/fcvm/one", "memory/fcvm/one"];
        assert_eq!(wanted.directories(root).unwrap(), trees.map(|tree| fs::canonicalize(root).unwrap().join(tree)));
        wanted.make(root).unwrap();
        assert_eq!(fs::read_to_string(root.join("blkio/fcvm/one/blkio.weight")).unwrap(), "500");
        assert!(root.join("memory/fcvm/one").is_dir() && !root.join("freezer/fcvm").exists());
        let gone = settings(&[("hugetlb.2MB.limit_in_bytes", "0")]);
        let wanted = Wanted { settings: &gone, ..wanted };
        assert!(matches!(wanted.make(root), Err(Error::Nowhere(_))));
    }

    #[test]
    fn what_leads_elsewhere_is_refused_and_what_cannot_be_set_is_named() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        touch(root, &["cgroup.controllers", "cgroup.subtree_control"]);
        let none = BTreeMap::new();
        for (parent, name) in
            [("/../x", "one"), ("", "one"), ("/a/../b", "one"), ("/a", "../one"), ("/a", ".."), ("/a", "")]
        {
            let wanted = Wanted { parent: Path::new(parent), name, settings: &none };
            assert!(matches!(wanted.make(root), Err(Error::Name(_))), "{parent} {name}");
        }
        for file in ["memory/../../x.y", "x", ".max", "a b.c"] {
            let settings = settings(&[(file, "1")]);
            let wanted = Wanted { parent: Path::new("/a"), name: "one", settings: &settings };
            assert!(matches!(wanted.make(root), Err(Error::Name(_))), "{file}");
        }
        let set = settings(&[("memory.nothing", "1")]);
        touch(&root.join("a"), &["cgroup.subtree_control"]);
        let wanted = Wanted { parent: Path::new("/a"), name: "one", settings: &set };
        let refused = wanted.make(root).unwrap_err().to_string();
        assert!(refused.contains("memory.nothing"), "{refused}");
    }

    #[test]
    fn a_group_that_is_gone_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("one");
        fs::create_dir(&group).unwrap();
        remove(&[group.clone(), root.path().join("never")]).unwrap();
        assert!(!group.exists());
    }
}
