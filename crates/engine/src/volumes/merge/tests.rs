use super::*;
use fcvm_sys::stamp;
use std::fs;
use std::os::unix::fs::symlink;

/// The host's directory, what the guest has, and a base that begins now.
struct Sides {
    dir: tempfile::TempDir,
    base: Base,
}

impl Sides {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for side in ["host", "guest"] {
            fs::create_dir(dir.path().join(side)).unwrap();
        }
        let mut sides = Self { dir, base: Base::default() };
        for (path, text) in files {
            sides.write("host", path, text);
        }
        sides.base.since_ns = Self::now();
        sides
    }

    fn path(&self, side: &str, path: &str) -> PathBuf {
        self.dir.path().join(side).join(path)
    }

    fn write(&self, side: &str, path: &str, text: &str) {
        let path = self.path(side, path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The time of files now; what comes behind this has a later one.
    fn now() -> i64 {
        let now = stamp::now_ns().unwrap();
        while stamp::now_ns().unwrap() <= now {}
        now
    }

    fn merge(&mut self, changes: &[(&str, Change)]) -> Result<Vec<String>, Vec<String>> {
        let base = Base { since_ns: self.base.since_ns, applied: self.base.applied.clone() };
        let merging = Merging::begin(&self.path("host", ""), &self.path("guest", ""), base).unwrap();
        let found: Vec<_> =
            changes.iter().map(|(path, change)| ChangedFile { path: path.into(), change: *change }).collect();
        match merging.merge(&found).unwrap() {
            Ok(Merged { changes, applied }) => {
                self.base.applied = applied;
                Ok(changes.iter().map(|file| format!("{:?} {}", file.change, file.path.display())).collect())
            }
            Err(conflicts) => Err(conflicts.iter().map(|it| format!("{} {}", it.host, it.path.display())).collect()),
        }
    }

    fn host(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path("host", path)).ok()
    }
}

#[test]
fn what_only_the_guest_has_touched_is_applied_and_again_later() {
    let mut sides =
        Sides::new(&[("kept", "0"), ("changed", "0"), ("gone/deep", "0"), ("turned/x", "0"), ("opened", "0")]);
    sides.write("guest", "opened/inside", "a directory now");
    sides.write("guest", "changed", "1");
    sides.write("guest", "new/deep/file", "1");
    sides.write("guest", "turned", "a file now");
    sides.write("guest", "renamed", "0");
    symlink("/etc/passwd", sides.path("guest", "link")).unwrap();
    let changes = [
        ("/new/deep/file", Change::Added),
        ("/new/deep", Change::Added),
        ("/new", Change::Added),
        ("/changed", Change::Changed),
        ("/gone", Change::Deleted),
        ("/never", Change::Deleted),
        ("/turned", Change::Changed),
        ("/opened", Change::Changed),
        ("/opened/inside", Change::Added),
        ("/link", Change::Added),
        ("/renamed", Change::Added),
    ];
    let done = sides.merge(&changes).unwrap();
    let expected = [
        "Changed /changed",
        "Deleted /gone",
        "Added /link",
        "Added /new",
        "Added /new/deep",
        "Added /new/deep/file",
        "Changed /opened",
        "Added /opened/inside",
        "Added /renamed",
        "Changed /turned",
    ];
    assert_eq!(done, expected);
    assert_eq!(sides.host("changed").as_deref(), Some("1"));
    assert_eq!(sides.host("turned").as_deref(), Some("a file now"));
    assert!(!sides.path("host", "gone").exists());
    assert_eq!(fs::read_link(sides.path("host", "link")).unwrap(), Path::new("/etc/passwd"));
    // The same is nothing to do; what is new is no conflict with what was applied.
    assert_eq!(sides.merge(&changes).unwrap(), Vec::<String>::new());
    sides.write("guest", "changed", "2");
    assert_eq!(sides.merge(&changes).unwrap(), ["Changed /changed"]);
    sides.write("guest", "new/deep/file", "2");
    assert_eq!(sides.merge(&changes).unwrap(), ["Changed /new/deep/file"]);
    assert_eq!(fs::read_dir(sides.path("host", "")).unwrap().count(), 7);
}

#[test]
fn with_one_conflict_nothing_is_applied() {
    let mut sides =
        Sides::new(&[("both", "0"), ("same", "0"), ("dir/a", "0"), ("dir/b", "0"), ("lost", "0"), ("way/x", "0")]);
    fs::create_dir(sides.path("host", "empty")).unwrap();
    for (path, text) in [("both", "host"), ("same", "1"), ("dir/b", "host"), ("made", "host")] {
        sides.write("host", path, text);
    }
    fs::remove_file(sides.path("host", "lost")).unwrap();
    fs::remove_dir_all(sides.path("host", "way")).unwrap();
    fs::remove_dir(sides.path("host", "empty")).unwrap();
    sides.write("guest", "empty/new", "1");
    symlink("/", sides.path("host", "way")).unwrap();
    for (path, text) in
        [("both", "guest"), ("same", "1"), ("made", "guest"), ("fine", "1"), ("lost", "1"), ("way/x", "1")]
    {
        sides.write("guest", path, text);
    }
    let fine = [("/same", Change::Changed), ("/fine", Change::Added)];
    let bad = [
        ("/both", Change::Changed),
        ("/dir", Change::Deleted),
        ("/made", Change::Added),
        ("/lost", Change::Changed),
        ("/way/x", Change::Changed),
        ("/empty/new", Change::Added),
    ];
    let conflicts = sides.merge(&[&fine[..], &bad].concat()).unwrap_err();
    let expected = [
        "changed /both".to_owned(),
        "changed /dir".to_owned(),
        "deleted /empty/new".to_owned(),
        "deleted /lost".to_owned(),
        "changed /made".to_owned(),
        format!("{MADE} /way/x"),
    ];
    assert_eq!(conflicts, expected);
    assert_eq!((sides.host("both").as_deref(), sides.host("fine")), (Some("host"), None));
    assert_eq!(sides.merge(&fine).unwrap(), ["Added /fine"]);
}

#[test]
fn links_of_a_guest_lead_nowhere() {
    let mut sides = Sides::new(&[]);
    symlink("/etc", sides.path("guest", "etc")).unwrap();
    let done = sides.merge(&[("/etc", Change::Added), ("/etc/passwd", Change::Added)]).unwrap();
    assert_eq!(done, ["Added /etc"]);
    assert!(fs::symlink_metadata(sides.path("host", "etc")).unwrap().is_symlink());
}

#[test]
fn a_guest_cannot_name_what_is_elsewhere() {
    let sides = Sides::new(&[]);
    for path in ["/../x", "..", "/", "", "/a/../../x"] {
        let found = [ChangedFile { path: path.into(), change: Change::Deleted }];
        let merging = Merging::begin(&sides.path("host", ""), &sides.path("guest", ""), Base::default()).unwrap();
        assert!(merging.merge(&found).is_err(), "{path:?}");
    }
}
